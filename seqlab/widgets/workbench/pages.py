"""The pages of the workbench about one user, a tab per topic of the views, made of the views that fit the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.contracts import Scores, supports
from seqlab.figures.html import Html, text
from seqlab.widgets import views
from seqlab.widgets.display import in_report
from seqlab.widgets.history_editor import HistoryEditor, top_lists
from seqlab.widgets.inputs.picking import titles_of, user_label
from seqlab.widgets.patching import Patching
from seqlab.widgets.workbench.tabs import Columns, Page, Subject, Tabs, quiet

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run
    from seqlab.widgets.inputs.selection import Selection

    Runs = Mapping[str, Run]
    Pages = Mapping[str, Callable[[Subject], Page]]

HISTORY = HistoryEditor.topic
OTHER = "Other views"
"""The tab of the views that fit none of the open runs."""

INTRO = Html(
    "None of these runs can answer these questions. Train another system with <code>seqlab leaderboard</code> and "
    "choose it."
)

K = 10


@dataclass(frozen=True, eq=False)
class Shared:
    """What the pages of a workbench share. source: the history whose values are patched in; None: of a random user."""

    runs: Runs
    split: Split
    selection: Selection
    seed: int
    source: History | None

    def able(self, view: type) -> Runs:
        """The runs that a view fits."""
        return {label: run for label, run in self.runs.items() if views.fits(view, run.model)}

    def columns(self, view: type, subject: Subject) -> Columns:
        """A view of every run that it fits side by side, or one of all of them if it shows runs together."""
        able, given = self.able(view), {"selection": self.selection, "source": self.source, "intro": False}
        given = {name: value for name, value in given.items() if views.accepts(view, name)}

        def maker(runs: Run | Runs) -> Callable[[History], Any]:
            return lambda now: view(runs, self.split, seed=self.seed, history=now, **given)

        makers = {label: maker(run) for label, run in able.items()}
        if views.together(view):
            makers = {", ".join(able): maker(able)}
        left = [text(label) for label in self.runs if label not in able]
        missing = Html("Not shown: {}. It takes {}.").format(Html(", ").join(left), views.needed(view))
        if Scores in view.needs and not all(supports(self.runs[label].model, Scores) for label in self.runs):
            missing += (
                " One that only makes a list, such as a beam search, does not say what an event is worth to an item."
            )
        intro = f"{view.question} {view.explanation}".strip()
        return Columns(makers, subject, intro, missing if left else "", view.least_width)


class HistoryPage:
    """One history to edit, the top tens of all runs after every edit, and the other views of this topic.

    on_edit is called with every new subject.
    """

    def __init__(
        self,
        shared: Shared,
        questions: Pages,
        subject: Subject,
        on_edit: Callable[[Subject], None],
    ) -> None:
        self._subject, self._on_edit = subject, on_edit
        self.editor = HistoryEditor(shared.runs, shared.split, k=K, history=subject.original)
        self.editor.show(subject.current, subject.original)
        self.editor.follow(self._history_edited)
        self.questions = Tabs(questions, subject, level=4)
        self.view = None if in_report() else self._controls()

    @property
    def source(self) -> History | None:
        """The history whose values are patched in; None before the view is opened."""
        opened = [one for page in self.questions.made.values() for one in page.widgets.values()]
        return next((one.other for one in opened if isinstance(one, Patching)), None)

    def show(self, subject: Subject) -> None:
        """Show another subject."""
        self._subject = subject
        self.editor.show(subject.current, subject.original)
        self.questions.show(subject)

    def stills(self) -> list[Html]:
        """The editor's still, and those of the other views but the first, which stands on top of the workbench's."""
        rest = self.questions.stills(self.questions.names[1:])
        return [self.editor.still(), *rest]

    def _history_edited(self, now: History) -> None:
        self._subject = Subject(self.editor.original, now)
        self._on_edit(self._subject)
        self.questions.show_soon(self._subject)

    def _controls(self) -> Any:
        import ipywidgets

        return ipywidgets.VBox([self.editor.view, self.questions.view], layout={"width": "100%"})


def top_tens(runs: Runs, split: Split, subject: Subject) -> dict[str, pd.DataFrame]:
    """The recommendations of every run by label: `inspection.influence.rerank` against the unedited history."""
    return top_lists(runs, split, subject.original, subject.current, K)


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


def topics() -> list[str]:
    """The topics of all views, in the order of the tabs."""
    return list(dict.fromkeys(view.topic for view in views.views()))


def pages(shared: Shared, on_edit: Callable[[Subject], None]) -> dict[str, Callable[[Subject], Page]]:
    """The tabs of the workbench and the functions that create their pages: the topics of the views that fit a run."""
    shown = [view for view in views.views() if shared.able(view)]
    found: dict[str, Callable[[Subject], Page]] = {}
    for topic in dict.fromkeys(view.topic for view in shown):
        inside = {
            view.title: partial(shared.columns, view)
            for view in shown
            if view.topic == topic and view is not HistoryEditor
        }
        if topic == HISTORY:
            found[topic] = partial(_history_page, shared, inside, on_edit)
        else:
            found[topic] = next(iter(inside.values())) if len(inside) == 1 else partial(_nested, inside)
    if others := [view for view in views.views() if view not in shown]:
        found[OTHER] = lambda subject: OtherViews(others)
    return found


def _history_page(shared: Shared, inside: Pages, on_edit: Callable[[Subject], None], subject: Subject) -> HistoryPage:
    return HistoryPage(shared, inside, subject, on_edit)


def _nested(inside: Pages, subject: Subject) -> Tabs:
    return Tabs(inside, subject, level=4)


class OtherViews:
    """The questions that only other systems answer, and which these are."""

    def __init__(self, others: list[type]) -> None:
        import pandas as pd

        rows = [(view.question, views.needed(view), ", ".join(views.systems(view))) for view in others]
        table = figures.table(pd.DataFrame(rows, columns=["question", "answered by", "such as"]))
        self._html = quiet(INTRO) + table
        self.view = None if in_report() else self._controls()

    def show(self, subject: Subject) -> None:
        """Nothing here depends on the user."""

    def stills(self) -> list[Html]:
        return [self._html]

    def _controls(self) -> Any:
        import ipywidgets

        return ipywidgets.HTML(self._html.markup, layout={"width": "100%"})
