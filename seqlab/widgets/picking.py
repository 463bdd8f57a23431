"""Finding an item or a user by what people call them; labels of native controls are plain text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from seqlab.figures.theme import plain

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

SHOWN = 30


def titles_of(split: Split) -> list[str]:
    """Titles by item id, with an empty one at 0."""
    return ["", *map(str, split.log.items["title"])]


def sample_users(split: Split, count: int, seed: int = 0) -> list[int]:
    """`count` users of the test questions (fewer if there are fewer), drawn at random but the same for one seed."""
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
            f"there is no test question about user {user!r}; one of those there are is {str(known.iloc[0])!r}"
        )
    return int(found[0])


def user_label(split: Split, user: int) -> str:
    """The user's id as the source gives it."""
    return plain(split.log.users.at[user, "user_id"], 40)


class ItemPicker:
    """A search box over titles and the list of what it finds; `item` is what is chosen there, None if nothing.

    `on_pick(item)` is called for a choice a person makes.
    """

    def __init__(self, titles: list[str], label: str, on_pick: Callable[[int], None] | None = None) -> None:
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

    @property
    def item(self) -> int | None:
        return self.found.value

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
