import gzip
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.datasets import DataError, load, read
from seqlab.datasets.reading import read_folder
from tests.fuzzing import numbered_without_gaps, read_or_refused

ROWS = pd.DataFrame(
    {
        "customer": ["007", "007", "A-1", "A-1"],
        "sku": ["x", "y", "y", "z"],
        "when": [3, 1, 2, 5],
        "price": [1.5, 2.0, 3.0, 4.0],
    }
)
CATALOG = pd.DataFrame({"sku": ["x", "y", "z"], "name": ['6" ruler', "<b>bold</b>", "plain"], "year": [1995, 2001, 7]})


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "tsv.gz", "parquet"])
def test_one_log_from_every_format(tmp_path, ending):
    for name, table in (("log", ROWS), ("catalog", CATALOG)):
        path = tmp_path / f"{name}.{ending}"
        if ending == "parquet":
            table.to_parquet(path, index=False)
        elif "tsv" in ending:  # no quoting: a quote in a title is a character
            text = "\n".join("\t".join(map(str, row)) for row in [table.columns, *table.to_numpy().tolist()]) + "\n"
            write(path, gzip.compress(text.encode()) if ending.endswith("gz") else text)
        else:
            table.to_csv(path, index=False)
    log = read(
        tmp_path / f"log.{ending}",
        user="customer",
        item="sku",
        time="when",
        items=tmp_path / f"catalog.{ending}",
        title="name",
    )
    assert log.name == "log"
    assert log.users["user_id"].tolist() == ["007", "A-1"]
    assert log.items.to_dict("list") == {
        "item_id": ["x", "y", "z"],
        "title": ['6" ruler', "<b>bold</b>", "plain"],
        "year": ["1995", "2001", "7"],
    }
    assert log.events.to_numpy().tolist() == [
        [1, 2, 1.0, 2.0],
        [1, 1, 3.0, 1.5],
        [2, 2, 2.0, 3.0],
        [2, 3, 5.0, 4.0],
    ]


def test_a_frame_reads_like_its_file_and_is_not_changed(tmp_path):
    before = ROWS.copy()
    ROWS.to_csv(tmp_path / "log.csv", index=False)
    log = read(ROWS, "customer", "sku", "when", items=CATALOG, title="name")
    same = read(tmp_path / "log.csv", "customer", "sku", "when", items=CATALOG, title="name")
    assert log.fingerprint() == same.fingerprint()
    assert ROWS.equals(before)


def test_whole_numbers_written_with_decimals_are_ids_with_a_note(tmp_path):
    log = read(write(tmp_path / "a.csv", "user,item,time\n1.0,5.0,1\n1.0,6.0,2\n"))
    assert log.items["item_id"].tolist() == [5, 6]
    assert any("written with decimals" in note for note in log.notes)


def test_numbers_and_words_in_one_text_file_are_all_text(tmp_path):
    log = read(write(tmp_path / "a.csv", "user,item,time\n1,22423,1\n1,85123A,2\n"))
    assert log.items["item_id"].tolist() == ["22423", "85123A"]
    assert any("numbers and text" in note for note in log.notes)


def folder_of(folder: Path, rows: str, header: str = "user_id\titem_id\ttimestamp") -> Path:
    folder.mkdir()
    write(folder / "interactions.tsv.gz", gzip.compress(f"{header}\n{rows}".encode()))
    write(folder / "items.tsv.gz", gzip.compress(b'item_id\ttitle\n1\t"one\n2\ttwo" \n3\tthree\n'))
    return folder


def test_a_folder_is_sorted_by_time_like_its_file(tmp_path):
    folder = folder_of(tmp_path / "mine", "1\t2\t9\n1\t1\t5\n2\t1\t4\n2\t3\t1\n2\t2\t4\n")
    for log in (read_folder(folder), load(folder), load(folder / "interactions.tsv.gz")):
        assert log.events["item"].tolist() == [1, 2, 3, 1, 2]
        assert not any("order of the source" in note for note in log.notes)
    assert load(folder).items["title"].tolist() == ['"one', 'two" ', "three"]
    for log in (read_folder(folder, order="source"), load(folder, order="source")):
        assert log.events["item"].tolist() == [2, 1, 1, 3, 2]
        assert any("2 events of 2 users are earlier" in note for note in log.notes)


@pytest.mark.parametrize("blank", ["", " ", "NaT"])
def test_a_folder_with_missing_times_keeps_the_order_of_the_source_with_a_note(tmp_path, blank):
    log = load(folder_of(tmp_path / "mine", f"1\t2\t9\n1\t1\t{blank}\n2\t1\t4\n2\t3\t1\n"))
    assert log.events["item"].tolist() == [2, 1, 1, 3]
    assert any("1 of 4 events have no timestamp, so events keep the order" in note for note in log.notes)
    assert any("1 events of 1 users are earlier" in note for note in log.notes)
    bare = load(folder_of(tmp_path / "bare", "1\t2\n1\t1\n2\t3\n", "user_id\titem_id"))
    assert bare.events["item"].tolist() == [2, 1, 3]
    assert any("3 of 3 events have no timestamp, so" in note for note in bare.notes)


def test_a_folder_needs_its_interactions(tmp_path):
    with pytest.raises(DataError, match=r"no interactions\.tsv\.gz"):
        load(tmp_path)


GOOD = "user,item,time\n1,1,1\n1,2,2\n"
LONG = "user,item,time\n" + "".join(f"{n % 50},{n % 70},{n}\n" for n in range(5000))
BAD_FILES = {
    "empty": ("a.csv", "", "the file is empty"),
    "only a header": ("a.csv", "user,item,time\n", "a header but no rows"),
    "blank header": ("a.csv", "\n1,2,3\n", "first line is empty"),
    "wrong separator": ("a.csv", "user;item;time\n1;1;1\n", "semicolon-separated.*sep=';'"),
    "tabs in a csv": ("a.csv", "user\titem\ttime\n1\t1\t1\n", "tab-separated"),
    "too many fields": ("a.csv", GOOD + "1,3,3,4\n", "line 4"),
    "too many in the first row": (
        "a.csv",
        "user,item,time\n1,1,1,1\n1,2,2,1\n",
        "as many fields as the header",
    ),
    "open quote": ("a.csv", GOOD + '1,"2,3\n', "is not a comma-separated table"),
    "missing id": ("a.csv", "user,item,time\n1,1,1\n\n1,,2\n", r"a\.csv: column 'item'.*: row 4\. "),
    "the word nan": ("a.csv", GOOD + "nan,3,3\n", r"column 'user' has no id.*: row 4\."),
    "negative": ("a.csv", GOOD + "1,-3,3\n", r"negative.*\(-3\) in row 4"),
    "fraction": ("a.csv", GOOD + "1,2.5,3\n", r"\(2\.5\) in row 4"),
    "bad time": ("a.csv", GOOD + "1,3,soon\n", r"'soon': row 4\."),
    "no time": ("a.csv", GOOD + "1,3,\n", r"no timestamp in 1 of 3 rows: row 4\."),
    "day first": ("a.csv", "user,item,time\n1,1,31/05/2024\n1,2,01/06/2024\n", "ISO 8601"),
    "not utf-8": ("a.csv", GOOD.encode() + "1,é,3\n".encode("latin-1"), r"not UTF-8 \(line 4\).*iconv"),
    "cut gzip": ("a.csv.gz", gzip.compress(LONG.encode())[:-2000], "not a complete gzip"),
    "no gzip": ("a.tsv.gz", "user\titem\ttime\n", "not a complete gzip"),
    "no parquet": ("a.parquet", b"PAR1 nonsense PAR1", "not a readable Parquet file"),
    "odd ending": ("a.xlsx", GOOD, r"suffix.*\.csv"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_errors_of_files_have_name_row_and_remedy(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert name in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


IDS = st.lists(
    st.sampled_from(["7", "007", "7.0", "0123", "123", "1e3", "1000", "0", "00", "-3", "2.5", "4.1E+12", "true", "a,b"])
    | st.sampled_from(
        ["", "NA", r"\N", "none", "Ann", "Ann ", "José", "Jose\u0301", "a\u200b", '"q', "9" * 21, "1" * 19]
    )
    | st.text("0123456789aé'\" ", min_size=1, max_size=4),
    min_size=1,
    max_size=6,
)


def outcome(source, items) -> tuple | str:
    """All that a log holds, as plain values; for a refusal nothing but that."""
    try:
        log = read(source, "user", "item", "time", items=items)
    except DataError:
        return "refused"
    return tuple((list(table), table.to_numpy(object).tolist()) for table in (log.users, log.items, log.events))


@given(IDS, IDS, st.data())
@settings(deadline=None, max_examples=8)
def test_a_file_packed_or_not_its_parquet_and_its_frame_are_one_log(users, items, data):
    rows = data.draw(st.lists(st.tuples(st.sampled_from(users), st.sampled_from(items)), min_size=3, max_size=9))
    frame = pd.DataFrame(rows, columns=["user", "item"], dtype=object)
    times, codes = st.integers(0, 2_000_000_000).map(str), st.sampled_from(["01234", "12345", "1.50", "x"])
    for name, cells in (("time", times), ("zip", codes)):
        frame[name] = data.draw(st.lists(cells, min_size=len(frame), max_size=len(frame)))
    catalogue = pd.DataFrame({"item": sorted(set(items) | {"extra"})}, dtype=object).assign(title="007", code="0815")
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for ending in ("csv", "tsv", "csv.gz", "tsv.gz", "parquet"):
            for table, stem in ((frame, "log"), (catalogue, "items")):
                path = folder / f"{stem}.{ending}"
                if ending == "parquet":
                    table.to_parquet(path)
                elif "csv" in ending:
                    table.to_csv(path, index=False)
                else:
                    text = "\n".join("\t".join(row) for row in [list(table), *table.to_numpy().tolist()]) + "\n"
                    write(path, gzip.compress(text.encode()) if ending.endswith("gz") else text)
            found[ending] = outcome(folder / f"log.{ending}", folder / f"items.{ending}")
    expected = outcome(frame, catalogue)
    assert found == dict.fromkeys(found, expected)
    if expected != "refused" and not any("." in label for label in users + items):
        assert len(expected[0][1]) == frame["user"].nunique() and len(expected[1][1]) == frame["item"].nunique()


CELLS = st.sampled_from(
    ["1", "2", "x", "", "nan", "-1", "1.5", "1e400", "007", "9" * 30, '"', "2020-01-01", "\0", "é", " "]
) | st.sampled_from(["NA", "4.1E+12", "7.0", "20200101", "43650.5", "2020-01-01 UTC", "::", '"a', 'b"', "0"])
TABLES = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6)
ENDINGS = st.sampled_from([".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet"])


def log_in(ending: str, content: bytes):
    with tempfile.TemporaryDirectory() as folder:
        return read_or_refused(write(Path(folder) / f"log{ending}", content))


@given(st.binary(max_size=200), ENDINGS, st.booleans())
@settings(deadline=None, max_examples=60)
def test_arbitrary_bytes_are_read_or_refused_with_data_error(content, ending, packed):
    log = log_in(ending, gzip.compress(content) if packed and ending.endswith("gz") else content)
    assert log is None or numbered_without_gaps(log)


@given(
    TABLES,
    st.sampled_from(["user,item,time", "user,item,time,title", "user_id\titem_id\ttimestamp", "a"]),
    st.sampled_from([",", "\t", ";"]),
    st.sampled_from([".csv", ".tsv"]),
)
@settings(deadline=None, max_examples=80)
def test_tables_of_odd_cells_are_read_or_refused_with_data_error(rows, header, sep, ending):
    log = log_in(ending, "\n".join([header, *map(sep.join, rows)]).encode())
    assert log is None or numbered_without_gaps(log)


@given(
    st.dictionaries(
        st.sampled_from(["user", "item", "time", "title", "more"]),
        st.lists(
            st.one_of(
                st.none(),
                st.integers(),
                st.floats(),
                st.text(max_size=3),
                st.booleans(),
                st.binary(max_size=2),
                st.dates(),
                st.datetimes(),
                st.lists(st.integers(), max_size=1),
                st.complex_numbers(),
                st.decimals(),
            ),
            min_size=3,
            max_size=3,
        ),
    )
)
@settings(deadline=None, max_examples=80)
def test_frames_of_anything_are_read_or_refused_with_data_error(table):
    try:
        read(pd.DataFrame({name: pd.Series(values, dtype=object).infer_objects() for name, values in table.items()}))
    except DataError as error:
        assert str(error)


FILE = "user,item,time,session\nNA,1,1,a\nu1,2,2,b\nu1,-,3,b\nu1,3,4,b\nu2,2,,c\nu2,2,6,c\nu2,1,7,c\n"


def test_rows_without_an_id_or_a_time_can_be_dropped_and_are_counted(tmp_path):
    path = write(tmp_path / "log.csv", FILE)
    kinds = (r"'user' has no id \('NA' counts as missing\): row 2; .*'item' has no id .*: row 4; .*'time' has no "
             r"timestamp: row 6\..*--bad drop")  # fmt: skip
    with pytest.raises(DataError, match="3 rows cannot be read.*" + kinds):
        read(path)
    for source in (path, pd.read_csv(path), pd.read_csv(path, dtype=str, keep_default_na=False)):
        log = read(source, bad="drop")
        assert log.users["user_id"].tolist() == ["u1", "u2"] and log.n_events == 4
        notes = " ".join(log.notes)
        for role, what in (("user", "id"), ("item", "id"), ("time", "timestamp")):
            assert f"1 of 7 rows are dropped: column {role!r} has no {what}" in notes
    with pytest.raises(ValueError, match="bad must be one of"):
        read(path, bad="ignore")


def test_codes_in_other_columns_keep_their_zeros(tmp_path):
    items = write(tmp_path / "i.csv", "item,title,date,time\n1,a,010220,0930\n2,b,311299,1e3\n")
    table = read(write(tmp_path / "a.csv", "user,item,time\n1,1,1\n1,2,2\n"), items=items).items
    assert table["date"].tolist() == ["010220", "311299"] and table["time"].tolist() == ["0930", "1e3"]
    path = write(tmp_path / "a.csv", "user,item,time,zip,price,code\n1,1,1,01234,1.50,1\n1,2,2,12345,,22\n")
    events = read(path).events
    assert events["zip"].tolist() == ["01234", "12345"] and events["code"].tolist() == [1, 22]
    assert events["price"].iloc[0] == 1.5 and np.isnan(events["price"].iloc[1])


def test_a_folder_keeps_padded_ids(tmp_path):
    write(tmp_path / "interactions.tsv", "user_id\titem_id\ttimestamp\n01\t007\t1\n01\t7\t2\n1\t0123\t3\n")
    write(tmp_path / "items.tsv", "item_id\ttitle\n007\tBond\n7\tSeven\n0123\tLast\n")
    log = load(tmp_path)
    assert log.users["user_id"].tolist() == ["01", "1"]
    assert log.items.set_index("item_id")["title"].to_dict() == {"007": "Bond", "7": "Seven", "0123": "Last"}
