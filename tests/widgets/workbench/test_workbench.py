"""The workbench operated through its controls, its state and its stills."""

import asyncio
import json
import re
from dataclasses import replace

import ipywidgets
import pytest
import torch

from seqlab import widgets
from seqlab.contracts import Scores
from seqlab.datasets import history
from seqlab.figures.html import Html
from seqlab.inspection import influence
from seqlab.runs import pins
from seqlab.runs.find import finished_runs
from seqlab.widgets.display import displayed
from seqlab.widgets.inputs.picking import user_label
from seqlab.widgets.workbench.pages import HISTORY, OTHER
from seqlab.widgets.workbench.tabs import Tabs

INSIDE = ["Attention and memory", "Layers", "Decoding", "Neighbours"]
"""The other tabs of a SASRec and a TIGER."""


@pytest.fixture
def bench(run, tigers, split, live):
    return widgets.Workbench([run, tigers[0]], split, user=3)


@pytest.fixture(scope="module")
def folder(split, tmp_path_factory):
    """Two finished runs, a folder of other files, and an unfinished run."""
    from seqlab import models
    from seqlab.optimization.options import Options
    from seqlab.training.fit import fit

    home = tmp_path_factory.mktemp("runs")
    for name, settings in {
        "sasrec": {"max_length": 8, "dim": 16, "layers": 1, "heads": 2},
        "gru4rec": {"max_length": 6, "dim": 16},
    }.items():
        model = models.build(name, split.n_items, settings)
        fit(model, split, Options(epochs=1, tokens=128), home / split.log.name / name)
    (home / "other").mkdir()
    for name in ("provenance.json", "config.json", "metrics.json", "model.safetensors"):
        (home / "other" / name).write_text("[]")
    (home / split.log.name / "x.partial").mkdir()
    return home


def history_page(bench):
    return bench.views.tabs.made["History editor"]


def opened(bench, tab):
    bench.views.tabs.buttons.value = tab
    assert not bench.views.tabs.status.view.value
    return bench.views.tabs.made[tab]


def columns(bench, tab, view):
    """The columns of a view on its tab, which has tabs of its own if several views are of its topic."""
    page = opened(bench, tab)
    if not isinstance(page, Tabs):
        return page
    page.buttons.value = view
    assert not page.status.view.value
    return page.made[view]


def numbers(still):
    """A still without plotly's random ids."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "", still)


def test_a_page_is_created_when_opened_and_only_the_open_one_is_updated(bench, monkeypatch):
    assert set(bench.views.tabs.made) == {"History editor"}
    page = opened(bench, "Attention and memory")
    calls = []
    monkeypatch.setattr(page, "show", lambda subject: calls.append(subject.original.user))
    bench.open(5)
    assert calls == [5]
    assert history_page(bench)._subject.original.user == 3
    opened(bench, "History editor")
    assert history_page(bench)._subject.original.user == 5
    bench.open(7)
    assert calls == [5]


def test_quick_edits_are_debounced(bench, monkeypatch):
    page = history_page(bench)
    why, calls = page.questions.page("Why"), []
    monkeypatch.setattr(why, "show", lambda subject: calls.append(len(subject.current)))
    length = len(bench.views.subject.original)

    async def edits():
        for _ in range(2):
            page.editor.buttons["Drop"].click()
            assert "Working out" in page.questions.progress.value
        assert len(bench.views.subject.current) == length - 2  # the lists are not debounced
        assert calls == []
        while not calls:
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(edits(), 20))
    assert calls == [length - 2]
    assert not page.questions.progress.value
    page.editor.buttons["Undo"].click()  # without an event loop
    assert calls == [length - 2, length - 1]


def test_every_tab_shows_the_views_and_systems_that_fit_and_the_last_one_names_others(bench):
    fitting = {view.topic for run in bench.runs.values() for view in widgets.fitting(run)}
    assert {*bench.views.tabs.names} == {*fitting, OTHER} and {HISTORY, *INSIDE} <= fitting
    assert bench.views.tabs.names[0] == HISTORY and bench.views.tabs.names[-1] == OTHER
    shown = {
        "Why": history_page(bench).questions.page("Why"),
        "Attention": columns(bench, "Attention and memory", "Attention"),
        "Beam steps": columns(bench, "Decoding", "Beam steps"),
        "Neighbours": columns(bench, "Neighbours", "Neighbours"),
    }
    assert {name: list(page.widgets) for name, page in shown.items()} == {
        "Why": ["sasrec"], "Attention": ["sasrec", "tiger"], "Beam steps": ["tiger"], "Neighbours": ["sasrec"]
    }  # fmt: skip
    assert not any(page.errors for page in shown.values())
    assert widgets.BeamSteps.question in shown["Beam steps"].stills()[0]
    assert "Not shown: <bdi>tiger</bdi>. It takes a system that scores." in shown["Why"].stills()[-1]
    (others,) = opened(bench, OTHER).stills()
    row = next(row for row in others.split("<tr") if widgets.ReasoningSteps.question in row)
    assert "a system that recommends and reasons and has item vectors" in row
    assert "rearec" in row and "sasrec" not in row and widgets.BeamSteps.question not in others


def test_a_new_view_is_a_tab_without_a_word_in_the_workbench(bench, run, split, tigers, live, monkeypatch):
    @displayed
    class LastEvent:
        question, needs = "What came last?", (Scores,)

        def __init__(self, run, split, user=None, seed=0, history=None):
            self.show(history)
            self.view = ipywidgets.HTML()

        def show(self, history):
            self.shown = int(history.items[-1])

        def still(self):
            return Html("<p>{}</p>").format(self.shown)

    monkeypatch.setitem(widgets.HOMES, "elsewhere", ["LastEvent"])
    monkeypatch.setattr(widgets, "LastEvent", LastEvent, raising=False)
    bench = widgets.Workbench([run, tigers[0]], split, user=3, tab="Last event")
    assert list(bench.views.tabs.made["Last event"].widgets) == ["sasrec"]
    bench.open(5)
    last = int(history.history_of(split, 5).items[-1])
    assert bench.views.tabs.made["Last event"].widgets["sasrec"].shown == last
    assert f"<p>{last}</p>" in bench.still() and "What came last?" in bench.still()
    assert LastEvent in widgets.fitting(run) and LastEvent not in widgets.fitting(tigers[0])


def test_a_user_picked_in_the_list_is_opened_and_the_pick_undone(bench, split):
    first, second = user_label(split, 9), user_label(split, 4)
    bench.views.users.listed.value = 9
    assert bench.state()["user"] == first
    assert bench.state()["selection"] == {"users": [first]}
    assert f"User <bdi>{first}" in bench.views.header.value
    bench.views.users.listed.value = 4
    assert bench.state()["user"] == second
    bench.views.selection.undo_button.click()
    assert bench.state()["user"] == first
    bench.views.selection.undo_button.click()
    assert bench.state()["user"] == user_label(split, 3)  # the first user
    bench.open(first)
    bench.views.map.picker.found.value = 12
    bench.views.map.buttons["Select"].click()
    assert bench.state()["user"] == first  # selecting items does not change the user


def test_a_choice_of_a_user_hides_the_views_to_choose_from_and_gives_all_room_to_the_lists(bench, run, split):
    views = bench.views
    assert views.chooser.layout.display == "none"  # a user was given
    views.choose.value = True
    assert views.chooser.layout.display == "flex"
    views.map.picker.found.value = 12
    views.map.buttons["Select"].click()
    assert views.choose.value  # one goes on to choose among the users of these items
    views.users.listed.value = listed = int(views.users.users[1])
    assert views.chooser.layout.display == "none" and views.subject.original.user == listed
    views.next.click()
    assert views.subject.original.user == int(views.users.users[2]) and not views.choose.value
    views.previous.click()
    views.previous.click()
    assert views.subject.original.user == int(views.users.users[0])
    views.previous.click()
    assert "first user" in views.status.message and views.subject.original.user == int(views.users.users[0])
    assert widgets.Workbench([run], split).views.choose.value  # nobody was chosen yet


def test_an_edit_applies_to_all_runs_up_to_their_maximum_length(bench, run, tigers, split):
    page = history_page(bench)
    before = page.editor.lists.value
    length = bench.views.subject.original
    page.editor.events.index = len(length) - 1
    page.editor.buttons["Drop"].click()
    now = length.drop(len(length) - 1)
    assert bench.views.subject.current.items.tolist() == now.items.tolist()
    assert page.editor.lists.value != before and page.editor.lists.value.count("<table>") == 2
    assert "edited" in bench.views.header.value
    expected = influence.rerank(tigers[0].model, length, now, seen_filter=tigers[0].seen_filter)
    assert bench.top_tens()["tiger"]["item"].tolist() == expected["item"].tolist()
    beam = columns(bench, "Decoding", "Beam steps").widgets["tiger"]
    assert beam._history.items.tolist() == now.items.tolist()[-8:]
    bench.open(3)  # the shown user keeps the edits
    assert bench.views.subject.current.items.tolist() == now.items.tolist()


def test_a_typed_history_is_shown_in_every_tab(bench, split):
    page = history_page(bench)
    page.editor.read(["4", "8", "15"])
    assert bench.views.subject.original.user == 0
    assert bench.state()["user"] == ""
    assert bench.state()["typed"] == ["4", "8", "15"]
    assert bench.state()["history"] == []
    for tab in INSIDE:
        opened(bench, tab)
    assert "(typed in)" in columns(bench, "Decoding", "Beam steps").widgets["tiger"].caption()
    assert not columns(bench, "Attention and memory", "Attention").errors
    bench.open(3)
    assert bench.state()["user"] == user_label(split, 3)


def test_reasoning_of_a_typed_and_of_an_edited_history(rearec, split, live):
    bench = widgets.Workbench([rearec], split, user=3, tab="Reasoning")
    steps = columns(bench, "Reasoning", "Reasoning steps").widgets["rearec"]
    whole = widgets.ReasoningSteps(rearec, split, user=3)
    assert steps.measures()["rank"].tolist() == pytest.approx(whole.measures()["rank"].tolist())
    assert steps.stop == whole.stop
    found = whole.step_ranks.frame[whole.step_ranks.frame["user"] == 3]
    assert steps.measures()["kl"].tolist()[1:] == pytest.approx(found["kl"].tolist()[1:], abs=1e-5)
    typed = history.typed_history(split, ["4", "8"])
    steps.show(typed)
    assert "The scored item is" in steps.caption()
    assert steps.measures()["rank"].iloc[-1] == 1
    assert not steps.status.view.value


def test_a_column_shows_its_own_error(bench, monkeypatch):
    page = columns(bench, "Decoding", "Beam steps")
    monkeypatch.setattr(page.widgets["tiger"], "show", lambda now: 1 // 0)
    bench.open(6)
    assert "division" in page.places["tiger"].children[1].value
    assert page.widgets["tiger"].view.layout.display == "none"
    monkeypatch.undo()
    bench.open(7)
    assert not page.places["tiger"].children[1].value
    assert page.widgets["tiger"].view.layout.display is None


def test_an_interrupted_page_is_created_when_opened_again(bench, monkeypatch):
    def interrupted(subject):
        raise KeyboardInterrupt

    make = bench.views.tabs._makers["Decoding"]
    bench.views.tabs._makers["Decoding"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.views.tabs.buttons.value = "Decoding"
    assert "Stopped" in bench.views.tabs.progress.value
    bench.views.tabs._makers["Decoding"] = make
    opened(bench, "Neighbours")
    assert columns(bench, "Decoding", "Beam steps").widgets


# the state


CASES = {
    "a user": {"user": "u4", "tab": "Attention and memory"},
    "items": {"user": "u4", "selection": {"items": ["3", "17"]}, "tab": "Neighbours"},
    "a branch": {"selection": {"codes": [1]}, "tab": "Decoding"},
    "edited": {"user": "u4", "history": ["4", "8", "15"], "other": "u9", "tab": "History editor"},
    "typed": {"typed": ["4", "8", "15"], "selection": {"users": ["u4", "u5"]}, "tab": "Neighbours"},
    "typed and edited": {"typed": ["4", "8", "15"], "history": ["8", "15", "3"], "tab": "History editor"},
}


@pytest.mark.parametrize("name", CASES)
def test_a_state_restores_the_same_still(run, tigers, split, name, monkeypatch):
    monkeypatch.setenv("SEQLAB_REPORT", "1")
    arguments = CASES[name]
    runs = [run, replace(tigers[0])]
    first = widgets.Workbench(runs, split, seed=2, **arguments)
    state = json.loads(json.dumps(first.state()))
    assert {key: state[key] for key in arguments} == arguments
    again = widgets.Workbench(runs, split, **state)
    assert again.state() == state
    assert numbers(again.still()) == numbers(first.still())


def test_the_state_of_an_interactive_view_restores_its_lists(bench, run, tigers, split, monkeypatch):
    bench.open(9)
    page = history_page(bench)
    page.editor.events.index = 1
    page.editor.buttons["Drop"].click()
    bench.views.tree.pick((1,))
    opened(bench, "Decoding")
    state = bench.state()
    assert state["selection"] == {"codes": [1]}
    lists = {label: frame["item"].tolist() for label, frame in bench.top_tens().items()}
    monkeypatch.setenv("SEQLAB_REPORT", "1")
    again = widgets.Workbench([run, tigers[0]], split, **state)
    assert {label: frame["item"].tolist() for label, frame in again.top_tens().items()} == lists
    assert again.state() == state


def test_the_still_creates_no_control_and_escapes_titles(run, tigers, split, report):
    still = widgets.Workbench([run, tigers[0]], split, user=3).still()
    for tab in (HISTORY, *INSIDE):
        assert f"<h3><bdi>{tab}" in still
    assert not re.search(r"<(script>alert|img|b>of|i>shelf)", still)
    assert "Why" in still


def test_an_unknown_tab_user_or_selection_is_refused(run, split, report):
    for wrong, message in (
        ({"tab": "Beams"}, "no tab"),
        ({"user": "nobody"}, "has no test query"),
        ({"selection": {"items": ["999"]}}, "no item with the id"),
        ({"selection": {"colours": [1]}}, "items, codes or users"),
        ({"user": "u4", "typed": ["3"]}, "not both"),
    ):
        with pytest.raises(ValueError, match=message):
            widgets.Workbench([run], split, **wrong)
    with pytest.raises(ValueError, match="one to three"):
        widgets.Workbench([], split)


def test_a_pinned_tab_that_has_another_name_today_or_fits_no_run_is_opened(run, tigers, split, report):
    assert widgets.Workbench([tigers[0]], split, tab="Beam").state()["tab"] == "Decoding"
    assert widgets.Workbench([run], split, tab="Beam").state()["tab"] == OTHER


# the toolbar and the pin


def test_finished_runs_are_found_without_being_loaded(folder, split, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "__init__", lambda self: pytest.fail("a model was made"))
    found = finished_runs(folder)
    assert {run.system for run in found} == {"sasrec", "gru4rec"}
    assert {run.dataset for run in found} == {split.log.name}
    assert found[0].value >= found[1].value


def test_open_runs_are_offered_wherever_they_are(folder, split, live, tmp_path):
    from seqlab.runs.run import load_run

    home = folder / split.log.name
    bench = widgets.Workbench([load_run(home / "sasrec", split)], split, folder=tmp_path)
    assert bench.choice.runs[0].value == home / "sasrec"


def test_a_failed_change_of_runs_keeps_the_open_ones(folder, split, live):
    from seqlab.runs.run import load_run

    home = folder / split.log.name
    bench = widgets.Workbench([load_run(home / "sasrec", split)], split, user=3, folder=folder)
    chosen = [one.value for one in bench.choice.runs]
    assert chosen == [home / "sasrec", "", ""]
    bench.choice.runs[1].value = home / "gru4rec"
    bench.choice.button.click()
    assert list(bench.runs) == ["sasrec", "gru4rec"]
    assert bench.state()["user"] == user_label(split, 3)
    page = columns(bench, "Attention and memory", "Influence")
    assert list(page.widgets) == ["sasrec, gru4rec"] and not page.errors
    before = bench.views
    bench.change(bench.dataset, [home / "sasrec"])
    assert before.view.comm is None  # the old view is closed
    bench.status.guard(bench.change)(bench.dataset, [folder / "gone"])
    assert "not a finished run" in bench.status.message
    assert list(bench.runs) == ["sasrec"]
    bench.choice.folder.value = str(folder / "nothing")
    assert "no finished run" in bench.choice.message.value
    bench.choice.button.click()
    assert "choose at least one run" in bench.status.message.lower()


def test_a_pin_holds_the_state_and_the_runs(folder, split, live, tmp_path):
    from seqlab.runs.run import load_run

    home = folder / split.log.name
    bench = widgets.Workbench([load_run(home / "gru4rec", split)], split, user=3)
    bench.name.value = str(tmp_path / "mine")
    bench.keep.click()
    assert not bench.status.message
    assert "seqlab report" in bench.pinned.value
    notebook, parameters = pins.unpin(tmp_path / "mine.json")
    assert notebook == "07_workbench"
    assert parameters.pop("runs") == [str(home / "gru4rec")]
    assert parameters.pop("dataset") == split.log.name
    assert parameters.pop("split_name") == "leave-one-out"
    assert parameters == bench.state()
    bench.name.value = str(tmp_path / "mine.json")
    bench.keep.click()
    assert "exists" in bench.status.message
    with pytest.raises(ValueError, match="never written to a folder"):
        widgets.Workbench([replace(bench.runs["gru4rec"], folder=None)], split).pin(tmp_path / "x")


def test_the_notebook_has_the_parameters_of_a_state(bench):
    from pathlib import Path

    import nbformat

    from seqlab.reports.parameters import declared

    path = Path(__file__).parents[3] / "notebooks" / "07_workbench.ipynb"
    assert set(declared(nbformat.read(path, as_version=4))) == {"dataset", "split_name", "runs", *bench.state()}
