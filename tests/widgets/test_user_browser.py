"""Typed histories, Why, WhatWouldChange and Patching, operated through their controls."""

import asyncio
import dataclasses
import math
import re

import pytest
import torch

from seqlab import widgets
from seqlab.datasets import DataError
from seqlab.datasets.history import history_of, typed_history
from seqlab.figures.html import text
from seqlab.inspection import edits, influence, patched
from seqlab.tasks import next_item
from seqlab.widgets.inputs.picking import user_label
from tests.widgets.conftest import HOSTILE
from tests.widgets.markup import TAGS


@pytest.fixture(scope="module")
def user(split):
    lengths = split.test.end - split.test.start
    return int(split.test.user[lengths.argmax()])


@pytest.fixture(scope="module")
def history(split, user):
    return history_of(split, user, longest=8)


def enter(box):
    """Send what the browser sends for Enter."""
    box._handle_custom_msg({"event": "submit"}, [])


def ids(split, items):
    return [str(split.log.items["item_id"].loc[item]) for item in items]


def test_a_typed_history_is_edited_and_undone(run, split, user, live):
    editor = widgets.HistoryEditor(run, split, user=user)
    true = editor.history
    editor.typed.text.value = "thing 20\n" + ids(split, [12])[0] + "\n" + HOSTILE[8]
    editor.typed.button.click()
    assert editor.history.items.tolist() == [20, 12, 8]
    said = [text(split.log.items.at[item, "title"], 60) for item in (20, 12, 8)]
    assert f"Read as: {' · '.join(said)}<" in editor.typed.message.value
    assert "(typed in)" in editor.message.value and "no edit yet" in editor.message.value
    assert not editor.before.value  # nothing to compare with yet
    assert not any(word.count("-") >= 2 for word, _ in editor.events.options)  # its times are not shown
    editor.buttons["Drop"].click()
    assert "With the typed history" in editor.before.value and "the typed history" in editor.message.value
    ranking = editor.rankings(editor.history)["sasrec"]
    typed = typed_history(split, ids(split, [20, 12, 8]))
    assert ranking["item"].tolist() == influence.rerank(run.model, typed, typed.drop(2))["item"].tolist()
    editor.buttons["Reset"].click()
    assert editor.history.items.tolist() == [20, 12, 8]
    for _ in range(3):
        editor.buttons["Undo"].click()
    assert editor.history is true and f"User {user_label(split, user)}" in re.sub("<.*?>", "", editor.message.value)


def test_an_unreadable_history_is_an_error_and_changes_nothing(run, split, user, live):
    editor = widgets.HistoryEditor(run, split, user=user)
    before = editor.history
    for typed, message in (
        ("<img src=x onerror=alert(2)> !", "line 1"),
        ("", "the text is empty"),
        ("Thing", "any of"),
    ):
        editor.typed.text.value = typed
        editor.typed.button.click()
        assert message in editor.status.message.lower()
        assert not TAGS.search(editor.status.message)
        assert editor.history is before and not editor.typed.message.value
        assert editor.typed.view.children[2].value == editor.status.message  # below the button
    editor.buttons["Undo"].click()
    assert "nothing to undo" in editor.status.message
    with pytest.raises(DataError, match="not an id or part of a title"):
        widgets.HistoryEditor(run, split, history="quokka")


def test_the_editor_begins_with_a_typed_user_in_a_report_too(run, split, report):
    editor = widgets.HistoryEditor(run, split, history=ids(split, [5, 7, 3]))
    assert editor.history.items.tolist() == [5, 7, 3]
    body = editor.still()
    assert "(typed in)" in body and body.count("<table>") == 4
    editor.read(ids(split, [4] * 12))
    assert len(editor.history) == 8 and "4 earlier ones not" in editor.still()


def test_enter_adds_the_first_match(run, split, user, live):
    editor = widgets.HistoryEditor(run, split, user=user)
    enter(editor.picker.search)
    assert "search for one" in editor.status.message
    editor.picker.search.value = "no such <b>thing</b>"
    enter(editor.picker.search)
    assert "no title contains" in editor.status.message.lower() and "<b>" not in editor.status.message
    editor.picker.search.value = "thing 23"
    enter(editor.picker.search)
    assert int(editor.history.items[-1]) == 23 and not editor.status.message


def test_listeners_are_called_for_every_edit(run, split, user, history, live):
    editor, set_subject = widgets.HistoryEditor(run, split, user=user), []
    editor.follow(set_subject.append)
    for name in ("Drop", "Move earlier", "Undo", "Reset", "Undo"):
        editor.buttons[name].click()
        assert set_subject[-1] is editor.history
    editor.read("thing 20")
    assert set_subject[-1].items.tolist() == [20]
    assert len(set_subject) == 6
    editor.show(history)
    assert len(set_subject) == 6 and editor.history.items.tolist() == history.items.tolist()


def test_an_edit_costs_one_forward_pass(run, split, user, live, monkeypatch):
    editor, passes, score = widgets.HistoryEditor(run, split, user=user), [], run.model.score
    monkeypatch.setattr(run.model, "score", lambda batch: passes.append(len(batch)) or score(batch))
    editor.buttons["Drop"].click()
    assert len(passes) == 1
    folded = editor.before.value
    first = influence.rerank(run.model, editor._original, editor._original)
    rows = re.findall(r"<tr.*?</tr>", folded)
    assert len(rows) == len(first)
    assert all(text(editor._titles[item], 60) in row for item, row in zip(first["item"], rows, strict=True))
    editor.buttons["Move earlier"].click()
    assert editor.before.value == folded  # unchanged, so that it stays open in the page


@pytest.mark.parametrize("seen_filter", [False, True])
def test_rankings_without_scores_are_compared_up_to_k(tigers, split, history, seen_filter):
    model = tigers[0].model
    other = history.drop(0, 2)
    old, new = (influence.lists_of(model, [one], 5, seen_filter).items[0].tolist() for one in (history, other))
    frame = influence.rerank(model, history, other, 5, seen_filter).set_index("item")
    assert [item for item in new if item] == frame.index[: sum(map(bool, new))].tolist()
    assert set(frame.index) == {*old, *new} - {0}
    for item, row in frame.iterrows():
        assert row["was"] == old.index(item) + 1 if item in old else math.isnan(row["was"])
        if item not in new:
            assert math.isnan(row["rank"])
            assert row["status"] == ("filtered" if seen_filter and item in other.items else "left")
    assert set(influence.rerank(model, history, history, 5, seen_filter)["status"]) == {"same"}


def test_two_systems_in_one_editor_each_read_what_they_can(run, tigers, split, user, live):
    short = dataclasses.replace(tigers[0], system="tiger")
    editor = widgets.HistoryEditor({"one": run, "two": short}, split, user=user)
    editor.buttons["Drop"].click()
    assert editor.lists.value.count("<table>") == 2 and editor.before.value.count("<table>") == 2
    for label, one in {"one": run, "two": short}.items():
        alone = influence.rerank(one.model, editor.original, editor.history, seen_filter=one.seen_filter)
        assert editor.rankings(editor.history)[label]["item"].tolist() == alone["item"].tolist()
        new, moved = (alone["status"].isin(kinds).sum() for kinds in (["new"], ["up", "down"]))
        words = [f"{new} new"] * bool(new) + [f"{moved} moved"] * bool(moved)
        assert f"{label} now: {', '.join(words) or 'no change'}<" in editor.lists.value
    assert "the most influential of the others to one" in editor.still()


def test_a_system_without_scores_has_an_editor_but_no_why(tigers, split, user, live):
    editor = widgets.HistoryEditor(tigers[0], split, user=user)
    for _ in range(3):
        editor.buttons["Drop"].click()
    assert not editor.status.message and "tiger now" in editor.lists.value
    assert "without the last event" in editor.still()
    for widget in (widgets.Why, widgets.Patching):
        with pytest.raises(ValueError, match=r"a system that scores.*, which tiger is not"):
            widget(tigers[0], split)
    assert widgets.WhatWouldChange(tigers[0], split, user).still()


def test_why_shows_influence_attention_and_surprise(run, split, history, live):
    why = widgets.Why(run, split, history=history)
    listed = influence.rerank(run.model, history, history)["item"].tolist()
    assert [item for _, item in why.item_choice.options] == listed
    item = why.item_choice.options[3][1]
    why.item_choice.value = item
    worth = influence.leave_one_out(run.model, history, item)["value"]
    best = int(worth.idxmax())
    assert f"Event {best + 1}, " in why.message.value and f"({worth[best]:+.2f}: without it, " in why.message.value
    assert all(f"<span>{value:+.2f}</span>" in why.message.value for value in worth)
    assert "Spearman" in why.message.value and why.message.value.count("class='marked'") == 1
    why.show(history.drop(0))
    assert why.item == item and why.item_choice.value == item and not why.status.view.value
    why.show(typed_history(split, ["Thing 20", "Thing 21"]))
    assert why.item == why.item_choice.options[0][1] and "(typed in)" in why.message.value


def test_the_jump_shows_the_prediction_before_the_most_surprising_event(run, split, history, live):
    why = widgets.Why(run, split, history=history)
    assert not why.expected.value
    why.jump.click()
    surprises = influence.surprise(run.model, history)
    at = surprises.attrs["position"]
    row = surprises.set_index("position").loc[at]
    assert at == int(surprises.loc[surprises["value"].idxmax(), "position"]) == why.most_surprising
    before = history.drop(*range(at, len(history)))
    assert why.history_before(at).items.tolist() == before.items.tolist()
    scores = influence.scores_of(run.model, [before])[0]
    shown = why.expected.value
    for item in scores.topk(10).indices.tolist():
        assert widgets.why.text(why._titles[item], 60) in shown
    assert f"rank {row['rank']:,.10g} of 30" in shown and f"surprise {row['value']:.2f})" in shown
    other = 2 if at != 1 else 3
    why.at.value = other
    assert f"before event {other}<" in why.expected.value
    why.jump.click()
    assert f"before event {at + 1}<" in why.expected.value


def test_a_single_event_is_no_error(run, split, history, live):
    one = history.last(1)
    why = widgets.Why(run, split, history=one)
    assert "add a second" in why.message.value and why.jump.disabled
    why.show(history)
    assert not why.jump.disabled and why.at.max == len(history)
    why.show(one)
    assert why.jump.disabled and not why.expected.value and not why.status.view.value
    changing = widgets.WhatWouldChange(run, split, history=one)
    changing.buttons["Take it out"].click()
    assert "No edit was found" in changing.message.value
    assert widgets.HistoryEditor(run, split, history=ids(split, [5])).still().count("<table>") == 1


def test_attention_to_the_parts_of_an_event_is_summed(split, history, live):
    from types import SimpleNamespace

    from seqlab import models, tracing
    from seqlab.training.fit import prepare
    from tests.synthetic import small

    model = models.build("setrec", split.n_items, small("setrec"))
    prepare(model, split)
    run = SimpleNamespace(model=model.eval(), system="setrec", seen_filter=False)
    why = widgets.Why(run, split, history=history)
    with tracing.watch(model, "attention") as trace:
        influence.scores_of(model, [why.history])
    weights = trace["attention"].values[0].mean(0)[-3:].mean(0)  # of the three queries, at every token
    events = [float(weights[3 * at : 3 * at + 3].sum()) for at in range(len(why.history))]
    assert len(set(events)) > 1
    assert "attention of the queries for the next item" in why.message.value
    for share in events:
        assert f"{share:.1%}" in why.message.value


def test_the_smallest_edit_is_shown(run, split, history, live):
    changing = widgets.WhatWouldChange(run, split, history=history)
    assert "Choose an item" in changing.progress.value and changing.buttons["Cancel"].disabled
    order = influence.scores_of(run.model, [history])[0].argsort(descending=True).tolist()
    changing.out.value = order[9]
    changing.buttons["Take it out"].click()
    found = edits.smallest_edit(run.model, history, order[9], False)
    assert changing.edit.dropped == found.dropped and found.found
    assert f"from rank 10 to rank {found.rank_after:,.10g}, out of the top 10" in changing.message.value
    assert changing.message.value.count(">dropped<") == len(found.dropped)
    assert f"{found.scored:,} histor" in changing.message.value and "(certain)" in changing.message.value
    assert changing.message.value.endswith(f"{changing.still().split('</div>', 1)[1]}</div>")
    enter(changing.picker.search)
    assert "search for one" in changing.status.message
    changing.picker.found.value = order[10] if order[10] in dict(map(reversed, changing.picker.found.options)) else None
    changing._start_search(order[10])
    assert changing.edit.into and "rank 11" in changing.message.value and changing.buttons["Cancel"].disabled


def test_a_cancelled_search_shows_its_best_edit(run, split, history, live, monkeypatch):
    monkeypatch.setattr(next_item, "MAX_SCORES", 4 * 31)  # four histories in a pass
    changing = widgets.WhatWouldChange(run, split, history=history)
    last = influence.scores_of(run.model, [history])[0].argsort()[1].item()

    async def person():
        changing._start_search(last)
        assert not changing.buttons["Cancel"].disabled
        for _ in range(500):
            await asyncio.sleep(0.001)
            if changing.edit is not None and changing.edit.passes >= 4:
                break
        assert "histories in" in changing.progress.value
        changing.buttons["Cancel"].click()
        message, passes = changing.message.value, changing.edit.passes
        await asyncio.sleep(0.05)
        assert changing.message.value == message and changing.edit.passes == passes  # it has stopped
        assert "Stopped while" in message and "may exist" in message and not changing.progress.value
        changing._start_search(last)
        changing.show(history.drop(0))
        await asyncio.sleep(0.05)
        assert changing.edit is None and not changing.message.value  # the old search is discarded

    asyncio.run(person())
    assert not changing.status.view.value


def test_the_last_step_of_a_search_is_the_smallest_edit(run, history):
    item = influence.scores_of(run.model, [history])[0].argsort(descending=True).tolist()[14]
    for exact_up_to in (0, 12):
        steps = list(edits.edit_search(run.model, history, item, True, exact_up_to=exact_up_to))
        answer = edits.smallest_edit(run.model, history, item, True, exact_up_to=exact_up_to)
        assert (steps[-1].dropped, steps[-1].message) == (answer.dropped, answer.message)
        assert not any(step.exact for step in steps[:-1])
        assert [step.scored for step in steps] == sorted(step.scored for step in steps)


def test_an_impossible_item_is_shown_as_an_error(run, split, history, live):
    about = {**run.outcome.about, "seen_filter": True}
    seen = dataclasses.replace(run, outcome=dataclasses.replace(run.outcome, about=about))
    seen_item = int(history.items[0])
    kept = dataclasses.replace(history, earlier=torch.tensor([seen_item]))
    changing = widgets.WhatWouldChange(seen, split, history=kept)
    changing.status.guard(changing._start_search)(seen_item)
    assert "the seen filter removes it" in changing.status.view.value and changing.buttons["Cancel"].disabled


def test_a_cell_is_patched_by_click_and_by_keyboard(run, split, history, live):
    patching = widgets.Patching(run, split, history=history)
    other = patching.other
    assert patching.figure.data[0].z.shape == (len(patching.tap.options), min(len(history), len(other)))
    tap, from_end = patching.best()
    assert patching.grid["recovered"].max() == pytest.approx(
        patched(run.model, history, other, tap, [-1 - from_end]).recovered, abs=1e-4
    )
    patching.tap.value = patching.tap.options[0]
    patching.place.value = 2
    keyboard = patching.message.value
    found = patched(run.model, history, other, patching.tap.value, [-3], patching.item)
    assert f"to {math.exp(found.after):.2%} (the other" in keyboard
    assert (patching.figure.data[1].x[0], patching.figure.data[1].y[0]) == (2, 0)
    patching.place.value = 0
    assert patching.message.value != keyboard
    from plotly.callbacks import InputDeviceState, Points

    heatmap = patching.figure.data[0]
    click = Points(point_inds=[[0, 2]], xs=[2], ys=[0], trace_name=heatmap.name, trace_index=0)
    for callback in heatmap._click_callbacks:
        callback(heatmap, click, InputDeviceState())
    assert patching.message.value == keyboard and not patching.status.view.value


def test_the_other_user_is_chosen_or_typed(run, split, history, live):
    patching = widgets.Patching(run, split, history=history)
    before = patching.about.value
    patching.user.value = next(name for name in patching.user.options if name != patching.user.value)
    assert patching.about.value != before and patching.user.value in patching.about.value
    patching.user.value = "<b>nobody</b>"
    assert "has no test query" in patching.status.view.value and "<b>nobody" not in patching.status.view.value
    patching.typed.text.value = "thing 20\nthing 21"
    patching.typed.button.click()
    assert patching.other.items.tolist() == [20, 21] and patching.place.max == 1
    assert "aligned at the end" in patching.about.value and not patching.status.message
    patching.show(history.drop(1))
    assert patching.history.items.tolist() == history.drop(1).items.tolist() and len(patching.other) == 2


def test_patching_with_oneself_has_no_way_to_go(run, split, history, live):
    patching = widgets.Patching(run, split, history=history, source=history)
    assert "choose another user" in patching.about.value
    assert patching.still().data and not patching.status.view.value


def test_the_other_user_changes_if_it_becomes_the_user(run, split, history, live):
    patching = widgets.Patching(run, split, history=history)
    other = patching.other
    patching.show(other)
    assert patching.history.user == other.user != patching.other.user
    kept = patching.other
    patching.show(history)
    assert patching.other is kept


def test_a_state_without_positions_is_patched_whole(rearec, split, history, live):
    view = widgets.Patching(rearec, split, history=history)
    rows = view.grid[view.grid["kind"] == "reasoning_step"]
    assert rows["from_end"].tolist() == [0, 0, 0] and "reasoning" not in {*view.grid["tap"]}
    last = rows.iloc[-1]
    assert last["recovered"] == pytest.approx(1, abs=1e-4)  # the state that the scores are made from
    words = view.result(last["tap"], 0)
    assert f"With {last['tap']} replaced" in words and "100% recovered" in words


def test_hostile_titles_stay_text_wherever_a_history_is_shown(run, split, live):
    hostile = typed_history(split, ids(split, range(1, 9)))
    changing = widgets.WhatWouldChange(run, split, history=hostile)
    patching, editor = widgets.Patching(run, split, history=hostile), widgets.HistoryEditor(run, split, history=hostile)
    for item in (1, 2, 4, 8):
        changing._start_search(item)
        why = widgets.Why(run, split, history=hostile, item=item)
        patching._item = item
        patching.show(hostile)
        shown = [changing.message.value, why.caption(), why.prediction_before(1).markup, why.still().markup]
        shown += [patching.still().to_json(), patching.about.value, patching.message.value]
        for markup in (*shown, editor.still().markup, editor.lists.value):
            assert not TAGS.search(markup.replace("\\u003c", "<"))
            assert "\u202e" not in markup
        assert not patching.status.view.value and patching.item == item
    assert "&lt;script&gt;" in why.message.value and "שלום" in why.message.value
