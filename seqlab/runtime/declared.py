"""The settings that a class declares in a Python file, read from its source: the file is not imported."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Declared:
    """A field of a class of settings: its annotation and its default as they are written, and the comment beside it."""

    name: str
    annotation: str
    default: str
    meaning: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that its `Literal` allows; () for another annotation."""
        found = re.fullmatch(r"Literal\[(.+)\]", self.annotation)
        return ast.literal_eval(f"({found[1]},)") if found else ()


@functools.cache
def declared(file: Path, name: str) -> tuple[Declared, ...]:
    """The fields that the class `name` of a file declares, in their order.

    They are () for a file that cannot be read or has no such class, and for a class with bases, which may have more.
    """
    try:
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError):
        return ()
    found = next((one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name), None)
    if found is None or found.bases:
        return ()
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    fields = (one for one in found.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name))
    return tuple(
        Declared(
            one.target.id, ast.unparse(one.annotation), "" if one.value is None else ast.unparse(one.value),
            comments.get(one.end_lineno, ""),
        )
        for one in fields
    )  # fmt: skip
