"""The contract every system keeps, and how one is written to a folder and read back."""

from __future__ import annotations

import dataclasses
import json
import math
import operator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seqlab.datasets.sequences import Batch
    from seqlab.datasets.splits import Split

PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz"}
"""Endings of files that may be read by running what they hold."""

BLOCK = 16
"""Columns of scores that are searched together or not at all."""

SPARE = 4
"""How many times the items that are needed a list is first asked for, when those of the history are left out."""

HARMLESS = 1 << 30
"""Bytes that may be built from a description before its weights are read, however few those are."""


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
    """The best items first: items (B, k) int64, scores (B, k); item 0 with score -inf where fewer than k exist.

    No ranking is wider than the catalogue. Equal scores are a tie, in whatever order its items stand.
    more: (B, M) the items beyond the list that tie with its last one, 0 = none; None: not known.
    """

    items: Tensor
    scores: Tensor
    more: Tensor | None = None


@runtime_checkable
class Recommender(Protocol):
    """What a system offers. It is an `nn.Module` built as `System(config, n_items)`.

    Next to `recommend` it has what its kind needs:
    `loss(batch) -> Loss` if it is trained by gradient; `calibrate(split, seen_filter) -> None` if something is chosen
    on validation after that, and kept in buffers; `prepare(split) -> None` if it first learns something from the
    training part in one look (counts, a graph, a codebook) and keeps it in buffers; `score(batch) -> (B, N + 1)` if
    it can score the whole catalogue (column 0 is padding; a fresh tensor, which the caller may write to). Systems
    without `score` are evaluated by their lists: one that fills in `Ranking.more` need not be asked for a longer list
    to learn where the tie of the last item ends.
    """

    config: Any

    def recommend(self, batch: Batch, k: int) -> Ranking: ...


def check_k(k: int) -> int:
    """The length of a list that is wanted, as an int. Raises `ValueError` for what is no whole number from 1 on."""
    try:
        number = operator.index(k)
    except TypeError:
        number = 0
    if number < 1 or isinstance(k, bool):
        raise ValueError(f"k counts from 1 (got {k})")
    return number


def top(scores: Tensor, k: int) -> Ranking:
    """The k best columns of (B, N + 1) scores, or all N; padding is never among them."""
    k, scores = check_k(k), scores.clone()
    scores[:, 0] = -torch.inf
    best, items = highest(scores, min(k, scores.shape[1] - 1))
    return Ranking(items.masked_fill(best == -torch.inf, 0), best)


def highest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`scores.topk(k, dim=1)`: values and columns (B, k), in a fraction of its time for a few of many on a CPU.

    Every `columns // BLOCK`-th column is of one block. The k best lie in the k blocks of highest maxima, which are
    found likewise: only those are searched, and the rest of the columns that fills no block.
    """
    rows, columns = scores.shape
    if scores.device.type != "cpu" or columns < 8 * BLOCK * k:
        return tuple(scores.topk(k, dim=1))
    n = columns // BLOCK
    maxima = scores[:, : n * BLOCK].unflatten(1, (BLOCK, n)).amax(1)  # (B, n)
    chosen = highest(maxima, k)[1][:, :, None]  # (B, k, 1)
    places = (chosen + n * torch.arange(BLOCK)).flatten(1)
    places = torch.cat([places, torch.arange(n * BLOCK, columns).expand(rows, -1)], 1)  # (B, k BLOCK + rest)
    best, at = scores.gather(1, places).topk(k, dim=1)
    return best, places.gather(1, at)


Pairs = tuple[Tensor, Tensor]
"""Items of some rows of a batch: (E,) the row of each, from 0, and (E,) the item."""


def pairs(items: Tensor) -> Pairs:
    """The items of padded rows (B, T) as pairs; 0 is nothing."""
    row, place = items.nonzero(as_tuple=True)
    return row, items[row, place]


def top_unseen(model: nn.Module, batch: Batch, k: int, seen: Tensor | Pairs | None = None) -> Ranking:
    """The k best items a user has not met, or all N: `seen` is what each row has met (None: the batch's own items).

    seen: (B, X) item ids, 0 = nothing, or pairs, which need no padding to the longest history.
    A system that only lists is asked for `SPARE` times as many, and again for twice that only for those who have met
    too many of them: a longer list costs a wider beam.
    """
    k, seen = check_k(k), batch.items if seen is None else seen
    seen = pairs(seen) if isinstance(seen, Tensor) else seen
    if hasattr(model, "score"):
        scores = model.score(batch)
        scores[seen] = -torch.inf
        return top(scores, k)
    return _listed(model, batch, k, SPARE * k, seen)


def tied_list(model: nn.Module, batch: Batch, k: int, seen: Pairs | None = None, n_items: float = math.inf) -> Ranking:
    """The k best items of a system that only lists, with all `more` that tie with the last: of those not `seen`.

    Where the system does not tell `more`, it is asked for a list twice as long until the tie has ended, and never for
    one longer than the `n_items` of the catalogue. Without `seen` nothing is left out.
    """
    k, nothing = check_k(k), batch.user.new_zeros(0)
    return _listed(model, batch, k, k if seen is None else SPARE * k, seen or (nothing, nothing), True, n_items)


def _listed(
    model: nn.Module, batch: Batch, k: int, asked: int, seen: Pairs, ties: bool = False, n_items: float = math.inf
) -> Ranking:
    """The k best items not `seen`, from a list of `asked` and, for those for whom that is too few, of ever more.

    ties: find `more` too.
    """
    device, known = seen[0].device, _key(*seen)
    rows, most = torch.arange(len(batch), device=device), k + torch.bincount(seen[0], minlength=len(batch))
    best = Ranking(most.new_zeros(len(batch), k), torch.full((len(batch), k), -torch.inf, device=device))
    parts = []
    while len(rows):
        asked = min(asked, n_items)
        longer = model.recommend(batch.select(rows), asked)
        met = torch.isin(_key(rows[:, None], longer.items), known)  # (B', asked)
        scores, order = longer.scores.masked_fill(met, -torch.inf).sort(dim=1, descending=True, stable=True)
        items = longer.items.gather(1, order).masked_fill(scores == -torch.inf, 0)
        k = min(k, items.shape[1])
        best = Ranking(best.items[:, :k], best.scores[:, :k])
        best.items[rows], best.scores[rows] = items[:, :k], scores[:, :k]
        last = scores[:, k - 1]
        again = (last == -torch.inf) & (asked < most[rows])
        if ties:
            lowest, tied = longer.scores[:, -1], items[:, k:] * (scores[:, k:] == last[:, None])
            if longer.more is None:
                again |= (last > -torch.inf) & (last == lowest)
            else:
                unmet = longer.more * ~torch.isin(_key(rows[:, None], longer.more), known)
                tied = torch.cat([tied, unmet * (last == lowest)[:, None]], 1)
            parts.append((rows, tied))
        again &= asked < n_items and asked <= longer.items.shape[1]  # else there is no longer list
        rows, asked = rows[again], 2 * asked
    if not ties:
        return best
    more = best.items.new_zeros(len(batch), max((tied.shape[1] for _, tied in parts), default=0))
    for rows, tied in parts:
        more[rows] = torch.nn.functional.pad(tied, (0, more.shape[1] - tied.shape[1]))
    return dataclasses.replace(best, more=more)


def _key(row: Tensor, item: Tensor) -> Tensor:
    """One number for a row and an item."""
    return (row << 40) | item


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
        state = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights} cannot be read: {error}.") from error
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = dataclasses.asdict(models.configure(described["system"], described["config"]))  # numbers for text
        what = described["system"], described["n_items"], config
        _must_fit(*what, weights.stat().st_size, len(state))
        model = models.build(*what)
    except Exception as error:  # a stranger's numbers may upset any constructor
        raise ValueError(f"{folder / 'config.json'} describes no system: {error or type(error).__name__}.") from error
    read_state(model, state, folder)
    return model.eval()


def _must_fit(system: str, n_items: int, config: dict[str, Any], size: int, tensors: int) -> None:
    """Raise `ValueError` where a stranger's numbers would build far more than the weights hold, in bytes or tensors."""
    from seqlab import models

    depth = max([config.get("layers", 0), *(len(one) for one in config.values() if isinstance(one, tuple))])
    if depth > tensors:  # each layer or level has some of its own, and takes its time to build
        raise ValueError(f"it promises {depth:,} layers or levels, but the weights have {tensors:,} tensors")
    largest = max((abs(one) for one in _numbers(config)), default=0)
    if 4 * largest * max(n_items, largest) > HARMLESS:
        with torch.device("meta"):  # builds for nothing, but takes seconds to import
            promised = sum(tensor.nbytes for tensor in models.build(system, n_items, config).state_dict().values())
        if promised > size + HARMLESS:
            raise ValueError(f"it promises {promised:,} bytes of weights, but they have {size:,}")


def _numbers(value: Any) -> Iterator[int]:
    """All whole numbers in a configuration."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)


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
