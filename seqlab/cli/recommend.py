"""The command that writes the lists of a finished run for many users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqlab.cli.options import SeenFilter, with_load_options
from seqlab.cli.run_data import Histories, Lists, Part, SplitOfRun, Trained, histories_of, open_run, require_run

if TYPE_CHECKING:
    import pandas as pd


@with_load_options
def recommend(
    run: Annotated[Path, typer.Argument(help="a run folder, or the name of a run that comes with the project")],
    out: Annotated[Path, typer.Option(help="the file to write, .csv or .parquet")],
    users: Annotated[str, typer.Option(help="all, or a file with the ids of users, one a line")] = "all",
    k: Annotated[int, typer.Option(min=1, help="items per user")] = 20,
    part: Part = "all",
    histories: Histories = None,
    seen_filter: SeenFilter = None,
    dataset: Trained = None,
    split: SplitOfRun = None,
    settings: Lists = None,
    *,
    load_options: dict[str, Any],
) -> None:
    """Write the K best items of every user to a table: user, item, rank, score, title; ids as in the source.

    A list continues the whole history of its user. Seen items are left out as in the evaluation of the run, unless
    --seen-filter or --no-seen-filter says otherwise. The file appears when it is complete.
    """
    require_run(run)  # before the slow imports
    from seqlab.datasets import unanswered
    from seqlab.runs import lists

    lists.check_file(out)
    wanted = None if users == "all" else unanswered.read_user_ids(users)
    opened, parts = open_run(run, dataset, split, settings, load_options)
    queries = histories_of(opened, parts, part, histories)
    if wanted is not None:
        queries = queries.of_users(wanted, users)
    for note in queries.notes:
        typer.echo(note, err=True)
    seen_filter = opened.seen_filter if seen_filter is None else seen_filter
    found = lists.tables(opened.model, parts.log, queries, k, seen_filter)
    count = lists.write(_shown(found, len(queries)), out)
    typer.echo(f"{out}: {count:,} rows, {len(queries):,} users; seen items {'left out' if seen_filter else 'kept'}.")


def _shown(found: Iterable[pd.DataFrame], users: int) -> Iterator[pd.DataFrame]:
    """The tables, with a progress bar in a terminal."""
    from tqdm.auto import tqdm

    from seqlab.runs.lists import QUERIES_PER_TABLE
    from seqlab.runtime.progress import interactive

    with tqdm(total=users, unit="user", disable=not interactive()) as bar:
        for table in found:
            yield table
            bar.update(min(QUERIES_PER_TABLE, users - bar.n))
