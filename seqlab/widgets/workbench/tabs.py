"""Tabs whose pages are created when first opened, and pages with one widget per run side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from seqlab.figures.html import Html, plotly_html, text
from seqlab.widgets.display import COLUMN_WIDTH, Debounce, StatusLine, in_report, sentence

if TYPE_CHECKING:
    from seqlab.datasets.history import History

    Maker = Callable[[History], Any]

FIGURE_WIDTH = 640
"""Minimum width of a readable figure, in pixels."""


@dataclass(frozen=True, eq=False)
class Subject:
    """The user under study: the original history (of a user or typed in) and the current one, after edits."""

    original: History
    current: History

    @property
    def edited(self) -> bool:
        return self.current.items.tolist() != self.original.items.tolist()


class Page(Protocol):
    """The content of a tab."""

    view: Any

    def show(self, subject: Subject) -> None: ...

    def stills(self) -> list[Html]: ...


class Tabs:
    """Pages of which one is open; a page is created when first opened, and updated only while it is open.

    pages: name -> a function of a subject that creates the page. opened: the page that is open at first ("": none in a
    report, else the first). level: of the headings of the stills. Tabs are a `Page` themselves.
    """

    def __init__(
        self, pages: Mapping[str, Callable[[Subject], Page]], subject: Subject, opened: str = "", level: int = 3
    ) -> None:
        if opened and opened not in pages:
            raise ValueError(f"there is no tab {opened!r}; there are {', '.join(pages)}")
        self._makers, self._subject, self._level = dict(pages), subject, level
        self.opened = opened if opened or in_report() else next(iter(pages), "")
        self.made: dict[str, Page] = {}
        self._shown: dict[str, Subject] = {}
        self.view = None if in_report() else self._controls()

    def show(self, subject: Subject) -> None:
        """Show another subject on the open page; the other pages follow when they are opened."""
        self._subject = subject
        if self.view is not None:
            self._open()

    def show_soon(self, subject: Subject) -> None:
        """`show`, debounced: only the last of several quick edits is computed."""
        self._subject = subject
        if self.view is not None and self.opened:
            self.progress.value = f"Working out “{self.opened}” for this history ..."
            self._debounce(self.status.guard(self._open))

    def set_subject(self, subject: Subject) -> None:
        """Set the subject that the open page already shows."""
        self._subject = self._shown[self.opened] = subject

    def page(self, name: str) -> Page:
        """A page, created if needed, that shows the current subject."""
        if name not in self.made:
            self.made[name] = self._makers[name](self._subject)
        elif self._shown[name] is not self._subject:
            self.made[name].show(self._subject)
        self._shown[name] = self._subject
        return self.made[name]

    @property
    def names(self) -> list[str]:
        """The names of all pages."""
        return list(self._makers)

    def stills(self, names: list[str] | None = None) -> list[Html]:
        """The stills of these pages in order; None: of all pages."""
        shown = self.names if names is None else names
        return [part for name in shown for part in (heading(name, self._level), *self.page(name).stills())]

    def _controls(self) -> Any:
        import ipywidgets

        self.status, self._debounce = StatusLine(), Debounce()
        names = list(self._makers)
        self.buttons = ipywidgets.ToggleButtons(
            options=names, value=self.opened or None, style={"button_width": "auto"}
        )
        self.progress = ipywidgets.HTML()
        self._places = {name: ipywidgets.VBox(layout={"display": "none", "width": "100%"}) for name in names}
        self.buttons.observe(self.status.guard(self._tab_chosen), "value")
        self._open()
        parts = [self.buttons, self.status.view, self.progress, *self._places.values()]
        return ipywidgets.VBox([*parts, self.status.page], layout={"width": "100%"}).add_class("seqlab-panel")

    def _tab_chosen(self, change: Any) -> None:
        self.opened = change.new or ""
        self._open()

    def _open(self) -> None:
        for name, place in self._places.items():
            place.layout.display = None if name == self.opened else "none"
        if not self.opened:
            self.progress.value = "Open a tab."
            return
        place, cached = self._places[self.opened], self.opened in self.made
        self.progress.value = "" if cached else f"Making “{self.opened}” ..."
        try:
            page = self.page(self.opened)
            place.children = [page.view]
        except KeyboardInterrupt:
            self.progress.value = "Stopped. Open the tab again to continue; the other tabs are unchanged."
            raise
        except Exception:
            self.progress.value = ""
            raise
        self.progress.value = ""


class Columns:
    """The same widget for several runs, side by side; columns wrap.

    makers: label -> a function of a History that creates the widget, which has `show(history)`, `still()` and `view`.
    intro: a sentence above them; missing: a sentence about the runs without a column; least: minimum width of a column,
    in pixels.
    """

    def __init__(
        self,
        makers: Mapping[str, Maker],
        subject: Subject,
        intro: str = "",
        missing: str = "",
        least: int = COLUMN_WIDTH,
    ) -> None:
        self._makers, self._intro, self._missing, self._least = dict(makers), intro, missing, least
        self.widgets: dict[str, Any] = {}
        self.errors: dict[str, str] = {}
        self.view = None if in_report() else self._controls()
        self.show(subject)

    def show(self, subject: Subject) -> None:
        """Show the current history in every column; a column that fails shows its error."""
        for label, make in self._makers.items():
            try:
                if label in self.widgets:
                    self.widgets[label].show(subject.current)
                else:
                    self.widgets[label] = make(subject.current)
                self.errors.pop(label, None)
            except Exception as error:  # the other columns are still shown
                self.errors[label] = sentence(error)
            if self.view is not None:
                self._fill(label)

    def stills(self) -> list[Html]:
        """The still of every column, labelled."""
        columns = []
        for label in self._makers:
            still = (
                alert(self.errors[label])
                if label in self.errors
                else still_html(self.widgets[label].still(), self._least)
            )
            columns.append(heading(label, 4) + still)
        return [quiet(self._intro), *([side_by_side(columns, self._least)] if columns else []), quiet(self._missing)]

    def _controls(self) -> Any:
        import ipywidgets

        self.places = {
            label: ipywidgets.VBox(
                [ipywidgets.HTML(heading(label, 4).markup), ipywidgets.HTML()], layout=column(1, self._least)
            )
            for label in self._makers
        }
        row = ipywidgets.HBox(list(self.places.values()), layout={"width": "100%", "flex_flow": "row wrap"})
        notes = [ipywidgets.HTML(quiet(words).markup) for words in (self._intro, self._missing) if words]
        return ipywidgets.VBox([*notes, row], layout={"width": "100%"})

    def _fill(self, label: str) -> None:
        import ipywidgets

        name, error = self.places[label].children[:2]
        error.value = alert(self.errors[label]).markup if label in self.errors else ""
        if label in self.widgets:
            self.widgets[label].view.layout.display = "none" if label in self.errors else None
            if len(self.places[label].children) == 2:
                view = self.widgets[label].view
                if self._least > FIGURE_WIDTH:  # scrolls in a narrow column
                    wide = {"width": "100%", "min_width": f"{self._least}px"}
                    view = ipywidgets.Box([ipywidgets.VBox([view], layout=wide)], layout={"overflow": "auto"})
                self.places[label].children = [name, error, view]


def column(share: int = 1, least: int = COLUMN_WIDTH) -> dict[str, str]:
    """The layout of a column of a row that wraps below `least` pixels per column."""
    return {"flex": f"{share} 1 {least}px", "min_width": "0"}


def heading(words: str, level: int = 3) -> Html:
    """A heading."""
    return Html("<h{0}>{1}</h{0}>").format(level, text(words))


def quiet(words: str) -> Html:
    """A sentence of explanation; empty for no words."""
    return Html("<div class='quiet'>{}</div>").format(words) if words else Html("")


def alert(words: str) -> Html:
    """An error message."""
    return Html("<div role='alert'>{}</div>").format(text(words))


def still_html(still: Any, least: int = FIGURE_WIDTH) -> Html:
    """A still as HTML; a figure becomes a script for the page's plotly.js.

    On a narrow screen a figure keeps `least` pixels, at most `FIGURE_WIDTH`, and scrolls.
    """
    if isinstance(still, Html):
        return still
    return Html("<div class='scroll'><div style='min-width:{}px'>{}</div></div>").format(
        min(least, FIGURE_WIDTH), plotly_html(still.to_plotly_json())
    )


def side_by_side(columns: Iterable[Html], least: int = COLUMN_WIDTH) -> Html:
    """Parts of a page side by side, wrapping below `least` pixels."""
    cells = Html("").join(Html("<div>{}</div>").format(one) for one in columns)
    return Html(
        "<div class='beside' style='grid-template-columns:repeat(auto-fit,minmax(min(100%,{}px),1fr))'>{}</div>"
    ).format(least, cells)
