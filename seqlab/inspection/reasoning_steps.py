"""What every step of a reasoning system is worth: ranks, certainty, and quality against the steps that were taken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab import tracing
from seqlab.datasets.history import batch_of
from seqlab.evaluation.metrics import bootstrap, by_group, per_user, quartiles
from seqlab.evaluation.outcome import Ranks
from seqlab.ranking import check_k, ranks_of
from seqlab.runtime.modules import device_of
from seqlab.tasks.next_item import TOKENS_AT_ONCE, history_pairs, rows_of_scores

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.ranking import Pairs

METRICS = ("recall@10", "ndcg@10")
LISTED = 10
"""How many of a step's items are kept."""

THRESHOLDS = 40
"""Stop thresholds tried unless others are asked for."""


@dataclass(frozen=True)
class StepRanks:
    """What every step of a reasoning system says to every question of one part.

    frame: a row per question and step (from 0, the plain encoder), a question's steps one after the other. Columns
    user, item (the answer), step, rank (1 = best, ties at their mean), entropy (nats, over the whole catalogue),
    entropy_even (the same with the last step's temperature at every step: what is left is the state's doing, not the
    schedule's), margin (probability of the first item minus that of the second), kl (nats, KL of the step before from
    this one, missing at step 0), cosine (of the two states, missing at step 0), kept (of the ten best items, how many
    the step before had, missing at step 0), history_length, seen, item_count.
    top: (Q, S + 1, 10) item ids of each step, best first, 0 where there are no more; train_counts: (N + 1,).
    """

    frame: pd.DataFrame
    top: Tensor
    train_counts: Tensor
    seen_filter: bool
    n_items: int

    @property
    def steps(self) -> int:
        """S: steps after the plain encoder's."""
        return self.top.shape[1] - 1

    def wide(self, column: str) -> np.ndarray:
        """A column of the frame as (Q, S + 1)."""
        return self.frame[column].to_numpy().reshape(-1, self.steps + 1)

    @cached_property
    def quality(self) -> np.ndarray:
        """Every question's recall@10 and ndcg@10 at every step: (Q, S + 1, 2)."""
        values = per_user(self.frame["rank"].to_numpy())[list(METRICS)].to_numpy()
        return values.reshape(len(self.top), self.steps + 1, len(METRICS))

    def stops(self, epsilon: float, least: int = 1, most: int | None = None) -> np.ndarray:
        """The step each question stops at: (Q,), the first from `least` on with KL below `epsilon`, else the last.

        `most`: steps a user is given at most (None: all there are).
        """
        most = self.steps if most is None else min(most, self.steps)
        below = self.wide("kl")[:, least : most + 1] < epsilon
        if not below.shape[1]:
            return np.full(len(below), most)
        return np.where(below.any(1), below.argmax(1) + least, most)

    def at(self, step: int | np.ndarray) -> Ranks:
        """The ranks of one step, or of each question's own (Q,): what every other evaluation takes."""
        chosen = np.broadcast_to(np.asarray(step), len(self.top))
        rows = self.frame.iloc[np.arange(len(chosen)) * (self.steps + 1) + chosen]
        columns = ["user", "item", "rank", "history_length", "seen", "item_count"]
        listed = self.top[torch.arange(len(chosen)), torch.from_numpy(chosen.copy())].long()
        exposure = torch.bincount(listed[listed > 0], minlength=self.n_items + 1)
        frame = rows[columns].reset_index(drop=True)
        return Ranks(frame, exposure, self.train_counts, self.seen_filter, self.n_items)


@torch.no_grad()
def rank_steps(model: nn.Module, split: Split, part: str = "test", seen_filter: bool | None = None) -> StepRanks:
    """Rank the answer of every question of `part` ("valid" or "test") by every step's state, in one pass.

    Probabilities are those of the whole catalogue under each step's temperature; the seen filter (as in
    `evaluation.rank`) touches ranks and lists alone. Memory does not grow with the catalogue times the users.
    A step is judged by its own state; a system that answers with a mean of states (ERL) does better or worse than
    any of them. Raises `ValueError` for a system that does not reason in steps.
    """
    import pandas as pd

    _must_reason(model)
    questions = {"valid": split.valid, "test": split.test}[part].to(device_of(model))
    seen_filter = not split.log.repeats if seen_filter is None else seen_filter
    steps, n_items, count = model.config.steps, split.n_items, len(questions)
    columns = {
        name: torch.full((count, steps + 1), torch.nan, dtype=torch.float64)
        for name in ("rank", "entropy", "entropy_even", "margin", "kl", "cosine", "kept")
    }
    top = torch.zeros(count, steps + 1, min(LISTED, n_items), dtype=torch.int32)
    seen = torch.zeros(count, dtype=torch.bool)
    # `_measure` holds some four tables of that size
    rows_at_most = rows_of_scores(device_of(model), 4 * (n_items + 1) * (steps + 1))
    was_training = model.training
    model.eval()
    for rows, batch in questions.batches(model.config.max_length, TOKENS_AT_ONCE, rows_at_most):
        states = model.thoughts(batch)
        scores = model.step_scores(states).float()  # (B, S + 1, N + 1)
        at, answers = rows.cpu(), questions.item[rows]
        met = history_pairs(questions, rows) if seen_filter else []
        measured, listed = _measure(scores, states, model.temperatures, answers, met)
        for name, values in measured.items():
            columns[name][at] = values.double().cpu()
        top[at] = listed.int().cpu()
        for row, item in history_pairs(questions, rows):
            seen[at[row[item == answers[row]].cpu()]] = True
    model.train(was_training)
    counts = split.train.item_counts(n_items).cpu()
    item, user = questions.item.cpu(), questions.user.cpu()
    facts = {
        "user": user, "item": item, "history_length": (questions.end - questions.start).cpu(), "seen": seen,
        "item_count": counts[item],
    }  # fmt: skip
    frame = pd.DataFrame({name: values.repeat_interleave(steps + 1).numpy() for name, values in facts.items()})
    frame.insert(2, "step", np.tile(np.arange(steps + 1), count))
    for place, (name, values) in enumerate(columns.items(), 3):
        frame.insert(place, name, values.flatten().numpy())
    return StepRanks(frame, top, counts, seen_filter, n_items)


def _must_reason(model: nn.Module) -> None:
    """`ValueError` for a system that does not reason in steps."""
    if not hasattr(model, "thoughts"):
        raise ValueError(f"{type(model).__name__} does not reason in steps; choose a system such as rearec")


@torch.no_grad()
def steps_of(model: nn.Module, history: History, answer: int, seen_filter: bool = False) -> StepRanks:
    """`rank_steps` of one history, edited or typed in, with `answer` asked about: a single question."""
    import pandas as pd

    _must_reason(model)
    batch = batch_of([history], model.config.max_length).to(device_of(model))
    was_training = model.training
    model.eval()
    states = model.thoughts(batch)
    scores = model.step_scores(states).float()  # (1, S + 1, N + 1)
    seen, asked = torch.cat([history.items, history.earlier]).to(scores.device), scores.new_tensor([answer]).long()
    met = [(torch.zeros_like(seen), seen)] if seen_filter else []
    measured, listed = _measure(scores, states, model.temperatures, asked, met)
    model.train(was_training)
    facts = {"user": history.user, "item": answer, "step": range(scores.shape[1])}
    frame = pd.DataFrame(facts | {name: values[0].double().cpu().numpy() for name, values in measured.items()})
    counts = torch.zeros(scores.shape[2], dtype=torch.long)  # of training, which one history tells nothing of
    return StepRanks(frame, listed.int().cpu(), counts, seen_filter, scores.shape[2] - 1)


def _measure(
    scores: Tensor, states: Tensor, temperatures: Tensor, answers: Tensor, met: Iterable[Pairs]
) -> tuple[dict[str, Tensor], Tensor]:
    """Everything about the steps of some questions, (B, S + 1) each, and the best items (B, S + 1, 10).

    met: items kept out of the ranking, the answer aside. Writes to `scores`.
    """
    steps = scores.shape[1]
    if not bool(scores[:, :, 1:].sum(-1).isfinite().all()):
        raise ValueError("A step gave scores that are not finite; training may have diverged.")
    divided = temperatures.to(scores)[:, None]
    logs = (scores[:, :, 1:] / divided).log_softmax(-1)  # (B, S + 1, N)
    chances = logs.exp()
    two = chances.topk(min(2, chances.shape[-1]), dim=-1).values
    even = (scores[:, :, 1:] / divided[-1]).log_softmax(-1)
    missing = scores.new_full((len(scores), 1), torch.nan)
    moved = (chances[:, :-1] * (logs[:, :-1] - logs[:, 1:])).sum(-1).clamp(min=0)  # (B, S)
    cosine = torch.cosine_similarity(states[:, 1:].float(), states[:, :-1].float(), dim=-1)
    scores[:, :, 0] = -torch.inf
    asked = answers[:, None, None].expand(-1, steps, 1)
    own = scores.gather(2, asked)
    for row, item in met:
        scores[row, :, item] = -torch.inf
    scores.scatter_(2, asked, own)
    best = scores.topk(min(LISTED, scores.shape[-1] - 1), dim=-1)
    listed = best.indices.masked_fill(best.values == -torch.inf, 0)
    stayed = ((listed[:, 1:, :, None] == listed[:, :-1, None, :]) & (listed[:, 1:, :, None] > 0)).any(-1).sum(-1)
    measured = {
        "rank": ranks_of(scores.flatten(0, 1), answers.repeat_interleave(steps)).unflatten(0, (-1, steps)),
        "entropy": -(chances * logs).sum(-1),
        "entropy_even": -(even.exp() * even).sum(-1),
        "margin": two[..., 0] - two[..., -1],
        "kl": torch.cat([missing, moved], 1),
        "cosine": torch.cat([missing, cosine], 1),
        "kept": torch.cat([missing, stayed.to(scores)], 1),
    }
    return measured, listed


def thresholds(found: StepRanks, count: int = THRESHOLDS) -> list[float]:
    """Stop thresholds between which something changes, ascending: 0 (never stop) and quantiles of the KL seen."""
    values = found.wide("kl")[:, 1:]
    if not values.size:
        return [0.0]
    spread = np.quantile(values, np.linspace(0.005, 0.995, count - 2))
    rounded = {float(f"{value:.2g}") for value in [*spread, 1.01 * values.max()]}
    return [0.0, *sorted(rounded - {0.0})]


def tradeoff(
    found: StepRanks, epsilons: list[float] | None = None, least: int = 1, most: int | None = None
) -> pd.DataFrame:
    """Quality against mean steps for each stop threshold, without asking the model again.

    Columns epsilon, steps (mean taken), early (share of users who stop before the last step), recall@10, ndcg@10,
    and recall@10 high, ndcg@10 high: the upper end of the 95 % interval of "stopped minus never stopped", by the
    normal approximation of the paired mean.
    """
    import pandas as pd

    users = np.arange(len(found.top))
    last = found.steps if most is None else min(most, found.steps)
    rows = []
    for epsilon in thresholds(found) if epsilons is None else epsilons:
        stops = found.stops(epsilon, least, most)
        quality = found.quality[users, stops]  # (Q, 2)
        change = quality - found.quality[:, last]
        high = change.mean(0) + 1.96 * change.std(0) / len(users) ** 0.5
        row = {"epsilon": epsilon, "steps": stops.mean(), "early": (stops < last).mean()}
        row |= dict(zip(METRICS, quality.mean(0), strict=True))
        rows.append(row | {f"{name} high": each for name, each in zip(METRICS, high, strict=True)})
    return pd.DataFrame(rows)


def choose_threshold(valid: StepRanks, metric: str = "ndcg@10", least: int = 1, lost: float = 0.01) -> float:
    """The largest threshold at no loss that one can see: `metric` is at most the share `lost` below that of never
    stopping, and the 95 % interval of the difference does not lie below 0.

    To be asked of the validation part: a threshold chosen on test says nothing about the next user.
    """
    table = tradeoff(valid, least=least)
    never = table[metric].iloc[0]  # ascending from 0
    allowed = (table[metric] >= (1 - lost) * never) & (table[f"{metric} high"] >= 0)
    return float(table.loc[allowed, "epsilon"].max())


def outcomes(
    found: StepRanks, epsilon: float | None = None, least: int = 1, samples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Every user at the same step, each at their own stop, and at the best step there was, with 95 % intervals.

    Columns way, kind ("fixed", "stop", "best", "worst"), steps (mean taken), metric, mean, low, high. "best" and
    "worst" look at the answer to choose the step, so they bound what any rule of stopping can reach and are no result.
    The best of several states is better than one of them even where they differ by chance alone.
    """
    import pandas as pd

    ranks = found.wide("rank")
    every = np.arange(len(ranks))
    ways = [(f"step {step}", "fixed", np.full(len(ranks), step)) for step in range(found.steps + 1)]
    if epsilon is not None:
        ways.append((f"stop below {epsilon:.2g}", "stop", found.stops(epsilon, least)))
    ways.append(("best step of each user (uses the answer)", "best", ranks.argmin(1)))
    ways.append(("worst step of each user (uses the answer)", "worst", ranks.argmax(1)))
    rows = []
    for way, kind, chosen in ways:
        values = found.quality[every, chosen]  # (Q, 2)
        low, high = bootstrap(values, samples, seed)
        for place, metric in enumerate(METRICS):
            rows.append({
                "way": way, "kind": kind, "steps": chosen.mean(), "metric": metric,
                "mean": values[:, place].mean(), "low": low[place], "high": high[place],
            })  # fmt: skip
    return pd.DataFrame(rows)


def gains(
    found: StepRanks, step: int | np.ndarray | None = None, metric: str = "ndcg@10", samples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """What a step (None: the last; or each user's own, (Q,)) gains over the plain encoder, for groups of users.

    The groups are quarters by history length and by popularity of the answer. Columns slice, group, users, mean, low,
    high: the mean of `metric` at the step minus that at step 0, with the paired 95 % interval.
    """
    ranks = found.wide("rank")
    chosen = np.broadcast_to(np.asarray(found.steps if step is None else step), len(ranks))
    first, then = ranks[:, 0], ranks[np.arange(len(ranks)), chosen]
    gain = (per_user(then)[[metric]] - per_user(first)[[metric]]).to_numpy()
    about = found.frame.iloc[:: found.steps + 1]
    groups = {
        "history length": quartiles(about["history_length"], "events"),
        "popularity of the answer": quartiles(about["item_count"], "training events"),
    }
    return by_group(gain, groups, samples, seed, least=-1.0)


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
    _must_reason(model)
    batch = batch_of([history], model.config.max_length).to(device_of(model))
    names = step_taps(model)
    changes = {} if swap is None else {names[swap[0]]: lambda state: swap[1].to(state).expand_as(state)}
    was_training = model.training
    model.eval()
    with tracing.patch(model, changes):
        states = model.thoughts(batch)
    model.train(was_training)
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

    _must_reason(model)
    if not hasattr(model, "teach") or not model.config.teacher:
        return None
    batch = batch_of([history], model.config.max_length).to(device_of(model))
    items, shares = model.teach(batch, torch.tensor([answer], device=batch.items.device))
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
