"""Splits by name: one text, such as "by-time 2017-10-01 2017-11-01", names a rule and its arguments."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from seqlab.datasets.baskets import basket_completion, last_basket
from seqlab.datasets.labelled import candidates, labelled
from seqlab.datasets.slates import slates
from seqlab.datasets.split_rules import by_time, cold_items, leave_one_out
from seqlab.datasets.within_user import within_user
from seqlab.runtime.settings import validate
from seqlab.runtime.text import DataError, did_you_mean

if TYPE_CHECKING:
    from seqlab.datasets.log import InteractionLog
    from seqlab.datasets.splits import Split

RULES: dict[str, Callable[..., Split]] = {
    "leave-one-out": leave_one_out,
    "by-time": by_time,
    "cold-items": cold_items,
    "last-basket": last_basket,
    "basket-completion": basket_completion,
    "within-user": within_user,
    "slates": slates,
    "candidates": candidates,
    "labelled": labelled,
}
"""The rules by name; the words after the name are their arguments."""

DEFAULT = "leave-one-out"

OF_USERS = "users."
"""What the name of a column of the users begins with, among the needs of a system."""

OLD_NAMES = (
    (re.compile(r"by time (.+) \| (.+)"), lambda found: f"by-time {found[1]} {found[2]}"),
    (re.compile(r"cold items ([\d.e+-]+)%(?:, seed (\d+))?"),
     lambda found: f"cold-items {float(found[1]) / 100:.10g}" + (f" {found[2]}" if found[2] else "")),
)  # fmt: skip
"""The names of splits in runs and tables that were written before splits had a text."""


def split(log: InteractionLog, text: str = DEFAULT, columns: tuple[str, ...] = ()) -> Split:
    """The split that a text names.

    text: a name of `RULES`, then the arguments of its function in their order, such as "cold-items 0.1". columns: the
    further event columns to gather (what a system declares in `needs`). Raises `DataError` for another text, and where
    the log does not have what the rule needs.
    """
    name, *words = current_name(text).split()
    if name not in RULES:
        known = ", ".join(RULES)
        raise DataError(f"there is no split called {name!r}.{did_you_mean(name, RULES)} There are: {known}.")
    parameters = _parameters(name)
    least = sum(one.default is one.empty for one in parameters)
    if not least <= len(words) <= len(parameters):
        raise DataError(f"the split {text!r} has {len(words)} arguments; it looks like: {usage(name)}")
    try:
        given = [
            validate(one.annotation, word, f"{name}: {one.name}") if one.annotation in (int, float) else word
            for one, word in zip(parameters, words, strict=False)
        ]
    except ValueError as error:
        raise DataError(f"{error} The split looks like: {usage(name)}") from error
    return RULES[name](log, *given, columns=tuple(columns))


def usage(name: str) -> str:
    """How a split is written, such as "cold-items [SHARE=0.1] [SEED=0]"."""
    words = []
    for one in _parameters(name):
        default = "" if one.default is None else f"={one.default}"
        words.append(one.name.upper() if one.default is one.empty else f"[{one.name.upper()}{default}]")
    return " ".join([name, *words])


def _parameters(name: str) -> list[inspect.Parameter]:
    """The parameters of a rule that the words after its name are for: without the log and the columns."""
    _, *parameters = inspect.signature(RULES[name], eval_str=True).parameters.values()
    return [one for one in parameters if one.name != "columns"]


def current_name(text: str) -> str:
    """The name of a split as it is written now, for a name that an older run has stored."""
    text = " ".join(str(text).split()) or DEFAULT
    for pattern, renamed in OLD_NAMES:
        if found := pattern.fullmatch(text):
            return renamed(found)
    return text


def with_columns(given: Split, needs: Iterable[str]) -> Split:
    """The same split with the further event columns that a system needs; `given` itself if it has them.

    needs: as in `contracts.needs_of`. Raises `DataError` for a column that the log does not have.
    """
    names = tuple(name for name in needs if not name.startswith(OF_USERS))
    for name in needs:
        if name.startswith(OF_USERS):
            given.log.user_column(name.removeprefix(OF_USERS))
    if set(names) <= set(given.train.extra):
        return given
    return dataclasses.replace(split(given.log, given.name, names), notes=given.notes)
