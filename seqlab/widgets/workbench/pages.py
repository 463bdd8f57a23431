"""What the workbench shows of one user: the history to edit and to ask about, and what happens inside each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from seqlab import figures, models, tracing
from seqlab.figures.html import Html, text
from seqlab.inspection import influence
from seqlab.widgets.attention_view import AttentionView
from seqlab.widgets.beam_steps import BeamSteps, writes_codes
from seqlab.widgets.display import in_report
from seqlab.widgets.history_editor import HistoryEditor
from seqlab.widgets.inputs.picking import longest_of, reading, titles_of, user_label
from seqlab.widgets.memories import Memories
from seqlab.widgets.neighbours import Neighbours, has_vectors
from seqlab.widgets.patching import Patching
from seqlab.widgets.reasoning_steps import ReasoningSteps
from seqlab.widgets.what_would_change import WhatWouldChange
from seqlab.widgets.why import Why
from seqlab.widgets.workbench.tabs import COLUMN, Case, Columns, Page, Tabs, column, heading, quiet

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run
    from seqlab.widgets.inputs.selection import Selection

    Runs = Mapping[str, Run]

HISTORY = "History editor"
TABS = (HISTORY, "Attention and memory", "Beam", "Reasoning", "Neighbours")
K = 10
WIDE = 900
"""Pixels that a picture of many steps side by side takes."""


class HistoryPage:
    """One history to edit, the top tens of all runs after every edit, and questions about them.

    The editor is that of the run that reads most; each run reads as much of the edited history as it can. on_edit is
    called with every new case. other: whom the patching takes from (None: somebody at random).
    """

    def __init__(
        self, runs: Runs, split: Split, case: Case, on_edit: Callable[[Case], None], other: History | None, seed: int
    ) -> None:
        self._runs, self._split, self._titles, self._case, self._on_edit = runs, split, titles_of(split), case, on_edit
        self._first = max(runs, key=lambda label: longest_of(runs[label].model))
        self.editor = HistoryEditor(runs[self._first], split, k=K, history=case.true)
        self.editor.show(case.now, case.true)
        self.editor.follow(self._edited)
        self.asked = Tabs(_questions(runs, split, other, seed), case, "" if in_report() else "Why")
        self.view = None if in_report() else self._controls()

    @property
    def other(self) -> History | None:
        """Whom the patching takes from; None as long as nobody asked for it."""
        page = self.asked.made.get(PATCHING)
        found = [] if page is None else list(page.widgets.values())
        return found[0].other if found else None

    def show(self, case: Case) -> None:
        """Go on with another case."""
        self._case = case
        self.editor.show(case.now, case.true)
        self._tell()
        self.asked.show(case)

    def stills(self) -> list[Html]:
        """Ready edits of the first run, and every question answered."""
        return [heading(f"{self._first}: edits", 4), self.editor.still(), *self.asked.stills(*list(QUESTIONS)[1:])]

    def _edited(self, now: History) -> None:
        self._case = Case(self.editor.true, now)
        self._tell()
        self._on_edit(self._case)
        self.asked.show_soon(self._case)

    def _controls(self) -> Any:
        import ipywidgets

        self.others = ipywidgets.HTML(layout=column(2))
        self._tell()
        self.editor.view.layout = ipywidgets.Layout(**column(3))
        lists = [self.editor.view, self.others] if len(self._runs) > 1 else [self.editor.view]
        row = ipywidgets.HBox(lists, layout={"width": "100%", "flex_flow": "row wrap"})
        said = f"Every edit is ranked again at once; the lists on the right of the history are those of {self._first}."
        return ipywidgets.VBox([ipywidgets.HTML(quiet(said).markup), row, self.asked.view], layout={"width": "100%"})

    def _tell(self) -> None:
        if not in_report() and len(self._runs) > 1:
            rest = {label: run for label, run in self._runs.items() if label != self._first}
            self.others.value = side_lists(rest, self._split, self._case).markup


def top_tens(runs: Runs, split: Split, case: Case) -> dict[str, pd.DataFrame]:
    """The first recommendations of every run, by label: `inspection.influence.rerank` against the unedited history."""
    titles, lists = titles_of(split), {}
    for label, run in runs.items():
        true, now = (reading(split, run.model, history) for history in (case.true, case.now))
        frame = influence.rerank(run.model, true, now, K, run.ranks.seen_filter)
        lists[label] = frame.assign(title=[titles[item] for item in frame["item"]])
    return lists


def side_lists(runs: Runs, split: Split, case: Case) -> Html:
    """The first recommendations of every run, with arrows for what edits have moved."""
    lists = top_tens(runs, split, case)
    return figures.top_tens({
        label: frame if case.edited else frame[["rank", "title"]] for label, frame in lists.items()
    })  # fmt: skip


def history_list(split: Split, case: Case) -> Html:
    """Whose history it is and what is in it, oldest first."""
    titles, now = titles_of(split), case.now
    rows = Html("").join(Html("<li>{}</li>").format(text(titles[item], 60)) for item in now.items.tolist())
    return Html("<h4>{}</h4><ol class='long' start='{}'>{}</ol>").format(who(split, case), len(now.earlier) + 1, rows)


def who(split: Split, case: Case) -> Html:
    """The user and how much is read of them."""
    events, earlier = len(case.now), len(case.now.earlier)
    return (
        Html("User {}: {:,} event{}").format(text(user_label(split, case.true.user)), events, "s" * (events != 1))
        + f" after {earlier:,} earlier ones" * bool(earlier)
        + ", edited" * case.edited
    )


def pages(
    runs: Runs, split: Split, selection: Selection, seed: int, on_edit: Callable[[Case], None], other: History | None
) -> dict[str, Callable[[Case], Page]]:
    """Every tab of the workbench and what makes its page."""
    history, inside, beam, reasoning, near = TABS

    def look(label: str, run: Run) -> Callable[[History], Any]:
        if attends(run.model):
            return lambda now: AttentionView(run, split, history=now)
        rest = [one for name, one in runs.items() if name != label and scores(one.model)]
        return lambda now: Memories(run, rest[0] if rest else None, split, history=now)

    return {
        history: lambda case: HistoryPage(runs, split, case, on_edit, other, seed),
        inside: lambda case: _columns(
            runs, case, lambda model: attends(model) or remembers(model), look,
            "Where each event looks, or what it rewrites in the memory, and what each is worth to one item.",
            "looks at its history by attention, or keeps a memory, and scores items",
        ),
        beam: lambda case: _columns(
            runs, case, writes_codes, lambda label, run: lambda now: BeamSteps(run, split, history=now),
            "The codes of the next item from left to right: what is not kept at a step is lost for good.",
            "writes codes by a beam search", WIDE,
        ),
        reasoning: lambda case: _columns(
            runs, case, thinks,
            lambda label, run: lambda now: ReasoningSteps(run, split, seed=seed, history=now),
            "What the system would recommend after each of its thoughts, and what stopping early costs all users.",
            "reasons in steps", WIDE,
        ),
        near: lambda case: _Near(runs, split, case, selection),
    }  # fmt: skip


PATCHING = "Patching between two users"
QUESTIONS = {
    "Why": (Why, "tells what an event is worth"),
    "What would have to change": (WhatWouldChange, "can be asked"),
    PATCHING: (Patching, "can be patched"),
}


def _questions(runs: Runs, split: Split, other: History | None, seed: int) -> dict[str, Callable[[Case], Page]]:
    """The questions about a recommendation and what makes their pages."""

    def makers(name: str) -> Callable[[str, Run], Callable[[History], Any]]:
        if name == PATCHING:
            return lambda label, run: lambda now: Patching(run, split, now, other, seed=seed)
        return lambda label, run: lambda now: QUESTIONS[name][0](run, split, now)

    def made(name: str) -> Callable[[Case], Page]:
        fits = (lambda model: True) if name == "What would have to change" else scores
        return lambda case: _columns(
            runs, case, fits, makers(name), "", f"scores items, so that it {QUESTIONS[name][1]}"
        )

    return {name: made(name) for name in QUESTIONS}


class _Near:
    """Neighbours of all runs that keep item vectors: one widget, in which they stand side by side."""

    def __init__(self, runs: Runs, split: Split, case: Case, selection: Selection) -> None:
        fitting = {label: run for label, run in runs.items() if has_vectors(run.model)}
        self._lacking = lacking(runs, fitting, has_vectors, "keeps a table of item vectors")
        self.near = Neighbours(fitting, split, case.now, selection=selection) if fitting else None
        self.view = None if in_report() else self._controls()

    def show(self, case: Case) -> None:
        if self.near is not None:
            self.near.show(case.now)

    def stills(self) -> list[Html]:
        return [*([] if self.near is None else [self.near.still()]), quiet(self._lacking)]

    def _controls(self) -> Any:
        import ipywidgets

        parts = [] if self.near is None else [self.near.view]
        return ipywidgets.VBox([*parts, ipywidgets.HTML(quiet(self._lacking).markup)], layout={"width": "100%"})


def attends(model: nn.Module) -> bool:
    """Whether a system looks back by attention and scores items, so that both can be compared."""
    return scores(model) and _taps(model, "attention")


def remembers(model: nn.Module) -> bool:
    """Whether a system keeps a gated memory, and scores items."""
    return scores(model) and _taps(model, "gates")


def scores(model: nn.Module) -> bool:
    """Whether a system scores the whole catalogue."""
    return hasattr(model, "score")


def thinks(model: nn.Module) -> bool:
    """Whether a system reasons in steps."""
    return hasattr(model, "reasoning_states")


def lacking(runs: Runs, fitting: Mapping[str, Any], fits: Callable[[nn.Module], bool], what: str) -> Html:
    """Which runs cannot show something, in a sentence; where none can, which systems would."""
    left = [text(label) for label in runs if label not in fitting]
    if not left:
        return Html("")
    if fitting:
        return Html("Not shown: {}, as not every system {}.").format(Html(", ").join(left), what)
    able = [name for name in models.names() if fits(models.build(name, 4))]
    return Html(
        "None of these runs {}. {}{}{} would: train one with <code>seqlab leaderboard</code> and choose it above."
    ).format(what, ", ".join(able[:-1]), " and " * (len(able) > 1), able[-1])


def _columns(runs: Runs, case: Case, fits: Any, make: Any, said: str, what: str, least: int = COLUMN) -> Columns:
    fitting = {label: run for label, run in runs.items() if fits(run.model)}
    makers = {label: make(label, run) for label, run in fitting.items()}
    return Columns(makers, case, said if fitting else "", lacking(runs, fitting, fits, what), least)


def _taps(model: nn.Module, kind: str) -> bool:
    return any(tap.kind == kind for tap in tracing.taps(model).values())
