"""The command that examines a file of events and writes its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqlab.cli.options import with_load_options


@with_load_options
def card(
    file: Annotated[Path, typer.Argument(help="a file of events: .csv, .tsv or .parquet")],
    out: Annotated[Path | None, typer.Option(help="the card to write; by default that of the file, .toml")] = None,
    *,
    load_options: dict[str, Any],
) -> None:
    """Examine FILE, say all that is odd in it, and write a first card, with which every command can read it.

    The card says which columns are read, which rows are dropped and which types of events are kept. Look through it,
    change what is not as you want it, and pass it as any dataset: --dataset FILE.toml.
    """
    import os

    from seqlab.datasets import load
    from seqlab.datasets.examining import examine
    from seqlab.datasets.log_card import card_text
    from seqlab.runtime.files import atomic_write
    from seqlab.runtime.text import DataError

    out = out or _card_of(file)
    if out.exists():
        raise FileExistsError(f"{out} exists already; name another file with --out, or remove it.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: there is no folder {out.parent}; make it first.")
    found = examine(file, load_options)
    typer.echo("\n".join(found.seen))
    for key in {"file", "items"} & found.facts.keys():
        path = file if key == "file" else Path(found.facts[key])
        found.facts[key] = Path(os.path.relpath(path, out.parent)).as_posix()
    atomic_write(out, card_text(found.facts, found.comments))
    typer.echo(f"The card: {out}")
    try:
        log = load(out)
    except DataError as error:
        raise DataError(f"with this card the log cannot be read yet: {error}") from error
    typer.echo(f"With it: {log.n_users:,} users, {log.n_items:,} items, {log.n_events:,} events. For example:")
    typer.echo(f"  seqlab fit sasrec --dataset {out} --out runs/sasrec")


def _card_of(file: Path) -> Path:
    """log.csv.gz -> log.toml."""
    return file.with_name(file.name.removesuffix(".gz")).with_suffix(".toml")
