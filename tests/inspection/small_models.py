"""A small system that reasons in steps, and histories of given items."""

import torch
from torch import nn

from seqlab.datasets.history import History
from seqlab.ranking import top
from seqlab.tracing import Tap

STEPS = 3


def history_of_items(*items, earlier=()):
    """The history of user 1, one event per second."""
    times = torch.arange(len(items), dtype=torch.float64)
    return History(1, torch.tensor(items), times, torch.tensor(earlier, dtype=torch.long))


class ReasoningModel(nn.Module):
    """Follows the protocol of reasoning systems: the mean of the history's items, rotated further at every step."""

    def __init__(self, n_items, steps=STEPS, dim=6, max_length=5, answer=-1):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.config = type("Config", (), {"max_length": max_length, "steps": steps})()
        self.items = nn.Embedding.from_pretrained(torch.randn(n_items + 1, dim, generator=generator), padding_idx=0)
        self.turn = torch.linalg.qr(torch.randn(dim, dim, generator=generator)).Q
        self.step_taps = nn.ModuleList(Tap("reasoning_step", "user dim") for _ in range(steps + 1))
        self.answer = answer
        self.passes = 0

    @property
    def temperatures(self):
        return 0.7 * 1.5 ** torch.arange(self.config.steps, -1, -1)

    def reasoning_states(self, batch, steps=None):
        self.passes += 1
        valid = (batch.items > 0)[..., None]
        state = self.step_taps[0]((self.items(batch.items) * valid).sum(1) / valid.sum(1))
        states = [state]
        for step in range(self.config.steps if steps is None else steps):
            state = self.step_taps[step + 1](0.6 * state + 0.4 * state @ self.turn)
            states.append(state)
        return torch.stack(states, 1)

    def item_vectors(self):
        return self.items.weight

    def step_scores(self, states):
        return states @ self.items.weight.T

    def score(self, batch):
        return self.step_scores(self.reasoning_states(batch))[:, self.answer]

    def recommend(self, batch, k):
        return top(self.score(batch), k)
