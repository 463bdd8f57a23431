"""What every system of event time promises, on small settings."""

import dataclasses

import pytest
import torch

from seqlab import models, tasks, tracing
from seqlab.optimization.options import Options
from seqlab.runs.run import load_run
from seqlab.training.fit import fit, prepare
from tests.models.event_time.test_household_rate import split_of

torch.set_num_threads(1)

SYSTEMS = [name for name in models.names() if models.card(name).task == "event_time"]
SPLIT = split_of(until=400.0, valid=0.2)
QUICK = Options(epochs=2, tokens=256, learning_rate=1e-2, warmup=5)

every_system = pytest.mark.parametrize("name", SYSTEMS)


def ready(name):
    model = models.build(name, SPLIT.n_items, models.module(name).TINY)
    prepare(model, SPLIT)
    return model.eval()


@every_system
@torch.no_grad()
def test_its_density_is_minus_the_slope_of_its_survival(name):
    batch = SPLIT.test.batch(torch.arange(6))
    wait = ready(name).next_time(batch)[torch.arange(6), batch.lengths - 1]
    days = (torch.linspace(0, 1, 20_001) ** 2 * 60)[1:, None]
    mass = torch.trapezoid(wait.log_prob(days).exp(), days, dim=0)
    survived = wait.log_survival(days[[0, -1]]).exp()
    torch.testing.assert_close(mass, survived[0] - survived[1], atol=0.01, rtol=0)


@every_system
@torch.no_grad()
def test_waits_and_items_depend_on_neither_later_events_nor_padding_nor_other_users(name):
    model, rows = ready(name), torch.arange(len(SPLIT.test))
    whole, days = SPLIT.test.batch(rows), 3.0
    for row in rows[::9].tolist():
        alone = SPLIT.test.batch(rows[row : row + 1])
        for length in (1, 3, int(alone.lengths)):
            cut = dataclasses.replace(alone, events=alone.events[:, :length], lengths=torch.tensor([length]))
            at = torch.tensor([row]), torch.tensor([length - 1])
            first = torch.zeros(1, dtype=torch.long), at[1]
            expected = model.next_time(whole)[at].log_prob(torch.tensor([days]))
            torch.testing.assert_close(
                model.next_time(cut)[first].log_prob(torch.tensor([days])), expected, atol=1e-4, rtol=1e-4
            )
            marks = model.mark_log_probs(cut)[0, -1]
            torch.testing.assert_close(marks, model.mark_log_probs(whole)[at][0], atol=1e-4, rtol=1e-4)
            assert float(marks.exp().sum()) == pytest.approx(1, abs=1e-5) and marks[0] == -torch.inf


@every_system
def test_a_run_reads_back_to_the_same_outcome(name, tmp_path):
    run = fit(models.build(name, SPLIT.n_items, models.module(name).TINY), SPLIT, QUICK, tmp_path / "run")
    again = load_run(tmp_path / "run", SPLIT)
    frame = tasks.measure(again.model, SPLIT).frame
    assert frame["time_nats"].tolist() == run.outcome.frame["time_nats"].tolist()
    assert run.metrics["test"]["time_nats"] == pytest.approx(frame["time_nats"].mean())
    assert run.metrics["test"]["rmse"] == pytest.approx(((frame["mean"] - frame["wait"]) ** 2).mean() ** 0.5)


@every_system
@torch.no_grad()
def test_a_watched_system_says_the_same(name):
    model, batch = ready(name), SPLIT.test.batch(torch.arange(5))
    days = torch.full(batch.items.shape, 2.0)
    plain = model.next_time(batch).log_prob(days)
    with tracing.watch(model):
        torch.testing.assert_close(model.next_time(batch).log_prob(days), plain)


@every_system
def test_its_list_has_every_item_once_and_the_likeliest_first(name):
    model, batch = ready(name), SPLIT.test.batch(torch.arange(5))
    with torch.no_grad():
        ranking = model.recommend(batch, SPLIT.n_items)
    assert ranking.items.sort(1).values.tolist() == [list(range(1, SPLIT.n_items + 1))] * 5
    marks = batch.last(model.mark_log_probs(batch))
    assert ranking.items[:, 0].tolist() == marks.argmax(1).tolist()
