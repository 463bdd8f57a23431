"""Presets: all are valid, and none is used for other data."""

from __future__ import annotations

import pytest

from seqlab import models, presets
from seqlab.contracts import Learns, supports
from seqlab.datasets import catalog, leave_one_out, load
from seqlab.optimization.options import Options
from seqlab.presets import default_options
from tests.synthetic import chain_log, log_of


@pytest.mark.parametrize("system", presets.systems())
def test_every_section_is_a_named_dataset_and_holds_settings_that_are_valid(system: str) -> None:
    for section, preset in presets.sections(system).items():
        assert section in {"default", *catalog()["name"]}
        models.configure(system, preset.settings | preset.decoding)
        options = Options(**preset.options)
        assert options.validate_every <= options.epochs


def test_presets_belong_to_systems_that_are_trained_and_suit_any_log() -> None:
    trained = {name for name in models.names() if supports(models.system(name), Learns)}
    assert {system for system in presets.systems() if "default" in presets.sections(system)} == {*presets.systems()}
    assert {*presets.systems()} <= trained  # a new system is trained by the default options


@pytest.mark.parametrize("system", models.names())
def test_every_system_has_options_for_any_log(system: str) -> None:
    split = leave_one_out(chain_log())
    options = default_options(models.create(system, split, models.module(system).TINY), split)
    assert 1 <= options.validate_every <= options.epochs


def test_a_file_with_the_name_of_a_dataset_does_not_get_its_preset(tmp_path) -> None:
    path = tmp_path / "ml-1m.csv"
    chain_log().events.to_csv(path, index=False)
    split = leave_one_out(load(path))
    assert split.log.name == "ml-1m" and split.log.card == ""
    default = presets.preset("tiger", "", split.log.n_events)
    assert default != presets.preset("tiger", "ml-1m", split.log.n_events)
    assert default_options(models.create("tiger", split), split).epochs == default.options["epochs"]
    assert models.create("tiger", split).config.dim == models.configure("tiger", default.settings).dim


def test_a_smaller_log_gets_more_epochs_and_a_larger_one_fewer() -> None:
    sizes = (1, 100_000, 200_000, 400_000, 10**9)
    assert [presets.preset("sasrec", "", events).options["epochs"] for events in sizes] == [100, 40, 20, 10, 4]


def test_settings_that_are_no_dict_are_refused() -> None:
    with pytest.raises(ValueError, match=r"settings of sasrec are a dict such as \{'dim': 32\} \(got 'dim=32'\)"):
        models.create("sasrec", leave_one_out(log_of([[1, 2, 3], [3, 2, 1]])), "dim=32")
