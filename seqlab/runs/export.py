"""A trained system as an ONNX model, for services that run neither Python nor torch."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seqlab.contracts import Scores, name_of, needs_of, supports
from seqlab.datasets.events import Events
from seqlab.datasets.sequences import Batch
from seqlab.ranking import catalogue_scorer, check_k
from seqlab.runtime.files import atomic_write
from seqlab.runtime.modules import evaluating
from seqlab.runtime.provenance import version
from seqlab.runtime.text import first_line
from seqlab.tasks.next_item import full_history

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from seqlab.datasets.sequences import Queries

LONGEST = 4096
"""Events of a history at most, for a system without `max_length`."""

USERS = 200
"""Users on whom the exported model must agree with torch."""

TOLERANCE = 1e-4
"""The largest difference of a score, relative to the largest absolute score of its user (or to 1)."""


@dataclass(frozen=True)
class Exported:
    """An ONNX model that agrees with torch.

    inputs: its names: items (B, T) int64, 0 = padding on the right; times (B, T) float64, unix seconds, if the system
    reads them; seen (B, S) int64, the items to leave out, 0 = none, if there is a seen filter. outputs: top_items and
    top_scores (B, k), item 0 with score -inf where there are fewer; or scores (B, N + 1). longest: T at most.
    fixed: T is always `longest`. difference: the largest one of a score on `users` users.
    """

    file: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    longest: int
    fixed: bool
    users: int
    difference: float


class _Ranker(nn.Module):
    """The scores, or the k best items, of a system; without masks that depend on values, which ONNX does not have."""

    def __init__(self, model: nn.Module, k: int | None) -> None:
        super().__init__()
        self.model, self.k = model, k

    def forward(self, items: Tensor, times: Tensor, seen: Tensor | None = None) -> tuple[Tensor, ...]:
        lengths = (items > 0).sum(1)  # (B,)
        scores = self.model.score(Batch(Events(items, times), lengths, torch.zeros_like(lengths))).float()  # (B, N + 1)
        out = torch.zeros_like(items[:, :1]) if seen is None else nn.functional.pad(seen, (1, 0))  # with padding
        scores = scores.scatter(1, out, -torch.inf)
        if self.k is None:
            return (scores,)
        best, found = scores.topk(self.k, dim=1)  # (B, k)
        return found.masked_fill(best == -torch.inf, 0), best


def to_onnx(
    model: nn.Module, queries: Queries, n_items: int, file: Path, k: int | None = 10, seen_filter: bool = False
) -> Exported:
    """Write a system with `score` as an ONNX model of the k best items (None: of all scores), for any number of users.

    It is compared with torch on `USERS` of the queries first. A system whose length of history cannot vary in ONNX is
    exported for its longest one. All users are new to the exported model: it has no parameters of single users. Needs
    the extra: pip install 'seqlab[export]'; raises `ImportError` without it. Raises `ValueError` for a system that
    cannot be exported, or whose exported scores differ; then no file is written.
    """
    check(model)
    model, k = model.cpu(), None if k is None else min(check_k(k), n_items)
    longest = model.config.max_length or LONGEST
    ranker = _Ranker(model, k).eval()
    names = ("scores",) if k is None else ("top_items", "top_scores")
    fixed, failure = longest == 1, None
    with evaluating(model), torch.no_grad():
        try:
            proto = _convert(ranker, names, longest, fixed, seen_filter)
        except Exception as error:  # the exporters raise errors of many types
            proto, failure = None, error
        if proto is None and not fixed and model.config.max_length is not None:
            with contextlib.suppress(Exception):
                proto, fixed = _convert(ranker, names, longest, True, seen_filter), True
        if proto is None:
            while failure.__cause__ is not None:
                failure = failure.__cause__
            raise ValueError(
                f"{name_of(model)} cannot be exported: its computation depends on values or lengths as no graph can "
                f"(the exporter: {first_line(failure)})."
            ) from failure
        inputs = tuple(one.name for one in proto.graph.input)
        about = {"system": name_of(model), "seqlab": version("seqlab"), "n_items": n_items, "k": k, "longest": longest}
        about |= {"fixed_length": fixed, "seen_filter": seen_filter}
        for key, value in about.items():
            proto.metadata_props.add(key=key, value=json.dumps(value))
        content = proto.SerializeToString()
        users, difference = _compare(ranker, content, queries, inputs, longest, fixed, seen_filter)
    atomic_write(file, content)
    return Exported(file, inputs, names, longest, fixed, users, difference)


def check(model: nn.Module) -> None:
    """Raise `ValueError` for a system that has no ONNX export, and `ImportError` where a package is missing."""
    name = name_of(model)
    if not supports(model, Scores) or catalogue_scorer(model) != model.score:
        raise ValueError(
            f"{name} makes its lists by a search, item by item, which is no graph of fixed operations: only systems "
            "that score all items at once, such as sasrec, can be exported."
        )
    if needs := needs_of(model):
        raise ValueError(
            f"{name} reads further columns ({', '.join(needs)}), for which an exported model has no input."
        )
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Exporting to ONNX needs packages that are not installed: pip install 'seqlab[export]'."
        ) from error


def _convert(ranker: _Ranker, names: tuple[str, ...], longest: int, fixed: bool, seen_filter: bool) -> Any:
    """The model as an `onnx.ModelProto`, without the inputs that it does not read."""
    users = torch.export.Dim("users", min=1)
    events = None if fixed else torch.export.Dim("events", min=1, max=longest)
    width = longest if fixed else min(4, longest)
    items = torch.ones(3, width, dtype=torch.long)
    given = {"items": items, "times": torch.arange(items.numel(), dtype=torch.float64).view_as(items)}
    shapes: dict[str, dict[int, Any]] = {name: {0: users, 1: events} for name in given}
    if seen_filter:
        given["seen"] = items[:, :2].repeat(1, 3)
        shapes["seen"] = {0: users, 1: torch.export.Dim("seen", min=1)}
    with _quiet():
        program = torch.export.export(ranker, (), given, dynamic_shapes=shapes, strict=True)
        converted = torch.onnx.export(
            program, (), input_names=list(given), output_names=list(names), dynamo=True, verbose=False
        )
    inputs = {value.name: value for value in converted.model.graph.inputs}
    uses = list(inputs["times"].uses())
    if all(use.node.op_type == "Shape" for use in uses):  # items have the same shape
        for use in uses:
            use.node.replace_input_with(use.idx, inputs["items"])
    for value in inputs.values():
        if not value.uses():
            converted.model.graph.inputs.remove(value)
    return converted.model_proto


def _compare(
    ranker: _Ranker,
    content: bytes,
    queries: Queries,
    inputs: tuple[str, ...],
    longest: int,
    fixed: bool,
    filtered: bool,
) -> tuple[int, float]:
    """The number of users compared, and the largest difference of a score; too large a one raises `ValueError`."""
    session, worst = session_of(content), 0.0
    drawn = torch.randperm(len(queries), generator=torch.Generator().manual_seed(0))[:USERS]
    chosen = queries.to("cpu").select(drawn)
    for rows, batch in chosen.batches(longest, longest * 16, 64):
        seen = full_history(chosen, rows, batch.items) if filtered else None
        items, times = batch.items, batch.times
        if fixed:
            items, times = (nn.functional.pad(x, (0, longest - x.shape[1])) for x in (items, times))
        given = {"items": items, "times": times} | ({"seen": seen} if filtered else {})
        found = [torch.from_numpy(one) for one in session.run(None, {one: given[one].numpy() for one in inputs})]
        expected = _Ranker(ranker.model, None)(batch.items, batch.times, seen)[0]  # (B, N + 1)
        scale = expected.masked_fill(expected == -math.inf, 0).abs().amax(1, keepdim=True).clamp(min=1)
        if ranker.k is None:
            pairs = [(expected, found[0])]
        else:  # the scores of the items that were found, and the best scores there are
            pairs = [(expected.gather(1, found[0]), found[1]), (expected.topk(ranker.k, dim=1).values, found[1])]
        for wanted, got in pairs:
            difference = (wanted - got).abs().masked_fill(wanted == got, 0) / scale  # equal infinities are equal
            worst = max(worst, float(difference.nan_to_num(nan=math.inf).max()))
    if worst > TOLERANCE:
        raise ValueError(
            f"{name_of(ranker.model)} has other scores in ONNX than in torch, by up to {worst:.2g} of the largest: no "
            "file is written."
        )
    return len(chosen), worst


def session_of(model: bytes | Path, threads: int = 1) -> InferenceSession:
    """A session of ONNX Runtime on the CPU that runs an exported model with so many threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of the exporters, which are about their own parts."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
