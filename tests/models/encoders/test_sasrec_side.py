"""SASRec with side vectors: item vectors change the scores of their items only."""

import numpy as np
import pandas as pd
import pytest
import torch

import seqlab
from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.datasets.log import make_log
from seqlab.items.vectors import from_model, item_vectors
from seqlab.optimization.options import Options
from seqlab.runs import store
from seqlab.training.fit import fit, prepare
from tests.synthetic import batch_of, chain_histories, log_of, set_targets

torch.set_num_threads(1)

HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10]]
ITEMS = 12


def model(vectors=None, **settings):
    torch.manual_seed(0)
    sizes = {"dim": 16, "layers": 1, "heads": 2, "max_length": 8, "dropout": 0.0, "vector_dim": 6}
    made = models.build("sasrec_side", ITEMS, sizes | settings)
    made.assign(np.random.default_rng(0).normal(size=(ITEMS, 4)) if vectors is None else vectors)
    return made.eval()


def log_with_titles(histories, words):
    """A log whose items have titles."""
    rows = [(user, item, place) for user, items in enumerate(histories, 1) for place, item in enumerate(items)]
    frame = pd.DataFrame(rows, columns=["user", "item", "timestamp"])
    items = pd.DataFrame({"item": range(1, len(words) + 1), "title": words})
    return make_log(frame, items=items, title="title", repeats=True)


def test_with_zero_vectors_it_equals_sasrec():
    mine, plain = model(np.zeros((ITEMS, 4))), models.build("sasrec", ITEMS, {
        "dim": 16, "layers": 1, "heads": 2, "max_length": 8, "dropout": 0.0})  # fmt: skip
    state = {name.replace("items.ids.", "items."): weight for name, weight in mine.state_dict().items()}
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    batch = batch_of(HISTORIES)
    torch.testing.assert_close(mine.score(batch), plain.eval().score(batch))
    with_targets = set_targets(batch, batch.items)
    torch.testing.assert_close(mine.loss(with_targets).total, plain.loss(with_targets).total)


def test_input_and_output_share_the_item_table():
    made = model()
    items = torch.arange(ITEMS + 1)[None]
    torch.testing.assert_close(made.items.lookup(items)[0], made.items.table())
    assert not bool(made.items.table()[0].any())  # padding is nothing, with side vectors too
    batch = batch_of(HISTORIES)
    states = batch.last(made.encode(batch))
    torch.testing.assert_close(made.score(batch), states @ made.items.table().T)
    with_targets = set_targets(batch, batch.items)
    logits = made.encode(batch)[batch.items > 0] @ made.items.table()[1:].T
    expected = torch.nn.functional.cross_entropy(logits, batch.items[batch.items > 0] - 1)
    torch.testing.assert_close(made.loss(with_targets).total, expected)


def test_the_projection_gets_gradients_from_inputs_and_targets():
    made, batch = model(), batch_of([[1, 2], [3]])
    made.loss(set_targets(batch, torch.tensor([[2, 4], [5, 0]]))).total.backward()
    assert float(made.items.project.weight.grad[:, :4].abs().min()) > 0
    assert not bool(made.items.project.weight.grad[:, 4:].any())  # filled up with zeros: nothing to learn
    assert not bool(made.items.ids.weight.grad[0].any())


def test_items_with_equal_vectors_tie_only_where_there_are_no_ids():
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 4))
    vectors[6] = vectors[2]  # items 7 and 3
    for ids in (True, False):
        scores = model(vectors, ids=ids).score(batch_of(HISTORIES))
        assert bool(torch.isclose(scores[:, 3], scores[:, 7], atol=1e-6).all()) is not ids


def test_the_scale_of_the_vectors_does_not_matter_and_unknown_items_stay_unknown():
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 4))
    vectors[4] = 0
    batch = batch_of(HISTORIES)
    torch.testing.assert_close(model(vectors * 1000).score(batch), model(vectors).score(batch))
    stored = model(vectors).items.vectors
    assert not bool(stored[5].any()) and not bool(stored[0].any())
    known = stored[1:][stored[1:].any(1)][:, :4]
    assert float(known.square().mean()) == pytest.approx(1, abs=1e-5)


def test_vectors_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="set vector_dim=9"):
        model(np.ones((ITEMS, 9)))
    with pytest.raises(ValueError, match="12 item vectors are needed"):
        model(np.ones((ITEMS - 2, 4)))


def test_vectors_are_computed_from_training_events_only_and_assigned_ones_stay():
    histories = chain_histories(3, users=60)
    answers = [[*items[:-2], items[-2] % 24 + 1, items[-1] % 24 + 1] for items in histories]
    trained = [[*(item * 5 % 24 + 1 for item in items[:-2]), *items[-2:]] for items in histories]
    found = []
    for log in (log_of(rows, repeats=True) for rows in (histories, answers, trained)):
        made = models.build("sasrec_side", log.n_items)
        prepare(made, leave_one_out(log))
        found.append(made.items.vectors)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    made.assign(np.eye(log.n_items))
    given = made.items.vectors.clone()
    prepare(made, leave_one_out(log))
    assert torch.equal(made.items.vectors, given)


def test_titles_are_read_and_the_vectors_are_saved_with_the_model(tmp_path):
    histories = chain_histories(0, users=40)
    log = log_with_titles(
        histories, [f"{'red' if item % 2 else 'blue'} thing of sort {'abc'[item % 3]}" for item in range(24)]
    )
    split = leave_one_out(log)
    made = models.build("sasrec_side", 24, {"dim": 16, "max_length": 8})
    prepare(made, split)
    words = item_vectors(split, "tfidf+collaborative")
    stored = made.items.vectors[1:, : words.shape[1]].numpy()
    np.testing.assert_allclose(stored / np.linalg.norm(stored), words / np.linalg.norm(words), atol=1e-6)
    store.save(made, tmp_path, "sasrec_side", 24)
    again = store.load(tmp_path)
    assert torch.equal(again.score(batch_of(HISTORIES)), made.eval().score(batch_of(HISTORIES)))
    assert from_model(again).shape == (24, 16)  # its whole item table, ids and words


def test_patching_the_side_vectors_to_zero_leaves_the_ids():
    made, batch = model(), batch_of(HISTORIES)
    with torch.no_grad():
        made.items.project.weight.normal_()
    with seqlab.watch(made) as trace:
        before = made.encode(batch)
    assert trace["side"].values.shape == (3, 7, 16)
    with seqlab.patch(made, {"items.side": torch.zeros_like}):
        without = made.encode(batch)
    assert float((without - before).detach()[batch.items > 0].abs().max()) > 1e-3
    made.items.vectors.zero_()
    torch.testing.assert_close(without, made.encode(batch))


def test_an_item_without_training_events_is_recommended_by_its_vector():
    vectors = np.kron(np.eye(5), np.ones((2, 1)))  # items 1 and 2, 3 and 4, ... are alike
    histories = [[1 + 2 * ((start + step) % 5) for step in range(7)] for start in range(20)]  # odd items alone
    histories += [[1, 2, 4], [3, 6, 8], [5, 10, 2]]  # of these users only the first event is trained on
    split = leave_one_out(log_of(histories, repeats=True))
    assert not bool((split.train.items % 2 == 0).any())
    made = models.build("sasrec_side", 10, {"dim": 16, "layers": 1, "dropout": 0.0, "max_length": 8, "ids": False})
    made.assign(vectors)
    run = fit(made, split, Options(epochs=40, tokens=128, learning_rate=1e-2, warmup=5, patience=40))
    with torch.no_grad():
        scores = run.model.score(batch_of([[1, 3]]))
    assert {int(item) for item in scores[0].topk(2).indices} == {5, 6}
