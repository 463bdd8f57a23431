"""Workbench: up to three trained runs on one page: the map, the codes, the users, and what happens for one of them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import datasets
from seqlab.figures.html import Html, style, text
from seqlab.runs import pins
from seqlab.runs.find import default_folder, finished_runs
from seqlab.runs.run import load_run
from seqlab.widgets.display import StatusLine, bundle, in_report
from seqlab.widgets.workbench.pages import top_tens
from seqlab.widgets.workbench.run_choice import MOST, RunChoice
from seqlab.widgets.workbench.state import Desk

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

NOTEBOOK = "07_workbench"


class Workbench:
    """One to three runs on one split: one selection over map, codes and users, and tabs about one user.

    runs: label -> Run, or runs. user: a number of the log or, as text, an id of the source (None or "": one at random).
    typed: instead of a user of the log, what somebody typed in (ids or titles, the oldest first). history: what the
    history was edited to. selection: {"items": ids}, {"codes": a prefix} or {"users": ids}. tab: the one that is open
    (None or "": the first; in a report, all). other: the user whose activations are patched in. seed: of all that is
    random. dataset: the name or path the data were loaded by (None: the log's name). folder: where the toolbar looks
    for other runs (None: where the first run lies, else `runs.find.default_folder()`).
    Raises `ValueError` for no runs or more than three, for a user, an item or a tab that is not there, and for a user
    as well as somebody typed in.
    """

    def __init__(
        self,
        runs: Mapping[str, Run] | Iterable[Run],
        split: Split,
        *,
        user: int | str | None = None,
        typed: str | list[str | int] | None = None,
        history: str | list[str | int] | None = None,
        selection: Mapping[str, list] | None = None,
        tab: str | None = None,
        other: int | str | None = None,
        seed: int = 0,
        dataset: str | None = None,
        folder: str | Path | None = None,
    ) -> None:
        runs = labelled(runs)
        self.dataset, self._seed = dataset or split.log.name, seed
        self._folder = _beside(runs, split.log.name) if folder is None else Path(folder)
        self.desk = Desk(runs, split, user, typed, history, selection, tab, other, seed)
        self.view = None if in_report() else self._controls()

    @classmethod
    def from_folder(
        cls,
        folder: str | Path | None = None,
        dataset: str | None = None,
        runs: Iterable[str | Path] = (),
        **state: Any,
    ) -> Workbench:
        """With finished runs below a folder: those named, else the best one on the dataset (None: the first there is).

        folder: None is `runs.find.default_folder()`. state: as `state` gives it. Raises `FileNotFoundError` where
        there is no finished run.
        """
        folder = default_folder() if folder is None else Path(folder)
        found = finished_runs(folder)
        found = [run for run in found if dataset in (None, run.dataset)]
        folders = [Path(one) for one in runs] or [run.folder for run in found[:1]]
        if not folders:
            about = "" if dataset is None else f" on {dataset}"
            how = shlex.join(["seqlab", "leaderboard", "sasrec", "--runs", str(folder)])
            raise FileNotFoundError(f"there is no finished run{about} below {folder}; train one: {how}")
        dataset = dataset or next((run.dataset for run in found if run.folder == folders[0]), found[0].dataset)
        split = datasets.leave_one_out(datasets.load(dataset))
        return cls([load_run(one, split) for one in folders], split, dataset=dataset, folder=folder, **state)

    @property
    def runs(self) -> dict[str, Run]:
        """The runs that are open, by their labels."""
        return self.desk.runs

    @property
    def split(self) -> Split:
        """The data they are on."""
        return self.desk.split

    def open(self, user: int | str) -> None:
        """Look at a user of the log: everything that is open follows."""
        self.desk.open(user)

    def state(self) -> dict[str, Any]:
        """What is shown, in literals: the parameters of the notebook but for the dataset and the runs."""
        return self.desk.state()

    def top_tens(self) -> dict[str, pd.DataFrame]:
        """What every run recommends now, by label: `inspection.influence.rerank` against the unedited history."""
        return top_tens(self.runs, self.split, self.desk.case)

    def pin(self, path: str | Path) -> Path:
        """Keep what is shown in a file that `seqlab report` renders; returns its path.

        Raises `ValueError` for a run that was never written to a folder, `FileExistsError` for a file that is there.
        """
        path = Path(path).expanduser()
        path = path if path.suffix == ".json" else path.with_name(path.name + ".json")
        if path.exists():
            raise FileExistsError(f"{path} exists; choose another name")
        if homeless := [label for label, run in self.runs.items() if run.folder is None]:
            raise ValueError(
                f"{homeless[0]} was never written to a folder, so a report could not open it; fit it with out=..."
            )
        return pins.pin(
            path, NOTEBOOK, {"dataset": self.dataset, **self.state()}, [run.folder for run in self.runs.values()]
        )

    def still(self) -> Html:
        """Everything that is shown, on one page."""
        return self.desk.still()

    def change(self, dataset: str, folders: Iterable[str | Path]) -> None:
        """Open other runs, of this dataset or another; what is open stays if that fails or is interrupted."""
        folders = [Path(one) for one in folders]
        try:
            split = self.split
            if dataset != self.dataset:
                self._say(f"Reading {dataset} ...")
                split = datasets.leave_one_out(datasets.load(dataset))
            runs = []
            for folder in folders:
                self._say(f"Loading {folder.name} ...")
                runs.append(load_run(folder, split))
            self._say("Drawing ...")
            user = None if dataset != self.dataset else self.state()["user"]
            tab = self.desk.tabs.opened
            desk = Desk(labelled(runs), split, user, tab=tab, seed=self._seed)
        except KeyboardInterrupt:
            self._say("Stopped; what was open is still open.")
            raise
        except Exception:
            self._say("")
            raise
        before, self.desk, self.dataset = self.desk, desk, dataset
        self.body.children = [desk.view]
        close(before.view)
        self._say("")

    def _say(self, words: str) -> None:
        line = Html("<div role='status' class='quiet'>{}</div>").format(text(words))
        self.progress.value = line.markup if words else ""

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        guard = self.status.guard
        self.progress = ipywidgets.HTML()
        folders = [run.folder for run in self.runs.values() if run.folder is not None]
        self.choice = RunChoice(self._folder, self.dataset, self.split.log.name, folders, self.change, self.status)
        self.name = ipywidgets.Text(
            _free(f"{Path(self.split.log.name).name}-view.json"), description="file", layout={"width": "300px"}
        )
        self.keep = ipywidgets.Button(description="Pin this view", icon="thumbtack", layout={"width": "auto"})
        self.pinned = ipywidgets.HTML()
        self.keep.on_click(guard(lambda _: self._pin()))
        self.body = ipywidgets.VBox([self.desk.view], layout={"width": "100%"})
        bar = ipywidgets.HBox([self.name, self.keep, self.pinned], layout={"flex_flow": "row wrap"})
        parts = [ipywidgets.HTML(str(style())), self.choice.view, bar, self.status.view, self.progress, self.body]
        view = ipywidgets.VBox([*parts, self.status.page], layout={"width": "100%"})
        return view.add_class("seqlab-panel").add_class("seqlab-workbench")

    def _pin(self) -> None:
        self.pinned.value = ""
        if not self.name.value.strip():
            raise ValueError("give the file a name")
        path = self.pin(self.name.value.strip())
        said = Html("<div role='status'>Pinned. To make a page of it: <code>seqlab report {}</code></div>")
        self.pinned.value = said.format(text(path)).markup
        self.name.value = _free(self.name.value.strip())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        if self.view is None:
            return bundle(self)
        live = self.view._repr_mimebundle_()
        return {**live, "text/plain": "Workbench", "text/html": self.desk.brief().markup}


def labelled(runs: Mapping[str, Run] | Iterable[Run]) -> dict[str, Run]:
    """Runs by their labels: as given, else by their systems, with the folder's name where that is not enough."""
    if isinstance(runs, Mapping):
        named = dict(runs)
    else:
        runs, named = list(runs), {}
        for at, run in enumerate(runs, 1):
            alone = sum(other.system == run.system for other in runs) == 1
            label = run.system if alone else f"{run.system} ({run.folder.name if run.folder else at})"
            named[label if label not in named else f"{label} {at}"] = run
    if not 1 <= len(named) <= MOST:
        raise ValueError(f"a workbench holds one to three runs (got {len(named)})")
    return named


def close(view: Any) -> None:
    """Let a page and the kernel forget a view and all that is in it."""
    for child in getattr(view, "children", ()):
        close(child)
    view.close()


def _beside(runs: Mapping[str, Run], name: str) -> Path:
    """Where the runs lie beside the first that has a folder (those on one dataset often in a folder of its name)."""
    folder = next((run.folder for run in runs.values() if run.folder is not None), None)
    if folder is None:
        return default_folder()
    return folder.parent.parent if folder.parent.name == name else folder.parent


def _free(name: str) -> str:
    """This name, or one like it that no file has."""
    path, number = Path(name), 2
    stem = path.stem
    while path.exists():
        path, number = path.with_name(f"{stem}-{number}{path.suffix}"), number + 1
    return str(path)
