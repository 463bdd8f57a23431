"""The result of a report in one sentence, made from its numbers: the verdict on top of the page and in the index."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqlab import evaluation, tokenizers
from seqlab.figures.html import render
from seqlab.runtime.text import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from seqlab.runs.findings import Findings
    from seqlab.runs.run import Run
    from seqlab.tokenizers.codebook import CodeBook

MARKS = {"good": "✓", "bad": "▲", "look": "●"}


@dataclass(frozen=True)
class Headline:
    """A sentence and its kind: "good", "bad", or "look" for one that decides nothing. A notebook shows it as HTML."""

    text: str
    kind: str = "look"

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return render("headline.html.j2", text=self.text, kind=self.kind, mark=MARKS[self.kind]).markup


def of_system(run: Run, counting: Sequence[Run] = ()) -> Headline:
    """Whether a run beats the best of the systems that only count, by the primary metric of its task.

    counting: measured on the same queries. Raises `ValueError` where they were not.
    """
    outcome, name = run.outcome, run.outcome.primary
    late = " It was still improving when its training ended." if _still_improving(run) else ""
    if not counting:
        row = evaluation.intervals(outcome).loc[name]
        text = f"{run.system} reaches {name} {row['mean']:.4f} {_interval(row['low'], row['high'])}"
        return Headline(f"{text}; nothing was measured beside it.{late}")
    best = sorted(counting, key=lambda one: one.metrics["test"][name], reverse=outcome.metric(name).higher)[0]
    numbers, kind = _numbers(evaluation.compare(outcome, best.outcome), name, best.system)
    first = {"good": "beats counting", "bad": "does not beat counting", "look": "is not shown to beat counting"}
    return Headline(f"{run.system} {first[kind]}: {numbers}{late}", kind)


def of_difference(frame: pd.DataFrame, a: str, b: str, metric: str = "") -> Headline:
    """What a table of `evaluation.compare` says of one metric ("": the primary one); a, b: the names of its sides."""
    numbers, kind = _numbers(frame, metric or frame.attrs["primary"], b)
    return Headline(f"{a}: {numbers}", kind)


def of_codebook(book: CodeBook) -> Headline:
    """How many items have a code of their own, and which problems the doctor of code books finds."""
    problems = [one.partition(":")[0].lower() for one in tokenizers.doctor(book)]
    share = 1 - tokenizers.summary(book)["colliding before the last level"]
    indexed = book.resolved in ("index", "popularity") and book.levels > 1
    sizes = " x ".join(f"{size:,}" for size in (book.sizes[:-1] if indexed else book.sizes))
    start = f"{book.n_items:,} items in codes of {sizes}"
    if indexed:
        start += f": {share:.0%} have a code of their own without the added index"
    if not problems:
        return Headline(f"{start}. The doctor finds nothing wrong.", "good")
    counted = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return Headline(f"{start}. The doctor finds {counted}: {listed(problems, 9)}.", "bad")


def of_study(findings: Findings) -> Headline:
    """How many verdicts of a study hold, fail, are open or were not tested, and which claims hold or fail."""
    counts = Counter(one.word for one in findings.verdicts)
    claims = list(dict.fromkeys(one.claim for one in findings.verdicts))
    if not claims:
        return Headline(f"{findings.study} gives no verdict.")
    words = {"holds": "hold", "fails": "fail", "open": "are open", "not tested": "were not tested"}
    single = {"holds": "holds", "fails": "fails", "open": "is open", "not tested": "was not tested"}
    parts = [f"{counts[one]} {(single if counts[one] == 1 else words)[one]}" for one in words if counts[one]]
    of = f"Of {len(findings.verdicts)} verdicts on {len(claims)} claim{'s' * (len(claims) > 1)}, {listed(parts, 9)}."
    decided = [_decided(claim, findings) for claim in claims]
    kind = "look"
    if counts["holds"] and not counts["fails"]:
        kind = "good"
    elif counts["fails"] and not counts["holds"]:
        kind = "bad"
    return Headline(" ".join([of, *(one for one in decided if one)]), kind)


def _decided(claim: str, findings: Findings) -> str:
    """For what a claim holds and for what it fails; "" where that is open."""
    found = []
    for word in ("holds", "fails"):
        about = list(dict.fromkeys(one.about for one in findings.verdicts if one.claim == claim and one.word == word))
        if about:
            of = f" for {listed(about, 3)}" if any(about) else ""
            found.append(f"{word}{of}")
    return f"“{claim.rstrip('.')}” {' and '.join(found)}." if found else ""


def _numbers(frame: pd.DataFrame, name: str, other: str) -> tuple[str, str]:
    """One row of a table of `evaluation.compare` as a sentence, and its kind."""
    row, better = frame.loc[name], {"good": "better", "bad": "worse"}
    kind = "look"
    if not row["low"] <= 0 <= row["high"]:
        kind = "good" if (row["low"] > 0) == (name not in frame.attrs["lower"]) else "bad"
    of = f"{name} {row['a']:.4f} against {row['b']:.4f} of {other}"
    gap = f"a difference of {row['difference']:+.4f} {_interval(row['low'], row['high'], signed=True)}"
    end = f": {better[kind]}, by its 95 % interval." if kind in better else ", whose 95 % interval holds 0."
    return f"{of}, {gap}{end}", kind


def _interval(low: float, high: float, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"[{low:{sign}.4f}, {high:{sign}.4f}]"


def _still_improving(run: Run) -> bool:
    """Whether the last epoch was the best of several."""
    epochs, best = run.metrics.get("epochs"), run.metrics.get("best_epoch")
    return bool(epochs and best and epochs > 1 and best == epochs)
