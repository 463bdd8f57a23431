"""A wrapped function is a system: it scores as the function does, and is called no more often than needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import seqlab
from seqlab import models, tracing
from seqlab.adapters import functions
from seqlab.datasets import leave_one_out
from seqlab.inspection import influence
from seqlab.runtime.text import DataError
from tests.synthetic import batch_of, chain_log, cycle_log, enlarged, random_histories, small

SPLIT = leave_one_out(chain_log())
N = SPLIT.n_items
TABLE = np.random.default_rng(0).normal(size=(N + 1, N + 1))


def last_item(items):
    """NumPy: a score for every item by the last one of the history."""
    items = np.asarray(items)
    length = (items > 0).sum(1)
    return TABLE[items[np.arange(len(items)), np.maximum(length - 1, 0)]]


class Averaging(nn.Module):
    """A module of its own kind, with a tap, as a user may have it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(N + 1, 8, padding_idx=0)
        self.tap = tracing.Tap("hidden", "user dim")
        self.dropout = nn.Dropout(0.5)

    def forward(self, items):
        mean = self.table(items).sum(1) / (items > 0).sum(1, keepdim=True)
        return self.tap(self.dropout(mean)) @ self.table.weight.T


HISTORIES = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [4], [1, 2, 3]]


def test_scores_are_those_of_the_function_one_history_at_a_time():
    model = seqlab.wrap(last_item, batch_size=2)
    found = model.score(batch_of(HISTORIES, width=9))
    direct = np.concatenate([last_item(torch.tensor([one])) for one in HISTORIES])
    np.testing.assert_array_equal(found[:, 1:].numpy(), direct[:, 1:])
    assert (model.calls, model.scored) == (2, 3)  # equal histories once, padding or not


def test_a_score_without_a_column_for_the_padding():
    model = seqlab.wrap(lambda items: last_item(items)[:, 1:])
    run = seqlab.open_model(model, SPLIT)
    assert run.metrics["test"] == seqlab.open_model(seqlab.wrap(last_item), SPLIT).metrics["test"]
    assert model.score(batch_of(HISTORIES)).shape == (5, N + 1)


def test_the_metrics_of_a_wrapped_system_are_those_of_the_system():
    """Our own SASRec behind a function is measured as SASRec."""
    inner = enlarged(models.build("sasrec", N, small("sasrec", max_length=6)))

    def score(items):
        return inner.score(batch_of([row[row > 0].tolist() for row in items]))

    wrapped = seqlab.open_model(seqlab.wrap(score, "theirs", max_length=6), SPLIT)
    direct = seqlab.open_model(inner, SPLIT)
    assert (wrapped.system, direct.system) == ("theirs", "sasrec")
    assert wrapped.outcome.frame["rank"].tolist() == direct.outcome.frame["rank"].tolist()


def test_the_cache_is_bounded_and_changes_nothing():
    histories = random_histories(1, users=40)
    batch = batch_of(histories)
    row = 8 * (N + 1)
    for megabytes in (0, 5 * row / 1e6, 64):
        model = seqlab.wrap(last_item, cache_mb=megabytes)
        first = model.score(batch)
        first.zero_()  # the caller may modify it
        assert torch.equal(
            model.score(batch), torch.as_tensor(last_item(batch.items)).index_fill(1, torch.tensor([0]), 0)
        )
        assert model._cache.currsize <= megabytes * 1e6
        assert (model.scored < 2 * len({tuple(one) for one in histories})) == (megabytes > 0)


def test_the_cache_forgets_after_a_step_of_training():
    net = Averaging().train()
    model = seqlab.wrap(net)
    batch = batch_of(HISTORIES)
    with torch.no_grad():
        before = model.score(batch)
        assert torch.equal(before, model.score(batch)) and model.scored == 3
        net.table.weight.mul_(2)
        assert torch.allclose(model.score(batch)[:, 1:], 4 * before[:, 1:])
    assert net.training


def test_a_watched_and_a_patched_module_is_run_again():
    model = seqlab.wrap(Averaging())
    batch = batch_of(HISTORIES)
    with torch.no_grad():
        before = model.score(batch)
        with tracing.watch(model) as trace:
            model.score(batch)
        assert trace["hidden"].values.shape == (5, 8)
        with tracing.patch(model, {"module.tap": torch.zeros_like}):
            assert not model.score(batch).any()
        assert torch.equal(model.score(batch), before)
    assert model.score(batch).requires_grad


@pytest.mark.parametrize(("slow", "shown"), [(0.0, True), (60.0, False)])
def test_progress_is_shown_where_it_is_slow(slow, shown, monkeypatch, capsys):
    monkeypatch.setattr(functions, "SLOW", slow)
    monkeypatch.setattr(functions, "interactive", lambda: True)
    model = seqlab.wrap(last_item, "their own", batch_size=32)
    seqlab.open_model(model, SPLIT)
    assert capsys.readouterr().err.count("/80 ") == shown  # one bar over all test users
    model.score(batch_of(random_histories(2, users=40)))
    assert ("their own" in capsys.readouterr().err) == shown


def test_times_are_given_to_a_function_that_has_them():
    model = seqlab.wrap(lambda items, times: last_item(items) + times.max(1, keepdim=True).values.numpy())
    found = model.score(batch_of([[1, 2], [3, 2]]))
    assert torch.equal(found[0], found[1]) and found[0, 1] == TABLE[2, 1] + 1


def test_left_padding_and_another_numbering():
    own = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(N) + 3])
    seen = []

    def score(items):
        seen.append(items)
        back = torch.zeros(N + 3, dtype=torch.long).scatter(0, own, torch.arange(N + 1))
        columns = np.zeros((len(items), N + 3))
        columns[:, own] = TABLE[back[items[:, -1]]]
        return columns

    model = seqlab.wrap(score, max_length=4, numbering=own, padding="left")
    found = model.score(batch_of(HISTORIES))
    np.testing.assert_array_equal(found[:, 1:].numpy(), last_item(batch_of(HISTORIES).items)[:, 1:])
    assert seen[0].shape[1] == 4 and sorted(seen[0].tolist())[0][:3] == [0, 0, 0]
    layout = model.layout(batch_of(HISTORIES))
    assert layout.position[0].tolist() == [-1, 0, 1, 2] and layout.position[2].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("padding", ["right", "left"])
def test_items_that_the_function_does_not_know(padding):
    own = torch.arange(N + 1) % 7  # six of them are known
    own[7:] = 0
    seen = []

    def score(items):
        seen.append(items)
        return torch.arange(7.0, 0.0, -1).expand(len(items), -1) + items.sum(1, keepdim=True)

    model = seqlab.wrap(score, max_length=3, numbering=own, padding=padding)
    found = model.score(batch_of([[9, 1, 8, 2, 3, 4, 7], [12], [5, 20]]))
    rows = [row[row > 0].tolist() for row in seen[0]]
    assert rows == [[2, 3, 4], [], [5]] and seen[0].shape == (3, 3)
    assert found[:, 1:7].tolist() == [[6 + sum(row) - at for at in range(6)] for row in rows]
    assert torch.equal(found[:, 7:], found[:, 6:7].expand(-1, N - 6))
    layout = model.layout(batch_of([[9, 1, 8, 2], [1, 2, 3, 4]]))
    assert layout.position.tolist() == [[-1, 1, 3] if padding == "left" else [1, 3, -1], [1, 2, 3]]
    assert layout.readout[0].nonzero().item() == (2 if padding == "left" else 1)


def test_influence_and_surprise_of_a_function():
    model = seqlab.open_model(seqlab.wrap(last_item), SPLIT).model
    history = seqlab.datasets.history.history_of(SPLIT, 3)
    values = influence.leave_one_out(model, history)["value"]
    assert values.iloc[:-1].abs().max() < 1e-12 < abs(values.iloc[-1])  # only the last event counts
    log_p = torch.as_tensor(TABLE[int(history.items[0]), 1:]).log_softmax(0)
    surprise = influence.surprise(model, history)["value"].iloc[0]
    assert surprise == pytest.approx(-float(log_p[int(history.items[1]) - 1]), rel=1e-5)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda items: TABLE[:, :3], "mine must return scores .* one column per item"),
        (lambda items: TABLE[: len(items), :-5], r"\(2, 25\) or \(2, 24\).*got \(2, 20\)"),
        (lambda items: TABLE[: len(items)] * np.nan, "not finite numbers"),
        (lambda items: "best", "a tensor or a NumPy array of scores \\(got str\\)"),
        (lambda items: TABLE[: len(items)] > 0, "must return numbers"),
    ],
)
def test_a_wrong_result_is_one_sentence(score, message):
    model = seqlab.wrap(score)
    model.bind(N)
    with pytest.raises(ValueError, match=message):
        model.score(batch_of([[1, 2], [3]]))


def test_wrong_arguments_are_one_sentence():
    with pytest.raises(ValueError, match=r"wrap takes a function, score\(items\)"):
        seqlab.wrap("mine")
    with pytest.raises(ValueError, match="an id from 1 that no other item has"):
        seqlab.wrap(last_item, numbering=[0, 1, 1])
    with pytest.raises(ValueError, match="padding"):
        seqlab.wrap(last_item, padding="middle")
    with pytest.raises(ValueError, match=r"Linear has no score\(batch\).*seqlab\.wrap"):
        seqlab.open_model(nn.Linear(2, 2), SPLIT)
    with pytest.raises(ValueError, match=r"make one of a function by seqlab\.wrap"):
        seqlab.open_model(last_item, SPLIT)
    model = seqlab.wrap(last_item)
    seqlab.open_model(model, SPLIT)
    with pytest.raises(DataError, match="24 items, but this split has 10"):
        seqlab.open_model(model, leave_one_out(cycle_log()))
