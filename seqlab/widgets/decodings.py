"""Decodings: the lists that several decodings make for one user, side by side, and how they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from seqlab import figures
from seqlab.contracts import GeneratesCodes, Recommends
from seqlab.datasets.history import batch_of
from seqlab.decoding import Decoding
from seqlab.figures.theme import label
from seqlab.inspection import decodings as inspected
from seqlab.items.categories import categories_of
from seqlab.ranking import check_k
from seqlab.runtime.modules import device_of
from seqlab.widgets.display import STEPS_WIDTH, StatusLine, displayed, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import answers_of, history_for, titles_of, user_choices, user_dropdown, user_label
from seqlab.widgets.views import check

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

WIDTHS, DRAWS = (4, 8, 20, 40, 80), (10, 30, 100, 300, 1000)
STRENGTHS, TEMPERATURES = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0), (0.25, 0.5, 0.7, 1.0, 1.5, 2.0)


@displayed
class Decodings:
    """The first k items of a user by exact scores, a beam, a diverse beam, typical and ancestral sampling.

    width: of both beams; groups, strength: of the diverse one; draws: of both samplers; mass, temperature: see
    `decoding.Decoding`. The rest is as in `BeamSteps`. Raises `ValueError` for a system without a decoder of codes.
    """

    question = "What does each way of decoding make of the same model: which items, how alike, how true to its law?"
    needs = (Recommends, GeneratesCodes)
    topic, least_width = "Decoding", STEPS_WIDTH

    def __init__(
        self,
        run: Run,
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
        k: int = 10,
        width: int = 20,
        groups: int = 4,
        strength: float = 0.5,
        draws: int = 100,
        mass: float = 0.9,
        temperature: float = 1.0,
    ) -> None:
        check(self, run)
        self._run, self._split, self._titles, self._k = run, split, titles_of(split), check_k(k)
        self._fixed = {"groups": groups, "mass": mass, "draw_seed": seed}
        self._chosen = {"width": width, "draws": draws, "strength": strength, "temperature": temperature}
        self._categories = categories_of(split.log)
        self._answers = answers_of(split)
        self._users = [] if history is not None else user_choices(split, user, seed)
        self._set_history(self._users[0] if history is None else history)
        self.view = None if in_report() else self._controls()

    def decodings(self) -> dict[str, Decoding]:
        """The decodings by name, with their settings."""
        given = self._fixed | self._chosen
        takes = {
            "exact": (), "beam": ("width",), "diverse": ("width", "groups", "strength"),
            "typical": ("draws", "mass", "draw_seed"), "sample": ("draws", "temperature", "draw_seed"),
        }  # fmt: skip
        return {method: Decoding(method, **{name: given[name] for name in names}) for method, names in takes.items()}

    def lists(self) -> pd.DataFrame:
        """`inspection.decodings.Decodings.lists` with columns title and answer (whether the item came next)."""
        lists = self._found().lists
        return lists.assign(
            title=[self._titles[item] for item in lists["item"]], answer=lists["item"] == (self.answer or -1)
        )

    def measures(self) -> pd.DataFrame:
        """`inspection.decodings.Decodings.measures`."""
        return self._found().measures

    def overlap(self) -> pd.DataFrame:
        """`inspection.decodings.Decodings.overlap`."""
        return self._found().overlap

    def caption(self) -> str:
        """The user, the last event and the answer (escaped)."""
        history = [self._titles[item] for item in self._history.items.tolist()]
        last = f", the last <b>{label(history[-1], 40)}</b>" if history else ""
        words = f"User {label(user_label(self._split, self._history.user))}, after {len(history)} events{last}. "
        if self.answer is None:
            return words + "There is no known next item."
        return words + f"The next item was <b>{label(self._titles[self.answer], 40)}</b>."

    def still(self) -> go.Figure:
        """The lists, what they share, and their measures, for the first user."""
        return figures.decodings(
            self.lists(), self.measures(), self.overlap(), self._words(), self.caption(), inspected.DISTANCE
        )

    def show(self, history: History | int) -> None:
        """Show another history, or that of a user of the log."""
        self._set_history(history)
        if self.view is not None:
            self._draw()

    def _set_history(self, history_or_user: History | int) -> None:
        model = self._run.model
        self._history = history_for(self._split, model, history_or_user)
        self._batch = batch_of([self._history], model.config.max_length).to(device_of(model))
        self.answer = self._answers.get(self._history.user)
        self._cache: dict[tuple, inspected.Decodings] = {}

    def _found(self) -> inspected.Decodings:
        key = tuple(self._chosen.values())
        if key not in self._cache:
            codes, names = self._categories
            with torch.no_grad():
                self._cache[key] = inspected.decodings(
                    self._run.model, self._batch, self.decodings(), self._k, codes if names else None
                )
        return self._cache[key]

    def _words(self) -> dict[str, str]:
        """The settings of each decoding in a few words."""
        one = self._fixed | self._chosen
        return {
            "exact": "every item scored",
            "beam": f"width {one['width']}",
            "diverse": f"width {one['width']}, {one['groups']} groups, strength {one['strength']:g}",
            "typical": f"{one['draws']:,} draws, mass {one['mass']:g}",
            "sample": f"{one['draws']:,} draws, temperature {one['temperature']:g}",
        }

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.user = user_dropdown(self._split, self._users)
        choices = {"width": WIDTHS, "strength": STRENGTHS, "draws": DRAWS, "temperature": TEMPERATURES}
        self.sliders = {
            name: ipywidgets.SelectionSlider(
                options=sorted({*values, self._chosen[name]}), value=self._chosen[name], description=name,
                continuous_update=False,
            )
            for name, values in choices.items()
        }  # fmt: skip
        self.figure = interactive_figure(self.still())
        self.user.observe(self.status.guard(lambda change: self.show(change.new)), "value")
        for slider in self.sliders.values():
            slider.observe(self.status.guard(self._draw), "value")
        bar = ipywidgets.HBox([self.user, *self.sliders.values()], layout={"flex_flow": "row wrap"})
        return panel(self.status, bar, self.figure, figure=self.figure)

    def _draw(self, change: object = None) -> None:
        self._chosen = {name: self.sliders[name].value for name in self._chosen}
        redraw(self.figure, self.still())
