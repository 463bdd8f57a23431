"""Item vectors -> CodeBook (semantic IDs) with its Trie. One file = one tokenizer, found by its name.

A tokenizer is scikit-learn-like: the constructor stores its settings, `fit(X)` learns and returns itself,
`encode(X)` gives codes (n, C), `decode(codes)` gives vectors back (from fewer columns: a coarser vector).
After `fit`, `sizes_` holds the codes per level. `ordered` is False where the levels are parallel and none
refines another. (`make_codebook` and not `codebook`: the file codebook.py would hide a function of its name.)
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any

import lazy_loader

from seqlab.runtime.text import did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd

    from seqlab.tokenizers.codebook import CodeBook
    from seqlab.tokenizers.resolve import CollisionRule

__getattr__, *_ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "codebook": ["CodeBook"],
        "trie": ["Trie"],
        "codebook_report": ["doctor", "report", "summary"],
    },
)
ROWS_MEASURED = 20_000  # items that reconstruction is measured on


@cache
def _tokenizers() -> dict[str, type]:
    """Every class of this folder that can fit, encode and decode, by its file's name."""
    found = {}
    for one in pkgutil.iter_modules(__path__):
        file = importlib.import_module(f"{__name__}.{one.name}")
        for member in vars(file).values():
            here = inspect.isclass(member) and member.__module__ == file.__name__
            if here and all(hasattr(member, method) for method in ("fit", "encode", "decode")):
                found[one.name] = member
    return found


def names() -> list[str]:
    """The tokenizers there are: the names of their files."""
    return sorted(_tokenizers())


def create(name: str, settings: dict[str, Any] | None = None) -> Any:
    """A new tokenizer. Raises `ValueError` with the nearest name for an unknown one or an unknown setting."""
    if name not in _tokenizers():
        raise ValueError(
            f"there is no tokenizer {name!r}.{did_you_mean(name, names())} There are: {', '.join(names())}."
        )
    known = list(inspect.signature(_tokenizers()[name]).parameters)
    for key in settings or {}:
        if key not in known:
            raise ValueError(f"{name} has no setting {key!r}.{did_you_mean(key, known)} It has: {', '.join(known)}.")
    return _tokenizers()[name](**(settings or {}))


def table() -> pd.DataFrame:
    """Every tokenizer with the first line of its card, its settings and their defaults."""
    import pandas as pd

    rows = []
    for name, kind in sorted(_tokenizers().items()):
        about = inspect.getdoc(importlib.import_module(kind.__module__)).splitlines()[0]
        given = inspect.signature(kind).parameters.values()
        settings = ", ".join(f"{one.name}={one.default!r}" for one in given)
        rows.append({"tokenizer": name, "what it is": about, "settings": settings})
    return pd.DataFrame(rows)


def make_codebook(
    tokenizer: Any,
    X: np.ndarray,
    *,
    resolve: CollisionRule = "index",
    popularity: np.ndarray | None = None,
    vectors: str = "",
    most: int | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
) -> CodeBook:
    """The semantic IDs of a catalogue.

    tokenizer: one of `create`, or its name; it is fitted on X if it is not fitted yet. X: (N, d) finite
    vectors of the items 1..N. resolve: what is done about equal tuples (see resolve.py); popularity: (N,) or
    (N + 1,) training counts. vectors: words for what X is, printed with the numbers. most: codes that a column which
    distinguishes equal tuples may have (None: as many as needed). checkpoint: a folder for the checkpoint of a
    tokenizer that is trained.
    Raises DataError (a ValueError) naming the first bad row of X.
    """
    import numpy as np
    import torch

    from seqlab.items.vectors import validated
    from seqlab.tokenizers.codebook import CodeBook
    from seqlab.tokenizers.resolve import resolve as resolved

    if isinstance(tokenizer, str):
        tokenizer = create(tokenizer)
    X = validated(X)
    if popularity is not None:
        popularity = np.asarray(popularity)
        popularity = popularity[1:] if len(popularity) == len(X) + 1 else popularity
    if not hasattr(tokenizer, "sizes_"):
        trained = "checkpoint" in inspect.signature(tokenizer.fit).parameters
        tokenizer.fit(X, **({"checkpoint": checkpoint} if trained else {}))
    codes = tokenizer.encode(X)
    rows = np.sort(np.random.default_rng(seed).permutation(len(X))[:ROWS_MEASURED])
    residual = variance_left(tokenizer, X[rows], codes[rows])
    codes, sizes, note = resolved(
        codes, tokenizer.sizes_, resolve, vectors=X, decode=tokenizer.decode, popularity=popularity, most=most,
        seed=seed,
    )  # fmt: skip
    return CodeBook(
        codes=torch.from_numpy(np.vstack([np.zeros_like(codes[:1]), codes])),
        sizes=sizes,
        name=repr(tokenizer),
        resolved=resolve,
        vectors=vectors,
        ordered=tokenizer.ordered,
        notes=(note, *getattr(tokenizer, "notes_", ())),
        residual=residual,
    )


def variance_left(tokenizer: Any, X: np.ndarray, codes: np.ndarray) -> tuple[float, ...]:
    """Share of the variance of X not explained by the first 0, 1, ... C levels (1.0 first; may exceed 1)."""
    total = float(((X - X.mean(0)) ** 2).sum()) or 1.0
    left = [
        float(((X - tokenizer.decode(codes[:, :level])) ** 2).sum()) / total for level in range(1, codes.shape[1] + 1)
    ]
    return (1.0, *left)
