"""CompareSystems: several systems side by side, from the table of metrics down to single users."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.adapters.recommendations import Recommendations
from seqlab.evaluation.comparison import EVERYBODY, Standings
from seqlab.experiments import compared_runs
from seqlab.figures.cost_quality import COSTS
from seqlab.figures.html import Html, text
from seqlab.figures.theme import plain
from seqlab.widgets import comparison_levels
from seqlab.widgets.display import StatusLine, displayed, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import titles_of

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.splits import Split
    from seqlab.evaluation.comparison import Order
    from seqlab.runs.run import Run
    from seqlab.widgets.inputs.selection import Selected, Selection

PAGE_SIZE = 50
"""The number of users shown at first, and added by every "more"."""

SELECTED = ("the selection", "users selected elsewhere")


@displayed
class CompareSystems:
    """Systems under one protocol: metrics, paired differences to a reference, costs, and the users behind each number.

    A click on a cell shows groups of users of that system and the reference; a click on a group shows its users, those
    whom the system serves better first. runs: label -> one run, several seeds, or a table of recommendations
    (`adapters.recommendations`); in a list, runs of one system with the same settings (and options, if they have
    folders) are seeds of each other. reference: a label (None: the best floor, else the first). metrics: () = the
    headline of their task, the primary one last. measured: the leaderboard (`experiments.leaderboard.read`); its rows
    of these data under this protocol are added to the table as numbers. users: rows of the still's list. An opened
    group or user is selected in `selection`, and its users are a group here. on_user(user) is called with the number
    of a clicked user. system: the label of the one that `still` shows beside the reference (None, or the reference
    itself: the best). Raises `ValueError` for runs of several protocols or of another split, fewer than two systems,
    and an unknown label.
    """

    question = "Which system is better, for which users, and what does it cost?"
    needs = ()

    def __init__(
        self,
        runs: Sequence[Run | Recommendations] | Mapping[str, Run | Recommendations | Sequence[Run]],
        split: Split,
        reference: str | None = None,
        metrics: tuple[str, ...] = (),
        measured: pd.DataFrame | None = None,
        users: int = 10,
        selection: Selection | None = None,
        on_user: Callable[[int], object] | None = None,
        system: str | None = None,
    ) -> None:
        self._split, self._titles, self._count = split, titles_of(split), users
        self.selection, self._on_user = selection, on_user
        self.runs = compared_runs.labelled(runs)
        if len(self.runs) < 2:
            raise ValueError("A comparison needs two systems at least; train another one, or load its run.")
        self.outcomes = compared_runs.outcomes(self.runs, split)
        self._standings = Standings(self.outcomes, metrics)
        compared_runs.validate_queries(self._standings, split)
        self.metrics, self._metric = self._standings.metrics, self._standings.bounds
        self._costs = compared_runs.costs_of(self.runs, split, self._standings.seen_filter)
        self._measured, self._left_out = compared_runs.leaderboard_rows(measured, self._standings, self.runs, split)
        floors = [label for label in self.runs if self._costs.at[label, "kind"] == "floor"]
        means = self._standings.table(next(iter(self.runs))).set_index(["metric", "system"])["mean"]
        primary = self._metric[self.metrics[-1]]
        best_first = sorted(floors, key=lambda label: means[primary.name, label], reverse=primary.higher)
        self.reference = self._validated(reference or (best_first or list(self.runs))[0])
        self._system = None if system is None else self._validated(system)
        self._selected = selection.now.users if selection is not None else ()
        self.cell: tuple[str, str] | None = None
        self.group: tuple[str, str] | None = None
        self.order: Order = "system"
        self.user: int | None = None
        self._shown = PAGE_SIZE
        self.view = None if in_report() else self._controls()

    def board(self) -> pd.DataFrame:
        """The table of all systems, the best by the last metric on top, as `figures.standings` takes it."""
        primary = self._metric[self.metrics[-1]]
        frame = compared_runs.board(self._standings.table(self.reference), self._costs, self._measured)
        return frame.sort_values(primary.name, ascending=not primary.higher, kind="stable", ignore_index=True)

    @property
    def first_runs(self) -> dict[str, Run]:
        """Label -> the first seed of each system, floors last; without tables, which have no model."""
        order = sorted(self.runs, key=lambda label: self._costs.at[label, "kind"] == "floor")
        return {label: self.runs[label][0] for label in order if not isinstance(self.runs[label][0], Recommendations)}

    def configurations(self) -> pd.DataFrame:
        """One row per system: label, seeds, settings, training and run folders; see `compared_runs.configurations`."""
        return compared_runs.configurations(self.runs)

    def slices(self, system: str, metric: str) -> pd.DataFrame:
        """A system and the reference by groups of users: see `evaluation.Standings.slices`."""
        return self._standings.slices(self._validated(system), self.reference, metric, self._selection_groups())

    def users(
        self, system: str, metric: str, group: tuple[str, str] = EVERYBODY, order: Order = "system"
    ) -> pd.DataFrame:
        """The users of a group for `figures.user_differences`; order: see `evaluation.comparison.Order`."""
        rows = self._standings.users(self._validated(system), self.reference, metric, self._members(group), order)
        rows = rows.assign(name=self._split.log.users["user_id"].loc[rows["user"]].map(plain).to_numpy())
        return rows.assign(title=[self._titles[item] or "–" for item in rows["item"]]) if "item" in rows else rows

    @property
    def best(self) -> str:
        """The best system by the last metric except the reference; no floor if there is another one."""
        others = [label for label in self.board()["system"] if label in self.runs and label != self.reference]
        return min(others, key=lambda label: self._costs.at[label, "kind"] == "floor")

    def examples(self, count: int = 3) -> list[int]:
        """The users on whom the system of the still and the reference differ most, by the last metric."""
        rows = self.users(self._shown_system, self.metrics[-1], order="most")
        return list(dict.fromkeys(rows["user"].tolist()))[:count]

    def protocol(self) -> str:
        """The evaluation protocol in a sentence, and one for each table of recommendations."""
        words = compared_runs.protocol(self.runs, self.outcomes)
        return f"{self._split.log.name}, {self._split.name}; the same queries for every system: {words}"

    def overlap(self, k: int = 10, users: int = 1000) -> pd.DataFrame:
        """How many of their k best items two systems share, as a mean over test users: see `compared_runs.overlap`."""
        return compared_runs.overlap(self.runs, self._split, self._standings.seen_filter, k, users)

    def costs(self, cost: str = "seconds", metric: str | None = None) -> go.Figure:
        """Quality over cost; cost: "parameters", "seconds" (of training) or "milliseconds" (per user)."""
        if cost not in COSTS:
            raise ValueError(f"there is no cost {cost!r}; there are: {', '.join(COSTS)}.")
        return figures.cost_and_quality(self.board(), cost, self._metric[metric or self.metrics[-1]])

    def curves(self) -> go.Figure:
        """recall@k for every k up to 20; a message for a task without ranks."""
        return figures.recall_curves(self._standings.curves(), self._costs["kind"].to_dict())

    # actions

    def compare_with(self, reference: str) -> None:
        """Change the reference; the open level stays, unless it is that system's."""
        self.reference = self._validated(reference)
        if self.cell is not None and self.cell[0] == reference:
            self.cell = self.group = None
        self._show()

    def open(self, system: str, metric: str) -> None:
        """Show the groups of users of one cell. Raises `ValueError` for the reference and an unknown metric."""
        if self._validated(system) == self.reference:
            raise ValueError(f"{system!r} is the reference; open another system, or compare with another reference.")
        if metric not in self.metrics:
            raise ValueError(f"{metric!r} is not in the table; there are: {', '.join(self.metrics)}.")
        self.cell, self.group = (system, metric), None
        self._show()

    def open_group(self, slice_: str, group: str) -> None:
        """List and select the users of a group of the open cell. Raises `ValueError` for an unknown group."""
        if self.cell is None:
            raise ValueError("open a cell of the table first: a group belongs to a system and a metric")
        members = self._members((slice_, group))
        self.group, self.order, self._shown, self.user = (slice_, group), "system", PAGE_SIZE, None
        if self.selection is not None:
            self.selection.select(users=self._standings.frame["user"].to_numpy()[members.to_numpy()], by=self)
        self._show()

    def back(self) -> None:
        """Return to the previous level: from users to groups, from groups to the table."""
        if self.cell is None:
            raise ValueError("this is the first level; there is nothing to go back to")
        if self.group is not None:
            self.group = None
        else:
            self.cell = None
        self._show()

    def pick(self, user: int) -> None:
        """Choose a user: select them, and call `on_user`."""
        self.user = int(user)
        if self.selection is not None:
            self.selection.select(users=[self.user], by=self)
        self._show()
        if self._on_user is not None:
            self._on_user(self.user)

    def still(self) -> Html:
        """The table, and for one system the groups and the users with the largest differences."""
        best, metric = self._shown_system, self.metrics[-1]
        words = f"{best} beside {self.reference}, the reference, by groups of users"
        pair = (best, self.reference, self._metric[metric])
        two = comparison_levels.groups(self.slices(best, metric), pair)
        rows = self.users(best, metric, order="most").head(self._count)
        ten = comparison_levels.users(rows, pair, "most", self._several_seeds(best), self._ranked)
        return Html("{}<h4>{}</h4>{}<h4>The users on whom they differ most</h4>{}").format(
            self._table(buttons=False), text(words), two, ten
        )

    # rendering

    def _table(self, buttons: bool) -> Html:
        pick = buttons and self.selection is not None and self._ranked
        return comparison_levels.all_systems(
            self.board(), list(self._metric.values()), self.reference, self.protocol(), self._left_out, buttons, pick
        )

    def _groups(self) -> Html:
        pair = (self.cell[0], self.reference, self._metric[self.cell[1]])
        return comparison_levels.groups(self.slices(*self.cell), pair, buttons=True)

    def _user_list(self) -> Html:
        pair = (self.cell[0], self.reference, self._metric[self.cell[1]])
        rows, several_seeds = self.users(*self.cell, self.group, self.order), self._several_seeds(self.cell[0])
        return comparison_levels.users_of_group(
            rows, pair, self.order, several_seeds, self._ranked, self.group, self._shown, PAGE_SIZE, self.user
        )

    @property
    def _shown_system(self) -> str:
        """The system of the still."""
        return self.best if self._system in (None, self.reference) else self._system

    @property
    def _ranked(self) -> bool:
        """Whether the task of the runs has ranks."""
        return self._standings.ranks is not None

    def _several_seeds(self, system: str) -> bool:
        """Whether that system or the reference has more than one seed."""
        return any(self._standings.seeds[label] > 1 for label in (system, self.reference))

    def _controls(self) -> Any:
        import ipywidgets

        from seqlab.widgets.inputs.clickable_html import ClickableHtml

        self.status = StatusLine()
        named, narrow = {"description_width": "auto"}, {"width": "auto", "max_width": "97%"}

        def choice(words: str, options: list[tuple[str, str]], value: str) -> Any:
            return ipywidgets.Dropdown(options=options, value=value, description=words, style=named, layout=narrow)

        systems = [(plain(label, 60), label) for label in self.runs]
        self.reference_choice = choice("compare with", systems, self.reference)
        self.cost = choice("cost", [(words, name) for name, words in COSTS.items()], "seconds")
        self.quality = choice("quality", [(one, one) for one in self.metrics], self.metrics[-1])
        self.table = ClickableHtml(self.status.guard(self._pressed))
        self.figure = interactive_figure(self.costs())
        row = ipywidgets.HBox([self.cost, self.quality], layout={"flex_flow": "row wrap"})
        self._costs_words = ipywidgets.HTML(self._which_is_better())
        self._plot = ipywidgets.VBox([self._costs_words, row, self.figure])
        self._level, self._focus_keys = "", {"board": "", "groups": ""}
        self._draw()
        self.reference_choice.observe(self.status.guard(lambda change: self.compare_with(change.new)), "value")
        for control in (self.cost, self.quality):
            control.observe(self.status.guard(self._draw_costs), "value")
        if self.selection is not None:
            self.selection.follow(self._selection_changed, self.status)
        return panel(self.status, self.reference_choice, self.table, self._plot, figure=self.figure)

    def _show(self) -> None:
        """Draw the open level, unless in a report."""
        if self.view is not None:
            self._draw()

    def _draw(self) -> None:
        level = "board" if self.cell is None else "groups" if self.group is None else "users"
        draw = {"board": lambda: self._table(buttons=True), "groups": self._groups, "users": self._user_list}[level]
        deeper = ("board", "groups", "users").index(level) - ("board", "groups", "users", "").index(self._level)
        focus = "" if not self._level or not deeper else "back:" if deeper > 0 else self._focus_keys[level]
        self.table.show(draw().markup, focus)
        self._level, self._plot.layout.display = level, None if level == "board" else "none"
        if self.reference_choice.value != self.reference:
            self.reference_choice.value = self.reference

    def _draw_costs(self, change: object) -> None:
        redraw(self.figure, self.costs(self.cost.value, self.quality.value))
        self._costs_words.value = self._which_is_better()

    def _which_is_better(self) -> str:
        side = "up" if self._metric[self.quality.value].higher else "down"
        words = Html("<div>What quality costs: {} and to the left is better; whiskers are 95 % intervals.</div>")
        return words.format(side).markup

    def _pressed(self, key: str) -> None:
        """Handle a click; ignore the keys of another level, which a double click can send."""
        kind, _, place = key.partition(":")
        if kind in ("cell", "system") and self._level == "board":
            row, _, column = place.partition(":")
            system = self.board()["system"].iat[int(row)]
            if kind == "system":
                self.selection.select(users=self._standings.users_with_hit(system), by=self)
            else:
                self._focus_keys["board"] = key
                self.open(system, self.metrics[int(column)])
        elif kind == "group" and self._level == "groups":
            row = self.slices(*self.cell).iloc[int(place)]
            self._focus_keys["groups"] = key
            self.open_group(row["slice"], row["group"])
        elif kind == "user" and self._level == "users":
            self.pick(self.users(*self.cell, self.group, self.order)["user"].iat[int(place)])
        elif kind == "order" and self._level == "users":
            self.order, self._shown = place, PAGE_SIZE
            self._show()
        elif kind == "more" and self._level == "users":
            self._shown += PAGE_SIZE
            self._show()
        elif kind == "back" and self._level != "board":
            self.back()

    def _selection_changed(self, now: Selected) -> None:
        """The users selected in another view are a group; if it is open and changes, return to the groups."""
        if now.by is self:
            return
        self._selected = now.users
        if self.group is not None and self.group[0] == SELECTED[0]:
            self.group = None
        if self.cell is not None and self.group is None:
            self._show()

    # groups and labels

    def _members(self, group: tuple[str, str]) -> pd.Series:
        """The rows of the frame that are in a group, as booleans."""
        known = self._standings.groups() | self._selection_groups()
        if group[0] not in known or group[1] not in known[group[0]].cat.categories:
            raise ValueError(f"there is no group {group[1]!r} of {group[0]!r}")
        return known[group[0]] == group[1]

    def _selection_groups(self) -> dict[str, pd.Series]:
        import numpy as np
        import pandas as pd

        if not len(self._selected):
            return {}
        inside = np.isin(self._standings.frame["user"], self._selected)
        return {SELECTED[0]: pd.Series(np.where(inside, SELECTED[1], None), dtype="category")}

    def _validated(self, label: str) -> str:
        if label not in self.runs:
            raise ValueError(f"{label!r} is not one of the compared systems: {', '.join(map(repr, self.runs))}.")
        return label
