"""What there is: the systems, the named datasets, and this machine."""

from __future__ import annotations

import typer


def models() -> None:
    """The systems, and what can be set."""
    from seqlab import models as systems

    for row in systems.table().itertuples(index=False):
        typer.echo(f"{row.system}\n    {row[1]}\n    {row.settings}")


def datasets() -> None:
    """The named datasets, their terms, and whether they are at hand."""
    from seqlab.datasets import catalog

    for row in catalog().itertuples(index=False):
        typer.echo(f"{row.name}\n    {row.title}: {row.users:,} users, {row.items:,} items, {row.events:,} events")
        typer.echo(f"    {row.have}; {row.licence}")


def doctor() -> None:
    """What is installed, on what machine, and what will be slow here."""
    from seqlab.runtime.doctor import examine

    for line in examine():
        typer.echo(line)
