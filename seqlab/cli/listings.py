"""What there is: the systems, the named datasets, and this machine."""

from __future__ import annotations

import typer


def models() -> None:
    """The systems, and what can be set."""
    from seqlab import models as systems

    for row in systems.table().to_dict("records"):
        paper = f"{row['paper']}, {row['venue']}, {row['year']}" if row["paper"] else "no paper"
        typer.echo(f"{row['system']} ({row['family']})\n    {row['what it is']}\n    {paper}\n    {row['settings']}")


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
