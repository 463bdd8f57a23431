"""Workbench: up to three trained runs on one page, with linked views of items, codes and users."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import datasets
from seqlab.contracts import Recommends
from seqlab.datasets.split_names import DEFAULT, current_name
from seqlab.figures.html import Html, style, text
from seqlab.runs import pins
from seqlab.runs.find import default_folder, finished_runs
from seqlab.runs.run import load_run
from seqlab.runs.zoo import run_folder
from seqlab.widgets.display import StatusLine, displayed, in_report
from seqlab.widgets.workbench.linked_views import LinkedViews
from seqlab.widgets.workbench.pages import top_tens
from seqlab.widgets.workbench.run_choice import MAX_RUNS, RunChoice
from seqlab.widgets.workbench.stored import data_of, dataset_of, fits, fitting, split_name_of
from seqlab.widgets.workbench.tabs import quiet

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

NOTEBOOK = "07_workbench"


@displayed
class Workbench:
    """One to three runs on one split: one selection over map, codes and users, and tabs about one user.

    runs: label -> Run, or runs. user: a number of the log or, as text, an id of the source (None or "": one at random).
    typed: a typed history (ids or titles, oldest first) instead of a user. history: the edited history. selection:
    {"items": ids}, {"codes": a prefix} or {"users": ids}. tab: the open one (None or "": the first; in a report, all).
    other: the user whose activations are patched in. seed: for the user and the projection. dataset: the name or path
    the data were loaded from (None: the log's name). folder: where the toolbar searches for runs (None: where the first
    run is stored, else `runs.find.default_folder()`).
    Raises `ValueError` for no runs or more than three, for a system that does not fit (see `fits`), for an unknown
    user, item or tab, and for both `user` and `typed`.
    """

    question = "What do up to three systems make of one user?"
    needs = (Recommends,)

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
        _check(runs)
        self.dataset, self._seed = dataset or split.log.name, seed
        self._folder = _runs_folder(runs, split.log.name) if folder is None else Path(folder)
        self.views = LinkedViews(runs, split, user, typed, history, selection, tab, other, seed)
        self.view = None if in_report() else self._controls()

    @classmethod
    def from_folder(
        cls,
        folder: str | Path | None = None,
        dataset: str | None = None,
        runs: Iterable[str | Path] = (),
        split_name: str | None = None,
        **state: Any,
    ) -> Workbench:
        """A workbench of finished runs below a folder: the named ones, else the best one on the dataset.

        folder: None is `runs.find.default_folder()`. dataset: a name or a path; None is that of the first run.
        split_name: as `datasets.split` takes it; None is that of the first run. state: as `state` returns it. Raises
        `FileNotFoundError` if there is no finished run that fits (see `fits`), `ValueError` for runs of several splits.
        """
        folder = default_folder() if folder is None else Path(folder)
        log, folders = None if dataset is None else datasets.load(dataset), [run_folder(one) for one in runs]
        if not folders:
            found, left_out = fitting(finished_runs(folder))
            wanted = None if split_name is None else current_name(split_name)
            found = [run for run in found if (log is None or run.dataset == log.name) and wanted in (None, run.split)]
            if not found:
                about = "" if dataset is None else f" on {dataset}"
                how = shlex.join(["seqlab", "leaderboard", "sasrec", "--runs", str(folder)])
                raise FileNotFoundError(
                    f"there is no finished run{about} below {folder}; train one: {how}"
                    + f". {left_out}" * bool(left_out)
                )
            folders = [min(found, key=lambda run: (run.dataset, run.split != DEFAULT)).folder]
        split_name = split_name or split_name_of(folders)
        if log is None:
            name = json.loads((folders[0] / "provenance.json").read_text(encoding="utf-8"))["data"]["name"]
            log, dataset = data_of(folders[0], name), dataset_of(folders[0], name)
        split = datasets.split(log, split_name)
        return cls([load_run(one, split) for one in folders], split, dataset=dataset, folder=folder, **state)

    @staticmethod
    def fits(model: nn.Module) -> bool:
        """Whether a system can be shown: it recommends items from histories alone, without further event columns."""
        return fits(model)

    @property
    def runs(self) -> dict[str, Run]:
        """The open runs by label."""
        return self.views.runs

    @property
    def split(self) -> Split:
        """The split of the open runs."""
        return self.views.split

    def open(self, user: int | str) -> None:
        """Show a user of the log in all views."""
        self.views.open(user)

    def state(self) -> dict[str, Any]:
        """The state in literals: the parameters of the notebook except the dataset, the split and the runs."""
        return self.views.state()

    def top_tens(self) -> dict[str, pd.DataFrame]:
        """The recommendations of every run by label: `inspection.influence.rerank` against the unedited history."""
        return top_tens(self.runs, self.split, self.views.subject)

    def pin(self, path: str | Path) -> Path:
        """Save the state to a file that `seqlab report` renders; returns its path.

        Raises `ValueError` for a run without a folder, `FileExistsError` for a file that exists.
        """
        path = Path(path).expanduser()
        path = path if path.suffix == ".json" else path.with_name(path.name + ".json")
        if path.exists():
            raise FileExistsError(f"{path} exists; choose another name")
        if unsaved := [label for label, run in self.runs.items() if run.folder is None]:
            raise ValueError(
                f"{unsaved[0]} was never written to a folder, so a report could not open it; fit it with out=..."
            )
        return pins.pin(
            path,
            NOTEBOOK,
            {"dataset": self.dataset, "split_name": self.split.name, **self.state()},
            [run.folder for run in self.runs.values()],
        )

    def still(self) -> Html:
        """All views on one page."""
        words = "" if self.split.name == DEFAULT else f"{self.split.log.name}, split {self.split.name}."
        return quiet(words) + self.views.still()

    def summary(self) -> Html:
        """The selection, the user and all top tens, without what takes seconds."""
        return self.views.summary()

    def change(self, dataset: str, folders: Iterable[str | Path]) -> None:
        """Open other runs, of this dataset or another; the open runs stay if that fails or is interrupted.

        The split is that of the runs. Raises `ValueError` for runs of several splits and for systems that do not fit.
        """
        folders = [Path(one) for one in folders]
        try:
            split, split_name = self.split, split_name_of(folders)
            if dataset != self.dataset or split_name != split.name:
                self._show_progress(f"Reading {dataset} ...")
                split = datasets.split(data_of(folders[0], dataset), split_name)
            runs = []
            for folder in folders:
                self._show_progress(f"Loading {folder.name} ...")
                runs.append(load_run(folder, split))
            self._show_progress("Drawing ...")
            _check(labelled(runs))
            user = None if split is not self.split else self.state()["user"]
            tab = self.views.tabs.opened
            views = LinkedViews(labelled(runs), split, user, tab=tab, seed=self._seed)
        except KeyboardInterrupt:
            self._show_progress("Stopped; the same runs are still open.")
            raise
        except Exception:
            self._show_progress("")
            raise
        before, self.views, self.dataset = self.views, views, dataset
        self.body.children = [views.view]
        close(before.view)
        self.change_runs.value = False
        self._show_names()
        self._show_progress("")

    def _show_progress(self, words: str) -> None:
        line = Html("<div role='status' class='quiet'>{}</div>").format(text(words))
        self.progress.value = line.markup if words else ""

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.progress = ipywidgets.HTML()
        folders = [run.folder for run in self.runs.values() if run.folder is not None]
        self.choice = RunChoice(
            self._folder, self.dataset, self.split.log.name, folders, self.split.name, self.change, self.status
        )
        self.choice.view.layout.display = "none"
        self.names = ipywidgets.HTML()
        self._show_names()
        self.change_runs = ipywidgets.ToggleButton(
            False, description="Change runs", icon="folder-open", layout={"width": "auto"}
        )
        self.change_runs.observe(
            lambda change: setattr(self.choice.view.layout, "display", "flex" if change.new else "none"), "value"
        )
        self.name = ipywidgets.Text(
            _unused_name(f"{Path(self.split.log.name).name}-view.json"), description="file",
            style={"description_width": "auto"}, layout={"width": "250px"},
        )  # fmt: skip
        self.keep = ipywidgets.Button(description="Pin this view", icon="thumbtack", layout={"width": "auto"})
        self.pinned, error = ipywidgets.HTML(), self.status.line()
        self.keep.on_click(self.status.guard(lambda _: self._pin(), error))
        self.body = ipywidgets.VBox([self.views.view], layout={"width": "100%"})
        bar = ipywidgets.HBox(
            [self.names, self.change_runs, self.name, self.keep, self.pinned], layout={"flex_flow": "row wrap"}
        )
        top = [ipywidgets.HTML(str(style())), bar, error, self.choice.view, self.status.view, self.progress]
        view = ipywidgets.VBox([*top, self.body, self.status.page], layout={"width": "100%"})
        return view.add_class("seqlab-panel").add_class("seqlab-workbench")

    def _show_names(self) -> None:
        """Show which runs of which dataset are open."""
        words = Html("{}: <b>{}</b>").format(text(self.split.log.name, 40), text(", ".join(self.runs), 60))
        self.names.value = Html("<div>{}</div>").format(words).markup

    def _pin(self) -> None:
        self.pinned.value = ""
        if not self.name.value.strip():
            raise ValueError("give the file a name")
        path = self.pin(self.name.value.strip())
        message = Html("<div role='status'>Pinned. To make a page of it: <code>seqlab report {}</code></div>")
        self.pinned.value = message.format(text(path)).markup
        self.name.value = _unused_name(self.name.value.strip())


def labelled(runs: Mapping[str, Run] | Iterable[Run]) -> dict[str, Run]:
    """Runs by label: the given labels, else the system's name, with the folder's name if several runs share it."""
    if isinstance(runs, Mapping):
        named = dict(runs)
    else:
        runs, named = list(runs), {}
        for at, run in enumerate(runs, 1):
            unique = sum(other.system == run.system for other in runs) == 1
            label = run.system if unique else f"{run.system} ({run.folder.name if run.folder else at})"
            named[label if label not in named else f"{label} {at}"] = run
    if not 1 <= len(named) <= MAX_RUNS:
        raise ValueError(f"a workbench holds one to three runs (got {len(named)})")
    return named


def _check(runs: Mapping[str, Run]) -> None:
    """Raise `ValueError` for a system that the workbench cannot show."""
    if wrong := [label for label, run in runs.items() if not fits(run.model)]:
        raise ValueError(
            f"{wrong[0]} cannot be opened in the workbench: it does not recommend items from an edited history alone."
        )


def close(view: Any) -> None:
    """Close a widget and its children, in the page and in the kernel."""
    for child in getattr(view, "children", ()):
        close(child)
    view.close()


def _runs_folder(runs: Mapping[str, Run], name: str) -> Path:
    """The folder of the first stored run, without the level of the dataset's name if there is one."""
    folder = next((run.folder for run in runs.values() if run.folder is not None), None)
    if folder is None:
        return default_folder()
    return folder.parent.parent if folder.parent.name == name else folder.parent


def _unused_name(name: str) -> str:
    """This name, or with a number if the file exists."""
    path, number = Path(name), 2
    stem = path.stem
    while path.exists():
        path, number = path.with_name(f"{stem}-{number}{path.suffix}"), number + 1
    return str(path)
