"""Trackers get losses by part, metrics and settings; a tracked training is the same training."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import pytest
import torch

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.optimization import tracking
from seqlab.optimization.options import Options
from seqlab.training.fit import fit
from tests.synthetic import chain_log, small

SPLIT = leave_one_out(chain_log(3, users=30))
OPTIONS = Options(epochs=2, tokens=1 << 14, learning_rate=5e-3, warmup=2, seed=7)  # one batch per epoch


def fresh(name: str = "rearec") -> torch.nn.Module:
    torch.manual_seed(1)
    return models.build(name, SPLIT.n_items, small(name))


class Recorder:
    """What a tracker of Accelerate does."""

    def __init__(self) -> None:
        self.settings, self.logged, self.finished = {}, [], False

    def store_init_configuration(self, values: dict) -> None:
        self.settings = values

    def log(self, values: dict, step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


def test_a_tracker_gets_everything_and_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recorder = Recorder()
    monkeypatch.setattr(tracking, "check", lambda name: None)
    monkeypatch.setattr(tracking, "_start", lambda name, out, run: recorder)
    run, plain = fit(fresh(), SPLIT, OPTIONS, tmp_path / "run", track="wandb"), fit(fresh(), SPLIT, OPTIONS)
    assert all(torch.equal(x, plain.model.state_dict()[name]) for name, x in run.model.state_dict().items())
    assert [set(row) for row in run.history] == [set(row) for row in plain.history]
    assert recorder.finished and recorder.settings["system"] == "rearec" and recorder.settings["seed"] == 7
    assert all(isinstance(value, bool | int | float | str) for value in recorder.settings.values())
    values: dict[int, dict] = {}
    for step, some in recorder.logged:
        values.setdefault(step, {}).update(some)
    assert sorted(values) == [1, 2]
    for step, row in enumerate(run.history, 1):
        found = values[step]
        assert found["loss"] == row["loss"] and found["valid/ndcg_at_10"] == row["ndcg@10"]
        steps = sum(value for name, value in found.items() if name.startswith("loss/step"))
        total = steps + run.model.config.contrast * found.get("loss/contrast", 0.0)
        assert total == pytest.approx(found["loss"], rel=1e-5) and found["targets_per_second"] > 0
    assert values[2]["test/ndcg_at_10"] == run.metrics["test"]["ndcg@10"]
    assert math.isclose(values[2]["learning_rate"], 5e-3)


def test_a_tracker_is_closed_after_an_error_and_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    with monkeypatch.context() as patched:
        patched.setattr(tracking, "check", lambda name: None)
        patched.setattr(tracking, "_start", lambda name, out, run: recorder)
        model = fresh()
        patched.setattr(model, "loss", lambda batch: 1 / 0, raising=False)
        with pytest.raises(ZeroDivisionError):
            fit(model, SPLIT, OPTIONS, track="wandb")
        assert recorder.finished
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError, match=r"Tracking with MLflow needs a package .* pip install 'seqlab\[mlflow\]'"):
        fit(fresh(), SPLIT, OPTIONS, track="mlflow")
    with pytest.raises(ValueError, match=r"there is no tracker 'tensorbord'\. Did you mean 'tensorboard'"):
        fit(fresh(), SPLIT, OPTIONS, track="tensorbord")


def test_tensorboard_reads_what_was_tracked(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = fit(fresh("sasrec"), SPLIT, OPTIONS, tmp_path / "run", track="tensorboard")
    events = EventAccumulator(str(tmp_path / "tracking" / "run"))
    events.Reload()
    assert {"loss", "learning_rate", "valid/ndcg_at_10", "test/ndcg_at_10"} <= set(events.Tags()["scalars"])
    assert [one.step for one in events.Scalars("loss")] == [1, 2]
    assert events.Scalars("loss")[1].value == pytest.approx(run.history[1]["loss"], rel=1e-6)


def test_mlflow_keeps_runs_in_a_database_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    fit(models.build("popularity", SPLIT.n_items), SPLIT, out=tmp_path / "run", track="mlflow")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'tracking' / 'mlflow.db'}")
    (found,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    mlflow.set_tracking_uri(None)
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["ndcg@10"]
    assert found.data.metrics["test/ndcg_at_10"] == pytest.approx(stored)
    assert found.data.params["system"] == "popularity" and (tmp_path / "tracking" / "mlflow.db").is_file()
