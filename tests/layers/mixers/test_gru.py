"""The GRU: the unfused loop against the fused kernel."""

import torch

import seqlab
from seqlab.layers.mixers.gru import GRU

torch.set_num_threads(1)


def test_unfused_and_fused_agree_in_value_and_gradient():
    torch.manual_seed(0)
    layer, x = GRU(6).double(), torch.randn(3, 5, 6, dtype=torch.float64, requires_grad=True)
    fused = layer(x)
    with seqlab.watch(layer):
        unfused = layer(x)
    torch.testing.assert_close(unfused, fused, atol=1e-12, rtol=0)
    weights = [x, *layer.parameters()]
    for one, other in zip(
        torch.autograd.grad(unfused.pow(2).sum(), weights),
        torch.autograd.grad(fused.pow(2).sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


def test_weights_of_a_bare_gru_load():
    torch.manual_seed(0)
    bare, x = torch.nn.GRU(6, 6, batch_first=True), torch.randn(3, 5, 6)
    layers = torch.nn.ModuleList([GRU(6)])
    layers.load_state_dict({f"0.{name}": weight for name, weight in bare.state_dict().items()})
    assert torch.equal(layers[0](x), bare(x)[0])
