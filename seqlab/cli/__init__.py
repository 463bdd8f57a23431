"""The command line. Every command is a few lines over a public function."""

from __future__ import annotations

from typing import Annotated

import typer

from seqlab.cli.card import card
from seqlab.cli.comparison import compare
from seqlab.cli.experiments import leaderboard, plan, sweep, tune
from seqlab.cli.explain import explain
from seqlab.cli.export import export
from seqlab.cli.findings import study
from seqlab.cli.listings import datasets, doctor, models, studies
from seqlab.cli.names import check_options
from seqlab.cli.notebooks import lab, notebooks, report
from seqlab.cli.parsing import join_parameter_words
from seqlab.cli.recommend import recommend
from seqlab.cli.train import evaluate, fit
from seqlab.cli.zoo import zoo
from seqlab.runtime.text import MissingDataError

app = typer.Typer(
    help="A lab for seeing how a sequential recommender thinks.", no_args_is_help=True,
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def _show_version(requested: bool) -> None:
    if requested:
        from seqlab import __version__

        typer.echo(f"seqlab {__version__}")
        raise typer.Exit


@app.callback()
def refuse_torchrun(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="the version, and exit")
    ] = False,
) -> None:
    import os

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and context.invoked_subcommand != "fit":
        raise ValueError(
            f"torchrun is for `fit`; `{context.invoked_subcommand}` would run once in every process. "
            "For several runs at a time use `sweep`."
        )


# in the order of --help
COMMANDS = (
    card, fit, evaluate, compare, recommend, explain, export, report, models, datasets, studies, study, leaderboard,
    sweep, tune, plan, zoo, doctor, notebooks, lab,
)  # fmt: skip
JUPYTERS = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Of the command whose further options are JupyterLab's."""
for command in COMMANDS:
    app.command(context_settings=JUPYTERS if command is lab else None)(command)


def main() -> None:
    """The command `seqlab`: errors that a user can correct are one sentence on stderr and exit code 2.

    The exit code is 1 where the data lack what a system, a split or a task needs.
    """
    import sys

    words = join_parameter_words(sys.argv[1:])
    try:
        check_options(typer.main.get_command(app), words)
        app(words)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        typer.echo(f"seqlab: {error}", err=True)
        raise SystemExit(1 if isinstance(error, MissingDataError) else 2) from None
