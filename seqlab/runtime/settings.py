"""Settings: dataclasses whose fields are validated, from values or from the text of a command line or a file."""

from __future__ import annotations

import ast
import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic import NonNegativeFloat as NonNegativeFloat
from pydantic import NonNegativeInt as NonNegativeInt
from pydantic import PositiveFloat as PositiveFloat

from seqlab.runtime.text import did_you_mean

Count = Annotated[int, Field(ge=1)]
"""The type of a setting that counts something, at least 1."""

Share = Annotated[float, Field(ge=0, le=1)]
"""The type of a setting that is a probability or a part of a whole."""

BOUNDS = {
    "greater_than": "above {gt:g}", "greater_than_equal": "at least {ge:g}", "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}", "literal_error": "{expected}", "multiple_of": "a multiple of {multiple_of:g}",
}  # fmt: skip
"""What a value must be, by the type of pydantic's error."""

TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "text", "dict": "a dict",
         "finite": "a finite number"}  # fmt: skip
"""The same, by the first word of the type of any other error."""


@typing.dataclass_transform(frozen_default=True)
def settings(config_type: type | None = None, *, kw_only: bool = False) -> Any:
    """Class decorator: a frozen dataclass whose constructor validates and converts its fields.

    The constructor raises `ValueError` with one sentence that names the module and the field, as `validate` does.
    """
    if config_type is None:
        return functools.partial(settings, kw_only=kw_only)
    module = config_type.__module__.rpartition(".")[2]

    def validate_fields(self: Any) -> None:
        for name, hint in field_types(type(self)).items():
            object.__setattr__(self, name, validate(hint, getattr(self, name), f"{module}.{name}"))

    config_type.__post_init__ = validate_fields
    return dataclasses.dataclass(frozen=True, kw_only=kw_only)(config_type)


@functools.cache
def field_types(config_type: type) -> dict[str, Any]:
    """The fields of a dataclass and their types, with their bounds."""
    hints = typing.get_type_hints(config_type, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_type)}


def validate(hint: Any, value: Any, where: str) -> Any:
    """`value`, which may be text, converted to the type `hint`, within the bounds of that type.

    hint: int, float, bool, str or a `Literal`, with or without bounds; a tuple or list of them; a dict; or one of
    these or None. Text: "none", "true", "64,64", "1e-3"; for a list or dict also a Python literal.
    Raises `ValueError` with one sentence: `where`, what is allowed, and the value.
    """
    try:
        return _convert(hint, value)
    except _NotAllowedError as error:
        raise ValueError(f"{where} must be {error} (got {value!r}).") from None


class _NotAllowedError(Exception):
    """The message is what the value must be."""


def construct(
    config_type: type, name: str, given: Mapping[str, Any], also: Mapping[str, Iterable[str]] | None = None
) -> Any:
    """A dataclass of settings with `given` values, which may be text, instead of its defaults.

    Raises `ValueError` that names the field, as `name.field`, for a value that is not allowed, and for an unknown field
    (see `unknown_setting`).
    """
    known = field_types(config_type)
    for key in given:
        if key not in known:
            raise ValueError(unknown_setting(name, key, known, also))
    return config_type(**{key: validate(known[key], value, f"{name}.{key}") for key, value in given.items()})


def unknown_setting(name: str, key: str, known: Iterable[str], also: Mapping[str, Iterable[str]] | None = None) -> str:
    """The sentences for a setting that `name` does not have: the nearest one, those it has, and further ones.

    also: further names that may be given with its own, by what has them: {"training": ["epochs", ...]}.
    """
    also = {what: [*names] for what, names in (also or {}).items()}
    near = did_you_mean(key, [*known, *(one for names in also.values() for one in names)])
    others = "".join(f" Of {what}: {', '.join(names)}." for what, names in also.items())
    return f"{name} has no setting {key!r}.{near} It has: {', '.join(known)}.{others}"


def _convert(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None or (isinstance(value, str) and value in ("none", "None")):
            return None
        (hint,) = (one for one in arguments if one is not types.NoneType)
        try:
            return _convert(hint, value)
        except _NotAllowedError as error:
            raise _NotAllowedError(f"{error}, or none") from None
    if isinstance(value, str) and (origin or hint) in (list, dict) and value.lstrip()[:1] in tuple("[({"):
        try:
            value = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            raise _NotAllowedError("a Python literal") from None
    if (origin or hint) in (list, tuple):
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise _NotAllowedError("a list of values separated by commas")
        try:
            return (origin or hint)(_convert(arguments[0], part) for part in parts) if arguments else list(parts)
        except _NotAllowedError as error:
            raise _NotAllowedError(f"a list such as 64,64, each member {error}") from None
    kind = arguments[0] if origin is Annotated else hint
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    try:  # strict mode for bool only, which pydantic otherwise converts to numbers, and numbers to bool
        strict = bool in (kind, type(value)) and not isinstance(value, str)
        return _adapter(hint).validate_python(value, strict=strict)
    except ValidationError as error:
        (first, *_) = error.errors()
        bound, first_word = BOUNDS.get(first["type"]), first["type"].partition("_")[0]
        allowed = bound.format(**first["ctx"]) if bound else TYPES.get(first_word, first["msg"])
        raise _NotAllowedError(allowed) from None


@functools.cache
def _adapter(hint: Any) -> TypeAdapter:
    return TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False))


def split_values(hint: Any, text: str, where: str) -> list[str]:
    """The values in a text like "32,64"; values that are lists are separated by semicolons, "64,64;128,128".

    Raises `ValueError` naming `where` for lists without semicolons.
    """
    if typing.get_origin(hint) is tuple and "," in text and ";" not in text:
        raise ValueError(
            f"{where} is a list of numbers: separate its values by semicolons, '{where}=64,64;128,128' (got {text!r})."
        )
    return text.split(";" if ";" in text else ",")
