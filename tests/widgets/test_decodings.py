"""The lists of several decodings side by side: what is shown is what each decoding gives, and the measures by hand."""

import numpy as np
import pytest
import torch

from seqlab import decoding, figures, widgets
from seqlab.decoding import METHODS, Decoding
from seqlab.inspection.decodings import decodings, noise
from seqlab.widgets import views
from tests.synthetic import batch_of, coded
from tests.tiny_runs import run_of
from tests.widgets.markup import assert_escaped

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shown():
    run, split = run_of("tiger")
    return widgets.Decodings(run, split, seed=1, k=5, width=6, groups=3, draws=40)


@pytest.mark.parametrize("name", views.systems(widgets.Decodings))
def test_every_system_that_generates_codes_shows_the_lists_of_its_decodings(name):
    run, split = run_of(name)
    shown = widgets.Decodings(run, split, seed=1, k=5, width=6)
    lists = shown.lists()
    assert lists["decoding"].unique().tolist() == list(METHODS)
    for method, chosen in shown.decodings().items():
        listed = decoding.recommend(run.model, shown._batch, 5, chosen).items[0]
        assert lists[lists["decoding"] == method]["item"].tolist() == listed[listed > 0].tolist()
    assert lists[lists["decoding"] == "exact"]["exact_rank"].is_monotonic_increasing
    assert shown.still().data


def test_the_measures_are_those_by_hand():
    model, batch = coded("tiger"), batch_of([[3, 7, 7, 1], [5]])
    chosen = {"wide": Decoding("beam", width=200), "few": Decoding("sample", draws=7), "exact": Decoding("exact")}
    categories = torch.arange(41)[:, None] % 3
    found = decodings(model, batch, chosen, 6, categories)
    law = decoding.law(model, batch)[0]
    for name, row in found.measures.iterrows():
        items = found.lists[found.lists["decoding"] == name]["item"].tolist()
        assert row["items"] == len(items) and row["held"] == pytest.approx(float(law[items].sum()))
        assert row["codes"] == len({int(model.ids.codes[item, 0]) for item in items})
        assert row["categories"] == len({item % 3 for item in items} - {0})
        assert found.overlap.loc[name, name] == len(items)
    assert found.measures.loc["wide", "distance"] == pytest.approx(0, abs=1e-6)  # it found everything
    assert found.measures.loc["exact", "distance"] == 0
    shares = decoding.draw(model, batch, chosen["few"]).shares()[0]
    assert found.measures.loc["few", "distance"] == pytest.approx(float((shares - law).abs().sum() / 2))
    assert set(found.lists[found.lists["decoding"] == "wide"]["item"]) == set(
        found.lists[found.lists["decoding"] == "exact"]["item"]
    )


def test_the_distance_by_chance_is_that_of_draws_from_the_law():
    law, random = np.array([0.5, 0.3, 0.15, 0.05, 0.0]), np.random.default_rng(0)
    shares = random.multinomial(20, law, size=20_000) / 20
    assert noise(law, 20) == pytest.approx(float(np.abs(shares - law).sum(1).mean() / 2), rel=0.01)
    assert np.isnan(noise(law, 0)) and noise(law, 10**6) < 1e-2


def test_the_controls_change_their_decodings_alone(shown):
    before = shown.lists()
    shown.sliders["draws"].value = 10
    after = shown.lists()
    same = before["decoding"].isin(["exact", "beam", "diverse"])
    assert after[after["decoding"].isin(["exact", "beam", "diverse"])].equals(before[same])
    assert not after.equals(before) and shown.status.view.value == ""
    shown.sliders["temperature"].value = 2.0
    assert "temperature 2" in str(shown.figure.data[2].text)
    shown.user.value = shown.user.options[1][1]
    assert_escaped(shown)


def test_a_log_without_categories_and_a_short_list_are_drawn(shown):
    measures = shown.measures().assign(categories=float("nan"))
    lists = shown.lists().query("decoding != 'sample' or rank < 3")
    figure = figures.decodings(lists, measures, shown.overlap(), {}, "", "A definition.")
    assert "none" in figure.data[-2].text and any("no more than 2 found" in text for text in figure.data[2].text)
    assert [one.type for one in figure.data] == [one.type for one in shown.still().data]
