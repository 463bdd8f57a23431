"""The views of one user: the widgets that answer a question about a run and a user, and the runs that each fits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING

from seqlab import models, tracing, widgets
from seqlab.contracts import Recommends, Scores, needs_of, supports
from seqlab.figures.html import Html
from seqlab.runtime.text import listed
from seqlab.widgets.display import in_words, sentence

if TYPE_CHECKING:
    from torch import nn

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

CALL = ["split", "user", "seed", "history"]
"""The parameters of every view, after the run."""

READS_HISTORY = {Recommends, Scores}
"""A view that needs one of these passes edited histories to the system: items and times, without further columns."""


def views() -> list[type]:
    """The widgets about a run and a user, in the order of the workbench's tabs.

    They are built with (run, split, user, seed, history). A view has `question`, `needs`, `show(history)`, `still()`
    and `view`. Where its first parameter is `runs`, it takes one run or several by label, and shows them together.
    Optional attributes are set by `display.displayed`.
    """
    found = [getattr(widgets, name) for names in widgets.HOMES.values() for name in names]
    return [one for one in found if isinstance(one, type) and _parameters(one)[1:5] == CALL]


def fitting(run: Run) -> list[type]:
    """The views that apply to a run, in the order of the workbench's tabs: `view(run, split, user=.., history=..)`.

    A view applies to a system that has all that it `needs`: the protocols (`seqlab.contracts`) and the kinds of taps.
    """
    return [view for view in views() if fits(view, run.model)]


def answer(view: type, run: Run, split: Split, history: History, seed: int = 0) -> object:
    """A view of a run, or the sentence that says why these data are not enough for it, to be displayed."""
    try:
        return view(run, split, seed=seed, history=history)
    except ValueError as error:
        return Html("<p>{}</p>").format(sentence(error))


def fits(view: type, model: nn.Module) -> bool:
    """Whether a system has what a view needs."""
    return _has_needs(view, model) and not (READS_HISTORY & {*view.needs} and needs_of(model))


def together(view: type) -> bool:
    """Whether a view shows several runs together, rather than each in a view of its own."""
    return _parameters(view)[0] == "runs"


def accepts(view: type, name: str) -> bool:
    """Whether a view has a further parameter of this name."""
    return name in _parameters(view)


def check(widget: object, run: Run) -> None:
    """Raise `ValueError` for a run that has not what a widget needs."""
    view = type(widget)
    if fits(view, run.model):
        return
    if _has_needs(view, run.model):
        raise ValueError(f"{run.system} reads {listed(needs_of(run.model))}, which an edited history does not have")
    able = systems(view)
    example = f"; choose one such as {'sasrec' if 'sasrec' in able else able[0]}" if able else ""
    raise ValueError(f"{view.__name__} needs {needed(view)}, which {run.system} is not{example}")


def checked(widget: object, runs: Run | Mapping[str, Run]) -> dict[str, Run]:
    """One run or several as runs by label. Raises `ValueError` for none, and as `check` does."""
    named = dict(runs) if isinstance(runs, Mapping) else {runs.system: runs}
    if not named:
        raise ValueError(f"{type(widget).__name__} needs a run")
    for run in named.values():
        check(widget, run)
    return named


def needed(view: type) -> str:
    """What a view needs, in words: "a system that scores and has a tap “hidden”"."""
    parts = []
    for need in view.needs:
        words = f"tap “{need}”" if isinstance(need, str) else in_words(need.__name__).lower()
        verb = not isinstance(need, str) and words.partition(" ")[0].endswith("s")  # "Scores", not "ItemVectors"
        parts.append(words if verb else f"has a {words}" if isinstance(need, str) else f"has {words}")
    return "a system that " + " and ".join(parts)


@functools.cache
def systems(view: type) -> list[str]:
    """The names of the systems that a view fits, with the settings of their TINY."""
    protocols = [need for need in view.needs if not isinstance(need, str)]
    able = [name for name in models.names() if all(supports(models.system(name), one) for one in protocols)]
    return [name for name in able if fits(view, _tiny(name))]


@functools.cache
def _tiny(name: str) -> nn.Module:
    return models.build(name, 4, models.module(name).TINY)


def _has_needs(view: type, model: nn.Module) -> bool:
    kinds = {tap.kind for tap in tracing.taps(model).values()}
    return all(need in kinds if isinstance(need, str) else supports(model, need) for need in view.needs)


def _parameters(view: type) -> list[str]:
    return [*inspect.signature(view).parameters]
