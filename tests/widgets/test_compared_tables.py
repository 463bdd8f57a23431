"""A table of recommendations beside runs in CompareSystems."""

import numpy as np
import pandas as pd
import pytest

from seqlab import datasets, evaluation, widgets
from seqlab.adapters.recommendations import read_recommendations
from seqlab.runs.lists import best_items
from tests.widgets.markup import Page, page


@pytest.fixture(scope="module")
def theirs(run, split):
    """The ten best items of a run, as another system would deliver them, of all users but one."""
    items, scores = (one.numpy() for one in best_items(run.model, split.test, 10, split.n_items))
    users, ids = split.log.users["user_id"], split.log.items["item_id"]
    rows = [
        (users[user], ids[item], score)
        for user, own, places in zip(split.test.user.tolist(), items, scores, strict=True)
        for item, score in zip(own.tolist(), places.tolist(), strict=True)
        if user != 40
    ]
    frame = pd.DataFrame(rows, columns=["user", "item", "score"])
    return read_recommendations(frame, split, "<b>theirs</b>")


def test_a_table_is_a_row_with_paired_differences_and_slices(runs, split, theirs, live):
    compared = widgets.CompareSystems([*runs["sasrec"][:1], runs["popularity"], theirs], split, "popularity")
    board = compared.board().set_index("system")
    row = board.loc["<b>theirs</b>"]
    expected = evaluation.compare(theirs.outcome(split), runs["popularity"].outcome).loc["ndcg@10"]
    found = row[["ndcg@10 difference", "ndcg@10 difference low", "ndcg@10 difference high"]]
    assert found.tolist() == pytest.approx(expected[["difference", "low", "high"]].tolist())
    assert row["kind"] == "outside" and np.isnan([row["parameters"], row["seconds"], row["milliseconds"]]).all()
    at = (split.test.user != 40).numpy()
    mean = runs["sasrec"][0].outcome.values(["ndcg@10"])["ndcg@10"].to_numpy() * at
    assert row["ndcg@10"] == pytest.approx(mean.mean())
    rows = compared.slices("<b>theirs</b>", "ndcg@10")
    assert len(rows) > 5
    assert "<b>theirs</b>: lists of 10 items and none for 1 query, and an answer" in compared.protocol()
    assert {*compared.first_runs} == {"sasrec", "popularity"}
    made = compared.configurations().set_index("system").loc["<b>theirs</b>"]
    assert made["settings"] == "a table of recommendations" and made["training"] == "not here"
    words = page(compared).words
    assert "not trained here" in words and "<b>theirs</b>" in words and "theirs" not in page(compared).tags


def test_users_whose_answer_is_not_listed(runs, split, theirs, live):
    compared = widgets.CompareSystems([runs["popularity"], theirs], split, "popularity")
    compared.open(theirs.name, "ndcg@10")
    compared.open_group("everybody", "all users")
    rows = compared.users(theirs.name, "ndcg@10")
    assert np.isinf(rows["a"]).any() and "not listed" in page(compared).words
    assert rows["difference"].is_monotonic_decreasing
    both = widgets.CompareSystems({"a": theirs, "b": theirs}, split, "b").users("a", "ndcg@10", order="most")
    assert both["user"].is_monotonic_increasing  # no difference and no ratio of ranks: by number


def test_recall_ends_where_the_lists_do(runs, split, theirs, report):
    compared = widgets.CompareSystems([runs["popularity"], theirs], split, "popularity")
    ends = compared._standings.curves().groupby("system")["k"].max()
    assert ends.to_dict() == {"popularity": 20, theirs.name: 10}
    figure = compared.curves()
    assert len(figure.data) == 2
    assert "not measured: &lt;b&gt;theirs" in compared.costs().to_json()
    chosen = widgets.CompareSystems([runs["popularity"], runs["sasrec"][0], theirs], split, system=theirs.name)
    assert "<b>theirs</b> beside popularity, the reference, by groups" in Page(chosen.still().markup).words


def test_the_items_that_lists_share(runs, split, theirs, report):
    compared = widgets.CompareSystems([runs["sasrec"][0], runs["popularity"], theirs], split)
    shared = compared.overlap()
    assert shared.at["sasrec", "sasrec"] == shared.at["popularity", "popularity"] == 10
    assert shared.at[theirs.name, "sasrec"] == shared.at[theirs.name, theirs.name] == 10 * 39 / 40
    items = {name: best_items(runs[name].model if name == "popularity" else runs[name][0].model, split.test, 10, 30)[0]
             for name in ("sasrec", "popularity")}  # fmt: skip
    counts = [len({*a} & {*b}) for a, b in zip(*(one.tolist() for one in items.values()), strict=True)]
    assert shared.at["sasrec", "popularity"] == pytest.approx(np.mean(counts))
    assert compared.overlap(k=3, users=7).loc["sasrec", "sasrec"] == 3


def test_two_systems_of_one_name_and_tables_of_other_data_are_refused(runs, split, theirs, report):
    with pytest.raises(ValueError, match="two systems are called '<b>theirs</b>'; read the table with another name="):
        widgets.CompareSystems([theirs, theirs], split)
    other = datasets.leave_one_out(split.log.select(split.log.events["user"] < 30, "the first users"))
    with pytest.raises(ValueError, match="read for another log"):
        widgets.CompareSystems({"a": theirs, "b": theirs}, other)
