import pytest

from seqlab.datasets import DataError, read
from tests.datasets.test_dialect import RATINGS
from tests.datasets.test_reading import GOOD, write


def test_a_missing_file_and_a_folder_in_its_place(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(DataError, match="not a file"):
        read(tmp_path)
    with pytest.raises(DataError, match="not list"):
        read([1, 2])


def test_bad_item_tables_name_their_own_file_and_rows(tmp_path):
    items = write(tmp_path / "items.csv", "item,title\n1,a\n2,b\n1,c\n")
    with pytest.raises(DataError, match=r"items\.csv.*more than once: rows 2, 4"):
        read(write(tmp_path / "a.csv", GOOD), items=items)
    with pytest.raises(DataError, match=r"items\.csv: there is no column 'name'.*'item', 'title'"):
        read(tmp_path / "a.csv", items=write(items, "item,title\n1,a\n"), title="name")


def test_items_without_names_have_their_key_first(tmp_path):
    movies = write(tmp_path / "movies.dat", "11::Toy Story::Comedy\n12::L\xe9on::Crime\n".encode("latin-1"))
    log = read(write(tmp_path / "ratings.dat", RATINGS), 0, 1, 3, items=movies, title=1, encoding="latin-1")
    assert log.items["title"].tolist() == ["Toy Story", "Léon"]
