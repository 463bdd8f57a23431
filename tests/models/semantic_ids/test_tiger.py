"""TIGER: it learns what it is asked, legal codes alone if so set, lists tie, codes travel with the model."""

from dataclasses import replace

import pytest
import torch

import seqlab
from seqlab import decoding, models
from seqlab.datasets import leave_one_out
from seqlab.models.semantic_ids.tiger import TIGER, Config
from seqlab.runs.store import load, save
from seqlab.tokenizers import CodeBook
from seqlab.training.fit import prepare
from tests.synthetic import batch_of, chain_histories, log_of

torch.set_num_threads(1)

HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10], []]
ITEMS, LEVELS = 40, (5, 4, 6)

both_layouts = pytest.mark.parametrize("layout", ["decoder", "encoder_decoder"])


def book(seed=0, items=ITEMS, sizes=LEVELS):
    """Random tuples, a few of them equal."""
    generator = torch.Generator().manual_seed(seed)
    return CodeBook(torch.stack([torch.randint(size, (items + 1,), generator=generator) for size in sizes], 1), sizes)


def tiger(layout="decoder", **settings):
    """A small model whose weights are large enough for every token to matter."""
    torch.manual_seed(0)
    sizes = {"dim": 16, "layers": 2, "heads": 2, "max_length": 8, "dropout": 0.0, "levels": LEVELS}
    model = TIGER(Config(**(sizes | {"layout": layout} | settings)), ITEMS)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.ids.assign(book())
    return model.eval()


def asked(histories, answers):
    """Histories and the answer to each, as evaluation would ask."""
    batch = batch_of(histories)
    targets = torch.zeros_like(batch.items).scatter(1, batch.lengths[:, None] - 1, torch.tensor(answers)[:, None])
    return replace(batch, targets=targets)


@both_layouts
@pytest.mark.parametrize("legal_only", [False, True])
def test_the_loss_is_minus_the_exact_score(layout, legal_only):
    model = tiger(layout, legal_only=legal_only)
    scores = decoding.scores(model, batch_of(HISTORIES))
    for item in range(1, ITEMS - 1, 3):
        answers = [item, item + 1, item + 2]
        loss = model.loss(asked(HISTORIES[:3], answers))
        torch.testing.assert_close(loss.total.detach(), -scores[range(3), answers].mean(), atol=2e-5, rtol=0)
        torch.testing.assert_close(sum(loss.parts.values()), loss.total.detach())


def test_legal_only_spreads_all_probability_over_the_catalogue():
    batch = batch_of(HISTORIES)
    mass = {only: decoding.generate(tiger(legal_only=only), batch, ITEMS).scores.exp().sum(1) for only in (True, False)}
    torch.testing.assert_close(mass[True], torch.ones(4))
    assert bool((mass[False] < 0.99).all())


@both_layouts
def test_a_watched_model_answers_the_same_and_shows_its_beam(layout):
    model, batch = tiger(layout), batch_of(HISTORIES)
    found = decoding.generate(model, batch, 7)
    with seqlab.watch(model) as trace:
        watched = model.recommend(batch, 7)
    torch.testing.assert_close(watched.scores, replace(found).items(7)[1])
    shown = trace["beam"].values  # (B, C, W)
    assert shown.shape == (4, 3, 20)
    torch.testing.assert_close(shown[:, 2, :7], found.steps[2].scores)


def test_a_list_is_no_longer_than_the_catalogue_and_ties_stand_together():
    model = tiger()
    ranking = model.recommend(batch_of(HISTORIES), 100)
    assert ranking.items.shape == (4, ITEMS)
    shared = int(model.ids.book.trie.size(model.ids.book.trie.find(model.ids.codes[1:])).argmax()) + 1
    bucket = model.ids.book.items_of(model.ids.codes[shared])
    assert len(bucket) > 1
    place = (ranking.items[0] == bucket[0]).int().argmax()
    assert torch.equal(ranking.items[0, place : place + len(bucket)], bucket)
    assert len(ranking.scores[0, place : place + len(bucket)].unique()) == 1


def test_codes_travel_with_the_model_and_new_ones_are_noticed(tmp_path):
    model, batch = tiger(), batch_of(HISTORIES)
    before = model.recommend(batch, 6)
    save(model, tmp_path, "tiger", ITEMS)
    again = load(tmp_path)
    assert torch.equal(again.recommend(batch, 6).items, before.items)
    model.ids.assign(book(seed=1))
    assert torch.equal(model.ids.book.codes, book(seed=1).codes)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.recommend(batch, 6).items, model.recommend(batch, 6).items)
    assert not torch.equal(again.recommend(batch, 6).items, before.items)


def test_without_codes_or_with_others_than_it_was_built_for_it_says_what_to_do():
    model = models.build("tiger", ITEMS, {"levels": LEVELS})
    with pytest.raises(RuntimeError, match="no codes yet: call prepare"):
        model.recommend(batch_of(HISTORIES), 5)
    with pytest.raises(ValueError, match="set levels=5,4,7"):
        model.ids.assign(book(sizes=(5, 4, 7)))
    with pytest.raises(ValueError, match=r"39 items .* built for 40 items"):
        model.ids.assign(book(items=39))
    with pytest.raises(ValueError, match="set levels=5,4"):
        model.ids.assign(book(sizes=(5, 4)))


def test_codes_are_made_from_training_events_alone():
    histories = chain_histories(3, users=60)
    answers = [[*items[:-2], items[-2] % 24 + 1, items[-1] % 24 + 1] for items in histories]
    trained = [[*(item * 5 % 24 + 1 for item in items[:-2]), *items[-2:]] for items in histories]
    codes = []
    for log in (log_of(rows, repeats=True) for rows in (histories, answers, trained)):
        model = models.build("tiger", log.n_items)
        prepare(model, leave_one_out(log))
        codes.append(model.ids.codes)
        assert model.ids.book.vectors == "collaborative"  # there are no words
        assert bool(model.ids.book.trie.size(model.ids.book.trie.find(model.ids.codes[1:])).eq(1).all())
    assert torch.equal(codes[0], codes[1]) and not torch.equal(codes[0], codes[2])


def test_letter_needs_a_tokenizer_that_is_trained():
    split = leave_one_out(log_of(chain_histories(3, users=60), repeats=True))
    with pytest.raises(ValueError, match="rq_kmeans has no such training"):
        prepare(models.build("tiger", split.n_items, {"letter": True}), split)
