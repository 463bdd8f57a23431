"""The contract every system keeps, and how one is written to a folder and read back."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from seqlab.datasets.sequences import Batch
    from seqlab.datasets.splits import Split

PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz"}
"""Endings of files that may be read by running what they hold."""

SLACK = 1 << 20
"""Bytes by which a system that was only just built may be larger than its weights on disk."""


@dataclass(frozen=True)
class Loss:
    """A training objective: `total` is minimised, `parts` are its named terms (unweighted, detached) for the eye.

    `total` is a mean over `count` answers, by which several processes weigh their shares of a batch; None: over all
    targets of the batch.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    count: int | None = None


@dataclass(frozen=True)
class Ranking:
    """The best items first: items (B, k) int64, scores (B, k); item 0 with score -inf where fewer than k exist."""

    items: Tensor
    scores: Tensor


@runtime_checkable
class Recommender(Protocol):
    """What a system offers. It is an `nn.Module` built as `System(config, n_items)`.

    Next to `recommend` it has what its kind needs:
    `loss(batch) -> Loss` if it is trained by gradient; `prepare(split) -> None` if it first learns something from the
    training part in one look (counts, a graph, a codebook) and keeps it in buffers; `score(batch) -> (B, N + 1)` if
    it can score the whole catalogue (column 0 is padding; a fresh tensor, which the caller may write to). Systems
    without `score` are evaluated by their lists.
    """

    config: Any

    def recommend(self, batch: Batch, k: int) -> Ranking: ...


def top(scores: Tensor, k: int) -> Ranking:
    """The k best columns of (B, N + 1) scores, padding never among them."""
    scores = scores.clone()
    scores[:, 0] = -torch.inf
    best, items = scores.topk(min(k, scores.shape[1] - 1), dim=1)
    return Ranking(items.masked_fill(best == -torch.inf, 0), best)


def top_unseen(model: nn.Module, batch: Batch, k: int, seen: Tensor | None = None) -> Ranking:
    """The k best items a user has not met: `seen` (B, X) item ids, 0 = nothing (None: the batch's own items)."""
    seen = batch.items if seen is None else seen
    if hasattr(model, "score"):
        scores = model.score(batch)
        return top(scores.scatter(1, seen, -torch.inf), k)
    longer = model.recommend(batch, k + seen.shape[1])
    met = (longer.items[:, :, None] == seen[:, None, :]).any(-1)  # (B, k + X)
    scores, order = longer.scores.masked_fill(met, -torch.inf).sort(dim=1, descending=True, stable=True)
    items = longer.items.gather(1, order).masked_fill(scores == -torch.inf, 0)
    return Ranking(items[:, :k], scores[:, :k])


def device_of(model: nn.Module) -> torch.device:
    """Where the model's tensors live (CPU for a model that has none)."""
    tensor = next(model.parameters(), None)
    if tensor is None:
        tensor = next(model.buffers(), torch.empty(0))
    return tensor.device


def save(model: nn.Module, folder: Path, system: str, n_items: int) -> None:
    """Write `config.json` and `model.safetensors`: all that `load` needs to build the model again."""
    from safetensors.torch import save_file

    described = {"system": system, "n_items": n_items, "config": dataclasses.asdict(model.config)}
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    # clone: a tied or sliced tensor shares memory, which safetensors refuses
    save_file(
        {name: t.detach().cpu().contiguous().clone() for name, t in model.state_dict().items()},
        folder / "model.safetensors",
    )


def load(folder: str | Path) -> nn.Module:
    """Build the model that `save` (or `fit`) wrote to `folder`, in evaluation mode on the CPU.

    Raises `FileNotFoundError` where a file is missing, `ValueError` where the files do not fit together or one of them
    could hold code, or leads out of the folder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from seqlab import models

    folder = Path(folder)
    for needed in ("config.json", "model.safetensors"):
        if not (folder / needed).is_file():
            raise FileNotFoundError(f"{folder} is not a finished run: {needed} is missing.")
    for path in folder.iterdir():
        if path.suffix in PICKLES:
            raise ValueError(f"{path} can hold code, which seqlab never writes and never runs; take it away.")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{path} is a link to another place; a run is read from its own folder alone.")
    weights = folder / "model.safetensors"
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        what = described["system"], described["n_items"], described["config"]
        with torch.device("meta"):  # costs nothing, whatever the numbers in a stranger's file
            promised = sum(tensor.nbytes for tensor in models.build(*what).state_dict().values())
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        raise ValueError(f"{folder / 'config.json'} describes no system: {error or type(error).__name__}.") from error
    if promised > weights.stat().st_size + SLACK:
        raise ValueError(
            f"{folder / 'config.json'} promises {promised:,} bytes of weights, but {weights.name} has fewer: weights "
            "and configuration do not fit."
        )
    model = models.build(*what)
    try:
        state = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights} cannot be read: {error}.") from error
    read_state(model, state, folder)
    return model.eval()


def read_state(model: nn.Module, state: dict[str, Tensor], origin: Path | str) -> None:
    """Parameters must fit; buffers, whose size may come from data (counts, codes), are taken as they are.

    Raises `ValueError` that names the `origin` of the state where the parameters do not fit.
    """
    for name in [name for name, _ in model.named_buffers()]:
        if name in state:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, state[name])
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{origin}: weights and configuration do not fit: {error}") from error


def prepare(model: nn.Module, split: Split) -> None:
    """Let a system that learns something in one look at the training part do so; others are left alone."""
    if hasattr(model, "prepare"):
        model.prepare(split)
