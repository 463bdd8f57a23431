"""Taps at module paths: what is recorded and replaced, that nothing stays behind, and the sentences for mistakes."""

import copy
from collections import OrderedDict, namedtuple

import pytest
import torch
from torch import nn

import seqlab
from seqlab import tracing

WEIGHTS = "user head query_event key_event"
STATES = "user event dim"


def own_attention(mha: nn.MultiheadAttention, query, key, value, mask=None, padding=None):
    """The weights (B, H, L, S) and the values of the heads (B, H, S, D / H), from (B, L, E) and (B, S, E)."""
    if mha._qkv_same_embed_dim:
        parts = mha.in_proj_weight.chunk(3)
    else:
        parts = mha.q_proj_weight, mha.k_proj_weight, mha.v_proj_weight
    q, k, v = (x @ part.T for x, part in zip((query, key, value), parts, strict=True))
    if mha.in_proj_bias is not None:
        q, k, v = (x + bias for x, bias in zip((q, k, v), mha.in_proj_bias.chunk(3), strict=True))
    more = 0
    if mha.bias_k is not None:
        k, v = (torch.cat([x, bias.expand(len(x), 1, -1)], 1) for x, bias in ((k, mha.bias_k), (v, mha.bias_v)))
        more += 1
    if mha.add_zero_attn:
        k, v = (torch.cat([x, x.new_zeros(len(x), 1, x.shape[2])], 1) for x in (k, v))
        more += 1
    q, k, v = (x.view(len(x), x.shape[1], mha.num_heads, -1).transpose(1, 2) for x in (q, k, v))
    logits = torch.einsum("bhld,bhsd->bhls", q, k) / q.shape[-1] ** 0.5
    hidden = torch.zeros(len(query), 1, query.shape[1], key.shape[1], dtype=torch.bool)
    if mask is not None:
        hidden = hidden | mask
    if padding is not None:
        hidden = hidden | padding[:, None, None]
    hidden = nn.functional.pad(hidden, (0, more))
    return logits.masked_fill(hidden, -torch.inf).softmax(-1), v


def own_output(mha: nn.MultiheadAttention, weights, v):
    mixed = torch.einsum("bhls,bhsd->blhd", weights, v).flatten(2)
    return mixed @ mha.out_proj.weight.T + (0 if mha.out_proj.bias is None else mha.out_proj.bias)


CAUSAL = torch.ones(6, 6, dtype=torch.bool).triu(1)
PADDING = torch.arange(6) >= torch.tensor([[6], [4], [1]])


@pytest.mark.parametrize(
    "settings",
    [{}, {"bias": False}, {"batch_first": False}, {"kdim": 5, "vdim": 3}, {"add_bias_kv": True},
     {"add_zero_attn": True, "batch_first": False}, {"add_zero_attn": True, "add_bias_kv": True}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("requested", [{}, {"need_weights": False}, {"average_attn_weights": False}], ids=str)
def test_weights_of_each_head_are_those_of_an_own_computation(settings, requested):
    torch.manual_seed(0)
    settings = {"batch_first": True} | settings
    mha = nn.MultiheadAttention(8, 2, **settings).eval()
    query, key, value = (torch.randn(3, 6, width) for width in (8, settings.get("kdim", 8), settings.get("vdim", 8)))
    turned = [x if mha.batch_first else x.transpose(0, 1) for x in (query, key, value)]
    masks = {"attn_mask": CAUSAL, "key_padding_mask": PADDING}
    plain, returned = mha(*turned, **masks, **requested)
    more = mha.bias_k is not None or mha.add_zero_attn  # further keys
    seqlab.tap(mha, {"": "user head query_event key_token" if more else WEIGHTS})
    weights, v = own_attention(mha, query, key, value, CAUSAL, PADDING)
    with torch.no_grad(), seqlab.watch(mha) as trace:
        watched, again = mha(*turned, **masks, **requested)
    torch.testing.assert_close(trace["attention"].values, weights)
    torch.testing.assert_close(watched, plain)
    assert (again is None) == (returned is None)
    if again is not None:
        torch.testing.assert_close(again, returned)
    uniform = torch.full_like(weights, 0.1)
    with torch.no_grad(), seqlab.patch(mha, {"": lambda x: uniform}):
        patched, _ = mha(*turned, **masks, **requested)
    patched = patched if mha.batch_first else patched.transpose(0, 1)
    torch.testing.assert_close(patched, own_output(mha, uniform, v))


class Block(nn.Module):
    """Attention that is called for its output alone, and a feed-forward part; modifies tensors in place."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        x = x + self.attention(x, x, x, attn_mask=CAUSAL, need_weights=False)[0]
        x = self.norm(x)
        x += 1
        return x


class Encoder(nn.Module):
    """A small encoder of items with 7 scores, written without knowledge of taps."""

    def __init__(self):
        super().__init__()
        self.items, self.blocks = nn.Embedding(8, 8), nn.ModuleList(Block() for _ in range(2))
        self.unused, self.cell = nn.Linear(8, 8), nn.GRU(8, 8)
        self.parts, self.bag = Parts(), nn.ModuleDict({"one": nn.Identity()})

    def forward(self, items):
        x = self.items(items)
        for block in self.blocks:
            x = block(x)
            x *= 2
        x = self.cell(x.transpose(0, 1))[0].transpose(0, 1)
        return self.parts(x)["state"] @ self.items.weight.T


Pair = namedtuple("Pair", "mixed weights")


class Parts(nn.Module):
    """Several outputs in a mapping."""

    def __init__(self):
        super().__init__()
        self.pair, self.two = Attend(), Two()

    def forward(self, x):
        mixed, left = self.pair(x).mixed, self.two(x)
        return OrderedDict(state=mixed + left[0], weights=None, length=x.shape[1])


class Attend(nn.Module):
    def forward(self, x):
        weights = (x @ x.transpose(1, 2)).masked_fill(CAUSAL, -torch.inf).softmax(2)
        return Pair(weights @ x, weights[:, None])


class Two(nn.Module):
    def forward(self, x):
        return [x + 1, x - 1]


ITEMS = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 6, 5, 1, 2, 3]])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Encoder().eval()


def run(model):
    with torch.no_grad():
        return model(ITEMS)


def test_nothing_stays_behind(model):
    before, state = run(model), [*model.state_dict()]
    assert seqlab.tap(model, {"blocks.*.attention": WEIGHTS, "blocks.*": STATES, "cell[0]": "event user dim"}) is model
    assert [*model.state_dict()] == state and torch.equal(run(model), before)
    with pytest.raises(ZeroDivisionError), seqlab.watch(model):
        1 / 0  # noqa: B018
    with seqlab.watch(model), seqlab.patch(model, {"blocks.0": torch.neg}), seqlab.watch(model):
        assert not torch.allclose(run(model), before) and not torch.backends.mha.get_fastpath_enabled()
    assert torch.equal(run(model), before) and torch.backends.mha.get_fastpath_enabled()
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())
    other = copy.deepcopy(model)
    with seqlab.watch(other) as trace:
        run(model)
        assert not trace
        torch.testing.assert_close(run(other), before)
        assert len(trace) == 2
    assert seqlab.untap(model) is model and not tracing.taps(model) and tracing.taps(other)


def test_records_are_those_of_the_modules_as_layers_in_their_order(model):
    seqlab.tap(
        model, {"blocks.*": STATES, "blocks.*.attention": WEIGHTS, "cell[0]": "event user dim", "": "user item dim"}
    )
    kinds = {path: tap.kind for path, tap in tracing.taps(model).items()}
    assert kinds == {"": "hidden", "blocks.0": "hidden", "blocks.0.attention": "attention", "blocks.1": "hidden",
                     "blocks.1.attention": "attention", "cell[0]": "hidden"}  # fmt: skip
    seqlab.tap(model, {"": "scores: user event item", "cell[0]": "states: event user dim"})
    with seqlab.watch(model) as trace:
        scores = run(model)
    assert trace["hidden"].taps == ("blocks.0", "blocks.1") and trace["hidden"].axes == ("layer", *STATES.split())
    assert trace["attention"].values.shape == (2, 2, 2, 6, 6) and torch.equal(trace["scores"].values, scores)
    assert trace["states"].axes == ("user", "event", "dim") and trace["states"].values.shape == (2, 6, 8)
    x = model.items(ITEMS)
    for block, weights, hidden in zip(model.blocks, trace["attention"].values, trace["hidden"].values, strict=True):
        own, v = own_attention(block.attention, x, x, x, CAUSAL)
        torch.testing.assert_close(weights, own.detach())
        x = block.norm(x + own_output(block.attention, own, v)) + 1
        torch.testing.assert_close(hidden, x.detach())  # not what the model made of it in place
        x = 2 * x


def test_patches_replace_what_the_model_computes_with(model):
    seqlab.tap(model, {"blocks.1": STATES, "blocks.0.attention": WEIGHTS, "cell[0]": "event user dim"})
    with seqlab.watch(model) as trace:
        before = run(model)
    state, weights = trace["blocks.1"].values[1], trace["attention"].values
    with seqlab.patch(model, {"blocks.1": lambda x: state.expand_as(x)}):  # memory that cannot be written to
        torch.testing.assert_close(run(model), before[1].expand_as(before))
    with seqlab.patch(model, {"cell[0]": lambda x: x.flip(0)}):  # the users, although they are the second axis
        torch.testing.assert_close(run(model), before.flip(0))
    with seqlab.patch(model, {"blocks.0.attention": lambda x: weights}):
        torch.testing.assert_close(run(model), before)
    with seqlab.patch(model, {"blocks.0.attention": lambda x: x.roll(1, -1)}), seqlab.watch(model) as trace:
        assert not torch.allclose(run(model), before)
    assert torch.equal(trace["attention"].values, weights.roll(1, -1))
    message = r"blocks\.1 is a tensor \(2, 6, 8\), so it cannot be replaced by a tensor \(2, 6\)"
    with pytest.raises(ValueError, match=message), seqlab.patch(model, {"blocks.1": lambda x: x[..., 0]}):
        run(model)


def test_one_of_several_outputs(model):
    seqlab.tap(model, {"parts": STATES, "parts.pair": WEIGHTS, "parts.two[0]": STATES, "parts.two[1]": "b: " + STATES,
                       "parts.pair[mixed]": "c: " + STATES})  # fmt: skip
    message = r"parts\.pair has no output \[mixed\]; it returns \[0\] a tensor \(2, 6, 8\)"
    with pytest.raises(ValueError, match=message), seqlab.watch(model):
        run(model)
    seqlab.untap(model)
    places = {
        "parts[state]": "a: " + STATES,
        "parts.pair": WEIGHTS,
        "parts.two[1]": "b: " + STATES,
        "parts.two[0]": STATES,
    }
    with seqlab.watch(seqlab.tap(model, places)) as trace:
        before = run(model)
    torch.testing.assert_close(trace["b"].values + 2, trace["hidden"].values)
    torch.testing.assert_close(trace["a"].values @ model.items.weight.T, before)
    assert trace["attention"].values.shape == (2, 1, 6, 6)
    for place in ("parts[state]", "parts.two[0]"):
        with seqlab.patch(model, {place: torch.zeros_like}):
            assert not torch.allclose(run(model), before)
    with seqlab.patch(model, {"parts.two[1]": torch.zeros_like}):
        assert torch.equal(run(model), before)  # nothing uses it
    refused = pytest.raises(ValueError, match="it has used them already and they cannot be patched")
    with refused, seqlab.patch(model, {"parts.pair": torch.zeros_like}):
        run(model)


def test_a_fused_encoder_is_opened_and_closed_again():
    """PyTorch's own encoder computes whole layers in one kernel, on nested tensors where there is padding."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    x = torch.randn(3, 6, 8)
    with torch.no_grad():
        before = encoder(x, src_key_padding_mask=PADDING)
        seqlab.tap(encoder, {"layers.*.self_attn": WEIGHTS, "layers.*.linear1": "user event dim"})
        assert torch.equal(encoder(x, src_key_padding_mask=PADDING), before)
        with seqlab.watch(encoder) as trace:
            watched = encoder(x, src_key_padding_mask=PADDING)
        assert torch.equal(encoder(x, src_key_padding_mask=PADDING), before)
    torch.testing.assert_close(watched[~PADDING], before[~PADDING])
    weights, _ = own_attention(encoder.layers[0].self_attn, x, x, x, padding=PADDING)
    torch.testing.assert_close(trace["layers.0.self_attn"].values, weights.detach())
    assert trace["attention"].values.shape == (2, 3, 2, 6, 6) and trace["hidden"].values.shape == (2, 3, 6, 16)


MISTAKES = {
    "blocks.0.atention": r"no part 'blocks\.0\.atention'\. The nearest: blocks\.0\.attention, blocks\.1\.attention",
    "norm": r"has no part 'norm'\. The nearest: blocks\.0\.norm, blocks\.1\.norm\.",
    "blocks.0.norm.weight": r"has no part 'blocks\.0\.norm\.weight'\. The nearest: blocks\.0\.norm",
    "layers.*": r"has no part 'layers\.\*'\. It has: items, blocks\.0, ",
    "attention[0": r"has no part 'attention\[0'",
    "blocks": r"blocks is a ModuleList, which is never called; tap one of its parts, such as blocks\.0\.",
}


@pytest.mark.parametrize("place", MISTAKES)
def test_a_wrong_path_is_refused_with_the_nearest(model, place):
    with pytest.raises(ValueError, match=MISTAKES[place]):
        seqlab.tap(model, {"blocks.0": STATES, place: STATES})
    assert not tracing.taps(model)


def test_what_cannot_be_watched_is_told(model):
    with pytest.raises(ValueError, match="nothing to tap: name at least one module path"):
        seqlab.tap(model, {})
    with pytest.raises(ValueError, match="there is no axis 'position'"):
        seqlab.tap(model, {"blocks.0": "user position dim"})
    scripted = torch.jit.script(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="0 is scripted, so hooks do not see its output; tap the module before"):
        seqlab.tap(nn.Sequential(scripted), {"0.0": "user dim"})
    with pytest.raises(ValueError, match=r"blocks\.0\.norm is compiled, so hooks do not see"):
        other = copy.deepcopy(model)
        other.blocks[0]._compiled_call_impl = print  # what `compile()` sets, without its seconds of imports
        seqlab.tap(other, {"blocks.0.norm": STATES})
    seqlab.tap(model, {"unused": STATES})
    with seqlab.watch(model) as trace:
        run(model)
    with pytest.raises(
        KeyError, match=r"nothing passed unused while the model was watched\..*does not call that module"
    ):
        trace["hidden"]
    refused = pytest.raises(ValueError, match="nothing passed unused, so nothing was replaced")
    with refused, seqlab.patch(model, {"unused": torch.neg}):
        run(model)


@pytest.mark.parametrize(
    ("place", "axes", "message"),
    [("blocks.0", WEIGHTS, r"blocks\.0 is a tensor \(2, 6, 8\), which has not the 4 axes “user head query_event key"),
     ("blocks.0", "user query_event key_event", r"cannot have the axes “.*”: query_event and key_event have one size"),
     ("blocks.0[0]", STATES, r"the output of blocks\.0 is a tensor \(2, 6, 8\), which has no part \[0\]"),
     ("parts[length]", "user", r"parts\[length\] is of the type int, not a tensor, so there is nothing to watch\."),
     ("parts[weights]", WEIGHTS, r"parts\[weights\] is None, not a tensor.*fused kernel computes no weights"),
     ("parts.two", STATES, r"parts\.two returns \[0\] a.*several of them have the 3 axes.*such as parts\.two\[0\]"),
     ("parts.pair[7]", STATES, r"parts\.pair has no output \[7\]; it returns \[0\] a tensor \(2, 6, 8\), \[1\]")],
)  # fmt: skip
def test_an_output_that_does_not_fit_is_told(model, place, axes, message):
    seqlab.tap(model, {place: axes})
    with pytest.raises(ValueError, match=message), seqlab.watch(model):
        run(model)
    run(model)
