"""Controls to choose an item, a user or a history, by title, id or typed text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from seqlab.datasets.history import History, history_of
from seqlab.datasets.item_names import item_names
from seqlab.figures.html import Html, text
from seqlab.figures.theme import plain

if TYPE_CHECKING:
    import pandas as pd
    from ipywidgets import Dropdown
    from torch import nn

    from seqlab.datasets.splits import Split
    from seqlab.widgets.display import StatusLine

MAX_MATCHES = 30
DEFAULT_MAX_EVENTS = 50
"""Events shown for a model without a maximum history length."""


def titles_of(split: Split) -> list[str]:
    """Names by item id, (N + 1), empty at 0: see `item_names`."""
    return ["", *item_names(split.log)]


def default_category(items: pd.DataFrame) -> str:
    """The first text column, except id and title, with several items per value; "" if there is none."""
    import pandas as pd

    for name in items.columns:
        words = not pd.api.types.is_numeric_dtype(items[name])
        if name not in ("item_id", "title") and words and 1 < items[name].nunique() <= max(3, len(items) // 10):
            return name
    return ""


def sample_users(split: Split, count: int, seed: int = 0) -> list[int]:
    """`count` random users of the test queries (all if there are fewer), determined by the seed."""
    import torch

    order = torch.randperm(len(split.test), generator=torch.Generator().manual_seed(seed))
    return list(dict.fromkeys(split.test.user[order.to(split.test.user.device)].tolist()))[:count]


def user_of(split: Split, user: int | str | None) -> int | None:
    """The number of a user in the log (1..U), from that number or, as text, from the id in the source data.

    None and "" return None. Raises `ValueError` for a user who is not in the log or has no test query.
    """
    if user is None or user == "":
        return None
    known = split.log.users["user_id"]
    found = [user] if isinstance(user, int) else known.index[known.astype(str) == user].tolist()
    if not found or not bool((split.test.user == found[0]).any()):
        raise ValueError(f"user {user!r} has no test query; an example of a user id is {str(known.iloc[0])!r}")
    return int(found[0])


def answers_of(split: Split) -> dict[int, int]:
    """The item that came next, by user: the answer of the first test query; without users who have a set of answers."""
    users, items = split.test.user.tolist(), split.test.item.tolist()
    return {user: item for user, item in reversed([*zip(users, items, strict=True)]) if item}


def user_label(split: Split, user: int) -> str:
    """The user's id in the source data; user 0 is a typed history."""
    return plain(split.log.users.at[user, "user_id"], 40) if user else "(typed in)"


def max_events(model: nn.Module) -> int:
    """The maximum history length of a model, or `DEFAULT_MAX_EVENTS` if it has none."""
    return model.config.max_length or DEFAULT_MAX_EVENTS


def history_for(split: Split, model: nn.Module, source: History | int | str | None, seed: int = 0) -> History:
    """The part of a history that a model reads: of a History, or of a user as in `user_of` (None: a random one)."""
    if isinstance(source, History):
        return source.last(max_events(model))
    user = user_of(split, source) or sample_users(split, 1, seed)[0]
    return history_of(split, user, longest=max_events(model))


USER_CHOICES = 50
"""Users in a dropdown."""


def user_choices(split: Split, user: int | str | None, seed: int = 0) -> list[int]:
    """Random users for a dropdown; a given user comes first."""
    users, first = sample_users(split, USER_CHOICES, seed), user_of(split, user)
    return users if first is None else [first, *(one for one in users if one != first)]


def user_dropdown(split: Split, users: list[int]) -> Dropdown:
    """A dropdown of these users, hidden if there are none."""
    import ipywidgets

    options = [(user_label(split, user), user) for user in users]
    return ipywidgets.Dropdown(options=options, description="user", layout={"display": None if users else "none"})


class ItemPicker:
    """A search box over titles with a list of matches; `item` is the chosen one or None.

    `on_pick(item)` is called for a choice, `on_enter()` when Enter is pressed in the search box.
    """

    def __init__(
        self,
        titles: list[str],
        label: str,
        on_pick: Callable[[int], None] | None = None,
        on_enter: Callable[[], None] | None = None,
        rows: int = 6,
    ) -> None:
        import ipywidgets

        self._titles = [plain(title, 90) for title in titles]
        self._lower = [title.casefold() for title in self._titles]
        self.search = ipywidgets.Text(
            placeholder="part of a title",
            description=label,
            style={"description_width": "auto"},
            layout={"width": "97%"},
        )
        self.found = ipywidgets.Select(options=self._matches(""), rows=rows, value=None, layout={"width": "97%"})
        self.view = ipywidgets.VBox([self.search, self.found], layout={"width": "340px"})
        self.search.observe(self._searched, "value")
        if on_pick is not None:
            self.found.observe(lambda change: None if change.new is None else on_pick(change.new), "value")
        if on_enter is not None:
            self.search.on_msg(lambda box, content, buffers: on_enter() if content.get("event") == "submit" else None)

    @property
    def item(self) -> int | None:
        return self.found.value

    def chosen(self) -> int:
        """The chosen item, or the first match of a search. Raises `ValueError` if there is neither."""
        if self.item is not None:
            return self.item
        if not self.search.value.strip():
            raise ValueError("choose an item in the list first, or search for one")
        if not self.found.options:
            raise ValueError(f"no title contains {plain(self.search.value, 60)!r}; try a part of it")
        return self.found.options[0][1]

    def _matches(self, query: str) -> list[tuple[str, int]]:
        """Titles and ids of items whose title contains the query, those that begin with it first."""
        query = query.strip().casefold()
        hits = [item for item in range(1, len(self._lower)) if query in self._lower[item]]
        hits.sort(key=lambda item: (not self._lower[item].startswith(query), item))
        return [(self._titles[item], item) for item in hits[:MAX_MATCHES]]

    def _searched(self, change: object) -> None:
        self.found.value = None
        self.found.options = self._matches(self.search.value)
        self.found.value = None


class HistoryBox:
    """A text box for a history of ids or titles, and a button; below it what was read, or why it could not be read.

    on_read(text) returns the items that were read.
    """

    def __init__(self, on_read: Callable[[str], Iterable[int]], status: StatusLine, titles: list[str]) -> None:
        import ipywidgets

        self._on_read, self._titles = on_read, titles
        self.text = ipywidgets.Textarea(
            placeholder="or type a history: ids or titles, one a line, the oldest first",
            rows=2,
            layout={"width": "97%"},
        )
        self.button = ipywidgets.Button(description="Read these", layout={"width": "auto"})
        error, self.message = status.line(), ipywidgets.HTML()
        self.button.on_click(status.guard(lambda _: self._read(), error))
        self.view = ipywidgets.VBox([self.text, self.button, error, self.message], layout={"width": "340px"})

    def _read(self) -> None:
        self.message.value = ""
        titles = Html(" · ").join(text(self._titles[item], 60) for item in self._on_read(self.text.value))
        self.message.value = Html("<div class='quiet' role='status'>Read as: {}</div>").format(titles).markup
