"""The trained runs that come with the project: each opens by its name, and is as good as it says."""

from __future__ import annotations

import dataclasses
import functools
import json

import pytest
import torch

import seqlab
from seqlab import datasets, models, tasks
from seqlab.contracts import needs_of
from seqlab.datasets.split_names import with_columns
from seqlab.experiments import zoo as making
from seqlab.presets import default_options
from seqlab.runs import pins, store, zoo
from seqlab.runs.data import split_of
from seqlab.runs.identity import differences, identity, stored_identity
from seqlab.training.arms import open_run
from tests.synthetic import chain_log, small

ZOO = zoo.zoo_runs()
USERS = 200


@functools.cache
def split(dataset: str, name: str) -> datasets.Split:
    return datasets.split(datasets.load(dataset), name)


def split_of_run(name: str) -> datasets.Split:
    data = json.loads((ZOO[name] / "provenance.json").read_text(encoding="utf-8"))["data"]
    return split(data["name"], data["split"])


@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_run_of_the_zoo_ranks_as_it_says(name: str) -> None:
    """Some users are ranked again: their rows are those of the stored outcome, up to another machine's rounding."""
    whole = split_of_run(name)
    run = seqlab.load_run(name, whole)
    parts = with_columns(whole, needs_of(run.model))
    stored = run.outcome.by_query()
    users = stored.frame["user"].drop_duplicates().sort_values().tolist()[:: max(1, len(stored.frame) // USERS)]
    chosen = torch.isin(parts.test.user, torch.tensor(users[:USERS])).nonzero()[:, 0]
    some = dataclasses.replace(parts, test=parts.test.select(chosen))
    again = tasks.measure(run.model, some, "test", run.seen_filter).by_query()
    before = stored.frame[stored.frame["query"].isin(again.frame["query"])]
    assert len(before) == len(again.frame) > 50
    metric = run.outcome.primary
    a, b = (dataclasses.replace(again, frame=frame).values([metric])[metric] for frame in (again.frame, before))
    assert ((a.to_numpy() - b.to_numpy()).__abs__() < 1e-3).mean() > 0.98
    assert float(a.mean()) == pytest.approx(float(b.mean()), abs=2e-3)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_run_of_the_zoo_is_small_and_nothing_of_the_machine_is_in_it(name: str) -> None:
    files = {path.name: path for path in ZOO[name].iterdir()}
    assert files.keys() == {"config.json", "metrics.json", "model.safetensors", "outcome.parquet", "provenance.json"}
    assert sum(path.stat().st_size for path in files.values()) < (5e6 if name == "recgpt" else 1e6)
    origin = json.loads(files["provenance.json"].read_text(encoding="utf-8"))
    assert origin["data"]["origin"] in (None, {"dataset": origin["data"]["name"]})
    primary = origin["evaluation"]["outcome"]["primary"]
    test = json.loads(files["metrics.json"].read_text(encoding="utf-8"))["test"]
    assert test[primary] == pytest.approx(origin["zoo"]["test"][primary], abs=making.TOLERANCE)


def test_the_zoo_holds_the_systems_of_the_plan() -> None:
    table = models.pretrained()
    assert {*table["system"]} == {*ZOO} <= {arm.system for arm in making.arms()}
    assert table["megabytes"].sum() < 25
    for arm in making.arms():
        assert models.card(arm.system).task != "next_item" or arm.dataset == "complete-journey"


@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_run_of_the_zoo_is_the_training_of_the_present_preset(name: str) -> None:
    arm = next(one for one in making.arms() if one.system == name)
    parts = split(arm.dataset, arm.split)
    model, there = models.create(name, parts, {}, making.SEED), stored_identity(ZOO[name])
    options = dataclasses.replace(default_options(model, parts), seed=making.SEED)
    assert not differences(there, identity(model, options, parts, arm.seen_filter, there.version))


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(FileNotFoundError, match="no run of that name comes with the project"):
        seqlab.load_run("sasrek")
    with pytest.raises(FileNotFoundError, match="no finished run"):
        split_of("seqlab")


@pytest.fixture
def one(tmp_path, monkeypatch):
    """A small training, its split, and a zoo of its packed copy."""
    monkeypatch.setattr(making, "SMALL", 100)
    parts = datasets.leave_one_out(chain_log())
    run = seqlab.fit(
        models.create("sasrec", parts, small("sasrec")), parts, seqlab.Options(epochs=1), tmp_path / "runs" / "mine"
    )
    monkeypatch.setattr(zoo, "included", lambda what: tmp_path / "zoo")
    making.pack(run, parts, tmp_path / "zoo" / "sasrec")
    return run, parts


def test_a_packed_run_is_half_as_large_and_holds_the_numbers_of_its_weights(one) -> None:
    run, parts = one
    packed = seqlab.load_run("sasrec", parts)
    assert all(tensor.dtype is torch.float for tensor in store.tensors(packed.model).values())
    again = tasks.measure(packed.model, parts, "test", packed.seen_filter)
    assert again.means() == packed.outcome.means() == packed.metrics["test"]
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (packed.folder, run.folder)]
    assert sizes[0] < 0.7 * sizes[1]
    origin = json.loads((packed.folder / "provenance.json").read_text(encoding="utf-8"))
    assert origin["zoo"]["test"] == seqlab.load_run(run.folder, parts).metrics["test"] and origin["zoo"]["half"]
    assert packed.history == run.history


def test_a_notebook_opens_the_zoo_only_where_it_fits(one, capsys) -> None:
    run, parts = one
    assert open_run("sasrec", parts).folder == zoo.zoo_runs()["sasrec"]
    assert open_run(run.folder, parts).folder == run.folder
    other = datasets.leave_one_out(chain_log(users=11))
    brief = seqlab.Options(epochs=1)
    assert zoo.trained_on("sasrec", other) is None
    assert open_run("sasrec", other, small("sasrec"), brief).folder is None
    assert open_run("sasrec", parts, options=brief, settings=small("sasrec")).folder is None


def test_a_pinned_run_of_the_zoo_is_found_by_its_name(one, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pins, "zoo_runs", zoo.zoo_runs)
    folder = zoo.zoo_runs()["sasrec"]
    pinned = pins.pin(tmp_path / "elsewhere" / "view.json", "07_workbench", {"dataset": "x.csv"}, [folder])
    assert '"zoo:sasrec"' in pinned.read_text(encoding="utf-8")
    assert pins.unpin(pinned)[1]["runs"] == [str(folder)]


def test_an_outcome_with_many_rows_keeps_whole_users(monkeypatch) -> None:
    import pandas as pd

    monkeypatch.setattr(making, "ROWS", 30)
    frame = pd.DataFrame({"user": [user for user in range(20) for _ in range(5)], "x": 1.0})
    kept = making._sample(frame)
    assert len(kept) == 30 and (kept.groupby("user").size() == 5).all()
    assert making._sample(frame.head(20)) is not None and len(making._sample(frame.head(20))) == 20


def test_the_zoo_takes_a_finished_run_and_goes_on_where_it_was(one, tmp_path, monkeypatch) -> None:
    run, parts = one
    arm = making.Arm("sasrec", "chain", "leave-one-out", run.seen_filter)
    monkeypatch.setattr(making, "arms", lambda: [arm])
    monkeypatch.setattr(making, "load", lambda name: parts.log)
    monkeypatch.setattr(making.models, "create", lambda name, parts, given, seed: models.build(
        name, parts.n_items, small(name), seed))  # fmt: skip
    monkeypatch.setattr(making, "default_options", lambda model, parts: seqlab.Options(epochs=1))
    lines: list[str] = []
    for _ in range(2):
        (made,) = making.make(tmp_path / "new", tmp_path / "none", [tmp_path / "runs"], echo=lines.append)
    assert made == tmp_path / "new" / "sasrec" and not (tmp_path / "none").exists()
    assert [line.split(": ")[1].split(" ")[0] for line in lines] == ["from", "ndcg@10", "there"]
    with pytest.raises(ValueError, match="cannot have markov"):
        making.make(tmp_path / "new", systems=["markov"])
