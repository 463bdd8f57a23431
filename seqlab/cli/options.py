"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from seqlab.cli.names import is_named
from seqlab.cli.parsing import parse_pairs

Dataset = Annotated[
    str,
    typer.Option(help="a name (seqlab datasets), a file, its card (.toml; seqlab card), or a folder of tables"),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="key=value: a setting of the system, its decoding, or training")
]
SeenFilter = Annotated[
    bool | None,
    typer.Option(help="keep seen items out of the ranking; by default unless users repeat items in these data"),
]


SplitName = Annotated[
    str | None,
    typer.Option("--split", help='such as "by-time 2017-10-01 2017-11-01"; by default that of the system\'s card'),
]


def split_of_cards(arms: list[str]) -> str:
    """The split that the cards of these arms name; leave-one-out where they name several others."""
    from seqlab import models as systems
    from seqlab.datasets.split_names import DEFAULT

    named = {systems.card(arm.split(":")[0]).split for arm in arms} - {DEFAULT}
    return named.pop() if len(named) == 1 else DEFAULT


def load_options_of(
    user: Annotated[str | None, typer.Option(help="the column of users, in a file of yours; else guessed")] = None,
    item: Annotated[str | None, typer.Option(help="the column of items; else guessed")] = None,
    time: Annotated[str | None, typer.Option(help="the column of times; else guessed")] = None,
    title: Annotated[str | None, typer.Option(help="the column of titles; else guessed")] = None,
    items: Annotated[Path | None, typer.Option(help="a table of items, with a column of ids")] = None,
    sep: Annotated[str | None, typer.Option(help="the separator of columns; else by the file's suffix")] = None,
    encoding: Annotated[str | None, typer.Option(help="of a file that is not UTF-8, such as cp1251")] = None,
    bad: Annotated[
        str | None,
        typer.Option(help="rows without a readable user, item or time: refuse (the default), or drop and count"),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="role=column of a further column, such as basket=order_no; may be repeated")
    ] = None,
) -> dict[str, Any]:
    """The given options for reading a file, as `datasets.load` takes them."""
    options = {"user": user, "item": item, "time": time, "title": title, "sep": sep, "encoding": encoding, "bad": bad}
    options["items"] = None if items is None else str(items)
    options["columns"] = parse_pairs(column) if column else None
    return {name: value for name, value in options.items() if value is not None}


def load_words(load_options: dict[str, Any]) -> list[str]:
    """The words of a command line for options that `load_options_of` made."""
    columns = [word for pair in load_options.get("columns", {}).items() for word in ("--column", "=".join(pair))]
    return columns + [word for key, text in load_options.items() if key != "columns" for word in (f"--{key}", text)]


def resumable(command: Callable[..., None]) -> Callable[..., None]:
    """The command with a message and exit code 130 for Ctrl-C."""

    @wraps(command)
    def wrapped(**given) -> None:
        try:
            command(**given)
        except KeyboardInterrupt:
            typer.echo("Stopped. Finished runs are kept; the same command continues from there.", err=True)
            raise typer.Exit(130) from None

    return wrapped


def _require_datasets(given: dict[str, Any]) -> None:
    """Raise for a dataset that is not there before a command imports what takes seconds."""
    for one in [given.get("dataset"), *(given.get("datasets") or [])]:
        if one is not None and not (is_named(one) or Path(one).exists()):
            from seqlab.datasets.loading import require  # imports pandas

            require(one)


def with_load_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `load_options_of` added; it takes the given ones as `load_options`, a dict."""
    options = inspect.signature(load_options_of, eval_str=True).parameters
    signature = inspect.signature(command, eval_str=True)
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "load_options"]

    @wraps(command)
    def wrapped(**given) -> None:
        load_options = load_options_of(**{name: given.pop(name) for name in options})
        _require_datasets(given)
        command(**given, load_options=load_options)

    wrapped.__signature__ = signature.replace(parameters=[*parameters, *options.values()])  # read by typer
    return wrapped
