"""Readers of official benchmark files -> (events, items, users): MovieLens zips and Amazon review json.gz.

Items and users are None where the files have none. Archives are read in memory; nothing is unpacked to disk. The only
exception raised is `DataError`.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import zipfile
import zlib
from pathlib import Path

import pandas as pd

from seqlab.runtime.text import DataError

LARGEST = 1 << 31  # bytes of one unpacked zip member; ml-1m has 25 MB
GENRES_100K = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]  # fmt: skip
RATING = ["user_id", "item_id", "rating", "timestamp"]


Tables = tuple[pd.DataFrame, pd.DataFrame | None, pd.DataFrame | None]


def movielens_1m(paths: list[Path]) -> Tables:
    """ml-1m.zip: `ratings.dat` and `movies.dat` (separated by ::, titles in Latin-1)."""
    ratings = _fields(_member(paths[0], "ratings.dat").replace(b"::", b"\t"), "\t", RATING, f"{paths[0]}: ratings.dat")
    movies = _fields(
        _member(paths[0], "movies.dat").replace(b"::", b"\t"),
        "\t",
        ["item_id", "title", "genres"],
        f"{paths[0]}: movies.dat",
        "latin-1",
    )
    return ratings, _with_year(movies)[["item_id", "title", "year", "genres"]], None


def movielens_100k(paths: list[Path]) -> Tables:
    """ml-100k.zip: `u.data` (by tabs), `u.item` (by bars, Latin-1, a 0/1 column per genre) and `u.user` (by bars)."""
    ratings = _fields(_member(paths[0], "u.data"), "\t", RATING, f"{paths[0]}: u.data")
    names = ["item_id", "title", "released", "video", "imdb", *GENRES_100K]
    movies = _fields(_member(paths[0], "u.item"), "|", names, f"{paths[0]}: u.item", "latin-1")
    flags = (movies[GENRES_100K] == "1").to_numpy()
    genres = pd.Series([""] * len(movies), dtype=object)
    for column, genre in enumerate(GENRES_100K):  # 19 genres
        genres[flags[:, column]] += f"|{genre}"
    movies["genres"] = genres.str.lstrip("|")
    names = ["user_id", "age", "gender", "occupation", "zip_code"]
    people = _fields(_member(paths[0], "u.user"), "|", names, f"{paths[0]}: u.user")
    return ratings, _with_year(movies)[["item_id", "title", "year", "genres"]], people[names[:-1]]


def amazon_2014(paths: list[Path]) -> Tables:
    """reviews_X_5.json.gz (JSON lines) and, optionally, meta_X.json.gz (lines of Python literals)."""
    events = _reviews(paths[0])
    return events, _described(paths[1], set(events["item_id"])) if len(paths) > 1 else None, None


def amazon_2018(paths: list[Path]) -> Tables:
    """X_5.json.gz and meta_X.json.gz (JSON lines); items without a title and second reviews are dropped."""
    if len(paths) < 2:
        raise DataError(f"{paths[0]}: the meta_... file is missing beside it; this benchmark needs item titles.")
    events = _reviews(paths[0])
    items = _described(paths[1], set(events["item_id"]))
    items = items[items["title"].str.strip() != ""]
    events = events[events["item_id"].isin(items["item_id"])]
    return events.sort_values("timestamp", kind="stable").drop_duplicates(["user_id", "item_id"]), items, None


READERS = {
    "movielens-1m": movielens_1m,
    "movielens-100k": movielens_100k,
    "amazon-2014": amazon_2014,
    "amazon-2018": amazon_2018,
}


def _member(path: Path, name: str) -> bytes:
    """The bytes of the zip member of that name (in any folder). Raises `DataError` for an unsafe archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                parts = info.filename.replace("\\", "/").split("/")
                if ".." in parts or parts[0] == "" or ":" in parts[0]:
                    raise DataError(
                        f"{path}: the archive has a member outside its folder ({info.filename!r}), so it is not the "
                        "official file. Download it again."
                    )
            found = [info for info in archive.infolist() if info.filename.split("/")[-1] == name]
            if len(found) != 1:
                raise DataError(
                    f"{path}: the archive has {len(found)} members called {name} instead of one, so it is not the "
                    "official file. Download it again."
                )
            if found[0].file_size > LARGEST:
                raise DataError(
                    f"{path}: {name} has {found[0].file_size:,} bytes unpacked, so it is not the official file."
                )
            return archive.read(found[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: this is not a complete zip archive ({error}). Download it again.") from error


def _fields(text: bytes, sep: str, names: list[str], where: str, encoding: str = "utf-8") -> pd.DataFrame:
    """A delimited text without a header, as text columns with these names."""
    try:
        frame = pd.read_csv(
            io.BytesIO(text),
            sep=sep,
            header=None,
            dtype="str",
            encoding=encoding,
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{where}: not in the official format ({str(error).strip()[:200]}).") from error
    if len(frame.columns) != len(names):
        raise DataError(f"{where}: {len(frame.columns)} fields per row where the official format has {len(names)}.")
    return frame.set_axis(names, axis=1)


def _with_year(movies: pd.DataFrame) -> pd.DataFrame:
    """'Toy Story (1995)' -> title 'Toy Story', year '1995'."""
    found = movies["title"].str.extract(r"^(.*?)\s*\((\d{4})\)\s*$")
    return movies.assign(title=found[0].fillna(movies["title"]), year=found[1].fillna(""))


def _lines(path: Path):
    """(line number, object) of a json.gz with one JSON object or Python literal per line."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    one = json.loads(line) if "'" not in line[:2] else ast.literal_eval(line.strip())
                    if not isinstance(one, dict):
                        raise DataError(f"{path}: line {number} is not an object with named fields.")
                    yield number, one
    except DataError:
        raise
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path}: this is not a complete gzip file ({error}); it may be truncated after line {number:,}. "
            "Download it again."
        ) from error
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise DataError(
            f"{path}: line {number + ('json' not in type(error).__module__):,} or the next one is not in the official "
            f"format ({str(error)[:200]})."
        ) from error


def _reviews(path: Path) -> pd.DataFrame:
    """user_id, item_id, timestamp of every review, in the file's order."""
    users, items, times = [], [], []
    for number, review in _lines(path):
        try:
            users.append(str(review["reviewerID"]))
            items.append(str(review["asin"]))
            times.append(float(review["unixReviewTime"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"{path}: line {number:,} has no valid reviewerID, asin or unixReviewTime ({error!r})."
            ) from error
    return pd.DataFrame({"user_id": users, "item_id": items, "timestamp": times}).astype(
        {"user_id": "category", "item_id": "category"}
    )


def _described(path: Path, wanted: set) -> pd.DataFrame:
    """item_id, title, brand, category and price of the wanted items, from the first description of each."""
    rows = {}
    for _, item in _lines(path):
        asin = str(item.get("asin", ""))
        if asin in wanted and asin not in rows:
            category = item.get("categories") or item.get("category") or []
            category = category[0] if category and isinstance(category[0], list) else category
            category = "|".join(map(str, category)) if isinstance(category, list) else str(category)
            rows[asin] = [
                asin,
                *(str(item.get(field) or "") for field in ("title", "brand")),
                category,
                str(item.get("price") or ""),
            ]
    return pd.DataFrame(list(rows.values()), columns=["item_id", "title", "brand", "category", "price"], dtype="str")
