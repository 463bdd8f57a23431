"""P(IK): the probability that a system's list will hold the answer, without the list, and the forecasts it must beat.

Kadavath et al., "Language Models (Mostly) Know What They Know", 2022: a head on a frozen model tells which questions it
will get right. All is fitted on validation users, never on training positions, which are memorised: one half of them
fits, the other half chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.datasets.events import Events
from seqlab.datasets.sequences import Queries, Sequences
from seqlab.inspection.confidence import Confidence, confidence, drawn, fit_temperature

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.isotonic import IsotonicRegression

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split

HIDDEN, ROWS_PER_STEP, LEARNING_RATE, WEIGHT_DECAYS = 64, 256, 3e-3, (0.01, 1.0)
EPOCHS, PATIENCE = 40, 5

FORECASTS = {
    "mass": "own words, scaled",
    "raw_mass": "own words",
    "isotonic": "own words, isotonic",
    "states": "P(IK), states",
    "scalars": "P(IK), scalars",
    "states_soft": "P(IK), states, soft",
    "scalars_soft": "P(IK), scalars, soft",
    "length": "history length alone",
    "base_rate": "base rate",
}
"""The forecasts of a hit, as columns, and in words. "own words": the probability mass of the system's own list."""

HEADS = ("states", "scalars", "states_soft", "scalars_soft", "length")
"""Those that a `Head` makes."""


class Head(nn.Module):
    """An MLP with one hidden layer from standardised features (Q, F) to the logit (Q,) of a probability."""

    def __init__(self, n_features: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))
        self.layers = nn.Sequential(nn.Linear(n_features, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers((features - self.mean) / self.std)[:, 0]

    @torch.no_grad()
    def probability(self, features: Tensor) -> np.ndarray:
        """(Q,) float64."""
        return self(features).sigmoid().double().numpy()


def fit_head(features: Tensor, target: np.ndarray, fitting: np.ndarray, seed: int = 0) -> Head:
    """The head with the smallest cross-entropy with `target` (Q,), labels or probabilities.

    fitting: (Q,) bool, the rows whose gradients are used; the others choose weight decay and epoch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x, y, chosen = features.float(), torch.from_numpy(target.astype(np.float32)), torch.from_numpy(fitting)
        best, lowest = None, float("inf")
        for decay in WEIGHT_DECAYS:
            head = Head(x.shape[1])
            head.mean.copy_(x[chosen].mean(0))
            spread = x[chosen].std(0)
            head.std.copy_(spread.where(spread > 1e-4, torch.ones_like(spread)))  # a constant says nothing
            head.layers[-1].bias.data.fill_(float(torch.logit(y[chosen].mean().clamp(1e-4, 1 - 1e-4))))
            optimizer = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=decay)
            rows, since = chosen.nonzero()[:, 0], 0
            for _ in range(EPOCHS):
                for step in rows[torch.randperm(len(rows))].split(ROWS_PER_STEP):
                    optimizer.zero_grad(set_to_none=True)
                    F.binary_cross_entropy_with_logits(head(x[step]), y[step]).backward()
                    optimizer.step()
                with torch.no_grad():
                    loss = float(F.binary_cross_entropy_with_logits(head(x[~chosen]), y[~chosen]))
                since += 1
                if loss < lowest:
                    lowest, since = loss, 0
                    best = {name: tensor.clone() for name, tensor in head.state_dict().items()}
                if since >= PATIENCE:
                    break
        head.load_state_dict(best)
    return head.eval().requires_grad_(False)


@dataclass(frozen=True)
class Judge:
    """What is fitted on the validation users of one system: the temperature, and heads that forecast a hit.

    valid: its confidence there; fitting: (Q,) bool, the half that fitted. heads: by forecast, such as "states".
    """

    model: nn.Module
    temperature: float
    valid: Confidence
    fitting: np.ndarray
    heads: Mapping[str, Head]
    isotonic: IsotonicRegression

    @property
    def best(self) -> str:
        """The forecast of P(IK) that knows most: of states where there are any."""
        return "states" if "states" in self.heads else "scalars"

    @property
    def chosen(self) -> Confidence:
        """The confidence of the half of the validation users that chooses."""
        return self.valid.select(~self.fitting)

    def confidence(self, queries: Queries) -> Confidence:
        """The confidence of the system in its lists for some queries."""
        valid = self.valid
        return confidence(
            self.model, queries, valid.n_items, valid.seen_filter, valid.k, self.temperature, valid.states is not None
        )

    def forecast(self, of: Confidence, name: str) -> np.ndarray:
        """The probability (Q,) of a hit by one of `FORECASTS`."""
        if name in ("mass", "raw_mass"):
            return of.frame[name].to_numpy()
        if name == "isotonic":
            return self.isotonic.predict(of.frame["mass"].to_numpy())
        if name == "base_rate":
            return np.full(len(of.frame), float(self.valid.frame["hit"][self.fitting].mean()))
        features = of.scalars() if name.startswith("scalars") else of.states
        return self.heads[name].probability(_length(of) if name == "length" else features)

    def forecasts(self, of: Confidence) -> pd.DataFrame:
        """All forecasts that the system allows, a column each, with the rows of `of.frame`."""
        import pandas as pd

        names = [name for name in FORECASTS if name in self.heads or name not in HEADS]
        return pd.DataFrame({name: self.forecast(of, name) for name in names})


def fit_judge(
    model: nn.Module,
    split: Split,
    seen_filter: bool,
    k: int = 10,
    users: int | None = None,
    seed: int = 0,
    heads: Sequence[str] = HEADS,
) -> Judge:
    """Fit the temperature and the heads of a trained system on the validation queries of a split.

    users: how many of the queries are read, drawn with `seed`; None: all. heads: names of `FORECASTS`; the soft ones
    learn p_answer (the share of right answers, were they drawn by p), the others hits. Raises `ValueError` for a split
    with fewer than 10 validation queries, and as `confidence.scored` does.
    """
    from sklearn.isotonic import IsotonicRegression

    queries = drawn(split.valid, users, seed)
    if len(queries) < 10:
        raise ValueError(f"{split.log.name}: {len(queries)} validation queries are too few to fit on; it takes 10.")
    fitting = halves(queries.user.cpu().numpy(), seed)
    first = queries.select(torch.from_numpy(fitting).to(queries.user.device))
    temperature = fit_temperature(model, first, split.n_items, seen_filter, seed=seed)
    with_states = any(name.startswith("states") for name in heads)
    valid = confidence(model, queries, split.n_items, seen_filter, k, temperature, with_states)
    hit, soft = valid.frame["hit"].to_numpy(float), valid.frame["p_answer"].to_numpy()
    fitted = {}
    for name in heads:
        features = valid.states if name.startswith("states") else valid.scalars()
        if features is not None:
            features = _length(valid) if name == "length" else features
            fitted[name] = fit_head(features, soft if name.endswith("soft") else hit, fitting, seed)
    isotonic = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    isotonic.fit(valid.frame["mass"].to_numpy()[fitting], hit[fitting])
    return Judge(model, temperature, valid, fitting, fitted, isotonic)


def after_each_event(judge: Judge, history: History, answer: int = 0, longest: int = 30) -> pd.DataFrame:
    """The forecasts of a hit after each of the last events of a history, with what came next.

    answer: the item after the last event, 0 = unknown. Columns event (from 1, in the whole history), item, next (0 =
    unknown), hit, and the forecasts "mass" and that of P(IK). The items before the history are known too.
    """
    items = torch.cat([history.earlier, history.items])
    times = torch.cat([history.times[:1].expand(len(history.earlier)), history.times])
    first = max(0, len(items) - longest)
    ends = torch.arange(first + 1, len(items) + 1)
    unseen = next(one for one in range(1, len(items) + 2) if not bool((items == one).any()))
    stand_in = answer or min(unseen, judge.valid.n_items)  # an item that the seen filter would not remove
    following = torch.cat([items[first + 1 :], torch.tensor([stand_in])])
    sequences = Sequences(Events(items, times), torch.tensor([0, len(items)]))
    user = torch.full((len(ends),), history.user)
    queries = Queries(sequences, user, Events(following, times[ends - 1]), torch.zeros_like(ends), ends)
    of = judge.confidence(queries)
    known = np.r_[np.ones(len(ends) - 1, bool), bool(answer)]
    return of.frame[["item"]].assign(
        event=ends.numpy(), next=following.numpy() * known, item=items[ends - 1].numpy(), hit=of.frame["hit"] & known,
        **{name: judge.forecast(of, name) for name in ("mass", judge.best)},
    )  # fmt: skip


def halves(users: np.ndarray, seed: int) -> np.ndarray:
    """Whether each row belongs to the first half, drawn by user: all rows of a user are in one half; (Q,) bool."""
    distinct, at = np.unique(users, return_inverse=True)
    first = np.zeros(len(distinct), bool)
    first[np.random.default_rng(seed).permutation(len(distinct))[: (len(distinct) + 1) // 2]] = True
    return first[at]


def _length(of: Confidence) -> Tensor:
    """(Q, 1) the log of the number of events."""
    return of.scalars()[:, -1:]
