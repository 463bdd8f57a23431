"""Typing errors in commands, and the pages of one system and of one dataset."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqlab import models
from seqlab.cli.names import decoding_settings, system_settings, training_options
from seqlab.decoding.settings import SETTINGS
from seqlab.optimization.options import Options
from tests.cli.test_cli import code_of

ROOT = Path(__file__).parents[2]

TYPOS = {
    "fit sasrex --out run": "there is no system 'sasrex'. Did you mean 'sasrec'?",
    "fit sasrec --out run --set dims=3": "sasrec has no setting 'dims'. Did you mean 'dim'?",
    "fit tiger --out run --set widht=3": "tiger has no setting 'widht'. Did you mean 'width'?",
    "fit sasrec --out run --dataset ml1m": "there is no dataset called 'ml1m'. Did you mean 'ml-1m'?",
    "fit sasrec --out run --learning-rate 0.01": "it is a setting: --set learning_rate=0.01",
    "sweep sasrec gru4rek": "there is no system 'gru4rek'",
    "sweep sasrec --grid dims=3,4": "sasrec has no setting 'dims'",
    "leaderboard sasrec:dims=3": "sasrec has no setting 'dims'",
    "tune sasrec --space dims=3,4": "sasrec has no setting 'dims'",
    "study calibration --systems sasrex": "there is no system 'sasrex'",
    "compare sasrex gru4rec": "sasrex is no finished run",
    "recommend sasrex --out x.csv": "sasrex is no finished run",
    "evaluate sasrex": "sasrex is no finished run",
    "explain sasrex --user 1": "sasrex is no finished run",
    "models sasrex": "there is no system 'sasrex'. Did you mean 'sasrec'?",
    "datasets ml1m": "there is no dataset called 'ml1m'. Did you mean 'ml-1m'?",
    "report 90_report_systm": "Did you mean '90_report_system'? There are: 00_start_here, 01_look_at_the_data,",
}
"""Commands, and a part of the answer."""

ANSWER = """
import contextlib, io, sys
from seqlab import cli
for line in sys.argv[1:]:
    sys.argv = ["seqlab", *line.split()]
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.suppress(SystemExit):
        cli.main()
    print(line, said.getvalue().strip().replace(chr(10), " "), "torch" in sys.modules, sep="|")
"""


def test_a_typing_error_is_answered_before_torch_is_imported(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ANSWER, *TYPOS], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [line.split("|") for line in done.stdout.splitlines()]
    assert [line for line, *_ in answers] == list(TYPOS)
    for line, said, torch in answers:
        assert TYPOS[line] in said and torch == "False", (line, said, torch)


def test_a_misspelt_setting_lists_the_training_options() -> None:
    with pytest.raises(ValueError, match=r"It has: max_length, .* Of training: epochs, tokens, learning_rate, "):
        models.separate("sasrec", {"dims": "3"})


def test_the_files_say_all_settings() -> None:
    """Read from their source, they are the fields of the classes."""
    for name in models.names():
        assert [one.name for one in system_settings(name)] == [
            one.name for one in dataclasses.fields(models.module(name).Config)
        ], name
    assert [one.name for one in training_options()] == [one.name for one in dataclasses.fields(Options)]
    assert [one.name for one in decoding_settings()] == [*SETTINGS]


def test_the_page_of_a_system(capsys: pytest.CaptureFixture) -> None:
    assert code_of("models", "tiger") == 0
    page = " ".join(capsys.readouterr().out.split())
    for words in (
        "Rajput et al., Recommender Systems with Generative Retrieval, NeurIPS, 2023",
        "max_length 20 most recent items read; paper 20",
        "dim 64 width of the states; paper 128",
        "layout decoder paper encoder_decoder; one of decoder, encoder_decoder",
        "epochs 100 at most; early stopping usually ends sooner",
        "width None beam, diverse: prefixes kept at every step",
        "complete-journey: dropout=0.0156",
        'seqlab.load_run("tiger"): complete-journey, leave-one-out',
        "The first half held on amazon-beauty",
    ):
        assert words in page
    assert code_of("models", "popularity") == 0
    page = capsys.readouterr().out
    assert "epochs" not in page and "Decoding" not in page  # it is not trained and generates no codes


def test_the_page_of_a_dataset(capsys: pytest.CaptureFixture) -> None:
    assert code_of("datasets", "ml-1m") == 0
    page = " ".join(capsys.readouterr().out.split())
    for words in ("6,040 users, 3,416 items", "research only, no redistribution (GroupLens)", "genres names separated"):
        assert words in page
