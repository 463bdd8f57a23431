"""CodeTree: the semantic IDs of a tokenizer as a tree of branches, and the same items in another tokenizer."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab import figures
from seqlab.figures.html import Html, text
from seqlab.figures.theme import plain
from seqlab.tokenizers.semantic_ids import SemanticIds
from seqlab.widgets.display import StatusLine, displayed, in_report, panel
from seqlab.widgets.distinctive_words import distinctive_words
from seqlab.widgets.inputs.picking import ItemPicker, default_category, titles_of

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from seqlab.datasets.splits import Split
    from seqlab.tokenizers import CodeBook
    from seqlab.widgets.inputs.selection import Selected, Selection
    from seqlab.widgets.item_map import ItemMap

    Prefix = tuple[int, ...]

MAX_LISTED = 12
"""The number of items listed below the tree."""


@displayed
class CodeTree:
    """The tree of a code book over the items of a split; with `other`, each item's code in that book too.

    category: the column of the items that colours the branches (None: the first suitable one, "": none). path: the
    prefix that is open at first. names: of the two tokenizers (None: their class names). With a `selection`, opening a
    branch selects its items, and each branch shows its share of a selection made elsewhere. `items` and `other_items`
    hold the items with their codes (columns "level 0", ...), the most frequent in training first.
    Raises `ValueError` for a book of another catalogue, an unknown column, or a prefix without items.
    """

    question = "Which items share the beginnings of their codes?"
    needs = ()

    def __init__(
        self,
        book: CodeBook,
        split: Split,
        other: CodeBook | None = None,
        category: str | None = None,
        path: Prefix = (),
        names: tuple[str, str] | None = None,
        selection: Selection | None = None,
    ) -> None:
        for one in (book, other):
            if one is not None and one.n_items != split.n_items:
                raise ValueError(f"the code book has {one.n_items:,} items, the data have {split.n_items:,}")
        self._book, self._split, self._titles, self.selection = book, split, titles_of(split), selection
        self._category = default_category(split.log.items) if category is None else category
        if self._category and self._category not in split.log.items.columns:
            known = ", ".join(map(str, split.log.items.columns))
            raise ValueError(f"the items have no column {self._category!r}; they have {known}")
        self.names = names or _default_names(book, other)
        self._order = np.argsort(-split.train.item_counts(split.n_items)[1:].cpu().numpy(), kind="stable")
        self.items = self._with_codes(book)
        self.other_items = None if other is None else self._with_codes(other)
        if self.other_items is not None:
            self.items["there"] = self.other_items["level 0"]
        self.path = self._validated_path(path)
        self.view = None if in_report() else self._controls()

    @cached_property
    def words(self) -> dict[Prefix, str]:
        """The distinctive words of every branch with several items: see `distinctive_words`."""
        return distinctive_words(self._book, self._split.log)

    def branch(self, prefix: Prefix) -> pd.DataFrame:
        """The items of one branch: columns title, the category, code and, with another tokenizer, its code."""
        import pandas as pd

        numbers = set(self._book.items_of(list(prefix)).tolist())
        chosen = self.items[self.items.index.isin(numbers)]
        frame = pd.DataFrame({"title": chosen["title"]})
        if "group" in chosen:
            frame[self._category] = chosen["group"]
        frame["code"] = _code_strings(chosen)
        if self.other_items is not None:
            frame[f"in {self.names[1]}"] = _code_strings(self.other_items.loc[chosen.index])
        return frame

    def use(self) -> pd.DataFrame:
        """The number of items per code and level: columns level, code, items, for `figures.code_use`."""
        import pandas as pd

        parts = []
        for level, size in enumerate(self._book.sizes):
            counts = np.bincount(self.items[f"level {level}"], minlength=size)
            parts.append(pd.DataFrame({"level": level, "code": range(size), "items": counts}))
        return pd.concat(parts, ignore_index=True)

    def item_map(self, vectors: np.ndarray, color: str = "level 0", method: str = "pca", seed: int = 0) -> ItemMap:
        """The items on a map of `vectors` (N, D), which can be coloured by the codes of any level.

        If the level of `color` has one code or nearly as many as items, another column is used.
        """
        from seqlab.widgets.item_map import ItemMap

        coded = self.items.sort_index().filter(regex=r"^level \d+$").astype(str)
        log = replace(self._split.log, items=self._split.log.items.assign(**coded))
        informative = 1 < self.items[color].nunique() <= max(12, len(self.items) // 3) if color in coded else True
        return ItemMap(vectors, replace(self._split, log=log), color if informative else None, method, seed)

    def still(self) -> Html:
        """The tree below `path`: two levels and the items."""
        return self._render(buttons=False)

    def _with_codes(self, book: CodeBook) -> pd.DataFrame:
        import pandas as pd

        frame = pd.DataFrame({"title": self._titles[1:]}, index=self._split.log.items.index)
        if self._category:
            group = self._split.log.items[self._category]
            frame["group"] = group.astype(object).where(group.notna(), "(unknown)").map(plain)
        for level, column in enumerate(book.codes[1:].cpu().numpy().T):
            frame[f"level {level}"] = column
        return frame.iloc[self._order]

    def _validated_path(self, path: Prefix) -> Prefix:
        path = tuple(int(code) for code in path)
        if len(path) > self._book.levels or not len(self._book.items_of(list(path))):
            raise ValueError(f"no item has a code with the prefix {path}")
        return path

    def _render(self, buttons: bool) -> Html:
        root = self.path[: max(min(len(self.path), self._book.levels - 2), 0)]
        return figures.code_tree(
            self.items, self.words, root, self.path, self._category or "", self.names[1],
            self._selected_elsewhere(), buttons,
        )  # fmt: skip

    def _selected_elsewhere(self) -> np.ndarray | None:
        """The items selected in another view, empty if this view selected them; None without a selection."""
        if self.selection is None:
            return None
        now = self.selection.now
        return now.items[:0] if now.by is self else now.items

    def _controls(self) -> Any:
        import ipywidgets

        from seqlab.widgets.inputs.clickable_html import ClickableHtml

        self.status = StatusLine()
        wide = {"width": "98%"}
        self.branches = ipywidgets.Select(rows=7, layout=wide)
        self.up = ipywidgets.Button(description="One code back", icon="arrow-left", layout={"width": "150px"})
        self.picker = ItemPicker(self._titles, "find", self.status.guard(self.pick_item))
        self.where = ipywidgets.HTML()
        self.details = ipywidgets.HTML(layout=wide)
        self.tree = ClickableHtml(self.status.guard(self._pressed))
        self.branches.observe(self.status.guard(self._branch_chosen), "value")
        self.up.on_click(self.status.guard(lambda _: self._go_up()))
        self._show()
        if self.selection is not None:
            self.selection.follow(self._selection_changed, self.status)
        bar = ipywidgets.HBox([self.up, self.where])
        left = ipywidgets.VBox([bar, self.branches], layout={"width": "56%"})
        top = ipywidgets.HBox([left, self.picker.view], layout={"width": "100%"})
        return panel(self.status, top, self.tree, self.details)

    def pick(self, path: Prefix) -> None:
        """Open a branch: show its branches and its items."""
        self.path = self._validated_path(path)
        if self.selection is not None and self.path:
            self.selection.select(self._book.items_of(list(self.path)).cpu().numpy(), self.path, by=self)
        elif self.selection is not None and self.selection.now.by is self:
            self.selection.clear(by=self)
        self._show()

    def pick_item(self, item: int) -> None:
        """Open the branch of an item's whole code."""
        self.pick(tuple(self._book.codes[item].tolist()))
        self.details.value = self.item(item).markup

    def _branch_chosen(self, change: Any) -> None:
        if change.new is not None and not self._filling:
            self.pick(change.new)

    def _pressed(self, branch: str) -> None:
        self.pick(tuple(map(int, branch.split("."))))

    def _go_up(self) -> None:
        if not self.path:
            raise ValueError("this is the root of the tree")
        self.pick(self.path[:-1])

    def _selection_changed(self, now: Selected) -> None:
        """Show the share of the selection in each branch."""
        if now.by is not self:
            self.tree.show(self._render(buttons=True).markup)
            self._list()

    def _show(self) -> None:
        """Draw the open branch: the tree, the controls, and the items below."""
        self.tree.show(self._render(buttons=True).markup)
        chosen = self._list()
        words = self.words.get(self.path, "") if self.path else "all codes"
        words = str(chosen["title"].iloc[0]) if len(chosen) == 1 else words
        about = Html(": {}").format(text(words, 60)) if words else ""
        where = Html("<b>{}</b> {:,} item{}{}")
        self.where.value = where.format(text(_name(self.path)), len(chosen), "s" * (len(chosen) != 1), about).markup
        listed = self.branch(self.path)
        more = Html("<div class='quiet'>and {:,} more</div>").format(len(listed) - MAX_LISTED)
        self.details.value = Html("<h4>Items of {}, the most frequent first</h4>{}{}{}").format(
            text(_name(self.path)), self._other_summary(chosen), figures.table(listed.head(MAX_LISTED)),
            more if len(listed) > MAX_LISTED else "",
        ).markup  # fmt: skip

    def _list(self) -> pd.DataFrame:
        """Fill the list of branches, at a whole code with those beside it; returns the items of the open branch."""
        parent = self.path[: self._book.levels - 1]
        below = self._items_of(parent)
        column, selected, options = below[f"level {len(parent)}"], self._selected_elsewhere(), []
        inside = np.bincount(column[below.index.isin(() if selected is None else selected)])
        titles = below.drop_duplicates(column.name).set_index(column.name)["title"]
        for code, count in column.value_counts().items():
            prefix = (*parent, int(code))
            of = f", {inside[code]:,} of {len(selected):,} selected" if code < len(inside) and inside[code] else ""
            words = self.words.get(prefix, "") if count > 1 else titles[code]
            items = f"{count:,} item{'s' * (count != 1)}"
            options.append((plain(f"{_name(prefix)}  {items}{of}  {words}", 80), prefix))
        self._filling = True  # ipywidgets selects the first of new options, which is no choice
        with self.branches.hold_sync():  # one message
            self.branches.options = options
            self.branches.value = None if self.path == parent else self.path
        self._filling = False
        return below if self.path == parent else self._items_of(self.path)

    def _items_of(self, prefix: Prefix) -> pd.DataFrame:
        return self.items[self.items.index.isin(self._book.items_of(list(prefix)).cpu().numpy())]

    def _other_summary(self, chosen: pd.DataFrame) -> Html:
        """The first codes of a branch's items in the other tokenizer, as a sentence."""
        if self.other_items is None or not self.path:
            return Html("")
        counts = chosen["there"].value_counts()
        listed = Html("{:,} different first code{}; the most frequent, {}, has {:,} of them").format(
            len(counts), "s" * (len(counts) != 1), text(_name((counts.index[0],))), counts.iloc[0]
        )
        return Html("<div>In {} these {:,} items have {}.</div>").format(text(self.names[1]), len(chosen), listed)

    def item(self, item: int) -> Html:
        """One item's code in each tokenizer, and the items with the longest common prefix."""
        sides = {self.names[0]: self.items} | ({} if self.other_items is None else {self.names[1]: self.other_items})
        cards = []
        for name, frame in sides.items():
            codes = frame.filter(regex=r"^level \d+$")
            mine = codes.loc[item].to_numpy()
            shared = (codes.to_numpy() == mine).cumprod(1).sum(1)
            order = [at for at in np.argsort(-shared, kind="stable") if frame.index[at] != item][:8]
            near = frame.iloc[order][["title"]].assign(code=_code_strings(frame.iloc[order]), shared=shared[order])
            card = Html("<div><h4>{}: {}</h4><div class='quiet'>longest common prefix</div>{}</div>")
            cards.append(card.format(text(name), text(_name(tuple(mine))), figures.table(near)))
        title = text(self._titles[item], 90)
        return Html("<h4>{}</h4><div class='grid'>{}</div>").format(title, Html("").join(cards))


def book_of(model: nn.Module) -> CodeBook | None:
    """The code book of a system with semantic IDs; None for another, and before its codes are assigned."""
    ids = getattr(model, "ids", None)
    return ids.book if isinstance(ids, SemanticIds) and ids.assigned else None


def _default_names(book: CodeBook, other: CodeBook | None) -> tuple[str, str]:
    first, second = (one.name.split("(")[0] if one is not None else "" for one in (book, other))
    return (f"{first} (first)", f"{second} (second)") if first == second else (first, second)


def _name(prefix: Prefix) -> str:
    return "‹" + "·".join(str(int(code)) for code in prefix) + "›" if prefix else "the whole tree"


def _code_strings(frame: pd.DataFrame) -> list[str]:
    return ["·".join(map(str, row)) for row in frame.filter(regex=r"^level \d+$").to_numpy().tolist()]
