"""Small synthetic logs, histories and batches for tests, determined by their arguments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from seqlab import models
from seqlab.datasets.events import Events
from seqlab.datasets.log import InteractionLog, make_log
from seqlab.datasets.sequences import Batch, Sequences
from seqlab.tokenizers import CodeBook

Histories = list[list[int]]


def log_of(histories: Histories, times: list[list[float]] | None = None, **options) -> InteractionLog:
    """Users 1, 2, .. with these items; without times, one event per second."""
    rows = [
        (user, item, float(position) if times is None else times[user - 1][position])
        for user, items in enumerate(histories, 1)
        for position, item in enumerate(items)
    ]
    return make_log(pd.DataFrame(rows, columns=["user", "item", "timestamp"]), **{"name": "synthetic", **options})


def cycle_log(users: int = 20, items: int = 10) -> InteractionLog:
    """A cycle of items from different starting points: the next item is deterministic."""
    return log_of(
        [[(start + step) % items + 1 for step in range(items + 3 + start % 3)] for start in range(users)], repeats=True
    )


def chain_histories(seed: int = 0, users: int = 80, items: int = 24, faithful: float = 0.85) -> Histories:
    """A Markov chain: each item has one successor with probability `faithful`, else a uniformly random item follows."""
    random = np.random.default_rng(seed)
    follower = random.permutation(items)
    histories = []
    for _ in range(users):
        item, history = int(random.integers(items)), []
        for _ in range(int(random.integers(8, 16))):
            history.append(item + 1)
            item = int(follower[item]) if random.random() < faithful else int(random.integers(items))
        histories.append(history)
    return histories


def chain_log(seed: int = 0, **sizes) -> InteractionLog:
    """`chain_histories` as a log with repeats."""
    return log_of(chain_histories(seed, **sizes), repeats=True)


def random_histories(seed: int, users: int = 12, items: int = 9, longest: int = 12) -> Histories:
    """Uniformly random items; the first user has every item, so that ids keep their numbers."""
    random = np.random.default_rng(seed)
    first = (random.permutation(items) + 1).tolist()
    return [first] + [random.integers(1, items + 1, random.integers(1, longest + 1)).tolist() for _ in range(users - 1)]


def random_log(seed: int, moments: int | None = None, **options) -> InteractionLog:
    """`random_histories` as a log; moments: the number of distinct times (None: no ties)."""
    histories = random_histories(seed)
    if moments is None:
        return log_of(histories, **options)
    random = np.random.default_rng(seed + 1)
    times = [np.sort(random.integers(0, moments, len(items))).astype(float).tolist() for items in histories]
    return log_of(histories, times, **options)


def sequences_of(histories: Histories) -> Sequences:
    """Histories (possibly empty) as Sequences; the time of an event is its index among all events."""
    flat = [item for items in histories for item in items]
    offsets = np.cumsum([0] + [len(items) for items in histories])
    events = Events(torch.tensor(flat, dtype=torch.long), torch.arange(len(flat), dtype=torch.float64))
    return Sequences(events, torch.from_numpy(offsets))


def batch_of(histories: Histories, width: int = 0) -> Batch:
    """Histories as one Batch, padded to at least `width`; one event per second."""
    lengths = torch.tensor([len(items) for items in histories])
    width = max(width, int(lengths.max()))
    items = torch.tensor([items + [0] * (width - len(items)) for items in histories])
    times = torch.arange(width, dtype=torch.float64) * (items > 0)
    return Batch(Events(items, times), lengths, torch.arange(1, len(histories) + 1))


def with_targets(histories: Histories, targets: list[int]) -> Batch:
    """Histories as one Batch, each with one target after its last event."""
    batch = batch_of(histories)
    last = (batch.lengths - 1).clamp(min=0)[:, None]
    return set_targets(batch, torch.zeros_like(batch.items).scatter(1, last, torch.tensor(targets)[:, None]))


def set_targets(batch: Batch, targets: torch.Tensor) -> Batch:
    """The batch with these target items (B, T); their times are 0."""
    return replace(batch, target_events=Events(targets, torch.zeros(targets.shape, dtype=torch.float64)))


def random_book(seed: int = 0, items: int = 40, sizes: tuple[int, ...] = (5, 4, 6)) -> CodeBook:
    """Random codes of items, a few tuples of them equal."""
    generator = torch.Generator().manual_seed(seed)
    return CodeBook(torch.stack([torch.randint(size, (items + 1,), generator=generator) for size in sizes], 1), sizes)


def enlarged(model: torch.nn.Module, std: float = 0.5) -> torch.nn.Module:
    """The model in evaluation mode with weights large enough for every token to matter."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=std)
    return model.eval()


def coded(name: str, **settings) -> torch.nn.Module:
    """A small system of 40 items with random codes, whose weights are large enough for every token to matter."""
    sizes = {"dim": 16, "layers": 2, "levels": (5, 4, 6)}
    model = enlarged(models.build(name, 40, small(name, **(sizes | settings))))
    model.ids.assign(random_book())
    return model


def stops_by_hand(probabilities: torch.Tensor, epsilon: float, least: int = 1) -> list[int]:
    """For each row (S + 1, N) of probabilities the first step t >= least with KL(p_{t-1} || p_t) < epsilon, else S."""
    found = []
    for row in probabilities.double():
        moved = (row[:-1] * (row[:-1] / row[1:]).log()).sum(-1).tolist()  # KL(p_{t-1} || p_t) at index t - 1
        below = [at for at in range(least, len(row)) if moved[at - 1] < epsilon]
        found.append(below[0] if below else len(row) - 1)
    return found


def small(name: str, **settings) -> dict[str, object]:
    """The TINY settings of a system, overridden by `settings`."""
    return models.module(name).TINY | settings
