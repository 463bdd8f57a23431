"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated

import typer

Dataset = Annotated[str, typer.Option(help="a name (seqlab datasets), a folder with interactions.tsv.gz, or a file")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="key=value: a setting of the system, or of training")]
SeenFilter = Annotated[bool | None, typer.Option(help="keep seen items out of the ranking")]


def load_options_of(
    user: Annotated[str | None, typer.Option(help="the column of users, in a file of yours; else guessed")] = None,
    item: Annotated[str | None, typer.Option(help="the column of items; else guessed")] = None,
    time: Annotated[str | None, typer.Option(help="the column of times; else guessed")] = None,
    title: Annotated[str | None, typer.Option(help="the column of titles; else guessed")] = None,
    sep: Annotated[str | None, typer.Option(help="the separator of columns; else by the file's suffix")] = None,
    encoding: Annotated[str | None, typer.Option(help="of a file that is not UTF-8, such as cp1251")] = None,
    bad: Annotated[
        str | None, typer.Option(help="rows without a user, an item or a time: refuse (the default), or drop")
    ] = None,
) -> dict[str, str]:
    """The given options for reading a file, as `datasets.load` takes them."""
    options = {"user": user, "item": item, "time": time, "title": title, "sep": sep, "encoding": encoding, "bad": bad}
    return {name: value for name, value in options.items() if value is not None}


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


def with_load_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `load_options_of` added; it takes the given ones as `load_options`, a dict."""
    options = inspect.signature(load_options_of, eval_str=True).parameters
    signature = inspect.signature(command, eval_str=True)
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "load_options"]

    @wraps(command)
    def wrapped(**given) -> None:
        load_options = load_options_of(**{name: given.pop(name) for name in options})
        command(**given, load_options=load_options)

    wrapped.__signature__ = signature.replace(parameters=[*parameters, *options.values()])  # read by typer
    return wrapped
