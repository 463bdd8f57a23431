"""RecGPT: exact scores of independent slots, attention by items, no parameter that knows the catalogue."""

import dataclasses
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import seqlab
from seqlab import decoding, models
from seqlab.datasets import leave_one_out
from seqlab.datasets.log import make_log
from seqlab.models.semantic_ids import recgpt as recgpt_file
from seqlab.models.semantic_ids.recgpt import Config, RecGPT
from seqlab.optimization.options import Options
from seqlab.runs import store
from seqlab.tokenizers import CodeBook
from seqlab.tokenizers.fsq import FSQ
from seqlab.training import fit
from tests.synthetic import batch_of, chain_histories, enlarged, log_of, random_book, set_targets, with_targets

torch.set_num_threads(1)

HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10], []]
ITEMS, LEVELS = 40, (5, 4, 5)


def vectors(items=ITEMS, dim=12):
    return np.random.default_rng(0).normal(size=(items, dim)).astype(np.float32)


def recgpt(items=ITEMS, **settings):
    """A small model whose weights are large enough for every token to matter."""
    torch.manual_seed(0)
    sizes = {"dim": 16, "layers": 2, "heads": 2, "max_length": 8, "dropout": 0.0, "levels": LEVELS, "chunk": 4}
    model = RecGPT(Config(**(sizes | settings)), items)
    enlarged(model)
    model.ids.assign(random_book(items=items, sizes=LEVELS))
    if model.dense:
        model.set_chunks(vectors(items))
    return model.eval()


@torch.no_grad()
def test_scores_are_those_of_step_by_step_decoding():
    model, batch = recgpt(), batch_of(HISTORIES)
    scores, log_p = model.score(batch), model.slot_log_p(batch)
    torch.testing.assert_close(scores, decoding.exact(model.decoder(batch), model.ids.book.trie))
    for item in (1, 17, 40):
        by_hand = sum(log_p[:, slot, code] for slot, code in enumerate(model.ids.codes[item].tolist()))
        torch.testing.assert_close(scores[:, item], by_hand)


@torch.no_grad()
def test_per_item_shares_a_codes_probability_out_among_the_items_that_have_it():
    model, batch = recgpt(per_item=True), batch_of(HISTORIES)
    book, log_p = model.ids.codes[1:].tolist(), model.slot_log_p(batch)
    holders = [Counter(codes) for codes in zip(*book, strict=True)]
    assert max(holders[0].values()) > 1
    by_hand = [
        sum(log_p[:, slot, code] - np.log(holders[slot][code]) for slot, code in enumerate(codes)) for codes in book
    ]
    scores = model.score(batch)[:, 1:]
    expected = torch.stack(by_hand, 1)
    torch.testing.assert_close(scores - scores[:, :1], expected - expected[:, :1])  # but for what is common to all
    assert not torch.equal(scores.argsort(1), recgpt().score(batch)[:, 1:].argsort(1))


@torch.no_grad()
@pytest.mark.parametrize("per_item", [False, True])
def test_a_wide_beam_is_exact_and_a_narrow_one_finds_legal_tuples_with_their_own_scores(per_item):
    model, batch = recgpt(per_item=per_item), batch_of(HISTORIES)
    scores = model.score(batch)
    items, found = decoding.generate(model, batch, ITEMS).items(ITEMS)
    torch.testing.assert_close(found, scores[:, 1:].sort(1, descending=True).values)
    torch.testing.assert_close(found, scores.gather(1, items))
    narrow = decoding.generate(model, batch, 3, keep=2)
    items, found = narrow.items(3)
    assert int(items.min()) >= 1  # no code outside the trie is ever written
    torch.testing.assert_close(found, scores.gather(1, items))
    assert narrow.steps[1].pruned_node.shape == (4, 2)


@torch.no_grad()
def test_the_loss_of_all_positions_is_that_of_each_prefix_alone():
    model, history = recgpt(), [3, 7, 7, 1, 5, 2]
    targets = torch.tensor([history[1:], [9, 0, 0, 0, 0]])  # nothing follows the second one's last item
    alone = [model.loss(with_targets([history[:end]], [history[end]])).total for end in range(1, 6)]
    alone.append(model.loss(with_targets([[4]], [9])).total)
    loss = model.loss(set_targets(batch_of([history[:-1], [4, 9]]), targets))
    torch.testing.assert_close(loss.total, torch.stack(alone).mean())
    torch.testing.assert_close(sum(loss.parts.values()), loss.total)


@torch.no_grad()
def test_the_codes_of_an_item_see_one_another_and_none_of_a_later_item():
    model, batch = recgpt(), batch_of([[3, 7, 7, 1, 5, 2, 9]])
    with seqlab.watch(model) as trace:
        model.score(batch)
    weights = trace["attention"].values  # (layer, B, H, T C, T C)
    item = torch.arange(21) // 3
    allowed = item <= item[:, None]
    assert float(weights[..., ~allowed].max()) == 0 and float(weights[..., allowed].min()) > 0
    before = model.token_states(batch)
    codes = model.ids.codes.clone()
    codes[1, 2] = (codes[1, 2] + 1) % 5  # the last code of item 1, which is the fourth of the history
    model.ids.assign(CodeBook(codes, LEVELS))
    difference = (model.token_states(batch) - before).abs().amax(-1)[0]  # (T, C)
    assert float(difference[:3].max()) == 0 and float(difference[3:].min()) > 1e-4


@torch.no_grad()
def test_the_raw_chunk_counts():
    model, batch = recgpt(), batch_of(HISTORIES[:3])
    before = model.score(batch)
    with seqlab.patch(model, {"chunk_part": torch.zeros_like}):
        assert float((model.score(batch) - before)[:, 1:].abs().max()) > 1e-2


@torch.no_grad()
def test_slots_of_one_vocabulary_are_distinguished():
    model, batch = recgpt(dense=False), batch_of(HISTORIES)
    before = model.slot_log_p(batch)
    model.ids.assign(CodeBook(model.ids.codes[:, [2, 1, 0]], LEVELS))
    turned = model.slot_log_p(batch)[:, [2, 1, 0]]  # a model that knows no slots would only turn its answers round
    assert float((turned - before).abs().amax((1, 2)).min()) > 1e-2


def test_a_chunk_holds_the_numbers_its_code_was_made_of():
    X = vectors()
    tokenizer = FSQ(levels=3, values=(5, 5), epochs=1).fit(X)
    model = recgpt(levels=(25, 25, 25), resolve="none")
    codes = torch.from_numpy(np.vstack([np.zeros((1, 3), int), tokenizer.encode(X)]))
    model.ids.assign(CodeBook(codes, (25, 25, 25)))
    model.set_chunks(X)
    same = tokenizer.network_.quantise(model.chunks[1:].mT.flatten(1))[1]  # dealt out, and put together again
    assert torch.equal(same, codes[1:])
    indexed_model = RecGPT(Config(levels=(25, 25, 25, 2), chunk=4, dim=16, heads=2, resolve="index"), ITEMS)
    indexed_model.set_chunks(X)
    assert torch.equal(indexed_model.chunks[:, :3], model.chunks)
    assert not indexed_model.chunks[:, 3].any()  # the index is no part of the vector


def test_vectors_that_do_not_fit_say_what_to_set():
    with pytest.raises(ValueError, match="vectors of 13 numbers do not fit 3 slots of 4; set chunk=5"):
        recgpt().set_chunks(vectors(dim=13))
    with pytest.raises(ValueError, match="40 item vectors are needed"):
        recgpt().set_chunks(vectors(items=39))


@torch.no_grad()
def test_what_was_learnt_moves_to_another_catalogue():
    here, there = recgpt(), recgpt(items=17)
    weights = {name: parameter * 0.5 for name, parameter in here.named_parameters()}
    missing, unexpected = there.load_state_dict(weights, strict=False)
    assert set(missing) == {"ids.codes", "chunks"} and not unexpected
    here.load_state_dict(weights, strict=False)
    batch = batch_of(HISTORIES)
    there.ids.assign(CodeBook(here.ids.codes[:18], LEVELS))
    there.chunks.copy_(here.chunks[:18])
    torch.testing.assert_close(there.score(batch), here.score(batch)[:, :18])


SENTENCES = {"here": vectors(24), "there": vectors(17) + 0.3, "few": vectors(24)[[4, 1]]}
"""Vectors of the items of logs by name, as those of sentences: they do not depend on the other items."""


@pytest.fixture
def logs(monkeypatch):
    """Splits of these logs; items 1 and 2 of "few" are 5 and 2 of "here"."""
    monkeypatch.setattr(recgpt_file, "item_vectors", lambda split, *_: SENTENCES[split.log.name])
    histories = {"here": chain_histories(3, users=30), "there": chain_histories(4, users=30, items=17)}
    histories["few"] = [[1, 2, 1], [2, 1, 2]]
    return {name: leave_one_out(log_of(rows, repeats=True, name=name)) for name, rows in histories.items()}


@torch.no_grad()
def test_another_catalogue_is_coded_by_the_tokenizer_of_training(logs):
    model, batch = prepared(logs["here"], vectors="sentence", chunk=6), batch_of(HISTORIES)
    again, other, few = (model.with_catalogue(split) for split in logs.values())
    assert torch.equal(again.ids.codes, model.ids.codes), "the same items have the same codes"
    torch.testing.assert_close(again.score(batch), model.score(batch))
    assert other.score(batch).shape == (4, 18) and not other.training
    for (name, one), (_, same) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(one, same) and one is not same, name
    assert torch.equal(few.ids.codes[1:], model.ids.codes[[5, 2]])
    torch.testing.assert_close(few.chunks[1:], model.chunks[[5, 2]], rtol=3e-3, atol=0)  # n or n - 1 numbers
    assert (model.ids.codes.shape, model.chunks.shape) == ((25, 2), (25, 2, 6)), "the model itself stays"


def test_what_codes_another_catalogue_is_saved_and_an_older_run_lacks_it(logs, tmp_path):
    model = prepared(logs["here"], vectors="sentence", chunk=6)
    store.save(model, tmp_path, "recgpt", 24)
    assert torch.equal(store.load(tmp_path).with_catalogue(logs["here"]).ids.codes, model.ids.codes)
    weights = {name: x for name, x in load_file(tmp_path / "model.safetensors").items() if "cells" not in name}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="saved without what coded its items"):
        store.load(tmp_path).with_catalogue(logs["there"])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"vectors": "tfidf"}, "reads tfidf vectors, .* only with vectors=sentence"),
     ({"vectors": "sentence", "resolve": "index", "chunk": 6}, r"resolve=none, .*has fsq and index"),
     ({"vectors": "sentence", "tokenizer": "rq_kmeans"}, "has rq_kmeans and none")],
)  # fmt: skip
def test_codes_that_mean_nothing_in_another_catalogue_are_refused(settings, sentence, logs):
    with pytest.raises(ValueError, match=sentence):
        recgpt(**settings).with_catalogue(logs["there"])


def test_random_codes_are_drawn_for_another_catalogue(logs):
    control = prepared(logs["here"], tokenizer="random_codes").with_catalogue(logs["there"])
    assert control.ids.codes.shape == (18, 2) and control.ids.assigned


def test_training_begins_from_a_run_on_another_catalogue(logs):
    brief = Options(epochs=1, tokens=64)
    run = fit.fit(prepared(logs["here"], vectors="sentence", chunk=6), logs["here"], brief)
    new = models.build("recgpt", 17, dataclasses.asdict(run.model.config))
    begun = fit.fit(new, logs["there"], dataclasses.replace(brief, learning_rate=1e-30), start=run)
    for name, weight in begun.model.named_parameters():
        torch.testing.assert_close(weight, dict(run.model.named_parameters())[name])
    assert torch.equal(begun.model.ids.codes, run.model.with_catalogue(logs["there"]).ids.codes)


def titled(histories, material):
    """These histories of 24 items, each called after its colour, its shape and `material` of its number."""
    rows = [(user, item, at) for user, items in enumerate(histories, 1) for at, item in enumerate(items)]
    names = [f"{('red', 'blue', 'green')[item % 3]} {('cup', 'pan', 'pot', 'jar')[item % 4]} {material(item)}"
             for item in range(1, 25)]  # fmt: skip
    items = pd.DataFrame({"item": range(1, 25), "title": names})
    events = pd.DataFrame(rows, columns=["user", "item", "timestamp"])
    return leave_one_out(make_log(events, items=items, title="title", name="titled", repeats=True))


def prepared(split, **settings):
    torch.manual_seed(0)
    sizes = {"dim": 16, "heads": 2, "layers": 1, "levels": (30, 30), "values": (6, 5), "max_length": 8}
    model = models.build("recgpt", split.n_items, sizes | settings)
    fit.prepare(model, split)
    return model.eval()


def test_random_codes_do_not_depend_on_words():
    histories = chain_histories(3, users=40)
    one = titled(histories, lambda item: ("wood", "steel")[item % 2])
    other = titled(histories, lambda item: ("wood", "steel")[item // 2 % 2])
    batch = batch_of(HISTORIES)
    control = [prepared(split, tokenizer="random_codes") for split in (one, other)]
    assert torch.equal(control[0].score(batch), control[1].score(batch))
    assert not torch.equal(prepared(one).score(batch), prepared(other).score(batch))
    assert not torch.equal(prepared(one).ids.codes, prepared(other).ids.codes)
    model = prepared(one, tokenizer="random_codes")
    assert model.chunks is None and model.ids.book.vectors == "tfidf"


def test_the_length_of_a_vector_of_words_does_not_matter(monkeypatch):
    split = titled(chain_histories(3, users=40), lambda item: ("wood", "steel")[item % 2])
    one, whole = prepared(split), recgpt_file.item_vectors
    lengths = 2.0 ** (np.arange(24, dtype=np.float32)[:, None] % 5 - 3)
    monkeypatch.setattr(recgpt_file, "item_vectors", lambda *arguments: whole(*arguments) * lengths)
    other = prepared(split)
    assert torch.equal(one.ids.codes, other.ids.codes) and torch.equal(one.chunks, other.chunks)
    assert len(one.ids.codes[1:].unique(dim=0)) > 1 and bool(one.chunks[1:].any())


def test_assigned_codes_and_chunks_stay():
    model, split = recgpt(items=24), titled(chain_histories(3, users=40), lambda item: "wood")
    codes, chunks = model.ids.codes.clone(), model.chunks.clone()
    fit.prepare(model, split)
    assert torch.equal(model.ids.codes, codes) and torch.equal(model.chunks, chunks)


@torch.no_grad()
def test_a_watched_model_answers_the_same_and_shows_its_slots():
    model, batch = recgpt(), batch_of(HISTORIES)
    scores = model.score(batch)
    with seqlab.watch(model) as trace:
        torch.testing.assert_close(model.score(batch), scores, atol=1e-5, rtol=1e-5)
    assert trace["inputs"].values.shape == (2, 4, 7, 3, 16)  # the code's part and the chunk's
    torch.testing.assert_close(trace["codes"].values.exp().sum(-1), torch.ones(4, 3))


def test_a_grid_with_more_codes_than_the_levels_is_refused():
    split = leave_one_out(log_of(chain_histories(3, users=60), repeats=True))
    with pytest.raises(ValueError, match="set levels=30,30"):
        prepared(split, levels=(20, 20))
