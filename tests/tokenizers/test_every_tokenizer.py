"""What every tokenizer owes: shapes, seeds, independence of the other rows, coarser vectors from fewer
codes.
"""

import inspect
from itertools import pairwise

import numpy as np
import pytest
import torch

from seqlab import tokenizers
from seqlab.optimization.checkpoint import Checkpoint
from seqlab.runtime.text import DataError
from seqlab.tokenizers import codebook_report

torch.set_num_threads(1)

SMALL = {
    "rq_kmeans": {"levels": 3, "codes": 16},
    "rq_vae": {
        "levels": 3,
        "codes": 16,
        "hidden": (32,),
        "latent": 8,
        "epochs": 15,
        "batch": 100,
        "lr": 3e-3,
    },
    "fsq": {"levels": 3, "values": (5, 4), "epochs": 10, "batch": 100, "depth": 1},
    "pq": {"levels": 3, "codes": 16, "rotations": 3},
    "balanced_tree": {"branches": (6, 5)},
    "parallel_vq": {
        "levels": 3,
        "codes": 16,
        "hidden": (16,),
        "latent": 8,
        "epochs": 15,
        "batch": 100,
        "lr": 3e-3,
    },
    "random_codes": {"levels": 3, "codes": 16},
}


def clustered(n=400, d=12, seed=0):
    """Points in lumps within lumps."""
    random = np.random.default_rng(seed)
    of = random.integers(0, 24, n)
    big, small = random.normal(size=(6, d)) * 3, random.normal(size=(24, d))
    return (big[of % 6] + small[of] + 0.3 * random.normal(size=(n, d))).astype(np.float32)


X = clustered()


@pytest.fixture(scope="module", params=sorted(SMALL))
def fitted(request):
    return tokenizers.create(request.param, SMALL[request.param]).fit(X)


def test_every_tokenizer_is_listed_with_its_card():
    assert tokenizers.names() == sorted(SMALL)
    assert all(len(line) > 20 for line in tokenizers.table()["what it is"])


def test_codes_fit_their_sizes_and_do_not_depend_on_other_items(fitted):
    codes = fitted.encode(X)
    assert codes.shape == (len(X), len(fitted.sizes_)) and codes.dtype == np.int64
    assert codes.min() >= 0 and bool((codes < np.array(fitted.sizes_)).all())
    some = fitted.encode(X[:7])
    assert np.array_equal(some, codes[:7])


def test_codes_are_reproducible_and_the_global_generators_do_not_change(fitted):
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    settings = {name: getattr(fitted, name) for name in inspect.signature(type(fitted)).parameters}
    again = type(fitted)(**settings)
    assert not hasattr(again, "sizes_")
    with torch.no_grad():  # as in a notebook cell that evaluates
        assert again.fit(X) is again
    assert np.array_equal(again.encode(X), fitted.encode(X))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_the_error_falls_with_every_level(fitted):
    codes = fitted.encode(X)
    errors = [((X - fitted.decode(codes[:, :level])) ** 2).sum() for level in range(1, codes.shape[1] + 1)]
    errors = [((X - X.mean(0)) ** 2).sum(), *errors]
    assert fitted.decode(codes).shape == X.shape
    if type(fitted).__name__ == "RandomCodes":
        assert errors == pytest.approx([errors[0]] * 4)
    else:
        assert all(after < before for before, after in pairwise(errors)), errors


def test_bad_vectors_are_named(fitted):
    spoiled = X.copy()
    spoiled[3, 1] = np.nan
    with pytest.raises(DataError, match="not finite; the first is in row 3"):
        type(fitted)().fit(spoiled)


@pytest.mark.parametrize("items", [91, 20, 5])
@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_defaults_suit_any_catalogue_and_a_note_mentions_fewer_codes(name, items):
    quick = {"epochs": 1} if hasattr(tokenizers.create(name), "epochs") else {}
    some = clustered(items, d=min(items, 12))
    book = tokenizers.make_codebook(tokenizers.create(name, quick), some, resolve="none")
    notes = [note for note in book.notes if "were wanted" in note]
    if name in ("random_codes", "fsq"):  # which learn no codes from the items
        assert not notes and set(book.sizes) <= {256, 240}
    elif name == "balanced_tree":
        given = {91: "4 x 4", 20: "2 x 2", 5: "2 x 2"}[items]
        expected = f"32 x 32 branches were wanted, there are {given}: no more nodes than the {items} items fit."
        assert notes == [expected] and codebook_report.summary(book)["tuples"] == items
    else:
        assert book.sizes == (items // 2,) * len(book.sizes)
        wanted, given = (" x ".join([str(one)] * len(book.sizes)) for one in (256, items // 2))
        expected = (
            f"{wanted} codes were wanted, there are {given}: a level has half as many codes as the {items} items."
        )
        assert notes == [expected]


@pytest.mark.parametrize("name", ["rq_kmeans", "rq_vae", "pq", "parallel_vq", "random_codes"])
def test_every_level_has_the_requested_size(name):
    settings = SMALL[name] | {"codes": (24, 12, 3)}
    made = tokenizers.create(name, settings).fit(X)
    assert made.sizes_ == (24, 12, 3)
    codes = made.encode(X)
    assert all(size * 0.6 < len(np.unique(column)) <= size for size, column in zip(made.sizes_, codes.T, strict=True))
    assert made.decode(codes).shape == X.shape
    if name != "random_codes":
        even = tokenizers.create(name, SMALL[name] | {"codes": 3}).fit(X)
        assert ((X - made.decode(codes)) ** 2).sum() < 0.95 * ((X - even.decode(even.encode(X))) ** 2).sum()
    with pytest.raises(ValueError, match=r"one for each of the 3 levels \(got \(8, 4\)\)"):
        tokenizers.create(name, settings | {"codes": (8, 4)}).fit(X)


def test_uneven_levels_reach_letters_groups_and_sinkhorn():
    more = {"codes": (24, 12, 16), "diversity": 1e-4, "sinkhorn": True}
    made = tokenizers.create("rq_vae", SMALL["rq_vae"] | more).fit(X)
    assert made.sizes_ == (24, 12, 16) and made.history_[-1]["diversity"] > 0
    assert bool((made.encode(X) < np.array([24, 12, 16])).all())


def test_unknown_names_and_settings_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'rq_kmeans'"):
        tokenizers.create("rqkmeans")
    with pytest.raises(ValueError, match=r"has no setting 'level'\. Did you mean 'levels'"):
        tokenizers.create("rq_kmeans", {"level": 3})


def test_a_code_book_carries_how_it_was_made():
    counts = np.arange(len(X) + 1)
    tokenizer = tokenizers.create("rq_kmeans", {"levels": 2, "codes": 8})
    book = tokenizers.make_codebook(tokenizer, X, resolve="popularity", popularity=counts, vectors="lumps")
    assert book.n_items == len(X) and book.sizes[:2] == (8, 8) and codebook_report.summary(book)["unique share"] == 1
    assert book.residual[0] == 1 and book.residual[0] > book.residual[1] > book.residual[2] > 0
    assert "by popularity" in book.notes[0] and (book.vectors, book.resolved) == ("lumps", "popularity")
    assert book.name == "RQKMeans(levels=2, codes=8, iterations=25, batch=0, seed=0)"
    bucket = book.items_of(book.codes[1, :2])
    assert book.codes[bucket, 2].tolist() == list(range(len(bucket)))[::-1]  # later items are more popular here
    # a fitted tokenizer is used as it is: new items get codes without moving the old ones
    grown = tokenizers.make_codebook(tokenizer, np.vstack([X, clustered(50, seed=1)]), resolve="none")
    assert torch.equal(grown.codes[: len(X) + 1], book.codes[:, :2]) and codebook_report.doctor(book) != []


def test_moving_collisions_keeps_every_prefix():
    tokenizer = tokenizers.create("rq_kmeans", {"levels": 2, "codes": 16})
    plain = tokenizers.make_codebook(tokenizer, X, resolve="none")
    moved = tokenizers.make_codebook(tokenizer, X, resolve="reassign")
    assert torch.equal(plain.codes[:, 0], moved.codes[:, 0])
    assert codebook_report.summary(moved)["tuples"] > codebook_report.summary(plain)["tuples"] and moved.sizes == (
        16,
        16,
    )


@pytest.mark.parametrize("name", ["rq_vae", "fsq", "parallel_vq"])
def test_a_killed_fit_resumes_from_its_checkpoint_to_the_same_codes(name, tmp_path, monkeypatch):
    settings = SMALL[name] | {"epochs": 4} | ({"diversity": 1e-3, "groups": 4} if name == "rq_vae" else {})
    whole = tokenizers.create(name, settings).fit(X)
    save = Checkpoint.save

    def killed(self, state, *rest):
        save(self, state, *rest)
        if state.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoint, "save", killed)
        tokenizers.create(name, settings).fit(X, checkpoint=tmp_path)
    resumed = tokenizers.create(name, settings).fit(X, checkpoint=tmp_path)
    one, two = (fitted.network_.state_dict() for fitted in (whole, resumed))
    assert all(torch.equal(one[key], two[key]) for key in one) and resumed.history_ == whole.history_
    assert np.array_equal(resumed.encode(X), whole.encode(X))
    for other in (tokenizers.create(name, settings | {"seed": 1}).fit, lambda _, **to: resumed.fit(X[:-1], **to)):
        with pytest.raises(ValueError, match="was made with other settings or data"):
            other(X, checkpoint=tmp_path)
