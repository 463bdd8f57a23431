"""The parameters that a notebook declares in its cell tagged `parameters`, and their validation."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from seqlab.runtime.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbformat import NotebookNode

TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}
"""The types a parameter can have, by the names an annotation gives them."""

NOT_A_LITERAL = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError)
"""The exceptions that `ast` raises for a text that is no literal, or one that is nested too deeply."""


class ParameterError(ValueError):
    """A parameter the notebook does not have, or a value that its type does not allow."""


def declared(notebook: NotebookNode) -> dict[str, tuple[Any, Any]]:
    """name -> (default, type hint, None for an unknown type) of every literal in the cell tagged `parameters`.

    The cell is parsed as Python: papermill's own inspection goes line by line and misses a default that holds "="
    or an annotation such as `str | None`. A value that is no literal is not a parameter: papermill puts its cell after
    this one, so anything computed here would keep the value it had before. {} without such a cell.
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if not cells:
        return {}
    try:
        body = ast.parse(cells[0].source, "its code").body
    except NOT_A_LITERAL as error:
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
        except NOT_A_LITERAL:
            continue
        found[target.id] = (default, _hint(default, words))
    return found


def check(notebook: NotebookNode, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values, converted to the types that the notebook declares.

    Text, as a command line gives it, stays text where the type is `str`, so that a user id 00123 keeps its zeros. A
    list may be written [1, 2] or 1,2. Raises `ParameterError` for the first name or value that is not allowed.
    """
    from seqlab.runtime.settings import validate

    known = declared(notebook)
    values = {}
    for name, value in given.items():
        if name not in known:
            has = f"It has: {', '.join(known)}." if known else "It has none."
            raise ParameterError(f"there is no parameter {name!r}.{did_you_mean(name, known)} {has}")
        default, hint = known[name]
        if hint is None:
            raise ParameterError(f"parameter {name!r} (default {default!r}) has none of the types {', '.join(TYPES)}.")
        try:
            values[name] = validate(hint, value, f"parameter {name!r}")
        except ValueError as error:
            raise ParameterError(str(error)) from None
    return values


def _hint(default: Any, annotation: str) -> Any:
    """The type a parameter is declared with, else that of its default; text where that is None."""
    words = annotation.removeprefix("Optional[").replace("|", " ").replace("[", " ").replace("]", " ").split()
    named = [TYPES[word] for word in words if word in TYPES]
    kind = str if default is None else TYPES.get("list" if isinstance(default, tuple) else type(default).__name__)
    hint = named[0] if named else kind
    members = {type(member) for member in default} if isinstance(default, list | tuple) else set()
    if hint is list and len(members) == 1:
        hint = list[members.pop()]
    optional = default is None or "None" in annotation or annotation.startswith("Optional")
    return hint | None if optional and hint is not None else hint
