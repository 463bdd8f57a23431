"""Commands that list the systems, the named datasets, and the software and hardware of this machine."""

from __future__ import annotations

from typing import Annotated

import typer


def models(
    system: Annotated[str | None, typer.Argument(help="the page of this one: settings, presets, results")] = None,
) -> None:
    """List the systems with their papers and settings, those outside the package last; or show the page of one."""
    from seqlab import models as systems

    if system is not None:
        from seqlab.cli.details import system_page

        typer.echo(system_page(system))
        return

    for row in systems.table().to_dict("records"):
        paper = f"{row['paper']}, {row['venue']}, {row['year']}" if row["paper"] else "no paper"
        place = "" if row["from"] == "seqlab" else f"\n    from {row['from']}"
        typer.echo(
            f"{row['system']} ({row['family']})\n    {row['what it is']}\n    {paper}\n    {row['settings']}{place}"
        )
    for problem in systems.problems().values():
        typer.echo(f"Not usable: {problem}", err=True)


def studies() -> None:
    """List the studies with their claims and settings."""
    from seqlab import studies as known

    for row in known.table().to_dict("records"):
        typer.echo(f"{row['study']}\n    {row['what it is']}\n    {row['claim']} ({row['paper']}, {row['year']})")
        typer.echo(f"    on {row['datasets']}\n    {row['settings']}")


def datasets(
    name: Annotated[str | None, typer.Argument(help="the page of this one: columns, source, licence")] = None,
) -> None:
    """List the named datasets with their licences, and whether they are on this machine; or show the page of one."""
    from seqlab.datasets import catalog

    if name is not None:
        from seqlab.cli.details import dataset_page

        typer.echo(dataset_page(name))
        return

    for row in catalog().itertuples(index=False):
        typer.echo(f"{row.name}\n    {row.title}: {row.users:,} users, {row.items:,} items, {row.events:,} events")
        typer.echo(f"    {row.have}; {row.licence}")


def doctor() -> None:
    """Show versions, hardware, and what will be slow on this machine."""
    from seqlab.runtime.doctor import examine

    for line in examine():
        typer.echo(line)
