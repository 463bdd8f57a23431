"""Finding an item or a user by what people call them; labels of native controls are plain text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from seqlab.datasets.history import History, history_of
from seqlab.figures.theme import plain

if TYPE_CHECKING:
    from ipywidgets import Dropdown
    from torch import nn

    from seqlab.datasets.splits import Split

SHOWN = 30
WINDOW = 50
"""Events shown of a model that reads the whole history."""


def titles_of(split: Split) -> list[str]:
    """Titles by item id, with an empty one at 0."""
    return ["", *map(str, split.log.items["title"])]


def sample_users(split: Split, count: int, seed: int = 0) -> list[int]:
    """`count` users of the test queries (fewer if there are fewer), drawn at random but the same for one seed."""
    import torch

    order = torch.randperm(len(split.test), generator=torch.Generator().manual_seed(seed))
    return split.test.user[order[:count]].tolist()


def user_of(split: Split, user: int | str | None) -> int | None:
    """A user as the log numbers them (1..U) from that number or, as text, from their id in the source.

    None and "" mean nobody in particular. Raises `ValueError` for somebody who is not in the log or not asked about.
    """
    if user is None or user == "":
        return None
    known = split.log.users["user_id"]
    found = [user] if isinstance(user, int) else known.index[known.astype(str) == user].tolist()
    if not found or not bool((split.test.user == found[0]).any()):
        raise ValueError(
            f"there is no test query about user {user!r}; one of those there are is {str(known.iloc[0])!r}"
        )
    return int(found[0])


def user_label(split: Split, user: int) -> str:
    """The user's id as the source gives it; user 0 is somebody who was typed in."""
    return plain(split.log.users.at[user, "user_id"], 40) if user else "(typed in)"


def longest_of(model: nn.Module) -> int:
    """How many events a model reads, or, of one that reads them all, are shown."""
    return model.config.max_length or WINDOW


def reading(split: Split, model: nn.Module, who: History | int | str | None, seed: int = 0) -> History:
    """What a model reads of somebody: of a History, or of a user as `user_of` knows them (None: one at random)."""
    if isinstance(who, History):
        return who.last(longest_of(model))
    user = user_of(split, who) or sample_users(split, 1, seed)[0]
    return history_of(split, user, longest=longest_of(model))


CHOICE = 50
"""Users in a dropdown."""


def offered(split: Split, user: int | str | None, seed: int = 0) -> list[int]:
    """Users to choose from: some drawn at random, the one asked for first, if one is."""
    users, first = sample_users(split, CHOICE, seed), user_of(split, user)
    return users if first is None else [first, *(one for one in users if one != first)]


def user_dropdown(split: Split, users: list[int]) -> Dropdown:
    """A choice of these users, the first chosen; not to be seen where there is none to choose."""
    import ipywidgets

    options = [(user_label(split, user), user) for user in users]
    return ipywidgets.Dropdown(options=options, description="user", layout={"display": None if users else "none"})


class ItemPicker:
    """A search box over titles and the list of what it finds; `item` is what is chosen there, None if nothing.

    `on_pick(item)` is called for a choice a person makes, `on_enter()` when Enter is pressed in the search box.
    """

    def __init__(
        self,
        titles: list[str],
        label: str,
        on_pick: Callable[[int], None] | None = None,
        on_enter: Callable[[], None] | None = None,
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
        self.found = ipywidgets.Select(options=self._matches(""), rows=6, value=None, layout={"width": "97%"})
        self.view = ipywidgets.VBox([self.search, self.found], layout={"width": "340px"})
        self.search.observe(self._searched, "value")
        if on_pick is not None:
            self.found.observe(lambda change: None if change.new is None else on_pick(change.new), "value")
        if on_enter is not None:
            self.search.on_msg(lambda box, told, buffers: on_enter() if told.get("event") == "submit" else None)

    @property
    def item(self) -> int | None:
        return self.found.value

    def chosen(self) -> int:
        """What is chosen, or the first that a search found. Raises `ValueError` where there is neither."""
        if self.item is not None:
            return self.item
        if not self.search.value.strip():
            raise ValueError("choose an item in the list first, or search for one")
        if not self.found.options:
            raise ValueError(f"no title contains {plain(self.search.value, 60)!r}; try a part of it")
        return self.found.options[0][1]

    def _matches(self, text: str) -> list[tuple[str, int]]:
        """Items whose title holds the text, those that begin with it first."""
        text = text.strip().casefold()
        hits = [item for item in range(1, len(self._lower)) if text in self._lower[item]]
        hits.sort(key=lambda item: (not self._lower[item].startswith(text), item))
        return [(self._titles[item], item) for item in hits[:SHOWN]]

    def _searched(self, change: object) -> None:
        self.found.value = None
        self.found.options = self._matches(self.search.value)
        self.found.value = None


class HistoryBox:
    """A box to type or paste a history into, ids or titles; `on_read(text)` is called by its button."""

    def __init__(self, on_read: Callable[[str], None]) -> None:
        import ipywidgets

        self.text = ipywidgets.Textarea(
            placeholder="or type a user in: ids or titles, one a line, the oldest first",
            rows=4,
            layout={"width": "97%"},
        )
        self.button = ipywidgets.Button(description="Read these", layout={"width": "auto"})
        self.button.on_click(lambda _: on_read(self.text.value))
        self.view = ipywidgets.VBox([self.text, self.button], layout={"width": "340px"})
