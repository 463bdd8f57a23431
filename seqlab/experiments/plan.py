"""The plan of experiments, from the cards of all systems: arms to measure and to tune, datasets, controls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab import models
from seqlab.contracts import Learns, Measurement, supports
from seqlab.datasets import card as dataset_card
from seqlab.datasets import load
from seqlab.datasets.split_names import DEFAULT, split
from seqlab.experiments import leaderboard, leaderboard_page, tuning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seqlab.contracts import Card

SPACE = {"learning_rate": "1e-3..8e-3:log", "dropout": "0..0.6"}
"""The search space of every system."""


@dataclass(frozen=True)
class Comparison:
    """Arms that one call of `leaderboard.complete` measures. against: one of them, or None for no comparison."""

    dataset: str
    split: str
    seen_filter: bool
    seeds: tuple[int, ...]
    against: str | None
    arms: tuple[str, ...]

    def __str__(self) -> str:
        compared = f", against {self.against}" if self.against else ""
        return f"{_protocol(self)}, seeds {' '.join(map(str, self.seeds))}{compared}: {' '.join(self.arms)}"


def comparisons() -> list[Comparison]:
    """The measurements of `make leaderboard`, by dataset; arms with equal protocol, seeds and control are in one."""
    arms: dict[tuple, dict[str, None]] = {}
    for name in models.names():
        card = models.card(name)
        for one in card.measured or (Measurement(against=card.controls),):
            for place in _places(one, card):
                for against in [expand_names(control) for control in one.against] or [None]:
                    group = arms.setdefault((*place, one.seeds or card.seeds, against), {})
                    group |= dict.fromkeys([against] if against else [])  # the control is trained first
                    group |= dict.fromkeys(expand_names(arm) for arm in one.arms or [name])
    datasets = list(dict.fromkeys(dataset for dataset, *_ in arms))
    ordered = sorted(arms.items(), key=lambda pair: datasets.index(pair[0][0]))
    return [Comparison(*key, tuple(group)) for key, group in ordered]


def tunings() -> list[tuple[str, str, str, bool]]:
    """The searches of `make tune`: arm, dataset, split, seen filter. Systems without a loss have none."""
    found: dict[tuple[str, str, str, bool], None] = {}
    for name in models.names():
        card = models.card(name)
        if not supports(models.system(name), Learns):
            continue
        for one in card.tuned or (Measurement(),):
            arms = [expand_names(arm) for arm in one.arms or [name]]
            found |= dict.fromkeys((arm, *place) for place in _places(one, card) for arm in arms)
    return list(found)


def missing(table: Path, runs: Path) -> list[str]:
    """What `complete` would train: a line for each arm and seed that the table lacks. It loads the data."""
    measured, splits, lines = {*leaderboard.keys(leaderboard.read(table))}, {}, {}
    for one in comparisons():
        place = one.dataset, one.split
        if place not in splits:
            splits[place] = split(load(one.dataset), one.split)
        for arm in one.arms:
            for seed in one.seeds:
                run = leaderboard.plan(arm, splits[place], seed, runs, {}, one.seen_filter)
                if (key := leaderboard.key_of(run.key)) not in measured:
                    lines[key] = f"{_protocol(one)}: {arm} seed {seed}"
    return list(lines.values())


def complete(folder: Path = Path("data")) -> None:
    """Train the runs of all comparisons that `folder/leaderboard.csv` lacks, and write the page.

    Raises what `leaderboard.complete` raises.
    """
    for one in comparisons():
        leaderboard.complete(list(one.arms), one.dataset, list(one.seeds), folder / "leaderboard.csv", folder / "runs",
                             seen_filter=one.seen_filter, against=one.against, split_name=one.split)  # fmt: skip
    leaderboard_page.write(folder)


def tune(trials: int, runs: Path = Path("data/runs"), echo: Callable[[str], None] = print) -> None:
    """Search learning rate and dropout of every system with `trials` trials each. Raises what `tuning.tune` raises."""
    for arm, dataset, split_name, seen_filter in tunings():
        found = tuning.tune(arm, dataset, SPACE, trials, runs=runs, seen_filter=seen_filter, echo=echo,
                            split_name=split_name)  # fmt: skip
        echo(f"For seqlab/presets/{arm.split(':')[0]}.toml:\n{found.preset}\n")


def expand_names(arm: str) -> str:
    """An arm with the names of its system's card (`Card.named`) replaced by their settings.

    Raises `ValueError` for a word that is neither key=value nor such a name.
    """
    system, *words = arm.split(":")
    named = models.card(system).named
    if unknown := [word for word in words if "=" not in word and word not in named]:
        raise ValueError(f"{arm!r}: {unknown[0]!r} is no key=value, and no name on the card of {system}.")
    return ":".join([system, *(named.get(word, word) for word in words)])


def _protocol(one: Comparison) -> str:
    split_name = "" if one.split == DEFAULT else f", {one.split}"
    return f"{one.dataset}{split_name}, seen items {'filtered' if one.seen_filter else 'kept'}"


def _places(one: Measurement, card: Card) -> Iterator[tuple[str, str, bool]]:
    """The datasets of a measurement, each with its split and its seen filter."""
    chosen = card.seen_filter if one.seen_filter is None else one.seen_filter
    for dataset in one.datasets or card.homes:
        yield dataset, one.split or card.split, not dataset_card(dataset).repeats if chosen is None else chosen
