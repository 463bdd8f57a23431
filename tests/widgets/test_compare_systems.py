"""Systems side by side: one protocol, paired differences, and the way from a number to its users and back."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from seqlab import evaluation, models, widgets
from seqlab.evaluation.comparison import EVERYBODY
from seqlab.optimization.options import Options
from seqlab.training.fit import fit
from seqlab.widgets.compare_systems import LISTED

METRICS = ("recall@10", "ndcg@10")


@pytest.fixture(scope="module")
def runs(run, split):
    """A Transformer of two seeds, whose second luck is made up, and two floors."""
    floors = {name: fit(models.create(name, split), split) for name in ("popularity", "personal_frequency")}
    return {"sasrec": [run, shaken(run, 1)], **floors}


def shaken(run, seed):
    """A run with other ranks, some of them ties."""
    frame = run.ranks.frame
    places = np.random.default_rng(seed).integers(2, 60, len(frame)) / 2
    return replace(run, ranks=replace(run.ranks, frame=frame.assign(rank=places)))


@pytest.fixture
def compared(runs, split, live):
    return widgets.CompareSystems(runs, split, reference="popularity")


class Page(HTMLParser):
    """What a browser would make of a markup: its tags, its buttons and its words."""

    def __init__(self, markup):
        super().__init__()
        self.tags, self.buttons, self._open = [], {}, None
        self.words = ""
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "button":
            self._open = dict(attrs)["data-press"]
            self.buttons[self._open] = ""

    def handle_endtag(self, tag):
        self._open = None if tag == "button" else self._open

    def handle_data(self, data):
        self.words += data
        if self._open is not None:
            self.buttons[self._open] += data


def page(widget):
    return Page(widget.table.markup)


def press(widget, key):
    """As the page does: for a click, and for Enter or Space on a focused button."""
    assert key in page(widget).buttons
    widget.table._handle_custom_msg({"press": key}, [])
    assert not widget.status.view.value, widget.status.view.value


def opened(widget, system, metric):
    row = widget.board()["system"].tolist().index(system)
    press(widget, f"cell:{row}:{METRICS.index(metric)}")


def opened_group(widget, slice_, group):
    rows = widget.slices(*widget.cell)
    row = rows.index[(rows["slice"] == slice_) & (rows["group"] == group)][0]
    press(widget, f"group:{row}")
    return rows.loc[row]


# the numbers


def test_differences_and_intervals_are_those_of_compare(compared, runs):
    board = compared.board().set_index("system")
    for label, own in runs.items():
        sides = [
            [one.ranks for one in (side if isinstance(side, list) else [side])] for side in (own, runs["popularity"])
        ]
        expected = evaluation.compare(*sides)
        for metric in METRICS:
            assert board.at[label, metric] == pytest.approx(expected.at[metric, "a"])
            found = board.loc[label, [f"{metric} difference{end}" for end in ("", " low", " high")]]
            assert found.tolist() == pytest.approx(expected.loc[metric, ["difference", "low", "high"]].tolist())
    interval = evaluation.intervals(runs["popularity"].ranks).loc["ndcg@10"]
    shown = board.loc["popularity", ["ndcg@10", "ndcg@10 low", "ndcg@10 high"]]
    assert shown.tolist() == pytest.approx(interval[["mean", "low", "high"]].tolist())


def test_seeds_are_pooled_by_user_and_listed_runs_find_their_own(runs, split, report):
    seeds, floor = runs["sasrec"], runs["popularity"]
    by_label = widgets.CompareSystems(runs, split, "popularity").board().set_index("system")
    as_list = widgets.CompareSystems([seeds[0], floor, seeds[1]], split, "popularity").board().set_index("system")
    assert as_list.at["sasrec", "seeds"] == 2
    hits = np.stack([one.ranks.frame.sort_values("user")["rank"] <= 10 for one in seeds])
    assert as_list.at["sasrec", "recall@10"] == by_label.at["sasrec", "recall@10"] == pytest.approx(hits.mean())


def test_settings_tell_runs_of_one_system_apart(run, split, report):
    short = fit(
        models.build("sasrec", split.n_items, {"max_length": 4, "dim": 16}), split, Options(epochs=1, tokens=128)
    )
    found = widgets.CompareSystems([run, short], split).board()["system"]
    assert set(found) == {"sasrec:max_length=8", "sasrec:max_length=4"}


def test_groups_are_those_of_slices_and_their_differences_paired(compared, runs):
    rows = compared.slices("personal_frequency", "ndcg@10").set_index(["slice", "group"])
    for run, side in ((runs["personal_frequency"], "a"), (runs["popularity"], "b")):
        for one in evaluation.slices(run.ranks).to_dict("records"):
            found = rows.loc[(one["slice"], one["group"])]
            assert found["users"] == one["users"]
            assert found[[side, f"{side} low", f"{side} high"]].tolist() == pytest.approx(
                [one["mean"], one["low"], one["high"]]
            )
    whole = evaluation.compare(runs["personal_frequency"].ranks, runs["popularity"].ranks).loc["ndcg@10"]
    everybody = rows.loc[EVERYBODY, ["difference", "low", "high"]]
    assert everybody.tolist() == pytest.approx(whole[["difference", "low", "high"]].tolist())
    np.testing.assert_allclose(rows["difference"], rows["a"] - rows["b"])


def test_users_come_by_their_difference_and_ties_by_the_ranks(split, runs, report):
    frame = runs["popularity"].ranks.frame
    places = {"a": [12, 3, 300, 1.5, 12], "b": [11, 40, 20, 1.5, 24]}  # ndcg@10 parts the second alone

    def made(side):
        rank = np.r_[places[side], np.full(len(frame) - 5, 50.0)]
        return replace(runs["popularity"], ranks=replace(runs["popularity"].ranks, frame=frame.assign(rank=rank)))

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


# one protocol


def test_numbers_of_two_protocols_are_refused_with_a_sentence(runs, split, report):
    floor = runs["popularity"]
    other = replace(floor, ranks=replace(floor.ranks, seen_filter=not floor.ranks.seen_filter))
    with pytest.raises(ValueError, match="'b' was ranked among 30 items with seen items filtered, 'a' among 30"):
        widgets.CompareSystems({"a": floor, "b": other}, split)
    frame = floor.ranks.frame
    asked = replace(floor, ranks=replace(floor.ranks, frame=frame.assign(item=frame["item"] % 30 + 1)))
    with pytest.raises(ValueError, match="'b' and 'a' did not answer the same questions"):
        widgets.CompareSystems({"a": floor, "b": asked}, split)
    with pytest.raises(ValueError, match="did not answer the test questions of this split"):
        widgets.CompareSystems({"a": asked, "b": asked}, split)
    with pytest.raises(ValueError, match="two systems at least"):
        widgets.CompareSystems([floor], split)
    with pytest.raises(ValueError, match="'nobody' is none of the systems with ranks: 'a', 'b'"):
        widgets.CompareSystems({"a": floor, "b": floor}, split, "nobody")


@pytest.fixture
def measured(split):
    """A leaderboard: a system of two seeds, a row of another protocol, of other data of this name, of another name."""
    row = {
        "dataset": split.log.name, "fingerprint": split.log.fingerprint(), "split": split.how,
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
    assert "2 rows of the leaderboard, of other data of this name or another protocol: left out" in words
    assert words.count("needs a run") == 4
    row = board.index.get_loc("gru4rec:dim=8")
    assert f"cell:{row}:0" not in page(found).buttons
    assert page(found).words.count("only a number") >= 2
    with pytest.raises(ValueError, match="none of the systems with ranks"):
        found.open("gru4rec:dim=8", "ndcg@10")


def test_a_measured_row_that_is_one_of_these_runs_is_not_shown_twice(runs, split, measured, report):
    floor = runs["popularity"]
    again = measured.iloc[[0]].assign(system="popularity", **{name: floor.metrics["test"][name] for name in METRICS})
    found = widgets.CompareSystems(runs, split, measured=again)
    assert found.board()["system"].tolist().count("popularity") == 1
    assert (found.board()["kind"] != "number").all()


# from a number to its users, and back


def test_from_a_cell_to_its_users_and_back(compared, runs, split):
    told = []
    compared._on_user = told.append
    opened(compared, "sasrec", "recall@10")
    assert compared.cell == ("sasrec", "recall@10")
    rows = compared.slices("sasrec", "recall@10")
    assert set(page(compared).buttons) == {"back:", *(f"group:{row}" for row in rows.index)}
    group = opened_group(compared, "repeat or new", "new to the user")
    frame = runs["popularity"].ranks.frame
    expected = set(frame.loc[~frame["seen"], "user"])
    listed = compared.users(*compared.cell, compared.group)
    assert set(listed["user"]) == expected
    assert len(listed) == group["users"] == len(expected)
    names = [words for key, words in page(compared).buttons.items() if key.startswith("user:")]
    assert names == [split.log.users.at[user, "user_id"] for user in listed["user"]]
    press(compared, "user:2")
    assert told == [listed["user"].iat[2]]
    assert compared.user == told[0]
    assert re.search(r"data-press='user:2'[^>]* aria-pressed='true'", compared.table.markup)
    press(compared, "order:reference")
    turned = compared.users(*compared.cell, compared.group, "reference")["user"].tolist()
    names = [words for key, words in page(compared).buttons.items() if key.startswith("user:")]
    assert names == [split.log.users.at[user, "user_id"] for user in turned]
    press(compared, "back:")
    assert compared.group is None
    assert compared.table.next == f"group:{group.name}"  # the focus goes to what was left
    press(compared, "back:")
    assert compared.cell is None
    assert compared.table.next.startswith("cell:")
    assert "back:" not in page(compared).buttons


def test_the_plot_is_beside_the_table_only(compared):
    opened(compared, "sasrec", "ndcg@10")
    assert compared._plot.layout.display == "none"
    press(compared, "back:")
    assert compared._plot.layout.display is None


def test_every_user_of_a_large_group_can_be_reached(runs, split, live, monkeypatch):
    monkeypatch.setattr("seqlab.widgets.compare_systems.LISTED", 7)
    found = widgets.CompareSystems(runs, split)
    found._shown = 7
    opened(found, "sasrec", "ndcg@10")
    opened_group(found, *EVERYBODY)

    def listed():
        return sum(key.startswith("user:") for key in page(found).buttons)

    assert listed() == 7 < LISTED
    for count in (14, 21, 28, 35, 40):
        press(found, "more:")
        assert listed() == count
    assert "more:" not in page(found).buttons


def test_a_button_that_is_gone_does_nothing(compared):
    opened(compared, "sasrec", "ndcg@10")
    before = compared.table.markup
    for key in ("cell:0:0", "user:3", "order:most", "more:"):
        compared.table._handle_custom_msg({"press": key}, [])
    assert compared.table.markup == before
    assert not compared.status.view.value
    press(compared, "back:")
    compared.table._handle_custom_msg({"press": "back:"}, [])
    assert not compared.status.view.value


def test_another_reference_keeps_what_is_open_unless_it_is_that(compared):
    opened(compared, "sasrec", "ndcg@10")
    compared.with_whom.value = "personal_frequency"
    assert compared.cell == ("sasrec", "ndcg@10")
    assert "personal_frequency" in page(compared).words
    compared.with_whom.value = "sasrec"
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


def test_what_is_opened_is_selected_and_what_is_selected_is_a_group(runs, split, live):
    selection = widgets.Selection(split)
    found = widgets.CompareSystems(runs, split, selection=selection)
    board = found.board()
    press(found, f"system:{board['system'].tolist().index('personal_frequency')}")
    ranks = runs["personal_frequency"].ranks.frame
    assert selection.now.users.tolist() == sorted(ranks.loc[ranks["rank"] <= 10, "user"])
    opened(found, "sasrec", "ndcg@10")
    opened_group(found, "repeat or new", "met before")
    assert set(selection.now.users) == set(ranks.loc[ranks["seen"], "user"])
    press(found, "user:0")
    assert selection.now.users.tolist() == [found.users(*found.cell, found.group)["user"].iat[0]]
    press(found, "back:")
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
    users = still.body.rpartition("<tbody>")[2]
    assert users.count("<tr>") == 10
    for label in ("minus popularity", "history length", "popularity of the answer", "repeat or new", "parameters"):
        assert label in found.words


def test_a_difference_is_marked_by_a_sign_where_its_interval_misses_zero(runs, split, report):
    frame = runs["popularity"].ranks.frame
    better, worse = (
        replace(runs["popularity"], ranks=replace(runs["popularity"].ranks, frame=frame.assign(rank=rank)))
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


def test_what_goes_wrong_outside_is_a_sentence(runs, split, live):
    def broken(user):
        raise RuntimeError("<b>the workbench is closed</b>")

    found = widgets.CompareSystems(runs, split, on_user=broken)
    opened(found, "sasrec", "ndcg@10")
    opened_group(found, *EVERYBODY)
    found.table._handle_custom_msg({"press": "user:0"}, [])
    assert "the workbench is closed" in found.status.view.value
    assert "<b>" not in found.status.view.value
