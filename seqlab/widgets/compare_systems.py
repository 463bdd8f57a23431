"""CompareSystems: what several systems are worth beside each other, from the table down to single users."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.evaluation.comparison import EVERYBODY, Standings, seconds_per_user
from seqlab.evaluation.metrics import INTERVALS
from seqlab.experiments import leaderboard
from seqlab.figures.cost_quality import COSTS
from seqlab.figures.tables import Html, text
from seqlab.figures.theme import plain
from seqlab.optimization.options import Options
from seqlab.runs.identity import stored_identity
from seqlab.widgets.display import StatusLine, bundle, in_report, live_figure, panel, redraw
from seqlab.widgets.inputs.picking import titles_of

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.splits import Split
    from seqlab.evaluation.comparison import Order
    from seqlab.runs.run import Run
    from seqlab.widgets.inputs.selection import Selected, Selection

LISTED = 50
"""Users of a list that are shown at first, and that come with every "more"."""

ORDERS = {"system": "{system} is better", "reference": "{reference} is better", "most": "they differ most"}
SELECTED = ("the selection", "users selected elsewhere")


class CompareSystems:
    """Systems under one protocol: metrics, paired differences to a reference, costs; behind each number its users.

    A cell opens groups of users of that system and the reference, a group its users, the one whom the system serves
    better first. runs: by label one run, or several seeds; of a list, runs of one system with the same settings, and
    with the same options where they have folders, are seeds of each other. reference: a label (None: the best system
    that only counts, or the first). measured: the leaderboard (`leaderboard.read`), whose rows of these data under this
    protocol stand in the table as numbers. users: rows of the still's list. A group or a user that is opened is
    selected in `selection`; whom it holds from elsewhere is a group here. on_user(user) is called with the number of a
    user who is chosen. Raises `ValueError` for runs of several protocols or of another split, fewer than two systems,
    and for a reference that is none of them.
    """

    def __init__(
        self,
        runs: Sequence[Run] | Mapping[str, Run | Sequence[Run]],
        split: Split,
        reference: str | None = None,
        metrics: tuple[str, ...] = ("recall@10", "ndcg@10"),
        measured: pd.DataFrame | None = None,
        users: int = 10,
        selection: Selection | None = None,
        on_user: Callable[[int], object] | None = None,
    ) -> None:
        self._split, self._titles, self._count = split, titles_of(split), users
        self.selection, self._on_user = selection, on_user
        self.runs = _labelled(runs)
        if len(self.runs) < 2:
            raise ValueError("A comparison needs two systems at least; train another one, or load its run.")
        self._standings = Standings({label: [one.ranks for one in some] for label, some in self.runs.items()}, metrics)
        self._of_this_split()
        self.metrics = self._standings.metrics
        self._costs = self._costs_of_runs()
        self._measured, self._left_out = self._only_numbers(measured)
        counting = [label for label in self.runs if self._costs.at[label, "kind"] == "floor"]
        means = self._standings.table(next(iter(self.runs))).set_index(["metric", "system"])["mean"]
        by_worth = sorted(counting, key=lambda label: -means[self.metrics[-1], label])
        self.reference = self._known(reference or (by_worth or list(self.runs))[0])
        self._selected = selection.now.users if selection is not None else ()
        self.cell: tuple[str, str] | None = None
        self.group: tuple[str, str] | None = None
        self.order: Order = "system"
        self.user: int | None = None
        self._shown = LISTED
        self.view = None if in_report() else self._controls()

    def board(self) -> pd.DataFrame:
        """The table of all systems, the best by the last metric on top, as `figures.standings` takes it."""
        import pandas as pd

        found = self._standings.table(self.reference)
        rows = []
        for label, own in found.groupby("system", sort=False):
            row = {"system": label, **self._costs.loc[label].to_dict()}
            for one in own.to_dict("records"):
                row[one["metric"]] = one["mean"]
                row |= {f"{one['metric']} {name}": value for name, value in one.items() if name not in
                        ("system", "metric", "mean")}  # fmt: skip
            rows.append(row)
        frame = pd.concat([pd.DataFrame(rows), self._measured]) if len(self._measured) else pd.DataFrame(rows)
        return frame.sort_values(self.metrics[-1], ascending=False, kind="stable", ignore_index=True)

    @property
    def first_runs(self) -> dict[str, Run]:
        """The first seed of each system by its label, those that were trained before those that only count."""
        order = sorted(self.runs, key=lambda label: self._costs.at[label, "kind"] != "trained")
        return {label: self.runs[label][0] for label in order}

    def made(self) -> pd.DataFrame:
        """How each system came about: label, seeds, settings, training and run folders, the same for all its seeds.

        settings, training: where they differ from the defaults; training is told of runs that have a folder.
        """
        import pandas as pd

        rows = []
        for label, some in self.runs.items():
            told = _options(some[0]) or {}
            seeds = [str((_options(run) or {}).get("seed", "")) for run in some]
            rows.append({
                "system": label, "seeds": ", ".join(filter(None, seeds)) or f"{len(some)}",
                "settings": _changed(dataclasses.asdict(some[0].model.config), type(some[0].model.config)()),
                "training": _changed(told, Options()) if hasattr(some[0].model, "loss") else "counts only",
                "folders": ", ".join(str(run.folder) for run in some if run.folder) or "made here, not kept",
            })  # fmt: skip
        return pd.DataFrame(rows)

    def slices(self, system: str, metric: str) -> pd.DataFrame:
        """A system beside the reference by groups of users: see `evaluation.Standings.slices`."""
        return self._standings.slices(self._known(system), self.reference, metric, self._also())

    def users(
        self, system: str, metric: str, group: tuple[str, str] = EVERYBODY, order: Order = "system"
    ) -> pd.DataFrame:
        """The users of a group as `figures.user_differences` takes them; order: see `evaluation.standings.Order`."""
        rows = self._standings.users(self._known(system), self.reference, metric, self._members(group), order)
        names = self._split.log.users["user_id"].loc[rows["user"]].map(plain).to_numpy()
        return rows.assign(name=names, title=[self._titles[item] for item in rows["item"]])

    @property
    def best(self) -> str:
        """The best system by the last metric that is not the reference; one that was trained, if there is any."""
        others = [label for label in self.board()["system"] if label in self.runs and label != self.reference]
        return min(others, key=lambda label: self._costs.at[label, "kind"] != "trained")

    def protocol(self) -> str:
        """Under which rules all numbers of the table came about, in a sentence."""
        seen = "filtered" if self._standings.seen_filter else "kept"
        return (
            f"{self._split.log.name}, {self._split.how}: every system ranks the answers of the same "
            f"{len(self._standings.frame):,} users among all {self._split.n_items:,} items, seen items {seen}, ties at "
            "their mean rank."
        )

    def costs(self, cost: str = "seconds", metric: str | None = None) -> go.Figure:
        """Quality over cost; cost: "parameters", "seconds" (of training) or "milliseconds" (per user)."""
        if cost not in COSTS:
            raise ValueError(f"{cost!r} is no cost that is known; there are: {', '.join(COSTS)}.")
        return figures.cost_and_quality(self.board(), cost, metric or self.metrics[-1])

    def curves(self) -> go.Figure:
        """recall@k of every system with ranks for every k up to 20."""
        return figures.recall_curves(self._standings.curves(), self._costs["kind"].to_dict())

    # what a person does

    def compare_with(self, reference: str) -> None:
        """Take another system for the reference; what is open stays open, unless it is that system's."""
        self.reference = self._known(reference)
        if self.cell is not None and self.cell[0] == reference:
            self.cell = self.group = None
        self._show()

    def open(self, system: str, metric: str) -> None:
        """Show the groups of users behind one cell. Raises `ValueError` for the reference, which has no difference."""
        if self._known(system) == self.reference:
            raise ValueError(f"{system!r} is the reference; open another system, or compare with another reference.")
        if metric not in self.metrics:
            raise ValueError(f"{metric!r} is not in the table; there are: {', '.join(self.metrics)}.")
        self.cell, self.group = (system, metric), None
        self._show()

    def open_group(self, slice_: str, group: str) -> None:
        """List the users of a group of the open cell, and select them. Raises `ValueError` for a group that is none."""
        if self.cell is None:
            raise ValueError("open a cell of the table first: a group belongs to a system and a metric")
        members = self._members((slice_, group))
        self.group, self.order, self._shown, self.user = (slice_, group), "system", LISTED, None
        if self.selection is not None:
            self.selection.select(users=self._standings.frame["user"].to_numpy()[members.to_numpy()], by=self)
        self._show()

    def back(self) -> None:
        """Return to the level before: from users to groups, from groups to the table."""
        if self.cell is None:
            raise ValueError("this is the whole table; there is nothing before it")
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
        """The table with its differences; of the `best` system the groups, and the users on whom it differs most."""
        best, metric = self.best, self.metrics[-1]
        words = f"{best} beside {self.reference}, the reference, by groups of users"
        users = self.users(best, metric, order="most").head(self._count)
        two = figures.group_differences(self.slices(best, metric), best, self.reference, metric)
        ten = figures.user_differences(users, best, self.reference, metric)
        return Html(
            f"{self._table(live=False).body}<h4>{text(words)}</h4>{self._line(self._words_of_groups(best, metric))}"
            f"{two.body}<h4>The users on whom they differ most</h4>"
            f"{self._line(self._words_of_users(best, metric, 'most'))}{ten.body}"
        )

    # what is shown

    def _table(self, live: bool) -> Html:
        board = self.board()
        table = figures.standings(board, self.metrics, self.reference, live, live and self.selection is not None)
        key = (
            f"Below each number its interval; dashes are {plain(self.reference, 40)}, the reference. {INTERVALS}. "
            "Differences are paired by user: ▲ better and ▼ worse where their interval misses 0, ○ where none was "
            "shown. A floor only counts. Milliseconds: ten items for a batch of 64 users, this machine. Peak memory is "
            "not told: systems trained in one process share it."
        )
        if (board["kind"] == "number").any():
            key += (
                " Only a number: measured before, under this protocol but with other settings or training (see the "
                "leaderboard); it takes a run to go deeper."
            )
        if self._left_out:
            key += f" {self._left_out} of the leaderboard, of other data of this name or another protocol: left out."
        return Html(f"{self._line(self.protocol())}{table.body}<div class='quiet'>{text(key)}</div>")

    def _groups(self) -> Html:
        table = figures.group_differences(
            self.slices(*self.cell), self.cell[0], self.reference, self.cell[1], live=True
        )
        head = self._head(f"{self.cell[1]} of {self.cell[0]} beside {self.reference}, by groups of users")
        return Html(f"{head}{self._line(self._words_of_groups(*self.cell))}{table.body}")

    def _list(self) -> Html:
        rows = self.users(*self.cell, self.group, self.order)
        table = figures.user_differences(
            rows.head(self._shown), self.cell[0], self.reference, self.cell[1], self.user, live=True
        )
        names = {"system": plain(self.cell[0], 40), "reference": plain(self.reference, 40)}
        orders = " ".join(
            f"<button type='button' data-press='order:{order}' aria-pressed='{str(order == self.order).lower()}'>"
            f"{text(words.format(**names))}</button>"
            for order, words in ORDERS.items()
        )
        more = len(rows) - self._shown
        rest = (
            f"<button type='button' data-press='more:'>{min(more, LISTED)} of {more:,} more</button>"
            if more > 0
            else ""
        )
        group = "all users" if self.group == EVERYBODY else f"{self.group[0]}: {self.group[1]}"
        head = self._head(f"{len(rows):,} users, {group}; {self.cell[1]} of {self.cell[0]} and {self.reference}")
        words = self._line(self._words_of_users(*self.cell, self.order))
        return Html(f"{head}{words}<div role='group' aria-label='order'>first where {orders}</div>{table.body}{rest}")

    def _head(self, title: str) -> str:
        return f"<div><button type='button' data-press='back:'>← Back</button> <b>{text(title)}</b></div>"

    def _line(self, words: str) -> str:
        return f"<div>{text(words)}</div>"

    def _words_of_groups(self, system: str, metric: str) -> str:
        return (
            f"For whom {plain(system, 40)} gains or loses: {metric} of both on the same users with 95 % intervals; "
            "▲ and ▼ mark where that of the difference misses 0, lengths and counts are cut into quarters of users."
        )

    def _words_of_users(self, system: str, metric: str, order: Order) -> str:
        first = {
            "system": f"{plain(system, 40)} has the answer nearer to the top",
            "reference": f"{plain(self.reference, 40)} has the answer nearer to the top",
            "most": "either has the answer nearer to the top than the other",
        }[order]
        several = any(self._standings.seeds[label] > 1 for label in (system, self.reference))
        means = "; ranks are means over the seeds" if several else ""
        return (
            f"First come users for whom {first}: by the difference of {metric}, then of the ranks (✓: among the first "
            f"{metric.partition('@')[2]}; 1 is best{means})."
        )

    def _controls(self) -> Any:
        import ipywidgets

        from seqlab.widgets.inputs.clickable_html import Pressable

        self.status = StatusLine()
        named, narrow = {"description_width": "auto"}, {"width": "auto", "max_width": "97%"}

        def choice(words: str, options: list[tuple[str, str]], value: str) -> Any:
            return ipywidgets.Dropdown(options=options, value=value, description=words, style=named, layout=narrow)

        systems = [(plain(label, 60), label) for label in self.runs]
        self.with_whom = choice("compare with", systems, self.reference)
        self.cost = choice("cost", [(words, name) for name, words in COSTS.items()], "seconds")
        self.quality = choice("quality", [(one, one) for one in self.metrics], self.metrics[-1])
        self.table = Pressable(self.status.guard(self._pressed))
        self.figure = live_figure(self.costs())
        words = Html("<div>What quality costs: up and to the left is better; whiskers are 95 % intervals.</div>").markup
        row = ipywidgets.HBox([self.cost, self.quality], layout={"flex_flow": "row wrap"})
        self._plot = ipywidgets.VBox([ipywidgets.HTML(words), row, self.figure])
        self._level, self._by = "", {"board": "", "groups": ""}
        self._draw()
        self.with_whom.observe(self.status.guard(lambda change: self.compare_with(change.new)), "value")
        for control in (self.cost, self.quality):
            control.observe(self.status.guard(self._draw_costs), "value")
        if self.selection is not None:
            self.selection.follow(self._follow, self.status)
        return panel(self.status, self.with_whom, self.table, self._plot, figure=self.figure)

    def _show(self) -> None:
        """Show the level that is open, if there is anything to show it on."""
        if self.view is not None:
            self._draw()

    def _draw(self) -> None:
        level = "board" if self.cell is None else "groups" if self.group is None else "users"
        made = {"board": lambda: self._table(live=True), "groups": self._groups, "users": self._list}[level]()
        deeper = ("board", "groups", "users").index(level) - ("board", "groups", "users", "").index(self._level)
        focus = "" if not self._level or not deeper else "back:" if deeper > 0 else self._by[level]
        self.table.show(made.markup, focus)
        self._level, self._plot.layout.display = level, None if level == "board" else "none"
        if self.with_whom.value != self.reference:
            self.with_whom.value = self.reference

    def _draw_costs(self, change: object) -> None:
        redraw(self.figure, self.costs(self.cost.value, self.quality.value))

    def _pressed(self, key: str) -> None:
        """Do what a button says; one that is no longer there, as after a double click, does nothing."""
        kind, _, place = key.partition(":")
        if kind in ("cell", "system") and self._level == "board":
            row, _, column = place.partition(":")
            system = self.board()["system"].iat[int(row)]
            if kind == "system":
                self._select_found(system)
            else:
                self._by["board"] = key
                self.open(system, self.metrics[int(column)])
        elif kind == "group" and self._level == "groups":
            row = self.slices(*self.cell).iloc[int(place)]
            self._by["groups"] = key
            self.open_group(row["slice"], row["group"])
        elif kind == "user" and self._level == "users":
            self.pick(self.users(*self.cell, self.group, self.order)["user"].iat[int(place)])
        elif kind == "order" and self._level == "users":
            self.order, self._shown = place, LISTED
            self._show()
        elif kind == "more" and self._level == "users":
            self._shown += LISTED
            self._show()
        elif kind == "back" and self._level != "board":
            self.back()

    def _select_found(self, system: str) -> None:
        self.selection.select(users=self._standings.found(system), by=self)

    def _follow(self, now: Selected) -> None:
        """Whom another view selects is a group here; one that has gone leads back to the groups."""
        if now.by is self:
            return
        self._selected = now.users
        if self.group is not None and self.group[0] == SELECTED[0]:
            self.group = None
        if self.cell is not None and self.group is None:
            self._show()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return bundle(self)

    # what is known

    def _members(self, group: tuple[str, str]) -> pd.Series:
        """Which rows of the frame are in a group."""
        known = self._standings.groups() | self._also()
        if group[0] not in known or group[1] not in known[group[0]].cat.categories:
            raise ValueError(f"there is no group {group[1]!r} of {group[0]!r}")
        return known[group[0]] == group[1]

    def _also(self) -> dict[str, pd.Series]:
        import numpy as np
        import pandas as pd

        if not len(self._selected):
            return {}
        inside = np.isin(self._standings.frame["user"], self._selected)
        return {SELECTED[0]: pd.Series(np.where(inside, SELECTED[1], None), dtype="category")}

    def _known(self, label: str) -> str:
        if label not in self.runs:
            raise ValueError(f"{label!r} is none of the systems with ranks: {', '.join(map(repr, self.runs))}.")
        return label

    def _of_this_split(self) -> None:
        """The runs must have answered the questions of this split's test part."""
        import numpy as np

        test, asked = self._split.test, self._standings.frame
        order = test.user.argsort()
        same = len(test) == len(asked) and np.array_equal(asked["user"], test.user[order].cpu().numpy())
        if not same or not np.array_equal(asked["item"], test.item[order].cpu().numpy()):
            raise ValueError(
                f"these runs did not answer the test questions of this split of {self._split.log.name} "
                f"({self._split.how}): give the split they were trained on."
            )

    def _costs_of_runs(self) -> pd.DataFrame:
        """Per system: kind, seeds, parameters, seconds of training (the mean of its seeds), milliseconds per user."""
        import numpy as np
        import pandas as pd

        rows = {}
        for label, some in self.runs.items():
            spent = seconds_per_user(some[0].model, self._split, self._standings.seen_filter)
            rows[label] = {
                "kind": "trained" if hasattr(some[0].model, "loss") else "floor",
                "seeds": len(some),
                "parameters": np.mean([one.metrics["parameters"] for one in some]),
                "seconds": np.mean([one.metrics["seconds"] for one in some]),
                "milliseconds": 1000 * spent,
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def _only_numbers(self, measured: pd.DataFrame | None) -> tuple[pd.DataFrame, str]:
        """Rows of the leaderboard of these data under this protocol, but for these runs, and how many others there are.

        Others are those of this name.
        """
        import pandas as pd

        if measured is None or not len(measured):
            return pd.DataFrame(), ""
        found = leaderboard.standings(measured, self._split, self._standings.seen_filter)
        of_dataset = int((measured["dataset"] == self._split.log.name).sum())
        others = of_dataset - int(found["seeds"].sum())
        means = self._standings.table(next(iter(self.runs))).set_index(["system", "metric"])["mean"]
        here = [(some[0].system, label) for label, some in self.runs.items()]
        names = [name for name in self.metrics if name in found]
        again = [
            any(system == row["system"] and all(abs(means[label, name] - row[name]) < 1e-5 for name in names)
                for system, label in here)
            for row in found.to_dict("records")
        ]  # fmt: skip
        found = found[[not one for one in again]].drop(columns="system").rename(columns={"arm": "system"})
        empty = {
            f"{name}{end}": float("nan") for name in self.metrics for end in ("", " low", " high") if name not in names
        }
        found = found.assign(kind="number", milliseconds=float("nan"), **empty)
        return found, f"{others} rows" if others > 1 else "1 row" if others else ""


def _labelled(runs: Sequence[Run] | Mapping[str, Run | Sequence[Run]]) -> dict[str, list[Run]]:
    """By label, the runs of each system: its seeds."""
    if isinstance(runs, Mapping):
        return {str(label): list(some) if isinstance(some, (list, tuple)) else [some] for label, some in runs.items()}
    found: dict[str, dict[str, tuple[dict, list[Run]]]] = {}
    for run in runs:
        choice = dataclasses.asdict(run.model.config)
        if hasattr(run.model, "loss"):
            choice |= {key: value for key, value in (_options(run) or {}).items() if key != "seed"}
        found.setdefault(run.system, {}).setdefault(repr(choice), (choice, []))[1].append(run)
    labelled = {}
    for system, kinds in found.items():
        words = _shortest([choice for choice, _ in kinds.values()])
        labelled |= {f"{system}{word}": some for word, (_, some) in zip(words, kinds.values(), strict=True)}
    return labelled


def _shortest(choices: list[dict[str, Any]]) -> list[str]:
    """Words that tell each choice from the others, by as few of its settings and options as it takes."""
    keys, told = [], 1
    for key in dict.fromkeys(key for choice in choices for key in choice):
        if (apart := len({repr([choice.get(one) for one in [*keys, key]]) for choice in choices})) > told:
            keys, told = [*keys, key], apart
    return leaderboard.told_apart([{key: choice[key] for key in keys if key in choice} for choice in choices])


def _options(run: Run) -> dict[str, Any] | None:
    """The options of a run that has a folder, those that it was made with."""
    return stored_identity(run.folder).options if run.folder is not None else None


def _changed(values: dict[str, Any], usual: Any) -> str:
    """What differs from the defaults, as words."""
    usual = json.loads(json.dumps(dataclasses.asdict(usual)))
    return leaderboard.as_words({
        key: value for key, value in values.items()
        if key != "seed" and json.loads(json.dumps(value)) != usual.get(key)
    }).replace(":", ", ") or "the defaults"  # fmt: skip
