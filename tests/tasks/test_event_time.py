"""The task event_time against one pass per query, and what it refuses."""

import itertools
import math

import numpy as np
import pytest
import torch

from seqlab import models, tasks
from seqlab.datasets.within_user import within_user
from seqlab.layers.clock import DAY
from seqlab.runtime.text import DataError
from seqlab.tasks import event_time
from tests.models.event_time.test_household_rate import START, ready, split_of
from tests.models.event_time.test_neural_tpp import small
from tests.synthetic import log_of

torch.set_num_threads(1)

SPLIT = split_of(until=400.0, valid=0.2, users=9)


@pytest.mark.parametrize("make", [lambda: small(SPLIT), lambda: small(SPLIT, head="rmtpp"), lambda: ready(SPLIT)])
@pytest.mark.parametrize("part", ["valid", "test"])
def test_one_pass_per_user_is_one_pass_per_query(make, part, monkeypatch):
    monkeypatch.setattr(event_time, "MAX_TOKENS", 100)  # several batches
    model, queries = make().eval(), getattr(SPLIT, part)
    frame = event_time.measure(model, SPLIT, part).frame
    assert frame["query"].tolist() == list(range(len(queries)))
    with torch.no_grad():
        for row in range(0, len(queries), 3):
            batch = queries.batch(torch.tensor([row]))
            wait, marks = model.next_time(batch)[0, -1], model.mark_log_probs(batch)[0, -1]
            days = (queries.answer.times[row] - batch.times[0, -1]).float() / DAY
            found = frame.iloc[row]
            assert found["wait"] == pytest.approx(float(days))
            assert found["time_nats"] == pytest.approx(float(wait.log_prob(days)), abs=1e-3)
            assert found["mark_nats"] == pytest.approx(float(marks[queries.item[row]]), abs=1e-4)
            assert found["mark_accuracy"] == float(marks.argmax() == queries.item[row])
            assert found["pit"] == pytest.approx(1 - float(wait.log_survival(days).exp()), abs=1e-4)
            assert found["absolute_error"] == pytest.approx(abs(float(wait.quantile(0.5)) - float(days)), rel=1e-3)
            assert found["history_length"] == int(batch.lengths)


def test_metrics_of_the_whole_are_means_of_their_columns():
    outcome = event_time.measure(small(SPLIT).eval(), SPLIT)
    frame, means = outcome.frame, outcome.means()
    assert means["rmse"] == pytest.approx(math.sqrt(((frame["mean"] - frame["wait"]) ** 2).mean()))
    levels = np.array(event_time.LEVELS)
    off = np.abs((frame["pit"].to_numpy()[:, None] <= levels).mean(0) - levels).mean()
    assert means["pit_error"] == pytest.approx(off)
    assert means["nats"] == pytest.approx(means["time_nats"] + means["mark_nats"])
    assert means["coverage_50"] == pytest.approx(frame["pit"].between(0.25, 0.75).mean())
    assert outcome.primary in {one.name for one in outcome.metrics} and set(outcome.headline) <= set(means)


def test_the_tail_is_apart_and_that_after_the_last_event():
    model = ready(SPLIT, household="none", weekly=False, mixture=0)
    summary = event_time.measure(model, SPLIT).summary
    queried = sorted(set(SPLIT.test.user.tolist()))
    last = SPLIT.log.events.groupby("user")["timestamp"].last()[queried].to_numpy()
    left = np.maximum((START + 400 * DAY - last) / DAY, 0)
    assert summary["tails"] == len(queried)
    assert summary["tail_nats"] == pytest.approx(-math.exp(float(model.log_rate)) * left.mean(), rel=1e-4)
    assert "tail_nats" not in event_time.measure(model, SPLIT, "valid").summary


def test_references_are_constants_of_training():
    summary = event_time.measure(ready(SPLIT), SPLIT).summary
    ends, times = SPLIT.train.offsets.tolist(), SPLIT.train.times.numpy() / DAY
    gaps = {user: np.diff(times[a:b]) for user, (a, b) in enumerate(itertools.pairwise(ends), 1)}
    wait = (SPLIT.test.answer.times - SPLIT.test.sequences.times[SPLIT.test.end - 1]).numpy() / DAY
    own = np.array([gaps[user].mean() for user in SPLIT.test.user.tolist()])
    median = np.array([np.median(gaps[user]) for user in SPLIT.test.user.tolist()])
    assert summary["rmse_of_user_mean"] == pytest.approx(math.sqrt(((own - wait) ** 2).mean()))
    assert summary["absolute_error_of_user_median"] == pytest.approx(np.abs(median - wait).mean())


def test_what_it_cannot_measure_is_refused_with_its_reason():
    model = ready(SPLIT)
    with pytest.raises(DataError, match="popularity does not predict when the next event comes"):
        event_time.check(models.build("popularity", SPLIT.n_items), SPLIT)
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, 5, 30).tolist() for _ in range(6)]
    days = [(START - START % DAY + DAY * np.cumsum(rng.integers(1, 5, 30))).tolist() for _ in range(6)]
    tied = [np.sort(START + DAY * rng.uniform(0, 90, 15)).repeat(2).tolist() for _ in range(6)]
    some = [np.sort(np.append(one := START + DAY * rng.uniform(0, 90, 28), one[:2])).tolist() for _ in range(6)]
    for times, words in ((days, "whole days"), (tied, "zero"), (some, "have the time of the one before")):
        split = within_user(log_of(histories, times, repeats=True), 0.2)
        with pytest.raises(DataError, match=f"event_time cannot measure this log.*{words}"):
            event_time.check(model, split)


def test_it_is_the_task_of_its_systems():
    assert tasks.task_of(ready(SPLIT), SPLIT) is event_time
