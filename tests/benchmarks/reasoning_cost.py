"""What thinking costs, at inference and in training: python tests/benchmarks/reasoning_cost.py

Needs amazon-beauty (see data/README.md). ReaRec with random weights (dim 64, 2 layers, histories of 50 at most) reads
test users, in batches as evaluation makes them, and answers with their ten best items, after 0 to 3 thoughts; the goal
is less than 10 % more for two. The encoder alone, from history to last thought, stands beside it. Then an epoch of
training of SASRec and ReaRec at the same sizes and positions per batch, from a sample of its batches; the goal is less
than 2.5 times SASRec's for PRL.
Processor seconds on one thread, taken in turns, the best turn of each, all in one run: ratios hold on any machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import nn

from seqlab import datasets, models
from seqlab.tasks import next_item

TURNS, TOKENS, BATCHES = 7, 4096, 4
TRAINED = {
    "sasrec": ("sasrec", {}),
    "rearec, no thoughts": ("rearec", {"steps": 0}),
    "rearec, naive feedback": ("rearec", {"objective": "last", "reason_positions": False}),
    "rearec, PRL": ("rearec", {"objective": "prl"}),
    "rearec, PRL from every position": ("rearec", {"objective": "prl", "share": 1.0}),
    "rearec, ERL": ("rearec", {"objective": "erl"}),
    "rearec, PRL on GRU4Rec": ("rearec", {"objective": "prl", "backbone": "gru4rec"}),
    "rearec, PRL on BERT4Rec, 4 cuts": ("rearec", {"objective": "prl", "backbone": "bert4rec"}),
}


def in_turns(actions: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Processor seconds of each action, the best of so many turns; a first turn is not counted."""
    best = dict.fromkeys(actions, math.inf)
    for turn in range(turns + 1):
        for name, action in actions.items():
            began = time.process_time()
            action()
            if turn:
                best[name] = min(best[name], time.process_time() - began)
    return best


def inference(split: datasets.Split, encoder_alone: bool) -> dict[str, float]:
    """Seconds for every n-th batch of test users, by the number of thoughts."""
    rows_at_most = next_item.MAX_SCORES // (split.n_items + 1)
    batches = [batch for _, batch in split.test.batches(50, next_item.MAX_TOKENS, rows_at_most)]
    batches = batches[1 :: len(batches) // BATCHES]  # of all lengths

    def answer(model: nn.Module) -> Callable[[], object]:
        @torch.no_grad()
        def action() -> None:
            for batch in batches:
                model.reasoning_states(batch) if encoder_alone else model.recommend(batch, 10)

        return action

    systems = {f"S={steps}": models.build("rearec", split.n_items, {"steps": steps}).eval() for steps in range(4)}
    return in_turns({name: answer(model) for name, model in systems.items()}, TURNS)


def training(split: datasets.Split) -> dict[str, float]:
    """Seconds for every n-th batch of an epoch, by system."""
    batches = list(split.train.training_batches(50, TOKENS, seed=0))
    batches = sorted(batches, key=lambda batch: batch.items.shape[1])[2 :: max(1, len(batches) // BATCHES)]

    def epoch(model: nn.Module) -> Callable[[], object]:
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)

        def action() -> None:
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                model.loss(batch).total.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

        return action

    systems = {
        label: models.build(name, split.n_items, settings).train() for label, (name, settings) in TRAINED.items()
    }
    return in_turns({label: epoch(model) for label, model in systems.items()}, 2)


def table(title: str, timed: dict[str, float]) -> None:
    first = next(iter(timed.values()))
    print(f"\n{title:40} | seconds | times the first")
    for name, each in timed.items():
        print(f"{name:40} | {each:7.3f} | {each / first:15.3f}")


def main() -> None:
    torch.set_num_threads(1)
    split = datasets.leave_one_out(datasets.load("amazon-beauty"))
    print(f"torch {torch.__version__}, amazon-beauty, {split.n_items:,} items, {TOKENS} positions per training batch")
    table("inference: ten best items", inference(split, encoder_alone=False))
    table("inference: encoder alone", inference(split, encoder_alone=True))
    table("training, a sample of an epoch", training(split))


if __name__ == "__main__":
    main()
