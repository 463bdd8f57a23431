"""The display of widgets: interactive in a notebook, a still in a report; and error messages."""

from __future__ import annotations

import asyncio
import json
import os
import re
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from seqlab.figures.html import Html, download_script, plotly_html
from seqlab.figures.theme import CONFIG

if TYPE_CHECKING:
    import plotly.graph_objects as go

PLOTLY = "application/vnd.plotly.v1+json"

DEBOUNCE_SECONDS = 0.3
"""Seconds without another call after which a debounced action runs."""


COLUMN_WIDTH = 470
"""The least width of a view in pixels, where its class declares no other; columns of views wrap below it."""

STEPS_WIDTH = 900
"""The least width of a figure of several steps, in pixels."""


def in_report() -> bool:
    """Whether this notebook is being rendered into a report, without a kernel afterwards."""
    return bool(os.environ.get("SEQLAB_REPORT"))


def displayed(widget_type: type) -> type:
    """Class decorator: a notebook shows the object's `view`, its controls, and a report its `still()`.

    view: an ipywidgets widget; None in a report. still(): the same without a kernel, a plotly figure or `Html`.
    question and needs, which every class declares: see `views`. Optional attributes: topic, the tab of the workbench;
    title, the name within it; least_width, in pixels; explanation, how to read it, which stands once above several that
    are made with `intro=False`; summary(), `Html` that stands for a still which takes seconds, in the text/html beside
    the view.
    """
    title = in_words(widget_type.__name__.removesuffix("View"))
    for name, default in {"title": title, "topic": title, "least_width": COLUMN_WIDTH, "explanation": ""}.items():
        if name not in vars(widget_type):
            setattr(widget_type, name, default)
    widget_type.view = None
    widget_type._repr_mimebundle_ = _mimebundle
    return widget_type


def in_words(name: str) -> str:
    """A class's name as words: "What would change" for "WhatWouldChange"."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: f" {found[0].lower()}", name)


def _mimebundle(self: Any, include: object = None, exclude: object = None) -> dict[str, Any]:
    """In a report the still only, else the interactive view, with text/html for other pages."""
    name = type(self).__name__
    if self.view is not None:
        return {**self.view._repr_mimebundle_(), "text/plain": name, "text/html": _fallback(self)}
    still = self.still()
    content = {"text/html": still.markup} if isinstance(still, Html) else {PLOTLY: json.loads(still.to_json())}
    return {"text/plain": f"{name} (still)", **content}


def _fallback(widget: Any) -> str:
    """The HTML beside an interactive view."""
    try:
        still = widget.summary() if hasattr(widget, "summary") else widget.still()
    except Exception as error:  # an error of the still must not hide the interactive view
        return Html("<p>{}</p>").format(sentence(error))
    return still.markup if isinstance(still, Html) else plotly_html(still.to_plotly_json())


def guarded(widget: Any, action: Callable[..., None], *arguments: Any) -> None:
    """Run an action; an interactive view shows its error."""
    (action if widget.view is None else widget.status.guard(action))(*arguments)


def sentence(error: Exception) -> str:
    """The message of an error as a sentence."""
    message = str(error).strip().strip("'\"") or type(error).__name__
    return message[0].upper() + message[1:] + ("" if message.endswith((".", "!", "?")) else ".")


IN_THE_PAGE = """
export default { render({ model, el }) {
  el.style.display = "none";
  let gone = false, sent = 0;
  const focused = (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true");
  const measure = (panel) => {
    const plot = panel.querySelector(".js-plotly-plot");
    const width = plot ? Math.floor(plot.parentElement.clientWidth) : 0;
    if (width && width !== sent) model.send({ width: sent = width });
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
"""A script for a panel. It keeps JupyterLab from taking keys typed into a list as commands ("dd" deletes a cell), and
reports the width of a figure, which plotly draws before the figure is attached and does not measure again."""


def interactive_figure(figure: go.Figure) -> go.FigureWidget:
    """A `FigureWidget` of a figure, with the settings of `CONFIG`."""
    from seqlab.widgets.shared_plotly import FigureWidget

    widget = FigureWidget(figure)
    widget._config = {**widget._config, **CONFIG}  # plotly has no public way to configure a FigureWidget
    return widget


def panel(status: StatusLine, *parts: Any, figure: go.FigureWidget | None = None) -> Any:
    """The view of a widget: its status line, then its parts; `figure` keeps the width of its container."""
    import ipywidgets

    if figure is not None:
        status.page.on_msg(lambda page, content, buffers: figure.update_layout(width=int(content["width"])))
    return ipywidgets.VBox([status.view, *parts, status.page]).add_class("seqlab-panel")


class StatusLine:
    """A line with the last error and its traceback in a fold. It must be created before any figure."""

    def __init__(self) -> None:
        import anywidget

        # loading this behind the five megabytes of plotly.js would run into a timeout
        self.page = anywidget.AnyWidget(_esm=f"{download_script()}\n{IN_THE_PAGE}")
        self._lines: list[Any] = []
        self.view = self.line()

    def line(self) -> Any:
        """A further line, to be placed beside the controls whose errors `guard` shows there."""
        import ipywidgets

        self._lines.append(ipywidgets.HTML())
        return self._lines[-1]

    @property
    def message(self) -> str:
        """The HTML of the last error, wherever it is shown; "": there is none."""
        return "".join(one.value for one in self._lines)

    def guard(self, action: Callable[..., None], line: Any = None) -> Callable[..., None]:
        """`action` as a callback that shows its errors on a line, and clears earlier errors first.

        line: of `line()`; None: `view`.
        """

        def run(*event: Any) -> None:
            for one in self._lines:
                one.value = ""
            try:
                action(*event)
            except Exception as error:  # Jupyter writes the traceback of a callback to a log only
                (self.view if line is None else line).value = (
                    Html("<div role='alert'>{}</div><details><summary>Details</summary><pre>{}</pre></details>")
                    .format(sentence(error), "".join(traceback.format_exception(error)))
                    .markup
                )

        return run


class Debounce:
    """Runs the last action after `DEBOUNCE_SECONDS` without another; at once if no event loop runs."""

    def __init__(self) -> None:
        self._waiting: asyncio.TimerHandle | None = None

    def __call__(self, action: Callable[[], None]) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        try:
            self._waiting = asyncio.get_running_loop().call_later(DEBOUNCE_SECONDS, action)
        except RuntimeError:
            action()


def redraw(widget: go.FigureWidget, figure: go.Figure) -> None:
    """Update a FigureWidget in place to equal `figure`; both have the same kinds of traces in the same order."""
    with widget.batch_update():
        for old, new in zip(widget.data, figure.data, strict=True):
            fresh = new.to_plotly_json()
            fresh.pop("type")
            fresh.pop("uid", None)
            old.update(fresh)
        # unchanged parts are skipped: updating all axes of many panels takes longer than drawing them
        layout = figure.layout.to_plotly_json()
        widget.update_layout(
            {name: part for name, part in layout.items() if widget.layout[name] != figure.layout[name]}
        )
