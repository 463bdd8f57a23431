import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from seqlab.datasets.ids import number_ids
from seqlab.runtime.text import DataError


def labels(values) -> list:
    return number_ids(pd.Series(values, name="id"), "a.csv")[1].tolist()


def notes(values) -> str:
    return " ".join(number_ids(pd.Series(values, name="id"), "a.csv")[2])


def test_text_ids_stay_as_written_unless_all_are_whole_numbers():
    assert labels(["0815", "815", "3"]) == ["0815", "3", "815"]
    assert labels(["815", "3", "10"]) == [3, 10, 815]
    assert labels(["987654321098765432109", "987654321098765432108", "4"])[-1] == "987654321098765432109"
    assert labels([987654321098765432109, 987654321098765432108]) == ["987654321098765432108", "987654321098765432109"]
    assert labels(["9223372036854775807", "5"]) == [5, 2**63 - 1]
    assert labels(["9223372036854775808", "5"]) == ["5", "9223372036854775808"]
    assert labels(["2e4", "20000", "b7c"]) == ["20000", "2e4", "b7c"]
    assert "2 ids begin with a zero" in notes(["01", "02", "30"])


@pytest.mark.parametrize(
    "values", [["8.71234E+12", "8.79999E+12"], ["8.71234E+12", "X9"], ["8,71234E+12", "5"], ["5E+11", "7"], ["1.5e15"]]
)
def test_ids_in_scientific_notation_raise(values):
    with pytest.raises(DataError, match=r"column 'id' contains ids in scientific notation.*in row.* 0.*as text"):
        labels(values)


def test_decimal_columns_that_cannot_hold_their_ids_exactly_are_refused():
    assert labels([3.0, 8.0]) == [3, 8]
    for values in ([2.0**53 + 2, 1.0], np.array([2**24 + 2, 1], np.float32)):
        with pytest.raises(DataError, match=r"digits are lost.*in row 0 "):
            labels(values)


def test_spellings_of_one_number_are_merged_or_distinct_with_a_note():
    assert labels(["7", "7.0", "8.0"]) == [7, 8]
    assert "1 ids are written in two ways" in notes(["7", "7.0", "8.0"])
    assert labels(["007", "7", "7.0", "8"]) == ["007", "7", "7.0", "8"]
    assert "2 ids differ from another one only in how they are written, such as '007' and '7'" in notes(
        ["007", "7", "7.0", "8"]
    )
    assert "'3e2' and '300'" in notes(["3e2", "300"])


def test_ids_that_look_alike_are_distinct_with_a_note():
    values = ["Ann", "Ann\u00a0", "Zoe\u0308", "Zo\u00eb", "Bo\u200bb", "Bob", "Eve"]
    assert len(labels(values)) == 7
    assert "3 ids differ from another one only in how they are written, such as 'Ann' and 'Ann\\xa0'" in notes(values)
    assert notes(["Ann", "Bob"]) == ""


def test_bytes_must_be_utf_8():
    assert labels([b"caf\xc3\xa9", b"tea"]) == ["café", "tea"]
    assert labels(pd.array([b"b", b"a"], dtype=pd.ArrowDtype(pa.binary()))) == ["a", "b"]
    with pytest.raises(DataError, match="'id' contains bytes that are not UTF-8"):
        labels([b"caf\xe9"])


@pytest.mark.parametrize("word", ["NA", "n/a", "#N/A", r"\N", "None", " NONE", "-", "undefined", "Null", "<NA>", "?"])
@pytest.mark.parametrize("kind", [object, "str", "category"])
def test_words_for_missing_ids_raise(word, kind):
    values = pd.Series(["u1", word, "u2", word], dtype=kind, name="id")
    with pytest.raises(DataError) as caught:
        number_ids(values, "a.csv", np.array([2, 3, 4, 5]))
    assert f"has no id in 2 of 4 rows ({word!r} counts as missing): rows 3, 5." in str(caught.value)
    assert labels(["nadia", "none-such", "na-1"]) == ["na-1", "nadia", "none-such"]
