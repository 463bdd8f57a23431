"""DARE against the authors' code, and the mechanism by hand."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seqlab import models, tracing
from seqlab.datasets.events import Events
from seqlab.models.clicks.dare import DARE, Config, search
from tests.synthetic import batch_of, enlarged

AUTHORS = load_file(Path(__file__).with_name("dare.safetensors"))
"""model/din_pytorch.py of thuml/DARE at c72e087 in evaluation mode, with random weights."""

HISTORIES = [[3, 7, 7, 1, 4, 9], [5], [2, 9, 4, 8, 6, 1, 10], []]
VARIANTS = {
    "two": {"attention_dim": 4}, "two_no_mean": {"mean": False}, "one": {"tables": "one"},
    "projection": {"tables": "one", "projection": True},
}  # fmt: skip


def numbers(variant):
    prefix = f"{variant}/"
    return {name.removeprefix(prefix): value for name, value in AUTHORS.items() if name.startswith(prefix)}


def small(**settings):
    torch.manual_seed(0)
    config = {"max_length": 8, "attention_dim": 4, "representation_dim": 6, "top_k": 3, "hidden": (8,)} | settings
    model = models.build("dare", 10, config)
    model.categories = torch.tensor([[0, 0], *[[item % 3 + 1, (item % 2) * 4] for item in range(10)]])
    return enlarged(model)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_the_sum_before_the_search_are_the_authors(variant):
    theirs = numbers(variant)
    settings = {"attention_dim": 6} | VARIANTS[variant]
    model = DARE(Config(max_length=12, top_k=4, representation_dim=6, categories=5, hidden=(10, 6), **settings), 20)
    state = {name.removeprefix("state/"): value for name, value in theirs.items() if name.startswith("state/")}
    rest = model.load_state_dict(state, strict=False)
    assert not rest.unexpected_keys
    assert all("before_search" in name or name in dict(model.named_buffers()) for name in rest.missing_keys)
    model.categories = theirs["categories"].long()[:, None]
    model.eval()
    lengths = (theirs["history"] > 0).sum(1).tolist()
    batch = batch_of([row[-n:].tolist() for row, n in zip(theirs["history"], lengths, strict=True)])
    candidates, seen = theirs["items"].long()[:, None], {}
    model.before_search.register_forward_hook(lambda _, features, __: seen.update(features=features[0]))
    with torch.no_grad():
        torch.testing.assert_close(model.label_logits(batch, candidates)[:, 0], theirs["logit"], atol=2e-5, rtol=1e-4)
        known = (batch.items > 0)[:, None]
        target, _, before, _ = model.attend(
            batch, candidates[:, None], known, model._age(batch, batch.lengths[:, None] - 1)
        )
        model._classify(target, before)
    torch.testing.assert_close(seen["features"][:, 0, 0], theirs["features_before_search"], atol=2e-5, rtol=1e-4)


def test_the_search_is_a_softmax_over_the_best_known_events():
    torch.manual_seed(0)
    scores, known = torch.randn(40, 9), torch.rand(40, 9) < 0.7
    known[0] = False
    scores[1, :3], known[1, :3] = 5.0, True
    first = (scores.masked_fill(~known, -1e9).softmax(-1) * known).double()
    found = search(scores, first, known, 3)
    for row in range(40):
        order = sorted(known[row].nonzero()[:, 0].tolist(), key=lambda at: -scores[row, at])[:3]
        expected = torch.zeros(9, dtype=torch.double)
        expected[order] = scores[row, order].double().softmax(0)
        torch.testing.assert_close(found[row], expected, atol=1e-6, rtol=1e-5)
    tied = search(
        torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[0.4, 0.4, 0.2]]), torch.ones(1, 3, dtype=torch.bool), 1
    )
    assert tied.tolist() == [[0.5, 0.5, 0.0]]


@pytest.mark.parametrize("settings", [*VARIANTS.values(), {"time": "gap"}])
def test_training_sees_at_each_position_what_a_query_there_sees(settings):
    """All targets of a crop at once are as if each history was cut before its target; nothing later reaches it."""
    settings = settings if settings.get("tables") != "one" else {**settings, "attention_dim": 6}
    model, batch = small(**settings), batch_of(HISTORIES[:3])
    candidates = torch.randint(1, 11, (3, 7, 2), generator=torch.Generator().manual_seed(1))
    positions = torch.arange(7)[None]

    def at_once(batch):
        causal = positions[:, None] <= positions[..., None]
        target, summed, _, mean = model.attend(batch, candidates, causal, model._age(batch, positions))
        return model._classify(target, summed, mean.expand_as(target))

    with torch.no_grad():
        found = at_once(batch)
        changed = copy.deepcopy(batch)
        changed.items[:, 4:] = changed.items[:, 4:] % 10 + 1
        torch.testing.assert_close(at_once(changed)[:, :4], found[:, :4])
        assert float((at_once(changed)[:, 4:] - found[:, 4:]).abs().max()) > 1e-3
        for row, history in enumerate(HISTORIES[:3]):
            for position in range(len(history)):
                alone = batch_of([history[: position + 1]])
                torch.testing.assert_close(
                    model.label_logits(alone, candidates[row, position][None])[0],
                    found[row, position],
                    atol=1e-5,
                    rtol=1e-4,
                )


def test_a_logit_depends_on_neither_padding_nor_other_rows_nor_the_time_of_day():
    model, candidates = small(time="gap"), torch.tensor([[1, 2, 3]] * 4)
    batch = batch_of(HISTORIES)
    with torch.no_grad():
        found = model.label_logits(batch, candidates)
        assert found.isfinite().all()
        torch.testing.assert_close(model.label_logits(batch_of(HISTORIES, width=8), candidates), found)
        torch.testing.assert_close(model.score(batch)[:, 1:4], found)
        for row, history in enumerate(HISTORIES):
            torch.testing.assert_close(model.label_logits(batch_of([history], width=1), candidates[:1])[0], found[row])
        later = dataclasses.replace(batch, events=Events(batch.items, batch.times + 5 * (batch.items > 0)))
        torch.testing.assert_close(model.label_logits(later, candidates), found)


def test_the_loss_by_hand():
    """Labels from a column where one is named; else each target beside items that are not in its crop."""
    model = small(label_column="rating", label_least=3)
    batch = batch_of([[3, 7, 1], [5, 2, 4]])
    value = torch.tensor([[5.0, float("nan"), 1.0], [3.0, 2.0, 0.0]], dtype=torch.float64)
    after = Events(torch.tensor([[7, 1, 2], [2, 4, 0]]), batch.times, {"rating": value})
    batch = dataclasses.replace(batch, target_events=after)
    loss, logits, labels = model.loss(batch), [], []
    for row, position, label in ((0, 0, 1.0), (0, 2, 0.0), (1, 0, 1.0), (1, 1, 0.0)):
        alone = batch_of([batch.items[row, : position + 1].tolist()])
        logits.append(model.label_logits(alone, after.items[row, position].view(1, 1))[0, 0])
        labels.append(label)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.stack(logits), torch.tensor(labels))
    torch.testing.assert_close(loss.parts["labels"], expected.detach())
    torch.testing.assert_close(loss.total, loss.parts["labels"] + loss.parts["before search"])
    assert loss.count == 4 and model.needs == ("rating",)
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.stack(logits).detach(), torch.tensor(labels), reduction="none"
    ).tolist()
    found = float(small(label_column="rating", label_least=3, targets=1).loss(batch).parts["labels"])
    possible = [(each[at] + each[row]) / 2 for at in (0, 1) for row in (2, 3)] + each[2:]  # each row's one target
    assert min(abs(found - one) for one in possible) < 1e-5


def test_one_table_decoupled_gives_the_same_and_its_gradients_add_up():
    model = small(tables="one", attention_dim=6)
    batch = batch_of(HISTORIES[:3])
    targets = torch.tensor([[7, 7, 1, 4, 9, 2, 0], [3, 0, 0, 0, 0, 0, 0], [9, 4, 8, 6, 1, 10, 3]])
    batch = dataclasses.replace(batch, target_events=Events(targets, batch.times))
    both = model.decoupled()
    for one in (model, both):
        torch.manual_seed(0)
        one.loss(batch).total.backward()
    for name in ("item", "category", "time"):
        whole = getattr(model.representation, name).weight.grad
        parts = [getattr(getattr(both, role), name).weight.grad for role in ("attention", "representation")]
        torch.testing.assert_close(parts[0] + parts[1], whole)
    with pytest.raises(ValueError, match="one table"):
        both.decoupled()


def test_the_weights_of_the_candidates_are_watched():
    model = small()
    with torch.no_grad(), tracing.watch(model) as trace:
        model.label_logits(batch_of(HISTORIES), torch.tensor([[1, 2]] * 4))
    weights = trace["candidate_attention"].values
    assert weights.shape == (4, 2, 7) and trace["candidate_attention"].axes == ("user", "item", "key_event")
    torch.testing.assert_close(weights.sum(-1)[:3], torch.ones(3, 2))
    assert ((weights > 0).sum(-1) <= 3).all() and not weights[3].any()


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="projection is for tables=one"):
        models.build("dare", 5, {"projection": True})
    with pytest.raises(ValueError, match="attention_dim must be representation_dim"):
        models.build("dare", 5, {"tables": "one", "attention_dim": 4})
