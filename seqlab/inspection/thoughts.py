"""The thoughts of one user: the state of every step, what it recommends, and where a teacher pulls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab import tracing
from seqlab.datasets.history import batch_of
from seqlab.inspection.reasoning_steps import must_reason
from seqlab.ranking import check_k, ranks_of
from seqlab.runtime.modules import device_of, evaluating

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.history import History


@dataclass(frozen=True)
class Thinking:
    """What the states of one user say, step by step.

    states: (S + 1, D); scores: (S + 1, N + 1) with -inf at padding and at items kept out of the ranking; chances:
    (S + 1, N + 1) probabilities over the whole catalogue under each step's temperature.
    """

    states: Tensor
    scores: Tensor
    chances: Tensor

    def nearest(self, k: int = 10) -> pd.DataFrame:
        """The best items of every step: columns step, rank (from 1), item, probability."""
        import pandas as pd

        best, items = self.scores.topk(min(check_k(k), self.scores.shape[1] - 1), dim=1)
        rows = [
            (step, place + 1, item, float(self.chances[step, item]))
            for step, row in enumerate(items.tolist())
            for place, item in enumerate(row)
            if best[step, place] > -torch.inf
        ]
        return pd.DataFrame(rows, columns=["step", "rank", "item", "probability"])

    def ranks(self, item: int) -> list[float]:
        """The rank of one item at every step, ties at their mean."""
        return ranks_of(self.scores, torch.full((len(self.scores),), item)).tolist()

    def cosines(self) -> np.ndarray:
        """Of every state with every other: (S + 1, S + 1)."""
        unit = torch.nn.functional.normalize(self.states, dim=1)
        return (unit @ unit.T).numpy()

    def masses(self, groups: dict[str, list[int]]) -> pd.DataFrame:
        """How much probability every step gives to groups of items and to the rest: columns step, part, share.

        An item of several groups counts for the first of them.
        """
        import pandas as pd

        left, rows = self.chances.clone(), []
        for part, members in groups.items():
            items = sorted(set(members))  # an item counts once
            rows += [(step, part, share) for step, share in enumerate(left[:, items].sum(1).tolist())]
            left[:, items] = 0
        rows += [(step, "all other items", share) for step, share in enumerate(left.sum(1).tolist())]
        return pd.DataFrame(rows, columns=["step", "part", "share"])


@torch.no_grad()
def think(
    model: nn.Module,
    history: History,
    answer: int | None = None,
    seen_filter: bool = False,
    swap: tuple[int, Tensor] | None = None,
) -> Thinking:
    """The steps of one user. `answer`: the item the filter leaves in, though the user met it.

    `swap`: a step and the state (D,) put in its place before the next step is made (activation patching). Raises
    `ValueError` for a system that does not reason in steps.
    """
    must_reason(model)
    batch = batch_of([history], model.config.max_length).to(device_of(model))
    names = step_taps(model)
    changes = {} if swap is None else {names[swap[0]]: lambda state: swap[1].to(state).expand_as(state)}
    with evaluating(model), tracing.patch(model, changes):
        states = model.reasoning_states(batch)
    scores = model.step_scores(states)[0].float().cpu()  # (S + 1, N + 1)
    scores[:, 0] = -torch.inf
    chances = (scores / model.temperatures.cpu()[:, None]).softmax(-1)
    if seen_filter:
        met = torch.cat([history.items, history.earlier])
        scores[:, met[met != answer]] = -torch.inf
    return Thinking(states[0].float().cpu(), scores, chances)


@torch.no_grad()
def prior(model: nn.Module, history: History, answer: int, step: int) -> pd.DataFrame | None:
    """Where a system's teacher pulls a step, besides to the answer: columns item, weight; None where there is none.

    The teacher of ManCAR spreads its mass over the answer and the neighbours of the last item read. Only these are
    given, which the history alone tells, with their shares beside the answer's. Raises `ValueError` for a system that
    does not reason in steps.
    """
    import pandas as pd

    must_reason(model)
    if not hasattr(model, "teacher") or not model.config.teacher:
        return None
    batch = batch_of([history], model.config.max_length).to(device_of(model))
    items, shares = model.teacher(batch, torch.tensor([answer], device=batch.items.device))
    items, weight = items[0, 1:].cpu(), shares[0, step, 1:].float().cpu()
    return pd.DataFrame({"item": items[weight > 0].numpy(), "weight": weight[weight > 0].numpy()})


def step_taps(model: nn.Module) -> list[str]:
    """The taps that the states pass one by one, in the order of the steps."""
    return [name for name, tap in tracing.taps(model).items() if tap.kind == "thought"]


def places(near: pd.DataFrame, spots: np.ndarray) -> pd.DataFrame:
    """Where the steps stand on a map: the mean place of their nearest items, weighed by probability.

    near: of `Thinking.nearest`; spots: (N, 2), row i - 1 is item i. Columns step, x, y. It holds for any map, also
    where a state itself, which is no item, could not be projected.
    """
    import pandas as pd

    rows = []
    for step, part in near.groupby("step"):
        weight = part["probability"].to_numpy()
        weight = weight / weight.sum() if weight.sum() > 0 else np.full(len(part), 1 / len(part))
        rows.append((step, *(weight @ spots[part["item"].to_numpy() - 1])))
    return pd.DataFrame(rows, columns=["step", "x", "y"])
