"""Systems outside the package: Python files in the folder $SEQLAB_MODELS, and entry points of installed packages."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
import types
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from seqlab.runtime.text import first_line

GROUP = "seqlab.models"
"""The group of the entry points; each has the name of its module."""

VARIABLE = "SEQLAB_MODELS"
"""The environment variable with the folder. Its files are systems, apart from those whose names begin with _."""


@dataclass(frozen=True)
class Source:
    """Where a system is defined. place: the path of its file, or its entry point, in words; module: its module."""

    name: str
    place: str
    module: str
    path: Path | None = None

    def load(self) -> types.ModuleType:
        """The module. Raises `ValueError` where it does not import, with the line of the file and the reason."""
        loaded = sys.modules.get(self.module)
        if loaded is not None and self.path in (None, Path(loaded.__file__ or "")):
            return loaded
        try:
            return importlib.import_module(self.module) if self.path is None else self._from_file(self.path)
        except Exception as error:  # the file may raise anything
            line = "" if (at := self._line(error)) is None else f"line {at}: "
            reason = f"{line}{first_line(error)} ({type(error).__name__})"
            raise ValueError(f"{self.place} does not import: {reason}.") from error

    def file(self) -> Path | None:
        """The file of the module, which is not imported; None where it is not found."""
        try:
            return self.path or Path(importlib.util.find_spec(self.module).origin)
        except Exception:  # there is no such module, or its package does not import, which `load` says
            return None

    def preset(self) -> Path | None:
        """The file of its presets, beside the module: <name>.toml; None where there is none."""
        file = self.file()
        beside = None if file is None else file.with_name(f"{self.name}.toml")
        return beside if beside is not None and beside.is_file() else None

    def code(self) -> str:
        """SHA-256 of the file's code, without comments and layout; "" where it cannot be read."""
        try:
            tree = ast.parse(self.file().read_text(encoding="utf-8"))
        except (AttributeError, OSError, ValueError, SyntaxError):
            return ""
        return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()

    def _from_file(self, path: Path) -> types.ModuleType:
        spec = importlib.util.spec_from_file_location(self.module, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.module] = module  # dataclasses look up their types there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[self.module]
            raise
        return module

    def _line(self, error: Exception) -> int | None:
        """The line of the file at which an import failed; None if it failed elsewhere."""
        if isinstance(error, SyntaxError) and self.path is not None and error.filename == str(self.path):
            return error.lineno
        frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == str(self.path)]
        return frames[-1].lineno if frames else None


def sources() -> dict[str, tuple[Source, ...]]:
    """The sources of systems, by name: one each, unless several have the same name.

    Raises `FileNotFoundError` if $SEQLAB_MODELS is no folder.
    """
    found: dict[str, tuple[Source, ...]] = {}
    for source in (*_files(os.environ.get(VARIABLE, "")), *_installed()):
        found[source.name] = (*found.get(source.name, ()), source)
    return found


def _files(folder: str) -> list[Source]:
    if not folder:
        return []
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{VARIABLE} names no folder: {folder}.")
    paths = sorted(Path(folder).resolve().glob("*.py"))
    return [
        Source(path.stem, str(path), f"seqlab_models.{path.stem}", path)
        for path in paths
        if not path.name.startswith("_")
    ]


@functools.cache
def _installed() -> tuple[Source, ...]:
    return tuple(_source(one) for one in entry_points(group=GROUP))


def _source(entry: EntryPoint) -> Source:
    package, module = f" of {entry.dist.name}" if entry.dist else "", entry.value.partition(":")[0].strip()
    return Source(entry.name, f"the entry point {entry.name} = {entry.value}{package}", module)
