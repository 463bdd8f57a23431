"""ReasoningSteps: the reasoning steps of a system for one user, and the gain of the steps over all users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.contracts import ItemVectors, Reasons, Recommends
from seqlab.figures.html import Html, text
from seqlab.figures.reasoning_path import MEASURES
from seqlab.figures.theme import label, plain
from seqlab.inspection import influence, projection, reasoning_steps, step_states, stopping
from seqlab.items.vectors import from_model
from seqlab.widgets.display import STEPS_WIDTH, StatusLine, displayed, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import (
    answers_of,
    history_for,
    titles_of,
    user_choices,
    user_dropdown,
    user_label,
    user_of,
)
from seqlab.widgets.views import check

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.inspection.reasoning_steps import StepRanks
    from seqlab.inspection.step_states import StepStates
    from seqlab.runs.run import Run


@displayed
class ReasoningSteps:
    """The steps of one user on the item map, their best items, and quality against mean steps over all test users.

    `run`: of a system that reasons in steps. `user` is a number of the log (1..U) or, as text, an id
    of the source; None: a random one. `steps`: the maximum number of steps (None: as trained). `epsilon`: the stop
    threshold (None: the model's, else chosen on the validation part). `method`: of the item map. `step_ranks`: the
    result of `inspection.reasoning_steps.rank_steps` on the test part, if already computed. `history`: a History
    instead of a user; `show` replaces it. A typed history has no answer: the last step's first item takes its place.
    Raises `ValueError` for a system that does not reason in steps.
    """

    question = "What is recommended after each reasoning step, and what does stopping early cost?"
    needs = (Recommends, Reasons, ItemVectors)
    topic, least_width = "Reasoning", STEPS_WIDTH

    def __init__(
        self,
        run: Run,
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
        steps: int | None = None,
        epsilon: float | None = None,
        method: projection.Method = "pca",
        step_ranks: StepRanks | None = None,
    ) -> None:
        check(self, run)
        self._model, self._split, self._titles = run.model, split, titles_of(split)
        self.step_ranks = step_ranks or reasoning_steps.rank_steps(self._model, split, "test", run.seen_filter)
        epsilon = float(getattr(self._model, "epsilon", 0.0)) or None if epsilon is None else epsilon
        if epsilon is None:
            valid = reasoning_steps.rank_steps(self._model, split, "valid", self.step_ranks.seen_filter)
            epsilon = stopping.choose_threshold(valid)
        self._most, self._epsilon = (
            self.step_ranks.steps if steps is None else min(steps, self.step_ranks.steps),
            float(epsilon),
        )
        self.thresholds = sorted({*stopping.thresholds(self.step_ranks), self._epsilon})
        self._coordinates = projection.coordinates(from_model(self._model), method, seed)
        self._items = split.log.items[[]].assign(
            title=self._titles[1:], x=self._coordinates[:, 0], y=self._coordinates[:, 1]
        )
        columns = list(MEASURES)
        self._medians = self.step_ranks.frame.groupby("step")[columns].median().add_prefix("typical ").reset_index()
        reached = stopping.outcomes(self.step_ranks)
        self._fixed = reached[reached["kind"] == "fixed"]
        self._answers = answers_of(split)
        self._users, self._fixed_history = user_choices(split, user, seed), history is not None
        self._patch: tuple[int, int] | None = None
        self._set_history(history if self._fixed_history else self._users[0])
        self.view = None if in_report() else self._controls()

    @property
    def epsilon(self) -> float:
        """The current stop threshold."""
        return self._epsilon

    @property
    def stop(self) -> int:
        """The step at which this user stops."""
        return int(self._user_steps.stops(self._epsilon, most=self._most)[0])

    def measures(self) -> pd.DataFrame:
        """The measures of this user's steps (see `StepRanks`), beside their medians over users."""
        return self._user_steps.frame.head(self._most + 1).merge(self._medians, on="step")

    def nearest(self, k: int = 10) -> pd.DataFrame:
        """The best items of every step: columns step, rank, item, title, probability."""
        near = self._states.nearest(k)
        return near.assign(title=[self._titles[item] for item in near["item"]])

    def teacher_prior(self) -> pd.DataFrame | None:
        """The teacher's distribution at this user's stop: `inspection.step_states.teacher_prior`; None without one."""
        return step_states.teacher_prior(self._model, self._history, self.answer, self.stop)

    def lists(self, k: int = 10) -> Html:
        """The best items of every step side by side, with the changes since the previous step."""
        near, scores, lists = self.nearest(k), self._states.scores, {}
        for step in range(self._most + 1):
            rank = self._states.ranks(self.answer)[step]
            caption = f"{'Before any step' if step == 0 else f'Step {step}'}: the next item has rank {rank:,.10g}"
            if step:
                frame = influence.compare_rankings(scores[step - 1 : step + 1], k)
                lists[caption] = frame.assign(title=[self._titles[item] for item in frame["item"]])
            else:
                lists[caption] = near.loc[near["step"] == 0, ["rank", "title"]]
        return figures.top_tens(lists)

    def cosines(self) -> pd.DataFrame:
        """The cosine of every state of this user with every other."""
        import pandas as pd

        values = self._states.cosines()
        names = [f"step {step}" for step in range(len(values))]
        return pd.DataFrame(values, columns=names).assign(state=names)[["state", *names]]

    def probability_shares(self) -> go.Figure:
        """The probability, at each step, of the next item, the history, the prior's other items, and all others."""
        groups = {"the next item": [self.answer], "items of the history": self._history.items.tolist()}
        if (prior := self.teacher_prior()) is not None:
            groups["the prior's other items"] = prior["item"].tolist()
        return figures.reasoning_masses(self._states.group_probabilities(groups))

    def patched(self, step: int, other: int | str = "") -> StepStates:
        """This user's steps with the state of one step replaced by another user's (activation patching).

        other: a user, as in the constructor; "": a random one.
        """
        theirs = self._states_of(*self._history_of(self._user_of(other))).states[step]
        return self._states_of(self._history, self.answer, (step, theirs))

    def patched_ranks(self, step: int, other: int | str = "") -> pd.DataFrame:
        """The ranks of both users' next items with and without the patch: columns whose, title, step, before, after."""
        import pandas as pd

        other = self._user_of(other)
        after, rows = self.patched(step, other), []
        for whose, item in (("this user's", self.answer), ("the other user's", self._answers.get(other, self.answer))):
            ranks = zip(self._states.ranks(item), after.ranks(item), strict=True)
            title = self._titles[item]
            rows += [(whose, title, at, was, now) for at, (was, now) in enumerate(ranks)]
        return pd.DataFrame(rows, columns=["whose", "title", "step", "before", "after"])

    def patched_list(self, step: int, other: int | str = "", k: int = 10) -> Html:
        """The last step's best items before and after a patch, with the changes, and the ranks of both answers."""
        import torch

        other = self._user_of(other)
        both = torch.stack([self._states.scores[-1], self.patched(step, other).scores[-1]])
        frame = influence.compare_rankings(both, k)
        near = self.nearest(k)
        last = near.loc[near["step"] == self.step_ranks.steps, ["rank", "title"]]
        name = plain(user_label(self._split, other), 40)
        lists = figures.top_tens({
            "the last step, unpatched": last,
            f"with the state of step {step} taken from user {name}":
                frame.assign(title=[self._titles[item] for item in frame["item"]]),
        })  # fmt: skip
        ranks = self.patched_ranks(step, other).query("step == @self.step_ranks.steps")
        message = Html("; ").join(
            Html("the next item of {} user, <b>{}</b>: rank {:,.10g} → {:,.10g}").format(
                "this" if row.whose.startswith("this") else "the other", text(row.title, 60), row.before, row.after
            )
            for row in ranks.itertuples()
        )
        return Html("<div>{}.</div>{}").format(message, lists)

    def show(self, history: History | int) -> None:
        """Show another history, or that of a user of the log."""
        self._set_history(history)
        if self.view is not None:
            self._draw()

    def caption(self) -> str:
        """The user, the rank of the next item at the first step and at the stop, and the mean over users (escaped)."""
        history, ranks = self._history.items.tolist(), self._states.ranks(self.answer)
        stop, chosen = self.stop, self._at_threshold()
        relation = "The next item was" if self._history.user in self._answers else "The scored item is"
        return (
            f"User {label(user_label(self._split, self._history.user), 20)}, whose last event was "
            f"<b>{label(self._titles[history[-1]], 24)}</b>. "
            f"{relation} <b>{label(self._titles[self.answer], 30)}</b>:<br>"
            f"rank {ranks[0]:,.10g} at first, {ranks[stop]:,.10g} at step {stop}, where it stops. "
            f"All users stop below {self._epsilon:.2g}: {chosen['steps']:.2f} steps, ndcg {chosen['ndcg@10']:.3f}."
        )

    def still(self) -> go.Figure:
        """The first user at the given threshold: the path on the map, the measures, and quality against steps."""
        return self._figure()

    def _user_of(self, user: int | str) -> int:
        return user_of(self._split, user) or self._users[-1]

    def _history_of(self, who: History | int) -> tuple[History, int]:
        history = history_for(self._split, self._model, who)
        if history.user in self._answers:
            return history, self._answers[history.user]
        states = step_states.step_states(self._model, history, None, self.step_ranks.seen_filter)
        return history, int(states.scores[-1].argmax())

    def _states_of(self, history: History, answer: int, patch: Any = None) -> StepStates:
        return step_states.step_states(self._model, history, answer, self.step_ranks.seen_filter, patch)

    def _set_history(self, who: History | int) -> None:
        """Compute the steps for one history."""
        self._history, self.answer = self._history_of(who)
        self._user_steps = reasoning_steps.steps_of(
            self._model, self._history, self.answer, self.step_ranks.seen_filter
        )
        self._states = self._states_of(self._history, self.answer)

    def _at_threshold(self) -> dict[str, float]:
        return stopping.tradeoff(self.step_ranks, [self._epsilon], most=self._most).iloc[0].to_dict()

    def _figure(self) -> go.Figure:
        near = self.nearest()
        near = near[near["step"] <= self._most]
        other = None
        if self._patch is not None:
            far = self.patched(*self._patch).nearest()
            other = step_states.map_positions(far[far["step"] <= self._most], self._coordinates)
        return figures.reasoning_steps(
            self._items, step_states.map_positions(near, self._coordinates), near, self.measures(),
            stopping.tradeoff(self.step_ranks, self.thresholds, most=self._most),
            self._fixed[self._fixed["steps"] <= self._most],
            {"answer": self.answer, "last": int(self._history.items[-1])}, self.stop, self._at_threshold(),
            self.teacher_prior(), other, self.caption(),
        )  # fmt: skip

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        steps = self.step_ranks.steps
        options = [(user_label(self._split, user), user) for user in self._users]
        self.user = user_dropdown(self._split, [] if self._fixed_history else self._users)
        self.steps = ipywidgets.IntSlider(self._most, 0, max(steps, 1), description="steps", disabled=steps == 0)
        self.threshold = ipywidgets.SelectionSlider(
            options=[(f"{value:.2g}", value) for value in self.thresholds], value=self._epsilon,
            description="stop below", disabled=steps == 0,
        )  # fmt: skip
        self.patch_step = ipywidgets.Dropdown(
            options=[("nothing", None), *((f"step {step}", step) for step in range(steps + 1))],
            description="replace", layout={"width": "180px"},
        )  # fmt: skip
        self.patch_user = ipywidgets.Dropdown(options=options, value=self._users[-1], description="by that of")
        self.figure = interactive_figure(self._figure())
        self.listed = ipywidgets.HTML(self.lists().markup)
        self.message = ipywidgets.HTML("Replace the state of a step by another user's and compare the rankings.")
        self.user.observe(self.status.guard(lambda change: self.show(change.new)), "value")
        for control in (self.steps, self.threshold, self.patch_step, self.patch_user):
            control.observe(self.status.guard(self._draw), "value")
        bar = ipywidgets.HBox([self.user, self.steps, self.threshold], layout={"flex_flow": "row wrap"})
        patch = ipywidgets.HBox([self.patch_step, self.patch_user], layout={"flex_flow": "row wrap"})
        return panel(self.status, bar, self.figure, self.listed, patch, self.message, figure=self.figure)

    def _draw(self, change: object = None) -> None:
        self._most, self._epsilon = min(self.steps.value, self.step_ranks.steps), self.threshold.value
        step = self.patch_step.value
        self._patch = None if step is None else (step, self.patch_user.value)
        redraw(self.figure, self._figure())
        self.listed.value = self.lists().markup
        self.message.value = "" if self._patch is None else self.patched_list(*self._patch).markup
