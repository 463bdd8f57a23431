"""Click rates by item and slot, against a loop, and what they recover of a simulator."""

import math

import numpy as np
import pytest
import torch

from seqlab import models
from seqlab.datasets import simulated
from seqlab.datasets.exposures import Exposures
from seqlab.datasets.slates import slates, training_exposures
from seqlab.evaluation import compare
from seqlab.optimization.options import Options
from seqlab.tasks import slates as task
from seqlab.training.fit import fit
from tests.datasets.test_slates import mixed_log

torch.set_num_threads(1)


def ready(split, **settings):
    model = models.build("slate_clicks", split.n_items, settings)
    model.prepare(split)
    return model.eval()


@pytest.mark.parametrize("seed", range(3))
def test_the_probabilities_are_clicks_over_expected_clicks(seed):
    split = slates(mixed_log(seed), 0.3)
    frame = training_exposures(split).to_frame()
    rate = {slot: (rows["clicked"].sum() + 0.5) / (len(rows) + 1) for slot, rows in frame.groupby("slot")}
    ratio = {
        item: (frame["clicked"][frame["item"] == item].sum() + 3.0)
        / (sum(rate[slot] for slot in frame["slot"][frame["item"] == item]) + 3.0)
        for item in range(1, split.n_items + 1)
    }
    model = ready(split, strength=3.0)
    none = float(model.none)
    left = sum(none / (none + sum(rate[row.slot] * ratio[row.item] for row in rows.itertuples()))
               for _, rows in frame.groupby("slate"))  # fmt: skip
    assert left == pytest.approx(frame["slate"].nunique() - frame["clicked"].sum(), rel=1e-4)
    batch = split.test.batch(torch.arange(len(split.test)))
    found = model.slate_log_probs(batch)
    for row, items in enumerate(batch.context["candidates"].tolist()):
        weights = [rate.get(slot, rate[max(rate)]) * ratio[item] for slot, item in enumerate(items, 1) if item]
        expected = [math.log(weight / (none + sum(weights))) for weight in [none, *weights]]
        np.testing.assert_allclose(found[row, : len(expected)], expected, rtol=1e-4)
        assert bool((found[row, len(expected) :] == -torch.inf).all())


def test_it_finds_the_quality_of_items_and_the_effect_of_slots():
    """Where taste plays no part it is nearly the truth, under skewed exposure too."""
    log, truth = simulated.slates(0, users=2_000, sharpness=0.0, position=0.3, no_click=1.0)
    split = slates(log)
    model = ready(split)
    assert np.corrcoef(model.ratio[1:].log(), truth.quality[1:])[0, 1] > 0.95
    np.testing.assert_allclose(model.slot.log().diff(), -0.3, atol=0.06)
    floor = task.measure(model, split)
    best = truth.nats[floor.frame["query"]].mean()
    assert floor.means()["nats"] == pytest.approx(best, abs=0.02)


def test_it_is_better_than_chance_and_worse_than_who_knows_the_users():
    log, truth = simulated.slates(0)
    split = slates(log)
    outcomes = {name: task.measure(model, split) for name, model in
                (("floor", ready(split)), ("popularity", models.build("popularity", split.n_items)))}  # fmt: skip
    assert compare(outcomes["floor"], outcomes["popularity"]).loc["nats", "low"] > 0
    assert outcomes["floor"].means()["nats"] < truth.nats.mean() - 0.3


def test_a_run_belongs_to_its_exposures(tmp_path):
    """Also where the clicks, and with them all events, are the same."""
    log, _ = simulated.slates(0, users=30, items=20, slates=10, shown=4)
    split = slates(log)
    run = fit(models.build("slate_clicks", 20), split, Options(), out=tmp_path / "run")
    again = fit(models.build("slate_clicks", 20), split, Options(), out=tmp_path / "run", resume=True)
    assert again.metrics == run.metrics and again.outcome.frame.equals(run.outcome.frame)
    shown = Exposures.of_log(log)
    fewer = slates(shown.select((shown.clicked > 0) | (np.arange(len(shown)) % 2 > 0)).attach(log))
    assert fewer.log.events.equals(log.events)
    with pytest.raises(ValueError, match="holds another finished run"):
        fit(models.build("slate_clicks", 20), fewer, Options(), out=tmp_path / "run", resume=True)
