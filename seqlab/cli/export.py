"""The command that writes a finished run as an ONNX model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqlab.cli.options import SeenFilter, with_load_options
from seqlab.cli.run_data import SplitOfRun, Trained, open_run, require_run


@with_load_options
def export(
    run: Annotated[Path, typer.Argument(help="a run of a system that scores all items: its folder or name")],
    onnx: Annotated[Path, typer.Option(help="the file to write, .onnx")],
    k: Annotated[int, typer.Option(min=1, help="items per user")] = 10,
    scores: Annotated[bool, typer.Option("--scores", help="the scores of all items instead of the best K")] = False,
    seen_filter: SeenFilter = None,
    dataset: Trained = None,
    split: SplitOfRun = None,
    *,
    load_options: dict[str, Any],
) -> None:
    """Write RUN as an ONNX model that takes histories of item numbers, and a table with the id of each number.

    Its scores are compared with those of torch on 200 users first. Needs: pip install 'seqlab[export]'.
    """
    require_run(run)  # before the slow imports
    from seqlab.runs import store
    from seqlab.runs.export import check, to_onnx
    from seqlab.runs.zoo import run_folder
    from seqlab.runtime.files import atomic_write

    if onnx.suffix != ".onnx":
        raise ValueError(f"{onnx}: the suffix must be .onnx.")
    if not onnx.parent.is_dir():
        raise ValueError(f"{onnx}: there is no folder {onnx.parent}; make it first.")
    check(store.load(run_folder(run)))  # before the data are read
    opened, parts = open_run(run, dataset, split, None, load_options)
    seen_filter = opened.seen_filter if seen_filter is None else seen_filter
    made = to_onnx(opened.model, parts.test, parts.n_items, onnx, None if scores else k, seen_filter)
    numbers = atomic_write(
        onnx.with_suffix(".items.csv"), parts.log.items[["item_id", "title"]].to_csv(index_label="item")
    )
    length = f"{'always' if made.fixed else 'at most'} {made.longest:,} events, padded with 0 on the right"
    typer.echo(
        f"{onnx}: {', '.join(made.inputs)} -> {', '.join(made.outputs)}; any number of users, {length}; "
        f"{onnx.stat().st_size / 1e6:.1f} MB.\n"
        f"Compared with torch on {made.users:,} users: the largest difference of a score is {made.difference:.1g} of "
        f"the largest score.\n{numbers}: the id and the title of each item number."
    )
