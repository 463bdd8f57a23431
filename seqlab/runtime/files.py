"""Writing that is whole or not there, and that nobody disturbs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from filelock import FileLock


def atomic_write(path: Path, content: str | bytes) -> Path:
    """Write a text or bytes aside, then rename: a reader sees the old file or the new one, never half of it.

    Returns the path. Raises `OSError` where it cannot be written; nothing is left behind then.
    """
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            Path(file.name).chmod(0o644)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return path


@contextlib.contextmanager
def exclusive_lock(path: Path, sentence: str) -> Iterator[FileLock]:
    """This process alone is at `path`; raises `BlockingIOError` with the sentence where another one is, at once.

    The lock, on `<path>.lock`, is the system's: it ends with the process that holds it, however that ends.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=0)
    try:
        with lock:
            try:
                yield lock
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout as error:
        raise BlockingIOError(sentence) from error
