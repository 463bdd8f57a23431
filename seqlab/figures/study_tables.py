"""Draws the tables and verdicts of any study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqlab.figures.forecasts import reliability, risk_coverage
from seqlab.figures.html import Html, downloadable, render
from seqlab.figures.tables import table

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

VERDICTS = {"holds": "good", "fails": "bad", "open": "look", "not tested": "note"}
"""Verdict -> the class of its mark."""

MAX_ROWS = 60
"""Rows of a table that are shown."""


def study_table(frame: pd.DataFrame) -> go.Figure | Html:
    """The view of a table of a study, by its columns.

    predicted, observed: a reliability diagram. coverage, risk: a risk-coverage curve. Anything else: its first rows.
    """
    columns = {*frame.columns}
    if {"predicted", "observed", "low", "high"} <= columns:
        return reliability(frame)
    if {"coverage", "risk", "threshold"} <= columns:
        return risk_coverage(frame)
    return table(frame.head(MAX_ROWS))


def verdicts(frame: pd.DataFrame) -> Html:
    """The verdicts of a study: claim, what it was tested on, the number with its interval, why.

    frame: of `Findings.verdict_table`.
    """
    made = render("verdicts.html.j2", rows=frame.to_dict("records"), marks=VERDICTS)
    return downloadable(made, "verdicts")
