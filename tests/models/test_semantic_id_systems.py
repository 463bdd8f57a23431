"""What every system with semantic IDs guarantees. A new one is tested here without a change."""

import pytest
import torch

import seqlab
from seqlab import decoding, models
from seqlab.datasets import leave_one_out
from seqlab.runs.store import load, save
from seqlab.training.fit import prepare
from tests.synthetic import batch_of, chain_histories, coded, log_of, random_book, small, with_targets

torch.set_num_threads(1)

SYSTEMS = [name for name in models.names() if hasattr(models.build(name, 10, small(name)), "ids")]
HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10], []]
ITEMS, LEVELS = 40, (5, 4, 6)
QUICK = {"resid": {"field_epochs": 2, "field_dim": 16}, "reg4rec": {"levels": (8, 8, 8)},
         "recgpt": {"levels": (30, 30), "values": (6, 5)}}  # fmt: skip

every_system = pytest.mark.parametrize("name", SYSTEMS)


@torch.no_grad()
@pytest.mark.parametrize(("name", "settings"), [
    ("tiger", {}), ("tiger", {"legal_only": True}), ("tiger", {"layout": "encoder_decoder"}),
    ("tiger", {"layout": "encoder_decoder", "legal_only": True}), ("discrec", {}), ("discrec", {"branch": "alone"}),
    ("discrec", {"layout": "encoder_decoder"}), ("discrec", {"layout": "encoder_decoder", "branch": "alone"}),
    ("resid", {}), ("recgpt", {}), ("reg4rec", {"order": "fixed", "temperature": 2.0}),
])  # fmt: skip
def test_the_loss_is_minus_the_exact_score(name, settings):
    model = coded(name, **settings)
    scores = decoding.scores(model, batch_of(HISTORIES))
    for item in range(1, ITEMS - 1, 6):
        targets = [item, item + 1, item + 2]
        loss = model.loss(with_targets(HISTORIES[:3], targets))
        torch.testing.assert_close(loss.total, -scores[range(3), targets].mean(), atol=3e-5, rtol=1e-6)
        torch.testing.assert_close(sum(loss.parts.values()), loss.total)


@every_system
def test_codes_are_saved_with_the_model_and_new_codes_take_effect(name, tmp_path):
    model, batch = coded(name), batch_of(HISTORIES)
    before = model.recommend(batch, 6)
    save(model, tmp_path, name, ITEMS)
    again = load(tmp_path)
    assert torch.equal(again.recommend(batch, 6).items, before.items)
    assert again.ids.book.ordered == model.ids.book.ordered
    model.ids.assign(random_book(seed=1))
    assert torch.equal(model.ids.book.codes, random_book(seed=1).codes)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.recommend(batch, 6).items, model.recommend(batch, 6).items)
    assert not torch.equal(again.recommend(batch, 6).items, before.items)


@every_system
def test_missing_codes_and_codes_that_do_not_fit_are_refused(name):
    model = models.build(name, ITEMS, {"levels": LEVELS})
    for query in (lambda batch: model.recommend(batch, 5), lambda batch: decoding.scores(model, batch)):
        with pytest.raises(RuntimeError, match="no codes yet: call prepare"):
            query(batch_of(HISTORIES))
    for sizes, message in (((5, 4, 7), "set levels=5,4,7"), ((5, 4), "set levels=5,4")):
        with pytest.raises(ValueError, match=message):
            model.ids.assign(random_book(sizes=sizes))
    with pytest.raises(ValueError, match=r"39 items .* built for 40 items"):
        model.ids.assign(random_book(items=39))


@every_system
def test_codes_come_from_training_events_alone_and_random_ones_from_nothing(name):
    histories = chain_histories(3, users=60)
    others = [[*items[:-2], items[-2] % 24 + 1, items[-1] % 24 + 1] for items in histories]  # of validation and test
    trained = [[*(item * 5 % 24 + 1 for item in items[:-2]), *items[-2:]] for items in histories]

    def made(rows, **settings):
        log = log_of(rows, repeats=True)
        model = models.build(name, log.n_items, QUICK.get(name, {}) | settings)
        prepare(model, leave_one_out(log))
        assert model.ids.book.resolved == "none" or len(model.ids.codes[1:].unique(dim=0)) == log.n_items
        return model

    model, same, other = (made(rows) for rows in (histories, others, trained))
    assert model.ids.book.vectors in ("collaborative", "FAMAE")  # there are no words
    assert all(torch.equal(one, two) for one, two in zip(model.buffers(), same.buffers(), strict=True))
    assert not torch.equal(model.ids.codes, other.ids.codes)
    one, two = (made(rows, tokenizer="random_codes").ids.codes for rows in (histories, trained))
    assert torch.equal(one, two)
    before = model.ids.codes.clone()
    prepare(model, leave_one_out(log_of(trained, repeats=True)))
    assert torch.equal(model.ids.codes, before), "assigned codes stay"


@every_system
def test_items_with_equal_codes_tie(name):
    model = coded(name)
    model.ids.codes[30] = model.ids.codes[12]
    ranking = model.recommend(batch_of(HISTORIES), ITEMS + 5)
    assert ranking.items.shape == (4, ITEMS)
    for row in range(4):
        scores = ranking.scores[row][(ranking.items[row] == 12) | (ranking.items[row] == 30)]
        assert len(scores) == 2 and float(scores[0]) == float(scores[1])


@every_system
def test_a_watched_list_is_the_same_and_records_the_beam(name):
    model, batch = coded(name), batch_of(HISTORIES)
    if not hasattr(model, "beam"):
        pytest.skip("scores without a beam")
    found = model.paths(batch).beams if hasattr(model, "paths") else decoding.generate(model, batch)
    with seqlab.watch(model) as trace:
        watched = model.recommend(batch, 7)
    torch.testing.assert_close(watched.scores, found.items(7)[1], rtol=1e-4, atol=1e-4)
    assert trace["beam"].values.shape == (4, 3, 20)
    torch.testing.assert_close(trace["beam"].values[:, 2], found.scores, rtol=1e-4, atol=1e-4)
