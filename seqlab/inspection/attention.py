"""The attention weights of a model for one history, by token or summed to events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from seqlab import tracing
from seqlab.contracts import DescribesTokens, supports
from seqlab.datasets.history import batch_of
from seqlab.inspection.influence import scores_of
from seqlab.runtime.modules import device_of
from seqlab.tracing import KINDS, Layout, Trace

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.history import History
    from seqlab.datasets.sequences import Batch

UNGROUPED_KINDS = ("reasoning_step",)
"""Kinds of tokens that keep a row each when tokens are grouped by event; tokens of any other kind without an event
share one row per kind."""

GROUP_LABELS = {"start": "start", "neighbour": "neighbours in the graph", "query": "next item?"}


@dataclass(frozen=True)
class Attention:
    """The attention weights of a model for one history.

    weights: (layers, H, L, L), one row per query token and one column per key token; each row sums to 1. layout: of
    these L tokens, a batch of one. events: T, the number of events read.
    """

    weights: Tensor
    layout: Layout
    events: int

    @property
    def one_token_per_event(self) -> bool:
        """Whether every token is an event or a query for the next item, so that both groupings agree."""
        event, query = KINDS.index("event"), KINDS.index("query")
        return bool((self.layout.kind == event).sum() == self.events) and bool(
            ((self.layout.kind == event) | (self.layout.kind == query)).all()
        )

    def frame(self, by: Literal["event", "token"] = "token") -> pd.DataFrame:
        """A tidy table: columns layer, head, query, key (rows of `labels(by=...)`, from 0), value.

        By event, weights are summed over an event's key tokens and averaged over its query tokens. Start tokens, graph
        neighbours and queries have one row per kind, and every reasoning step has a row.
        """
        import pandas as pd

        values = self.weights if by == "token" else self._by_event()
        names = ["layer", "head", "query", "key"]
        index = pd.MultiIndex.from_product([range(size) for size in values.shape], names=names)
        return pd.DataFrame({"value": values.flatten().numpy()}, index=index).reset_index()

    def labels(self, titles: Sequence[str], by: Literal["event", "token"] = "token") -> list[str]:
        """The labels of the rows of `frame`; titles: (N + 1), by item."""
        tokens = self.layout.labels(titles)
        if by == "token":
            return tokens
        of, rows = self._groups()
        first = [int((of == row).nonzero()[0]) for row in range(len(rows))]
        return [
            titles[int(self.layout.item[0, at])] if isinstance(key, int) else GROUP_LABELS.get(key, tokens[at])
            for key, at in zip(rows, first, strict=True)
        ]

    def events_of_rows(self, by: Literal["event", "token"] = "token") -> list[int | None]:
        """The event (from 0) that each row of `frame` belongs to; None for tokens without an event."""
        if by == "event":
            return [key if isinstance(key, int) else None for key in self._groups()[1]]
        return [None if at < 0 else at for at in self.layout.position[0].tolist()]

    def readout_attention(self) -> pd.DataFrame | None:
        """The attention of the readout tokens (the scores come from them) to each event: columns position, value.

        Last layer, mean over heads and readout tokens, sum over the tokens of an event; tokens without an event are
        left out. None if the layout has no readout token.
        """
        import pandas as pd

        readout, position = self.layout.readout[0], self.layout.position[0]
        if not bool(readout.any()):
            return None
        weights = self.weights[-1].mean(0)[readout].mean(0)  # (L,)
        total = torch.zeros(self.events).index_add(0, position[position >= 0], weights[position >= 0])
        return pd.DataFrame({"position": range(self.events), "value": total.double().numpy()})

    def readout_label(self) -> str:
        """The readout tokens in words."""
        readout = self.layout.readout[0]
        kinds = {KINDS[kind] for kind in self.layout.kind[0, readout].tolist()}
        several = int(readout.sum()) > 1
        if "reasoning_step" in kinds:
            return "the last event and the reasoning steps" if "event" in kinds else "the last reasoning step"
        if "query" in kinds:
            return "the queries for the next item" if several else "the mask for the next item"
        if "code" in kinds:
            return "the codes of the last event" if several else "the last code of the last event"
        return "the last event"

    def _groups(self) -> tuple[Tensor, list[int | str | tuple[str, int]]]:
        """The row of every token, (L,), when grouped by event; and for each row its event or its kind."""
        keys = [
            position if position >= 0 else (KINDS[kind], at) if KINDS[kind] in UNGROUPED_KINDS else KINDS[kind]
            for at, (position, kind) in enumerate(
                zip(self.layout.position[0].tolist(), self.layout.kind[0].tolist(), strict=True)
            )
        ]
        rows = list(dict.fromkeys(keys))
        place = {key: row for row, key in enumerate(rows)}
        return torch.tensor([place[key] for key in keys]), rows

    def _by_event(self) -> Tensor:
        """(layers, H, R, R) over the rows of `labels(by="event")`."""
        of, rows = self._groups()
        member = torch.nn.functional.one_hot(of, len(rows)).to(self.weights)  # (L, R)
        return (member / member.sum(0)).T @ self.weights @ member


def has_attention(model: nn.Module) -> bool:
    """Whether a model has a tap on attention weights."""
    return any(tap.kind == "attention" for tap in tracing.taps(model).values())


def layout_of(model: nn.Module, batch: Batch) -> Layout:
    """The tokens that a model reads from a batch: its `layout(batch)` if it has one, else one token per event."""
    return model.layout(batch) if supports(model, DescribesTokens) else Layout.of_events(batch.items)


def attention_in(trace: Trace, model: nn.Module, history: History) -> Attention:
    """The attention recorded in a trace of one pass over this history (cut to the model's maximum length).

    Raises `KeyError` if the trace holds no attention, `ValueError` if its tokens do not fit the history's layout.
    """
    record = trace["attention"].passes[-1]  # reasoning passes the history again with every step
    batch = batch_of([history], model.config.max_length).to(device_of(model))
    layout = layout_of(model, batch).cpu()
    weights = record.values if record.axes[0] == "layer" else record.values[None]  # (layers, 1, H, L, L)
    length = weights.shape[-1]
    reasoning = KINDS.index("reasoning_step")
    made = layout.truncate(length)  # early stopping leaves fewer reasoning steps than the layout has
    if len(made) < length or bool((layout.kind[:, length:] != reasoning).any()):
        raise ValueError(f"attention passed over {length} tokens, but the layout of the history has {len(layout)}")
    kept = (made.kind[0] != KINDS.index("padding")).nonzero()[:, 0]  # an item may have fewer graph neighbours
    return Attention(weights[:, 0][..., kept, :][..., kept], made.select(kept), batch.items.shape[1])


@torch.no_grad()
def attention_of(model: nn.Module, history: History) -> Attention:
    """The attention of a model while it scores one history. Raises `ValueError` for a model without attention."""
    if not has_attention(model):
        raise ValueError(f"{type(model).__name__} has no attention; choose a Transformer such as sasrec")
    with tracing.watch(model, "attention") as trace:
        scores_of(model, [history], exact=True)
    return attention_in(trace, model, history)
