"""Where in a model a recommendation comes from: the logit lens and direct attribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.contracts import Reasons, Scores, supports
from seqlab.datasets.history import batch_of
from seqlab.inspection.attention import layout_of
from seqlab.inspection.influence import mask_seen
from seqlab.inspection.layers import Change, Layers, layers_of
from seqlab.inspection.readout import affine_readout
from seqlab.inspection.residual_stream import recorded
from seqlab.layers.transformer import Block
from seqlab.ranking import check_k, ranks_of
from seqlab.runtime.modules import device_of, evaluating
from seqlab.tracing import Layout

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.history import History
    from seqlab.datasets.sequences import Batch

TOLERANCE = 1e-4
"""The largest error of the sum of the parts of a logit, relative to the sum of their magnitudes."""


@dataclass(frozen=True)
class Lens:
    """The scores that a model would give if it ended after each of its layers.

    scores: (S + 1, L, N + 1), by reasoning step (one without), layer and item, -inf at padding. probabilities: their
    softmax over the whole catalogue, at the temperature of each step. layers: the names of the L states. seen: the
    items that are removed from the lists.
    """

    scores: Tensor
    probabilities: Tensor
    layers: tuple[str, ...]
    seen: Tensor

    def top(self, k: int = 10) -> pd.DataFrame:
        """The best items of every state: columns step, layer (of `layers`, from 0), rank, item, probability."""
        import pandas as pd

        scores = self.scores.clone()
        scores[..., self.seen] = -torch.inf
        best, items = scores.topk(min(check_k(k), scores.shape[-1] - 1))  # (S + 1, L, k)
        steps, layers, places = (best > -torch.inf).nonzero(as_tuple=True)
        at = steps, layers, places
        return pd.DataFrame({
            "step": steps, "layer": layers, "rank": places + 1, "item": items[at],
            "probability": self.probabilities[steps, layers, items[at]].double(),
        })  # fmt: skip

    def watch(self, item: int) -> pd.DataFrame:
        """One item in every state: columns step, layer, rank (among the items that are listed), probability."""
        import pandas as pd

        steps, layers = self.scores.shape[:2]
        scores = self.scores.clone()
        scores[..., self.seen[self.seen != item]] = -torch.inf
        ranks = ranks_of(scores.flatten(0, 1), torch.full((steps * layers,), item))
        return pd.DataFrame({
            "step": torch.arange(steps).repeat_interleave(layers), "layer": torch.arange(layers).repeat(steps),
            "rank": ranks, "probability": self.probabilities[..., item].flatten().double(),
        })  # fmt: skip


@torch.no_grad()
def logit_lens(model: nn.Module, history: History, seen_filter: bool = False) -> Lens:
    """Read the state after every layer as the model reads its last one (nostalgebraist 2020, "the logit lens").

    The state after a layer takes the place of the last layer's output, so it passes all that the model does after it:
    norm, head, item table. A system that reasons in steps is read at every step. To read the state of an earlier event,
    cut the history there. Raises `ValueError` for a system without scores or without "hidden" taps.
    """
    if not supports(model, Scores):
        raise ValueError(f"{type(model).__name__} returns lists without scoring the catalogue, so no layer can be read")
    longest, device = model.config.max_length, device_of(model)
    with evaluating(model):
        one = batch_of([history], longest).to(device)
        steps = _scores_by_step(model, one).shape[1]
        layers = layers_of(model, lambda: _scores_by_step(model, one))
        if layers.passes < steps:
            raise ValueError(f"{type(model).__name__} takes {steps - 1} steps, but its layers are passed less often")
        many = batch_of([history] * (steps * len(layers.labels)), longest).to(device)
        with layers.changed(model, _shortcuts(layers, steps)):
            scores = _scores_by_step(model, many).float().cpu()
    scores = (
        scores.unflatten(0, (steps, -1)).diagonal(dim1=0, dim2=2).permute(2, 0, 1).contiguous()
    )  # (S + 1, L, N + 1)
    scores[..., 0] = -torch.inf
    temperatures = model.temperatures.cpu() if supports(model, Reasons) else torch.ones(1)
    seen = torch.cat([history.items, history.earlier]) if seen_filter else history.items[:0]
    return Lens(scores, (scores / temperatures[:, None, None]).softmax(-1), tuple(layers.labels), seen)


def _scores_by_step(model: nn.Module, batch: Batch) -> Tensor:
    """The scores after every reasoning step, (B, S + 1, N + 1); (B, 1, N + 1) for a system without steps."""
    if supports(model, Reasons):
        return model.step_scores(model.reasoning_states(batch))
    return model.score(batch)[:, None]


def _shortcuts(layers: Layers, steps: int) -> Change:
    """A change for a batch of (S + 1) * L equal rows: row (s, l) skips the layers after l in the pass of step s."""
    count, first = len(layers.labels), 1 - layers.has_input
    states: dict[int, Tensor] = {}

    def change(passed: int, layer: int, x: Tensor) -> Tensor:
        step = passed - (layers.passes - steps)
        states[layer] = x
        if layer < len(layers.taps) or step < 0:
            return x
        rows = step * count + torch.arange(count)
        return x.index_copy(0, rows.to(x.device), torch.stack([states[first + at][row] for at, row in enumerate(rows)]))

    return change


@dataclass(frozen=True)
class Attribution:
    """The parts whose sum is the logit of an item, or the difference of the logits of two.

    parts: a row per part, columns part ("input": the token itself; "attention": a head's value of one token; "mixer":
    all that another mixer adds; "feed-forward"; "constant": biases), layer (from 1; 0 = none), head (from 1; 0 = none),
    token (of `layout`, from 0; -1 = none), event (the event of that token, from 0; -1 = none), value. logit: what they
    sum to. item, other: the item, and the one that it is compared with (0 = none). scores: (N + 1), -inf at padding and
    at filtered items.
    """

    parts: pd.DataFrame
    layout: Layout
    logit: float
    item: int
    other: int
    scores: Tensor

    def by_part(self) -> pd.DataFrame:
        """Sums over heads and tokens, in the order of the forward pass: columns layer, part, value."""
        found = self.parts.assign(last=self.parts["part"] == "constant")
        found["layer"] = found["layer"].where(~found["last"], 0)
        found = found.groupby(["last", "layer", "part"], sort=False, as_index=False)["value"].sum()
        return found.sort_values(["last", "layer"], kind="stable")[["layer", "part", "value"]].reset_index(drop=True)

    def by_event(self) -> pd.DataFrame:
        """What each head reads from each event: columns layer, head, event, value, summed over the event's tokens.

        Tokens that belong to no event have event -1.
        """
        heads = self.parts[self.parts["part"] == "attention"]
        return heads.groupby(["layer", "head", "event"], as_index=False)["value"].sum()


@torch.no_grad()
def direct_attribution(
    model: nn.Module, history: History, item: int | None = None, other: int | None = None, seen_filter: bool = False
) -> Attribution:
    """Split the logit of `item` into what each layer, head and token added to the state that it is read from.

    The state of a pre-norm Transformer is a sum: the input, each head's weighted values, each feed-forward layer. What
    follows is affine given the scales of its norms and the gates of its activations, so the logit is a sum too (Elhage
    et al. 2021, "A Mathematical Framework for Transformer Circuits", direct logit attribution). item: None for the
    first recommendation. other: an item whose logit is subtracted, for "why this and not that". The value of a token in
    a later layer also holds what earlier layers wrote there.

    Raises `ValueError` for a system whose logits are no such sum: without scores, with layers that do more than add to
    a state, with a readout that is not affine, or that is of several passes (the mean of reasoning steps).
    """
    import pandas as pd

    name = type(model).__name__
    if not supports(model, Scores):
        raise ValueError(f"{name} returns lists without scoring the catalogue, so there is no logit to split")
    batch = batch_of([history], model.config.max_length).to(device_of(model))
    with evaluating(model):
        layers = layers_of(model, lambda: model.score(batch))
        if not all(isinstance(layer, Block) for layer in layers.modules):
            raise ValueError(
                f"the layers of {name} do not just add to a state, so its logits are no sum of what each layer adds"
            )
        with recorded(model, layers) as stream:
            scores = model.score(batch)[0].double().cpu()
        scores[0] = -torch.inf
        listed = mask_seen(scores[None], [history], seen_filter)[0]
        item = int(listed.argmax()) if item is None else item
        readout = affine_readout(model, history, layers, item, other or 0)
    if readout is None:
        raise ValueError(
            f"the scores of {name} are not affine in its last state, so its logits are no sum of what each layer adds"
        )
    layout = layout_of(model, batch).cpu().truncate(len(readout.slope))
    if not torch.equal(readout.slope.any(1), layout.readout[0]):
        raise ValueError(
            f"{name} reads states of several passes, so its logits are no sum of what each layer adds in one"
        )
    constant, logit = readout.constants[item], scores[item]
    if other:
        constant, logit = constant - readout.constants[other], logit - scores[other]
    rows = [*stream.parts(readout.slope), ("constant", 0, 0, -1, float(constant))]
    parts = pd.DataFrame(rows, columns=["part", "layer", "head", "token", "value"])
    if abs(parts["value"].sum() - logit) > TOLERANCE * parts["value"].abs().sum():
        raise ValueError(f"the parts of {name} do not sum to its logits: its layers do more than add to the state")
    events = [*layout.position[0].tolist(), -1]  # token -1 has no event
    parts.insert(4, "event", [events[token] for token in parts["token"]])
    return Attribution(parts, layout, float(logit), item, other or 0, listed)
