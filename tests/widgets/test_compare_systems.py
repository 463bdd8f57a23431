"""Systems side by side: paired differences, and from a cell to its users and back."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from seqlab import evaluation, models, widgets
from seqlab.evaluation.comparison import EVERYBODY
from seqlab.training.fit import fit
from seqlab.widgets.compare_systems import PAGE_SIZE
from tests.widgets.markup import Page, page

METRICS = ("recall@10", "ndcg@10")


@pytest.fixture
def compared(runs, split, live):
    return widgets.CompareSystems(runs, split, reference="popularity")


def click(widget, key):
    """Send what the page sends for a click, and for Enter or Space on a focused button."""
    assert key in page(widget).buttons
    widget.table._handle_custom_msg({"press": key}, [])
    assert not widget.status.view.value, widget.status.view.value


def opened(widget, system, metric):
    row = widget.board()["system"].tolist().index(system)
    click(widget, f"cell:{row}:{METRICS.index(metric)}")


def opened_group(widget, slice_, group):
    rows = widget.slices(*widget.cell)
    row = rows.index[(rows["slice"] == slice_) & (rows["group"] == group)][0]
    click(widget, f"group:{row}")
    return rows.loc[row]


# the numbers


def test_differences_and_intervals_are_those_of_compare(compared, runs):
    board = compared.board().set_index("system")
    for label, own in runs.items():
        sides = [
            [one.outcome for one in (side if isinstance(side, list) else [side])] for side in (own, runs["popularity"])
        ]
        expected = evaluation.compare(*sides)
        for metric in METRICS:
            assert board.at[label, metric] == pytest.approx(expected.at[metric, "a"])
            found = board.loc[label, [f"{metric} difference{end}" for end in ("", " low", " high")]]
            assert found.tolist() == pytest.approx(expected.loc[metric, ["difference", "low", "high"]].tolist())
    interval = evaluation.intervals(runs["popularity"].outcome).loc["ndcg@10"]
    shown = board.loc["popularity", ["ndcg@10", "ndcg@10 low", "ndcg@10 high"]]
    assert shown.tolist() == pytest.approx(interval[["mean", "low", "high"]].tolist())


def test_groups_are_those_of_slices_and_their_differences_paired(compared, runs):
    rows = compared.slices("personal_frequency", "ndcg@10").set_index(["slice", "group"])
    for run, side in ((runs["personal_frequency"], "a"), (runs["popularity"], "b")):
        for one in evaluation.slices(run.outcome).to_dict("records"):
            found = rows.loc[(one["slice"], one["group"])]
            assert found["users"] == one["users"]
            assert found[[side, f"{side} low", f"{side} high"]].tolist() == pytest.approx(
                [one["mean"], one["low"], one["high"]]
            )
    whole = evaluation.compare(runs["personal_frequency"].outcome, runs["popularity"].outcome).loc["ndcg@10"]
    everybody = rows.loc[EVERYBODY, ["difference", "low", "high"]]
    assert everybody.tolist() == pytest.approx(whole[["difference", "low", "high"]].tolist())
    np.testing.assert_allclose(rows["difference"], rows["a"] - rows["b"])


def test_users_are_ordered_by_their_difference_and_ties_by_the_ranks(split, runs, report):
    frame = runs["popularity"].outcome.frame
    places = {"a": [12, 3, 300, 1.5, 12], "b": [11, 40, 20, 1.5, 24]}  # ndcg@10 parts the second alone

    def made(side):
        rank = np.r_[places[side], np.full(len(frame) - 5, 50.0)]
        return replace(runs["popularity"], outcome=replace(runs["popularity"].outcome, frame=frame.assign(rank=rank)))

    found = widgets.CompareSystems({"a": made("a"), "b": made("b")}, split, reference="b")
    number = {user: place for place, user in enumerate(frame["user"])}
    first = [number[user] for user in found.users("a", "ndcg@10")["user"]]
    assert first[:2] == [1, 4]
    assert first[-2:] == [0, 2]
    other = [number[user] for user in found.users("a", "ndcg@10", order="reference")["user"]]
    assert other[:2] == [2, 0]
    assert other[-1] == 1
    most = [number[user] for user in found.users("a", "ndcg@10", order="most")["user"]]
    assert most[:3] == [1, 2, 4]


# from a cell to its users, and back


def test_from_a_cell_to_its_users_and_back(compared, runs, split):
    clicked = []
    compared._on_user = clicked.append
    opened(compared, "sasrec", "recall@10")
    assert compared.cell == ("sasrec", "recall@10")
    rows = compared.slices("sasrec", "recall@10")
    assert set(page(compared).buttons) == {"back:", *(f"group:{row}" for row in rows.index)}
    group = opened_group(compared, "repeat or new", "new to the user")
    frame = runs["popularity"].outcome.frame
    expected = set(frame.loc[~frame["seen"], "user"])
    listed = compared.users(*compared.cell, compared.group)
    assert set(listed["user"]) == expected
    assert len(listed) == group["users"] == len(expected)
    names = [words for key, words in page(compared).buttons.items() if key.startswith("user:")]
    assert names == [split.log.users.at[user, "user_id"] for user in listed["user"]]
    click(compared, "user:2")
    assert clicked == [listed["user"].iat[2]]
    assert compared.user == clicked[0]
    assert re.search(r"data-press='user:2'[^>]* aria-pressed='true'", compared.table.markup)
    click(compared, "order:reference")
    turned = compared.users(*compared.cell, compared.group, "reference")["user"].tolist()
    names = [words for key, words in page(compared).buttons.items() if key.startswith("user:")]
    assert names == [split.log.users.at[user, "user_id"] for user in turned]
    click(compared, "back:")
    assert compared.group is None
    assert compared.table.next == f"group:{group.name}"  # the focus goes to what was left
    click(compared, "back:")
    assert compared.cell is None
    assert compared.table.next.startswith("cell:")
    assert "back:" not in page(compared).buttons


def test_the_plot_is_beside_the_table_only(compared):
    opened(compared, "sasrec", "ndcg@10")
    assert compared._plot.layout.display == "none"
    click(compared, "back:")
    assert compared._plot.layout.display is None


def test_every_user_of_a_large_group_can_be_reached(runs, split, live, monkeypatch):
    monkeypatch.setattr("seqlab.widgets.compare_systems.PAGE_SIZE", 7)
    found = widgets.CompareSystems(runs, split)
    found._shown = 7
    opened(found, "sasrec", "ndcg@10")
    opened_group(found, *EVERYBODY)

    def listed():
        return sum(key.startswith("user:") for key in page(found).buttons)

    assert listed() == 7 < PAGE_SIZE
    for count in (14, 21, 28, 35, 40):
        click(found, "more:")
        assert listed() == count
    assert "more:" not in page(found).buttons


def test_a_click_on_a_removed_button_does_nothing(compared):
    opened(compared, "sasrec", "ndcg@10")
    before = compared.table.markup
    for key in ("cell:0:0", "user:3", "order:most", "more:"):
        compared.table._handle_custom_msg({"press": key}, [])
    assert compared.table.markup == before
    assert not compared.status.view.value
    click(compared, "back:")
    compared.table._handle_custom_msg({"press": "back:"}, [])
    assert not compared.status.view.value


def test_another_reference_keeps_the_open_system_unless_it_is_that(compared):
    opened(compared, "sasrec", "ndcg@10")
    compared.reference_choice.value = "personal_frequency"
    assert compared.cell == ("sasrec", "ndcg@10")
    assert "personal_frequency" in page(compared).words
    compared.reference_choice.value = "sasrec"
    assert compared.cell is None
    row = compared.board()["system"].tolist().index("sasrec")
    assert f"cell:{row}:0" not in page(compared).buttons
    with pytest.raises(ValueError, match="'sasrec' is the reference"):
        compared.open("sasrec", "ndcg@10")


def test_costs_are_redrawn_in_place(compared):
    figure = compared.figure
    for cost in ("parameters", "milliseconds", "seconds"):
        compared.cost.value = cost
        assert cost.removesuffix("s") in figure.layout.xaxis.title.text
    compared.quality.value = "recall@10"
    assert figure is compared.figure
    shown = dict(zip(figure.data[0].text, figure.data[0].y, strict=True))
    assert shown == {"sasrec": pytest.approx(compared.board().set_index("system").at["sasrec", "recall@10"])}
    assert not compared.status.view.value


# the selection


def test_an_opened_group_is_selected_and_a_selection_is_a_group(runs, split, live):
    selection = widgets.Selection(split)
    found = widgets.CompareSystems(runs, split, selection=selection)
    board = found.board()
    click(found, f"system:{board['system'].tolist().index('personal_frequency')}")
    ranks = runs["personal_frequency"].outcome.frame
    assert selection.now.users.tolist() == sorted(ranks.loc[ranks["rank"] <= 10, "user"])
    opened(found, "sasrec", "ndcg@10")
    opened_group(found, "repeat or new", "seen before")
    assert set(selection.now.users) == set(ranks.loc[ranks["seen"], "user"])
    click(found, "user:0")
    assert selection.now.users.tolist() == [found.users(*found.cell, found.group)["user"].iat[0]]
    click(found, "back:")
    assert not (found.slices(*found.cell)["slice"] == "the selection").any()  # its own is no news
    selection.select(users=[3, 9, 11])
    row = opened_group(found, "the selection", "users selected elsewhere")
    assert row["users"] == 3
    assert set(found.users(*found.cell, found.group)["user"]) == {3, 9, 11}
    selection.clear()
    assert found.group is None
    assert "users selected elsewhere" not in page(found).words
    assert not found.status.view.value


# the still, and what is data


def test_the_still_has_the_table_the_groups_and_ten_users(runs, split, report):
    still = widgets.CompareSystems(runs, split, reference="popularity").still()
    found = Page(still.markup)
    assert found.tags.count("table") == 3
    assert not found.buttons
    for words in ("40 users", "30 items", "seen items kept", "personal_frequency", "floor: only counts", "reference"):
        assert words in found.words
    users = still.rpartition("<tbody>")[2]
    assert users.count("<tr>") == 10
    for label in ("minus popularity", "history length", "popularity of the answer", "repeat or new", "parameters"):
        assert label in found.words


def test_a_difference_is_marked_by_a_sign_where_its_interval_misses_zero(runs, split, report):
    frame = runs["popularity"].outcome.frame
    better, worse = (
        replace(runs["popularity"], outcome=replace(runs["popularity"].outcome, frame=frame.assign(rank=rank)))
        for rank in (1.0, 30.0)
    )
    found = Page(widgets.CompareSystems({"high": better, "low": worse}, split, reference="low").still().markup)
    assert "▲ +1.0000" in found.words
    found = Page(widgets.CompareSystems({"high": better, "low": worse}, split, reference="high").still().markup)
    assert "▼ -1.0000" in found.words
    found = Page(widgets.CompareSystems({"high": better, "same": better}, split, reference="high").still().markup)
    assert "○ 0" in found.words


def test_titles_users_and_labels_stay_text(live):
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>' data-press='x"
    split = renamed(hostile)
    runs = {hostile: fit(models.create("popularity", split), split), "b": fit(models.create("markov", split), split)}
    found = widgets.CompareSystems(runs, split, reference="b")
    seen = [found.table.markup, found.still().markup]
    opened(found, hostile, "ndcg@10")
    seen.append(found.table.markup)
    opened_group(found, *EVERYBODY)
    seen.append(found.table.markup)
    for markup in seen:
        assert not {"script", "img"} & set(Page(markup).tags)
        assert "x" not in Page(markup).buttons
    assert "<script>alert(1)" in page(found).words
    for figure in (found.costs(), found.curves()):
        assert not re.search("<(script|img)", json.dumps(json.loads(figure.to_json()), ensure_ascii=False))


def renamed(name):
    """A small split in which every item and user is called so."""
    from seqlab.datasets import leave_one_out
    from tests.synthetic import random_log

    log = random_log(0, repeats=True)
    users = log.users.assign(user_id=[f"{name}{user}" for user in log.users.index])
    return leave_one_out(replace(log, users=users, items=log.items.assign(title=f"{name} & sons")))


def test_an_error_of_a_callback_is_shown(runs, split, live):
    def broken(user):
        raise RuntimeError("<b>the workbench is closed</b>")

    found = widgets.CompareSystems(runs, split, on_user=broken)
    opened(found, "sasrec", "ndcg@10")
    opened_group(found, *EVERYBODY)
    found.table._handle_custom_msg({"press": "user:0"}, [])
    assert "the workbench is closed" in found.status.view.value
    assert "<b>" not in found.status.view.value
