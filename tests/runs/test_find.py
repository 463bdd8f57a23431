"""Finished runs are found by their identity, in any folder and under any name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.experiments import leaderboard
from seqlab.optimization.options import Options
from seqlab.presets import default_options
from seqlab.runs import find
from seqlab.training.fit import fit
from seqlab.widgets import CompareSystems
from tests.synthetic import chain_log

SMALL = {"dim": 8, "layers": 1, "heads": 1, "max_length": 6}
BRIEF = Options(epochs=1, tokens=256, warmup=1)
ARM = f"sasrec:{':'.join(f'{key}={value}' for key, value in SMALL.items())}"


@pytest.fixture(scope="module")
def split():
    return leave_one_out(chain_log(users=30))


@pytest.fixture(scope="module")
def shelf(split, tmp_path_factory):
    """A small run as the command line makes it, one of other options by a name of its own, and a floor."""
    below = tmp_path_factory.mktemp("runs")
    every = {key: value for key, value in dataclasses.asdict(BRIEF).items() if key != "seed"}
    leaderboard.plan(ARM, split, 0, below, every).train_or_load(split)
    leaderboard.plan("popularity", split, 0, below, {}).train_or_load(split)
    fit(models.create("sasrec", split, SMALL), split, dataclasses.replace(BRIEF, epochs=2), below / "longer")
    return below


def of(split, settings=SMALL):
    return models.create("sasrec", split, settings)


def test_a_run_of_the_command_line_is_found_by_its_identity(split, shelf, tmp_path) -> None:
    found = find.run_folder(shelf, of(split), split, BRIEF)
    assert found.parent == shelf / split.log.name and found.is_dir()
    moved = shutil.copytree(found, tmp_path / "kept" / "whatever")
    assert find.run_folder(tmp_path / "kept", of(split), split, BRIEF) == moved
    assert find.run_folder(shelf, of(split), split, dataclasses.replace(BRIEF, epochs=2)) == shelf / "longer"
    assert find.run_folder("", of(split), split, BRIEF) is None
    assert find.run_folder(shelf, models.create("popularity", split), split).is_dir()


@pytest.mark.parametrize(
    ("settings", "changes", "seen_filter"),
    [({"dim": 16}, {}, None), ({}, {"epochs": 3}, None), ({}, {"seed": 1}, None), ({}, {}, True)],
)
def test_another_setting_option_or_filter_is_another_run(split, shelf, settings, changes, seen_filter) -> None:
    model = of(split, SMALL | settings)
    place = find.run_folder(shelf, model, split, dataclasses.replace(BRIEF, **changes), seen_filter)
    assert place.parent == shelf / split.log.name and not place.exists()


def test_a_run_on_other_data_of_the_same_name_is_not_found(shelf) -> None:
    other = leave_one_out(chain_log(seed=1, users=30))
    assert not find.run_folder(shelf, of(other), other, BRIEF).exists()
    note = f"Left out: 3 finished runs below {shelf} on other data of this name."
    assert find.load_runs(shelf, other) == ([], [note])


def test_all_runs_on_the_data_are_loaded_each_once(split, shelf, tmp_path) -> None:
    kept = shutil.copytree(shelf, tmp_path / "kept")
    shutil.copytree(shelf / "longer", kept / "again")
    floor = models.create("popularity", split)
    fit(floor, split, Options(epochs=7, seed=3), kept / "floor")  # counts the same whatever its options
    fit(models.create("markov", split), split, out=kept / "filtered", seen_filter=split.log.repeats)
    runs, notes = find.load_runs(kept, split)
    assert [run.system for run in runs] == ["popularity", "sasrec", "sasrec"]
    assert notes == [f"Left out: 1 finished run below {kept} with the other seen filter."]
    at_hand = [fit(of(split), split, BRIEF, find.run_folder(kept, of(split), split, BRIEF), resume=True)]
    rest, _ = find.load_runs(kept, split, loaded=at_hand)
    assert [run.system for run in rest] == ["popularity", "sasrec"] and rest[1].metrics["epochs"] == 2
    (kept / "again" / "config.json").write_text(json.dumps({"system": "sasrec", "config": []}))
    assert len(find.load_runs(kept, split)[0]) == 3


def test_compared_runs_are_labelled_by_their_options(split, shelf) -> None:
    compared = CompareSystems(find.load_runs(shelf, split)[0], split)
    made = compared.configurations().set_index("system")
    assert sorted(made.index) == ["popularity", "sasrec:epochs=1", "sasrec:epochs=2"]
    assert made.at["sasrec:epochs=2", "training"] == "epochs=2, tokens=256, warmup=1"
    assert "dim=8" in made.at["sasrec:epochs=1", "settings"] and made.at["popularity", "training"] == "none (a floor)"
    assert made.at["sasrec:epochs=2", "folders"] == str(shelf / "longer")
    assert list(compared.first_runs)[-1] == "popularity"


def test_the_options_of_a_run_are_those_it_was_made_with(split, shelf) -> None:
    assert find.options_of(shelf / "longer") == dataclasses.replace(BRIEF, epochs=2)
    floor = find.run_folder(shelf, models.create("popularity", split), split)
    assert find.options_of(floor) == default_options(models.create("popularity", split), split)


def test_the_default_folder_of_runs_is_in_the_project(monkeypatch, tmp_path) -> None:
    """From the root of a project, from notebooks/, and from a folder without a project."""
    checkout = Path(find.__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    assert find.default_folder() == checkout / "data" / "runs"
    (tmp_path / "data" / "runs").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    assert find.default_folder() == tmp_path / "data" / "runs"
    monkeypatch.chdir(tmp_path / "notebooks")
    assert find.default_folder() == tmp_path / "data" / "runs"
    monkeypatch.chdir(checkout / "notebooks")
    assert find.default_folder() == checkout / "data" / "runs"
