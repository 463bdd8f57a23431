"""CandidateAttention: which events of a history a click model looks at, for each candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab import figures, tracing
from seqlab.contracts import PredictsLabels
from seqlab.datasets.history import batch_of
from seqlab.figures.theme import plain
from seqlab.runtime.modules import device_of, evaluating
from seqlab.widgets.display import StatusLine, displayed, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import titles_of, user_choices, user_dropdown, user_label
from seqlab.widgets.views import check

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from torch import Tensor

    from seqlab.datasets.history import History
    from seqlab.datasets.sequences import Batch
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

TAP = "candidate_attention"

MAX_CANDIDATES = 3


@displayed
class CandidateAttention:
    """Which events decide about a candidate? The attention of each candidate to the last events, and its probability.

    run: of a system with the tap "candidate_attention", such as dare; split: with labelled candidates. user: the first
    one of the dropdown, by number or id; the still shows that one. `history`: a History instead of a user; a typed one
    has no candidates: its first recommendations take their place. events: how many of the last events are shown.
    Raises `ValueError` for another system or split.
    """

    question = "Which events of the history decide about a candidate?"
    needs = (PredictsLabels, TAP)
    topic = "Attention and memory"

    def __init__(
        self,
        run: Run,
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
        events: int = 16,
    ) -> None:
        check(self, run)
        if split.test.candidates is None:
            raise ValueError("the queries of this split have no candidates; choose a split such as 'candidates 2'")
        self._model, self._split, self._events = run.model, split, events
        self._titles, self._users = titles_of(split), [] if history is not None else user_choices(split, user, seed)
        self._history = history
        self._rows = {user: row for row, user in reversed([*enumerate(split.test.user.tolist())])}
        self.view = None if in_report() else self._controls()

    def show(self, history: History | int) -> None:
        """Show another history, or that of a user of the log."""
        self._history = history
        if self.view is not None:
            self._draw()

    def measure(self, user: int | History) -> tuple[str, pd.DataFrame, list[str]]:
        """For one user: a caption, the tidy frame of all panels, and the titles of the events."""
        import pandas as pd
        import torch

        batch, candidates, labels = self._query(user)
        with torch.no_grad(), evaluating(self._model), tracing.watch(self._model, TAP) as trace:
            logits = self._model.label_logits(batch, candidates)
        length = int(batch.lengths[0])
        first = max(0, length - self._events)
        weights = trace[TAP].values[0, :, first:length]  # (M, events)
        parts, named = [], []
        order = labels.nan_to_num().argsort(descending=True, stable=True).tolist()[:MAX_CANDIDATES]
        for number, at in enumerate(order, 1):
            title = plain(self._titles[int(candidates[0, at])], 26)
            named.append(f"{number} {title} {torch.sigmoid(logits[0, at]):.0%}{' ✓' if labels[at] > 0 else ''}")
            parts.append(pd.DataFrame({
                "position": range(length - first), "value": weights[at].double().numpy(),
                "panel": f"no. {number}", "unit": "weight",
            }))  # fmt: skip
        who = user_label(self._split, int(batch.user[0]))
        caption = f"User {who}, the last {length - first:,} events\n" + "\n".join(named)
        titles = [self._titles[item] for item in batch.items[0, first:length].tolist()]
        return caption, pd.concat(parts, ignore_index=True), titles

    def still(self) -> go.Figure:
        """The history, or that of the first user; ✓ marks what came next."""
        return self._figure(self._users[0] if self._history is None else self._history)

    def _query(self, user: int | History) -> tuple[Batch, Tensor, Tensor]:
        """The history of one row, its candidates (1, M) and their labels (M,), NaN where none is known."""
        import torch

        longest, device = self._model.config.max_length, device_of(self._model)
        who = user if isinstance(user, int) else user.user
        row = torch.tensor([self._rows[who]]) if who in self._rows else None
        query = None if row is None else self._split.test.batch(row, longest).to(device)
        batch = query if isinstance(user, int) else batch_of([user], longest).to(device)
        if query is not None:
            return batch, query.context["candidates"], self._split.test.labels[row][0]
        with torch.no_grad(), evaluating(self._model):
            candidates = self._model.recommend(batch, MAX_CANDIDATES).items  # (1, M)
        return batch, candidates, torch.full(candidates.shape[1:], torch.nan)

    def _figure(self, user: int | History) -> go.Figure:
        caption, frame, titles = self.measure(user)
        figure = figures.influences(frame.assign(history=caption), {caption: titles})
        lines = caption.count("\n") - 1  # beyond the two that there is place for
        return figure.update_layout(margin_t=78 + 16 * lines, height=figure.layout.height + 16 * lines)

    def _controls(self) -> Any:
        self.status = StatusLine()
        self.user = user_dropdown(self._split, self._users)
        self.figure = interactive_figure(self.still())
        self.user.observe(self.status.guard(lambda change: self.show(change.new)), "value")
        return panel(self.status, self.user, self.figure, figure=self.figure)

    def _draw(self) -> None:
        redraw(self.figure, self._figure(self.user.value if self._history is None else self._history))
