"""A selection shared by several views: what it implies, whom it notifies, and the views that follow it."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup

from seqlab import widgets
from seqlab.tokenizers import CodeBook
from tests.synthetic import random_log

SIZES = (3, 4, 5)


@pytest.fixture(scope="session")
def book(split):
    """The first code is the shelf."""
    items = torch.arange(split.n_items + 1)
    return CodeBook(torch.stack([items % 3, items % 4, items % 5], 1), SIZES, name="Shelf(x=1)")


@pytest.fixture
def selection(split, book, live):
    return widgets.Selection(split, book)


def histories(split):
    """user -> the items of the history before the test query."""
    whole = split.test.sequences.items
    return {
        int(split.test.user[row]): set(whole[split.test.start[row] : split.test.end[row]].tolist())
        for row in range(len(split.test))
    }


def pressed(widget, name):
    widget.buttons[name].click()


# implied selections


def test_items_imply_the_users_who_have_one_of_them(selection, split):
    for items in ([3], [7, 2, 7], range(1, split.n_items + 1)):
        selection.select(items)
        expected = {user: len(seen & set(items)) for user, seen in histories(split).items()}
        assert selection.now.items.tolist() == sorted(set(items))
        assert selection.now.users.tolist() == sorted(user for user, count in expected.items() if count)
        assert dict(zip(selection.users.tolist(), selection.counts().tolist(), strict=True)) == expected


def test_users_imply_the_items_of_their_histories_without_the_answers(selection, split):
    seen = histories(split)
    for users in ([5], [9, 1, 4]):
        selection.select(users=users)
        assert selection.now.users.tolist() == sorted(users)
        assert set(selection.now.items.tolist()) == set().union(*(seen[user] for user in users))


def test_a_branch_implies_its_items(selection, book):
    selection.select(codes=(1, 2))
    codes = book.codes[1:, :2].tolist()
    assert selection.now.items.tolist() == [item for item, code in enumerate(codes, 1) if code == [1, 2]]
    assert selection.now.codes == (1, 2)


def test_histories_end_before_the_test_query_in_any_split(live):
    from seqlab.datasets import by_time, cold_items

    log = random_log(3)
    for split in (cold_items(log, 0.3), by_time(log, 4.0, 7.0)):
        selection = widgets.Selection(split)
        for user, seen in histories(split).items():
            selection.select(users=[user])
            assert set(selection.now.items.tolist()) == seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"items": [31]}, "no item with the number 31"),
        ({"items": [0]}, "no item with the number 0"),
        ({"users": [999]}, "no user with a test query with the number 999"),
        ({"codes": (2, 3, 4, 0)}, "one prefix of at most 3 codes"),
        ({"codes": (2, 9)}, "no item has a code that begins with"),
        ({"items": [1], "users": [1]}, "not several of them"),
    ],
)
def test_unknown_arguments_are_refused_and_change_nothing(selection, arguments, message):
    selection.select([3])
    before = selection.now
    with pytest.raises(ValueError, match=message):
        selection.select(**arguments)
    assert selection.now is before


def test_codes_need_a_book(split, report):
    with pytest.raises(ValueError, match="has no code book"):
        widgets.Selection(split).select(codes=(1,))


def test_the_selection_in_words(selection, split):
    assert selection.sentence().startswith("Nothing is selected")
    selection.select(codes=(1, 2))
    users = len(selection.now.users)
    assert selection.sentence() == f"{len(selection.now.items)} items of branch (1, 2), seen by {users} users."
    selection.select([12])
    assert re.match(r"1 item, seen by \d+ users", selection.sentence())
    selection.select(users=[1])
    assert selection.sentence() == f"User u0 and the {len(histories(split)[1])} items seen before the test query."
    assert selection.sentence() in selection.message.value


def test_a_selection_lists_its_items_and_what_sets_them_apart(live):
    from seqlab.datasets import leave_one_out
    from seqlab.datasets.log import make_log

    names = [f"{('soup', 'soap')[item % 2]} {('red', 'green', 'blue')[item % 3]}" for item in range(30)]
    rows = [(user, item % 30, step) for user in range(12) for step, item in enumerate(range(user, user + 30))]
    rows += [(user, 4, -1) for user in range(12)]
    items = pd.DataFrame({"item": range(30), "title": [f"{name} n{at}" for at, name in enumerate(names)]})
    items["aisle"] = [("food", "bath")[item % 2] for item in range(30)]
    events = pd.DataFrame(rows, columns=["user", "item", "timestamp"])
    split = leave_one_out(make_log(events, items=items, title="title", repeats=True))
    selection = widgets.Selection(split)
    soups = split.log.items.index[split.log.items["aisle"] == "food"]
    selection.select(soups)
    assert selection.set_apart() == "aisle food (100% instead of 50%), the words soup"
    listed = BeautifulSoup(selection.message.value, "html.parser")
    titles = [one.get_text() for one in listed.select("li")]
    assert len(titles) == 15 and titles[0] == "soup green n4"  # the most frequent first
    assert "aisle food" in listed.get_text() and "The 15 items" in listed.summary.get_text()
    selection.select(split.log.items.index)
    assert selection.set_apart() == ""
    selection.clear()
    assert not BeautifulSoup(selection.message.value, "html.parser").select("details")


# notifications


def test_a_change_notifies_once_and_no_change_never(selection):
    received = []
    selection.follow(received.append)
    selection.select([4, 2], by="me")
    selection.select([2, 4, 4], by="somebody else")
    assert len(received) == 1
    assert received[0].by == "me"
    selection.clear()
    selection.clear()
    assert len(received) == 2
    assert not received[1]
    assert not received[1].items.size
    assert not received[1].users.size


def test_a_selection_by_a_listener_is_ignored(selection):
    received = []
    selection.follow(lambda now: selection.select([item + 1 for item in now.items]))
    selection.follow(received.append)
    selection.select([4])
    assert [now.items.tolist() for now in received] == [[4]]
    assert selection.now.items.tolist() == [4]
    selection.select([5])
    assert len(received) == 2


def test_a_listeners_error_does_not_stop_the_others(selection):
    from seqlab.widgets.display import StatusLine

    broken, received = StatusLine(), []
    selection.follow(lambda now: 1 // 0, broken)
    selection.follow(received.append)
    selection.select([4])
    assert len(received) == 1
    assert "division" in broken.view.value

    def failing(now):
        raise RuntimeError("no status line")

    selection.follow(failing)
    selection.follow(received.append)
    with pytest.raises(RuntimeError, match="no status line"):
        selection.select([5])
    assert len(received) == 3
    selection._listeners.remove(failing)
    selection.select([6])
    assert selection.now.items.tolist() == [6]


def test_an_interrupted_listener_does_not_stop_later_notifications(selection):
    def interrupted(now):
        raise KeyboardInterrupt

    selection.follow(interrupted)
    with pytest.raises(KeyboardInterrupt):
        selection.select([4])
    selection._listeners.remove(interrupted)
    selection.select([5])
    assert selection.now.items.tolist() == [5]


def test_an_error_of_a_follower_stays_on_its_status_line(split, run, selection, monkeypatch):
    item_map = widgets.ItemMap(run, split, selection=selection)
    monkeypatch.setattr(type(item_map.lasso), "mark", lambda self, items: 1 // 0)
    item_map.picker.found.value = 4
    pressed(item_map, "Select")
    assert "division" in item_map.status.view.value


def test_selections_are_undone_one_by_one(selection):
    received = []
    for items in ([1], [2], []):
        selection.select(items)
    selection.follow(received.append)
    selection.undo_button.click()
    selection.undo_button.click()
    assert [now.items.tolist() for now in received] == [[2], [1]]
    assert all(now.by is None for now in received)  # every view follows
    selection.undo_button.click()
    assert not selection.now
    selection.undo_button.click()
    assert "no earlier selection" in selection.status.view.value
    selection.select([3])
    selection.clear_button.click()
    assert not selection.now
    assert not selection.status.view.value


# the map


def marked(item_map):
    return np.frombuffer(item_map.lasso.marked, dtype=np.int32).tolist()


def drawn_around(item_map, items):
    """What the page sends after a lasso."""
    item_map.lasso._handle_custom_msg({"items": len(items)}, [memoryview(np.array(items, dtype=np.int32).tobytes())])


def test_a_lasso_selects_and_an_empty_one_clears(split, run, selection):
    item_map = widgets.ItemMap(run, split, selection=selection)
    drawn_around(item_map, [9, 4, 7])
    assert selection.now.items.tolist() == [4, 7, 9] == marked(item_map)
    assert selection.now.by is item_map
    drawn_around(item_map, [])
    assert not selection.now
    assert marked(item_map) == []


def test_the_list_of_titles_selects_as_a_lasso_does(split, run, selection):
    item_map = widgets.ItemMap(run, split, selection=selection)
    pressed(item_map, "Select")
    assert "choose an item" in item_map.status.message.lower()
    item_map.picker.found.value = 12
    assert not selection.now  # to look at an item is not to select it
    pressed(item_map, "Select")
    assert selection.now.items.tolist() == [12]
    item_map.picker.found.value = 5
    pressed(item_map, "Add")
    assert selection.now.items.tolist() == [5, 12] == marked(item_map)
    pressed(item_map, "Select with neighbours")
    assert set(selection.now.items.tolist()) == {5, *item_map.neighbours(5)["item"]}
    assert not item_map.status.message


def test_a_click_selects_its_dot(split, run, selection):
    item_map = widgets.ItemMap(run, split, color="shelf", selection=selection)
    trace = item_map.figure.data[1]
    item_map._clicked(trace, SimpleNamespace(point_inds=[2]), None)
    assert selection.now.items.tolist() == [trace.customdata[2]]
    assert list(item_map.figure.data[-1].x) == [trace.x[2]]


def test_another_colour_marks_again_and_keeps_the_tool(split, run, selection):
    selection.select([4])
    item_map = widgets.ItemMap(run, split, color="shelf", selection=selection)
    assert marked(item_map) == [4]  # selected before the map was made
    item_map.figure.layout.dragmode = "select"
    before = item_map.lasso.drawn
    item_map.color.value = "training events"
    assert item_map.lasso.drawn > before
    assert item_map.figure.layout.dragmode == "select"


def test_the_still_of_a_map_leaves_the_selected_in_colour(split, run, book, report):
    selection = widgets.Selection(split, book)
    plain = widgets.ItemMap(run, split).still().to_json()
    assert widgets.ItemMap(run, split, selection=selection).still().to_json() == plain
    selection.select([3, 8, 9])
    figure = widgets.ItemMap(run, split, selection=selection).still()
    inside = [
        item
        for trace in figure.data
        if trace.customdata is not None and trace.type == "scattergl"
        for item in trace.customdata[list(trace.selectedpoints)]
    ]
    assert sorted(inside) == [3, 8, 9]


# the tree


@pytest.fixture
def tree(split, book, selection):
    return widgets.CodeTree(book, split, selection=selection)


def shares(tree):
    """Prefix -> the share written on its branch of a live tree."""
    return shares_in(tree.tree)


def shares_in(shown):
    """Prefix -> the share written on its branch."""
    branches = BeautifulSoup(shown.markup, "html.parser").select(".branch:has(.share)")
    return {one["data-press"]: one.select_one(".share").text for one in branches}


def test_opening_a_branch_selects_its_items(tree, selection, book):
    tree._pressed("2.1")
    assert selection.now.codes == (2, 1)
    assert selection.now.items.tolist() == book.items_of((2, 1)).tolist()
    assert not shares(tree)  # the branch that is open is the selection
    tree.up.click()
    assert selection.now.codes == (2,)
    tree.up.click()
    assert not selection.now


def test_branches_show_their_share_of_a_selection(tree, selection, book):
    selection.select([1, 4, 7, 2, 16])  # first codes 1, 1, 1, 2, 1
    expected = {"1": "80%", "2": "20%"}
    received = shares(tree)
    assert {name: share for name, share in received.items() if "." not in name} == expected
    seconds = torch.unique(book.codes[[1, 4, 7, 2, 16], :2], dim=0, return_counts=True)
    for prefix, count in zip(seconds[0].tolist(), seconds[1].tolist(), strict=True):
        assert received[".".join(map(str, prefix))] == f"{count / 5:.0%}"
    message = {prefix: words for words, prefix in tree.branches.options}
    assert "4 of 5 selected" in message[(1,)]
    assert "1 of 5 selected" in message[(2,)]
    assert "selected" not in message[(0,)]
    assert tree.branches.value is None
    tree.up.click()
    assert "root of the tree" in tree.status.view.value
    assert selection.now.kind == "items"  # a lasso is not lost by leaving what was not open
    selection.clear()
    assert not shares(tree)


def test_shares_follow_into_an_open_branch(tree, selection):
    tree.branches.value = (1,)
    selection.select([1, 4, 2])
    assert shares(tree)["1.1"] == "33%"  # one of three
    selection.undo()  # the tree's own branch, which the tree follows now as anybody does
    assert shares(tree)["1.1"] == "30%"  # three of ten


def test_an_item_of_the_tree_selects_its_whole_branch(tree, selection, book):
    tree.picker.found.value = 25
    assert selection.now.codes == tuple(book.codes[25].tolist())
    assert 25 in selection.now.items


def test_the_still_of_a_tree_shows_the_shares(split, book, report):
    selection = widgets.Selection(split, book)
    selection.select([1, 4, 2])
    assert shares_in(widgets.CodeTree(book, split, selection=selection).still())["1"] == "67%"
    assert not shares_in(widgets.CodeTree(book, split).still())


# the users


def test_a_selection_restricts_the_list_of_users(split, run, selection):
    users = widgets.UserList(split, selection, run)
    assert len(users.listed.options) == len(split.test)
    selection.select([3, 8])
    expected = {user: len(seen & {3, 8}) for user, seen in histories(split).items() if seen & {3, 8}}
    frame = users.frame()
    assert frame["selected"].to_dict() == expected
    assert list(frame["selected"]) == sorted(expected.values(), reverse=True)
    assert {user for _, user in users.listed.options} == set(expected)
    users.order.value = "rank"
    assert list(users.frame()["rank"]) == sorted(run.outcome.frame.set_index("user").loc[list(expected), "rank"])
    users.order.value = "events"
    assert users.frame()["events"].is_monotonic_decreasing
    selection.clear()
    assert len(users.listed.options) == len(split.test)


def test_a_user_is_found_by_id_and_picked(split, run, selection):
    users = widgets.UserList(split, selection, run)
    users.search.value = " U1"
    names = [label.split()[0] for label, _ in users.listed.options]
    assert names
    assert all("u1" in name for name in names)
    picked = users.listed.options[1][1]
    users.listed.value = picked
    assert selection.now.users.tolist() == [picked]
    assert set(selection.now.items.tolist()) == histories(split)[picked]
    assert len(users.listed.options) == len(names)  # to pick does not shorten the list one picks from
    users.listed.value = users.listed.options[2][1]
    selection.undo()  # nor does Undo, back to the pick before
    assert len(users.listed.options) == len(names)
    assert users.listed.value == users.picked == picked
    selection.select([3, 8])
    assert "users of the selection" in users.message.value
    selection.undo()  # and past a selection made elsewhere
    assert len(users.listed.options) == len(names) and users.listed.value == picked
    other = widgets.UserList(split, selection)
    assert [user for _, user in other.listed.options] == [picked]
    assert "rank" not in dict(map(reversed, other.order.options))
    users.search.value = "nobody of this name"
    assert not users.listed.options
    assert "0 of" in users.message.value
    users.search._handle_custom_msg({"event": "submit"}, [])
    assert "no user of the list has" in users.status.message.lower()
    selection.clear()
    for typed in (" U1", "3"):  # the id itself, else the first one with it
        users.search.value = typed
        first = "u1" if typed == " U1" else users.frame()["user"].iloc[0]
        users.search._handle_custom_msg({"event": "submit"}, [])
        assert split.log.users.at[users.picked, "user_id"] == first and not users.status.message


def test_the_browser_walks_through_the_users_of_a_selection(split, run, selection):
    browser = widgets.UserBrowser(run, split, selection=selection)
    assert "Pick a user" in browser.card_view.value
    selection.select([3, 8])
    users = browser.list.users.tolist()
    assert set(users) == set(selection.now.users.tolist())
    assert browser.position.max == len(users)
    browser.next.click()
    assert selection.now.users.tolist() == [users[0]]
    assert browser.list.listed.value == users[0]
    first = browser.card_view.value
    browser.next.click()
    assert selection.now.users.tolist() == [users[1]]
    assert browser.list.users.tolist() == users
    assert browser.card_view.value != first
    browser.list.listed.value = users[0]
    assert browser.position.value == 1
    assert browser.card_view.value == first
    alone = next(user for user in selection.users.tolist() if user not in users)
    selection.select(users=[alone])  # who was pressed in another view is shown at once
    assert f"User <bdi>{split.log.users.at[alone, 'user_id']}</bdi>" in browser.card_view.value
    assert browser.position.value == browser.position.max == 1
    selection.select(users=[one for one in selection.users.tolist() if one not in (alone, users[0])][:2])
    assert "Pick a user" in browser.card_view.value  # of several nobody is
    assert browser.position.value == 0
    assert not browser.status.view.value
    assert not browser.list.status.view.value


def test_cards_are_made_once(split, run, selection, monkeypatch):
    browser = widgets.UserBrowser(run, split, selection=selection)
    made = []
    card = browser.card
    monkeypatch.setattr(browser, "card", lambda user: made.append(user) or card(user))
    browser.next.click()
    selection.select([3, 8])
    selection.undo()
    browser.list.order.value = "events"
    assert len(made) <= 2
    assert len(set(made)) == 1


def test_stills_of_users_show_those_of_the_selection(split, run, book, report):
    from seqlab.widgets.inputs.picking import user_label

    selection = widgets.Selection(split, book)
    selection.select(users=[2, 11])
    cards = widgets.UserBrowser(run, split, users=5, selection=selection).still()
    assert cards.count("class='card'") == 2
    assert "2 users" in cards
    listed = widgets.UserList(split, selection, run).still()
    for user in (2, 11):
        name = f"<bdi>{user_label(split, user)}</bdi>"
        assert name in listed
        assert f"User {name}" in cards


def test_all_views_follow_each_other(split, run, book, selection):
    item_map = widgets.ItemMap(run, split, selection=selection)
    tree = widgets.CodeTree(book, split, selection=selection)
    users = widgets.UserList(split, selection, run)
    received = []
    selection.follow(received.append)
    drawn_around(item_map, [3, 8, 9])
    tree.branches.value = (1,)
    users.listed.value = users.listed.options[0][1]
    assert [now.kind for now in received] == ["items", "codes", "users"]
    assert marked(item_map) == selection.now.items.tolist()
    assert shares(tree)
    selection.undo()
    assert marked(item_map) == book.items_of((1,)).tolist()
    for view in (item_map, tree, users, selection):
        assert not view.status.view.value


def test_hostile_names_stay_text(run, live):
    from dataclasses import replace

    log = random_log(0)
    from seqlab.datasets import leave_one_out

    names = log.users.assign(user_id=[f"<b>{user}</b><script>alert(1)</script>" for user in log.users.index])
    split = leave_one_out(replace(log, users=names))
    selection = widgets.Selection(split)
    users = widgets.UserList(split, selection)
    selection.select(users=[int(selection.users[0])])
    for html in (selection.message.value, users.message.value, users.still(), json.dumps(selection.still().markup)):
        assert "<script" not in html
        assert "<b>" not in html
