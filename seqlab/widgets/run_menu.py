"""RunMenu: the finished runs on a split, to choose some of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.figures.html import Html, text
from seqlab.figures.theme import plain
from seqlab.runs.find import default_folder, finished_runs
from seqlab.runs.run import load_run
from seqlab.runtime.included import included
from seqlab.widgets.display import StatusLine, displayed, in_report, panel

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run


@displayed
class RunMenu:
    """A menu of the finished runs on a split, those below a folder and those of the zoo; `chosen` loads some of them.

    folder: None is `runs.find.default_folder()`. known: runs that are open already and are not offered.
    """

    question = "Which other runs are there?"
    needs = ()

    def __init__(self, split: Split, folder: str | Path | None = None, known: Iterable[Run] = ()) -> None:
        self._split, self._loaded = split, {}
        self.folder = default_folder() if not folder else Path(folder).expanduser()
        open_already = {run.folder.resolve() for run in known if run.folder is not None}
        found = {run.folder.resolve(): run for at in (self.folder, included("zoo")) for run in finished_runs(at)}
        self.offered = [
            run for place, run in found.items()
            if (run.dataset, run.split) == (split.log.name, split.name) and place not in open_already
        ]  # fmt: skip
        self.view = None if in_report() else self._controls()

    def chosen(self) -> list[Run]:
        """The chosen runs; none in a report."""
        folders = [] if self.view is None else self.menu.value
        self._loaded |= {place: load_run(place, self._split) for place in folders if place not in self._loaded}
        return [self._loaded[place] for place in folders]

    def still(self) -> Html:
        """How many runs there are to choose from."""
        runs, count = ", ".join(dict.fromkeys(run.system for run in self.offered)), len(self.offered)
        where = Html("below {} or with the project").format(text(Path(*self.folder.parts[-2:]), 80))
        if not count:
            return Html("<div class='quiet'>There is no other finished run on this split {}.</div>").format(where)
        return Html("<div class='quiet'>{} other finished run{} on this split, {}: {}.</div>").format(
            count, "s" * (count != 1), where, text(runs, 200)
        )

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.menu = ipywidgets.SelectMultiple(
            options=[(plain(run, 90), run.folder) for run in self.offered], rows=min(max(len(self.offered), 2), 8),
            layout={"width": "min(640px, 97%)", "display": None if self.offered else "none"},
        )  # fmt: skip
        return panel(self.status, ipywidgets.HTML(self.still().markup), self.menu)
