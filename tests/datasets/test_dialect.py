import gzip

import pytest

from seqlab.datasets import DataError, load, read
from tests.datasets.test_reading import write

RATINGS = "3::11::5::978300000\n3::12::4::978300060\n4::11::1::978300120\n"
UNNAMED = {
    "ratings.dat": (RATINGS, (0, 1, 3)),
    "u.data": (RATINGS.replace("::", "\t"), (0, 1, 3)),
    "ratings.csv": (RATINGS.replace("::", ","), ("0", "1", "3")),
    "clicks.txt": ("3,2000-12-31T22:00:00.000Z,11\n3,2000-12-31T22:01:00Z,12\n4,2000-12-31T22:02:00Z,11\n", (0, 2, 1)),
    "log.tsv.gz": (gzip.compress(RATINGS.replace("::", "\t").encode(), mtime=0), ("0", "1", "3")),
    "mixed.csv": ("u3,when,11,978300000\nu3,x,12,978300060\nu4,x,11,978300120\n", (0, 2, 3)),
}


@pytest.mark.parametrize(("name", "content", "places"), [(name, *one) for name, one in UNNAMED.items()])
def test_a_file_without_a_header_is_read_by_column_numbers(tmp_path, name, content, places):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=r"no header.*user=0, item=1, time=3.*--user 0.*0: '.?3'"):
        load(path)
    log = read(path, *places)
    assert log.n_events == 3 and log.items["item_id"].tolist() == [11, 12]
    assert log.events["timestamp"].tolist() == [978300000, 978300060, 978300120]
    assert any("first line is data" in note for note in log.notes)


def test_numbered_columns_with_names_keep_their_names(tmp_path):
    log = read(write(tmp_path / "a.csv", "0,1,2\n5,6,7\n5,8,9\n"), user=0, item=1, time=2)
    assert log.n_events == 2
    with pytest.raises(DataError, match=r"no column '0'.*'user', 'item', 'time'"):
        read(write(tmp_path / "a.csv", "user,item,time\n5,6,7\n5,8,9\n"), user=0)


@pytest.mark.parametrize("sep", ["::", "||", "¦", ";", " ", r"\s+", r"\t"])
def test_separators_of_any_length(tmp_path, sep):
    glue = {r"\s+": "  ", r"\t": "\t"}.get(sep, sep)
    lines = [["user", "item", "time"], ["a", '6"', "1"], ["a", "y", "2"], ["b", "y", "3"]]
    log = read(write(tmp_path / "log.dat", "\n".join(map(glue.join, lines))), sep=sep)
    assert log.n_events == 3 and log.items["item_id"].tolist() == ['6"', "y"]


TITLES = {
    "cp1251": ["Преступление", "Идиот"],
    "gbk": ["西游记", "水浒传"],
    "cp1252": ["Crème", "Pâté"],
    "cp949": ["봄봄", "소나기"],
}


def titled(titles, ending="\n") -> str:
    return ending.join(["user,item,time,title", f"1,1,1,{titles[0]}", f"1,2,2,{titles[1]}", f"2,1,3,{titles[0]}", ""])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("packed", [False, True])
def test_encodings_with_a_byte_order_mark_or_pattern_are_detected(tmp_path, encoding, packed):
    content = titled(TITLES["cp1251"], "\r\n").encode(encoding)
    log = load(write(tmp_path / ("a.csv.gz" if packed else "a.csv"), gzip.compress(content) if packed else content))
    assert log.items["title"].tolist() == TITLES["cp1251"]


@pytest.mark.parametrize("encoding", TITLES)
def test_legacy_encodings_are_suggested_and_then_read(tmp_path, encoding):
    path = write(tmp_path / "a.csv", titled(TITLES[encoding]).encode(encoding))
    with pytest.raises(DataError) as caught:
        read(path)
    name = {"gbk": "gb18030"}.get(encoding, encoding)
    assert f"encoding={name!r} ({TITLES[encoding][0]})" in str(caught.value) and "lines 2, 3, 4" in str(caught.value)
    assert read(path, encoding=encoding).items["title"].tolist() == TITLES[encoding]


def test_an_encoding_is_suggested_even_if_rows_have_different_lengths(tmp_path):
    with pytest.raises(DataError, match=r"the text is not UTF-8 \(lines 2, 4\)"):
        read(write(tmp_path / "a.csv", titled(["x\xe9", "y"]).replace("2,1,3", "2,1,1,3").encode("latin-1")))


def test_a_wrong_encoding_raises_and_an_unneeded_one_is_ignored(tmp_path):
    path = write(tmp_path / "a.csv", titled(TITLES["cp1251"]))
    assert read(path, encoding="cp1251").items["title"].tolist() == TITLES["cp1251"]
    with pytest.raises(DataError, match=r"no encoding called 'cp125l'. Did you mean 'cp125"):
        read(path, encoding="cp125l")
    with pytest.raises(DataError, match="the text is not ascii"):
        read(write(path, titled(TITLES["cp1251"]).encode("cp1251")), encoding="ascii")
