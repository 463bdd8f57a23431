"""Semantic IDs of a model: what its settings make, what is known of them after training and loading."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.datasets.log import make_log
from seqlab.optimization.options import Options
from seqlab.runs import store
from seqlab.tokenizers import CodeBook, codebook_report
from seqlab.tokenizers.semantic_ids import SemanticIds, fsq_grid, semantic_ids
from seqlab.training.fit import fit, prepare
from tests.synthetic import chain_log, small

torch.set_num_threads(1)

SPLIT = leave_one_out(chain_log(3, items=60, users=120))


@dataclass(frozen=True)
class CodeSettings:
    levels: tuple[int, ...] = (6, 6, 60)
    tokenizer: str = "rq_kmeans"
    vectors: str | None = None
    resolve: str = "index"


def tiger(**settings):
    torch.manual_seed(0)
    return models.build("tiger", SPLIT.n_items, small("tiger", dim=16, levels=(3, 3, 60), **settings))


@pytest.mark.parametrize("resolve", ["index", "popularity", "reassign", "none"])
def test_training_and_loading_do_not_change_the_report(resolve, tmp_path):
    model = tiger(resolve=resolve)
    prepare(model, SPLIT)
    before = model.ids.book
    findings = codebook_report.doctor(before)
    assert (findings or resolve == "reassign") and f"collisions: {resolve})" in repr(before)
    if resolve == "index":
        assert [sentence.split(":")[0] for sentence in findings] == ["Collisions", "Atomic ids in disguise"]
    fit(model, SPLIT, Options(epochs=1, tokens=256))
    after = model.ids.book
    assert (after.name, after.vectors, after.notes) == (before.name, before.vectors, before.notes)
    assert repr(after) == repr(before) and codebook_report.doctor(after) == findings
    store.save(model, tmp_path, "tiger", SPLIT.n_items)
    loaded = store.load(tmp_path).ids.book
    assert codebook_report.doctor(loaded) == findings and loaded.resolved == resolve
    assert loaded.residual == pytest.approx(before.residual)
    assert loaded.name == "codes of a saved model, by its settings rq_kmeans"
    assert loaded.notes[0].endswith("the settings of their tokenizer and its notes are not known.")


def test_assigned_codes_keep_their_own_collision_rule(tmp_path):
    model = tiger(resolve="index")
    codes = torch.randint(3, (SPLIT.n_items + 1, 3), generator=torch.Generator().manual_seed(0))
    model.ids.assign(CodeBook(codes, (3, 3, 3), "mine", residual=(1.0, 0.5)))
    findings = codebook_report.doctor(model.ids.book)
    assert any(one.startswith("Collisions") and "the largest bucket holds" in one for one in findings)
    store.save(model, tmp_path, "tiger", SPLIT.n_items)
    loaded = store.load(tmp_path).ids.book
    assert (
        loaded.resolved == "none"
        and codebook_report.doctor(loaded) == findings
        and loaded.residual == pytest.approx((1.0, 0.5))
    )


@pytest.mark.parametrize(("name", "settings", "resolved"), [
    ("tiger", {}, "index"), ("reg4rec", {}, "reassign"), ("recgpt", {}, "none"), ("resid", {}, "reassign"),
    ("resid", {"tokenizer": "random_codes"}, "index"), ("discrec", {"resolve": "popularity"}, "popularity"),
])  # fmt: skip
def test_a_run_saved_without_these_facts_has_those_of_its_settings(name, settings, resolved, tmp_path):
    from safetensors.torch import load_file, save_file

    quick = {"field_epochs": 0} if name == "resid" else {}
    model = models.build(name, SPLIT.n_items, small(name, **settings, **quick))
    prepare(model, SPLIT)
    assert model.ids.book.resolved == resolved
    store.save(model, tmp_path, name, SPLIT.n_items)
    state = load_file(tmp_path / "model.safetensors")
    older = {key: value for key, value in state.items() if key not in ("ids.resolved", "ids.residual")}
    assert len(older) == len(state) - 2
    save_file(older, tmp_path / "model.safetensors")
    book = store.load(tmp_path).ids.book
    assert book.resolved == resolved and book.residual == ()
    assert "neither is how much of the vectors they leave unexplained" in book.notes[0]


def test_moved_codes_are_the_same_and_changed_ones_are_not():
    ids = SemanticIds(SPLIT.n_items, CodeSettings())
    ids.assign(semantic_ids(SPLIT, CodeSettings()))
    name = ids.book.name
    ids.codes.copy_(ids.codes.clone())
    assert ids.book.name == name
    ids.codes[5, 0] = (ids.codes[5, 0] + 1) % 6
    assert ids.book.name.startswith("codes of a saved model") and int(ids.book.codes[5, 0]) == int(ids.codes[5, 0])


@pytest.mark.parametrize("tokenizer", ["rq_kmeans", "pq", "random_codes"])
def test_uneven_levels_are_made_as_they_are_set(tokenizer):
    book = semantic_ids(SPLIT, CodeSettings((14, 8, 3), tokenizer, resolve="reassign"))
    assert book.sizes == (14, 8, 3)
    assert [int(column.max()) for column in book.codes[1:].T] == [13, 7, 2]
    assert not [note for note in book.notes if "settings allow" in note]
    indexed = semantic_ids(SPLIT, CodeSettings((14, 4, 60), tokenizer))
    assert indexed.sizes[:2] == (14, 4) and indexed.resolved == "index"


def test_a_grid_for_all_levels_refuses_uneven_ones():
    with pytest.raises(ValueError, match="FSQ has one grid for all levels: it cannot make levels of 12, 8, 3 codes"):
        semantic_ids(SPLIT, CodeSettings((12, 8, 3), "fsq", resolve="none"))
    book = semantic_ids(SPLIT, CodeSettings((31, 31, 60), "fsq"))
    assert book.sizes[:2] == (30, 30) and "there are 30 x 30" in book.notes[-1]  # 6 x 5
    assert [int(np.prod(fsq_grid(size))) for size in (3, 5, 64, 240, 1000)] == [3, 5, 64, 240, 512]
    with pytest.raises(ValueError, match="at least 3 codes"):
        fsq_grid(2)


def test_a_note_mentions_fewer_codes_than_the_settings_allow():
    levels = (256, 256, 60)
    book = semantic_ids(SPLIT, CodeSettings(levels))
    assert book.sizes[:2] == (30, 30)
    note = "The settings allow 256 x 256 codes; there are 30 x 30, as suits 60 items and the tokenizer."
    assert book.notes[-1] == note
    model = models.build("tiger", SPLIT.n_items, small("tiger", levels=levels))
    prepare(model, SPLIT)
    assert model.ids.book.notes[-1] == note
    tree = semantic_ids(SPLIT, replace(CodeSettings(levels), tokenizer="balanced_tree"))
    assert "The settings allow 256 x 256 codes; there are 7 x" in tree.notes[-1]


@pytest.mark.parametrize("system", ["tiger", "discrec", "resid", "reg4rec", "recgpt"])
def test_defaults_suit_a_catalogue_of_which_most_items_have_the_same_words(system):
    random = np.random.default_rng(0)
    rows = [(user, item, time) for user in range(60) for time, item in enumerate(random.choice(700, 12, replace=False))]
    frame = pd.DataFrame(rows, columns=["user", "item", "timestamp"])
    items = pd.DataFrame({"item": range(700)})
    items["title"] = np.where(items["item"] % 7 == 0, [f"red shoe {one % 9}" for one in items["item"]], "a thing")
    split = leave_one_out(make_log(frame, items=items[items["item"].isin(frame["item"])], title="title"))
    model = models.create(system, split)
    prepare(model, split)
    if model.config.resolve == "index":
        assert codebook_report.summary(model.ids.book)["largest bucket"] == 1
