"""Attention: what it may look at, fused and in the open."""

import pytest
import torch

import seqlab
from seqlab.layers.attention import Attention
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
    block, x = Block(8, 2, dropout=0.0, causal=True), torch.randn(1, 4, 8)
    with torch.no_grad(), seqlab.patch(block, {"attention.weights": torch.zeros_like}):
        alone = block(x)
        changed = x.clone()
        changed[0, 0] = 9.0
        torch.testing.assert_close(block(changed)[0, 1:], alone[0, 1:])  # positions no longer hear each other
    assert not torch.allclose(block(changed)[0, 1:], alone[0, 1:])


def test_a_width_that_is_no_multiple_of_the_heads_is_refused():
    with pytest.raises(ValueError, match="dim=10 must be a multiple of heads=3"):
        Attention(10, 3, causal=True)
