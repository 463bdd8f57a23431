import gzip
import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.datasets import DataError
from seqlab.datasets.formats import READERS

RATINGS = "1::10::5::978300760\n1::11::3::978302109\n2::10::4::978301968\n"
MOVIES = '10::Toy Story (1995)::Animation|Comedy\n11::Léon: "The Pro" (1994)::Crime\n'


def zipped(path, members: dict):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def json_gz(path, objects, dump=json.dumps):
    path.write_bytes(gzip.compress("".join(dump(one) + "\n" for one in objects).encode()))
    return path


def review(user, item, time):
    return {"reviewerID": user, "asin": item, "unixReviewTime": time, "reviewText": 'it\'s "fine"'}


def test_movielens_1m(tmp_path):
    path = zipped(tmp_path / "ml-1m.zip", {"ml-1m/ratings.dat": RATINGS, "ml-1m/movies.dat": MOVIES.encode("latin-1")})
    events, items, _ = READERS["movielens-1m"]([path])
    assert events[["user_id", "item_id", "timestamp"]].to_numpy().tolist() == [
        ["1", "10", "978300760"],
        ["1", "11", "978302109"],
        ["2", "10", "978301968"],
    ]
    assert items.to_numpy().tolist() == [
        ["10", "Toy Story", "1995", "Animation|Comedy"],
        ["11", 'Léon: "The Pro"', "1994", "Crime"],
    ]


def test_movielens_100k(tmp_path):
    flags = ["0"] * 19
    flags[3] = flags[5] = "1"
    item = "|".join(["7", "Été (1990)", "01-Jan-1990", "", "http://x", *flags]) + "\n"
    path = zipped(
        tmp_path / "ml-100k.zip",
        {"ml-100k/u.data": "1\t7\t3\t881250949\n", "ml-100k/u.item": item.encode("latin-1"),
         "ml-100k/u.user": "1|24|M|none|85711\n"},
    )  # fmt: skip
    events, items, users = READERS["movielens-100k"]([path])
    assert events.to_numpy().tolist() == [["1", "7", "3", "881250949"]]
    assert items.to_numpy().tolist() == [["7", "Été", "1990", "Animation|Comedy"]]
    assert users.to_dict("list") == {"user_id": ["1"], "age": ["24"], "gender": ["M"], "occupation": ["none"]}


def test_amazon_2014_with_and_without_its_python_literal_metadata(tmp_path):
    reviews = json_gz(tmp_path / "reviews.json.gz", [review("A", "b1", 9), review("B", "b2", 3)])
    events, items, _ = READERS["amazon-2014"]([reviews])
    assert items is None and events["timestamp"].tolist() == [9.0, 3.0]
    meta = json_gz(
        tmp_path / "meta.json.gz",
        [{"asin": "b1", "title": "Soap's", "categories": [["Beauty", "Bath"]], "price": 2.5}, {"asin": "zz"}],
        dump=repr,
    )
    _, items, _ = READERS["amazon-2014"]([reviews, meta])
    assert items.to_numpy().tolist() == [["b1", "Soap's", "", "Beauty|Bath", "2.5"]]


def test_amazon_2018_keeps_titled_items_and_first_reviews(tmp_path):
    reviews = json_gz(tmp_path / "r.json.gz", [review("A", "b1", 9), review("A", "b1", 3), review("B", "b2", 3)])
    meta = json_gz(tmp_path / "m.json.gz", [{"asin": "b1", "title": "Game"}, {"asin": "b2", "title": " "}])
    events, items, _ = READERS["amazon-2018"]([reviews, meta])
    assert events.to_numpy().tolist() == [["A", "b1", 3.0]]
    assert items["title"].tolist() == ["Game"]
    with pytest.raises(DataError, match="is missing beside it"):
        READERS["amazon-2018"]([reviews])


@pytest.mark.parametrize("name", ["../ratings.dat", "/etc/ratings.dat", "ml-1m/../../ratings.dat", "C:/ratings.dat"])
def test_archives_with_members_outside_their_folder_raise(tmp_path, name):
    path = zipped(tmp_path / "ml-1m.zip", {"ml-1m/ratings.dat": RATINGS, "ml-1m/movies.dat": "", name: "x"})
    with pytest.raises(DataError, match="outside its folder"):
        READERS["movielens-1m"]([path])
    assert list(tmp_path.iterdir()) == [path]


def test_errors_of_official_files_name_file_and_line(tmp_path):
    whole = json_gz(tmp_path / "r.json.gz", [review("A", f"b{n}", n) for n in range(9000)])
    cut = tmp_path / "cut.json.gz"
    cut.write_bytes(whole.read_bytes()[:-3000])
    with pytest.raises(DataError, match="truncated after line"):
        READERS["amazon-2014"]([cut])
    with pytest.raises(DataError, match="line 2 has no valid"):
        READERS["amazon-2014"]([json_gz(tmp_path / "s.json.gz", [review("A", "b", 1), {"asin": "b"}])])
    with pytest.raises(DataError, match="not a complete zip"):
        READERS["movielens-1m"]([whole])
    short = zipped(tmp_path / "s.zip", {"ratings.dat": "1::2::3\n", "movies.dat": MOVIES.encode("latin-1")})
    with pytest.raises(DataError, match="3 fields per row where the official format has 4"):
        READERS["movielens-1m"]([short])
    with pytest.raises(DataError, match=r"0 members called u.data"):
        READERS["movielens-100k"]([short])


@given(st.binary(max_size=120), st.text(max_size=60), st.sampled_from(sorted(READERS)))
@settings(deadline=None, max_examples=60)
def test_arbitrary_official_files_are_read_or_raise_data_error(tmp_path_factory, content, text, reader):
    folder = tmp_path_factory.mktemp("fuzz")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("ratings.dat", "movies.dat", "u.data", "u.item", "u.user"):
            file.writestr(name, text)
    for number, payload in enumerate(
        [content, gzip.compress(content), gzip.compress(text.encode()), archive.getvalue()]
    ):
        path = folder / str(number)
        path.write_bytes(payload)
        try:
            READERS[reader]([path, path])
        except DataError as error:
            assert str(error)
