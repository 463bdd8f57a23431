"""Where a model looks while it answers one history: by the tokens that it reads, and by the events they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from seqlab import tracing
from seqlab.datasets.history import batch_of
from seqlab.inspection.influence import scores_of
from seqlab.runtime.modules import device_of
from seqlab.tracing import KINDS, Layout, Trace

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.history import History
    from seqlab.datasets.sequences import Batch

APART = ("thought",)
"""Kinds of tokens that are shown one by one beside the events; the other ones that belong to no event, together."""

TOGETHER = {"start": "start", "neighbour": "neighbours in the graph", "query": "next item?"}


@dataclass(frozen=True)
class Attention:
    """What passed the attention of a model for one history.

    weights: (layers, H, L, L), a row per token that looks, a column per token looked at; each row sums to 1. layout: of
    these L tokens, a batch of one. events: T, the events read.
    """

    weights: Tensor
    layout: Layout
    events: int

    @property
    def one_by_one(self) -> bool:
        """Whether every token is an event or stands for the next item alone, so that there is nothing to add up."""
        event, query = KINDS.index("event"), KINDS.index("query")
        return bool((self.layout.kind == event).sum() == self.events) and bool(
            ((self.layout.kind == event) | (self.layout.kind == query)).all()
        )

    def frame(self, by: Literal["event", "token"] = "token") -> pd.DataFrame:
        """A tidy table: columns layer, head, query, key (rows of `words(by=...)`, from 0), value.

        By event: what an event's tokens are looked at adds up; of what they look at the mean is taken. A start token,
        the neighbours, each thought and the queries, where there are such, have a row of their own among the events.
        """
        import pandas as pd

        values = self.weights if by == "token" else self._by_event()
        names = ["layer", "head", "query", "key"]
        index = pd.MultiIndex.from_product([range(size) for size in values.shape], names=names)
        return pd.DataFrame({"value": values.flatten().numpy()}, index=index).reset_index()

    def words(self, titles: Sequence[str], by: Literal["event", "token"] = "token") -> list[str]:
        """What the rows of `frame` are called: titles (N + 1) by item."""
        if by == "token":
            return self.layout.labels(titles)
        of, rows = self._groups()
        tokens, first = self.layout.labels(titles), [int((of == row).nonzero()[0]) for row in range(len(rows))]
        return [
            titles[int(self.layout.item[0, at])] if isinstance(key, int) else TOGETHER.get(key, tokens[at])
            for key, at in zip(rows, first, strict=True)
        ]

    def rows(self, by: Literal["event", "token"] = "token") -> list[int | None]:
        """The event (from 0) that each row of `frame` belongs to; None where it is none."""
        if by == "event":
            return [key if isinstance(key, int) else None for key in self._groups()[1]]
        return [None if at < 0 else at for at in self.layout.position[0].tolist()]

    def answer(self) -> pd.DataFrame | None:
        """Where that looks of which the recommendation is made, event by event: columns position, value.

        Last layer, mean of the heads and of the tokens that answer, the sum over an event's tokens; what goes to other
        tokens is left out. None where none of these tokens answers.
        """
        import pandas as pd

        asks = self.layout.readout[0]
        if not bool(asks.any()):
            return None
        looked = self.weights[-1].mean(0)[asks].mean(0)  # (L,)
        found = torch.zeros(self.events).index_add(0, *self._of_events(looked))
        return pd.DataFrame({"position": range(self.events), "value": found.double().numpy()})

    def who_answers(self) -> str:
        """Words for the tokens of which the recommendation is made."""
        asks = self.layout.readout[0]
        kinds = {KINDS[kind] for kind in self.layout.kind[0, asks].tolist()}
        several = int(asks.sum()) > 1
        if "thought" in kinds:
            return "the last event and the thoughts" if "event" in kinds else "the last thought"
        if "query" in kinds:
            return "the queries for the next item" if several else "the mask for the next item"
        if "code" in kinds:
            return "the codes of the last event" if several else "the last code of the last event"
        return "the last event"

    def _of_events(self, looked: Tensor) -> tuple[Tensor, Tensor]:
        """The events (M,) of the tokens that have one, and what these are looked at, of (L,): (M,)."""
        position = self.layout.position[0]
        return position[position >= 0], looked[position >= 0]

    def _groups(self) -> tuple[Tensor, list[int | str | tuple[str, int]]]:
        """The row of every token, (L,), when shown by event; and of every row its event, or its kind."""
        keys = [
            position if position >= 0 else (KINDS[kind], at) if KINDS[kind] in APART else KINDS[kind]
            for at, (position, kind) in enumerate(
                zip(self.layout.position[0].tolist(), self.layout.kind[0].tolist(), strict=True)
            )
        ]
        rows = list(dict.fromkeys(keys))
        place = {key: row for row, key in enumerate(rows)}
        return torch.tensor([place[key] for key in keys]), rows

    def _by_event(self) -> Tensor:
        """(layers, H, R, R) over the rows of `words(by="event")`."""
        of, rows = self._groups()
        wanted = torch.nn.functional.one_hot(of, len(rows)).to(self.weights)  # (L, R)
        return (wanted / wanted.sum(0)).T @ self.weights @ wanted


def attends(model: nn.Module) -> bool:
    """Whether a model looks back by attention."""
    return any(tap.kind == "attention" for tap in tracing.taps(model).values())


def layout_of(model: nn.Module, batch: Batch) -> Layout:
    """What the tokens are that a model reads of a batch: its own `layout`, or the events one by one."""
    return model.layout(batch) if hasattr(model, "layout") else Layout.of_events(batch.items)


def attention_in(trace: Trace, model: nn.Module, history: History) -> Attention:
    """The attention of a pass over this one history (cut to what the model reads) that a trace holds.

    Raises `KeyError` where no attention passed, `ValueError` where the tokens are not those of the history.
    """
    record, batch = trace["attention"], batch_of([history], model.config.max_length).to(device_of(model))
    layout = layout_of(model, batch).cpu()
    weights = record.values if record.axes[0] == "layer" else record.values[None]  # (layers, 1, H, L, L)
    length = weights.shape[-1]
    thought = KINDS.index("thought")
    made = layout.truncate(length)  # who stopped early made fewer thoughts than the layout tells of
    if len(made) < length or bool((layout.kind[:, length:] != thought).any()):
        raise ValueError(f"attention passed over {length} tokens, but the layout of the history has {len(layout)}")
    there = (made.kind[0] != KINDS.index("padding")).nonzero()[:, 0]  # a graph may give fewer neighbours
    return Attention(weights[:, 0][..., there, :][..., there], made.select(there), batch.items.shape[1])


@torch.no_grad()
def attention_of(model: nn.Module, history: History) -> Attention:
    """Watch a model answer one history. Raises `ValueError` for a model without attention."""
    if not attends(model):
        raise ValueError(f"{type(model).__name__} has no attention to look at; choose a Transformer such as sasrec")
    with tracing.watch(model, "attention") as trace:
        scores_of(model, [history], exact=True)
    return attention_in(trace, model, history)
