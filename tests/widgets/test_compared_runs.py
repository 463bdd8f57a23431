"""The runs of a comparison: one protocol, seeds, and rows of the leaderboard."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from seqlab import models, widgets
from seqlab.optimization.options import Options
from seqlab.training.fit import fit
from tests.widgets.markup import page

METRICS = ("recall@10", "ndcg@10")


def test_seeds_are_pooled_by_user_and_grouped_in_lists(runs, split, report):
    seeds, floor = runs["sasrec"], runs["popularity"]
    by_label = widgets.CompareSystems(runs, split, "popularity").board().set_index("system")
    as_list = widgets.CompareSystems([seeds[0], floor, seeds[1]], split, "popularity").board().set_index("system")
    assert as_list.at["sasrec", "seeds"] == 2
    hits = np.stack([one.outcome.frame.sort_values("user")["rank"] <= 10 for one in seeds])
    assert as_list.at["sasrec", "recall@10"] == by_label.at["sasrec", "recall@10"] == pytest.approx(hits.mean())


def test_settings_distinguish_runs_of_one_system(run, split, report):
    short = fit(
        models.build("sasrec", split.n_items, {"max_length": 4, "dim": 16}), split, Options(epochs=1, tokens=128)
    )
    found = widgets.CompareSystems([run, short], split).board()["system"]
    assert set(found) == {"sasrec:max_length=8", "sasrec:max_length=4"}


def test_runs_of_two_protocols_are_refused(runs, split, report):
    floor = runs["popularity"]
    about = {**floor.outcome.about, "seen_filter": not floor.seen_filter}
    other = replace(floor, outcome=replace(floor.outcome, about=about))
    with pytest.raises(ValueError, match="'b' and 'a' cannot be compared: the protocols differ"):
        widgets.CompareSystems({"a": floor, "b": other}, split)
    frame = floor.outcome.frame
    other_items = replace(floor, outcome=replace(floor.outcome, frame=frame.assign(item=frame["item"] % 30 + 1)))
    with pytest.raises(ValueError, match="'b' and 'a' cannot be compared: their queries differ"):
        widgets.CompareSystems({"a": floor, "b": other_items}, split)
    with pytest.raises(ValueError, match="not evaluated on the test queries of this split"):
        widgets.CompareSystems({"a": other_items, "b": other_items}, split)
    with pytest.raises(ValueError, match="two systems at least"):
        widgets.CompareSystems([floor], split)
    with pytest.raises(ValueError, match="'nobody' is not one of the compared systems: 'a', 'b'"):
        widgets.CompareSystems({"a": floor, "b": floor}, split, "nobody")


@pytest.fixture
def measured(split):
    """A leaderboard: a system of two seeds, a row of another protocol, of other data of this name, of another name."""
    row = {
        "dataset": split.log.name, "fingerprint": split.log.fingerprint(), "split": split.name, "task": "next_item",
        "system": "gru4rec", "seed": 0, "settings": '{"dim": 8}',
        "options": "{}", "seen_filter": not split.log.repeats, "users": len(split.test), "recall@10": 0.4,
        "recall@10 low": 0.3, "recall@10 high": 0.5, "ndcg@10": 0.2, "ndcg@10 low": 0.1, "ndcg@10 high": 0.3,
        "parameters": 500.0, "seconds": 9.0,
    }  # fmt: skip
    rows = [row, {**row, "seed": 1, "ndcg@10": 0.24}, {**row, "settings": '{"dim": 16}', "ndcg@10": 0.9}]
    rows += [{**row, "seen_filter": split.log.repeats, "ndcg@10": 0.777}]
    rows += [{**row, "fingerprint": "0", "dataset": name, "ndcg@10": 0.888} for name in (split.log.name, "other")]
    return pd.DataFrame(rows)


def test_measured_rows_are_numbers_under_the_same_protocol_only(runs, split, measured, live):
    found = widgets.CompareSystems(runs, split, measured=measured)
    board = found.board().set_index("system")
    assert board.loc["gru4rec:dim=8", ["seeds", "ndcg@10", "kind"]].tolist() == [2, pytest.approx(0.22), "number"]
    assert np.isnan(board.at["gru4rec:dim=8", "ndcg@10 low"])  # two means have no interval over users
    assert board.at["gru4rec:dim=16", "ndcg@10 high"] == 0.3
    assert board["ndcg@10"].is_monotonic_decreasing
    assert 0.777 not in board["ndcg@10"].tolist()
    assert 0.888 not in board["ndcg@10"].tolist()
    words = page(found).words
    assert "2 rows of the leaderboard left out: other data of this name, or another protocol" in words
    assert words.count("needs a run") == 4
    row = board.index.get_loc("gru4rec:dim=8")
    assert f"cell:{row}:0" not in page(found).buttons
    assert page(found).words.count("only a number") >= 2
    with pytest.raises(ValueError, match="not one of the compared systems"):
        found.open("gru4rec:dim=8", "ndcg@10")


def test_a_measured_row_that_is_one_of_these_runs_is_not_shown_twice(runs, split, measured, report):
    floor = runs["popularity"]
    again = measured.iloc[[0]].assign(system="popularity", **{name: floor.metrics["test"][name] for name in METRICS})
    found = widgets.CompareSystems(runs, split, measured=again)
    assert found.board()["system"].tolist().count("popularity") == 1
    assert (found.board()["kind"] != "number").all()
