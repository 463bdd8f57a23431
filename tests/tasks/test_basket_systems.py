"""What every system of the task of baskets promises; a new file is tested here without a word."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import models
from seqlab.datasets import DataError
from seqlab.datasets.log import make_log
from seqlab.datasets.split_names import split
from seqlab.optimization.options import Options
from seqlab.runs.store import load, save
from seqlab.tasks import measure
from seqlab.training.fit import fit, prepare
from tests.datasets.test_baskets import basket_log
from tests.synthetic import chain_log, enlarged, small

torch.set_num_threads(1)

SYSTEMS = [name for name in models.names() if models.card(name).task == "baskets"]
QUICK = Options(epochs=2, tokens=64, learning_rate=1e-2, warmup=5)
LOG = basket_log(11, users=40)
SPLIT = split(LOG, "basket-completion 0.5", ("basket",))

every_system = pytest.mark.parametrize("name", SYSTEMS)


def ready(name, where=SPLIT):
    torch.manual_seed(0)
    model = models.build(name, where.n_items, small(name))
    prepare(model, where)
    return model.eval()


def pairs_log():
    """Items 2i - 1 and 2i are always bought together."""
    random = np.random.default_rng(0)
    rows = [
        (user, int(2 * pair + 1 + half), f"{user}-{basket}", basket)
        for user in range(60)
        for basket in range(5)
        for pair in random.choice(8, 2, replace=False)
        for half in (0, 1)
    ]
    return make_log(pd.DataFrame(rows, columns=["user", "item", "basket", "timestamp"]), ties="shuffle", repeats=True)


@every_system
def test_a_score_depends_on_neither_padding_nor_other_users(name):
    model, rows = enlarged(ready(name)), torch.arange(len(SPLIT.test))
    together = model.score(SPLIT.test.batch(rows))
    assert together.shape == (len(rows), SPLIT.n_items + 1) and bool(together[:, 1:].isfinite().all())
    alone = torch.cat([model.score(SPLIT.test.batch(rows[row : row + 1])) for row in rows.tolist()])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


@every_system
@pytest.mark.parametrize("text", ["basket-completion", "last-basket", "leave-one-out"])
def test_every_split_of_a_log_with_baskets_is_measured(name, text):
    where = split(LOG, text, ("basket",))
    outcome = measure(ready(name, where), where)
    assert len(outcome.frame) == len(where.test) and outcome.values().notna().all(axis=None)
    assert outcome.task == "baskets" and 0 < outcome.means()["ndcg@10"] <= 1


@every_system
def test_what_is_written_reads_back_to_the_same_scores(name, tmp_path):
    model, batch = ready(name), SPLIT.test.batch(torch.arange(5))
    save(model, tmp_path, name, SPLIT.n_items)
    assert torch.equal(load(tmp_path).score(batch), model.score(batch))


@every_system
def test_the_columns_are_gathered_and_a_partner_is_found(name):
    where = split(pairs_log(), "basket-completion")
    options = dataclasses.replace(QUICK, epochs=20, tokens=512, learning_rate=0.1, validate_every=20)
    run = fit(models.build(name, where.n_items, small(name)), where, options)
    assert run.metrics["test"]["recall@1"] > 0.9
    again = fit(models.build(name, where.n_items, small(name)), where, options)
    weights = run.model.state_dict()
    assert all(torch.equal(weights[key], other) for key, other in again.model.state_dict().items())


@every_system
def test_a_log_without_baskets_is_refused_with_a_sentence(name):
    with pytest.raises(DataError, match=r"no column 'basket'.*Declare it"):
        fit(models.build(name, 24, small(name)), split(chain_log()), QUICK)
