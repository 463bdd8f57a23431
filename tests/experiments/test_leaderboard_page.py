"""The page of the leaderboard: measured and published results, by protocol."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from seqlab import models, tasks
from seqlab.experiments import leaderboard_page
from seqlab.experiments.arm_names import rows_by_arm
from seqlab.experiments.leaderboard import GAIN_COLUMNS, read, read_gains

DATA = Path(__file__).parents[2] / "data"
NO_GAINS = pd.DataFrame(columns=GAIN_COLUMNS)


def test_the_committed_page_equals_table_cards_and_claims(tmp_path: Path) -> None:
    for name in ("leaderboard.csv", "leaderboard_gains.csv", "claims.csv"):
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    leaderboard_page.write(tmp_path)
    assert (tmp_path / "leaderboard.md").read_text(encoding="utf-8") == (DATA / "leaderboard.md").read_text(
        encoding="utf-8"
    )


def test_claims_are_unique_and_of_systems_of_the_package() -> None:
    claims = pd.read_csv(DATA / "claims.csv", keep_default_na=False)
    assert claims.columns.tolist() == ["system", "found"]
    assert claims["system"].is_unique and {*claims["system"]} <= {*models.names()}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return read(DATA / "leaderboard.csv")


@pytest.fixture(scope="module")
def gains() -> pd.DataFrame:
    return read_gains(DATA / "leaderboard.csv")


def values(table: pd.DataFrame, dataset: str, metric: str) -> list[pd.Series]:
    """A metric of every arm on a dataset, under each protocol, by seed."""
    own = table[(table["dataset"] == dataset) & table[metric].notna()].groupby(["split", "seen_filter"])
    return [rows.set_index("seed")[metric] for _, part in own for _, rows in rows_by_arm(part)]


def test_every_gain_is_the_difference_of_two_arms_of_the_table(table: pd.DataFrame, gains: pd.DataFrame) -> None:
    for (dataset, metric, seeds), own in gains.groupby(["dataset", "metric", "seeds"]):
        seeds = [int(seed) for seed in seeds.split()]
        means = [arm[seeds].mean() for arm in values(table, dataset, metric) if set(seeds) <= set(arm.index)]
        for gain in own.itertuples():
            assert all(min(abs(side - mean) for mean in means) < 2e-5 for side in (gain.a, gain.b)), gain
            assert gain.a - gain.b == pytest.approx(gain.difference, abs=2e-5)


def test_every_figure_of_the_claims_is_in_the_tables(table: pd.DataFrame, gains: pd.DataFrame) -> None:
    """Differences with their intervals are among the gains, other figures are the primary metric of an arm."""
    claims = pd.read_csv(DATA / "claims.csv", keep_default_na=False)
    primary = {tasks.task(task).PRIMARY for task in table["task"].unique()}
    means_on = {
        name: [arm.mean() for metric in primary for arm in values(table, name, metric)]
        for name in table["dataset"].unique()
    }
    for found in claims["found"]:
        named_here = [name for name in means_on if name in found]
        kept = {leaderboard_page._gain(gain) for _, gain in gains[gains["dataset"].isin(named_here)].iterrows()}
        differences = re.findall(r"[+-]\.\d{4} \[[^]]*\]", found)
        assert set(differences) <= kept
        for difference in differences:
            found = found.replace(difference, "")
        means = [mean for name in named_here for mean in means_on[name]]
        for figure in re.findall(r"(?<!\d)\.\d{3,4}\b", found):
            assert any(f"{mean:.{len(figure) - 1}f}"[1:] == figure for mean in means), (found, figure)


def lines(page: str, dataset: str, seen: str) -> list[str]:
    """The rows of the table of a dataset and protocol."""
    section = page.split(f"## {dataset}, leave-one-out, seen items {seen}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


def test_seeds_of_an_arm_share_a_row_with_their_mean_and_widest_interval(table: pd.DataFrame) -> None:
    chosen = (table["dataset"] == "complete-journey") & (table["system"] == "popularity")
    first = table[chosen & (table["split"] == "leave-one-out")]
    second = first.assign(seed=1, **{"ndcg@10": 0.5, "ndcg@10 low": 0.4, "ndcg@10 high": 0.6})
    page = leaderboard_page.page(pd.concat([first, second]), NO_GAINS, {})
    (row,) = lines(page, "complete-journey", "kept")
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    low, mean = first["ndcg@10 low"].iloc[0], (first["ndcg@10"].iloc[0] + 0.5) / 2
    assert cells[:2] == ["`popularity`", "2"]
    assert cells[4:6] == [f"{mean:.4f}"[1:], f"{low:.4f}"[1:] + " to .6000"]


def test_published_numbers_are_listed_only_under_their_protocol(table: pd.DataFrame) -> None:
    page = leaderboard_page.page(table, NO_GAINS, {"sasrec": "a | b"})
    for seen, filtered in (("filtered", True), ("kept", False)):
        shown = [line for line in lines(page, "amazon-beauty", seen) if "*published:*" in line]
        known = [
            one for name in models.names() for one in models.card(name).published
            if (one.dataset, one.seen_filter) == ("amazon-beauty", filtered)
        ]  # fmt: skip
        assert len(shown) == len(known) > 0
        assert all(any(one.source in line and one.differs in line for line in shown) for one in known)
    assert not re.search("Video Games|by time", page)
    assert "a \\| b" in page
