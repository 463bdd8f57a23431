"""The reasoning steps of one user: the state of every step, its recommendations, and the teacher's distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from seqlab import tracing
from seqlab.contracts import supports
from seqlab.datasets.history import batch_of
from seqlab.inspection.reasoning_steps import require_reasoning
from seqlab.ranking import check_k, ranks_of
from seqlab.runtime.modules import device_of, evaluating

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.history import History
    from seqlab.datasets.sequences import Batch


@dataclass(frozen=True)
class StepStates:
    """The states of one user and the scores computed from them, step by step.

    states: (S + 1, D); scores: (S + 1, N + 1) with -inf at padding and at filtered items; probabilities: (S + 1, N + 1)
    over the whole catalogue under each step's temperature.
    """

    states: Tensor
    scores: Tensor
    probabilities: Tensor

    def nearest(self, k: int = 10) -> pd.DataFrame:
        """The best items of every step: columns step, rank (from 1), item, probability."""
        import pandas as pd

        best, items = self.scores.topk(min(check_k(k), self.scores.shape[1] - 1), dim=1)
        rows = [
            (step, place + 1, item, float(self.probabilities[step, item]))
            for step, row in enumerate(items.tolist())
            for place, item in enumerate(row)
            if best[step, place] > -torch.inf
        ]
        return pd.DataFrame(rows, columns=["step", "rank", "item", "probability"])

    def ranks(self, item: int) -> list[float]:
        """The rank of one item at every step, ties at their mean."""
        return ranks_of(self.scores, torch.full((len(self.scores),), item)).tolist()

    def cosines(self) -> np.ndarray:
        """The cosine of every state with every other: (S + 1, S + 1)."""
        unit = torch.nn.functional.normalize(self.states, dim=1)
        return (unit @ unit.T).numpy()

    def group_probabilities(self, groups: dict[str, list[int]]) -> pd.DataFrame:
        """The probability of groups of items, and of all other items, at every step: columns step, part, share.

        An item of several groups counts for the first of them.
        """
        import pandas as pd

        left, rows = self.probabilities.clone(), []
        for part, members in groups.items():
            items = sorted(set(members))  # an item counts once
            rows += [(step, part, share) for step, share in enumerate(left[:, items].sum(1).tolist())]
            left[:, items] = 0
        rows += [(step, "all other items", share) for step, share in enumerate(left.sum(1).tolist())]
        return pd.DataFrame(rows, columns=["step", "part", "share"])


@torch.no_grad()
def step_states(
    model: nn.Module,
    history: History,
    answer: int | None = None,
    seen_filter: bool = False,
    patch: tuple[int, Tensor] | None = None,
) -> StepStates:
    """The steps of one user. answer: an item that the seen filter keeps.

    patch: a step and the state (D,) that replaces its state before the next step is computed (activation patching).
    Raises `ValueError` for a system that does not reason in steps.
    """
    require_reasoning(model)
    batch = batch_of([history], model.config.max_length).to(device_of(model))
    names = step_taps(model)
    changes = {} if patch is None else {names[patch[0]]: lambda state: patch[1].to(state).expand_as(state)}
    with evaluating(model), tracing.patch(model, changes):
        states = model.reasoning_states(batch)
    scores = model.step_scores(states)[0].float().cpu()  # (S + 1, N + 1)
    scores[:, 0] = -torch.inf
    probabilities = (scores / model.temperatures.cpu()[:, None]).softmax(-1)
    if seen_filter:
        seen = torch.cat([history.items, history.earlier])
        scores[:, seen[seen != answer]] = -torch.inf
    return StepStates(states[0].float().cpu(), scores, probabilities)


class HasTeacher(Protocol):
    """A system whose steps learn from a distribution over items, unless `config.teacher` is off."""

    def teacher(self, batch: Batch, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Items (B, 1 + M), the target `truth` (B,) first, and their shares (B, S + 1, 1 + M) at every step."""
        ...


@torch.no_grad()
def teacher_prior(model: nn.Module, history: History, answer: int, step: int) -> pd.DataFrame | None:
    """The teacher's distribution at a step over items except the answer: columns item, weight; None without teacher.

    The teacher of ManCAR spreads its mass over the answer and the graph neighbours of the last item; only the
    neighbours are returned. Raises `ValueError` for a system that does not reason in steps.
    """
    import pandas as pd

    require_reasoning(model)
    if not supports(model, HasTeacher) or not model.config.teacher:
        return None
    batch = batch_of([history], model.config.max_length).to(device_of(model))
    items, shares = model.teacher(batch, torch.tensor([answer], device=batch.items.device))
    items, weight = items[0, 1:].cpu(), shares[0, step, 1:].float().cpu()
    return pd.DataFrame({"item": items[weight > 0].numpy(), "weight": weight[weight > 0].numpy()})


def step_taps(model: nn.Module) -> list[str]:
    """The names of the taps on the states, in the order of the steps."""
    return [name for name, tap in tracing.taps(model).items() if tap.kind == "reasoning_step"]


def map_positions(near: pd.DataFrame, coordinates: np.ndarray) -> pd.DataFrame:
    """The steps on a map of items: the mean coordinates of their best items, weighted by probability.

    near: of `StepStates.nearest`; coordinates: (N, 2), row i - 1 is item i. Columns step, x, y. This works for any map,
    also one into which a state cannot be projected.
    """
    import pandas as pd

    rows = []
    for step, part in near.groupby("step"):
        weight = part["probability"].to_numpy()
        weight = weight / weight.sum() if weight.sum() > 0 else np.full(len(part), 1 / len(part))
        rows.append((step, *(weight @ coordinates[part["item"].to_numpy() - 1])))
    return pd.DataFrame(rows, columns=["step", "x", "y"])
