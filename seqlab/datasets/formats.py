"""The official files of the benchmarks -> (events, items): MovieLens zips and Amazon review json.gz.

Archives are read in memory, member by member: nothing is unpacked to disk. Only DataError leaves here.
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
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
RATING = ["user_id", "item_id", "rating", "timestamp"]


def movielens_1m(paths: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ml-1m.zip: `ratings.dat` and `movies.dat` (fields between ::, Latin-1 titles)."""
    ratings = _fields(_member(paths[0], "ratings.dat").replace(b"::", b"\t"), "\t", RATING, f"{paths[0]}: ratings.dat")
    movies = _fields(
        _member(paths[0], "movies.dat").replace(b"::", b"\t"),
        "\t",
        ["item_id", "title", "genres"],
        f"{paths[0]}: movies.dat",
        "latin-1",
    )
    return ratings, _with_year(movies)[["item_id", "title", "year", "genres"]]


def movielens_100k(paths: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ml-100k.zip: `u.data` (tabs) and `u.item` (bars, Latin-1, one 0/1 column per genre)."""
    ratings = _fields(_member(paths[0], "u.data"), "\t", RATING, f"{paths[0]}: u.data")
    names = ["item_id", "title", "released", "video", "imdb", *GENRES_100K]
    movies = _fields(_member(paths[0], "u.item"), "|", names, f"{paths[0]}: u.item", "latin-1")
    flags = (movies[GENRES_100K] == "1").to_numpy()
    genres = pd.Series([""] * len(movies), dtype=object)
    for column, genre in enumerate(GENRES_100K):  # 19 genres
        genres[flags[:, column]] += f"|{genre}"
    movies["genres"] = genres.str.lstrip("|")
    return ratings, _with_year(movies)[["item_id", "title", "year", "genres"]]


def amazon_2014(paths: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """reviews_X_5.json.gz (one JSON object per line) and, if given, meta_X.json.gz (Python literals)."""
    events = _reviews(paths[0])
    return events, _described(paths[1], set(events["item_id"])) if len(paths) > 1 else None


def amazon_2018(paths: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """X_5.json.gz and meta_X.json.gz (JSON lines); items without a title and second reviews are dropped."""
    if len(paths) < 2:
        raise DataError(f"{paths[0]}: its meta_... file must lie beside it: this benchmark keeps titled items only.")
    events = _reviews(paths[0])
    items = _described(paths[1], set(events["item_id"]))
    items = items[items["title"].str.strip() != ""]
    events = events[events["item_id"].isin(items["item_id"])]
    return events.sort_values("timestamp", kind="stable").drop_duplicates(["user_id", "item_id"]), items


READERS = {
    "movielens-1m": movielens_1m,
    "movielens-100k": movielens_100k,
    "amazon-2014": amazon_2014,
    "amazon-2018": amazon_2018,
}


def _member(path: Path, name: str) -> bytes:
    """The bytes of the member of that name (in any folder) of a zip; DataError for one not to be trusted."""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                parts = info.filename.replace("\\", "/").split("/")
                if ".." in parts or parts[0] == "" or ":" in parts[0]:
                    raise DataError(
                        f"{path}: the archive holds a path that leaves its folder ({info.filename!r}); "
                        "this is not the official file. Get it again from its source."
                    )
            found = [info for info in archive.infolist() if info.filename.split("/")[-1] == name]
            if len(found) != 1:
                raise DataError(
                    f"{path}: the archive holds {len(found)} files called {name}, not one; "
                    "this is not the official file."
                )
            if found[0].file_size > LARGEST:
                raise DataError(f"{path}: {name} would unpack to {found[0].file_size:,} bytes; refused.")
            return archive.read(found[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: this is no whole zip archive ({error}). Get it again from its source.") from error


def _fields(text: bytes, sep: str, names: list[str], where: str, encoding: str = "utf-8") -> pd.DataFrame:
    """Rows without a header as text columns of these names."""
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
    """(line number, parsed object) of a json.gz with one object per line; 2014 metadata: Python literals."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    one = json.loads(line) if "'" not in line[:2] else ast.literal_eval(line.strip())
                    if not isinstance(one, dict):
                        raise DataError(f"{path}: line {number} is no object with named fields.")
                    yield number, one
    except DataError:
        raise
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path}: this is no whole gzip file ({error}); it may have been cut short after line "
            f"{number:,}. Get it again."
        ) from error
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise DataError(
            f"{path}: line {number + ('json' not in type(error).__module__):,} or the one after it is not "
            f"in the official format ({str(error)[:200]})."
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
                f"{path}: line {number:,} lacks a proper reviewerID, asin or unixReviewTime ({error!r})."
            ) from error
    return pd.DataFrame({"user_id": users, "item_id": items, "timestamp": times}).astype(
        {"user_id": "category", "item_id": "category"}
    )


def _described(path: Path, wanted: set) -> pd.DataFrame:
    """item_id, title, brand, category, price of the wanted items; the first description of each."""
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
