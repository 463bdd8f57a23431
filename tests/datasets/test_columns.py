import datetime
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from seqlab.datasets.columns import item_table, number_ids, seconds, text_of
from seqlab.runtime.text import DataError


def labels(values) -> list:
    return number_ids(pd.Series(values, name="id"), "a.csv")[1].tolist()


def notes(values) -> str:
    return " ".join(number_ids(pd.Series(values, name="id"), "a.csv")[2])


def dates(values) -> list[str]:
    times = seconds(pd.Series(values, name="when"), "a.csv")[0]
    return [str(one) for one in pd.to_datetime(times, unit="s").round("ms")]


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
def test_ids_that_a_spreadsheet_rounded_are_refused(values):
    with pytest.raises(DataError, match=r"column 'id' holds ids in scientific notation.*in row.* 0.*as text"):
        labels(values)


def test_decimal_columns_that_cannot_hold_their_ids_exactly_are_refused():
    assert labels([3.0, 8.0]) == [3, 8]
    for values in ([2.0**53 + 2, 1.0], np.array([2**24 + 2, 1], np.float32)):
        with pytest.raises(DataError, match=r"digits are lost.*in row 0 "):
            labels(values)


def test_spellings_of_one_number_are_merged_or_kept_apart_but_counted():
    assert labels(["7", "7.0", "8.0"]) == [7, 8]
    assert "1 ids are written in two ways" in notes(["7", "7.0", "8.0"])
    assert labels(["007", "7", "7.0", "8"]) == ["007", "7", "7.0", "8"]
    assert "2 ids differ from another one only in how they are written, such as '007' and '7'" in notes(
        ["007", "7", "7.0", "8"]
    )
    assert "'3e2' and '300'" in notes(["3e2", "300"])


def test_ids_that_look_alike_are_kept_apart_but_counted():
    values = ["Ann", "Ann\u00a0", "Zoe\u0308", "Zo\u00eb", "Bo\u200bb", "Bob", "Eve"]
    assert len(labels(values)) == 7
    assert "3 ids differ from another one only in how they are written, such as 'Ann' and 'Ann\\xa0'" in notes(values)
    assert notes(["Ann", "Bob"]) == ""


def test_bytes_are_read_as_utf_8_or_refused():
    assert labels([b"caf\xc3\xa9", b"tea"]) == ["café", "tea"]
    assert labels(pd.array([b"b", b"a"], dtype=pd.ArrowDtype(pa.binary()))) == ["a", "b"]
    assert text_of(pd.Series([b"caf\xc3\xa9", None])).tolist() == ["café", ""]
    with pytest.raises(DataError, match="'id' holds bytes that are no UTF-8"):
        labels([b"caf\xe9"])


def test_a_word_for_no_text_is_blank_where_several_items_have_it():
    items = pd.DataFrame({"id": ["a", "b", "c"], "title": ["NULL", "NULL", "NaN"], "brand": ["null", "x", "NA"]})
    table, _ = item_table(np.array(["a", "b", "c"], object), items, "id", "title", "i.csv")
    assert table["title"].tolist() == ["a", "b", "NaN"] and table["brand"].tolist() == ["null", "x", "NA"]


@pytest.mark.parametrize("word", ["NA", "n/a", "#N/A", r"\N", "None", " NONE", "-", "undefined", "Null", "<NA>", "?"])
@pytest.mark.parametrize("kind", [object, "str", "category"])
def test_words_that_stand_for_no_id_are_refused(word, kind):
    values = pd.Series(["u1", word, "u2", word], dtype=kind, name="id")
    with pytest.raises(DataError) as caught:
        number_ids(values, "a.csv", np.array([2, 3, 4, 5]))
    assert f"has no id in 2 of 4 rows ({word!r} stands for none): rows 3, 5." in str(caught.value)
    assert labels(["nadia", "none-such", "na-1"]) == ["na-1", "nadia", "none-such"]


@pytest.mark.parametrize("kind", [np.int64, np.float64, str])
@pytest.mark.parametrize(
    ("values", "moments"),
    [
        ([20190704, 20190705], ["2019-07-04 00:00:00", "2019-07-05 00:00:00"]),
        ([2019070408, 2019070523], ["2019-07-04 08:00:00", "2019-07-05 23:00:00"]),
        ([201907040815, 201907052359], ["2019-07-04 08:15:00", "2019-07-05 23:59:00"]),
        ([20190704081530, 20000229235959], ["2019-07-04 08:15:30", "2000-02-29 23:59:59"]),
    ],
)
def test_dates_written_as_one_number_are_dates(values, moments, kind):
    assert dates(np.array(values).astype(kind)) == moments


def test_numbers_that_are_no_dates_stay_times_since_1970_or_counters():
    assert dates([20190704081530123]) == ["2019-07-04 08:15:30.123000"]
    assert seconds(pd.Series([0, 1, 20_190_704]), "")[0].tolist() == [0, 1, 20_190_704]
    assert seconds(pd.Series(range(20_190_700, 20_190_799)), "")[0][0] == 20_190_700
    assert seconds(pd.Series([1_562_227_200, 1_562_227_261]), "")[0].tolist() == [1_562_227_200, 1_562_227_261]
    assert dates([946_684_800_000, 978_307_199_000]) == ["2000-01-01 00:00:00", "2000-12-31 23:59:59"]
    with pytest.raises(DataError, match=r"'when' has 1 timestamps that cannot be read, such as '20190231': row 1 "):
        dates([20190228, 20190231, 20190301])
    with pytest.raises(DataError, match=r"are the year 2610.*ISO 8601"):
        dates([20199931000000, 20199932000000])


def test_the_days_of_a_spreadsheet_are_dates_if_they_have_fractions():
    for values in ([43650.25, 43651.75], ["43650.25", "43651.75"]):
        assert dates(values) == ["2019-07-04 06:00:00", "2019-07-05 18:00:00"]
    assert dates([43650.34375]) == ["2019-07-04 08:15:00"]
    times, told = seconds(pd.Series([43650, 43651]), "")
    assert times.tolist() == [43650, 43651] and "(43650 is 2019-07-04 00:00), write them as dates" in told[0]
    assert seconds(pd.Series([12.5, 43650.25]), "")[0].tolist() == [12.5, 43650.25]


def test_utc_may_stand_after_a_date():
    values = ["2020-02-01 10:00:00 UTC", "2020-02-01T10:00:01.5 GMT", "2020-02-01 10:00:02 +0000 UTC"]
    assert dates(values) == ["2020-02-01 10:00:00", "2020-02-01 10:00:01.500000", "2020-02-01 10:00:02"]
    with pytest.raises(DataError, match="PST"):
        dates(["2020-02-01 10:00:00 PST"])


@pytest.mark.parametrize("kind", ["timestamp[us, tz=Asia/Tokyo]", "timestamp[ns]", "date32[day]"])
def test_arrow_times_are_read_without_a_warning(kind):
    moments = pd.date_range("2020-02-01 09:00", periods=2, tz="Asia/Tokyo" if "tz" in kind else None)
    values = [one.date() for one in moments] if "date" in kind else moments
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        times = seconds(pd.Series(pd.array(values, dtype=f"{kind}[pyarrow]")), "")[0]
    first = {"t": 0, "d": 0}[kind[0]] + (9 * 3600 if kind == "timestamp[ns]" else 0)
    assert (times - datetime.datetime(2020, 2, 1, tzinfo=datetime.UTC).timestamp()).tolist() == [first, first + 86_400]


def test_item_keys_match_as_written_and_near_misses_are_counted():
    items = pd.DataFrame(
        {"id": ["007", "7", "tea ", "rye", None, "NA"], "name": ["Bond", "Seven", "Tea", "", "x", "y"]}
    )
    table, told = item_table(np.array(["007", "7", "rye", "tea"], object), items, "id", "name", "i.csv")
    assert table["title"].tolist() == ["Bond", "Seven", "rye", "tea"]
    assert "1 items have no row; their id stands for the title. 1 of them would have one but for" in " ".join(told)
    assert "names no item in rows 4, 5 " in " ".join(told)
    with pytest.raises(DataError, match=r"none of the ids.*2 of them would have one but for .* a number's zeros"):
        item_table(np.array([7, 8]), pd.DataFrame({"id": ["07", "08"]}), "id", None, "i.csv")
    with pytest.raises(DataError, match=r"scientific notation.*\(4\.1E\+12\) in row 1 "):
        item_table(np.array([7, 8]), pd.DataFrame({"id": ["7", "4.1E+12"]}), "id", None, "i.csv")
