"""When the next event of a user is expected: the intensity over two weeks, and what one more event changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.contracts import PredictsTime
from seqlab.figures.theme import label
from seqlab.inspection import event_time
from seqlab.layers.clock import DAY, WeeklyProfile
from seqlab.widgets.display import StatusLine, displayed, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import USER_CHOICES, user_dropdown, user_label, user_of
from seqlab.widgets.views import checked

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

FACTOR = 10.0
"""By how much the last wait is shortened and stretched, at first."""


@displayed
class IntensityOverTime:
    """When is a user expected? The intensity of each run over some days, with the events that really came.

    runs: a run, or several by label, of systems that predict times (`next_time`). user: the first user of the dropdown,
    by number or id. `history`: a History instead of a user, in the still too. users: how many the still shows, from
    those with few events to those with many. days: length of the window. Hours of the week in which few events of all
    users in training fall are shaded. Raises `ValueError` for a system without times.
    """

    question = "When is the user expected, and when did they come?"
    needs = (PredictsTime,)
    topic = "Time"

    def __init__(
        self, runs: Run | Mapping[str, Run], split: Split, user: int | str | None = None, seed: int = 0,
        history: History | None = None, users: int = 6, days: int = 14,
    ) -> None:  # fmt: skip
        self._models = {label: run.model for label, run in checked(self, runs).items()}
        self._split, self._count, self._days = split, users, days
        self._profile = WeeklyProfile().fit(split.train.times)
        self._users, self._history = [] if history is not None else _users(split, user, seed), history
        self.view = None if in_report() else self._controls()

    def show(self, history: History | int) -> None:
        """Show another history, or that of a user of the log."""
        self._history = history
        if self.view is not None:
            self._another_user()

    def weeks(self, user: int | History) -> dict[str, int]:
        """The last event of each week of a user, by the date of that event, the latest first."""
        import pandas as pd

        events = event_time.events_of(self._split, user)
        last = events.groupby((events["time"] // (7 * DAY)).rename("week"))[["event", "time"]].last()
        dates = pd.to_datetime(last["time"], unit="s").dt.strftime("%-d %b %Y")
        return dict(zip(dates[::-1], last["event"].tolist()[::-1], strict=True))

    def measure(self, user: int | History, last: int = -1) -> tuple[str, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """A caption, the intensities, the events and the shading of the window that ends at event `last` of a user."""
        import pandas as pd
        import torch

        frame = event_time.intensity_over_time(self._models, self._split, user, self._days, last, steps=48)
        start, end = frame["time"].min(), frame["time"].max()
        every = event_time.events_of(self._split, user)
        events = every[every["time"].between(start, end + 1)]
        hours = torch.arange(start - start % 3600, end, 3600, dtype=torch.float64) + 1800
        shading = pd.DataFrame({"time": hours, "rate": self._profile.log_rate(hours).exp()})
        until = pd.to_datetime(end, unit="s").strftime("%-d %b %Y")
        caption = f"User {_name(self._split, user)}, to {until}: {len(events):,} of {len(every):,} events"
        return caption, frame, events, shading

    def still(self) -> go.Figure:
        """The last window of the history, or of some users, from few events to many."""
        if self._history is not None:
            return self._figure([(self._history, -1)])
        counts = self._split.test.sequences.lengths
        users = sorted(self._users, key=lambda user: int(counts[user - 1]))
        count = min(self._count, len(users))
        chosen = [users[round((at + 0.5) / count * len(users) - 0.5)] for at in range(count)]
        return self._figure([(user, -1) for user in chosen])

    def _figure(self, windows: list[tuple[int | History, int]]) -> go.Figure:
        import pandas as pd

        parts = [[], [], []]
        for caption, *tables in (self.measure(user, last) for user, last in windows):
            for part, table in zip(parts, tables, strict=True):
                part.append(table.assign(panel=caption))
        return figures.intensities(*(pd.concat(part, ignore_index=True) for part in parts))

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.user = user_dropdown(self._split, self._users)
        self.week = ipywidgets.SelectionSlider(
            options=[("", 0)], description="two weeks to", continuous_update=False, layout={"width": "420px"},
            style={"description_width": "90px"},
        )  # fmt: skip
        self.week.description = f"{self._days} days to"
        self._set_weeks()
        self.figure = interactive_figure(self._figure([(self._shown, self.week.value)]))
        self.user.observe(self.status.guard(lambda change: self.show(change.new)), "value")
        self.week.observe(self.status.guard(lambda change: self._draw()), "value")
        bar = ipywidgets.HBox([self.user, self.week], layout={"flex_flow": "row wrap"})
        return panel(self.status, bar, self.figure, figure=self.figure)

    @property
    def _shown(self) -> int | History:
        return self.user.value if self._history is None else self._history

    def _set_weeks(self) -> None:
        weeks = list(self.weeks(self._shown).items())[::-1]
        weeks = [one for one in weeks if one[1] > 0] or weeks
        self._moving = True
        self.week.options = weeks
        self.week.value = weeks[-1][1]
        self._moving = False

    def _another_user(self) -> None:
        self._set_weeks()
        self._draw()

    def _draw(self) -> None:
        if not self._moving:
            redraw(self.figure, self._figure([(self._shown, self.week.value)]))


@displayed
class AfterEvent:
    """What does one more event say of the next? The intensity after an event, and had the wait before it been another.

    runs, user, history: as for `IntensityOverTime`. A run that draws the same line three times does not look at the
    last wait.
    """

    question = "What does one more event, or another wait before it, change for the time of the next?"
    needs = (PredictsTime,)
    topic = "Time"

    def __init__(
        self, runs: Run | Mapping[str, Run], split: Split, user: int | str | None = None, seed: int = 0,
        history: History | None = None, days: int = 14,
    ) -> None:  # fmt: skip
        self._models = {label: run.model for label, run in checked(self, runs).items()}
        self._split, self._days = split, days
        self._users, self._history = [] if history is not None else _users(split, user, seed), history
        self.view = None if in_report() else self._controls()

    def show(self, history: History | int) -> None:
        """Show another history, or that of a user of the log."""
        self._history = history
        if self.view is not None:
            self._another_user()

    def measure(self, user: int | History, event: int = -1, factor: float = FACTOR) -> tuple[str, pd.DataFrame]:
        """A caption (escaped), and the intensities after an event for the wait before it as it was and changed."""
        import pandas as pd

        events = event_time.events_of(self._split, user)
        one = events.iloc[event]
        changes = {"as it was": 1.0}
        if factor != 1 and one["wait"] == one["wait"]:
            changes |= {f"a wait {factor:.3g} × shorter": 1 / factor, f"{factor:.3g} × longer": factor}
        parts = [
            event_time.after_event(self._models, self._split, user, event, self._days, factor=by).assign(change=words)
            for words, by in changes.items()
        ]
        when = pd.to_datetime(one["time"], unit="s").strftime("%a %-d %b %H:%M")
        waited = f", a wait of {one['wait']:.2g} days" if one["wait"] == one["wait"] else ""
        caption = (
            f"User {label(_name(self._split, user), 20)}, event {one['event'] + 1:,} of {len(events):,}: "
            f"{label(one['title'], 24)}<br>{when}{waited}"
        )
        return caption, pd.concat(parts, ignore_index=True)

    def still(self) -> go.Figure:
        """The last event of the history, or of the first user."""
        return self._figure(self._users[0] if self._history is None else self._history, -1, FACTOR)

    def _figure(self, user: int | History, event: int, factor: float) -> go.Figure:
        caption, frame = self.measure(user, event, factor)
        return figures.event_changes(frame, caption)

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.user = user_dropdown(self._split, self._users)
        events = self._events()
        wide = {"continuous_update": False, "layout": {"width": "330px"}}
        self.event = ipywidgets.IntSlider(events, min(2, events), events, description="after event", **wide)
        self.factor = ipywidgets.FloatLogSlider(
            FACTOR, min=0.1, max=2, step=0.1, description="wait × ÷", readout_format=".3g", **wide
        )
        self.figure = interactive_figure(self._figure(self._shown, events - 1, FACTOR))
        self.user.observe(self.status.guard(lambda change: self.show(change.new)), "value")
        for control in (self.event, self.factor):
            control.observe(self.status.guard(lambda change: self._draw()), "value")
        bar = ipywidgets.HBox([self.user, self.event, self.factor], layout={"flex_flow": "row wrap"})
        return panel(self.status, bar, self.figure, figure=self.figure)

    @property
    def _shown(self) -> int | History:
        return self.user.value if self._history is None else self._history

    def _events(self) -> int:
        return len(event_time.events_of(self._split, self._shown))

    def _another_user(self) -> None:
        events = self._events()
        before = self.event.value
        self.event.max = events
        self.event.value = events
        if before == events:  # no change of the slider has drawn it
            self._draw()

    def _draw(self) -> None:
        redraw(self.figure, self._figure(self._shown, self.event.value - 1, self.factor.value))


def _name(split: Split, user: int | History) -> str:
    return user_label(split, user if isinstance(user, int) else user.user)


def _users(split: Split, user: int | str | None, seed: int) -> list[int]:
    """Random users with test queries for a dropdown; a given user comes first."""
    import torch

    known = split.test.user.unique()
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))
    users, first = known[order[:USER_CHOICES]].tolist(), user_of(split, user)
    return users if first is None else [first, *(one for one in users if one != first)]
