"""RelatedItems and CandidateAttention against the systems themselves; their figures, and the verdict in words."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import figures, models, tracing, widgets
from seqlab.datasets import split as split_by
from seqlab.datasets.log import make_log
from seqlab.inspection import calibration, clicks
from seqlab.items.co_purchases import co_purchases
from seqlab.optimization.options import Options
from seqlab.training.fit import fit
from seqlab.widgets.related_items import COUNTED, GOES_WITH, REPLACES
from tests.synthetic import small
from tests.widgets.markup import assert_escaped


@pytest.fixture(scope="module")
def log():
    random = np.random.default_rng(0)
    rows = [
        (f"u{user}", item, 100.0 * basket, f"b{basket}")
        for user in range(40)
        for basket in range(6)
        for item in random.choice(np.arange(1, 13), 4, replace=False)
    ]
    events = pd.DataFrame(rows, columns=["user", "item", "timestamp", "basket"])
    items = pd.DataFrame({"item": range(1, 13), "title": [f"<b>of</b> {item}" for item in range(1, 13)]})
    items["category"] = [f"<i>shelf</i> {item % 3}" for item in range(1, 13)]
    return make_log(events, items=items, title="title", repeats=True)


@pytest.fixture(scope="module")
def baskets(log):
    return split_by(log, "basket-completion", ("basket",))


@pytest.fixture(scope="module")
def pairs(baskets):
    return fit(models.create("complements", baskets, small("complements")), baskets, Options(epochs=1, tokens=512))


@pytest.fixture(scope="module")
def shown(log):
    return split_by(log, "candidates 2")


@pytest.fixture(scope="module")
def dare(shown):
    return fit(models.create("dare", shown, small("dare")), shown, Options(epochs=1, tokens=256))


def test_the_lists_are_those_of_the_tables_and_of_counting(pairs, baskets, live):
    view = widgets.RelatedItems(pairs, baskets, item=4, support=1)
    source, target = pairs.model.inputs.weight.detach(), pairs.model.outputs.weight.detach()
    scores = view.scores(4)
    for item in (1, 7):
        alike = torch.cosine_similarity(source[4], source[item], dim=0)
        goes = torch.cosine_similarity(source[4], target[item], dim=0)
        assert scores[REPLACES][item] == pytest.approx(float(alike), abs=1e-5)
        assert scores[GOES_WITH][item] == pytest.approx(float(goes), abs=1e-5)
    weights = co_purchases(baskets.train, baskets.n_items, 1).weights("pmi")
    assert scores[COUNTED][7] == pytest.approx(weights[[4]].toarray()[0][7])
    assert not np.isfinite(scores[REPLACES][4])
    best = np.argsort(-scores[GOES_WITH])[0]
    assert f"of&lt;/b&gt; {best} (&lt;i&gt;shelf" in view.listed.value


def test_an_item_is_picked_and_its_dots_are_the_other_items(pairs, baskets, live):
    view = widgets.RelatedItems(pairs, baskets, item="<b>of</b> 2")
    assert view.item == 2
    before = [list(one.x) for one in view.figure.data]
    view.picker.search.value = "of</b> 9"
    view.picker.found.value = 9
    assert view.item == 9 and not view.status.view.value
    assert [list(one.x) for one in view.figure.data] != before
    assert sum(len(one.x) for one in view.figure.data) == 11
    same = next(one for one in view.figure.data if one.name == "the same category")
    assert sorted(re.search(r"(\d+) \(", words[1])[1] for words in same.customdata) == ["12", "3", "6"]
    assert_escaped(view, view.scatter())


def test_the_still_has_items_of_several_categories_and_a_pair_is_of_one_category_or_not(pairs, baskets, report):
    view = widgets.RelatedItems(pairs, baskets, items=3)
    assert view.still().count("<h4>") == 3
    assert len({item % 3 for item in view._examples()}) == 3
    assert all(len(one.x) for one in view.scatter().data)
    with pytest.raises(ValueError, match="no item 'nothing'"):
        widgets.RelatedItems(pairs, baskets, item="nothing")


def test_the_attention_of_a_candidate_is_that_of_the_system(dare, shown, live):
    view = widgets.CandidateAttention(dare, shown, user=5, events=4)
    caption, frame, titles = view.measure(5)
    row = shown.test.user.tolist().index(5)
    batch = shown.test.batch(torch.tensor([row]), dare.model.config.max_length)
    candidates = batch.context["candidates"]
    with torch.no_grad(), tracing.watch(dare.model.eval(), "candidate_attention") as trace:
        logits = dare.model.label_logits(batch, candidates)[0]
    first = int(shown.test.labels[row].argmax())
    found = frame.loc[frame["panel"] == "no. 1", "value"]
    last = int(batch.lengths[0])
    assert np.allclose(found, trace["candidate_attention"].values[0, first, last - 4 : last])
    assert f"{torch.sigmoid(logits[first]):.0%} ✓" in caption and len(titles) == 4
    before = list(view.figure.data[0].x)
    view.user.value = view.user.options[3][1]
    assert list(view.figure.data[0].x) != before and not view.status.view.value
    assert_escaped(view)


def test_a_split_without_candidates_is_refused(dare, baskets, report):
    with pytest.raises(ValueError, match="no candidates; choose a split"):
        widgets.CandidateAttention(dare, baskets)


def test_figures_of_click_models_show_the_band_and_both_labels(dare, shown):
    table = calibration.reliability(dare.model, shown, bins=5, samples=50)
    high, low, drawn = figures.reliability({"<b>dare</b>": table}).data
    assert np.allclose(high.y, table["high"]) and np.allclose(low.y, table["low"]) and "<b>" not in drawn.name
    assert np.allclose(drawn.y, table["observed"])
    attention = clicks.attention_by_recency(dare.model, shown)
    drawn = figures.attention_by_recency(attention).data
    assert {one.name for one in drawn} == {"what came next", "the others"} and len(drawn) == 4


def relatedness_table(differences):
    rows = [
        {"method": method, "measure": measure, "value": 1.0, "low": 0.9, "high": 1.2, "difference": one,
         "difference_low": one - 0.1, "difference_high": one + 0.1}
        for measure, one in differences.items() for method in ("in_in", "in_out", "<i>pmi</i>")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_verdict_says_which_part_of_the_claim_holds():
    words = figures.relatedness_verdict(relatedness_table({"same_kind": 0.5, "lift": 0.5, "pooled_lift": 0.05}))
    marks = [row.partition("</span>")[0].rpartition(">")[2] for row in words.split("class='mark ")[1:]]
    assert marks == ["as claimed", "the other way round", "no difference shown"]
    unknown = relatedness_table({"same_kind": np.nan})
    assert "class='mark" not in figures.relatedness_verdict(unknown)


def test_every_method_has_its_interval():
    table = relatedness_table({"same_kind": 0.5, "lift": 0.5})
    figure = figures.relatedness(table, methods={"<i>pmi</i>": "<i>pmi</i>"})
    whiskers = [one for one in figure.data if one.mode == "lines"]
    assert [list(one.x) for one in whiskers] == [[0.9, 1.2]] * 2
    assert list(figure.layout.yaxis.ticktext) == ["&lt;i&gt;pmi&lt;/i&gt;"]
