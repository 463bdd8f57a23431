"""The sentence on top of a report says what the numbers say."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from seqlab import models, tokenizers
from seqlab.datasets import leave_one_out
from seqlab.reports import headlines
from seqlab.runs.findings import Findings, Verdict
from seqlab.training.fit import fit
from tests.synthetic import chain_log


def table(low: float, high: float, lower: list[str] | None = None) -> pd.DataFrame:
    row = {"a": 0.2, "b": 0.1, "difference": (low + high) / 2, "low": low, "high": high}
    frame = pd.DataFrame([row], index=["m"])
    frame.attrs = {"primary": "m", "lower": lower or []}
    return frame


@pytest.mark.parametrize(
    ("frame", "kind", "words"),
    [
        (table(0.05, 0.15), "good", "a difference of +0.1000 [+0.0500, +0.1500]: better"),
        (table(-0.15, -0.05), "bad", "[-0.1500, -0.0500]: worse"),
        (table(0.05, 0.15, ["m"]), "bad", "worse"),
        (table(-0.15, -0.05, ["m"]), "good", "better"),
        (table(-0.05, 0.15), "look", "whose 95 % interval holds 0"),
    ],
)
def test_a_difference_is_better_worse_or_not_shown_by_its_interval(frame, kind: str, words: str) -> None:
    found = headlines.of_difference(frame, "new", "old")
    assert found.kind == kind and words in found.text
    assert found.text.startswith("new: m 0.2000 against 0.1000 of old")


def test_a_system_is_held_against_the_best_that_counts() -> None:
    split = leave_one_out(chain_log())
    markov, popularity = (fit(models.create(name, split), split) for name in ("markov", "popularity"))
    good, bad = headlines.of_system(markov, [popularity]), headlines.of_system(popularity, [popularity, markov])
    assert good.kind == "good" and good.text.startswith("markov beats counting: ndcg@10 ")
    assert bad.kind == "bad" and bad.text.startswith("popularity does not beat counting: ndcg@10 ")
    assert f"against {markov.metrics['test']['ndcg@10']:.4f} of markov" in bad.text
    same = headlines.of_system(popularity, [popularity])
    assert same.kind == "look" and "is not shown to beat counting" in same.text
    assert "nothing was measured beside it" in headlines.of_system(popularity).text
    late = replace(popularity, metrics=popularity.metrics | {"epochs": 4, "best_epoch": 4})
    assert headlines.of_system(late, [markov]).text.endswith("It was still improving when its training ended.")


def test_a_code_book_is_judged_by_its_doctor() -> None:
    grid = [[float(x), float(y) * 20] for x in range(4) for y in range(4)]
    crowded = tokenizers.make_codebook(tokenizers.create("rq_kmeans", {"levels": 1, "codes": 2}), grid, resolve="index")
    assert tokenizers.doctor(crowded)
    found = headlines.of_codebook(crowded)
    assert found.kind == "bad" and found.text.startswith("16 items in codes of 2: 0% have a code of their own")
    assert f"{len(tokenizers.doctor(crowded))} problem" in found.text


def test_a_study_counts_its_verdicts_and_names_the_claims_that_are_decided() -> None:
    verdicts = (
        Verdict("It works.", "a <b>", 1.0, 0.5, 1.5, True), Verdict("It works.", "c", 0.0, -1.0, 1.0, None),
        Verdict("It is fast.", "", -1.0, -2.0, -0.5, False), Verdict("It is new.", "", math.nan),
    )  # fmt: skip
    found = headlines.of_study(Findings("study", {}, {}, verdicts=verdicts))
    assert found.text == (
        "Of 4 verdicts on 3 claims, 1 holds, 1 fails, 1 is open, 1 was not tested. “It works” holds for a <b>. "
        "“It is fast” fails."
    )
    assert found.kind == "look" and "a &lt;b&gt;" in found._repr_html_()
    assert headlines.of_study(Findings("study", {}, {}, verdicts=verdicts[:2])).kind == "good"
    assert headlines.of_study(Findings("study", {}, {})).text == "study gives no verdict."
