"""The page of the leaderboard: what was measured and what was published, each under its own protocol."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from seqlab import leaderboard_page, models
from seqlab.datasets import named
from seqlab.leaderboard import read

DATA = Path(__file__).parents[1] / "data"


def test_the_committed_page_is_made_of_table_cards_and_claims(tmp_path: Path) -> None:
    for name in ("leaderboard.csv", "claims.csv"):
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    leaderboard_page.write(tmp_path)
    assert (tmp_path / "leaderboard.md").read_text(encoding="utf-8") == (DATA / "leaderboard.md").read_text(
        encoding="utf-8"
    )


def test_every_system_has_its_claim_said_once() -> None:
    claims = pd.read_csv(DATA / "claims.csv", keep_default_na=False)
    assert sorted(claims["system"]) == sorted(models.names())


def lines(page: str, dataset: str, seen: str) -> list[str]:
    """The rows of the table of a dataset and protocol."""
    section = page.split(f"## {dataset}, leave-one-out, seen items {seen}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return read(DATA / "leaderboard.csv")


def test_seeds_of_an_arm_share_a_row_with_their_mean_and_widest_interval(table: pd.DataFrame) -> None:
    first = table[(table["dataset"] == "complete-journey") & (table["system"] == "popularity")]
    second = first.assign(seed=1, **{"ndcg@10": 0.5, "ndcg@10 low": 0.4, "ndcg@10 high": 0.6})
    page = leaderboard_page.page(
        pd.concat([first, second]), pd.DataFrame(columns=["system", "claim", "control", "found"])
    )
    (row,) = lines(page, "complete-journey", "kept")
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    low, mean = first["ndcg@10 low"].iloc[0], (first["ndcg@10"].iloc[0] + 0.5) / 2
    assert cells[:2] == ["`popularity`", "2"]
    assert cells[4:6] == [f"{mean:.4f}"[1:], f"{low:.4f}"[1:] + " to .6000"]


def test_published_numbers_stand_only_under_their_own_protocol(table: pd.DataFrame) -> None:
    page = leaderboard_page.page(
        table, pd.DataFrame([["<b>", "a | b", "", ""]], columns=["system", "claim", "control", "found"])
    )
    for seen, filtered in (("filtered", True), ("kept", False)):
        shown = [line for line in lines(page, "amazon-beauty", seen) if "*published:*" in line]
        known = [one for one in named.published("amazon-beauty") if one["seen_filter"] == filtered]
        assert len(shown) == len(known) > 0
        assert all(any(one["source"] in line for line in shown) for one in known)
    assert "a \\| b" in page
