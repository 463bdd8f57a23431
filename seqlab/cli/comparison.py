"""The command that compares two systems: finished runs, or tables of recommendations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqlab.cli.options import with_load_options
from seqlab.cli.parsing import parse_pairs
from seqlab.cli.run_data import SplitOfRun, Trained, require_run, split_of_run

if TYPE_CHECKING:
    from seqlab.adapters.recommendations import Recommendations
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

ROLES = ("user", "item", "rank", "score")


@with_load_options
def compare(
    a: Annotated[Path, typer.Argument(help="a run folder, or a table of recommendations")],
    b: Annotated[Path, typer.Argument(help="another one, on the same data")],
    dataset: Trained = None,
    split: SplitOfRun = None,
    table: Annotated[
        list[str] | None,
        typer.Option(help="role=column of a table: user, item, rank or score, such as score=pred; else guessed"),
    ] = None,
    *,
    load_options: dict[str, Any],
) -> None:
    """Differences of metrics between A and B, paired by user, with 95 % intervals.

    A table of recommendations is a .csv, .tsv or .parquet file that another system made: a row per user and item, with
    a rank or a score, and ids as in the data.
    """
    files = [a, b]
    tables = [file for file in files if _is_table(file)]
    for file in files:
        if file not in tables:
            require_run(file)  # before the slow imports
    from seqlab import evaluation
    from seqlab.experiments import compared_runs

    parts = _split_of(files, tables, dataset, split, load_options)
    columns = _columns(table or [], tables)
    bad = load_options.get("bad", "refuse")
    systems = {
        side: [_opened(file, file in tables, parts, columns, bad)] for side, file in zip("ab", files, strict=True)
    }
    measured = compared_runs.outcomes(systems, parts)
    first, second = measured["a"][0], measured["b"][0]
    typer.echo(compared_runs.protocol(systems, measured) if tables else first.protocol)
    typer.echo(evaluation.INTERVALS)
    typer.echo(evaluation.compare(first, second).round(4).to_string())
    if tables:
        shared = compared_runs.overlap(systems, parts, first.seen_filter)
        typer.echo(f"Of their ten best items, {shared.at['a', 'b']:.2f} are the same, as a mean over users.")


def _is_table(file: Path) -> bool:
    """Whether this names a table, not a run folder."""
    from seqlab.datasets.dialect import suffix_of

    return not file.is_dir() and (file.is_file() or suffix_of(file) is not None or file.suffix == ".parquet")


def _split_of(
    files: list[Path], tables: list[Path], dataset: str | None, split: str | None, load_options: dict[str, Any]
) -> Split:
    """The data of the first run, or `dataset` where both are tables."""
    from seqlab.datasets import load
    from seqlab.datasets import split as make_split
    from seqlab.datasets.split_names import DEFAULT

    runs = [file for file in files if file not in tables]
    if runs:
        return split_of_run(runs[0], dataset, split, load_options)
    if dataset is None:
        raise ValueError("two tables do not say of which data they are: name these with --dataset.")
    return make_split(load(dataset, **load_options), split or DEFAULT)


def _columns(given: list[str], tables: list[Path]) -> dict[str, str]:
    """The columns of tables by role. Raises `ValueError` for another role, and where there is no table."""
    from seqlab.runtime.text import did_you_mean

    columns = parse_pairs(given)
    if columns and not tables:
        raise ValueError("--table names columns of a table of recommendations, but both are run folders.")
    for role in columns:
        if role not in ROLES:
            raise ValueError(f"--table {role}=...: the roles are {', '.join(ROLES)}.{did_you_mean(role, ROLES)}")
    return columns


def _opened(file: Path, is_table: bool, parts: Split, columns: dict[str, str], bad: str) -> Run | Recommendations:
    """A run, or a table, whose notes are printed."""
    from seqlab.adapters.recommendations import read_recommendations
    from seqlab.runs.run import load_run

    if not is_table:
        return load_run(file, parts)
    read = read_recommendations(file, parts, bad=bad, **columns)
    typer.echo("\n".join(read.notes), err=True)
    return read
