"""The command for the trained runs that come with the project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqlab.cli.options import resumable


@resumable
def zoo(
    make: Annotated[bool, typer.Option("--make", help="make the runs that are missing (an hour)")] = False,
    systems: Annotated[list[str] | None, typer.Argument(help="only these; by default all")] = None,
    out: Annotated[Path, typer.Option(help="the folder to make them in")] = Path("data/zoo"),
    runs: Annotated[Path, typer.Option(help="the folder of new trainings, and of finished ones")] = Path("data/runs"),
    also: Annotated[
        list[Path] | None, typer.Option(help="a further folder of finished runs, which are not trained again")
    ] = None,
) -> None:
    """List the trained runs that come with the project, or make them.

    `seqlab.load_run("sasrec")` opens one. --make can be killed and repeated.
    """
    if make:
        from seqlab.experiments.zoo import make as make_zoo

        make_zoo(out, runs, also or (), systems or (), typer.echo)
        return
    from seqlab import models

    table = models.pretrained()
    table = table[table["system"].isin(systems)] if systems else table
    for row in table.itertuples(index=False):
        typer.echo(f"{row.system}: {row.dataset}, {row.split}, {row.metric} {row.value:.4f}, {row.megabytes:.2f} MB")
    typer.echo(f"{len(table)} runs, {table['megabytes'].sum():.1f} MB")
