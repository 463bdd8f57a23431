"""What the times of a log can carry: the gaps between a user's events, their ties and their resolution."""

from __future__ import annotations

import numpy as np
import pandas as pd

from seqlab.datasets.log import InteractionLog

DAY = 86_400.0
UNITS = (DAY, 3_600.0, 60.0, 1.0)
MOST_ZERO = 0.2
"""Share of gaps of zero above which times say little about when a user comes again."""
MOST_DAYS = 0.95
"""Share of whole days among the other gaps above which the time of the day is not known."""


def gap_report(log: InteractionLog) -> pd.DataFrame:
    """The gaps between consecutive events of a user, as a table with columns fact and value (a number).

    Shares are of all gaps with both times known, but for the share of whole days, which is of the gaps above zero. The
    resolution is the longest of a day, an hour, a minute and a second that divides 99 % of the gaps above zero; 0 if
    none does. A value is NaN where there is no gap.
    """
    gaps, missing = _gaps(log)
    some = gaps[gaps > 0]
    resolution = next((unit for unit in UNITS if len(some) and _multiples(some, unit) >= 0.99), 0.0)
    median, ninety, most = np.quantile(gaps, [0.5, 0.9, 0.99]) / DAY if len(gaps) else [np.nan] * 3
    facts = {
        "events": log.n_events,
        "events without a timestamp": missing,
        "gaps": len(gaps),
        "share of gaps of zero": _mean(gaps == 0),
        "share of gaps below a minute": _mean(gaps < 60),
        "share of whole days": _multiples(some, DAY),
        "resolution, seconds": resolution if len(some) else np.nan,
        "median gap, days": median,
        "90 % of gaps are below, days": ninety,
        "99 % of gaps are below, days": most,
    }
    return pd.DataFrame({"fact": list(facts), "value": [float(value) for value in facts.values()]})


def unfit_times(log: InteractionLog) -> str:
    """Why the times of a log cannot train or measure a model of event times, in one sentence; "" if they can."""
    gaps, missing = _gaps(log)
    some = gaps[gaps > 0]
    if _multiples(some, DAY) > MOST_DAYS:
        return (
            f"{log.name}: {_multiples(some, DAY):.0%} of the gaps between a user's events at different times are whole "
            "days, so the time of the day is not known, and a density at rounded times can grow without limit."
        )
    if missing:
        return f"{log.name}: {missing:,} of {log.n_events:,} events have no timestamp, and a model of times needs all."
    if not len(gaps):
        return f"{log.name}: no user has two events, so there is no time between events."
    if (zero := _mean(gaps == 0)) > MOST_ZERO:
        return (
            f"{log.name}: {zero:.0%} of the gaps between a user's events are zero, so most of these events are parts "
            "of one, such as a basket or a page of ratings; if they are baskets, use datasets.trips(log)."
        )
    return ""


def _gaps(log: InteractionLog) -> tuple[np.ndarray, int]:
    """The gaps in seconds between consecutive events of a user with known times, and the number of unknown times."""
    times, user = log.events["timestamp"].to_numpy(), log.events["user"].to_numpy()
    known = ~np.isnan(times)
    order = np.lexsort((times[known], user[known]))
    times, user = times[known][order], user[known][order]
    return np.diff(times)[np.diff(user) == 0], int((~known).sum())


def _multiples(gaps: np.ndarray, unit: float) -> float:
    return _mean(np.mod(gaps, unit) == 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
