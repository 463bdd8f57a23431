"""Tabs whose pages are made when they are first opened, and one widget per run side by side on a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from seqlab.figures.html import Html, plotly_html, text
from seqlab.widgets.display import Soon, StatusLine, in_report, sentence

if TYPE_CHECKING:
    from seqlab.datasets.history import History

    Maker = Callable[[History], Any]

COLUMN = 470
"""Pixels below which a column takes a line of its own."""

LEGIBLE = 640
"""Pixels in which any figure can be read."""


@dataclass(frozen=True, eq=False)
class Case:
    """Who is looked at: what they did (or what was typed in), and what edits have made of it."""

    true: History
    now: History

    @property
    def edited(self) -> bool:
        return self.now.items.tolist() != self.true.items.tolist()


class Page(Protocol):
    """What lies behind a tab."""

    view: Any

    def show(self, case: Case) -> None: ...

    def stills(self) -> list[Html]: ...


class Tabs:
    """Pages of which one is open; a page is made when it is first opened, and hears of a new case only while open.

    pages: name -> a function of a case that makes the page. opened: the page that is open at first ("": none yet).
    """

    def __init__(self, pages: Mapping[str, Callable[[Case], Page]], case: Case, opened: str = "") -> None:
        if opened and opened not in pages:
            raise ValueError(f"there is no tab {opened!r}; there are {', '.join(pages)}")
        self._makers, self._case, self.opened = dict(pages), case, opened
        self.made: dict[str, Page] = {}
        self._shown: dict[str, Case] = {}
        self.view = None if in_report() else self._controls()

    def show(self, case: Case) -> None:
        """Have the open page look at another case; the others hear of it when they are opened."""
        self._case = case
        if self.view is not None:
            self._open()

    def show_soon(self, case: Case) -> None:
        """`show` once no other case comes for a moment: edits made one after the other do not wait for each other."""
        self._case = case
        if self.view is not None and self.opened:
            self.progress.value = f"Working out “{self.opened}” for this history ..."
            self._soon(self.status.guard(self._open))

    def heard(self, case: Case) -> None:
        """Take a case from the open page itself."""
        self._case = self._shown[self.opened] = case

    def page(self, name: str) -> Page:
        """A page, made if it was not, that shows the case at hand."""
        if name not in self.made:
            self.made[name] = self._makers[name](self._case)
        elif self._shown[name] is not self._case:
            self.made[name].show(self._case)
        self._shown[name] = self._case
        return self.made[name]

    def stills(self, *names: str) -> list[Html]:
        """The stills of these pages, one after the other."""
        return [part for name in names for part in (heading(name), *self.page(name).stills())]

    def _controls(self) -> Any:
        import ipywidgets

        self.status, self._soon = StatusLine(), Soon()
        names = list(self._makers)
        self.buttons = ipywidgets.ToggleButtons(
            options=names, value=self.opened or None, style={"button_width": "auto"}
        )
        self.progress = ipywidgets.HTML()
        self._places = {name: ipywidgets.VBox(layout={"display": "none", "width": "100%"}) for name in names}
        self.buttons.observe(self.status.guard(self._chosen), "value")
        self._open()
        parts = [self.buttons, self.status.view, self.progress, *self._places.values()]
        return ipywidgets.VBox([*parts, self.status.page], layout={"width": "100%"}).add_class("seqlab-panel")

    def _chosen(self, change: Any) -> None:
        self.opened = change.new or ""
        self._open()

    def _open(self) -> None:
        for name, place in self._places.items():
            place.layout.display = None if name == self.opened else "none"
        if not self.opened:
            self.progress.value = "Open a tab."
            return
        place, known = self._places[self.opened], self.opened in self.made
        self.progress.value = "" if known else f"Making “{self.opened}” ..."
        try:
            page = self.page(self.opened)
            place.children = [page.view]
        except KeyboardInterrupt:
            self.progress.value = "Stopped. Open the tab again to go on; the other tabs are as they were."
            raise
        except Exception:
            self.progress.value = ""
            raise
        self.progress.value = ""


class Columns:
    """The same widget for several runs, side by side; columns that do not fit stand below each other.

    makers: label -> a function of a History that makes the widget, which then has `show(history)`, `still()` and
    `.view`. said: a sentence above them; lacking: a sentence about the runs that have none; least: pixels below which
    a column takes a line of its own.
    """

    def __init__(
        self, makers: Mapping[str, Maker], case: Case, said: str = "", lacking: str = "", least: int = COLUMN
    ) -> None:
        self._makers, self._said, self._lacking, self._least = dict(makers), said, lacking, least
        self.widgets: dict[str, Any] = {}
        self.wrong: dict[str, str] = {}
        self.view = None if in_report() else self._controls()
        self.show(case)

    def show(self, case: Case) -> None:
        """Have every column look at what edits have made of the history; what cannot be shown is said there."""
        for label, make in self._makers.items():
            try:
                if label in self.widgets:
                    self.widgets[label].show(case.now)
                else:
                    self.widgets[label] = make(case.now)
                self.wrong.pop(label, None)
            except Exception as error:  # one system that cannot do it leaves the others to be seen
                self.wrong[label] = sentence(error)
            if self.view is not None:
                self._fill(label)

    def stills(self) -> list[Html]:
        """The still of every column, labelled."""
        columns = []
        for label in self._makers:
            still = alert(self.wrong[label]) if label in self.wrong else drawn(self.widgets[label].still(), self._least)
            columns.append(heading(label, 4) + still)
        return [quiet(self._said), *([side_by_side(columns, self._least)] if columns else []), quiet(self._lacking)]

    def _controls(self) -> Any:
        import ipywidgets

        self.places = {
            label: ipywidgets.VBox(
                [ipywidgets.HTML(heading(label, 4).markup), ipywidgets.HTML()], layout=column(1, self._least)
            )
            for label in self._makers
        }
        row = ipywidgets.HBox(list(self.places.values()), layout={"width": "100%", "flex_flow": "row wrap"})
        notes = [ipywidgets.HTML(quiet(words).markup) for words in (self._said, self._lacking) if words]
        return ipywidgets.VBox([*notes, row], layout={"width": "100%"})

    def _fill(self, label: str) -> None:
        name, told = self.places[label].children[:2]
        told.value = alert(self.wrong[label]).markup if label in self.wrong else ""
        if label in self.widgets:
            self.widgets[label].view.layout.display = "none" if label in self.wrong else None
            if len(self.places[label].children) == 2:
                self.places[label].children = [name, told, self.widgets[label].view]


def column(share: int = 1, least: int = COLUMN) -> dict[str, str]:
    """The layout of a part that stands beside others as long as it has `least` pixels."""
    return {"flex": f"{share} 1 {least}px", "min_width": "0"}


def heading(words: str, level: int = 3) -> Html:
    """A heading of a page."""
    return Html("<h{0}>{1}</h{0}>").format(level, text(words))


def quiet(words: str) -> Html:
    """A sentence of explanation; nothing for none."""
    return Html("<div class='quiet'>{}</div>").format(words) if words else Html("")


def alert(words: str) -> Html:
    """What went wrong."""
    return Html("<div role='alert'>{}</div>").format(text(words))


def drawn(still: Any, least: int = LEGIBLE) -> Html:
    """A still as a part of a page: of a figure, a script that the page's plotly.js draws it by.

    On a phone a figure keeps `least` pixels, `LEGIBLE` at most, and is scrolled in its place.
    """
    if isinstance(still, Html):
        return still
    return Html("<div class='scroll'><div style='min-width:{}px'>{}</div></div>").format(
        min(least, LEGIBLE), plotly_html(still.to_plotly_json())
    )


def side_by_side(columns: Iterable[Html], least: int = COLUMN) -> Html:
    """Parts of a page beside each other, below each other on a phone."""
    cells = Html("").join(Html("<div>{}</div>").format(one) for one in columns)
    return Html(
        "<div class='beside' style='grid-template-columns:repeat(auto-fit,minmax(min(100%,{}px),1fr))'>{}</div>"
    ).format(least, cells)
