"""Click models inside: attention of candidates, conflicting gradients, and how good the search is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab import tracing
from seqlab.items.categories import categories_of
from seqlab.runtime.modules import device_of, evaluating
from seqlab.tasks.clicks import MAX_TOKENS

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.sequences import Batch
    from seqlab.datasets.splits import Split

ROWS = 256
"""Queries per batch."""


def attention_by_recency(
    model: nn.Module, split: Split, part: str = "test", category: str | None = None
) -> pd.DataFrame:
    """The attention of candidates by the label, by whether candidate and event share a category, and by recency.

    For a system with the tap "candidate_attention". Columns label, same (bool), recency (positions from the end, such
    as "3-4"), events (pairs of a candidate and an event), weight (the mean of such a pair), lift (weight divided by the
    weight if all events of a history had the same), mass (the sum of weights per candidate with this label).
    category: the column of the item table, see `items.categories`.
    """
    import pandas as pd

    categories, _ = categories_of(split.log, category)
    shape, sums = (2, 2, len(recencies(model.config.max_length))), None
    candidates_of = np.zeros(2)
    for batch, labels, weights in _watched(model, split, part):
        candidates, known = batch.context["candidates"], (batch.items > 0)[:, None]  # (B, M), (B, 1, T)
        ours, theirs = categories[candidates][:, :, None, :, None], categories[batch.items][:, None, :, None]
        same = ((ours == theirs) & (ours > 0)).flatten(3).any(-1)  # (B, M, T)
        real = known & ~labels.isnan()[..., None]
        index = ((labels > 0)[..., None] * 2 + same.long()) * shape[2] + recency_of(batch)[:, None]  # (B, M, T)
        even = (1 / batch.lengths.clamp(min=1)).double()[:, None, None].expand_as(weights)
        columns = torch.ones_like(even), weights.double(), even
        found = [torch.bincount(index[real], x[real], shape[0] * shape[1] * shape[2]) for x in columns]
        sums = found if sums is None else [a + b for a, b in zip(sums, found, strict=True)]
        candidates_of += [int((labels == 0).sum()), int((labels > 0).sum())]
    events, weight, even = (x.numpy() for x in sums)
    rows = pd.MultiIndex.from_product(
        [[0, 1], [False, True], recencies(model.config.max_length)], names=["label", "same", "recency"]
    ).to_frame(index=False)
    mass = weight / np.repeat(np.maximum(candidates_of, 1), shape[1] * shape[2])
    frame = rows.assign(events=events.astype(np.int64), weight=weight / np.maximum(events, 1),
                        lift=weight / np.maximum(even, 1e-12), mass=mass)  # fmt: skip
    return frame[frame["events"] > 0].reset_index(drop=True)


def role_gradients(
    model: nn.Module, split: Split, batches: int = 20, tokens: int = 2048, seed: int = 0
) -> pd.DataFrame:
    """The gradients that attention and representation send to a table which they share, per training batch.

    For a system with `decoupled`, which makes a copy with a table for each role, equal in value. Columns table, batch,
    ratio (the mean norm of the rows' gradients of attention divided by that of representation), cosine (the mean of the
    rows that both roles reach), conflict (the share of these rows whose gradients have a negative cosine).
    """
    import pandas as pd

    both, rows = model.decoupled().train(), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = split.train.training_batches(both.config.max_length, tokens, seed)
        for at, batch in enumerate(islice(drawn, batches)):
            both.zero_grad(set_to_none=True)
            both.loss(batch.to(device_of(both))).total.backward()
            for name, table in both.attention.named_parameters():
                ours, theirs = table.grad, both.representation.get_parameter(name).grad  # (N, D)
                norms = torch.stack([ours.norm(dim=1), theirs.norm(dim=1)])  # (2, N)
                reached = (norms > 0).all(0)
                cosine = ((ours * theirs).sum(1) / norms.prod(0))[reached]
                mean = [float(norm[norm > 0].mean()) for norm in norms]
                rows.append({
                    "table": name.removesuffix(".weight"), "batch": at, "ratio": mean[0] / mean[1],
                    "cosine": float(cosine.mean()), "conflict": float((cosine < 0).double().mean()),
                })  # fmt: skip
    return pd.DataFrame(rows)


def mutual_information(split: Split, max_length: int, part: str = "valid", category: str | None = None) -> np.ndarray:
    """How much an event of a category at a recency says of the label of a candidate of a category, in bits.

    (C + 1, C + 1, R): by the category of the candidate, that of the event (0 = none) and the recency (see `recencies`).
    It is the mutual information of the label and of whether a random position of that recency holds that category,
    among the candidates of that category. An item counts by the first of its categories in the table.
    """
    first, n_categories = _first_category(split, category)
    n_recencies = len(recencies(max_length))
    shape = (n_categories + 1, 2, n_categories + 1, n_recencies)
    counts = torch.zeros(int(np.prod(shape)), dtype=torch.double)  # of pairs, by label
    for batch, labels in _batches(split, part, max_length):
        real = (batch.items > 0)[:, None] & ~labels.isnan()[..., None]  # (B, M, T)
        index = (first[batch.context["candidates"]] * 2 + (labels > 0))[..., None] * shape[2] + first[batch.items][
            :, None
        ]
        index = index * shape[3] + recency_of(batch)[:, None]
        counts += torch.bincount(index[real], minlength=len(counts))
    joint = counts.view(shape).numpy()
    total = joint.sum((1, 2), keepdims=True)  # (C + 1, 1, 1, R)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_label = joint.sum(2, keepdims=True)  # (C + 1, 2, 1, R)
        information = np.zeros((shape[0], shape[2], shape[3]))
        for there in (joint, of_label - joint):  # the category is there, or another one is
            of_there = there.sum(1, keepdims=True)
            information += np.nan_to_num(there / total * np.log2(there * total / (of_there * of_label))).sum(1)
    return information


def search_accuracy(
    model: nn.Module, split: Split, part: str = "test", category: str | None = None, seed: int = 0
) -> pd.DataFrame:
    """How well the events with the largest attention match those that say most of the label.

    The reference is `mutual_information` of the validation part. For each k up to the system's `top_k`, of histories
    with more events than that: column hits, the share of the best k events by attention among the best `top_k` by
    mutual information; quality, their mutual information, discounted by 1 / log2(rank + 1), divided by that of the
    best. Column events: "searched", or the most "recent" ones, or "random" ones, for comparison.
    """
    import pandas as pd

    top_k, first = model.config.top_k, _first_category(split, category)[0]
    information = torch.from_numpy(mutual_information(split, model.config.max_length, "valid", category))
    generator, rows = torch.Generator().manual_seed(seed), []
    totals = {name: torch.zeros(2, top_k, dtype=torch.double) for name in ("searched", "recent", "random")}
    discount, count = 1 / torch.arange(2, top_k + 2, dtype=torch.double).log2(), 0
    for batch, labels, weights in _watched(model, split, part):
        long = batch.lengths > top_k
        if not bool(long.any()):
            continue
        batch, labels, weights = batch.select(long), labels[long], weights[long]
        known = (batch.items > 0)[:, None].expand_as(weights)
        value = information[
            first[batch.context["candidates"]][..., None], first[batch.items][:, None], recency_of(batch)[:, None]
        ]  # (B, M, T)
        best = value.masked_fill(~known, -1).topk(top_k, dim=-1)
        place = torch.arange(weights.shape[-1], dtype=torch.double).expand_as(weights)
        orders = {
            "searched": weights.double(), "recent": place,
            "random": torch.rand(weights.shape, generator=generator, dtype=torch.double),
        }  # fmt: skip
        among = torch.zeros_like(known).scatter(-1, best.indices, True)
        real = ~labels.isnan() & (best.values[..., 0] > 0)
        for name, order in orders.items():
            chosen = order.masked_fill(~known, -1).topk(top_k, dim=-1).indices  # (B, M, top_k)
            hits = among.gather(-1, chosen).double().cumsum(-1) / torch.arange(1, top_k + 1)
            gained = ((value.gather(-1, chosen) * discount).cumsum(-1)) / (best.values * discount).cumsum(-1)
            totals[name] += torch.stack([hits[real].sum(0), gained[real].sum(0)])
        count += int(real.sum())
    for name, total in totals.items():
        hits, quality = (total / max(count, 1)).numpy()
        rows.append(pd.DataFrame({"events": name, "k": range(1, top_k + 1), "hits": hits, "quality": quality}))
    return pd.concat(rows, ignore_index=True)


def recencies(max_length: int) -> list[str]:
    """The classes of positions from the end: "1", "2", "3-4", "5-8", .. up to `max_length`."""
    edges = [1 << power for power in range(max(max_length - 1, 0).bit_length() + 1)]
    lows = [1, *(edge + 1 for edge in edges[:-1])]
    return [f"{low}-{edge}" if low < edge else f"{edge}" for low, edge in zip(lows, edges, strict=True)]


def recency_of(batch: Batch) -> Tensor:
    """The class of each event in `recencies`: (B, T); 0 at padding."""
    positions = torch.arange(batch.items.shape[1], device=batch.items.device)
    from_end = (batch.lengths[:, None] - positions).clamp(min=1)  # (B, T), 1 is the last event
    return (from_end.double().log2() - 1e-9).ceil().long()


def _first_category(split: Split, category: str | None) -> tuple[Tensor, int]:
    """The first category of each item (N + 1,), 0 = none, and the number of categories."""
    categories, names = categories_of(split.log, category)
    return categories[:, 0], len(names)


def _batches(split: Split, part: str, max_length: int | None) -> Iterator[tuple[Batch, Tensor]]:
    """The queries of a part with their labels (B, M)."""
    queries = getattr(split, part)
    for rows, batch in queries.batches(max_length, MAX_TOKENS, ROWS):
        yield batch, queries.labels[rows]


@torch.no_grad()
def _watched(model: nn.Module, split: Split, part: str) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """The queries of a part, on the CPU, with labels (B, M) and the attention of their candidates (B, M, T)."""
    for batch, labels in _batches(split, part, model.config.max_length):
        with evaluating(model), tracing.watch(model, "candidate_attention") as trace:
            on_device = batch.to(device_of(model))
            model.label_logits(on_device, on_device.context["candidates"])
        yield batch, labels, trace["candidate_attention"].values
