"""Attention: what it may look at, fused and in the open."""

import pytest
import torch

import seqlab
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.transformer import Block

torch.set_num_threads(1)


def attention(causal):
    torch.manual_seed(0)
    return Attention(8, 2, causal), torch.randn(3, 5, 8)


@pytest.mark.parametrize("causal", [True, False])
def test_weights_are_shares_and_look_only_where_they_may(causal):
    layer, x = attention(causal)
    real = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
    with seqlab.watch(layer) as trace:
        layer(x, None if causal else real)
    weights = trace["attention"].values  # (B, H, T, T)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 5))
    if causal:
        assert float(weights.triu(1).abs().max()) == 0
    else:
        assert float(weights.masked_select(~real[:, None, None, :].expand_as(weights)).abs().max()) == 0
        assert float(weights[0].min()) > 0


@pytest.mark.parametrize("causal", [True, False])
def test_fused_and_unfused_agree_in_value_and_gradient(causal):
    layer, x = attention(causal)
    real = torch.arange(5) < torch.tensor([5, 2, 1])[:, None]
    mask = None if causal else real
    x.requires_grad_()
    fused = layer(x, mask)
    with seqlab.watch(layer):
        opened = layer(x, mask)
    torch.testing.assert_close(opened, fused, atol=1e-6, rtol=1e-5)
    one, other = (torch.autograd.grad(y.pow(2).sum(), x)[0] for y in (opened, fused))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_without_attention_the_feed_forward_layer_is_left():
    torch.manual_seed(0)
    block, x = Block(Attention(8), 8, dropout=0.0), torch.randn(1, 4, 8)
    with torch.no_grad(), seqlab.patch(block, {"mixer.weights": torch.zeros_like}):
        alone = block(x)
        changed = x.clone()
        changed[0, 0] = 9.0
        torch.testing.assert_close(block(changed)[0, 1:], alone[0, 1:])  # positions no longer hear each other
    assert not torch.allclose(block(changed)[0, 1:], alone[0, 1:])


def test_a_width_that_is_no_multiple_of_the_heads_is_refused():
    with pytest.raises(ValueError, match="dim=10 must be a multiple of heads=3"):
        Attention(10, 3, causal=True)


def test_weights_of_older_runs_load_alone_and_within_a_model():
    torch.manual_seed(0)
    model, x = torch.nn.ModuleList([Block(Attention(8), 8, dropout=0.0) for _ in range(2)]), torch.randn(3, 5, 8)
    wanted, state = model[1](x), model.state_dict()
    older = {name.replace(".mixer.", ".attention.").replace("before_mixer", "before_attention"): weight
             for name, weight in state.items()}  # fmt: skip
    assert "1.attention.project_in.weight" in older and older.keys() != state.keys()
    again = torch.nn.ModuleList([Block(Attention(8), 8, dropout=0.0) for _ in range(2)])
    again.load_state_dict(older)
    assert torch.equal(again[1](x), wanted) and again.state_dict().keys() == state.keys()
    alone = Block(Attention(8), 8, dropout=0.0)
    alone.load_state_dict({name.removeprefix("1."): weight for name, weight in older.items() if name.startswith("1.")})
    assert torch.equal(alone(x), wanted)
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) in state_dict: \"mixer.else\""):
        alone.load_state_dict(alone.state_dict() | {"attention.else": x})
