"""Copies of the notebooks of the lab in a folder of the user's."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from seqlab.runtime.files import atomic_write
from seqlab.runtime.included import included

COPIED = ".seqlab.json"
"""The file in the folder that holds the SHA-256 of every notebook as it was copied."""


@dataclass(frozen=True)
class Copies:
    """The names of the notebooks that were copied, replaced by a newer one, left since they were changed, or there."""

    folder: Path
    copied: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    same: tuple[str, ...] = ()

    def __str__(self) -> str:
        changed = f"kept, since they were changed ({', '.join(self.changed)})"
        words = {
            "copied": self.copied, "replaced by a newer one": self.updated, changed: self.changed,
            "there already": self.same,
        }  # fmt: skip
        return f"{self.folder}: " + ("; ".join(f"{len(names)} {what}" for what, names in words.items() if names)) + "."


def copy_notebooks(folder: str | Path) -> Copies:
    """Copy the notebooks of the lab to a folder. A file that was changed there, or is of somebody else, is kept.

    Raises `FileNotFoundError` where the project came without notebooks, `OSError` for a folder that cannot be written.
    """
    folder, sources = Path(folder), sorted(included("notebooks").glob("*.ipynb"))
    if not sources:
        raise FileNotFoundError(f"seqlab came without its notebooks: {included('notebooks')} is missing.")
    if folder.resolve() == included("notebooks").resolve():
        return Copies(folder, same=tuple(one.name for one in sources))
    folder.mkdir(parents=True, exist_ok=True)
    before, now = _read(folder / COPIED), {}
    done: dict[str, list[str]] = {"copied": [], "updated": [], "changed": [], "same": []}
    for source in sources:
        new, target = source.read_bytes(), folder / source.name
        old = target.read_bytes() if target.is_file() else None
        now[source.name] = before.get(source.name, "")
        if old == new:
            kind = "same"
        elif old is None or _digest(old) == before.get(source.name):
            kind = "copied" if old is None else "updated"
            atomic_write(target, new)
        else:
            done["changed"].append(source.name)
            continue
        now[source.name] = _digest(new)
        done[kind].append(source.name)
    atomic_write(folder / COPIED, json.dumps(now, indent=1) + "\n")
    return Copies(folder, **{kind: tuple(names) for kind, names in done.items()})


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> dict[str, str]:
    """The stored digests; {} for none, and for another file."""
    try:
        return {str(name): str(one) for name, one in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
