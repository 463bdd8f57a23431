"""DiscRec: the branch stays within an item and never sees an answer, the gate mixes, and both reach what is written."""

import pytest
import torch

import seqlab
from seqlab import decoding
from seqlab.models.semantic_ids.discrec import Branches, Config, DiscRec
from seqlab.models.semantic_ids.tiger import TIGER
from seqlab.models.semantic_ids.tiger import Config as TigerConfig
from tests.synthetic import batch_of, enlarged, random_book, with_targets

torch.set_num_threads(1)

HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10], []]
ITEMS, LEVELS = 40, (5, 4, 6)
SMALL = {"dim": 16, "layers": 2, "heads": 2, "max_length": 8, "dropout": 0.0, "levels": LEVELS}

both_layouts = pytest.mark.parametrize("layout", ["decoder", "encoder_decoder"])
both_branches = pytest.mark.parametrize("branch", ["within_item", "alone"])


def discrec(**settings):
    model = enlarged(DiscRec(Config(**(SMALL | {"feed": 24} | settings)), ITEMS))
    model.ids.assign(random_book(sizes=model.config.levels))
    return model


def branches(causal=True, **settings):
    """The branches alone, with a gate that is not shut."""
    mix = enlarged(Branches(Config(**(SMALL | {"feed": 24} | settings)), causal))
    mix.gate.mul_(0.02)
    return mix


@torch.no_grad()
@both_layouts
def test_no_code_is_predicted_with_a_look_at_itself(layout):
    """A branch that looked both ways would show an answer's codes to those that are to predict them."""
    model = discrec(layout=layout)
    model.ids.codes[1], model.ids.codes[2] = torch.tensor([1, 1, 1]), torch.tensor([1, 1, 2])
    one, two = (model.loss(with_targets([HISTORIES[2]], [item])).parts for item in (1, 2))  # they part at the last code
    for level in ("level 0", "level 1"):
        torch.testing.assert_close(one[level], two[level], rtol=0, atol=1e-6)
    assert abs(float(one["level 2"] - two["level 2"])) > 1e-3


@torch.no_grad()
def test_the_branch_mixes_the_codes_of_one_item_only():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 16)
    changed = x.clone()
    changed[0, 1, 1] = torch.randn(16)  # one code of one item
    for causal, kind, reached in (
        (True, "within_item", [1, 2]), (False, "within_item", [0, 1, 2]), (True, "alone", [1]), (False, "alone", [1]),
    ):  # fmt: skip
        mix = branches(causal, branch=kind)
        difference = (mix(changed) - mix(x)).abs().amax(-1)  # (B, T, C)
        assert difference.nonzero().tolist() == [[0, 1, slot] for slot in reached], (causal, kind)


@torch.no_grad()
def test_generated_codes_are_mixed_as_those_of_the_history():
    torch.manual_seed(0)
    mix, x = branches(), torch.randn(2, 4, 3, 16)
    whole = mix(x)
    for length in (1, 2, 3):
        torch.testing.assert_close(mix(x[:, :, :length], last_only=True), whole[:, :, length - 1 : length])


@torch.no_grad()
def test_the_mixed_vector_is_the_gates_mean_of_both_branches():
    model = discrec()
    writer, codes = model.writer, model.ids.codes
    with seqlab.watch(model) as trace:
        x = writer.tokens(codes[batch_of(HISTORIES).items])[:, 1:].unflatten(1, (7, 3))  # (B, T, C, D)
    gates, branches = trace["gates"].values, trace["branches"].values
    assert gates.shape == (4, 7, 3, 2) and branches.shape == (4, 7, 3, 2, 16)
    torch.testing.assert_close(gates.sum(-1), torch.ones(4, 7, 3))
    assert float(gates.std()) > 0.01
    mixed = (gates[..., None] * branches).sum(3)
    torch.testing.assert_close(x, mixed + writer.slots.weight + writer.positions.weight[:7, None])
    alone = writer.table(codes[HISTORIES[2]] + writer.offsets)
    torch.testing.assert_close(branches[2, :, :, 0], alone)  # the semantic branch is the code itself
    weights = trace["within item"].values  # (B, T, H, C, C)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 7, 2, 3))
    assert float(weights.triu(1).max()) == 0


@torch.no_grad()
def test_each_part_can_be_switched_off():
    x = torch.randn(2, 4, 3, 16)
    whole = branches()
    for settings in ({"places": False}, {"gate": False}, {"branch": "alone"}):
        less, off = branches(**settings), set(settings)
        less.load_state_dict({name: w for name, w in whole.state_dict().items() if name not in off}, strict=False)
        assert float((less(x) - whole(x)).abs().max()) > 1e-3, settings
    even = branches(gate=False)
    with seqlab.watch(even) as trace:
        even(x)
    assert torch.equal(trace["gates"].values, torch.full((2, 4, 3, 2), 0.5))


def test_disabled_parts_are_not_trained():
    model = discrec(places=False, gate=False)
    model.loss(with_targets([[3, 7]], [5])).total.backward()
    mix = model.writer.mix
    assert mix.places.grad is None and not mix.places.any()
    assert mix.gate.grad is None and not mix.gate.any()
    assert mix.feed[0].weight.grad.abs().max() > 0


def test_the_control_without_attention_is_as_large():
    sizes = {branch: sum(p.numel() for p in discrec(branch=branch).parameters()) for branch in ("within_item", "alone")}
    assert sizes["within_item"] == sizes["alone"] > sum(p.numel() for p in discrec(branch="none").parameters())


@torch.no_grad()
@both_layouts
def test_without_the_branch_it_is_tiger(layout):
    model, tiger = discrec(layout=layout, branch="none"), TIGER(TigerConfig(**SMALL, layout=layout), ITEMS)
    tiger.load_state_dict(model.state_dict())
    batch = batch_of(HISTORIES)
    torch.testing.assert_close(decoding.scores(model, batch), decoding.scores(tiger.eval(), batch))


@pytest.mark.parametrize(("levels", "dim"), [((7,), 8), ((5, 4), 24), ((3, 4, 3, 4, 3), 12)])
@torch.no_grad()
def test_any_width_and_number_of_codes_will_do(levels, dim):
    model = discrec(levels=levels, dim=dim)
    ranking = model.recommend(batch_of(HISTORIES), ITEMS)
    torch.testing.assert_close(ranking.scores, decoding.scores(model, batch_of(HISTORIES)).gather(1, ranking.items))


def test_an_odd_width_is_refused_by_name():
    with pytest.raises(ValueError, match=r"discrec\.dim must be a multiple of 2"):
        Branches(Config(dim=15), causal=True)


@torch.no_grad()
@both_layouts
def test_a_patch_of_the_branch_reaches_the_generated_codes(layout):
    model, batch = discrec(layout=layout), batch_of(HISTORIES)
    plain = decoding.scores(model, batch)
    name = "writer.mix.decode_taps.gates" if layout == "decoder" else "writer.mix_written.decode_taps.gates"
    with seqlab.patch(model, {name: lambda gates: gates.flip(-1)}):
        written = decoding.scores(model, batch)
    with seqlab.patch(model, {"writer.mix.prefill_taps.gates": lambda gates: gates.flip(-1)}):
        read = decoding.scores(model, batch)
    assert float((written - plain)[:, 1:].abs().max()) > 1e-2
    assert float((read - plain)[:3, 1:].abs().max()) > 1e-2
    torch.testing.assert_close(read[3], plain[3])  # the last user has no history


@torch.no_grad()
@both_layouts
def test_a_watched_list_is_the_same_and_shows_gates_of_history_and_beams(layout):
    model, batch = discrec(layout=layout), batch_of(HISTORIES)
    plain = model.recommend(batch, 7)
    with seqlab.watch(model) as trace:
        watched = model.recommend(batch, 7)
    torch.testing.assert_close(watched.scores, plain.scores)
    assert trace["gates"].values.shape == (4, 7, 3, 2)
    beams = decoding.generate(model, batch).steps[1].node.shape[1]  # of the last code that is read
    assert trace["written gates"].passes[-1].values.shape == (4, beams, 1, 2)
    assert trace["beam"].values.shape == (4, 3, 20)
    torch.testing.assert_close(trace["beam"].values[:, 2, :7], decoding.generate(model, batch).steps[2].scores[:, :7])


@both_layouts
def test_the_training_pass_can_be_watched(layout):
    model = discrec(layout=layout)
    with seqlab.watch(model) as trace:
        model.loss(with_targets([[3, 7, 7]], [5]))
    assert trace["gates"].values.shape == (1, 3 if layout == "encoder_decoder" else 4, 3, 2)
    assert ("written gates" in trace) == (layout == "encoder_decoder")
