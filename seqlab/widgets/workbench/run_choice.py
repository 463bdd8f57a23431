"""RunChoice: a dropdown of datasets and of the finished runs on each."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab.datasets.named import catalog
from seqlab.datasets.split_names import DEFAULT
from seqlab.figures.html import Html, text
from seqlab.figures.theme import plain
from seqlab.runs.find import RunSummary, finished_runs
from seqlab.runtime.included import included
from seqlab.widgets.workbench.stored import fitting, split_name_of

if TYPE_CHECKING:
    from seqlab.widgets.display import StatusLine

MAX_RUNS = 3
"""The largest number of runs side by side."""


class RunChoice:
    """A dataset, the finished runs on it, and a button that opens up to three of them.

    Offered are the runs below a folder, with the first folder also those open at first, and those of the zoo.

    dataset: the name or path of the open dataset, whose name in runs is `name`; chosen, split_name: the open runs and
    their split. The button calls on_open(dataset, folders). Only the score of a run is read here, not its weights. Runs
    of systems that the workbench cannot show are counted, not offered.
    """

    def __init__(
        self,
        folder: Path,
        dataset: str,
        name: str,
        chosen: list[Path],
        split_name: str,
        on_open: Callable[[str, list[Path]], None],
        status: StatusLine,
    ) -> None:
        import ipywidgets

        wide = {"width": "auto", "flex": "1 1 260px", "min_width": "0"}
        self.folder = ipywidgets.Text(
            str(folder), description="runs below", continuous_update=False, layout={**wide, "max_width": "420px"}
        )
        self.dataset = ipywidgets.Dropdown(description="dataset", layout={**wide, "max_width": "420px"})
        self.runs = [
            ipywidgets.Dropdown(description=name, layout=wide) for name in ("first run", "second run", "third run")
        ]
        self.button = ipywidgets.Button(description="Open these runs", icon="folder-open", layout={"width": "auto"})
        self.message, self.split = ipywidgets.HTML(), ipywidgets.HTML(layout={"align_self": "center"})
        self._found: list[RunSummary] = []
        self._at_first = str(folder), chosen
        self._not_offered, self._split_name = "", split_name
        self._dataset_names = {dataset: name}
        self._scan(dataset)
        self._fill_runs(chosen)
        self._show_split()
        self.runs[0].observe(lambda change: self._show_split(), "value")
        self.folder.observe(status.guard(lambda change: (self._scan(self.dataset.value), self._fill_runs([]))), "value")
        self.dataset.observe(status.guard(lambda change: None if self._filling else self._fill_runs([])), "value")
        error = status.line()
        self.button.on_click(status.guard(lambda _: on_open(*self.selected()), error))
        wrap = {"flex_flow": "row wrap", "width": "100%"}
        first = ipywidgets.HBox([self.dataset, self.split, self.folder], layout=wrap)
        second = ipywidgets.HBox([*self.runs, self.button], layout=wrap)
        self.view = ipywidgets.VBox([first, second, error, self.message])

    def selected(self) -> tuple[str, list[Path]]:
        """The chosen dataset and run folders. Raises `ValueError` if no run is chosen, and for runs of two splits."""
        folders = list(dict.fromkeys(one.value for one in self.runs if one.value))
        if not folders:
            raise ValueError(f"choose at least one run on {self.dataset.value}. {self._no_run_message()}")
        split_name_of(folders)
        return self.dataset.value, folders

    def _scan(self, dataset: str) -> None:
        """Find the runs below the folder and the available datasets."""
        found, self._not_offered = fitting(finished_runs(Path(self.folder.value).expanduser()))
        first, chosen = self._at_first
        elsewhere = [*(chosen if self.folder.value == first else ()), included("zoo")]
        others, _ = fitting(run for folder in elsewhere for run in finished_runs(folder))
        self._found = [*{run.folder.resolve(): run for run in [*found, *others]}.values()]
        here = catalog()
        at_hand = here.loc[~here["have"].isin(["by download", "by hand"]), "name"]
        others = [*(run.dataset for run in self._found), *at_hand]
        known = set(self._dataset_names.values())
        names = [*self._dataset_names, *(one for one in dict.fromkeys(others) if one not in known)]
        self._filling = True
        self.dataset.options = [(self._option_label(one), one) for one in names]
        self.dataset.value = dataset
        self._filling = False

    def _fill_runs(self, chosen: list[Path]) -> None:
        """Fill the dropdowns with the runs on the dataset; select `chosen`, or else the best one of the open split."""
        found = self._runs_on(self.dataset.value)
        same = {run.folder.resolve(): run.folder for run in found}
        options = [("none", ""), *((_label(run), run.folder) for run in found)]
        picked = [same[one.resolve()] for one in chosen if one.resolve() in same]
        if not picked and not chosen and found:
            picked = [next((run for run in found if run.split == self._split_name), found[0]).folder]
        for one, folder in zip(self.runs, [*picked, "", "", ""], strict=False):
            one.options = options
            one.value = folder
        words = " ".join(filter(None, ["" if found else self._no_run_message(), self._not_offered]))
        self.message.value = Html("<div class='quiet'>{}</div>").format(text(words)).markup if words else ""

    def _show_split(self) -> None:
        """Show the split of the first chosen run where it is not the default."""
        chosen = next((run.split for run in self._found if run.folder == self.runs[0].value), self._split_name)
        words = Html("<div>split: {}</div>").format(text(chosen, 60)).markup
        self.split.value = "" if chosen == DEFAULT else words

    def _runs_on(self, dataset: str) -> list[RunSummary]:
        """The runs on a dataset: those of the folder, the best first, then those open at first and those of the zoo."""
        return [run for run in self._found if run.dataset == self._dataset_names.get(dataset, dataset)]

    def _no_run_message(self) -> str:
        if self._runs_on(self.dataset.value):
            return "Choose one in the lists."
        dataset, folder = self.dataset.value, self.folder.value
        how = shlex.join(["seqlab", "leaderboard", "sasrec", "--dataset", dataset, "--runs", folder])
        return f"There is no finished run on {dataset} below {folder}: train one with {how}"

    def _option_label(self, dataset: str) -> str:
        count = len(self._runs_on(dataset))
        return f"{plain(self._dataset_names.get(dataset, dataset), 40)}, {count} run{'s' * (count != 1)}"


def _label(run: RunSummary) -> str:
    """A run with its split, where that is not the default."""
    return plain(f"{run.split}: {run}" if run.split != DEFAULT else str(run), 90)
