"""What a system expects of the next event's time: intensities, survival and PIT of models, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.datasets.history import History, batch_of
from seqlab.datasets.item_names import item_names
from seqlab.runtime.modules import device_of, evaluating

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from seqlab.datasets.sequences import Batch
    from seqlab.datasets.splits import Split
    from seqlab.evaluation.outcome import Outcome

DAY = 86_400.0


def events_of(split: Split, user: int | History, start: float = -torch.inf, end: float = torch.inf) -> pd.DataFrame:
    """The events between two times (unix seconds): columns event (from 0), time, item, title, wait (days).

    user: a number of the log, with all events, also those of validation and test; or a History.
    """
    import pandas as pd

    batch = _history(split, user)
    times, items = batch.times[0].numpy(), batch.items[0].numpy()
    names = item_names(split.log)
    titles = [names[item - 1] for item in items]
    table = pd.DataFrame({"event": range(len(times)), "time": times, "item": items, "title": titles})
    table["wait"] = table["time"].diff() / DAY
    return table[table["time"].between(start, end)].reset_index(drop=True)


@torch.no_grad()
def intensity_over_time(
    models: Mapping[str, nn.Module], split: Split, user: int | History, days: float = 14, last: int = -1,
    steps: int = 24,
) -> pd.DataFrame:  # fmt: skip
    """The intensity, events per day, at each time before an event of a user, given the events before that time.

    days: length of the window; last: the event at which it ends. steps: times per day. Columns model, time (unix
    seconds), event (the one before), since (days since then), intensity, and one column per item, "item 1" and so on,
    with its share of the intensity.
    """
    import pandas as pd

    batch = _history(split, user)
    times = batch.times[0]
    last = range(len(times))[last]
    count = round(days * steps)
    grid = times[last] - days * DAY * torch.arange(count, -1, -1, dtype=torch.float64) / count
    grid = grid[grid > times[0]]
    event = (torch.searchsorted(times, grid) - 1).clamp(min=0)  # strictly before
    since = (grid - times[event]) / DAY
    parts = []
    for label, model in models.items():
        with evaluating(model):
            on_device = batch.to(device_of(model))
            at = event.to(device_of(model))
            wait = model.next_time(on_device)[torch.zeros_like(at), at]
            intensity = _intensity(wait, since.float().to(at.device)).cpu()
            shares = model.mark_log_probs(on_device)[0, at].exp().cpu()  # (grid, N + 1)
        columns = {"model": label, "time": grid, "event": event, "since": since, "intensity": intensity}
        columns |= {f"item {item}": shares[:, item] for item in range(1, shares.shape[1])}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


@torch.no_grad()
def after_event(
    models: Mapping[str, nn.Module], split: Split, user: int | History, event: int = -1, days: float = 14,
    points: int = 337, factor: float = 1.0,
) -> pd.DataFrame:  # fmt: skip
    """The intensity, density and survival of the wait after one event of a user, given the events up to it.

    factor: the wait before the event is multiplied by it first; the event itself keeps its time, all earlier events
    move. Columns model, days, time (unix seconds), intensity, density (both per day), survival.
    """
    import pandas as pd

    batch = _history(split, user)
    at = range(len(batch.times[0]))[event]
    times = batch.times[:, : at + 1].clone()
    if at:
        times[:, :at] += (1 - factor) * (times[:, at] - times[:, at - 1])
    batch = replace(batch, events=replace(batch.events[:, : at + 1], times=times), lengths=torch.tensor([at + 1]))
    grid, parts = torch.linspace(0, days, points + 1)[1:], []
    for label, model in models.items():
        with evaluating(model):
            place = torch.full((points,), at, device=device_of(model))
            wait = model.next_time(batch.to(place.device))[torch.zeros_like(place), place]
            on_device = grid.to(place.device)
            columns = {
                "model": label, "days": grid, "time": times[0, at] + grid.double() * DAY,
                "intensity": _intensity(wait, on_device).cpu(), "density": wait.log_prob(on_device).exp().cpu(),
                "survival": wait.log_survival(on_device).exp().cpu(),
            }  # fmt: skip
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


@torch.no_grad()
def survival_fan(
    models: Mapping[str, nn.Module], split: Split, user: int, days: float = 30, points: int = 120,
    shares: Sequence[float] = (0.1, 0.5, 0.9),
) -> pd.DataFrame:  # fmt: skip
    """The survival of the waits after all events of a user but the last, beside how many of them really lasted longer.

    Columns model, days, observed (the share of the user's waits above these days), mean, and one column per share with
    that quantile over the events, such as "10 %".
    """
    import pandas as pd

    batch = _history(split, user)
    waits = batch.times[0].diff() / DAY
    grid = torch.linspace(0, days, points + 1)[1:]
    observed = (waits > grid[:, None]).double().mean(1)
    parts = []
    for label, model in models.items():
        with evaluating(model):
            wait = model.next_time(batch.to(device_of(model)))[0, torch.arange(len(waits))]
            survival = wait.log_survival(grid[:, None].to(device_of(model))).exp().cpu()  # (points, T - 1)
        columns = {"model": label, "days": grid, "observed": observed, "mean": survival.mean(1)}
        columns |= {f"{share:.0%}".replace("%", " %"): survival.quantile(share, dim=1) for share in shares}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def pit_points(outcomes: Mapping[str, Outcome], points: int = 199) -> pd.DataFrame:
    """The quantiles of the PIT of the measured waits, which are uniform for a calibrated model.

    Columns model, level, observed (the quantile of the PIT at this level), share (of waits whose PIT is below the
    level), expected, rescaled: the same quantiles of -log(1 - PIT), the intensity integrated over the wait, which is
    exponential of mean 1 for a calibrated model.
    """
    import numpy as np
    import pandas as pd

    levels, parts = np.arange(1, points + 1) / (points + 1), []
    for label, outcome in outcomes.items():
        pit = np.sort(outcome.frame["pit"].to_numpy())
        quantiles = np.quantile(pit, levels)
        parts.append(
            pd.DataFrame(
                {
                    "model": label,
                    "level": levels,
                    "observed": quantiles,
                    "share": np.searchsorted(pit, levels, side="right") / len(pit),
                    "expected": -np.log1p(-levels),
                    "rescaled": -np.log1p(-np.minimum(quantiles, 1 - 1e-12)),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _history(split: Split, user: int | History) -> Batch:
    """All events of a user, also those of validation and test, or those of a History: a batch of one row."""
    if isinstance(user, History):
        return batch_of([user])
    events = split.test.sequences.to("cpu")
    start, end = events.offsets[user - 1], events.offsets[user]
    return events.gather(start[None], (end - start)[None], torch.tensor([user]))


def _intensity(wait, days: Tensor) -> Tensor:
    """Density over survival, for any distribution of waits."""
    return (wait.log_prob(days) - wait.log_survival(days)).exp()
