"""The floors of a report are those that the task of the run can measure."""

from dataclasses import replace

import numpy as np

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.reports.floors import fit_floors
from seqlab.training.fit import fit
from tests.synthetic import chain_histories, chain_log, log_of


def test_floors_have_the_protocol_of_the_run_and_the_best_is_first():
    split = leave_one_out(chain_log())
    run = fit(models.create("markov", split), split, seen_filter=True)
    floors, sentence = fit_floors(["popularity", "personal_frequency", "markov"], run, split)
    assert not sentence
    assert [floor.seen_filter for floor in floors] == [True] * 3
    values = [floor.metrics["test"]["ndcg@10"] for floor in floors]
    assert values == sorted(values, reverse=True)


def test_floors_of_another_task_are_replaced_by_untrained_systems_of_that_task():
    histories = chain_histories(users=30)
    times = [np.cumsum(np.random.default_rng(len(items)).exponential(2e5, len(items))).tolist() for items in histories]
    split = leave_one_out(log_of(histories, times, repeats=True))
    run = fit(models.create("household_rate", split), split)
    floors, sentence = fit_floors(["popularity", "markov"], replace(run, system="another"), split)
    assert [floor.system for floor in floors] == ["household_rate"]
    assert sentence == "popularity, markov cannot be measured by event_time. In their place: household_rate."
    floors, sentence = fit_floors(["popularity"], run, split)
    assert (floors, sentence) == ([], "popularity cannot be measured by event_time.")
