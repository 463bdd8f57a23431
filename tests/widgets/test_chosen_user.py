"""One user for several views: a choice in any of them is shown by all."""

import pytest

from seqlab import widgets
from seqlab.widgets.inputs.picking import user_label


@pytest.fixture
def linked(run, split, live):
    person = widgets.ChosenUser(split)
    maps = person.link(widgets.AttentionView(run, split, user=person.number))
    editor = person.link(widgets.HistoryEditor(run, split, user=person.number))
    lens = person.link(widgets.LogitLens(run, split, user=person.number))
    return person, maps, editor, lens


def shown(person, maps, editor, lens):
    assert user_label(person._split, person.number) == person.menu.value
    assert f"User {person.menu.value}:" in maps.caption()
    assert f"User <bdi>{person.menu.value}</bdi>" in person.about.value
    return {person.number, maps.user.value, editor.history.user, lens.user.value}


def test_a_choice_in_the_menu_of_a_view_is_shown_by_all(linked):
    _, maps, _, lens = linked
    before = shown(*linked)
    maps.user.value = maps.user.options[3][1]
    assert shown(*linked) == {maps.user.options[3][1]} != before
    lens.user.value = lens.user.options[5][1]
    assert shown(*linked) == {lens.user.options[5][1]}


def test_an_id_that_is_typed_is_shown_also_where_no_menu_has_it(linked, split):
    person, maps, *_ = linked
    maps.user.options = maps.user.options[:2]
    person.menu.value = other = user_label(split, next(user for user in person._users[2:] if user != person.number))
    assert len(shown(*linked)) == 1 and maps.user.options[0][0] == other
    number = person.number
    person.menu.value = "nobody"
    assert "nobody&#39; has no test query" in person.status.view.value and person.number == number


def test_the_still_names_the_user_and_what_came_next(split, report):
    titles, answers = (
        split.log.items["title"],
        dict(zip(split.test.user.tolist(), split.test.item.tolist(), strict=True)),
    )
    user = next(user for user, item in answers.items() if titles[item].startswith("Thing"))
    still = widgets.ChosenUser(split, user=user).still()
    assert f"User <bdi>{user_label(split, user)}</bdi>" in still
    assert f"next came <b><bdi>{titles[answers[user]]}</bdi></b>" in still
