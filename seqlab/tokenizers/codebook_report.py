"""How good codes are: the report of a CodeBook level by level, its summary, and the doctor."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.tokenizers.codebook import CodeBook

# where the doctor speaks up
COLLAPSED = 0.01  # distinct tuples, of the items (or of the tuples there could be)
LITTLE_USED = 0.5  # codes used, of a level's codes
COLLIDING = 0.95  # distinct tuples, of the items
DECIDED = 0.9  # items for which the last level has one legal code
COPIED = 0.5  # information one level shares with another, above chance
USELESS = 0.02  # fall of the variance left, at a level
IN_DISGUISE = 0.2  # items whose tuple is unique by the index column only


def report(book: CodeBook, categories: object = None) -> pd.DataFrame:
    """One row per level of a code book.

    codes, used, dead: how many codes the level has, how many items use, how many none does.
    perplexity: 2^entropy of the codes' use, the number of codes that would carry as much if used evenly. A
        level 0 with a low one is normal (LETTER's Beauty: 83 of 256), for the first cut follows the
        catalogue's lumps.
    largest: share of the items on the most used code.
    prefixes: distinct prefixes up to this level.
    legal: codes that may follow a prefix, mean over the prefixes.
    decided: share of the items whose prefix leaves one legal code (nothing to predict there).
    entropy: H(code | prefix), bits. It sums to the entropy of the whole tuple.
    variance left: share of the vectors' variance not explained by the levels so far (NaN if unknown).
    shared: the most information the level shares with another one, as a share of the smaller entropy, less
        what a shuffled column shares (two levels that are copies: about 1). For parallel codes this should be
        near 0.
    agreement, by chance: normalised mutual information of the prefix with the categories, and with shuffled
        ones (finer prefixes agree more by chance). Only with `categories`: one label per item, missing ones
        left out.
    """
    import pandas as pd

    codes, trie = book.codes[1:], book.trie
    copies = shared_information(book)
    previous = torch.zeros(len(codes), dtype=torch.long, device=codes.device)
    rows = []
    for level, size in enumerate(book.sizes):
        use = torch.bincount(codes[:, level], minlength=size)
        node = trie.step(previous, codes[:, level])
        followers = trie.count(previous)
        prefixes = trie.starts[level + 1] - trie.starts[level]
        row = {
            "level": level,
            "codes": size,
            "used": int((use > 0).sum()),
            "dead": int((use == 0).sum()),
            "perplexity": float(2 ** _entropy(use)),
            "largest": float(use.max() / use.sum()),
            "prefixes": trie.starts[level + 2] - trie.starts[level + 1],
            "legal": (trie.starts[level + 2] - trie.starts[level + 1]) / prefixes,
            "decided": float((followers == 1).double().mean()),
            "entropy": float(_entropy(torch.bincount(node)) - _entropy(torch.bincount(previous))),
            "variance left": book.residual[level + 1] if len(book.residual) > level + 1 else float("nan"),
            "shared": float(copies[level].max()) if len(book.sizes) > 1 else 0.0,
        }
        if categories is not None:
            row["agreement"], row["by chance"] = agreement(node, categories)
        rows.append(row)
        previous = node
    table = pd.DataFrame(rows).set_index("level")
    table.attrs = {"name": book.name, "resolved": book.resolved, "vectors": book.vectors}
    return table


def summary(book: CodeBook) -> dict[str, float | int | str]:
    """Numbers of the whole tuple.

    unique share: distinct tuples / items. Colliding items: items that share their tuple. Colliding before the
    last level: the share of the items that share all but the last code. Variance left: after all levels.
    """
    trie = book.trie
    leaves = torch.arange(trie.starts[-2], trie.starts[-1], device=trie.device)
    sizes = trie.size(leaves)
    parents = trie.size(torch.arange(trie.starts[-3], trie.starts[-2], device=trie.device))
    return {
        "tokenizer": book.name,
        "vectors": book.vectors,
        "collisions": book.resolved,
        "items": book.n_items,
        "tuples": len(leaves),
        "unique share": len(leaves) / book.n_items,
        "colliding items": int(sizes[sizes > 1].sum()),
        "largest bucket": int(sizes.max()),
        "colliding before the last level": int(parents[parents > 1].sum()) / book.n_items,
        "largest bucket before the last level": int(parents.max()),
        "variance left": book.residual[-1] if book.residual else float("nan"),
    }


def doctor(book: CodeBook) -> list[str]:
    """Problems of a code book with remedies, a sentence each; empty if there are none."""
    table, totals = report(book), summary(book)
    indexed = book.resolved in ("index", "popularity") and book.levels > 1
    content = book.levels - indexed  # levels made from the vectors
    # an extra column makes every tuple unique: count the tuples of the content levels
    tuples = int(table["prefixes"].iloc[content - 1])
    share = tuples / book.n_items
    if book.n_items > 1 and (share <= COLLAPSED or tuples == 1):
        return [
            f"Collapse: {book.n_items:,} items share {tuples:,} tuple{'s' * (tuples > 1)}. Look at the "
            "vectors first (do they differ?), then sum the reconstruction error over the features instead of "
            "averaging it, start the codes from k-means, and revive dead ones."
        ]
    findings = []
    for level, row in table.iloc[:content].iterrows():
        if row["used"] < LITTLE_USED * min(row["codes"], book.n_items):
            findings.append(
                f"Low use: level {level + 1} uses {row['used']:.0f} of {row['codes']:.0f} codes (perplexity "
                f"{row['perplexity']:.0f}). Try fewer codes, a start from k-means, or reviving dead codes."
            )
    if share < COLLIDING:
        kept = f"the largest bucket holds {totals['largest bucket']:,}"
        if indexed:
            kept = f"an extra column of {book.sizes[-1]:,} codes distinguishes them"
        findings.append(
            f"Collisions: there are {share:.1%} as many tuples as items; {kept}. Try another level, more "
            "codes, a balanced last level, or resolve='reassign'."
        )
    crowded = totals["colliding before the last level"]
    if indexed and crowded > IN_DISGUISE:
        findings.append(
            f"Atomic ids in disguise: {crowded:.0%} of the items need the last column, which has no "
            "meaning. Try another level or more codes."
        )
    if content > 1 and table["decided"].iloc[content - 1] >= DECIDED:
        findings.append(
            f"Last level decided: for {table['decided'].iloc[content - 1]:.0%} of the items the codes before "
            f"level {content} leave one legal code, so under the trie it teaches nothing. Try one level "
            "less, or fewer codes a level."
        )
    if not book.ordered and book.levels > 1:
        copies = shared_information(book)[:content, :content]
        if float(copies.max()) > COPIED:
            pair = divmod(int(copies.argmax()), content)
            findings.append(
                f"Copies: levels {min(pair) + 1} and {max(pair) + 1} share {copies.max():.0%} of their information. "
                "Try a stronger orthogonality term, or fewer levels."
            )
    left = book.residual
    falls = [1 - after / before if before > 1e-6 else 1.0 for before, after in pairwise(left)]
    idle = [level for level, fall in enumerate(falls) if level and fall < USELESS]
    if idle:
        after = ", ".join(str(level + 1) for level in idle)
        findings.append(
            f"Nothing explained: after level {after} as much variance of the vectors "
            f"is left as before ({left[idle[0]]:.0%}). Try fewer levels, or train longer."
        )
    return findings


def shared_information(book: CodeBook, seed: int = 0) -> Tensor:
    """Mutual information of every two levels, a share of the smaller entropy, above chance: (C, C).

    Chance is what a shuffled column shares: with many codes and few items that is far from 0.
    """
    codes, sizes = book.codes[1:], book.sizes
    mix = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed)).to(codes.device)
    shuffled = codes[mix]
    entropies = [_entropy(torch.bincount(codes[:, level], minlength=size)) for level, size in enumerate(sizes)]
    shared = torch.zeros(len(sizes), len(sizes), dtype=torch.double)
    for a in range(len(sizes)):
        for b in range(a):
            least = min(entropies[a], entropies[b])
            if least <= 0:
                continue
            joint = _joint_entropy(codes[:, a], codes[:, b], sizes[b])
            chance = _joint_entropy(codes[:, a], shuffled[:, b], sizes[b])
            room = least - (entropies[a] + entropies[b] - chance)  # what is left to share beyond chance
            shared[a, b] = shared[b, a] = ((chance - joint) / room).clamp(0, 1) if room > 1e-9 else 0.0
    return shared


def agreement(groups: Tensor, categories: object, seed: int = 0) -> tuple[float, float]:
    """Normalised mutual information of items' groups (N,) with their categories, and with shuffled ones.

    categories: (N,) labels of any kind; None, NaN and "" are left out. Raises ValueError on another length.
    """
    import numpy as np
    import pandas as pd
    from sklearn.metrics import normalized_mutual_info_score

    labels = pd.Series(np.asarray(categories, dtype=object))
    if len(labels) != len(groups):
        raise ValueError(f"categories must have one label per item ({len(groups):,}, got {len(labels):,}).")
    known = (labels.notna() & (labels.astype(str).str.strip() != "")).to_numpy()
    if not known.any():
        return float("nan"), float("nan")
    coded = pd.factorize(labels[known].astype(str))[0]
    of = groups.cpu().numpy()[known]
    mixed = np.random.default_rng(seed).permutation(coded)
    return float(normalized_mutual_info_score(of, coded)), float(normalized_mutual_info_score(of, mixed))


def _entropy(counts: Tensor) -> Tensor:
    """Of the shares of counts, bits."""
    shares = counts[counts > 0].double() / counts.sum()
    return -(shares * shares.log2()).sum()


def _joint_entropy(a: Tensor, b: Tensor, size: int) -> Tensor:
    return _entropy(torch.unique(a * size + b, return_counts=True)[1])
