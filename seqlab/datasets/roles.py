"""Further columns of events and users: their standard roles, and their values as numbers or as codes of categories."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from seqlab.datasets.columns import INTEGER, MISSING_TEXT, factorize, numbers_of, to_text
from seqlab.runtime.text import MissingDataError, did_you_mean, listed

ROLES = ("basket", "action", "price", "quantity", "rating", "domain", "store")
CATEGORICAL = ("basket", "action", "domain", "store")
"""Roles whose values are categories even where they are written as numbers."""
EXACT = 2**53
"""Beyond it, float64 cannot hold every whole number."""
CORE = ("user", "item", "timestamp")


def check_roles(roles: Mapping[str, str]) -> None:
    """Raise `ValueError` for a role that does not exist."""
    if unknown := [role for role in roles if role not in ROLES]:
        raise ValueError(
            f"there is no role {listed([repr(role) for role in unknown])}.{did_you_mean(unknown[0], ROLES)} "
            f"There are: {', '.join(ROLES)}."
        )


def column_name(log, name: str) -> str:
    """The event column of a role, or of that name. Raises `DataError`, with how to declare one, if there is none."""
    found = log.roles.get(name, name)
    if found in log.events.columns:
        return found
    roles = {column: role for role, column in log.roles.items()}
    further = [f"{column!r}{f' ({roles[column]})' if column in roles else ''}" for column in further_columns(log)]
    there = f"Its further columns: {listed(further, 30)}." if further else "It has no columns but user, item and time."
    beside = " It is a column of the users." if name in log.users.columns[1:] else ""
    beside += " It is a column of the items." if name in log.items.columns[1:] else ""
    declare = (
        f"Declare it when you load a file with one: columns={{{name!r}: 'the name of its column'}} "
        f"(in a shell: --column {name}=NAME)."
        if name in ROLES
        else "A log keeps every further column of its file or frame under its own name."
    )
    close = did_you_mean(name, [*log.events.columns, *ROLES]) if name not in ROLES else ""
    raise MissingDataError(f"{log.name}: the events have no column {name!r}.{beside}{close} {there} {declare}")


def further_columns(log) -> list[str]:
    """The names of the event columns besides user, item and timestamp."""
    return [str(column) for column in log.events.columns if column not in CORE]


def event_column(log, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """`InteractionLog.column`."""
    column = column_name(log, name)
    categorical = any(log.roles.get(role, role) == column for role in CATEGORICAL)
    return encode(log.events[column], categorical)


def user_column(log, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """`InteractionLog.user_column`."""
    if name not in log.users.columns:
        there = listed([repr(str(column)) for column in log.users.columns[1:]], 30)
        raise MissingDataError(
            f"{log.name}: the users have no column {name!r}.{did_you_mean(name, log.users.columns)} "
            + (f"Their columns: {there}. " if there else "They have no columns but their ids. ")
            + "A folder with interactions.tsv may have a users.tsv with a column user_id and further ones."
        )
    return encode(log.users[name])


def encode(values: pd.Series, categorical: bool = False) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """A column as float64 (NaN = missing) and None, or as codes 1..V (0 = missing) and the texts of the categories.

    Numbers, and texts that are all numbers (not codes such as 007), become float64 unless `categorical`, or unless they
    are whole numbers beyond 2**53, of which float64 loses digits. Categories are sorted: whole numbers by value, other
    texts alphabetically.
    """
    if isinstance(values.dtype, pd.CategoricalDtype) and pd.api.types.is_numeric_dtype(values.cat.categories.dtype):
        values = values.astype("float64" if values.isna().any() else values.cat.categories.dtype)
    numeric = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    if numeric and not categorical and _exact(values):
        return values.to_numpy(np.float64, na_value=np.nan), None
    try:
        codes, unique = factorize(values)
    except TypeError:  # lists and the like
        codes, unique = pd.factorize(values.map(str))
    texts = to_text(pd.Series(unique).infer_objects())
    if not (numeric or categorical) and (numbers := numbers_of(texts)) is not None:
        return np.append(numbers, np.nan)[codes], None
    known = texts[~(texts.isin(MISSING_TEXT) | (texts.str.strip() == ""))].unique()
    known = pd.Series(known, dtype="str")
    if len(known) and known.str.fullmatch(INTEGER).all():
        known = known.iloc[np.lexsort((known.to_numpy(object).astype(str), known.str.len()))]
    else:
        known = known.sort_values()
    code = pd.Index(known).get_indexer(texts).astype(np.int64) + 1
    return np.append(code, 0)[codes], tuple(known)


def _exact(values: pd.Series) -> bool:
    """Whether float64 holds all of these numbers."""
    known = values.dropna() if pd.api.types.is_integer_dtype(values.dtype) else ()
    return not len(known) or max(abs(int(known.min())), abs(int(known.max()))) <= EXACT


def renumbered(table: pd.DataFrame, numbers: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """A table whose columns user and item have new numbers. numbers: for each, the new number by the old one."""
    return table.assign(**{name: new[table[name].to_numpy()] for name, new in numbers.items() if name in table})
