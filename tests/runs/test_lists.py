"""Lists for many users: equal to the scores of the model, whatever the batches; files are whole or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab.contracts import Ranking
from seqlab.datasets import leave_one_out, unanswered
from seqlab.datasets.history import batch_of, history_at
from seqlab.runs import lists
from seqlab.tasks import next_item
from tests.synthetic import log_of
from tests.tiny_runs import run_of


@pytest.mark.parametrize("seen_filter", [False, True])
@pytest.mark.parametrize("name", ["sasrec", "tiger"])
def test_lists_are_those_of_each_user_alone(name: str, seen_filter: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "QUERIES_PER_TABLE", 30)
    run, split = run_of(name)
    queries = unanswered.of_split(split)
    found = pd.concat(lists.tables(run.model, split.log, queries, 5, seen_filter))
    assert found["user"].unique().tolist() == split.log.users["user_id"].tolist()
    assert list(found.columns) == ["user", "item", "rank", "score"]
    for row in (0, 41):
        history = history_at(queries.queries, row)
        assert len(history) == (split.log.events["user"] == row + 1).sum()
        seen = set(history.items.tolist()) if seen_filter else set()
        with torch.no_grad():
            long = run.model.recommend(batch_of([history], run.model.config.max_length), split.n_items)
        best = [item for item in long.items[0].tolist() if item and item not in seen][:5]
        mine = found[found["user"] == row + 1]
        assert mine["item"].tolist() == best and mine["rank"].tolist() == [1, 2, 3, 4, 5]
        scores = dict(zip(long.items[0].tolist(), long.scores[0].tolist(), strict=True))
        np.testing.assert_allclose(mine["score"], [scores[item] for item in best], rtol=1e-5)


def test_lists_of_the_test_part_have_the_recall_of_the_evaluation() -> None:
    run, split = run_of("sasrec")
    queries = unanswered.of_split(split, "test")
    found = pd.concat(lists.tables(run.model, split.log, queries, 10))
    answers = dict(zip(queries.user_ids.tolist(), split.test.item.tolist(), strict=True))
    hits = (found["item"] == found["user"].map(answers)).sum() / len(split.test)
    assert hits == pytest.approx(next_item.measure(run.model, split, seen_filter=False).means()["recall@10"])


def test_fewer_rows_where_fewer_items_are_left() -> None:
    split = leave_one_out(log_of([[1, 2, 3, 4], [3, 2, 1], [2, 1, 4, 3]], repeats=False))
    run, _ = run_of("popularity")
    model = type(run.model)(run.model.config, 4).eval()
    found = pd.concat(lists.tables(model, split.log, unanswered.of_split(split), 3, True))
    assert found.to_dict("list")["item"] == [4] and found["user"].tolist() == [2]


class _NotFinite(torch.nn.Module):
    def recommend(self, batch, k: int) -> Ranking:
        return Ranking(batch.items[:, :1], torch.full((len(batch), 1), torch.nan))


def test_a_failure_on_the_way_leaves_the_file_before(tmp_path: Path) -> None:
    run, split = run_of("sasrec")
    file = tmp_path / "lists.csv"
    file.write_text("before")
    broken = _NotFinite()
    broken.config = run.model.config
    whole, half = unanswered.of_split(split), iter(lists.tables(run.model, split.log, unanswered.of_split(split), 2))

    def fails():
        yield next(half)
        yield from lists.tables(broken, split.log, whole, 2)

    with pytest.raises(ValueError, match="not finite"):
        lists.write(fails(), file)
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_has_all_tables(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "QUERIES_PER_TABLE", 7)
    run, split = run_of("sasrec")
    whole = pd.concat(lists.tables(run.model, split.log, unanswered.of_split(split), 2), ignore_index=True)
    file = tmp_path / f"lists{suffix}"
    assert lists.write(lists.tables(run.model, split.log, unanswered.of_split(split), 2), file) == len(whole)
    read = pd.read_csv(file) if suffix == ".csv" else pd.read_parquet(file)
    pd.testing.assert_frame_equal(read, whole, check_dtype=False)
    with pytest.raises(ValueError, match=r"must be \.csv or \.parquet"):
        lists.write([], tmp_path / "lists.json")
    with pytest.raises(ValueError, match="there is no folder"):
        lists.write([], tmp_path / "none" / "lists.csv")
