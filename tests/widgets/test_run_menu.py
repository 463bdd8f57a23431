"""Finished runs are offered and loaded when they are chosen."""

import pytest

from seqlab import models, widgets
from seqlab.training.fit import fit


@pytest.fixture(scope="module")
def shelf(split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "runs"
    names = ("popularity", "markov")
    return {name: fit(models.create(name, split), split, out=folder / name) for name in names}


def test_a_chosen_run_is_loaded_once_and_an_open_one_is_not_offered(shelf, split, live):
    menu = widgets.RunMenu(split, shelf["markov"].folder.parent, known=[shelf["markov"]])
    assert [run.system for run in menu.offered] == ["popularity"] and menu.chosen() == []
    menu.menu.value = [menu.offered[0].folder]
    (run,) = menu.chosen()
    assert run.outcome.frame.equals(shelf["popularity"].outcome.frame) and menu.chosen()[0] is run


def test_the_still_counts_the_runs(shelf, split, report):
    menu = widgets.RunMenu(split, shelf["markov"].folder.parent)
    assert "2 other finished runs" in menu.still() and menu.chosen() == []
    assert "no other finished run" in widgets.RunMenu(split, "nowhere", shelf.values()).still()
