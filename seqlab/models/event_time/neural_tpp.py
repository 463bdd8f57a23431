"""Neural TPP: a recurrent network reads waits, items and the clock, and gives the density of the next wait.

Paper: Shchur et al., "Intensity-Free Learning of Temporal Point Processes", ICLR 2020. The density of the wait is a
mixture of log-normals whose parameters come from the state of a GRU; the item is predicted apart from the same state.
With head=rmtpp the wait has the intensity `exp(v . h + b + w wait)` of Du et al., "Recurrent Marked Temporal Point
Processes", KDD 2016. Other encoders of events (attention, continuous-time LSTM) differ in the state only.

Confirmed against the authors' code (shchur/ifl-tpp): log-waits standardised by their mean and deviation in training,
16 components, log-scales bounded in [-5, 3] with gradients kept, waits and items independent given the state, the
log-survival of the time from the last event to the end of observation.
Changed on purpose: operational time (`clock`) and a rate per user (`personal`) as units of the wait, both counted in
training, and features of the hour of the week; the mixture starts at the one that EM finds; the first event of a user
is given, for there is no state before it; the end of observation counts only for users all of whose events are in
training.
Reconstructed: sizes and training of the small form.
Held against: the authors' densities and loss on fixed weights; household_rate on complete-journey-trips (`CARD`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.contracts import Card, Loss, Measurement, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.datasets.waits import SHORTEST, open_waits, user_rates, waits_of
from seqlab.layers import initialization
from seqlab.layers.clock import CYCLES, DAY, WeeklyProfile, clock_features
from seqlab.layers.dropout import Dropout
from seqlab.layers.event_heads import GompertzHead, LogNormalHead, OperationalWait
from seqlab.layers.item_sources import IdEmbedding
from seqlab.ranking import top
from seqlab.runtime.settings import Count, NonNegativeFloat, Share, settings
from seqlab.tracing import Tap

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

CARD = Card(
    claim="A neural point process beats counting in likelihood and in the prediction of the next event.",
    title="Intensity-Free Learning of Temporal Point Processes",
    authors="Shchur et al.",
    year=2020,
    venue="ICLR",
    task="event_time",
    controls=("household_rate:mixture=0", "household_rate", "neural_tpp:clock=false",
              "neural_tpp:no_history"),
    control_names={
        "household_rate:mixture=0": "a rate per user on the weekly clock",
        "household_rate": "the same with a mixture of three log-normals",
        "neural_tpp:clock=false": "the same network without a clock",
        "neural_tpp:no_history": "the same head on a constant state of the user",
    },
    homes=("complete-journey-trips",),
    split="within-user 0.2 0.1",
    seeds=(0, 1, 2),
    named={"no_history": "history=false:learning_rate=5e-3"},
    measured=(
        Measurement(arms=("neural_tpp", "neural_tpp:head=rmtpp"), against=(
            "household_rate:mixture=0", "household_rate", "household_rate:running=true", "neural_tpp:clock=false",
            "neural_tpp:no_history",
        )),
    ),
)  # fmt: skip
TINY = {"dim": 8, "components": 2, "users": 16, "dropout": 0.0}


@settings
class Config:
    """Settings, with those of the authors beside them."""

    max_length: Count | None = None  # of a training crop; measured on whole histories
    dim: Count = 32  # of the state; 64
    head: Literal["lognormal", "rmtpp"] = "lognormal"
    components: Count = 16  # log-normals of the mixture; 16
    clock: bool = True  # operational time of the hours of the week, and features of the clock
    personal: bool = True  # waits in units of the user's mean wait in training
    history: bool = True  # false: the state is an embedding of the user, the same after every event
    users: Count = 4096  # rows of that table; a user has the row of its number modulo this
    shrinkage: NonNegativeFloat = 20.0  # pseudo-events at the rate of all users
    tail: bool = True  # the time to the end of observation counts for users all of whose events are in training
    dropout: Share = 0.0  # of the events' vectors and of the state


class NeuralTPP(nn.Module):
    """`h_i = GRU(h_{i-1}, [log wait, item, clock])`; the next wait is `head(h_i)` in operational time from event i."""

    scale: Tensor
    mean: Tensor
    deviation: Tensor
    ends: Tensor

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.profile = WeeklyProfile()
        self.register_buffer("scale", torch.ones(1))  # (U + 1,) events per day of each user
        self.register_buffer("mean", torch.zeros(()))  # of the log-waits that are read
        self.register_buffer("deviation", torch.ones(()))
        # (U + 1, 2): the last event and the end of observation of users with a tail, 0 for others
        self.register_buffer("ends", torch.zeros(1, 2, dtype=torch.float64))
        if config.history:
            self.items = IdEmbedding(n_items, config.dim)
            self.features = nn.Linear(2 + 2 * len(CYCLES) * config.clock, config.dim)
            self.cell = nn.GRU(config.dim, config.dim, batch_first=True)
            initialization.normal(self.items, std=0.3)
        else:
            self.item_vectors = None
            self.states = nn.Embedding(config.users, config.dim)
            initialization.normal(self.states, std=0.3)
        self.dropout = Dropout(config.dropout)
        self.head = (
            LogNormalHead(config.dim, config.components) if config.head == "lognormal" else GompertzHead(config.dim)
        )
        self.marks = nn.Linear(config.dim, n_items + 1)
        self.hidden = Tap("hidden", "user event dim")

    def prepare(self, split: Split) -> None:
        """Count the profile and the rates of users; start the head at the waits, the items at their shares."""
        config, device = self.config, self.scale.device
        if config.clock:
            self.profile.fit(split.train.times.cpu())
        user, start, end = (part.cpu() for part in waits_of(split.train))
        open_user, open_start, open_end = open_waits(split)
        self.ends = torch.zeros(split.n_users + 1, 2, dtype=torch.float64, device=device)
        if config.tail:
            self.ends[open_user.to(device)] = torch.stack([open_start, open_end], 1).to(device)
        days, tail = self._passed(start, end), self._passed(open_start, open_end) * config.tail
        rates = user_rates(user, days, split.n_users, config.shrinkage, (open_user, tail))
        self.scale = (rates if config.personal else torch.ones_like(rates)).float().to(device)
        if not len(days):
            return
        self.mean.copy_(days.log().mean())
        self.deviation.copy_(days.log().std(correction=0).clamp(min=1e-3))
        self.head.fit((days * self.scale.cpu()[user]).to(device))
        counts = split.train.item_counts(split.n_items).to(device).float()
        with torch.no_grad():
            self.marks.bias.copy_((counts + 1).log() - (counts + 1).sum().log())
            nn.init.normal_(self.marks.weight, std=0.02)

    def encode(self, batch: Batch) -> Tensor:
        """The state after every event: (B, T, D)."""
        if not self.config.history:
            state = self.states(batch.user % self.config.users)[:, None].expand(*batch.items.shape, -1)
            return self.hidden(self.dropout(state))  # (B, T, D)
        # padding is on the right, so it reaches no state of an event
        waits = self._passed(batch.times[:, :-1], batch.times[:, 1:]).clamp(min=SHORTEST / DAY)
        waits = ((waits.log().to(self.mean.dtype) - self.mean) / self.deviation).clamp(-6, 6)  # (B, T - 1)
        first = torch.zeros_like(batch.items)
        first[:, 0] = 1
        parts = [F.pad(waits, (1, 0))[..., None], first[..., None].to(waits.dtype)]
        if self.config.clock:
            parts.append(clock_features(batch.times).to(waits.dtype))
        x = self.features(torch.cat(parts, -1)) + self.items.lookup(batch.items)  # (B, T, D)
        return self.hidden(self.dropout(self.cell(self.dropout(x))[0]))

    def item_vectors(self) -> Tensor:
        return self.items.table()  # (N + 1, D)

    def next_time(self, batch: Batch) -> OperationalWait:
        """The distribution of the wait after each event (B, T)."""
        return self._wait(batch, self.encode(batch))

    def mark_log_probs(self, batch: Batch) -> Tensor:
        return self._mark_log_probs(self.encode(batch))  # (B, T, N + 1)

    def loss(self, batch: Batch) -> Loss:
        """Minus the log-likelihood of waits and items, per event, and of the time to the end of observation."""
        whole = self._with_last_target(batch)
        state = self.encode(whole)
        waits = self._wait(whole, state)  # (B, T + 1)
        has_target = F.pad(batch.targets > 0, (0, 1))  # (B, T + 1)
        row, at = has_target.nonzero(as_tuple=True)
        days = ((whole.times[row, at + 1] - whole.times[row, at]).clamp(min=SHORTEST) / DAY).to(self.mean.dtype)
        time = -waits[row, at].log_prob(days).mean()
        mark = F.nll_loss(self._mark_log_probs(state[row, at]), whole.items[row, at + 1])
        parts = {"time": time.detach(), "mark": mark.detach()}
        last, end = self.ends[whole.user].unbind(1)
        left = (end - last) / DAY
        row = ((whole.last(whole.times) == last) & (left > 0)).nonzero()[:, 0]  # no crop that ends early
        tail = time.new_zeros(())
        if len(row):
            survival = waits[row, whole.lengths[row] - 1].log_survival(left[row].to(self.mean.dtype))
            tail = -survival.sum() / len(days)
        return Loss(time + mark + tail, parts | {"tail": tail.detach()}, len(days))

    def score(self, batch: Batch) -> Tensor:
        return batch.last(self.mark_log_probs(batch))  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)

    def _wait(self, batch: Batch, state: Tensor) -> OperationalWait:
        scale = self.scale[batch.user][:, None].expand(batch.times.shape)  # (B, T)
        return OperationalWait(self.head(state), self.profile, batch.times, scale)

    def _mark_log_probs(self, state: Tensor) -> Tensor:
        return F.pad(self.marks(state)[..., 1:].log_softmax(-1), (1, 0), value=-torch.inf)  # (..., N + 1)

    def _with_last_target(self, batch: Batch) -> Batch:
        """The inputs of a training batch and its last target: (B, T + 1)."""
        after = batch.target_events.map(lambda x: F.pad(x, (1, 0)))  # (B, T + 1), the first event missing
        first = batch.events[:, :1]
        items, times = after.items.clone(), after.times.clone()
        items[:, 0], times[:, 0] = first.items[:, 0], first.times[:, 0]
        return Batch(type(batch.events)(items, times), batch.lengths + 1, batch.user)

    def _passed(self, start: Tensor, end: Tensor) -> Tensor:
        """The operational time between two times (...), unix seconds, in days: (...) float64."""
        return self.profile.operational(end) - self.profile.operational(start)
