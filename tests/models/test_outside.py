"""Systems outside the package: files in $SEQLAB_MODELS and entry points, used as those in the package are."""

from __future__ import annotations

import json
import re
import shutil
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

import seqlab
from seqlab import cli, models, presets
from seqlab.contracts import Learns, name_of, supports
from seqlab.datasets import leave_one_out, split
from seqlab.experiments import leaderboard_page, plan
from seqlab.optimization.options import Options
from seqlab.runs.find import finished_runs, load_runs, run_folder
from seqlab.runs.run import load_run
from seqlab.runtime import outside
from seqlab.training.fit import fit
from seqlab.widgets.workbench.stored import fitting
from tests.synthetic import chain_log

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
(LAST_ITEM,) = [block for block in re.findall(r"```python\n(.*?)```", README, flags=re.S) if "CARD = Card(" in block]
"""The README's example of a system."""

TRAINED = '''"""Bias: a score per item, trained."""

import torch
import torch.nn.functional as F
from torch import nn

from seqlab.contracts import Card, Loss
from seqlab.ranking import top
from seqlab.runtime.settings import Count, settings

CARD = Card(claim="A bias is popularity.", split="within-user 0.2")
TINY = {"max_length": 4}


@settings
class Config:
    max_length: Count = 7
    scale: float = 1.0


class Bias(nn.Module):
    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config, self.bias = config, nn.Parameter(torch.zeros(n_items + 1))

    def score(self, batch):
        return self.config.scale * self.bias.repeat(len(batch), 1)

    def recommend(self, batch, k):
        return top(self.score(batch), k)

    def loss(self, batch):
        wanted = batch.targets[batch.targets > 0]
        return Loss(F.cross_entropy(self.bias.repeat(len(wanted), 1), wanted))
'''
SPLIT = leave_one_out(chain_log())
BRIEF = Options(epochs=1, tokens=128)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of systems, set in the environment."""
    home = tmp_path / "systems"
    home.mkdir()
    (home / "bias.py").write_text(TRAINED)
    (home / "_notes.py").write_text("1 / 0")
    monkeypatch.setenv(outside.VARIABLE, str(home))
    yield home
    for name in [name for name in sys.modules if name.startswith("seqlab_models.")]:
        del sys.modules[name]


def test_a_file_of_the_folder_is_a_system(folder):
    assert models.names_outside() == ["bias"] and models.known("bias") and "bias" not in models.names()
    assert models.family("bias") == "outside" and models.card("bias").claim == "A bias is popularity."
    model = models.create("bias", SPLIT, {"scale": "0.5"})
    assert name_of(model) == "bias" and model.config.scale == 0.5 and supports(models.system("bias"), Learns)
    with pytest.raises(ValueError, match=r"bias has no setting 'scales'.*Did you mean 'scale'"):
        models.configure("bias", {"scales": 1})
    with pytest.raises(ValueError, match=r"no system 'bais'\. Did you mean 'bias'.*; outside: bias\."):
        models.system("bais")


def test_the_lists_of_the_project_hold_its_own_systems_only(folder):
    listed = models.table().set_index("system")["from"]
    assert listed["bias"] == str(folder / "bias.py") and set(listed.drop("bias")) == {"seqlab"}
    assert "bias" not in models.gallery_markdown() and models.gallery_markdown() in README
    assert not [one for one in plan.comparisons() if "bias" in one.arms]
    assert not [arm for arm, *_ in plan.tunings() if arm == "bias"]
    assert "bias" not in [row[0] for row in leaderboard_page._claims({})]
    printed = CliRunner().invoke(cli.app, ["models"]).output
    assert re.search(
        r"^bias \(outside\)\n +Bias: a score.*\n +no paper\n.*scale=1\.0\n +from .*bias\.py\n", printed, re.M
    )


def test_it_is_trained_found_and_loaded_again(folder, tmp_path):
    runs = tmp_path / "runs"
    model = models.create("bias", SPLIT)
    out = run_folder(runs, model, SPLIT, BRIEF)
    run = fit(model, SPLIT, BRIEF, out)
    assert out.name.startswith("bias-0-") and run_folder(runs, models.create("bias", SPLIT), SPLIT, BRIEF) == out
    again = load_run(out, SPLIT)
    assert again.system == "bias" and again.metrics == run.metrics
    assert [one.system for one in load_runs(runs, SPLIT)[0]] == ["bias"]
    assert fitting(finished_runs(runs)) == (finished_runs(runs), "")
    assert "Why" in [view.__name__ for view in seqlab.widgets.fitting(again)]


def test_other_code_is_another_training(folder, tmp_path):
    runs, model = tmp_path / "runs", models.create("bias", SPLIT)
    out = run_folder(runs, model, SPLIT, BRIEF)
    fit(model, SPLIT, BRIEF, out)
    (folder / "bias.py").write_text(TRAINED.replace("import torch\n", "import torch  # of PyTorch\n\n\n", 1))
    assert run_folder(runs, model, SPLIT, BRIEF) == out
    (folder / "bias.py").write_text(TRAINED.replace("self.config.scale * ", ""))
    other = run_folder(runs, model, SPLIT, BRIEF)
    assert other != out and not other.exists() and load_run(out, SPLIT).folder == out
    with pytest.raises(ValueError, match="another version of the code of bias"):
        fit(model, SPLIT, BRIEF, out, resume=True)


def test_a_run_whose_file_is_gone_is_listed_and_says_what_is_missing(folder, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    fit(models.create("bias", SPLIT), SPLIT, BRIEF, runs / "synthetic" / "mine")
    shutil.move(folder / "bias.py", tmp_path / "elsewhere.py")
    assert [one.system for one in finished_runs(runs)] == ["bias"] and fitting(finished_runs(runs))[1] == ""
    with pytest.raises(ValueError, match=r"'bias' is no system of seqlab.*its file bias\.py is not in .*SEQLAB_MODELS"):
        load_run(runs / "synthetic" / "mine", SPLIT)
    monkeypatch.delenv(outside.VARIABLE)
    with pytest.raises(ValueError, match="SEQLAB_MODELS, which is not set"):
        load_run(runs / "synthetic" / "mine", SPLIT)
    monkeypatch.setenv(outside.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="SEQLAB_MODELS names no folder"):
        models.module("sasrec")


def test_the_command_line_trains_it_with_the_split_of_its_card(folder, tmp_path):
    log = tmp_path / "log.csv"
    chain_log().events[["user", "item", "timestamp"]].to_csv(log, index=False)
    words = ["fit", "bias", "--dataset", str(log), "--out", str(tmp_path / "run"), "--epochs", "1"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    stored = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert (
        "Run(bias: recall@10" in done.output and stored["data"]["split"] == split(chain_log(), "within-user 0.2").name
    )


def test_presets_are_beside_the_file(folder):
    (folder / "bias.toml").write_text("[default.settings]\nscale = 2.0\n[default.options]\nepochs = 30\n")
    assert models.create("bias", SPLIT).config.scale == 2.0
    assert presets.default_options(models.create("bias", SPLIT), SPLIT).epochs == 150  # of a small log
    assert "bias" not in presets.systems()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[default.settings", r"bias\.toml is no TOML"),
        ("[default.setings]\nscale = 2", r"bias\.toml: 'setings' has no place there"),
        ("scale = 2", r"bias\.toml: 'scale' has no place there"),
        ("[default.settings]\nscales = 2", "bias has no setting 'scales'"),
        ("[default.options]\nepoch = 2", r"the preset of bias has no setting 'epoch'\. Did you mean 'epochs'"),
    ],
)
def test_a_preset_that_is_none_is_one_sentence(folder, text, message):
    (folder / "bias.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        presets.default_options(models.create("bias", SPLIT), SPLIT)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("broken", "import torch\nimport nothing_here\n", r"broken\.py does not import: line 2: No module named"),
        ("broken", "def f(:\n", r"broken\.py does not import: line 1: invalid syntax .*\(SyntaxError\)"),
        ("broken", TRAINED.replace("CARD = ", "FACTS = "), r"broken\.py has no CARD; a system's file defines CARD"),
        ("broken", TRAINED.replace("TINY = ", "SMALL = "), r"broken\.py has no TINY; a system's file defines TINY"),
        ("broken", TRAINED.replace("Config", "Settings"), r"broken\.py has no Config"),
        ("broken", TRAINED.replace(" = 7", ""), r"broken\.py: Config\.max_length has no default"),
        ("broken", TRAINED.replace("n_items: int", "items: int"), r"exactly one class .*\(found 0\)"),
        ("broken", TRAINED.replace('"max_length": 4', '"length": 4'), "broken has no setting 'length'"),
        ("sasrec", TRAINED, r"sasrec\.py has the name of a system of seqlab, sasrec; rename it"),
        ("my-model", TRAINED, r"my-model\.py: a system has the name of its module, which is a Python name"),
    ],
)
def test_a_file_that_is_no_system_is_one_sentence_and_spoils_no_other(folder, name, text, message):
    (folder / f"{name}.py").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        models.configure(name, dict(models.module(name).TINY))
    assert str(error.value).count("\n") == 0
    assert models.create("bias", SPLIT).config.max_length == 7 and [*models.problems()] == [name]
    if name == "sasrec":  # the list of systems needs it
        return
    listed = CliRunner().invoke(cli.app, ["models"])
    assert listed.exit_code == 0 and re.search("Not usable: .*" + message, listed.output)


def test_an_entry_point_is_a_system(folder, tmp_path, monkeypatch):
    package = tmp_path / "installed" / "their_lab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "last_item.py").write_text(LAST_ITEM)
    (package / "last_item.toml").write_text("[default.settings]\nmax_length = 3\n")
    monkeypatch.syspath_prepend(package.parent)
    entries = [
        EntryPoint("last_item", "their_lab.last_item", outside.GROUP),
        EntryPoint("waves", "their_lab.last_item", outside.GROUP),
        EntryPoint("gone", "their_lab.gone", outside.GROUP),
        EntryPoint("bias", "their_lab.bias", outside.GROUP),
    ]
    monkeypatch.setattr(outside, "_installed", lambda: tuple(outside._source(one) for one in entries))
    assert models.names_outside() == ["bias", "gone", "last_item", "waves"]
    model = models.create("last_item", SPLIT)
    assert (name_of(model), model.config.max_length, models.family("last_item")) == ("last_item", 3, "outside")
    found = models.problems()
    assert set(found) == {"bias", "gone", "waves"}
    assert "have the same name; rename one" in found["bias"]
    assert "the entry point gone = their_lab.gone does not import: No module named 'their_lab.gone'" in found["gone"]
    assert "a system has the name of its module" in found["waves"]
