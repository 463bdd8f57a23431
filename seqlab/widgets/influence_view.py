"""InfluenceView: the same user under two systems: what each event is worth to either, and what a recurrent one lets in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab import figures, tracing
from seqlab.datasets.history import history_of
from seqlab.figures.theme import plain
from seqlab.inspection import influence
from seqlab.widgets.display import StatusLine, View, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import user_choices, titles_of, user_dropdown, user_label

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run


class InfluenceView(View):
    """Leave-one-out influence of each event on the answer, under two runs, for one user (`users` in the still).

    Both systems (second: None to look at one alone) are asked about the same item, the one that came next, and read the
    same events. Where a system has gates, the share of its memory that every event rewrites is shown as well.
    `history`: what is read instead of a user's, edited or typed in; there is no user to choose then, and `show` gives
    the next history. Of somebody typed in nobody knows what came next: the item the first system puts first is asked
    about.
    """

    def __init__(
        self,
        first: Run,
        second: Run | None,
        split: Split,
        user: int | str | None = None,
        users: int = 2,
        seed: int = 0,
        history: History | None = None,
    ) -> None:
        self._runs = (first,) if second is None else (first, second)
        self._split, self._titles, self._count, self._history = split, titles_of(split), users, history
        names = [run.system for run in self._runs]
        same = len(names) == 2 and names[0] == names[1]
        self._names = [f"{names[0]} (first)", f"{names[1]} (second)"] if same else names
        self._longest = min(run.model.config.max_length or WINDOW for run in self._runs)
        self._answers = dict(zip(split.test.user.tolist(), split.test.item.tolist(), strict=True))
        self._users = [] if history is not None else user_choices(split, user, seed)
        self.view = None if in_report() else self._controls()

    def show(self, history: History | int) -> None:
        """Look at another history, or at that of a user of the log."""
        self._history = None if isinstance(history, int) else history
        if self.view is not None:
            redraw(self.figure, self._figure([history]))

    def still(self) -> go.Figure:
        """The first users, one under the other."""
        return self._figure(self._users[: self._count] if self._history is None else [self._history])

    def measure(self, who: History | int) -> tuple[str, pd.DataFrame, list[str]]:
        """For one user: what was found in words, the tidy frame of all panels, and the titles of the events."""
        import pandas as pd

        if isinstance(who, int):
            who = history_of(self._split, who)
        history, answer = who.last(self._longest), self._answers.get(who.user)
        if answer is None:
            answer = int(influence.scores_of(self._runs[0].model, [history])[0].argmax())
        worth = [influence.leave_one_out(run.model, history, answer) for run in self._runs]
        panels = [
            frame.assign(panel=f"worth to {name}", unit="log-probability")
            for name, frame in zip(self._names, worth, strict=True)
        ]
        panels += [gate for run in self._runs if (gate := _rewritten(run, history)) is not None]
        watched = "next came" if who.user in self._answers else "asked about"
        words = f"User {user_label(self._split, who.user)}, {watched} “{plain(self._titles[answer], 60)}”."
        if len(worth) == 2:
            _, agree = influence.agreement(*worth)
            words += f"\n{self._names[0]} and {self._names[1]} {agree}"
        titles = [self._titles[item] for item in history.items.tolist()]
        return words, pd.concat(panels, ignore_index=True), titles

    def _figure(self, users: list[History | int]) -> go.Figure:
        import pandas as pd

        frames, titles = [], {}
        for user in users:
            words, frame, events = self.measure(user)
            frames.append(frame.assign(history=words))
            titles[words] = events
        return figures.influences(pd.concat(frames, ignore_index=True), titles)

    def _controls(self) -> Any:

        self.status = StatusLine()
        self.user = user_dropdown(self._split, self._users)
        self.figure = interactive_figure(self._figure([self.user.value if self._history is None else self._history]))
        self.user.observe(self.status.guard(lambda change: self.show(change.new)), "value")
        return panel(self.status, self.user, self.figure, figure=self.figure)


WINDOW = 30
"""Events shown where both systems read the whole history."""


def _rewritten(run: Run, history: History) -> pd.DataFrame | None:
    """How much of its memory a gated system rewrites at each event: the update gate's mean over the width."""
    import pandas as pd

    if not any(tap.kind == "gates" for tap in tracing.taps(run.model).values()):
        return None
    with tracing.watch(run.model, "gates") as trace:
        influence.scores_of(run.model, [history])
    record = trace["gates"]
    values = record.values[-1] if record.axes[0] == "layer" else record.values  # (1, T, gate, D)
    update = values[0, : len(history), UPDATE].mean(-1)
    return pd.DataFrame(
        {
            "position": range(len(history)),
            "value": update.double().numpy(),
            "panel": f"rewritten in {run.system}",
            "unit": "update gate, mean",
        }
    )


UPDATE = 1
"""Which of a GRU's gates is the update gate (0 is the reset gate)."""
