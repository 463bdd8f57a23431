"""Neural TPP against the authors' code on fixed weights, a renewal process of known density, and its own promises."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from seqlab import models
from seqlab.datasets.events import Events
from seqlab.datasets.sequences import Batch
from seqlab.datasets.within_user import within_user
from seqlab.layers.clock import DAY, WeeklyProfile
from tests.models.event_time.test_household_rate import START, split_of
from tests.synthetic import log_of

torch.set_num_threads(1)


def theirs():
    """Our model with the authors' weights, a training batch of their sequences, and their numbers."""
    stored = load_file(Path(__file__).with_name("ifl_tpp.safetensors"))
    weights = {name.removeprefix("weights."): x for name, x in stored.items() if name.startswith("weights.")}
    marks, dim = weights["mark_linear.weight"].shape
    components = len(weights["linear.bias"]) // 3
    settings = {"dim": dim, "components": components, "clock": False, "personal": False, "dropout": 0.0}
    model = models.build("neural_tpp", marks, settings).double()
    mean, deviation = stored["standard"]
    for owner in (model, model.head):
        owner.mean, owner.deviation = mean, deviation
    order = torch.arange(3 * components).view(3, -1)[[2, 0, 1]].flatten()  # theirs: locations, log-scales, log-weights
    with torch.no_grad():
        model.features.weight.zero_()[0, 0] = 1.0  # their cell reads [log wait; item]
        model.features.bias.zero_()
        model.items.weight.zero_()[1:, 1:] = weights["mark_embedding.weight"]
        for name, parameter in model.cell.named_parameters():
            parameter.copy_(weights[f"rnn.{name}"])
        model.head.linear.weight.copy_(weights["linear.weight"][order])
        model.head.linear.bias.copy_(weights["linear.bias"][order])
        model.marks.weight.zero_()[1:] = weights["mark_linear.weight"]
        model.marks.bias.zero_()[1:] = weights["mark_linear.bias"]
    lengths = stored["lengths"]
    times = START + DAY * stored["inter_times"].cumsum(1)  # their last one is the end of observation
    model.scale = torch.ones(len(lengths) + 1, dtype=torch.float64)
    rows = torch.arange(len(lengths))
    last = times[rows, lengths - 1]
    model.ends = torch.cat([torch.full((1, 2), math.nan), torch.stack([last, times[rows, lengths]], 1)]).double()
    valid = torch.arange(times.shape[1]) < lengths[:, None]
    events = Events((stored["marks"] + 1) * valid, times * valid)
    return model, Batch(events, lengths, rows + 1), stored


def test_densities_and_expectations_are_those_of_the_authors():
    model, batch, stored = theirs()
    waits, marks = model.next_time(batch), model.mark_log_probs(batch)
    for row, length in enumerate(batch.lengths.tolist()):
        at = torch.arange(length - 1)
        days = stored["inter_times"][row, 1:length]
        torch.testing.assert_close(waits[row, at].log_prob(days), stored["time"][row, 1:length], atol=1e-6, rtol=1e-6)
        found = marks[row, at, batch.items[row, 1:length]]
        torch.testing.assert_close(found, stored["mark"][row, 1:length])
        expected = stored["expectation"][row, 1 : length + 1]
        torch.testing.assert_close(waits.base[row, torch.arange(length)].mean(), expected, rtol=1e-6, atol=0)


def test_the_loss_is_that_of_the_authors_with_their_tail():
    model, batch, stored = theirs()
    some = batch.lengths > 1  # a user with one event has no training target
    batch, stored = batch.select(some), {name: x[some] for name, x in stored.items() if len(x) == len(some)}
    inputs = Batch(batch.events[:, :-1].map(torch.clone), batch.lengths - 1, batch.user)
    final = torch.arange(inputs.items.shape[1]) < inputs.lengths[:, None]
    inputs = Batch(inputs.events.mask(final), inputs.lengths, inputs.user, batch.events[:, 1:])
    valid = torch.arange(stored["time"].shape[1]) < batch.lengths[:, None]
    valid[:, 0] = False  # their first event is predicted from a state before it
    total = (stored["time"] + stored["mark"])[valid].sum() + stored["tail"].sum()
    loss = model.loss(inputs)
    assert loss.count == int(valid.sum())
    assert float(loss.total.detach()) * loss.count == pytest.approx(-float(total), rel=1e-6)


def small(split, seed=0, **settings):
    model = models.build("neural_tpp", split.n_items, {"dim": 8, "components": 4, "dropout": 0.0, **settings}, seed)
    model.prepare(split)
    return model


def learn(model, split, steps=50, rate=0.02):
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(steps):
        for batch in split.train.training_batches(None, 1 << 14, step):
            loss = model.loss(batch)
            loss.total.backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def mean_nats(model, split, true=None):
    """Mean nats per event of the test waits, and of `true(wait before, wait)`."""
    found, known = [], []
    for _, batch in split.test.batches(None, 1 << 14, 100):
        days = (batch.last(batch.target_events.times) - batch.last(batch.times)) / DAY
        rows = torch.arange(len(days))
        found.append(model.next_time(batch)[rows, batch.lengths - 1].log_prob(days.float()))
        if true is not None:
            before = (batch.last(batch.times) - batch.times[rows, batch.lengths - 2]) / DAY
            known.append(true(before, days))
    return float(torch.cat(found).mean()), float(torch.cat(known).mean()) if known else None


def alternating_log():
    """A renewal process with a memory of one wait: after a long wait a short one is likely, and the reverse."""
    rng = np.random.default_rng(0)
    times = []
    for _ in range(40):
        waits = [1.0]
        for _ in range(49):
            waits.append(math.exp(rng.normal(-0.8 * math.log(waits[-1]), 0.5)))
        times.append((START + DAY * np.cumsum(waits)).tolist())
    return log_of([[1, 2] * (len(one) // 2) for one in times], times, repeats=True)


def density(before, days):
    z = (days.log() + 0.8 * before.log()) / 0.5
    return -days.log() - math.log(0.5 * math.sqrt(2 * math.pi)) - z**2 / 2


def test_it_approaches_the_density_of_a_process_with_memory_and_its_control_does_not():
    split = within_user(alternating_log(), 0.2, 0)
    plain = {"clock": False, "personal": False}
    found, true = mean_nats(learn(small(split, **plain), split), split, density)
    assert true - 0.05 < found < true + 0.02
    control, _ = mean_nats(learn(small(split, history=False, **plain), split, 20), split)
    assert control < true - 0.25  # without a memory, the log-wait has a standard deviation of .83 instead of .5


@pytest.mark.parametrize("head", ["lognormal", "rmtpp"])
def test_before_training_it_is_the_counting_that_it_starts_from(head):
    split = split_of(users=30)
    model = small(split, head=head)
    kind = {"lognormal": 4, "rmtpp": 0}[head]
    counted = models.build("household_rate", split.n_items, {"mixture": kind, "iterations": 50})
    counted.prepare(split)
    assert mean_nats(model.eval(), split)[0] == pytest.approx(mean_nats(counted, split)[0], abs=0.03)


def test_the_tail_lengthens_the_waits_of_users_who_stopped_coming():
    rng = np.random.default_rng(0)
    times = [(START + DAY * np.cumsum(rng.gamma(1.5, 1, 6))).tolist() for _ in range(40)]
    times += [(START + DAY * np.cumsum(rng.gamma(1.5, 1, 12))).tolist() for _ in range(5)]
    log = log_of([[1, 2] * (len(one) // 2) for one in times], times, repeats=True)
    log = type(log)(**{**vars(log), "users": log.users.assign(observed_until=START + 60 * DAY)})
    split = within_user(log, 0.2, 0)
    batch, survival = next(split.train.training_batches(None, 1 << 14, 0)), {}
    for tail in (True, False):
        model = learn(small(split, clock=False, personal=False, tail=tail), split, 30)
        log_survival = model.next_time(batch).log_survival(torch.full(batch.items.shape, 20.0))
        survival[tail] = float(log_survival.detach().exp()[batch.items > 0].mean())
    assert survival[False] < 0.01 < 0.05 < survival[True] < 0.3  # 40 of 240 waits did not end within 50 days


def test_a_crop_that_ends_early_has_no_tail():
    split = split_of(until=500.0, lengths=(12, 40))
    model = small(split)
    last = torch.cat([torch.zeros(1), split.train.times[split.train.offsets[1:] - 1]])
    model.ends = torch.stack([last, torch.full_like(last, START + 900 * DAY)], 1)
    whole = next(split.train.training_batches(None, 1 << 14, 0))
    assert float(model.loss(whole).parts["tail"]) > 0
    cropped = next(split.train.training_batches(5, 1 << 14, 0))
    at_end = cropped.last(cropped.target_events.times) == split.train.times[split.train.offsets[cropped.user] - 1]
    assert 0 < int(at_end.sum()) < len(cropped)
    only = cropped.select(~at_end)
    assert float(model.loss(only).parts["tail"]) == 0


def test_a_state_knows_nothing_of_later_events_and_padding():
    split = split_of()
    model = small(split).eval()
    batch = split.test.batch(torch.arange(len(split.test)))
    row = int(batch.lengths.argmax())
    whole = model.encode(batch.select(torch.tensor([row])))
    later = batch.select(torch.tensor([row])).map(torch.clone)
    later.events.times[:, -1] += 5 * DAY
    later.events.items[:, -1] = 1
    torch.testing.assert_close(model.encode(later)[:, :-1], whole[:, :-1])
    torch.testing.assert_close(model.encode(batch)[row, : whole.shape[1]], whole[0], atol=1e-5, rtol=1e-4)


def test_the_clock_is_a_part_of_the_density():
    """Users come at noon only; with the clock, the density at noon is many times that at midnight."""
    rng = np.random.default_rng(0)
    days = [np.cumsum(rng.integers(1, 5, 30)) for _ in range(20)]
    noon = [(DAY * (17_000 + one + 0.5) + rng.uniform(0, 3000, 30)).tolist() for one in days]
    split = within_user(log_of([[1, 2] * 15 for _ in noon], noon, repeats=True), 0.2, 0)
    batch = split.test.batch(torch.arange(4))
    model = small(split).eval()
    at_noon, at_midnight = (model.next_time(batch).log_prob(torch.full(batch.items.shape, x)) for x in (2.0, 2.5))
    assert float((at_noon - at_midnight)[batch.items > 0].min()) > math.log(20)
    assert isinstance(model.profile, WeeklyProfile) and float(model.profile.rate.max()) > 5
