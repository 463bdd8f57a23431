"""Reports and the doctor on codes whose state is known, and on LETTER's published ones."""

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from seqlab.tokenizers import CodeBook, codebook_report
from seqlab.tokenizers.codebook_report import shared_information

torch.set_num_threads(1)


def book_of(columns, sizes, **about):
    codes = torch.as_tensor(np.column_stack(columns))
    return CodeBook(torch.cat([torch.full_like(codes[:1], -1), codes]), sizes, **about)


def even(n=4096, seed=0):
    """All tuples of 16 x 16 x 16, in any order: nothing to complain about."""
    at = np.random.default_rng(seed).permutation(n)
    return at // 256, at // 16 % 16, at % 16


@pytest.fixture(scope="module")
def letter():
    folder = os.environ.get("SEQLAB_DATA")
    path = Path(folder or "") / "amazon-beauty" / "items.tsv.gz"
    if not folder or not path.is_file():
        pytest.skip("SEQLAB_DATA names no folder with amazon-beauty: LETTER's published codes are not here")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    at = lines[0].split("\t").index("letter_sid")
    codes = [[int(code) for code in re.findall(r"_(\d+)>", line.split("\t")[at])] for line in lines[1:]]
    return CodeBook(torch.tensor([[0] * 4, *codes]), (256,) * 4, "letter")


def test_published_codes_have_their_published_numbers(letter):
    table, totals = codebook_report.report(letter), codebook_report.summary(letter)
    assert round(totals["unique share"] * 100, 2) == 99.89 and totals["items"] == 12_101
    assert table["used"].tolist() == [197, 256, 256, 256] and table["dead"].tolist() == [59, 0, 0, 0]
    assert table["perplexity"].round().tolist() == [83, 249, 248, 247]
    assert totals["largest bucket before the last level"] == 27
    # what MSCGRec's card measured: how many codes are legal, and for how many items only one is
    assert table["legal"].round(2).tolist() == [197, 40.26, 1.47, 1.03]
    assert table["decided"].round(2).tolist() == [0, 0, 0.48, 0.95]
    assert [sentence.split(":")[0] for sentence in codebook_report.doctor(letter)] == ["Last level decided"]


def test_a_report_of_even_codes():
    book = book_of(even(), (16, 16, 16), residual=(1.0, 0.5, 0.25, 0.1))
    table = codebook_report.report(book)
    assert table["perplexity"].tolist() == pytest.approx([16] * 3) and table["dead"].tolist() == [0] * 3
    assert table["legal"].tolist() == [16] * 3 and table["prefixes"].tolist() == [16, 256, 4096]
    assert table["entropy"].tolist() == pytest.approx([4] * 3) and table["shared"].max() < 0.01
    assert table["variance left"].tolist() == [0.5, 0.25, 0.1] and table["largest"].tolist() == [1 / 16] * 3
    assert codebook_report.summary(book)["unique share"] == 1 and codebook_report.doctor(book) == []


def test_all_items_on_one_tuple_is_a_collapse_though_no_batch_has_few_duplicates():
    zeros = np.zeros(500, dtype=int)
    (findings,) = codebook_report.doctor(book_of([zeros] * 3, (256,) * 3))
    assert findings.startswith("Collapse: 500 items share 1 tuple.") and "sum the reconstruction" in findings
    # an index column makes the tuples unique and must not hide it
    (findings,) = codebook_report.doctor(book_of([zeros, zeros, np.arange(500)], (256, 256, 500), resolved="index"))
    assert findings.startswith("Collapse")


@pytest.mark.parametrize(
    ("columns", "sizes", "about", "disease"),
    [
        ((even()[0] // 4, *even()[1:]), (16, 16, 16), {}, "Low use: level 1 uses 4 of 16"),
        (even(8192), (32, 16, 8), {}, "Collisions"),
        ((*even(), np.zeros(4096, int)), (16, 16, 16, 4), {}, "Last level decided: for 100%"),
        ((*even()[:2], even()[1]), (16,) * 3, {"ordered": False}, "Copies: levels 2 and 3"),
        (even(), (16,) * 3, {"residual": (1, 0.5, 0.499, 0.1)}, "Nothing explained: after level 2 "),
        ((*even()[1:], even()[0]), (16, 16, 16), {"resolved": "index"}, "Atomic ids in disguise"),
    ],
)
def test_the_doctor_finds_each_problem(columns, sizes, about, disease):
    columns = [column % size for column, size in zip(columns, sizes, strict=True)]
    findings = codebook_report.doctor(book_of(columns, sizes, **about))
    assert any(sentence.startswith(disease) for sentence in findings), findings
    assert all("Try" in sentence for sentence in findings)


def test_a_column_that_numbers_collisions_is_not_called_decided():
    a, b, c = even()
    book = book_of([a, b, c, np.zeros(4096, int)], (16, 16, 16, 1), resolved="index")
    assert codebook_report.doctor(book) == []


def test_copies_share_everything_and_independent_columns_nothing_beyond_chance():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 64, (2, 1000))
    shared = shared_information(book_of([a, b, random.permutation(64)[a]], (64,) * 3))
    assert float(shared[0, 2]) == pytest.approx(1) and float(shared[2, 0]) == pytest.approx(1)
    # plain mutual information would be some 2 bits of 6 here: 4,096 cells, 1,000 items
    assert float(shared[0, 1]) < 0.1 and shared.diagonal().tolist() == [0] * 3


def test_prefixes_agree_with_the_categories_they_follow():
    a, b, c = even()
    labels = np.array([f"shelf {one}" for one in a], dtype=object)
    labels[:100] = ["", None, float("nan"), " "] * 25
    table = codebook_report.report(book_of([a, b, c], (16,) * 3), labels)
    assert table["agreement"].iloc[0] == pytest.approx(1) and table["by chance"].iloc[0] < 0.05
    assert table["agreement"].is_monotonic_decreasing
    with pytest.raises(ValueError, match="one label per item"):
        codebook_report.report(book_of([a, b, c], (16,) * 3), labels[1:])


def test_padding_holds_zeros_and_all_items_of_a_prefix_are_found():
    book = book_of([[0, 1, 0, 0], [1, 1, 1, 0]], (2, 2))
    assert book.codes[0].tolist() == [0, 0]
    assert book.items_of([0, 1]).tolist() == [1, 3] and book.items_of([0]).tolist() == [1, 3, 4]
    assert book.items_of([]).tolist() == [1, 2, 3, 4] and book.items_of([1, 0]).tolist() == []
    with pytest.raises(ValueError, match=r"trie\.items_at"):
        book.items_of(torch.tensor([[0, 1]]))


def test_the_repr_has_the_collision_rule():
    book = book_of([[0, 1, 0], [1, 1, 1]], (2, 2), name="mine", resolved="reassign")
    assert "unique tuples 66.67%" in repr(book) and "collisions: reassign" in repr(book)
    assert (
        codebook_report.summary(book)["colliding items"] == 2
        and codebook_report.report(book).attrs["resolved"] == "reassign"
    )


def test_saved_and_loaded_it_is_the_same(tmp_path):
    about = {
        "name": "n", "resolved": "popularity", "vectors": "words", "ordered": False, "notes": ("a",),
        "residual": (1.0, 0.5),
    }  # fmt: skip
    book = book_of([[0, 1, 2]], (3,), **about)
    path = tmp_path / "deep" / "book.safetensors"
    book.save(path)
    again = CodeBook.load(path)
    assert torch.equal(again.codes, book.codes) and again.sizes == (3,)
    assert {name: getattr(again, name) for name in about} == about
    assert [one.name for one in path.parent.iterdir()] == ["book.safetensors"]
    from safetensors.torch import save_file

    save_file({"codes": book.codes}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no code book"):
        CodeBook.load(tmp_path / "other.safetensors")
