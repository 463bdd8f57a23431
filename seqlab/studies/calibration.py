"""Does a recommender know when it is right? Its own probabilities, and heads on its frozen states, against the truth.

Paper: Kadavath et al., "Language Models (Mostly) Know What They Know", 2022. P(True): here is an item, is it the
answer? P(IK): will the list, which is not seen yet, hold the answer? Claims of the paper, in our words: larger
models are better calibrated; P(IK) carries over to new data in order, not in calibration; it rises with a hint.

Confirmed (in notes on the paper; no code was read): reliability diagrams with equal numbers of rows per bin; the target
of P(IK) is the share of samples at temperature 1 that are right, which for a recommender with one answer is p_answer.
Reconstructed: all forms for recommenders. The probability of a hit in the model's own words is the mass of its list; a
sample is a pass with dropout; a hint is a Swing neighbour of the answer; routing after EASE (first sure expert).
Rules: all is fitted on validation users, one half fits, the other chooses; test users report. No point is called
miscalibrated inside the consistency band.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from seqlab.contracts import Card, Learns, supports
from seqlab.datasets import load
from seqlab.datasets.split_names import split as split_by
from seqlab.evaluation import compare, intervals
from seqlab.evaluation.bootstrap import bootstrap
from seqlab.inspection import forecast_tables
from seqlab.inspection.answer_probability import FORECASTS, Judge, fit_judge
from seqlab.inspection.calibration import forecast_outcome
from seqlab.inspection.confidence import drawn
from seqlab.inspection.experts import routed_ranks, routing_table
from seqlab.inspection.forecast_tables import Judged, by_length, curves, diagrams, forecast_table
from seqlab.inspection.hints import hints, with_event
from seqlab.inspection.listed_items import listed_items, p_true
from seqlab.runs.findings import Findings, Verdict, verdict
from seqlab.runtime.settings import Count, NonNegativeInt, settings
from seqlab.training.arms import trained

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from seqlab.datasets.sequences import Queries
    from seqlab.datasets.splits import Split
    from seqlab.evaluation.outcome import Outcome
    from seqlab.runs.run import Run

CARD = Card(
    claim="A recommender knows for whom it will be right.",
    title="Language Models (Mostly) Know What They Know",
    authors="Kadavath et al.",
    year=2022,
    venue="arXiv 2207.05221",
    controls=("mass", "length", "base_rate"),
    control_names={"mass": FORECASTS["mass"], "length": FORECASTS["length"], "base_rate": FORECASTS["base_rate"]},
    homes=("complete-journey", "amazon-beauty"),
    seeds=(0, 1, 2),
)

CLAIMS = {
    "width": "The wider the model, the better calibrated are its own words.",
    "order": "P(IK) orders users better than the mass of the model's own list.",
    "transfer": "A head fitted on these data orders users of other data, but is worse calibrated there.",
    "hint": "An event that others connect with the answer raises P(IK) more than one that is only as popular.",
    "routing": "Asking the first expert that is sure of itself beats the best single expert.",
}


@settings
class Config:
    """Settings."""

    k: Count = 10  # items of a list
    users: Count | None = None  # validation and test queries that are read, each; none: all
    bins: Count = 15  # of the reliability diagrams, with equal numbers of queries
    listed: NonNegativeInt = 1000  # queries on whose listed items P(True) is measured; 0: it is not
    passes: Count = 8  # with dropout, for P(True)
    hints: NonNegativeInt = 2000  # test queries to which an event is added; 0: none
    evidence: str = "personal_frequency"  # the arm that routing tries first; "": no routing
    fallback: str = "popularity"  # the arm that routing tries last
    transfer: str = ""  # a dataset on which the same arms are trained, and judged by the heads fitted here; "": none
    seed: int = 0  # of the halves, the heads and everything that is drawn


def run(split: Split, systems: Mapping[str, Sequence[Run]], config: Config, runs: str | Path = "") -> Findings:
    """The study on one split. Raises `ValueError` for a system without scores of the catalogue."""
    import pandas as pd

    judged = {label: [_judged(one, split, config) for one in some] for label, some in systems.items()}
    first = {label: some[0] for label, some in judged.items()}
    temperatures = [(label, at, one.judge.temperature) for label, some in judged.items() for at, one in enumerate(some)]
    tables: dict[str, pd.DataFrame] = {
        "forecasts": forecast_table(judged, config.bins), "reliability": diagrams(first, config.bins, config.seed),
        "risk_coverage": curves(first), "by_length": by_length(first),
        "temperatures": pd.DataFrame(temperatures, columns=["system", "run", "temperature"]),
    }  # fmt: skip
    verdicts: list[Verdict] = []
    for part in (_widths(judged), _order(judged)):
        tables |= part[0]
        verdicts += part[1]
    if config.transfer:
        found = _transfer(judged, split, config, runs)
        tables["transfer"], verdicts = found[0], verdicts + found[1]
    if config.hints:
        found = _hints(judged, split, config)
        tables["hints"], verdicts = found[0], verdicts + found[1]
    if config.listed:
        tables["p_true"] = _p_true(judged, split, config)
    if config.evidence:
        found = _routing(judged, split, config, runs)
        tables["routing"], verdicts = found[0], verdicts + found[1]
    tested = {one.claim for one in verdicts}
    verdicts += [Verdict(claim, "") for claim in CLAIMS.values() if claim not in tested]
    outcomes = {
        f"{label}: {name}": one.outcome(name) for label, one in first.items() for name in ("mass", one.judge.best)
    }
    return Findings("calibration", {}, tables, outcomes, tuple(verdicts), _notes(judged, split))


def _judged(run: Run, split: Split, config: Config) -> Judged:
    return forecast_tables.judged(run, split, config.k, config.users, config.seed)


def _widths(judged: Mapping[str, Sequence[Judged]]) -> tuple[dict[str, pd.DataFrame], list[Verdict]]:
    """ECE by width, for arms that differ in `dim` alone, and its slope per doubling of the width."""
    import pandas as pd

    kinds: dict[str, dict[int, list[Judged]]] = {}
    for some in judged.values():
        values = dataclasses.asdict(some[0].run.model.config)
        if dim := values.pop("dim", None):
            kinds.setdefault(f"{some[0].run.system} {values}", {}).setdefault(dim, []).extend(some)
    rows, verdicts = [], []
    for by_dim in (one for one in kinds.values() if len(one) > 1):
        dims = np.log2(sorted(by_dim))
        weights = (dims - dims.mean()) / ((dims - dims.mean()) ** 2).sum()
        system = next(iter(by_dim.values()))[0].run.system
        for name in ("raw_mass", "mass"):
            columns, frame = [], None
            for dim in sorted(by_dim):
                found = [one.outcome(name).by_query() for one in by_dim[dim]]
                frame = found[0].frame
                columns.append(np.mean([one.frame["ece"].to_numpy() for one in found], axis=0))
                low, high = _interval(columns[-1], frame)
                row = {"system": system, "forecast": FORECASTS[name], "dim": dim, "seeds": len(found)}
                recall = float(np.mean([one.test.frame["hit"].mean() for one in by_dim[dim]]))
                rows.append(row | {"ece": columns[-1].mean(), "low": low, "high": high, "hits": recall})
            slope = np.stack(columns, 1) @ weights  # (Q,)
            low, high = _interval(slope, frame)
            number = {"value": slope.mean(), "low": low, "high": high}
            reason = f"ECE per doubling of the width, {' to '.join(f'{2**one:.0f}' for one in (dims[0], dims[-1]))}."
            verdicts.append(verdict(CLAIMS["width"], f"{system}, {FORECASTS[name]}", number, False, reason))
    return ({"widths": pd.DataFrame(rows)} if rows else {}), verdicts


def _order(judged: Mapping[str, Sequence[Judged]]) -> tuple[dict[str, pd.DataFrame], list[Verdict]]:
    """P(IK) minus each control, paired by query; the claim needs AUROC and AURC against the own words, both ways."""
    import pandas as pd

    rows, verdicts = [], []
    for label, some in judged.items():
        heads = [name for name in ("states", "scalars") if name in some[0].judge.heads]
        for head, control in itertools.product(heads, ("mass", "raw_mass", "isotonic", "length", "base_rate")):
            gains = compare([one.outcome(head) for one in some], [one.outcome(control) for one in some])
            words = {"system": label, "forecast": FORECASTS[head], "control": FORECASTS[control]}
            rows += [words | {"metric": one, **gains.loc[one].to_dict()} for one in ("ece", "brier", "auroc", "aurc")]
            if control in ("mass", "raw_mass"):
                auroc, aurc = (gains.loc[one].rename({"difference": "value"}) for one in ("auroc", "aurc"))
                reason = (
                    f"AUROC {auroc['a']:.3f} against {auroc['b']:.3f}; AURC {aurc['a']:.4f} against {aurc['b']:.4f}."
                )
                about = f"{label}, {FORECASTS[head]} against {FORECASTS[control]}"
                first = verdict(CLAIMS["order"], about, auroc, True, reason)
                second = verdict("", "", aurc, False, "")
                both = {first.holds, second.holds}
                holds = True if both == {True} else False if False in both and True not in both else None
                verdicts.append(dataclasses.replace(first, holds=holds))
    return {"differences": pd.DataFrame(rows)}, verdicts


def _transfer(
    judged: Mapping[str, Sequence[Judged]], split: Split, config: Config, runs: str | Path
) -> tuple[pd.DataFrame, list[Verdict]]:
    """The head on scalars and the temperature of these data, used on others, beside heads that were fitted there."""
    import pandas as pd

    there = split_by(load(config.transfer), split.name)
    rows, verdicts = [], []
    for label, (home, *_) in judged.items():
        if "states" not in home.judge.heads:
            continue
        model = trained(label, there, 0, runs, not there.log.repeats).model
        own = fit_judge(model, there, not there.log.repeats, config.k, config.users, config.seed, ("scalars",))
        queries = drawn(there.test, config.users, config.seed)
        foreign = dataclasses.replace(own, temperature=home.judge.temperature).confidence(queries)
        head = home.judge.heads["scalars"].probability(foreign.scalars())
        fitted_here, fitted_there = forecast_outcome(foreign, head), _forecast(own, queries)
        at_home = home.outcome("scalars")
        for name, one in (("at home", at_home), ("elsewhere", fitted_here), ("fitted there", fitted_there)):
            rows += [
                {"system": label, "to": there.log.name, "head": name, "metric": metric, **row.to_dict()}
                for metric, row in intervals(one).iterrows()
            ]
        auroc = intervals(fitted_here).loc["auroc"]
        worse = compare(fitted_here, fitted_there).loc["ece"].rename({"difference": "value"})
        reason = (
            f"AUROC on {there.log.name} {auroc['mean']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]; the number is "
            f"its ECE minus that of a head fitted there; at home its ECE is {at_home.means()['ece']:.4f}."
        )
        grows = verdict(CLAIMS["transfer"], label, worse, True, reason)
        parts = {True if auroc["low"] > 0.5 else False if auroc["high"] < 0.5 else None, grows.holds}
        holds = True if parts == {True} else False if False in parts else None
        verdicts.append(dataclasses.replace(grows, holds=holds))
    return pd.DataFrame(rows), verdicts


def _forecast(judge: Judge, queries: Queries) -> Outcome:
    of = judge.confidence(queries)
    return forecast_outcome(of, judge.forecast(of, "scalars"))


def _hints(judged: Mapping[str, Sequence[Judged]], split: Split, config: Config) -> tuple[pd.DataFrame, list[Verdict]]:
    """How P(IK), the mass, p_answer and hits change by a hint and by its control, the mean of the seeds."""
    import pandas as pd

    rows, verdicts = [], []
    queries, hint, control = hints(split, drawn(split.test, config.hints, config.seed).to("cpu"), config.seed)
    if not len(queries):
        return pd.DataFrame(), []
    users = queries.user.numpy()
    added = {"hint": with_event(queries, hint), "control": with_event(queries, control)}
    for label, some in judged.items():
        changes: dict[str, list[np.ndarray]] = {}
        for one in some:
            before = _probabilities(one.judge, queries)
            for name, longer in added.items():
                changes.setdefault(name, []).append(_probabilities(one.judge, longer) - before)
        mean = {name: np.mean(values, 0) for name, values in changes.items()}  # (Q, 4)
        for at, what in enumerate((FORECASTS[some[0].judge.best], "own words", "p_answer", "hits")):
            gain = mean["hint"][:, at] - mean["control"][:, at]
            bound = 1.0 if what == "hits" else np.inf  # probabilities have no rare large values that a sample may miss
            (low,), (high,) = bootstrap(gain[:, None], 1000, 0, -bound, bound, users)
            row = {"system": label, "what": what, **{name: values[:, at].mean() for name, values in mean.items()}}
            rows.append(row | {"value": gain.mean(), "low": low, "high": high, "queries": len(gain)})
        reason = f"Mean change {rows[-4]['hint']:+.4f} by a hint, {rows[-4]['control']:+.4f} by its control."
        verdicts.append(verdict(CLAIMS["hint"], label, rows[-4], True, reason))
    return pd.DataFrame(rows), verdicts


def _probabilities(judge: Judge, queries: Queries) -> np.ndarray:
    """(Q, 4) P(IK), mass, p_answer and hit."""
    of = judge.confidence(queries)
    return np.stack(
        [judge.forecast(of, judge.best), *(of.frame[one].to_numpy(float) for one in ("mass", "p_answer", "hit"))], 1
    )


def _p_true(judged: Mapping[str, Sequence[Judged]], split: Split, config: Config) -> pd.DataFrame:
    """P(True) of listed items (a) against the system's own probability (b); of the first seed."""
    import pandas as pd

    rows = []
    for label, (one, *_) in judged.items():
        fit, test = (
            listed_items(one.run.model, drawn(queries, config.listed, config.seed), split.n_items, one.run.seen_filter,
                         config.k, one.judge.temperature, config.passes, config.seed)
            for queries in (split.valid, split.test)
        )  # fmt: skip
        found = p_true(fit, test)
        for name in [*found][1:]:
            gains = compare(found[name], found["own words"])
            rows += [
                {"system": label, "forecast": name, "metric": one, **gains.loc[one].to_dict()} for one in gains.index
            ]
    return pd.DataFrame(rows)


def _routing(
    judged: Mapping[str, Sequence[Judged]], split: Split, config: Config, runs: str | Path
) -> tuple[pd.DataFrame, list[Verdict]]:
    """Evidence, the first trained system, fallback: routed, mixed and by an oracle, against the best one alone."""
    import pandas as pd

    label = next((name for name, some in judged.items() if "states" in some[0].judge.heads), "")
    if not label:
        return pd.DataFrame(), []
    system = judged[label][0]
    arms = {config.evidence: None, label: system, config.fallback: None}
    experts = {
        arm: known or _judged(trained(arm, split, 0, runs, system.run.seen_filter), split, config)
        for arm, known in arms.items()
    }
    chooses = drawn(split.valid, config.users, config.seed)
    chooses = chooses.select(torch.from_numpy(~system.judge.fitting).to(chooses.user.device))
    judges, tests = ({name: getattr(one, part) for name, one in experts.items()} for part in ("judge", "test"))
    ranks, routed = routed_ranks(judges, tests, (chooses, system.queries))
    table = routing_table(system.test.frame, ranks, routed, [*experts], split.n_items, system.run.seen_filter)
    row = table.set_index("way").loc["routing by P(IK)"]
    reason = f"NDCG@10 {row['ndcg@10']:.4f} against {table['ndcg@10'][0]:.4f} of {table['way'][0]}."
    return table, [verdict(CLAIMS["routing"], ", ".join(experts), row, True, reason)]


def _interval(values: np.ndarray, frame: pd.DataFrame) -> tuple[float, float]:
    """The 95 % interval over users of the mean of values (Q,) without bounds."""
    low, high = bootstrap(values[:, None], 1000, 0, -np.inf, np.inf, frame["user"].to_numpy())
    return float(low[0]), float(high[0])


def _notes(judged: Mapping[str, Sequence[Judged]], split: Split) -> tuple[str, ...]:
    first = next(iter(judged.values()))[0]
    notes = [first.run.outcome.protocol, f"{len(first.judge.valid.frame):,} validation queries, half of which fitted."]
    for label, some in judged.items():
        model = some[0].run.model
        if not supports(model, Learns) or getattr(model.config, "loss", "softmax") != "softmax":
            notes.append(
                f"{label}: its scores are no log-probabilities of a softmax; the temperature repairs their spread."
            )
    return tuple(notes)
