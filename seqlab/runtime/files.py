"""Atomic writes and exclusive locks of files."""

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
    """Write text or bytes to a temporary file, then rename it: readers see the old file or the new one.

    Returns the path. Raises `OSError`, and leaves no temporary file, if the file cannot be written.
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
def exclusive_lock(path: Path, message: str) -> Iterator[FileLock]:
    """Hold the lock file `<path>.lock`. Raises `BlockingIOError(message)` at once if another process holds it.

    The operating system releases the lock when the process ends, even when it is killed.
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
        raise BlockingIOError(message) from error
