"""The leaderboard as a Markdown page, `data/leaderboard.md`: measured and published results, and the papers' claims.

    python -c 'from seqlab.experiments import leaderboard_page; leaderboard_page.write()'

writes it from `data/leaderboard.csv`, the gains beside it, the systems' cards and `data/claims.csv`, which holds what
was found of the claims on the cards.
"""

from __future__ import annotations

from math import inf, isnan
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab import models, tasks
from seqlab.experiments import leaderboard
from seqlab.experiments.arm_names import rows_by_arm
from seqlab.runtime.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

HEAD = """\
# The leaderboard

Made from `leaderboard.csv`, `leaderboard_gains.csv`, the systems' cards and `claims.csv` by `make leaderboard`, which
also trains what is missing; a test keeps it equal to them. Every item of the catalogue is ranked, ties at their mean
rank. Compare only numbers of one table. An arm is written as `seqlab leaderboard` takes it: a system and the settings
in which its arms differ; all other settings are in the CSV. Intervals are over users, at 95 %; those of several seeds
reach from the lowest end to the highest. Arms had different numbers of tuning trials, which are in `LOG.md`.
*Published* rows were not measured here."""

RANKINGS = ("next_item", "baskets")
"""The tasks whose rankings may leave out seen items."""

GAINS = """\
Gains, the metrics of the same users subtracted, after each user's mean over the seeds:"""

CLAIMS = """\
## What the papers claim, and what was found here"""


def write(folder: Path = Path("data")) -> None:
    """Write the page in a folder with `leaderboard.csv`, its gains and `claims.csv`."""
    import pandas as pd

    found = pd.read_csv(folder / "claims.csv", keep_default_na=False).set_index("system")["found"].to_dict()
    table = folder / "leaderboard.csv"
    text = page(leaderboard.read(table), leaderboard.read_gains(table), found)
    atomic_write(folder / "leaderboard.md", text)


def page(table: pd.DataFrame, gains: pd.DataFrame, found: dict[str, str]) -> str:
    """The page as Markdown.

    gains: those that `leaderboard.complete` stores. found: by system, in the order of the page, the result for its
    claim; other systems follow.
    """
    parts = [HEAD, CLAIMS, _grid(["system", "its claim", "its control here", "found"], _claims(found))]
    for (dataset, split, seen_filter, task), measured in table.groupby(["dataset", "split", "seen_filter", "task"]):
        names, primary = leaderboard.headline(measured), tasks.primary(task)
        filtered = f", seen items {'filtered' if seen_filter else 'kept'}" if task in RANKINGS else ""
        lower = ", ".join(one.name for one in tasks.task(task).METRICS if one.name in names and not one.higher)
        title = f"## {dataset}, {split}{filtered}"
        heads = ["arm", "seeds", *(head for name in names for head in (name, "95 %")), f"{primary.name} of validation",
                 "parameters", "minutes"]  # fmt: skip
        rows = [*_measured(measured, names), *_published(dataset, split, bool(seen_filter), names)]
        rows.sort(key=lambda row: _value(row[2 * len(names)]), reverse=primary.higher)
        note = [f"Task {task}. Of {lower}, less is better."] if lower else [f"Task {task}."]
        parts += [title, *(note if task != tasks.DEFAULT else []), _grid(heads, rows), _provenance(measured)]
        same = (gains["dataset"] == dataset) & (gains["split"] == split) & (gains["seen_filter"] == seen_filter)
        parts += _gained(gains[same & gains["metric"].isin(names)], names)
    return "\n\n".join(parts) + "\n"


def _claims(found: dict[str, str]) -> list[list[str]]:
    cards = {name: models.card(name) for name in dict.fromkeys([*found, *models.names()])}
    return [[name, card.claim, card.control_words, found.get(name, "Not measured yet.")]
            for name, card in cards.items()]  # fmt: skip


def _measured(table: pd.DataFrame, names: tuple[str, ...]) -> list[list[str]]:
    rows = []
    for arm, runs in rows_by_arm(table):
        row = [f"`{arm}`", str(len(runs))]
        for metric in names:
            low, high = runs[f"{metric} low"].min(), runs[f"{metric} high"].max()
            row += [_number(runs[metric].mean()), "not known" if isnan(low) else f"{_number(low)} to {_number(high)}"]
        valid, minutes = runs[f"valid {names[-1]}"].mean(), runs["seconds"].mean() / 60
        rows.append([*row, _number(valid), f"{runs['parameters'].iloc[0]:,.0f}", f"{minutes:,.1f}"])
    return rows


def _gained(gains: pd.DataFrame, names: tuple[str, ...]) -> list[str]:
    """The gains under one protocol as a table with a row for each pair of arms; [] where there are none."""
    rows = []
    for (arm, against, seeds), pair in gains.groupby(["arm", "against", "seeds"], sort=False):
        of = pair.set_index("metric")
        differences = [_gain(of.loc[name]) if name in of.index else "" for name in names]
        rows.append([f"`{arm}`", f"`{against}`", seeds.replace(" ", ", "), *differences])
    heads = ["arm", "over", "seeds", *names]
    return [GAINS, _grid(heads, rows)] if rows else []


def _gain(of: pd.Series) -> str:
    """A difference with its sign and its interval: +.0026 [.0005, .0048]."""
    low, high = (("-" if end < 0 else "") + _number(abs(end)) for end in (of["low"], of["high"]))
    return f"{'-' if of['difference'] < 0 else '+'}{_number(abs(of['difference']))} [{low}, {high}]"


def _published(dataset: str, split: str, seen_filter: bool, names: tuple[str, ...]) -> list[list[str]]:
    """The published results under one protocol, a row for each, in the columns of `_measured`."""
    rows = []
    for name in models.names():
        for one in models.card(name).published:
            if (one.dataset, one.split, one.seen_filter) == (dataset, split, seen_filter):
                label = f"*published:* {', '.join(filter(None, (name, one.variant)))}, {one.source}. {one.differs}"
                if any(metric in one.values for metric in names):
                    values = [_number(one.values[metric]) if metric in one.values else "" for metric in names]
                    rows.append([label.strip(), "", *(cell for value in values for cell in (value, "")), "", "", ""])
    return rows


def _provenance(table: pd.DataFrame) -> str:
    def unique(column: str) -> str:
        return ", ".join(sorted({str(one) for one in table[column].dropna()}))

    first, last = table["date"].str[:10].min(), table["date"].str[:10].max()
    days = first if first == last else f"{first} to {last}"
    return (
        f"{table['users'].max():,} users; {days}; {unique('device')}, threads {unique('threads')}, "
        f"torch {unique('torch')}, seqlab {unique('seqlab')} (revisions in the CSV). The minutes are "
        "those of a machine that also did other work."
    )


def _number(value: float) -> str:
    return "" if isnan(value) else f"{value:.4f}".removeprefix("0")


def _value(text: str) -> float:
    """The number in a cell, -inf for an empty one."""
    return float(text) if text else -inf


def _grid(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
