"""The pages of the workbench about one user: the history editor, its explanations, and views inside each run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from seqlab import figures, models, tracing
from seqlab.figures.html import Html, text
from seqlab.inspection import influence
from seqlab.inspection.attention import has_attention
from seqlab.widgets.attention_view import AttentionView
from seqlab.widgets.beam_steps import BeamSteps, generates_codes
from seqlab.widgets.display import in_report
from seqlab.widgets.history_editor import HistoryEditor
from seqlab.widgets.influence_view import InfluenceView
from seqlab.widgets.inputs.picking import history_for, max_events, titles_of, user_label
from seqlab.widgets.neighbours import Neighbours, has_vectors
from seqlab.widgets.patching import Patching
from seqlab.widgets.reasoning_steps import ReasoningSteps
from seqlab.widgets.what_would_change import WhatWouldChange
from seqlab.widgets.why import Why
from seqlab.widgets.workbench.tabs import COLUMN_WIDTH, Columns, Page, Subject, Tabs, column, heading, quiet

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
STEPS_WIDTH = 900
"""Minimum width of a figure of several steps, in pixels."""


class HistoryPage:
    """One history to edit, the top tens of all runs after every edit, and explanations of them.

    The editor is that of the run with the longest maximum history; each run reads as much of the edited history as it
    can. on_edit is called with every new subject. other: the history that is patched in (None: of a random user).
    """

    def __init__(
        self,
        runs: Runs,
        split: Split,
        subject: Subject,
        on_edit: Callable[[Subject], None],
        other: History | None,
        seed: int,
    ) -> None:
        self._runs, self._split, self._subject, self._on_edit = runs, split, subject, on_edit
        self._first = max(runs, key=lambda label: max_events(runs[label].model))
        self.editor = HistoryEditor(runs[self._first], split, k=K, history=subject.original)
        self.editor.show(subject.current, subject.original)
        self.editor.follow(self._history_edited)
        self.questions = Tabs(_question_pages(runs, split, other, seed), subject, "" if in_report() else "Why")
        self.view = None if in_report() else self._controls()

    @property
    def other(self) -> History | None:
        """The history that is patched in; None before the tab is opened."""
        page = self.questions.made.get(PATCHING)
        opened = [] if page is None else list(page.widgets.values())
        return opened[0].other if opened else None

    def show(self, subject: Subject) -> None:
        """Show another subject."""
        self._subject = subject
        self.editor.show(subject.current, subject.original)
        self._update_lists()
        self.questions.show(subject)

    def stills(self) -> list[Html]:
        """The editor's still, and every explanation except Why."""
        return [heading(f"{self._first}: edits", 4), self.editor.still(), *self.questions.stills(*list(QUESTIONS)[1:])]

    def _history_edited(self, now: History) -> None:
        self._subject = Subject(self.editor.original, now)
        self._update_lists()
        self._on_edit(self._subject)
        self.questions.show_soon(self._subject)

    def _controls(self) -> Any:
        import ipywidgets

        self.others = ipywidgets.HTML(layout=column(2))
        self._update_lists()
        self.editor.view.layout = ipywidgets.Layout(**column(3))
        lists = [self.editor.view, self.others] if len(self._runs) > 1 else [self.editor.view]
        row = ipywidgets.HBox(lists, layout={"width": "100%", "flex_flow": "row wrap"})
        intro = f"The lists update with every edit; those to the right of the history are of {self._first}."
        return ipywidgets.VBox(
            [ipywidgets.HTML(quiet(intro).markup), row, self.questions.view], layout={"width": "100%"}
        )

    def _update_lists(self) -> None:
        if not in_report() and len(self._runs) > 1:
            rest = {label: run for label, run in self._runs.items() if label != self._first}
            self.others.value = side_lists(rest, self._split, self._subject).markup


def top_tens(runs: Runs, split: Split, subject: Subject) -> dict[str, pd.DataFrame]:
    """The recommendations of every run by label: `inspection.influence.rerank` against the unedited history."""
    titles, lists = titles_of(split), {}
    for label, run in runs.items():
        before, after = (history_for(split, run.model, history) for history in (subject.original, subject.current))
        frame = influence.rerank(run.model, before, after, K, run.seen_filter)
        lists[label] = frame.assign(title=[titles[item] for item in frame["item"]])
    return lists


def side_lists(runs: Runs, split: Split, subject: Subject) -> Html:
    """The recommendations of every run side by side, with arrows for changes of rank."""
    lists = top_tens(runs, split, subject)
    return figures.top_tens({
        label: frame if subject.edited else frame[["rank", "title"]] for label, frame in lists.items()
    })  # fmt: skip


def history_list(split: Split, subject: Subject) -> Html:
    """The user and the items of the history, oldest first."""
    titles, now = titles_of(split), subject.current
    rows = Html("").join(Html("<li>{}</li>").format(text(titles[item], 60)) for item in now.items.tolist())
    return Html("<h4>{}</h4><ol class='long' start='{}'>{}</ol>").format(
        subject_label(split, subject), len(now.earlier) + 1, rows
    )


def subject_label(split: Split, subject: Subject) -> Html:
    """The user and the number of events."""
    events, earlier = len(subject.current), len(subject.current.earlier)
    return (
        Html("User {}: {:,} event{}").format(
            text(user_label(split, subject.original.user)), events, "s" * (events != 1)
        )
        + f" after {earlier:,} earlier ones" * bool(earlier)
        + ", edited" * subject.edited
    )


def pages(
    runs: Runs, split: Split, selection: Selection, seed: int, on_edit: Callable[[Subject], None], other: History | None
) -> dict[str, Callable[[Subject], Page]]:
    """The tabs of the workbench and the functions that create their pages."""
    history, inside, beam, reasoning, near = TABS

    def attention_view(label: str, run: Run) -> Callable[[History], Any]:
        if has_attention(run.model):
            return lambda now: AttentionView(run, split, history=now)
        rest = [one for name, one in runs.items() if name != label and scores(one.model)]
        return lambda now: InfluenceView(run, rest[0] if rest else None, split, history=now)

    return {
        history: lambda subject: HistoryPage(runs, split, subject, on_edit, other, seed),
        inside: lambda subject: _columns(
            runs, subject, attends_or_gates, attention_view,
            "Where each event attends, or how much of the hidden state it rewrites, and its influence on one item.",
            "has attention or gates and scores items",
        ),
        beam: lambda subject: _columns(
            runs, subject, generates_codes, lambda label, run: lambda now: BeamSteps(run, split, history=now),
            "The codes of the next item from left to right: a prefix that is pruned at a step is lost for good.",
            "generates codes by beam search", STEPS_WIDTH,
        ),
        reasoning: lambda subject: _columns(
            runs, subject, reasons,
            lambda label, run: lambda now: ReasoningSteps(run, split, seed=seed, history=now),
            "The recommendations after each reasoning step, and what stopping early costs over all users.",
            "reasons in steps", STEPS_WIDTH,
        ),
        near: lambda subject: NeighboursPage(runs, split, subject, selection),
    }  # fmt: skip


PATCHING = "Patching between two users"
QUESTIONS = {
    "Why": (Why, "shows the influence of an event"),
    "What would have to change": (WhatWouldChange, ""),
    PATCHING: (Patching, "can be patched"),
}
"""Label -> the widget, and what a system without scores cannot do."""


def _question_pages(runs: Runs, split: Split, other: History | None, seed: int) -> dict[str, Callable[[Subject], Page]]:
    """The explanations of a recommendation and the functions that create their pages."""

    def makers(name: str) -> Callable[[str, Run], Callable[[History], Any]]:
        if name == PATCHING:
            return lambda label, run: lambda now: Patching(run, split, now, other, seed=seed)
        return lambda label, run: lambda now: QUESTIONS[name][0](run, split, now)

    def made(name: str) -> Callable[[Subject], Page]:
        fits = (lambda model: True) if name == "What would have to change" else scores
        return lambda subject: _columns(
            runs, subject, fits, makers(name), "", f"scores items, so that it {QUESTIONS[name][1]}"
        )

    return {name: made(name) for name in QUESTIONS}


class NeighboursPage:
    """The neighbours of items in all runs with item vectors, in one widget."""

    def __init__(self, runs: Runs, split: Split, subject: Subject, selection: Selection) -> None:
        fitting = {label: run for label, run in runs.items() if has_vectors(run.model)}
        self._missing = missing_note(runs, fitting, has_vectors, "keeps a table of item vectors")
        self.near = Neighbours(fitting, split, subject.current, selection=selection) if fitting else None
        self.view = None if in_report() else self._controls()

    def show(self, subject: Subject) -> None:
        if self.near is not None:
            self.near.show(subject.current)

    def stills(self) -> list[Html]:
        return [*([] if self.near is None else [self.near.still()]), quiet(self._missing)]

    def _controls(self) -> Any:
        import ipywidgets

        parts = [] if self.near is None else [self.near.view]
        return ipywidgets.VBox([*parts, ipywidgets.HTML(quiet(self._missing).markup)], layout={"width": "100%"})


def attends_or_gates(model: nn.Module) -> bool:
    """Whether a system scores items and has attention or gates, which are compared with the influence of events."""
    return scores(model) and any(tap.kind in ("attention", "gates") for tap in tracing.taps(model).values())


def scores(model: nn.Module) -> bool:
    """Whether a system scores the whole catalogue."""
    return hasattr(model, "score")


def reasons(model: nn.Module) -> bool:
    """Whether a system reasons in steps."""
    return hasattr(model, "reasoning_states")


def missing_note(runs: Runs, fitting: Mapping[str, Any], fits: Callable[[nn.Module], bool], what: str) -> Html:
    """The runs that lack an ability, in a sentence; if none has it, the systems that do."""
    left = [text(label) for label in runs if label not in fitting]
    if not left:
        return Html("")
    if fitting:
        return Html("Not shown: {}, as not every system {}.").format(Html(", ").join(left), what)
    return Html(
        "None of these runs {}; these systems do: {}. Train one with <code>seqlab leaderboard</code> and choose it."
    ).format(what, ", ".join(_systems(fits)))


@functools.cache
def _systems(fits: Callable[[nn.Module], bool]) -> list[str]:
    """The names of the systems that have an ability."""
    return [name for name in models.names() if fits(models.build(name, 4))]


def _columns(
    runs: Runs, subject: Subject, fits: Any, make: Any, intro: str, what: str, least: int = COLUMN_WIDTH
) -> Columns:
    fitting = {label: run for label, run in runs.items() if fits(run.model)}
    makers = {label: make(label, run) for label, run in fitting.items()}
    return Columns(makers, subject, intro if fitting else "", missing_note(runs, fitting, fits, what), least)
