"""What training calls besides the loss: before an epoch, for its batches, and after the last one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.evaluation import metrics
from seqlab.models.encoders import sasrec
from seqlab.optimization.checkpoint import Checkpoint
from seqlab.optimization.loop import epoch_seed
from seqlab.optimization.options import Options
from seqlab.tasks import measure
from seqlab.training.fit import fit
from tests.synthetic import chain_log, small

torch.set_num_threads(1)

SPLIT = leave_one_out(chain_log(3, users=30))
OPTIONS = Options(epochs=4, tokens=64, learning_rate=5e-3, warmup=20, seed=7)


class Clustered(sasrec.SASRec):
    """Pulls every item to the nearest of three centres, which are items drawn anew before every epoch."""

    def __init__(self, config, n_items):
        super().__init__(config, n_items)
        self.register_buffer("centres", torch.full((3, config.dim), torch.nan))
        self.calls = []

    def begin_epoch(self, train, epoch):
        self.calls.append((epoch, self.training, torch.is_grad_enabled(), len(train.items)))
        table = self.items.weight[1:]
        self.centres.copy_(table[torch.randperm(len(table))[:3]])

    def loss(self, batch):
        loss, table = super().loss(batch), self.items.weight[1:]
        pull = torch.cdist(table, self.centres).min(1).values.mean()
        return dataclasses.replace(loss, total=loss.total + pull)


class Curriculum(sasrec.SASRec):
    """Learns from short crops first: from those of `epoch + 1` events."""

    def draw(self, train, tokens, epoch, seed, shard):
        self.drawn = [*getattr(self, "drawn", []), (epoch, seed, tokens, shard)]
        return train.training_batches(epoch + 1, tokens, seed, shard)

    def loss(self, batch):
        self.longest = [*getattr(self, "longest", []), batch.items.shape[1]]
        return super().loss(batch)


def new(kind):
    torch.manual_seed(1)
    return kind(models.configure("sasrec", small("sasrec", dim=16, dropout=0.2)), SPLIT.n_items)


def test_begin_epoch_comes_before_every_epoch_and_again_after_a_resume(tmp_path):
    whole, save = new(Clustered), Checkpoint.save
    straight = fit(whole, SPLIT, OPTIONS)
    events = len(SPLIT.train.items)
    assert whole.calls == [(epoch, False, False, events) for epoch in range(4)]
    assert not bool(straight.model.centres.isnan().any())

    def dying(self, state, *rest):
        save(self, state, *rest)
        if state.epoch == 2:
            raise KeyError("killed")

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyError, match="killed"):
        patched.setattr(Checkpoint, "save", dying)
        fit(new(Clustered), SPLIT, OPTIONS, tmp_path / "run")
    resumed = new(Clustered)
    run = fit(resumed, SPLIT, OPTIONS, tmp_path / "run", resume=True)
    assert [epoch for epoch, *_ in resumed.calls] == [2, 3]
    found, expected = run.model.state_dict(), straight.model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_system_without_begin_epoch_draws_as_before():
    """What comes before an epoch does not change the random numbers of its batches."""
    quiet = type("Quiet", (sasrec.SASRec,), {"begin_epoch": lambda self, train, epoch: torch.rand(5)})
    one, other = (fit(new(kind), SPLIT, OPTIONS).model.state_dict() for kind in (sasrec.SASRec, quiet))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_draw_knows_the_epoch():
    model = new(Curriculum)
    fit(model, SPLIT, OPTIONS)
    assert model.drawn == [(epoch, epoch_seed(7, epoch), 64, (0, 1)) for epoch in range(4)]
    assert sorted(set(model.longest)) == [1, 2, 3, 4] and model.longest == sorted(model.longest)


class Recalled(sasrec.SASRec):
    """Chooses whether to turn its scores round, by the validation users that it is given."""

    def __init__(self, config, n_items):
        super().__init__(config, n_items)
        self.register_buffer("sign", torch.tensor(1.0))
        self.asked = []

    def calibrate(self, split, seen_filter):
        self.asked.append(split.valid.user.tolist())
        self.sign.fill_(1.0 if len(self.asked) % 2 else -1.0)

    def score(self, batch):
        return super().score(batch) * self.sign


def test_validation_users_are_measured_with_what_the_other_half_chose():
    model = new(Recalled)
    run = fit(model, SPLIT, OPTIONS)
    one, other, last = map(sorted, model.asked)
    assert not set(one) & set(other) and sorted(one + other) == last == sorted(SPLIT.valid.user.tolist())
    assert len(one) == len(last) // 2 and float(run.model.sign) == 1.0, "the last calibration is kept"
    expected = 0.0
    for sign, users in ((1.0, other), (-1.0, one)):
        model.sign.fill_(sign)
        frame = measure(model, SPLIT, "valid").frame
        rank = frame.loc[frame["user"].isin(users), "rank"].to_numpy()
        expected += float(np.where(rank <= 10, 1 / np.log2(rank + 1), 0).sum()) / len(last)
    assert run.metrics["valid"]["ndcg@10"] == pytest.approx(expected)
    model.sign.fill_(1.0)
    assert run.metrics["test"] == metrics(measure(model, SPLIT, "test"))
    again = new(Recalled)
    fit(again, SPLIT, dataclasses.replace(OPTIONS, seed=9))
    assert again.asked == model.asked, "the halves are the same for every training"
