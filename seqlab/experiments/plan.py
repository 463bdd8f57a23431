"""What the cards of all systems ask for: which arms to measure and to tune, on which datasets, against what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab import models
from seqlab.contracts import Measurement
from seqlab.datasets import card as dataset_card
from seqlab.datasets import leave_one_out, load
from seqlab.experiments import leaderboard, leaderboard_page, tuning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seqlab.contracts import Card

SPACE = {"learning_rate": "1e-3..8e-3:log", "dropout": "0..0.6"}
"""What is tuned for every system alike."""


@dataclass(frozen=True)
class Comparison:
    """Arms that `leaderboard.complete` measures together; against: one of them, or None: they are not compared."""

    dataset: str
    seen_filter: bool
    seeds: tuple[int, ...]
    against: str | None
    arms: tuple[str, ...]

    def __str__(self) -> str:
        compared = f", against {self.against}" if self.against else ""
        return f"{_protocol(self)}, seeds {' '.join(map(str, self.seeds))}{compared}: {' '.join(self.arms)}"


def comparisons() -> list[Comparison]:
    """What `make leaderboard` measures, dataset by dataset: arms with one protocol, seeds and control are together."""
    arms: dict[tuple, dict[str, None]] = {}
    for name in models.names():
        card = models.card(name)
        for one in card.measured or (Measurement(against=card.controls),):
            for dataset, seen_filter in _places(one, card):
                for against in [expand_names(control) for control in one.against] or [None]:
                    together = arms.setdefault((dataset, seen_filter, one.seeds or card.seeds, against), {})
                    together |= dict.fromkeys([against] if against else [])  # the control is trained first
                    together |= dict.fromkeys(expand_names(arm) for arm in one.arms or [name])
    datasets = list(dict.fromkeys(dataset for dataset, *_ in arms))
    ordered = sorted(arms.items(), key=lambda pair: datasets.index(pair[0][0]))
    return [Comparison(*where, tuple(together)) for where, together in ordered]


def tunings() -> list[tuple[str, str, bool]]:
    """What `make tune` searches settings for: arm, dataset, seen filter; systems that only count are left out."""
    found: dict[tuple[str, str, bool], None] = {}
    for name in models.names():
        card = models.card(name)
        if not hasattr(models.system(name), "loss"):
            continue
        for one in card.tuned or (Measurement(),):
            arms = [expand_names(arm) for arm in one.arms or [name]]
            found |= dict.fromkeys((arm, *place) for place in _places(one, card) for arm in arms)
    return list(found)


def missing(table: Path, runs: Path) -> list[str]:
    """What `complete` would train: a line for each arm and seed that the table lacks. Reads the data."""
    have, splits, lines = {*leaderboard.keys(leaderboard.read(table))}, {}, {}
    for one in comparisons():
        if one.dataset not in splits:
            splits[one.dataset] = leave_one_out(load(one.dataset))
        for arm in one.arms:
            for seed in one.seeds:
                run = leaderboard.plan(arm, splits[one.dataset], seed, runs, {}, one.seen_filter)
                if (key := leaderboard.key_of(run.key)) not in have:
                    lines[key] = f"{_protocol(one)}: {arm} seed {seed}"
    return list(lines.values())


def complete(folder: Path = Path("data")) -> None:
    """Train what `folder/leaderboard.csv` lacks of all comparisons, and write the page; raises what its parts raise."""
    for one in comparisons():
        leaderboard.complete(list(one.arms), one.dataset, list(one.seeds), folder / "leaderboard.csv", folder / "runs",
                             seen_filter=one.seen_filter, against=one.against)  # fmt: skip
    leaderboard_page.write(folder)


def tune(trials: int, runs: Path = Path("data/runs"), echo: Callable[[str], None] = print) -> None:
    """Search learning rate and dropout of every system by so many trials each; raises what `tuning.tune` raises."""
    for arm, dataset, seen_filter in tunings():
        found = tuning.tune(arm, dataset, SPACE, trials, runs=runs, seen_filter=seen_filter, echo=echo)
        echo(f"For seqlab/presets/{arm.split(':')[0]}.toml:\n{found.preset}\n")


def expand_names(arm: str) -> str:
    """An arm whose names are replaced by what they stand for on the card of its system.

    Raises `ValueError` for a word that is neither a setting nor such a name.
    """
    system, *words = arm.split(":")
    named = models.card(system).named
    if unknown := [word for word in words if "=" not in word and word not in named]:
        raise ValueError(f"{arm!r}: {unknown[0]!r} is no key=value, and no name on the card of {system}.")
    return ":".join([system, *(named.get(word, word) for word in words)])


def _protocol(one: Comparison) -> str:
    return f"{one.dataset}, seen items {'filtered' if one.seen_filter else 'kept'}"


def _places(one: Measurement, card: Card) -> Iterator[tuple[str, bool]]:
    """The datasets of a measurement, each with whether seen items are removed there."""
    chosen = card.seen_filter if one.seen_filter is None else one.seen_filter
    for dataset in one.datasets or card.homes:
        yield dataset, not dataset_card(dataset).repeats if chosen is None else chosen
