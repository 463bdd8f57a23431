"""ReSID: what FAMAE hides and learns, what becomes a field, one tree under two namings, and the writer of codes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.datasets.log import make_log
from seqlab.models.semantic_ids import resid
from seqlab.models.semantic_ids.resid import FAMAE, Config, fields, pretrain
from seqlab.training import fit
from tests.synthetic import batch_of, chain_histories, log_of, set_targets

torch.set_num_threads(1)

HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10], []]
ITEMS, LEVELS = 40, (5, 4, 6)
QUICK = Config(field_dim=16, field_epochs=3, max_length=8)


def log_with_columns(histories, **columns):
    """A log whose items 1, 2, .. have these columns; without titles these are the ids."""
    rows = [(user, item, place) for user, items in enumerate(histories, 1) for place, item in enumerate(items)]
    items = pd.DataFrame({"item": range(1, len(next(iter(columns.values()))) + 1)} | columns)
    frame = pd.DataFrame(rows, columns=["user", "item", "timestamp"])
    return make_log(frame, items=items, title="title" if "title" in columns else None, repeats=True)


def famae(items=10, seed=0, n_seen=None):
    """A small FAMAE with three fields, large weights, and a few unknown values."""
    torch.manual_seed(seed)
    codes = torch.stack([torch.arange(items + 1), torch.arange(items + 1) % 4, torch.arange(items + 1) % 3], 1)
    model = FAMAE(QUICK, ("item", "shop", "kind"), codes, n_seen or [items, 3, 2])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


# what becomes a field


def test_shared_values_are_fields_and_ids_titles_and_unique_values_are_none():
    shop = ["b", "a", "", "a", "b", "a", "b", "a", "b", "a", "b", "a"]
    log = log_with_columns(
        chain_histories(0, items=12), title=[f"thing {item}" for item in range(12)], shop=shop, same=["x"] * 12,
        code=[f"B00{item}" for item in range(12)], genres=["Drama|War", "Drama", "Comedy|War", "Comedy"] * 3,
        path=["17 4", "17 5", "64 5", "64 4"] * 3,
    )  # fmt: skip
    names, codes, n_seen = fields(leave_one_out(log))
    assert names == ("item", "shop 1", "genres 1", "path 1", "path 2")  # "War" alone tells nothing apart
    assert codes.shape == (13, 5) and not bool(codes[0].any()) and n_seen == [12, 2, 2, 2, 2]
    assert sorted(codes[1:, 0].tolist()) == list(range(1, 13))
    for label in ("a", "b", ""):
        where = torch.tensor([one == label for one in shop])
        assert len(codes[1:, 1][where].unique()) == 1
        assert bool((codes[1:, 1][where] == 0).all()) == (label == "")  # nothing known is not a value
    assert bool((codes[[1, 5, 2], 2] == codes[1, 2]).all()) and int(codes[3, 2]) != int(codes[1, 2])


def test_without_shared_values_words_are_quantised_and_without_words_the_id_is_alone():
    histories = chain_histories(0, items=24)
    words = [f"{'red' if item % 2 else 'blue'} {'abc'[item % 3] * 3} thing {item}" for item in range(24)]
    names, codes, _ = fields(leave_one_out(log_with_columns(histories, title=words)))
    assert names == ("item", "text 1", "text 2", "text 3")
    assert bool((codes[1:] > 0).all()) and len(codes[1:, 1].unique()) == 3
    names, codes, n_seen = fields(leave_one_out(log_of(histories, repeats=True)))
    assert names == ("item",) and codes.shape == (25, 1) and n_seen == [24]


def test_values_without_a_training_event_come_last():
    histories = [[1, 2, 3, 1, 2, 3, 1, 2]] * 5 + [[1, 4, 5]]  # items 4 and 5 are the answers of one user
    split = leave_one_out(log_with_columns(histories, shop=["z", "z", "z", "a", "a"]))
    _, codes, n_seen = fields(split)
    assert n_seen[0] == 3 and bool((codes[1:4, 0] <= 3).all()) and bool((codes[4:, 0] > 3).all())


# what is hidden


def test_one_to_all_fields_of_the_last_item_are_hidden_each_number_as_often():
    model = famae()
    batch = batch_of([[1, 2, 3, 4]] * 2000)
    torch.manual_seed(0)
    _, _, hide = model.mask_fields(set_targets(batch, batch.items))
    share = torch.bincount(hide.sum(1), minlength=4) / len(hide)
    torch.testing.assert_close(share, torch.tensor([0, 1 / 3, 1 / 3, 1 / 3]), atol=0.03, rtol=0)
    torch.testing.assert_close(hide.float().mean(0), torch.full((3,), 2 / 3), atol=0.03, rtol=0)


def test_masked_batches_are_histories_and_their_next_items():
    histories = [[1, 2, 3, 4, 5, 6, 7], [8, 9, 10], [7, 1]]
    whole = batch_of([items[:-1] for items in histories])
    following = batch_of([items[1:] for items in histories])
    torch.manual_seed(0)
    items, lengths, _ = famae().mask_fields(set_targets(whole, following.items))
    drawn = {tuple(row[:length]) for row, length in zip(items.tolist(), lengths.tolist(), strict=True)}
    assert drawn == {tuple(one[:end]) for one in histories for end in range(2, len(one) + 1)}
    assert bool((items > 0).sum(1).eq(lengths).all())


def test_a_hidden_value_cannot_be_seen_and_the_history_is_never_hidden():
    model, lengths = famae(), torch.tensor([4])
    last = torch.tensor([[3, 7, 7, 1]])
    other = torch.tensor([[3, 7, 7, 5]])  # of the same shop (1 = 5 modulo 4) and of another kind
    for hidden in ([True, False, True], [True, True, True]):
        hide = torch.tensor([hidden])
        torch.testing.assert_close(model(last, lengths, hide), model(other, lengths, hide))
    shown = torch.tensor([[True, False, False]])
    assert float((model(last, lengths, shown) - model(other, lengths, shown)).detach().abs().max()) > 1e-3
    history = torch.tensor([[3, 1, 7, 1]])
    everything = torch.ones(1, 3, dtype=torch.bool)
    assert float((model(last, lengths, everything) - model(history, lengths, everything)).detach().abs().max()) > 1e-3


def test_neither_padding_nor_other_users_change_a_state_of_famae():
    model = famae()
    batch = batch_of([[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10]])
    hide = torch.tensor([[True, False, True], [True, True, True], [False, True, False]])
    together = model(batch.items, batch.lengths, hide)
    wide = F.pad(batch.items, (0, 2))
    torch.testing.assert_close(model(wide, batch.lengths, hide), together)
    for row, length in enumerate(batch.lengths):
        one = slice(row, row + 1)
        torch.testing.assert_close(model(batch.items[one, :length], batch.lengths[one], hide[one]), together[one])


def test_the_loss_is_cross_entropy_of_scaled_cosines_over_the_known_values_of_every_hidden_field():
    model = famae(n_seen=[8, 3, 1])  # items 9 and 10 and one kind are no answers
    items, lengths = torch.tensor([[3, 7, 0], [2, 5, 4], [1, 0, 0]]), torch.tensor([2, 3, 1])
    hide = torch.tensor([[True, True, True], [True, True, False], [False, True, True]])
    states, total = model(items, lengths, hide), 0
    for row, last in enumerate((7, 4, 1)):
        for field in range(3):
            value = int(model.codes[last, field])
            if hide[row, field] and value:  # item 4 has no shop: nothing to guess
                rows = model.table.weight[int(model.offsets[field]) + 2 :][: model.n_seen[field]]
                cosines = F.cosine_similarity(states[row], rows, dim=1)
                total = total - (16**0.5 * cosines).log_softmax(0)[value - 1]
    torch.testing.assert_close(model.field_loss(items, lengths, hide), total / 3)


# what comes out


def test_an_item_is_its_fields_side_by_side_and_unseen_values_are_near_the_mean_of_seen_ones():
    model = famae(n_seen=[8, 3, 2])
    vectors, table = model.vectors().reshape(10, 3, 16), model.table.weight.detach().numpy()
    first = model.offsets.numpy() + 1
    np.testing.assert_array_equal(vectors[6], table[first + np.array([7, 3, 1])])  # item 7: 7 % 4, 7 % 3
    np.testing.assert_array_equal(vectors[3, 1], table[first[1]])  # item 4 has no shop
    mean = table[first[0] + 1 : first[0] + 9].mean(0)
    np.testing.assert_allclose(vectors[8:, 0], table[first[0] + 9 : first[0] + 11] + mean, atol=1e-6)


@torch.no_grad()
def probe(model, items, lengths):
    """The paper's probes: recall@10 of the ids, all fields hidden (collaborative) or the id alone (semantic)."""
    truth, found = model.codes[items.gather(1, lengths[:, None] - 1), 0], []  # (M, 1)
    for hidden in (len(model.names), 1):
        hide = torch.arange(len(model.names)) < hidden
        scores = model(items, lengths, hide.expand(len(items), -1)) @ model.value_directions(0).T  # (M, 1 + seen)
        scores[:, 0] = -torch.inf
        found.append(float(((scores > scores.gather(1, truth)).sum(1) < 10).float().mean()))
    return found


def test_the_probes_are_recall_of_the_id():
    model = famae(items=30, n_seen=[30, 3, 2])
    items, lengths = torch.randint(1, 31, (50, 6)), torch.full((50,), 6)
    for found, hidden in zip(probe(model, items, lengths), ([1, 1, 1], [1, 0, 0]), strict=True):
        scores = model(items, lengths, torch.tensor([hidden] * 50).bool()) @ F.normalize(model.table.weight[2:32]).T
        hits = [int(item) - 1 in scores[row].topk(10).indices for row, item in enumerate(items[:, -1])]
        assert found == pytest.approx(np.mean(hits))


def test_famae_learns_transitions_and_a_visible_field_helps():
    shops = [f"shop {item // 3}" for item in range(48)]
    split = leave_one_out(log_with_columns(chain_histories(1, users=150, items=48, faithful=0.5), shop=shops))
    batch = split.valid.batch(torch.arange(len(split.valid)), 8)
    items = F.pad(batch.items, (0, 1)).scatter(1, batch.lengths[:, None], batch.last(batch.targets)[:, None])
    untrained = probe(pretrain(replace(QUICK, field_epochs=0), split), items, batch.lengths + 1)
    trained = pretrain(replace(QUICK, field_epochs=30, field_rate=1e-2), split)
    all_hidden, id_hidden = probe(trained, items, batch.lengths + 1)
    assert max(untrained) < 0.35  # chance is 10 of 48
    assert all_hidden > 0.5 and id_hidden > all_hidden + 0.08


def test_pretraining_is_reproducible_and_does_not_change_the_global_generator():
    split = leave_one_out(log_of(chain_histories(3), repeats=True))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = pretrain(QUICK, split).vectors()
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(one, pretrain(QUICK, split).vectors())


def prepared(split, **settings):
    model = models.build("resid", split.n_items, {"field_epochs": 2, "field_dim": 16} | settings)
    fit.prepare(model, split)
    return model


def groups(codes):
    """For every item the first item with its tuple."""
    return codes.unique(dim=0, return_inverse=True)[1][:, None].eq(codes.unique(dim=0, return_inverse=True)[1])


def test_aligned_and_local_codes_are_one_tree_with_other_codes():
    split = leave_one_out(log_of(chain_histories(2, items=90, users=150), repeats=True))
    aligned, local = (prepared(split, anchors=anchors).ids.book for anchors in ("aligned", "none"))
    a, b = aligned.codes[1:], local.codes[1:]
    assert torch.equal(a[:, 0], b[:, 0]) and not torch.equal(a, b)
    for level in (1, 2, 3):
        assert torch.equal(groups(a[:, :level]), groups(b[:, :level]))
    assert aligned.notes[-1].startswith("Mean cosine") and aligned.notes[-1] != local.notes[-1]


def test_random_codes_are_a_control_of_the_same_shape_that_trains_nothing(monkeypatch):
    split = leave_one_out(log_of(chain_histories(2, items=90, users=150), repeats=True))
    tree = prepared(split)
    monkeypatch.setattr(resid, "pretrain", lambda *_: pytest.fail("the control must read no vectors"))
    control = prepared(split, tokenizer="random_codes")
    assert control.ids.book.vectors == "none" and len(control.ids.codes[1:].unique(dim=0)) == 90
    assert torch.equal(control.ids.codes[1:, :2].amax(0), tree.ids.codes[1:, :2].amax(0))
    assert prepared(split, vectors="collaborative").ids.book.vectors == "collaborative"


def test_an_unseen_item_is_placed_by_its_fields_with_a_unique_tuple():
    histories = [[*items, 49, 50] for items in chain_histories(1, users=150, items=48)]  # 49 and 50: answers alone
    shops = [f"shop {item // 12}" for item in range(48)] + ["shop 0", "shop 3"]
    split = leave_one_out(log_with_columns(histories, shop=shops))
    assert int(split.train.items.max()) == 48
    vectors = pretrain(replace(QUICK, field_epochs=10), split).vectors()
    far = ((vectors[48:, None] - vectors[None, :48]) ** 2).sum(2)  # (2, 48)
    first, last = far[:, :12].mean(1), far[:, 36:].mean(1)
    assert first[0] < last[0] and last[1] < first[1]
    codes = prepared(split).ids.codes
    assert len(codes[1:].unique(dim=0)) == 50


# the generator
