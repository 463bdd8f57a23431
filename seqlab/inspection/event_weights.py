"""How much each past event can weigh in the state that a recommendation is made from, for layers of any kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seqlab import tracing
from seqlab.contracts import Scores, supports
from seqlab.datasets.history import batch_of
from seqlab.inspection.attention import layout_of
from seqlab.inspection.layers import Layers, first, layers_of
from seqlab.runtime.modules import device_of, evaluating
from seqlab.tracing import Tap

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.history import History
    from seqlab.tracing import Layout

KINDS = ("attention", "kernel")
"""Kinds of taps on the weight of each key event, or token, for each query."""


@torch.no_grad()
def event_weights(model: nn.Module, history: History) -> pd.DataFrame:
    """The weight of each event in the last state, for the whole model and for each layer alone.

    Columns measure, layer (from 1; 0 = the whole model), position (of the event, from 0), value, a share: the values of
    a measure and layer sum to 1. Measures: "sensitivity", the Frobenius norm of the Jacobian of the last layer's state
    at the readout with respect to the first layer's input at the event; "attention" and "kernel", the magnitudes of
    the weights of a layer that has a tap of this kind (attention; state-space models, Ali et al. 2024), a mean over
    heads or channels; "response", the sensitivity of any other layer's output to its own input.

    A layer alone weighs what earlier layers wrote at an event, which is more than the event itself. Raises `ValueError`
    for a system without scores, without "hidden" taps, or whose readout is no token.
    """
    import pandas as pd

    name = type(model).__name__
    if not supports(model, Scores):
        raise ValueError(f"{name} returns lists without scoring the catalogue, so it has no last state")
    with evaluating(model):
        batch = batch_of([history], model.config.max_length).to(device_of(model))
        layers, layout = layers_of(model, lambda: model.score(batch)), layout_of(model, batch).cpu()
        if None in layers.modules or not bool(layout.readout.any()):
            raise ValueError(f"{name} does not read its scores from a state of its layers, so no event has a weight")
        found = [("sensitivity", 0, _sensitivity(model, layers, history, layout))]
        with _calls(model, layers) as calls:
            model.score(batch)
        found += [_weights(at, mixer, call, layout) for at, (mixer, call) in enumerate(calls.items(), 1)]
    events = batch.items.shape[1]
    frames = [
        pd.DataFrame({"measure": measure, "layer": layer, "position": range(events),
                      "value": _by_event(values, layout, events, measure in KINDS).numpy()})
        for measure, layer, values in found
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def _sensitivity(model: nn.Module, layers: Layers, history: History, layout: Layout) -> Tensor:
    """The norm of the Jacobian of the last state at the readout with respect to each token of the first input: (L,).

    The history is repeated once per dimension of the state, so that one backward pass gives all rows.
    """
    leaf: Tensor | None = None
    state: Tensor | None = None

    def change(passed: int, layer: int, x: Tensor) -> Tensor:
        nonlocal leaf, state
        if layer == len(layers.taps):
            state = x
        if layer:
            return x
        if leaf is None:
            leaf = x.detach().clone().requires_grad_()
        return torch.cat([leaf, x[:, leaf.shape[1] :]], 1)  # later passes have more tokens: those of reasoning steps

    batch = batch_of([history] * layers.width, model.config.max_length).to(device_of(model))
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False), layers.changed(model, change):
        model.score(batch)
        rows = state[:, _readout(layout, state.shape[1])].mean(1)  # (D, D)
        (slope,) = torch.autograd.grad(rows.diagonal().sum(), leaf)  # (D, L, D)
    return slope.float().square().sum((0, 2)).sqrt().cpu()


@contextmanager
def _calls(model: nn.Module, layers: Layers) -> Iterator[dict[nn.Module, dict[str, Any]]]:
    """Record what each layer's mixer is given, and the weights at its own taps of `KINDS`, in the last pass."""
    calls: dict[nn.Module, dict[str, Any]] = {mixer: {} for mixer in layers.mixers}
    known, paths = tracing.taps(model), {module: name for name, module in model.named_modules()}
    with ExitStack() as stack:
        for mixer, call in calls.items():

            def before(module: nn.Module, given: tuple, named: dict, call: dict[str, Any] = call) -> None:
                call.update(given=given, named=named)

            stack.callback(mixer.register_forward_pre_hook(before, with_kwargs=True).remove)
        taps = {tap: call for mixer, call in calls.items() for tap in mixer.children() if isinstance(tap, Tap)}
        taps |= {
            tap: call for mixer, call in calls.items() for name, tap in known.items()
            if tap.attach is not None and name.startswith(f"{paths[mixer]}.")
        }  # fmt: skip
        changes: dict[str, Callable[[Tensor], Tensor]] = {name: lambda x: x for name in layers.taps}  # no cached scores
        changes |= {
            name: lambda x, call=taps[tap], kind=tap.kind: call.update({kind: x}) or x
            for name, tap in known.items() if tap in taps and tap.kind in KINDS
        }  # fmt: skip
        stack.enter_context(tracing.patch(model, changes))
        yield calls


def _weights(layer: int, mixer: nn.Module, call: dict[str, Any], layout: Layout) -> tuple[str, int, Tensor]:
    """The measure, the layer, and the weight of each token (L,) in one layer."""
    readout = _readout(layout, call["given"][0].shape[1])
    for kind in KINDS:
        if kind in call:
            return kind, layer, call[kind][0].float().abs().mean(0)[readout].mean(0).cpu()
    return "response", layer, _response(mixer, call["given"], call["named"], readout)


def _response(mixer: nn.Module, given: tuple[Any, ...], named: dict[str, Any], readout: Tensor) -> Tensor:
    """The norm of the Jacobian of a mixer's output at the readout with respect to each token of its input: (L,)."""
    x, *rest = given
    leaf = x.detach().expand(x.shape[-1], -1, -1).clone().requires_grad_()  # (D, L, D)
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        rows = first(mixer(leaf, *rest, **named))[:, readout].mean(1)  # (D, D)
        (slope,) = torch.autograd.grad(rows.diagonal().sum(), leaf)
    return slope.float().square().sum((0, 2)).sqrt().cpu()


def _readout(layout: Layout, length: int) -> Tensor:
    """The readout tokens among the first `length` ones."""
    return layout.truncate(length).readout[0].nonzero()[:, 0]


def _by_event(values: Tensor, layout: Layout, events: int, sums: bool) -> Tensor:
    """The share of each event, (T,) float64: its tokens' sum, or the root of the sum of their squares."""
    position = layout.position[0, : len(values)]
    of, values = position[position >= 0], values.double()[position >= 0]
    total = torch.zeros(events, dtype=torch.float64).index_add(0, of, values if sums else values.square())
    total = total if sums else total.sqrt()
    return total / total.sum().clamp(min=torch.finfo(torch.float64).tiny)
