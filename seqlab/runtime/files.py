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


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """The path of a temporary file to write; after the block it is renamed to `path`: readers see the old file or it.

    After an error the temporary file is removed. Raises `OSError` if the file cannot be written.
    """
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=".", suffix=path.suffix, delete=False) as file:
        unfinished = Path(file.name)
    try:
        yield unfinished
        unfinished.chmod(0o644)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def atomic_write(path: Path, content: str | bytes) -> Path:
    """Write text or bytes to a temporary file, then rename it: readers see the old file or the new one.

    Returns the path. Raises `OSError`, and leaves no temporary file, if the file cannot be written.
    """
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
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
