"""The cache folder: downloads, and small results that are slow to compute."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def cache_folder() -> Path:
    """$SEQLAB_CACHE, or the cache folder of the platform. Its content may be deleted at any time."""
    if os.environ.get("SEQLAB_CACHE"):
        return Path(os.environ["SEQLAB_CACHE"])
    import pooch

    return Path(pooch.os_cache("seqlab"))


def cached(
    kind: str, settings: tuple, content: Iterable[np.ndarray | str], make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays that `make` returns, cached in the folder `kind` under a hash of settings and content.

    Files are written atomically. A damaged file is computed again; a cache that cannot be written is not an error.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    digest = hashlib.sha256(repr(settings).encode())
    for part in content:
        head, data = ("", part.encode()) if isinstance(part, str) else (f"{part.dtype}{part.shape}", part.tobytes())
        digest.update(f"{head} {len(data)} ".encode() + data)
    path = cache_folder() / kind / f"{digest.hexdigest()[:32]}.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        pass  # missing or damaged
    made = {name: np.ascontiguousarray(array) for name, array in make().items()}
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(made, unfinished)
        os.replace(unfinished, path)
    except (OSError, SafetensorError):
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return made
