"""Why an item is recommended: the influence of each event, the attention to it and its surprise, together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from seqlab import tracing
from seqlab.datasets.item_names import item_names
from seqlab.inspection import attention, influence
from seqlab.ranking import check_k

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.history import History
    from seqlab.datasets.log import InteractionLog
    from seqlab.inspection.attention import Attention


@dataclass(frozen=True)
class Explanation:
    """An item after a history, and what each event has to do with it.

    item: the explained one. listed: the k best items. log_p: (N + 1,), -inf at 0; the log-probabilities of all items,
    seen ones too. influence, surprise: as in `inspection.influence`; None for a history of one event. attention:
    columns position, value; None for a system without attention. attention_map: where it comes from, or None.
    """

    history: History
    item: int
    listed: tuple[int, ...]
    log_p: Tensor
    influence: pd.DataFrame | None
    surprise: pd.DataFrame | None
    attention: pd.DataFrame | None
    attention_map: Attention | None

    @property
    def rank(self) -> int | None:
        """The place of the item in the list, from 1; None for an item that is not in it."""
        return self.listed.index(self.item) + 1 if self.item in self.listed else None

    @property
    def probability(self) -> float:
        """The probability of the item: softmax of the scores of all items."""
        return math.exp(float(self.log_p[self.item]))

    @property
    def most_surprising(self) -> int | None:
        """The position (from 0) of the most surprising event; None in a history of one event."""
        return None if self.surprise is None else self.surprise.attrs["position"]

    def of_item(self, model: nn.Module, item: int | None) -> Explanation:
        """The explanation of another item after the same history; None: of the first in the list.

        Raises `ValueError` for a number that no item has.
        """
        if item is not None and not 0 < item < len(self.log_p):
            raise ValueError(f"there is no item {item}; the catalogue has 1 to {len(self.log_p) - 1}")
        item = self.listed[0] if item is None else item
        several = len(self.history) > 1
        found = influence.leave_one_out(model, self.history, item) if several else None
        return replace(self, item=item, influence=found)

    def agreement(self) -> tuple[float, str] | None:
        """How far influence and attention agree, as in `influence.agreement`; None where one is missing."""
        if self.attention is None or self.influence is None:
            return None
        return influence.agreement(self.attention, self.influence)

    def events(self, log: InteractionLog) -> pd.DataFrame:
        """A row per event: event (from 1), item (id of the source), title, influence, attention, surprise, rank.

        The title is the item's name (`item_names`). Columns of what there is not are left out; surprise and rank of the
        first event are NaN.
        """
        import pandas as pd

        of, names = self.history.items.tolist(), ["", *item_names(log)]
        frame = pd.DataFrame(
            {"event": range(1, len(of) + 1), "item": log.items["item_id"].loc[of].to_numpy(),
             "title": [names[item] for item in of]}
        )  # fmt: skip
        for name in ("influence", "attention", "surprise"):
            if (found := getattr(self, name)) is not None:
                frame[name] = found.set_index("position")["value"].reindex(range(len(of))).to_numpy()
        if self.surprise is not None:
            frame["rank"] = self.surprise.set_index("position")["rank"].reindex(range(len(of))).to_numpy()
        return frame

    def recommended(self, log: InteractionLog) -> pd.DataFrame:
        """The list: rank, item (id of the source), title, probability."""
        import pandas as pd

        names = ["", *item_names(log)]
        return pd.DataFrame(
            {"rank": range(1, len(self.listed) + 1), "item": log.items["item_id"].loc[list(self.listed)].to_numpy(),
             "title": [names[item] for item in self.listed],
             "probability": self.log_p[list(self.listed)].exp().numpy()}
        )  # fmt: skip

    def summary(self, log: InteractionLog) -> dict[str, Any]:
        """Everything as JSON values: the item, its rank and probability, the events and the list."""
        agreement = self.agreement()
        return {
            "item": _plain(log.items["item_id"].iloc[self.item - 1]),
            "title": item_names(log)[self.item - 1],
            "rank": self.rank,
            "probability": self.probability,
            "attention_of": None if self.attention is None else self.attention_map.readout_label(),
            "agreement": None if agreement is None or math.isnan(agreement[0]) else agreement[0],
            "most_surprising": None if self.most_surprising is None else self.most_surprising + 1,
            "history": _rows(self.events(log)),
            "recommended": _rows(self.recommended(log)),
        }


def explain(
    model: nn.Module, history: History, item: int | None = None, k: int = 10, seen_filter: bool = False
) -> Explanation:
    """Explain an item after a history that the model can read whole; None: the first of its `k` recommendations.

    seen_filter: whether the list leaves out the items of the history. Raises `ValueError` for a system without `score`,
    and for an unknown item.
    """
    with tracing.watch(model, "attention") as trace:
        scores = influence.scores_of(model, [history])
    masked = influence.mask_seen(scores, [history], seen_filter)[0]
    best = masked.topk(min(check_k(k), len(masked) - 1)).indices.tolist()
    listed = tuple(item for item in best if masked[item] > -math.inf)
    found = attention.attention_in(trace, model, history) if attention.has_attention(model) else None
    surprise = None if len(history) < 2 else influence.surprise(model, history)
    values = None if found is None else found.readout_attention()
    made = Explanation(history, 0, listed, scores[0].log_softmax(0), None, surprise, values, found)
    return made.of_item(model, item)


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON values; None for NaN."""
    return [{name: _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    """A NumPy scalar as the value that JSON has; None for NaN."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value
