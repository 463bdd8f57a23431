"""Typed text to values: settings as a command line, a file or a notebook gives them."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any


def types_of(config_type: type) -> dict[str, Any]:
    """The fields of a dataclass and their types."""
    hints = typing.get_type_hints(config_type)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_type)}


def read_as(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`, from that type or from text; `where` names it in the `ValueError` otherwise."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        if value not in options:
            raise ValueError(f"{where} must be one of {', '.join(map(repr, options))} (got {value!r}).")
        return value
    if typing.get_origin(hint) is types.UnionType and type(None) in options:
        if value is None or value == "none":
            return None
        return read_as(next(option for option in options if option is not type(None)), value, where)
    if typing.get_origin(hint) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        try:
            return tuple(read_as(options[0], part, where) for part in parts)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where} must be a list of {options[0].__name__}, as 64,64 (got {value!r}).") from error
    if hint is bool:
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        wrong = not isinstance(value, bool)
    else:
        wrong = isinstance(value, bool) or (hint is int and isinstance(value, float) and not value.is_integer())
    try:
        if not wrong:
            return hint(value)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{where} must be {hint.__name__} (got {value!r}).")


def split_values(hint: Any, text: str, where: str) -> list[str]:
    """The values in a text like "32,64"; between values that are lists themselves stand semicolons, "64,64;128,128".

    Raises `ValueError` naming `where` for lists without semicolons.
    """
    if typing.get_origin(hint) is tuple and "," in text and ";" not in text:
        raise ValueError(
            f"{where} is a list of numbers, so semicolons tell its values apart, '{where}=64,64;128,128' (got {text!r})"
        )
    return text.split(";" if ";" in text else ",")
