"""How a widget is shown: live where a kernel answers, still in a report; and how it tells what went wrong."""

from __future__ import annotations

import asyncio
import json
import os
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from seqlab.figures.html import Html, plotly_html
from seqlab.figures.theme import CONFIG

if TYPE_CHECKING:
    import plotly.graph_objects as go

PLOTLY = "application/vnd.plotly.v1+json"

PAUSE = 0.3
"""Seconds without another edit after which somebody is taken to look at what they have."""


def in_report() -> bool:
    """Whether this notebook is being rendered into a report: nobody will turn a slider."""
    return bool(os.environ.get("SEQLAB_REPORT"))


def bundle(widget: Any) -> dict[str, Any]:
    """The MIME bundle of a widget: in a report its still alone, else the live view and the still as text/html.

    A still is a plotly figure or has `_repr_html_`.
    """
    name = type(widget).__name__
    if widget.view is None:
        still = widget.still()
        shown = {"text/html": still.markup} if isinstance(still, Html) else {PLOTLY: json.loads(still.to_json())}
        return {"text/plain": f"{name} (still)", **shown}
    live = widget.view._repr_mimebundle_()
    return {**live, "text/plain": name, "text/html": _as_html(widget)}


def _as_html(widget: Any) -> str:
    """The still beside a live view: what a page shows that has no kernel."""
    try:
        still = widget.still()
    except Exception as error:  # the live view still works; it must not be lost with its still
        return Html("<p>{}</p>").format(sentence(error))
    if isinstance(still, Html):
        return still.markup
    return plotly_html(still.to_plotly_json())


def sentence(error: Exception) -> str:
    """An error as a sentence."""
    said = str(error).strip().strip("'\"") or type(error).__name__
    return said[0].upper() + said[1:] + ("" if said.endswith((".", "!", "?")) else ".")


IN_THE_PAGE = """
export default { render({ model, el }) {
  el.style.display = "none";
  let gone = false, told = 0;
  const focused = (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true");
  const measure = (panel) => {
    const plot = panel.querySelector(".js-plotly-plot");
    const width = plot ? Math.floor(plot.parentElement.clientWidth) : 0;
    if (width && width !== told) model.send({ width: told = width });
  };
  const sized = new ResizeObserver(([entry]) => measure(entry.target));
  const settle = () => {
    const panel = el.closest(".seqlab-panel");
    if (gone) return;
    if (!panel) return void requestAnimationFrame(settle);
    panel.addEventListener("focusin", focused);
    sized.observe(panel);
  };
  settle();
  return () => { gone = true; sized.disconnect(); };
} };
"""
"""Two things that only a script in the page can do for a panel.

JupyterLab takes arrows and letters typed into a list for commands of its own (an arrow goes to the next cell, "dd"
deletes one) unless the focused element asks it not to. A live figure is drawn before it has its place, at a guessed
width, and never measures again by itself.
"""


def live_figure(figure: go.Figure) -> go.FigureWidget:
    """A figure that follows its kernel and leads nowhere else: see `CONFIG`."""
    import plotly.graph_objects as go

    widget = go.FigureWidget(figure)
    widget._config = {**widget._config, **CONFIG}  # plotly has no public way to configure a live figure
    return widget


def panel(status: StatusLine, *parts: Any, figure: go.FigureWidget | None = None) -> Any:
    """The view of a widget: what went wrong on top, then its parts; `figure` is kept as wide as its place."""
    import ipywidgets

    if figure is not None:
        status.page.on_msg(lambda page, told, buffers: figure.update_layout(width=int(told["width"])))
    return ipywidgets.VBox([status.view, *parts, status.page]).add_class("seqlab-panel")


class StatusLine:
    """A line that says what went wrong, the traceback folded away below it. To be made before any figure."""

    def __init__(self) -> None:
        import anywidget
        import ipywidgets

        # a browser busy with the five megabytes of a live figure would let this run into its timeout
        self.page = anywidget.AnyWidget(_esm=IN_THE_PAGE)
        self.view = ipywidgets.HTML()

    def guard(self, action: Callable[..., None]) -> Callable[..., None]:
        """`action` as a callback whose errors are told here; an error of before goes, not one told meanwhile."""

        def run(*event: Any) -> None:
            self.view.value = ""
            try:
                action(*event)
            except Exception as error:  # a callback's traceback would go to a log nobody reads
                self.view.value = (
                    Html("<div role='alert'>{}</div><details><summary>Details</summary><pre>{}</pre></details>")
                    .format(sentence(error), "".join(traceback.format_exception(error)))
                    .markup
                )

        return run


class Soon:
    """Does what it was last asked once nothing else was asked for `PAUSE` seconds; at once where no event loop runs."""

    def __init__(self) -> None:
        self._waiting: asyncio.TimerHandle | None = None

    def __call__(self, action: Callable[[], None]) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        try:
            self._waiting = asyncio.get_running_loop().call_later(PAUSE, action)
        except RuntimeError:
            action()


def redraw(live: go.FigureWidget, figure: go.Figure) -> None:
    """Make a live figure show what `figure` shows, in place; both have the same kinds of traces in the same order."""
    with live.batch_update():
        for old, new in zip(live.data, figure.data, strict=True):
            fresh = new.to_plotly_json()
            fresh.pop("type")
            fresh.pop("uid", None)
            old.update(fresh)
        # what stays is left alone: looking through all axes of many panels takes longer than drawing them
        layout = figure.layout.to_plotly_json()
        live.update_layout({name: part for name, part in layout.items() if live.layout[name] != figure.layout[name]})
