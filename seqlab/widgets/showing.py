"""How a widget is shown: live where a kernel answers, still in a report; and how it tells what went wrong."""

from __future__ import annotations

import html
import json
import os
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

PLOTLY = "application/vnd.plotly.v1+json"


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
        shown = (
            {"text/html": still._repr_html_()} if hasattr(still, "markup") else {PLOTLY: json.loads(still.to_json())}
        )
        return {"text/plain": f"{name} (still)", **shown}
    live = widget.view._repr_mimebundle_()
    return {**live, "text/plain": name, "text/html": _as_html(widget)}


def _as_html(widget: Any) -> str:
    """The still beside a live view: what a page shows that has no kernel."""
    try:
        still = widget.still()
    except Exception as error:  # the live view still works; it must not be lost with its still
        return f"<p>{html.escape(sentence(error))}</p>"
    if hasattr(still, "markup"):
        return still._repr_html_()
    return still.to_html(full_html=False, include_plotlyjs=False, include_mathjax=False)


def sentence(error: Exception) -> str:
    """An error as a sentence."""
    said = str(error).strip().strip("'\"") or type(error).__name__
    return said[0].upper() + said[1:] + ("" if said.endswith((".", "!", "?")) else ".")


class StatusLine:
    """A line under the controls that says what went wrong, the traceback folded away below it."""

    def __init__(self) -> None:
        import ipywidgets

        self.view = ipywidgets.HTML()

    def guard(self, action: Callable[..., None]) -> Callable[..., None]:
        """`action` as a callback whose errors are told here; an error of before goes when it succeeds."""

        def run(*event: Any) -> None:
            try:
                action(*event)
                self.view.value = ""
            except Exception as error:  # a callback's traceback would go to a log nobody reads
                folded = html.escape("".join(traceback.format_exception(error)))
                self.view.value = (
                    f"<div role='alert' style='color:#D55E00'>{html.escape(sentence(error))}</div>"
                    f"<details><summary>Details</summary><pre style='font-size:11px'>{folded}</pre></details>"
                )

        return run


def live_figure(figure: go.Figure) -> go.FigureWidget:
    """A figure that can be changed in place, as wide as the page lets it be."""
    import plotly.graph_objects as go

    live = go.FigureWidget(figure)

    def widen(change: object) -> None:
        # the browser draws it before it has its place in the page, so at a guessed width; a new height makes it measure
        live.unobserve(widen, "_js2py_layoutDelta")
        live.update_layout(height=live.layout.height + 1)

    live.observe(widen, "_js2py_layoutDelta")
    return live


def redraw(live: go.FigureWidget, figure: go.Figure) -> None:
    """Make a live figure show what `figure` shows, in place; both have the same kinds of traces in the same order."""
    with live.batch_update():
        for old, new in zip(live.data, figure.data, strict=True):
            fresh = new.to_plotly_json()
            fresh.pop("type")
            fresh.pop("uid", None)
            old.update(fresh)
        live.update_layout(figure.layout.to_plotly_json())
