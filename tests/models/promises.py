"""What every system promises of its states and its taps, whatever its task."""

import copy

import torch

from seqlab import decoding, tracing
from seqlab.contracts import GeneratesCodes, Reasons, supports
from seqlab.inspection.attention import layout_of
from seqlab.layers.mixers.selective import SelectiveSSM

OF_CHANNELS = ("gates", "kernel")
"""Kinds of taps of state-space layers, whose channels may be more than the width of the model."""


def states_know_the_past_alone(model, batch, n_items):
    """`encode` gives (B, T, D), and an event, or its time, changes the states from its own position on."""
    with torch.no_grad():
        before = model.encode(batch)
        assert before.dim() == 3 and before.shape[:2] == batch.items.shape
        for t in range(batch.items.shape[1] - 1):
            changed = copy.deepcopy(batch)
            changed.items[:, t + 1 :] = (changed.items[:, t + 1 :] + 1) % n_items + 1
            changed.times[:, t + 1 :] += 86_400.0
            difference = (model.encode(changed) - before).abs().amax((0, 2))  # (T,)
            assert float(difference[t + 1 :].min()) > 1e-4, "the change itself must show"
            assert float(difference[: t + 1].max()) < 1e-5


def every_axis_fits(model, batch, trace, n_items):
    """Every axis of every record of a trace is as long as its name says; the system answered this batch once."""
    assert not tracing.taps(model) or len(trace)
    for kind, record in trace.items():
        passes = _passes(model, kind, batch)
        assert ("pass" in record.axes) == (passes > 1) and len(record.passes) == passes, record
        assert record.axes[:1] != ("layer",) or len(record.taps) == _layers(model, kind), record
        for at, single in enumerate(record.passes):
            known = _sizes(model, batch, kind, at, passes, n_items)
            assert len(single.axes) == single.values.dim()
            for axis, size in zip(single.axes, single.values.shape, strict=True):
                assert size in known[axis], (single, axis, known[axis])
        shapes = {single.values.shape for single in record.passes}
        if len(shapes) == 1:
            at = record.axes.index("pass") if passes > 1 else None
            last = record.values if at is None else record.values.select(at, -1)
            assert torch.equal(last, record.passes[-1].values)


def _sizes(model, batch, kind, at, passes, n_items):
    """The sizes that an axis may have in a pass."""
    config, events, tokens = model.config, batch.items.shape[1], len(layout_of(model, batch))
    slots = len(getattr(config, "levels", None) or getattr(model, "queries", ()))
    written, crosses = kind.startswith("written"), kind.endswith("cross attention")
    tokens -= 0 if written else passes - 1 - at  # with every reasoning step one token more
    heads = 2 if kind.endswith("within item") else getattr(config, "heads", 0)
    steps = config.steps + 1 if supports(model, Reasons) else slots
    dim = getattr(config, "dim", 0) * (getattr(config, "expand", 1) if kind in OF_CHANNELS else 1)
    branches = len(getattr(model, "branch_names", "ab"))
    candidates = batch.context.get("candidates")
    searched = {slots} if not supports(model, GeneratesCodes) else set()
    beams = ranks = searched
    if supports(model, GeneratesCodes) and getattr(model, "writer", None) is not None:
        widths = [1, *(step.scores.shape[1] for step in decoding.generate(model, batch).steps)]
        beams, ranks = {widths[at + (not model.writer.encoder)]}, {max(widths)}
    elif hasattr(model, "paths"):
        width = model.paths(batch).order.shape[1]
        ranks, beams = {width}, set(range(2, width + 1)) if at else {1}
    return {
        "user": {len(batch)}, "event": {events}, "query_event": {events}, "key_event": {events},
        "token": {tokens}, "query_token": {tokens}, "key_token": {tokens + (at + 1) * (written and not crosses)},
        "slot": {1} if written else {slots}, "query_slot": {1} if written else {slots},
        "key_slot": {at + 1} if written else {slots}, "level": {slots}, "step": {steps}, "key_step": {at + 1},
        "head": {heads}, "beam": beams, "rank": ranks, "gate": {2}, "branch": {branches},
        "item": {n_items + 1} if candidates is None else {candidates.shape[1]},
        "code": {max(getattr(config, "levels", None) or (0,))}, "dim": {dim},
        "layer": {_layers(model, kind)},
    }  # fmt: skip


def _passes(model, kind, batch):
    """How often a tap of this kind is passed when the system answers one batch."""
    if supports(model, Reasons) and kind in ("attention", "hidden"):
        return model.config.steps + 1  # a watched pass reads the history again with every step
    if kind.startswith("written"):
        writer = getattr(model, "writer", None)
        return len(model.config.levels) - (writer is not None and not writer.encoder)
    if kind in OF_CHANNELS:
        return _reads(model, batch)
    return 1


def _reads(model, batch):
    """How often each state-space layer, if there is one, reads the history for one answer."""
    counts = {part: 0 for part in model.modules() if isinstance(part, SelectiveSSM)}

    def count(part, *_):
        counts[part] += 1

    if not counts:
        return 1
    hooks = [part.register_forward_hook(count) for part in counts]
    with torch.no_grad():
        model.score(batch)
    for hook in hooks:
        hook.remove()
    return max(counts.values())


def _layers(model, kind):
    """How many taps of this kind there are."""
    others = {"inputs": 2, "reasoning_step": getattr(model.config, "steps", 0) + 1}
    return others[kind] if kind in others else getattr(model.config, "layers", 1)
