"""The leaderboard as a page to read, `data/leaderboard.md`: what was measured, beside what was published and claimed.

    python -c 'from seqlab.experiments import leaderboard_page; leaderboard_page.write()'

makes it from `data/leaderboard.csv`, the gains beside it, the systems' cards and `data/claims.csv`, which says what was
found of the claims on the cards.
"""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab import models
from seqlab.experiments import leaderboard
from seqlab.runtime.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

HEAD = """\
# The leaderboard

Made from `leaderboard.csv`, `leaderboard_gains.csv`, the systems' cards and `claims.csv` by `make leaderboard`, which
also trains what is missing; a test holds it equal to them. Every item of the catalogue is ranked, ties at their mean
rank; only numbers of one table compare. An arm is what `seqlab leaderboard` takes; the words behind a system tell its
arms apart, and all else is in its row of the CSV. Intervals are over users, at 95 %; of several seeds from the lowest
end to the highest. How many trials an arm had is told in `LOG.md`: it differs. *Published* rows were not measured
here."""

GAINS = """\
Gains, the metrics of the same users subtracted, after each user's mean over the seeds:"""

CLAIMS = """\
## What the papers claim, and what was found here"""


def write(folder: Path = Path("data")) -> None:
    """Make the page anew in a folder with the table and what was found of the claims."""
    import pandas as pd

    found = pd.read_csv(folder / "claims.csv", keep_default_na=False).set_index("system")["found"].to_dict()
    table = folder / "leaderboard.csv"
    text = page(leaderboard.read(table), leaderboard.read_gains(table), found)
    atomic_write(folder / "leaderboard.md", text)


def page(table: pd.DataFrame, gains: pd.DataFrame, found: dict[str, str]) -> str:
    """The page as Markdown. gains: those that `leaderboard.complete` keeps.

    found: by system, in the order of the page, what measuring said of its claim; other systems follow.
    """
    parts = [HEAD, CLAIMS, _grid(["system", "its claim", "its control here", "found"], _claims(found))]
    for (dataset, split, seen_filter), own in table.groupby(["dataset", "split", "seen_filter"]):
        title = f"## {dataset}, {split}, seen items {'filtered' if seen_filter else 'kept'}"
        heads = [
            "arm",
            "seeds",
            "recall@10",
            "95 %",
            "ndcg@10",
            "95 %",
            "ndcg@10 of validation",
            "parameters",
            "minutes",
        ]
        rows = [*_measured(own), *_published(dataset, split, bool(seen_filter))]
        rows.sort(key=lambda row: row[4], reverse=True)
        parts += [title, _grid(heads, rows), _provenance(own)]
        same = (gains["dataset"] == dataset) & (gains["split"] == split) & (gains["seen_filter"] == seen_filter)
        parts += _gained(gains[same])
    return "\n\n".join(parts) + "\n"


def _claims(found: dict[str, str]) -> list[list[str]]:
    cards = {name: models.card(name) for name in dict.fromkeys([*found, *models.names()])}
    return [[name, card.claim, card.control_words, found.get(name, "Not measured yet.")]
            for name, card in cards.items()]  # fmt: skip


def _measured(table: pd.DataFrame) -> list[list[str]]:
    rows = []
    for arm, own in leaderboard.arms(table):
        row = [f"`{arm}`", str(len(own))]
        for metric in leaderboard.METRICS:
            low, high = own[f"{metric} low"].min(), own[f"{metric} high"].max()
            row += [_number(own[metric].mean()), "not known" if isnan(low) else f"{_number(low)} to {_number(high)}"]
        valid, minutes = own["valid ndcg@10"].mean(), own["seconds"].mean() / 60
        rows.append([*row, _number(valid), f"{own['parameters'].iloc[0]:,.0f}", f"{minutes:,.1f}"])
    return rows


def _gained(gains: pd.DataFrame) -> list[str]:
    """The gains under one protocol, a row for each pair of arms; nothing where there are none."""
    rows = []
    for (arm, against, seeds), own in gains.groupby(["arm", "against", "seeds"], sort=False):
        told = [_gain(own.set_index("metric").loc[name]) for name in leaderboard.METRICS]
        rows.append([f"`{arm}`", f"`{against}`", seeds.replace(" ", ", "), *told])
    heads = ["arm", "over", "seeds", *leaderboard.METRICS]
    return [GAINS, _grid(heads, rows)] if rows else []


def _gain(of: pd.Series) -> str:
    """A difference with its interval, signs first: +.0026 [.0005, .0048]."""
    low, high = (("-" if end < 0 else "") + _number(abs(end)) for end in (of["low"], of["high"]))
    return f"{'-' if of['difference'] < 0 else '+'}{_number(abs(of['difference']))} [{low}, {high}]"


def _published(dataset: str, split: str, seen_filter: bool) -> list[list[str]]:
    """What the literature has under one protocol, a row for each result, in the columns of `_measured`."""
    rows = []
    for name in models.names():
        for one in models.card(name).published:
            if (one.dataset, one.split, one.seen_filter) == (dataset, split, seen_filter):
                told = f"*published:* {', '.join(filter(None, (name, one.variant)))}, {one.source}. {one.differs}"
                shown = [_number(one.values[metric]) if metric in one.values else "" for metric in leaderboard.METRICS]
                rows.append([told.strip(), "", shown[0], "", shown[1], "", "", "", ""])
    return rows


def _provenance(table: pd.DataFrame) -> str:
    def several(column: str) -> str:
        return ", ".join(sorted({str(one) for one in table[column].dropna()}))

    first, last = table["date"].str[:10].min(), table["date"].str[:10].max()
    days = first if first == last else f"{first} to {last}"
    return (
        f"{table['users'].max():,} users; {days}; {several('device')}, threads {several('threads')}, "
        f"torch {several('torch')}, seqlab {several('seqlab')} (revisions in the CSV). Minutes are those of a "
        "machine with other work to do."
    )


def _number(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def _grid(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
