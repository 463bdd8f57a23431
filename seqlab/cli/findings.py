"""The command for studies done with trained systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqlab.cli.names import check_arms
from seqlab.cli.options import Dataset, SeenFilter, SplitName, resumable, split_of_cards, with_load_options
from seqlab.cli.parsing import parse_arms, parse_pairs, parse_seeds


@with_load_options
@resumable
def study(
    name: Annotated[str, typer.Argument(help="which study (seqlab studies)")],
    systems: Annotated[str, typer.Option(help="the systems, with settings if need be: sasrec,gru4rec:dim=32")],
    dataset: Dataset = "complete-journey",
    split: SplitName = None,
    seeds: Annotated[str, typer.Option(help="of the trainings: one or more, 0,1,2")] = "0",
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value: a setting of the study")] = None,
    seen_filter: SeenFilter = None,
    runs: Annotated[Path, typer.Option(help="the folder of runs, where finished ones are found")] = Path("data/runs"),
    out: Annotated[
        Path | None, typer.Option(help="the folder of the findings; by default data/studies/DATASET/STUDY-HASH")
    ] = None,
    *,
    load_options: dict[str, Any],
) -> None:
    """Do a study with SYSTEMS: train the runs that are missing, and write its tables and verdicts.

    The command can be killed and repeated; findings that are there already are read.
    """
    from seqlab import studies

    arms, numbers = parse_arms(systems), parse_seeds(seeds)
    check_arms(arms)
    config = studies.configure(name, parse_pairs(settings or []))  # raises before the data are read
    typer.echo(f"Reading {dataset}.")
    import dataclasses

    from seqlab import datasets
    from seqlab.training.arms import parse_arm, trained

    for arm in arms:
        parse_arm(arm)
    parts = datasets.split(datasets.load(dataset, **load_options), split or split_of_cards(arms))
    found = {arm: [trained(arm, parts, seed, runs, seen_filter) for seed in _needed(arm, numbers)] for arm in arms}
    place = out or studies.default_folder(Path("data/studies"), name, parts, found, config)
    findings = studies.conduct(name, parts, found, dataclasses.asdict(config), place, runs)
    for line in findings.notes:
        typer.echo(line)
    for one in findings.verdicts:
        number = "" if one.word == "not tested" else f": {one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
        typer.echo(f"{one.word.upper()}  {one.claim}  {one.about}{number}  {one.reason}".rstrip())
    typer.echo(f"The findings: {findings.folder}")


def _needed(arm: str, seeds: list[int]) -> list[int]:
    """The seeds of an arm: one for a system that is not trained."""
    from seqlab import models
    from seqlab.contracts import Learns, supports

    return seeds if supports(models.system(arm.split(":")[0]), Learns) else seeds[:1]
