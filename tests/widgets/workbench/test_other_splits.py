"""Runs of a file of one's own and of another split than leave-one-out: found, opened, pinned, never mixed."""

import numpy as np
import pandas as pd
import pytest

from seqlab import datasets, models, widgets
from seqlab.optimization.options import Options
from seqlab.runs import pins
from seqlab.runs.find import finished_runs
from seqlab.training.fit import fit
from seqlab.widgets.workbench import stored

BY_TIME = "by-time 2020-09-20 2020-09-23"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A CSV, and below the folder runs: three by time, one of leave-one-out."""
    random, home = np.random.default_rng(0), tmp_path_factory.mktemp("own")
    rows = [
        (f"c{user}", f"s{item}", 1.6e9 + 86_400 * step + user)
        for user in range(40)
        for step, item in enumerate(random.integers(1, 20, random.integers(8, 16)))
    ]
    pd.DataFrame(rows, columns=["who", "what", "when"]).to_csv(home / "shop.csv", index=False)
    log = datasets.load(home / "shop.csv", user="who", item="what", time="when")
    small = {"max_length": 8, "dim": 16, "layers": 1, "heads": 2}
    for name, split_name in {
        "sasrec": BY_TIME,
        "markov": BY_TIME,
        "popularity": BY_TIME,
        "last": "leave-one-out",
    }.items():
        split, system = datasets.split(log, split_name), "sasrec" if name == "last" else name
        model = models.build(system, split.n_items, small if system == "sasrec" else {})
        fit(model, split, Options(epochs=1, tokens=128), home / "runs" / name)
    return home


def test_the_split_and_the_data_are_those_of_the_run(home, report):
    runs = home / "runs"
    bench = widgets.Workbench.from_folder(runs, runs=[runs / "sasrec", runs / "markov"])
    assert bench.split.name == BY_TIME and bench.split.log.name == "shop"
    assert bench.dataset == str(home / "shop.csv")
    assert f"shop, split {BY_TIME}." in bench.still()
    assert widgets.Workbench.from_folder(runs).split.name == "leave-one-out"
    assert widgets.Workbench.from_folder(runs, split_name=BY_TIME).split.name == BY_TIME
    with pytest.raises(ValueError, match="runs of different splits cannot be open together: last is of leave-one-out"):
        widgets.Workbench.from_folder(runs, runs=[runs / "last", runs / "sasrec"])
    with pytest.raises(FileNotFoundError, match="no finished run"):
        widgets.Workbench.from_folder(runs, split_name="cold-items 0.1")


def test_the_toolbar_shows_the_split_and_refuses_to_mix(home, live, tmp_path):
    runs = home / "runs"
    bench = widgets.Workbench.from_folder(runs, runs=[runs / "last"])
    choice = bench.choice
    assert not choice.split.value
    choice.runs[0].value = runs / "sasrec"
    assert BY_TIME in choice.split.value
    choice.runs[1].value = runs / "last"
    choice.button.click()
    assert "Runs of different splits cannot be open together" in bench.status.message
    assert bench.split.name == "leave-one-out"
    choice.runs[1].value = runs / "markov"
    choice.button.click()
    assert not bench.status.message
    assert (bench.split.name, list(bench.runs)) == (BY_TIME, ["sasrec", "markov"])
    _, parameters = pins.unpin(bench.pin(tmp_path / "view"))
    assert parameters["split_name"] == BY_TIME
    assert parameters["dataset"] == str(home / "shop.csv")
    bench.change(bench.dataset, [runs / "last"])
    assert bench.split.name == "leave-one-out"


def test_runs_that_recommend_nothing_are_counted_and_not_offered(home, live, monkeypatch):
    class Clock:
        loss = None

    monkeypatch.setattr(stored.models, "system", lambda name: Clock if name == "markov" else object)
    monkeypatch.setattr(stored, "fits", lambda system: system is not Clock)
    found, sentence = stored.fitting(finished_runs(home / "runs"))
    assert "markov" not in {run.system for run in found} and len(found) == 3
    assert sentence.startswith("1 finished run of markov is not offered")
    monkeypatch.undo()
    assert not widgets.Workbench.fits(Clock) and widgets.Workbench.fits(models.system("popularity"))
    bench = widgets.Workbench.from_folder(home / "runs")
    assert "not offered" not in bench.choice.message.value
    with pytest.raises(ValueError, match="markov cannot be opened in the workbench"):
        monkeypatch.setattr("seqlab.widgets.workbench.workbench.fits", lambda model: False)
        bench.change(bench.dataset, [home / "runs" / "markov"])
    assert list(bench.runs) == ["sasrec"]
