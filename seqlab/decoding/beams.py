"""The result of a search (Beams), with every step that it took (Step)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqlab.contracts import Ranking
from seqlab.ranking import check_k

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.tokenizers.trie import Trie


@dataclass(frozen=True)
class Step:
    """One step of a search: the prefixes it kept, the best ones it dropped, and where the probability went.

    node, parent, code, scores: (B, W), best first: trie node, rank in the step before (from 0), code, log-probability
    of the whole prefix; where a user has fewer prefixes: node -1, score -inf.
    pruned_node, pruned_parent, pruned_code, pruned_scores: (B, P), the same for the best legal prefixes not kept.
    live, pruned, illegal: (B,) probability kept, dropped (all of it, not only that of the P shown), and lost to
    codes that continue no item. Where scores are not renormalised they sum to the `live` of the step before.
    """

    node: Tensor
    parent: Tensor
    code: Tensor
    scores: Tensor
    pruned_node: Tensor
    pruned_parent: Tensor
    pruned_code: Tensor
    pruned_scores: Tensor
    live: Tensor
    pruned: Tensor
    illegal: Tensor


@dataclass(frozen=True)
class Beams:
    """The tuples a search found for every user, best first, no tuple twice.

    node: (B, W) the leaf of each, -1 where a user has fewer; scores: (B, W) its log-probability, -inf there.
    steps: one `Step` per level, empty for searches that keep none.
    """

    trie: Trie
    node: Tensor
    scores: Tensor
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        ordered = self.node.sort(dim=1).values
        twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        if bool(twice.any()):
            raise AssertionError("a search returned the same tuple twice for one user; its beams must be unique.")

    @property
    def codes(self) -> Tensor:
        """(B, W, C) the tuples; -1 where a user has fewer."""
        return self.trie.path(self.node)

    def kept(self) -> Tensor:
        """(B, C, W) log-probabilities of the prefixes that each step kept, best first; -inf where it kept fewer."""
        most = self.node.shape[1]
        scores = [torch.nn.functional.pad(step.scores, (0, most - step.scores.shape[1]), value=-torch.inf)
                  for step in self.steps]  # fmt: skip
        return torch.stack(scores, 1)

    def items(self, k: int) -> tuple[Tensor, Tensor]:
        """The first k items and their scores, both (B, k); item 0 with score -inf where there are fewer.

        Items that share a tuple have its score (a tie) and are adjacent, the lowest number first.
        """
        ranking = self._first(check_k(k))
        return ranking.items, ranking.scores

    def ranking(self, k: int) -> Ranking:
        """The first k items, or all N, and all others found that tie with the last of them."""
        return self._first(min(check_k(k), len(self.trie.order)))

    def _first(self, k: int) -> Ranking:
        found, offsets = self.trie.items_at(self.node)
        width = self.node.shape[1]
        first, last = offsets[:-1:width], offsets[width::width]  # of each user, in `found`
        items, place = _part(found, first, last, k)
        scores = torch.nn.functional.pad(self.scores.flatten().repeat_interleave(offsets.diff()), (0, 1))
        scores = scores[place].masked_fill(items == 0, -torch.inf)
        down_to_the_tie = self.scores >= scores[:, -1:]  # (B, W); nodes of -1 have no items
        end = first + (self.trie.size(self.node) * down_to_the_tie).sum(1)
        beyond = int((end - first - k).clamp(min=0).max()) if len(end) else 0
        return Ranking(items, scores, _part(found, first + k, end, beyond)[0])

    def frame(self, popularity: Tensor | None = None) -> pd.DataFrame:
        """Every prefix that was kept or shown as dropped: one row per user, level and rank.

        user: row of the batch; level: from 0; rank: from 1, the dropped ones follow the kept; parent: rank in the
        level before (0 at the first); prefix: tuple of codes; code: its last; log_probability: of the prefix;
        state: "live" or "pruned"; final_rank: the best place among the finished beams that grew from it (NA: none did);
        items: how many have this prefix; item: one of them, the most popular by `popularity` (N + 1,), else the
        lowest number; illegal_mass: probability lost at this user's level.
        """
        import pandas as pd

        parts = [
            self._rows(level, step, reached, state, popularity)
            for level, (step, reached) in enumerate(zip(self.steps, self._final_ranks(), strict=True))
            for state in ("live", "pruned")
        ]
        if not parts:
            raise ValueError("this search kept no steps; `beam` does.")
        whole = pd.concat(parts, ignore_index=True)
        whole["final_rank"] = whole["final_rank"].astype("Int64")
        return whole.sort_values(["user", "level", "rank"], ignore_index=True)

    def mass(self) -> pd.DataFrame:
        """Where the probability went: one row per user and level with what was live, pruned and illegal."""
        import pandas as pd

        rows = [
            pd.DataFrame({"user": range(len(step.live)), "level": level}
                         | {name: getattr(step, name).cpu().numpy() for name in ("live", "pruned", "illegal")})
            for level, step in enumerate(self.steps)
        ]  # fmt: skip
        return pd.concat(rows, ignore_index=True).sort_values(["user", "level"], ignore_index=True)

    def _final_ranks(self) -> list[Tensor]:
        """Per step (B, W): the best place among the finished beams that a prefix led to, from 1; 0 = none."""
        far = 1 << 40
        users = len(self.node)
        best, found = None, []
        for step in reversed(self.steps):
            if best is None:
                best = torch.arange(1, step.node.shape[1] + 1, device=step.node.device).expand(users, -1)
                best = best.masked_fill(step.node < 0, far)
            found.append(best.masked_fill(best == far, 0))
            width = int(step.parent.max()) + 1
            best = torch.full((users, width), far, device=best.device).scatter_reduce(1, step.parent, best, "amin")
            before = len(self.steps) - len(found) - 1
            if before >= 0 and (short := self.steps[before].node.shape[1] - width) > 0:
                best = torch.nn.functional.pad(best, (0, short), value=far)
        return found[::-1]

    def _rows(self, level: int, step: Step, reached: Tensor, state: str, popularity: Tensor | None) -> pd.DataFrame:
        import pandas as pd

        live = state == "live"
        columns = (step.node, step.parent, step.code, step.scores)
        if not live:
            columns = (step.pruned_node, step.pruned_parent, step.pruned_code, step.pruned_scores)
        there = columns[0] >= 0
        user, place = there.nonzero(as_tuple=True)
        node, parent, code, score = (column[there] for column in columns)
        kept = (step.node >= 0).sum(1)[user]
        rank = place + 1 + (0 if live else kept)
        final = reached[there] if live else torch.zeros_like(node)
        table = pd.DataFrame(
            {
                "user": user.cpu().numpy(),
                "level": level,
                "rank": rank.cpu().numpy(),
                "parent": (parent + 1 if level else parent).cpu().numpy(),
                "prefix": [tuple(one) for one in self.trie.path(node)[:, : level + 1].tolist()],
                "code": code.cpu().numpy(),
                "log_probability": score.cpu().numpy(),
                "state": state,
                "final_rank": final.cpu().numpy(),
                "items": self.trie.size(node).cpu().numpy(),
                "item": self._example(node, popularity).cpu().numpy(),
                "illegal_mass": step.illegal[user].cpu().numpy(),
            }
        )
        table["final_rank"] = table["final_rank"].astype("Int64").where(table["final_rank"] > 0)
        return table

    def _example(self, node: Tensor, popularity: Tensor | None) -> Tensor:
        """One item of each node: the most popular, or the first."""
        if popularity is None or not len(node):
            return self.trie.items(node)
        items, offsets = self.trie.items_at(node)
        owner = torch.repeat_interleave(torch.arange(len(node), device=node.device), offsets.diff())
        liked = popularity.to(node.device)[items].double()
        most = torch.full((len(node),), -torch.inf, dtype=torch.double, device=node.device)
        most = most.scatter_reduce(0, owner, liked, "amax")
        numbers = torch.where(liked == most[owner], items, items.max() + 1)
        return torch.zeros_like(node).scatter_reduce(0, owner, numbers, "amin", include_self=False)


def _part(found: Tensor, first: Tensor, last: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first k of found[first:last] of each user, 0 beyond, and their places in `found`: (B, k) each."""
    place = first[:, None] + torch.arange(k, device=found.device)
    place = torch.where(place < last[:, None], place, len(found))
    return torch.nn.functional.pad(found, (0, 1))[place], place


def best_items(search: Callable[[int], Beams], k: int, width: int) -> Ranking:
    """The k best items by a search that is `width` wide, or as wide as the list if that is longer."""
    return search(max(check_k(k), width)).ranking(k)
