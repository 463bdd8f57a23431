"""BeamSteps: a beam search one code at a time, the pruned prefixes, and the results of wider beams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from seqlab import decoding, figures
from seqlab.contracts import GeneratesCodes, Recommends, Scores, supports
from seqlab.datasets.history import batch_of
from seqlab.figures.html import Html, text
from seqlab.figures.theme import label
from seqlab.ranking import check_k
from seqlab.runtime.modules import device_of
from seqlab.widgets.display import STEPS_WIDTH, StatusLine, displayed, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import (
    ItemPicker,
    answers_of,
    history_for,
    titles_of,
    user_choices,
    user_dropdown,
    user_label,
)
from seqlab.widgets.views import check

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run
    from seqlab.tokenizers import CodeBook

WIDTHS = (1, 2, 3, 5, 10, 20, 50)
ALL_PREFIXES = 1 << 20
"""The number of pruned prefixes to keep: all."""


@displayed
class BeamSteps:
    """The beam search of a run for one user, beside the exact ranking; `other`: a second run to compare with.

    `user` is a number of the log (1..U) or, as text, an id of the source; None: a random one. `width`: of the beam.
    `k`: the number of exactly ranked items that are searched for. names: of the two runs. `history`: a History instead
    of a user; `show` replaces it. Raises `ValueError` for a system that does not generate codes by beam search.
    """

    question = "How is the next item written code by code, and which good items does the beam lose on the way?"
    needs = (Recommends, GeneratesCodes)
    topic, least_width = "Decoding", STEPS_WIDTH

    def __init__(
        self,
        run: Run,
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
        other: Run | None = None,
        width: int = 8,
        k: int = 10,
        names: tuple[str, str] | None = None,
    ) -> None:
        for one in (run, other):
            if one is not None:
                check(self, one)
        self._runs, self._split, self._titles, self._k = (run, other), split, titles_of(split), check_k(k)
        self.names = names or _default_names(run, other)
        self.widths = sorted({*WIDTHS, width})
        self._width = width
        self._answers = answers_of(split)
        self._users = [] if history is not None else user_choices(split, user, seed)
        self._set_history(self._users[0] if history is None else history)
        self.view = None if in_report() else self._controls()

    def steps(self, width: int | None = None, of: int = 0) -> pd.DataFrame:
        """Every prefix that the beam kept or pruned: `Beams.frame` with four more columns.

        item, title: the item with the prefix that is best in the exact ranking; exact_rank: its rank there; answer:
        whether the answer has the prefix. of: 0 for the run, 1 for the other.
        """
        return self._search(width or self._width, of)[0]

    def mass(self, width: int | None = None, of: int = 0) -> pd.DataFrame:
        """The probability mass kept and pruned at every step: `Beams.mass`."""
        return self._search(width or self._width, of)[1]

    def found_by_width(self, of: int = 0) -> pd.DataFrame:
        """The k items best in the exact ranking, and their ranks in the lists of beams of all `widths`.

        Columns item, title, exact_rank, log_probability, answer, width, place (rank in the beam's list, NaN: beyond k).
        """
        import pandas as pd

        exact, ranks = self._exact[of]
        best = exact.topk(min(self._k, len(exact) - 1)).indices.tolist()
        rows = []
        for width in self.widths:
            listed = self._beams(width, of).items(self._k)[0][0].tolist()
            for item in best:
                rows.append({
                    "item": item, "title": self._titles[item], "exact_rank": int(ranks[item]),
                    "log_probability": float(exact[item]), "answer": item == self.answer, "width": width,
                    "place": listed.index(item) + 1 if item in listed else float("nan"),
                })  # fmt: skip
        return pd.DataFrame(rows)

    def follow(self, item: int) -> pd.DataFrame:
        """One item through the search of each run: columns run, step (from 1), code, rank, log_probability, fate.

        fate: "kept", "dropped" or, at later steps, "gone", where rank and log_probability are missing.
        """
        import pandas as pd

        rows = []
        for of, run in enumerate(run for run in self._runs if run is not None):
            codes, frame = _book(run).codes[item].tolist(), self.steps(of=of)
            for level in range(len(codes)):
                prefix = tuple(codes[: level + 1])
                row = frame[(frame["level"] == level) & (frame["prefix"] == prefix)]
                there = len(row) > 0
                rows.append({
                    "run": self.names[of], "step": level + 1, "code": "·".join(map(str, prefix)),
                    "rank": int(row["rank"].iloc[0]) if there else float("nan"),
                    "log_probability": float(row["log_probability"].iloc[0]) if there else float("nan"),
                    "fate": "gone" if not there else "kept" if row["state"].iloc[0] == "live" else "dropped",
                })  # fmt: skip
        return pd.DataFrame(rows).astype({"rank": "Int64"})

    def first_divergence(self, item: int) -> int | None:
        """The first step (from 1) at which only one of two runs keeps an item's prefix; None: never."""
        kept = self.follow(item).assign(kept=lambda frame: frame["fate"] == "kept").groupby("step")["kept"]
        differs = kept.nunique() > 1
        return int(differs.idxmax()) if differs.any() else None

    def caption(self) -> str:
        """The user, the answer, and the step at which two runs diverge (escaped)."""
        _, ranks = self._exact[0]
        history = [self._titles[item] for item in self._history.items.tolist()]
        message = (
            f"User {label(user_label(self._split, self._history.user))}, after {len(history)} events, the last "
            f"<b>{label(history[-1], 36)}</b>.<br>"
        )
        if self.answer is None:
            message += "There is no known next item: this is no user of the log."
        else:
            message += (
                f"The next item was <b>{label(self._titles[self.answer], 36)}</b>, "
                f"rank {ranks[self.answer]:,} of {len(ranks) - 1:,} without a search."
            )
        if self._runs[1] is None:
            return message
        top = int(self.steps().query("state == 'live'").groupby("level").first()["item"].iloc[-1])
        step = self.first_divergence(top)
        fate = (
            f"both keep or drop it at the same steps; its rank in the other is {self._exact[1][1][top]:,}"
            if step is None
            else f"they diverge at step {step}: {label(self.names[1], 30)} drops it"
        )
        return f"{message}<br>{label(self.names[0], 30)} ends with <b>{label(self._titles[top], 36)}</b>; {fate}."

    def still(self) -> go.Figure:
        """All steps for the first user at the given width, and the widths at which the best items are found."""
        return self._figure()

    def show(self, history: History | int) -> None:
        """Show another history, or that of a user of the log."""
        self._set_history(history)
        if self.view is not None:
            self._draw()

    def _set_history(self, history_or_user: History | int) -> None:
        """Compute the exact ranking of each run for a history."""
        self._exact, self._batches, self._cache = [], [], {}
        for run in self._runs:
            if run is None:
                continue
            history = history_for(self._split, run.model, history_or_user)
            batch = batch_of([history], run.model.config.max_length)
            self._batches.append(batch.to(device_of(run.model)))
            with torch.no_grad():
                exact = _scores(run.model, self._batches[-1])[0].float().cpu()  # (N + 1,)
            exact[0] = -torch.inf
            ranks = torch.searchsorted((-exact).sort().values, -exact) + 1
            self._exact.append((exact, ranks))
            self._history = history if run is self._runs[0] else self._history
        self.answer = self._answers.get(self._history.user)

    def _beams(self, width: int, of: int, keep: int = 0) -> Any:
        return decoding.generate(self._runs[of].model, self._batches[of], width, keep)

    def _search(self, width: int, of: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        if (width, of) not in self._cache:
            beams = self._beams(width, of, ALL_PREFIXES)
            exact, ranks = self._exact[of]
            codes = [] if self.answer is None else _book(self._runs[of]).codes[self.answer].tolist()
            frame = beams.frame()
            best = _best_items(beams.trie, frame["prefix"].tolist(), exact)
            frame = frame.assign(
                item=best, title=[self._titles[item] for item in best], exact_rank=ranks[best].numpy(),
                answer=[bool(codes) and list(prefix) == codes[: len(prefix)] for prefix in frame["prefix"]],
            )  # fmt: skip
            self._cache[width, of] = frame, beams.mass()
        return self._cache[width, of]

    def _figure(self, last: int | None = None) -> go.Figure:
        return figures.beam_steps(self.steps(), self.mass(), self.found_by_width(), last, self.caption(), self._width)

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        levels = _book(self._runs[0]).levels
        self.user = user_dropdown(self._split, self._users)
        self.step = ipywidgets.IntSlider(levels, 1, levels, description="step")
        self.width = ipywidgets.SelectionSlider(
            options=self.widths, value=self._width, description="width W", continuous_update=False
        )
        self.picker = ItemPicker(self._titles, "follow", self.status.guard(self.pick))
        self.message = ipywidgets.HTML("Choose an item to follow it through the search.")
        self.figure = interactive_figure(self._figure())
        self.user.observe(self.status.guard(lambda change: self.show(change.new)), "value")
        self.step.observe(self.status.guard(self._draw), "value")
        self.width.observe(self.status.guard(self._draw), "value")
        bar = ipywidgets.HBox([self.user, self.step, self.width])
        below = ipywidgets.VBox([self.picker.view, self.message], layout={"width": "100%"})
        return panel(self.status, bar, self.figure, below, figure=self.figure)

    def pick(self, item: int) -> None:
        """Show an item's prefix, rank and fate at every step."""
        self._followed = int(item)
        places = Html(", ").join(
            Html("rank {:,} without a search in {}").format(ranks[item], text(name))
            for (_, ranks), name in zip(self._exact, self.names, strict=False)
        )
        self.message.value = (
            Html("<h4>{}</h4><div>{}</div>{}")
            .format(text(self._titles[item], 90), places, figures.table(self.follow(self._followed)))
            .markup
        )

    def _draw(self, change: object = None) -> None:
        self._width = self.width.value
        redraw(self.figure, self._figure(self.step.value - 1))
        if self.picker.item is not None:
            self.pick(self.picker.item)


def _book(run: Run) -> CodeBook:
    return run.model.ids.book


def _scores(model: Any, batch: Any) -> torch.Tensor:
    """The exact scores of all items, (B, N + 1)."""
    return model.score(batch) if supports(model, Scores) else decoding.scores(model, batch)


def _default_names(run: Run, other: Run | None) -> tuple[str, str]:
    """The names of the tokenizers, or of the systems if they have none; numbered if equal."""
    first, second = (
        "" if one is None else getattr(one.model.config, "tokenizer", one.system) or one.system for one in (run, other)
    )
    return (f"{first} (first)", f"{second} (second)") if first == second else (first, second)


def _best_items(trie: Any, prefixes: list[tuple[int, ...]], exact: torch.Tensor) -> list[int]:
    """For each prefix the item with the highest score; the lowest id among equal scores."""
    best = []
    for length in sorted({len(prefix) for prefix in prefixes}):
        rows = [at for at, prefix in enumerate(prefixes) if len(prefix) == length]
        nodes = trie.find(torch.tensor([prefixes[at] for at in rows], device=trie.device))
        items, offsets = (one.cpu() for one in trie.items_at(nodes))
        owner = torch.repeat_interleave(torch.arange(len(rows)), offsets.diff())
        order = items.argsort(stable=True)
        order = order[(-exact[items[order]]).argsort(stable=True)]
        order = order[owner[order].argsort(stable=True)]
        best += zip(rows, items[order][offsets[:-1]].tolist(), strict=True)
    return [item for _, item in sorted(best)]
