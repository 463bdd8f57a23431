"""Reliability: whether a system knows when it is right, what answering only when it is sure gains, one user's P."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab import figures
from seqlab.contracts import Scores, UserStates, supports
from seqlab.evaluation import calibration
from seqlab.figures.html import Html, text
from seqlab.inspection.answer_probability import FORECASTS, after_each_event
from seqlab.inspection.forecast_tables import judged
from seqlab.widgets.display import StatusLine, displayed, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import answers_of, history_for, titles_of, user_choices, user_dropdown, user_label
from seqlab.widgets.views import check

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

POINTS = 400
"""Points of a risk-coverage curve."""


@displayed
class Reliability:
    """Does the system know when it is right? Its own words and P(IK), fitted on validation, against the test queries.

    run: of a system that scores items. users: how many validation and test queries are read, each. user, history: whose
    P is shown after each event; a History replaces the user, and `show` replaces it. The slider sets t: only queries
    with P(IK) above t are answered. Raises `ValueError` for a system without scores.
    """

    question = "Does the system know when it is right, and what is gained by answering only then?"
    needs = (Scores,)
    topic = "Trust"

    def __init__(
        self, run: Run, split: Split, user: int | str | None = None, seed: int = 0,
        history: History | None = None, users: int = 2000, k: int = 10,
    ) -> None:  # fmt: skip
        check(self, run)
        self._split, self._titles, self._history, self._seed = split, titles_of(split), history, seed
        heads = ("states",) if supports(run.model, UserStates) else ("scalars",)
        self._judged = judged(run, split, k, users, seed, heads)
        self.names = (self._judged.judge.best, "mass")
        hit = self._judged.test.frame["hit"].to_numpy()
        self._hit, forecasts = hit, {name: self._judged.forecasts[name].to_numpy() for name in self.names}
        self._diagrams = {FORECASTS[name]: calibration.reliability(p, hit, seed=seed) for name, p in forecasts.items()}
        self._curves = {
            FORECASTS[name]: _thinned(calibration.risk_coverage(p, 1.0 - hit)) for name, p in forecasts.items()
        }
        self._p, self._answers = forecasts[self.names[0]], answers_of(split)
        self._users = [] if history is not None else user_choices(split, user, seed)
        self._events = self.events(history if history is not None else self._users[0])
        self._threshold = float(np.quantile(self._p, 0.5))
        self.view = None if in_report() else self._controls()

    def answered(self, threshold: float) -> pd.DataFrame:
        """One row: threshold, coverage (the share of queries with a P(IK) above it), risk (their share of misses)."""
        import pandas as pd

        chosen = self._p > threshold
        risk = float(1 - self._hit[chosen].mean()) if chosen.any() else 0.0
        return pd.DataFrame({"threshold": [threshold], "coverage": [float(chosen.mean())], "risk": [risk]})

    def events(self, user_or_history: int | History) -> pd.DataFrame:
        """The forecasts after each event of a user or a history, with titles; see `after_each_event`."""
        judge = self._judged.judge
        history = history_for(self._split, judge.model, user_or_history, self._seed)
        frame = after_each_event(judge, history, self._answers.get(history.user, 0))
        words = [*self._titles]
        words[0] = "(unknown)"
        titles = {"title": [words[item] for item in frame["item"]], "next": [words[item] for item in frame["next"]]}
        return frame.assign(**titles).rename(columns={name: FORECASTS[name] for name in self.names})

    def show(self, history: History | int) -> None:
        """Show the P of another history, or of a user of the log."""
        self._history = None if isinstance(history, int) else history
        self._events = self.events(history)
        self._draw()

    def still(self) -> go.Figure:
        """The view at its threshold."""
        return figures.selective(self._diagrams, self._curves, self.answered(self._threshold), self._events)

    def _words(self) -> Html:
        one = self.answered(self._threshold).iloc[0]
        words = Html(
            "Answer only if P(IK) &gt; {:.1%}: <b>{:.0%}</b> of the users get a list, and {:.1%} of these lists hold "
            "the answer ({:.1%} if everybody got one)."
        )
        hits = 1 - one["risk"] if one["coverage"] else 0.0
        return words.format(self._threshold, one["coverage"], hits, self._hit.mean())

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        low, high = float(self._p.min()), float(self._p.max())
        self.threshold = ipywidgets.FloatSlider(
            value=self._threshold, min=low, max=max(high, low + 1e-3), step=max(high - low, 1e-3) / 200,
            description="P(IK) above", readout_format=".1%", continuous_update=False, layout={"width": "420px"},
            style={"description_width": "90px"},
        )  # fmt: skip
        self.words = ipywidgets.HTML(self._words().markup)
        self.figure = interactive_figure(self.still())
        self.threshold.observe(self.status.guard(lambda change: self._moved(change.new)), "value")
        parts = [self.threshold]
        if self._users:
            self.user = user_dropdown(self._split, self._users)
            self.user.observe(self.status.guard(lambda change: self.show(change.new)), "value")
            parts.append(self.user)
        else:
            parts.append(ipywidgets.HTML(text(user_label(self._split, self._history.user)).markup))
        bar = ipywidgets.HBox(parts, layout={"flex_flow": "row wrap"})
        return panel(self.status, bar, self.words, self.figure, figure=self.figure)

    def _moved(self, threshold: float) -> None:
        self._threshold = threshold
        self._draw()

    def _draw(self) -> None:
        if self.view is not None:
            self.words.value = self._words().markup
            redraw(self.figure, self.still())


def _thinned(curve: pd.DataFrame) -> pd.DataFrame:
    """At most `POINTS` of its rows."""
    return curve.iloc[np.unique(np.linspace(0, len(curve) - 1, POINTS).round().astype(int))]
