"""CodeBook: the semantic IDs of a catalogue, how they were made, and how good they are."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from seqlab.tokenizers.lattice import Lattice
from seqlab.tokenizers.trie import Trie


@dataclass(frozen=True, eq=False, repr=False)
class CodeBook:
    """A tuple of C codes for every item.

    codes: (N + 1, C) int64, row 0 is padding and holds zeros. sizes: codes per level. name: the tokenizer and
    its settings. resolved: the rule for equal tuples, "index", "reassign", "popularity" or "none" (see
    resolve.py). vectors: what was tokenized. ordered: False if the levels are parallel (none refines
    another). notes: sentences on how the codes were made. residual: share of the vectors' variance left after 0, 1,
    ... levels (empty = unknown).
    """

    codes: Tensor
    sizes: tuple[int, ...]
    name: str = "codes"
    resolved: str = "none"
    vectors: str = ""
    ordered: bool = True
    notes: tuple[str, ...] = ()
    residual: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        codes = torch.as_tensor(self.codes).long().contiguous()
        if codes.dim() == 2 and len(codes):
            codes = codes.clone()
            codes[0] = 0
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "sizes", tuple(int(size) for size in self.sizes))
        _ = self.trie  # checks shapes and ranges

    @cached_property
    def trie(self) -> Trie:
        """The tree of the tuples."""
        return Trie(self.codes, self.sizes)

    @cached_property
    def lattice(self) -> Lattice:
        """The tree of the tuples for a model that fills in their slots in any order."""
        return Lattice(self.codes, max(self.sizes))

    @property
    def n_items(self) -> int:
        return len(self.codes) - 1

    @property
    def levels(self) -> int:
        return len(self.sizes)

    def items_of(self, codes: Tensor | list[int] | tuple[int, ...]) -> Tensor:
        """The items whose tuple begins with one prefix (l,), l <= C; all of them, by number; none: empty."""
        prefix = torch.as_tensor(codes, dtype=torch.long, device=self.codes.device)
        if prefix.dim() != 1 or len(prefix) > self.levels:
            raise ValueError(
                f"one prefix of at most {self.levels} codes is needed (got shape {tuple(prefix.shape)}); for "
                "many at once use trie.find and trie.items_at."
            )
        return self.trie.items_at(self.trie.find(prefix))[0].sort().values

    def __repr__(self) -> str:
        first, end = self.trie.starts[-2:]
        buckets = self.trie.size(torch.arange(first, end, device=self.trie.device))  # items of each tuple
        shape = " x ".join(str(size) for size in self.sizes)
        return (
            f"CodeBook({self.name}, {self.n_items:,} items, codes {shape}, unique tuples "
            f"{len(buckets) / self.n_items:.2%}, largest bucket {int(buckets.max()):,}; "
            f"collisions: {self.resolved})"
        )

    def save(self, path: Path | str) -> None:
        """One .safetensors file, the rest as JSON in its header. An atomic write."""
        from safetensors.torch import save_file

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "sizes": self.sizes, "name": self.name, "resolved": self.resolved,
            "vectors": self.vectors, "ordered": self.ordered, "notes": self.notes, "residual": self.residual,
        }  # fmt: skip
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        save_file({"codes": self.codes.cpu()}, unfinished, metadata={"codebook": json.dumps(about)})
        os.replace(unfinished, path)

    @classmethod
    def load(cls, path: Path | str) -> CodeBook:
        """Read the file of `save`. Raises ValueError if the file holds no code book."""
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            about = (file.metadata() or {}).get("codebook")
            if about is None:
                raise ValueError(f"{path} holds no code book (safetensors, but not written by CodeBook.save).")
            fields = json.loads(about)
            fields |= {key: tuple(fields[key]) for key in ("sizes", "notes", "residual")}
            return cls(codes=file.get_tensor("codes"), **fields)
