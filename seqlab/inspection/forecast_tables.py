"""Trained runs with the forecasts of their hits: metrics, reliability diagrams, risk by coverage, groups of users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seqlab.evaluation import calibration
from seqlab.evaluation.metrics import quartiles
from seqlab.inspection.answer_probability import FORECASTS, HEADS, Judge, fit_judge
from seqlab.inspection.calibration import forecast_outcome
from seqlab.inspection.confidence import Confidence, drawn

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.sequences import Queries
    from seqlab.datasets.splits import Split
    from seqlab.evaluation.outcome import Outcome
    from seqlab.runs.run import Run

CURVE_POINTS = 200
"""Points of a risk-coverage curve that a table keeps."""


@dataclass(frozen=True)
class Judged:
    """One trained run, what was fitted on its validation users, and its test queries with all forecasts (Q, F)."""

    run: Run
    judge: Judge
    queries: Queries
    test: Confidence
    forecasts: pd.DataFrame

    def outcome(self, name: str) -> Outcome:
        """The outcome of one forecast."""
        return forecast_outcome(self.test, self.forecasts[name].to_numpy())


def judged(
    run: Run, split: Split, k: int = 10, users: int | None = None, seed: int = 0, heads: Sequence[str] = HEADS
) -> Judged:
    """Fit on validation queries, forecast on test queries, `users` of each drawn with `seed` (None: all)."""
    judge = fit_judge(run.model, split, run.seen_filter, k, users, seed, heads)
    queries = drawn(split.test, users, seed)
    test = judge.confidence(queries)
    return Judged(run, judge, queries, test, judge.forecasts(test))


def forecast_table(runs: Mapping[str, Sequence[Judged]], bins: int = calibration.BINS) -> pd.DataFrame:
    """The metrics of every forecast of every system, the mean of its seeds.

    Columns system, forecast, seeds, mean P, hits (their share), p_answer (its mean), the metrics of
    `inspection.calibration`, and "ece by chance", which calibrated probabilities exceed in 5 % of draws.
    """
    import pandas as pd

    rows = []
    for label, some in runs.items():
        for name in some[0].forecasts:
            values = [one.outcome(name).means() for one in some]
            chance = [calibration.chance_error(one.forecasts[name].to_numpy(), bins, 200) for one in some]
            rows.append({
                "system": label, "forecast": FORECASTS[name], "seeds": len(some),
                "mean P": float(np.mean([one.forecasts[name].mean() for one in some])),
                "hits": float(np.mean([one.test.frame["hit"].mean() for one in some])),
                "p_answer": float(np.mean([one.test.frame["p_answer"].mean() for one in some])),
                **{metric: float(np.mean([one[metric] for one in values])) for metric in values[0]},
                "ece by chance": float(np.mean(chance)),
            })  # fmt: skip
    return pd.DataFrame(rows)


def diagrams(runs: Mapping[str, Judged], bins: int = calibration.BINS, seed: int = 0) -> pd.DataFrame:
    """The reliability diagrams of the own words of each system and of its P(IK); columns system, forecast and those of
    `evaluation.calibration.reliability`."""
    import pandas as pd

    parts = []
    for label, one in runs.items():
        hit = one.test.frame["hit"].to_numpy()
        for name in ("raw_mass", "mass", one.judge.best):
            table = calibration.reliability(one.forecasts[name].to_numpy(), hit, bins, seed=seed)
            parts.append(table.assign(system=label, forecast=FORECASTS[name]))
    return pd.concat(parts, ignore_index=True)


def curves(runs: Mapping[str, Judged]) -> pd.DataFrame:
    """The risk-coverage curves: columns system, forecast, threshold, coverage, risk (share of misses)."""
    import pandas as pd

    parts = []
    for label, one in runs.items():
        miss = 1.0 - one.test.frame["hit"].to_numpy()
        for name in ("mass", one.judge.best, "length", "base_rate"):
            curve = calibration.risk_coverage(one.forecasts[name].to_numpy(), miss)
            kept = np.unique(np.linspace(0, len(curve) - 1, CURVE_POINTS).round().astype(int))
            parts.append(curve.iloc[kept].assign(system=label, forecast=FORECASTS[name]))
    return pd.concat(parts, ignore_index=True)


def by_length(runs: Mapping[str, Judged]) -> pd.DataFrame:
    """Predicted probabilities and observed frequencies by quartile of the history length.

    Columns system, history, users, hits (their share), own words (the mean of the scaled mass), P(IK) (of states
    where there are any).
    """
    import pandas as pd

    parts = []
    for label, one in runs.items():
        shown = pd.DataFrame({
            "hits": one.test.frame["hit"], "own words": one.forecasts["mass"], "P(IK)": one.forecasts[one.judge.best],
        })  # fmt: skip
        groups = shown.groupby(quartiles(one.test.frame["history_length"], "events"), observed=True)
        table = groups.mean().rename_axis("history").reset_index().astype({"history": str})
        parts.append(table.assign(users=groups.size().to_numpy(), system=label))
    return pd.concat(parts, ignore_index=True)[["system", "history", "users", "hits", "own words", "P(IK)"]]
