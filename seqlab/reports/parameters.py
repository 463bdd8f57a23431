"""What a notebook's cell tagged `parameters` declares, and whether given values fit it."""

from __future__ import annotations

import ast
import math
from typing import TYPE_CHECKING, Any

from seqlab.runtime.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbformat import NotebookNode

KINDS = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}


UNREADABLE = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError)
"""What Python may say of a text that is no literal, or one nested beyond its means."""


class ParameterError(ValueError):
    """A parameter the notebook does not have, or a value of the wrong type."""


def declared(notebook: NotebookNode) -> dict[str, tuple[Any, type | None, bool]]:
    """name -> (default, type or None for any, may be None) of every literal in the parameters cell.

    The cell is parsed as Python: papermill's own inspection goes line by line and misses a default that holds "="
    or an annotation such as `str | None`. A value that is no literal is not a parameter: papermill puts its cell after
    this one, so anything computed here would keep the value it had before. {} without such a cell.
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if not cells:
        return {}
    try:
        body = ast.parse(cells[0].source, "its code").body
    except UNREADABLE as error:
        raise ParameterError(f"the parameters cell is not plain Python ({error})") from error
    found = {}
    for statement in body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, annotation = statement.targets[0], None
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, annotation = statement.target, statement.annotation
        else:
            continue
        if not isinstance(target, ast.Name):
            continue
        try:
            default = ast.literal_eval(statement.value)
            words = ast.unparse(annotation).strip("'\"") if annotation is not None else ""
        except UNREADABLE:
            continue
        optional = default is None or "None" in words or words.startswith("Optional")
        found[target.id] = (default, _kind(default, words), optional)
    return found


def check(notebook: NotebookNode, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values as the types the notebook declares; raises `ParameterError` for the first that does not fit.

    Text, as a command line gives it, is read as the declared type and stays text where that is text, so that a user
    id 00123 keeps its zeros. A list may be written [1, 2] or 1,2.
    """
    known = declared(notebook)
    values = {}
    for name, value in given.items():
        if name not in known:
            has = f"It has: {', '.join(known)}." if known else "It has none."
            raise ParameterError(f"there is no parameter {name!r}.{did_you_mean(name, known)} {has}")
        default, kind, optional = known[name]
        try:
            values[name] = None if optional and value in (None, "None") else _fitted(value, kind, default)
        except UNREADABLE as error:
            meant = "none of the types a parameter can have" if kind is None else kind.__name__
            raise ParameterError(
                f"parameter {name!r} is {meant} (default {default!r}); {value!r} does not fit{_why(error)}."
            ) from error
    return values


def _kind(default: Any, annotation: str) -> type | None:
    """The type a parameter is declared with, else that of its default; a bare None stands for text."""
    words = annotation.removeprefix("Optional[").replace("|", " ").replace("[", " ").replace("]", " ").split()
    named = [KINDS[word] for word in words if word in KINDS]
    if named:
        return named[0]
    return str if default is None else KINDS.get("list" if isinstance(default, tuple) else type(default).__name__)


def _fitted(value: Any, kind: type | None, default: Any) -> Any:
    if kind is str:
        if not isinstance(value, str):
            raise ValueError
        return value
    if isinstance(value, str):
        value = _read(value, kind, default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is list and isinstance(value, tuple):
        value = list(value)
    if kind is None or not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError
    if kind is float and not math.isfinite(value):
        raise ValueError("it must be finite")
    if kind is list and isinstance(default, (list, tuple)) and default:
        kinds = {type(member) for member in default}
        if len(kinds) == 1 and any(type(member) not in kinds for member in value):
            raise ValueError(f"its members are {kinds.pop().__name__}")
    return value


def _read(text: str, kind: type | None, default: Any) -> Any:
    """The value that `text` spells in the type `kind`."""
    if kind is bool:
        words = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
        if text.strip().lower() not in words:
            raise ValueError("say true or false")
        return words[text.strip().lower()]
    if kind is int or kind is float:
        return kind(text)
    if kind is list and not text.lstrip().startswith(("[", "(")):
        member = type(default[0]) if default else str
        return [_read(part.strip(), member, None) if member is not str else part.strip() for part in text.split(",")]
    return ast.literal_eval(text)


def _why(error: Exception) -> str:
    """Our own reasons are worth telling, those of int() and literal_eval() are not."""
    text = str(error)
    return f": {text}" if text.startswith(("it must", "its members", "say")) else ""
