"""BERT4Rec: the masks of training, the mask at the end of a history, and no recommendation of [MASK]."""

import torch

import seqlab
from seqlab import models
from seqlab.models.encoders.bert4rec import append_event
from tests.synthetic import batch_of, sequences_of, set_targets, small

torch.set_num_threads(1)

HISTORIES = [[1, 2, 3, 4], [5, 6], [7, 8, 9, 10, 1, 2]]


def model(**settings):
    torch.manual_seed(0)
    return models.build("bert4rec", 10, small("bert4rec", **settings)).eval()


def test_training_reads_whole_histories_with_their_last_item():
    (batch,) = sequences_of(HISTORIES).training_batches(12, 1000, seed=0)
    whole = append_event(batch, batch.last(batch.targets))
    rows = zip(whole.user.tolist(), whole.items.tolist(), whole.lengths.tolist(), strict=True)
    seen = {user: items[:length] for user, items, length in rows}
    assert seen == {1: HISTORIES[0], 2: HISTORIES[1], 3: HISTORIES[2]}
    assert bool((whole.items > 0).sum(1).eq(whole.lengths).all())


def test_every_row_has_a_mask_and_about_the_expected_share_of_items_is_masked():
    bert, batch = model(mask=0.3, last_only=0.0), batch_of([list(range(1, 11))] * 400 + [[1, 2]] * 400)
    mask = bert._sample_mask(batch)
    assert bool(mask.any(1).all()) and not bool((mask & (batch.items == 0)).any())
    assert 0.28 < float(mask[:400].float().mean()) < 0.34
    last_only = model(mask=0.3, last_only=1.0)._sample_mask(batch)
    assert bool((last_only.sum(1) == 1).all()) and bool(last_only[:400, 9].all()) and bool(last_only[400:, 1].all())


def test_the_loss_is_cross_entropy_at_the_masks_with_the_item_bias():
    bert = model(last_only=1.0)
    with torch.no_grad():
        bert.bias.normal_()
    batch = batch_of(HISTORIES)
    with_targets = set_targets(batch, torch.zeros_like(batch.items))
    answers = torch.tensor([3, 4, 5])
    with_targets.targets[torch.arange(3), batch.lengths - 1] = answers
    scores = bert.score(batch)[:, 1:]
    torch.testing.assert_close(bert.loss(with_targets).total, torch.nn.functional.cross_entropy(scores, answers - 1))
    bert.loss(with_targets).total.backward()
    assert float(bert.bias.grad.abs().sum()) > 0


def test_the_mask_is_after_the_history_and_is_never_recommended():
    bert = model()
    ranking = bert.recommend(batch_of(HISTORIES), 50)
    assert int(ranking.items.max()) == 10 and ranking.items.shape == (3, 10)
    with seqlab.watch(bert) as trace:
        bert.score(batch_of(HISTORIES))
    weights = trace["attention"].values  # (B, H, T + 1, T + 1)
    assert weights.shape == (3, 2, 7, 7)
    assert float(weights[1, :, :, 3:].abs().max()) == 0  # two events and the mask: nothing looks at the padding
    assert float(weights[1, :, 0, 2].min()) > 0  # but every event looks at the mask behind it


def test_item_vectors_do_not_include_the_mask():
    from seqlab.items import vectors

    assert vectors.from_model(model()).shape == (10, 32)
