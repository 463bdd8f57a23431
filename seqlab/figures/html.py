"""Renders templates into escaped HTML."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from seqlab.figures import theme

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"


class Html(Markup):
    """HTML that a notebook shows: a `markupsafe.Markup`, whose `format`, `join` and `+` escape plain text.

    It is made by `render` or from a constant, never from text that holds data.
    """

    __slots__ = ()

    @property
    def markup(self) -> str:
        """The HTML with its style sheet, ready to be shown."""
        return str(style() + Html("<div class='sl'>{}</div>").format(self))

    def _repr_html_(self) -> str:
        return f"{self.markup}{downloads()}"

    def __repr__(self) -> str:
        return f"Html({len(self):,} characters)"


def text(value: object, most: int = 0) -> Html:
    """A value as one line of escaped text of at most `most` characters (0: any), isolated from the direction of the
    text around it."""
    return Html("<bdi>{}</bdi>").format(theme.plain(value, most))


def render(template: str, **values: Any) -> Html:
    """A template of this package with these values; plain text in them is escaped, `Html` is not."""
    return Html(environment(TEMPLATES).get_template(template).render(values))


def downloadable(content: Html, name: str) -> Html:
    """Tables with buttons below that save them as CSV and as LaTeX, in a page with `downloads`; name: of the file."""
    return render("downloadable.html.j2", content=content, name=name)


@functools.cache
def downloads() -> Html:
    """The script for the buttons below tables, which also puts SVG and CSV into the toolbars of all figures."""
    return render("downloads.html.j2")


@functools.cache
def download_script() -> str:
    """The script of `downloads` as text."""
    return str(render("downloads.js.j2"))


def plotly_html(figure: Mapping[str, Any]) -> Html:
    """A figure's JSON as HTML that the plotly.js of a page draws, as wide as its place; see `theme.CONFIG`.

    In a place narrower than its `theme.least_width`, a figure scrolls.
    """
    from plotly.io import to_html

    layout = figure.get("layout", {})
    made = to_html(
        {"data": figure["data"], "layout": layout},
        config={**figure.get("config", {}), "responsive": True, **theme.CONFIG},
        full_html=False, include_plotlyjs=False, include_mathjax=False, validate=False,
        default_height=layout.get("height") or 450,
    )  # fmt: skip
    least = (layout.get("meta") or {}).get("least_width")
    if not least:
        return Html(made)
    return Html("<div style='overflow-x:auto'><div style='min-width:{}px'>{}</div></div>").format(least, Html(made))


def page(shown: Html | Mapping[str, Any], name: str) -> str:
    """A page that opens without a network, of a table or of a figure's JSON; name: its title."""
    from plotly.offline import get_plotlyjs

    is_table = isinstance(shown, Html)
    content = style() + Html("<div class='sl'>{}</div>").format(shown) if is_table else plotly_html(shown)
    script = "" if is_table else re.sub(r"</(script)", r"<\\/\1", get_plotlyjs(), flags=re.IGNORECASE)
    return str(render("saved.html.j2", name=name, content=content, plotly=script, downloads=downloads()))


@functools.cache
def style() -> Html:
    """The style sheet of all HTML in this package, as an element."""
    return Html("<style>{}</style>").format(render("style.css.j2", theme=theme))


@functools.cache
def environment(folder: Path) -> jinja2.Environment:
    """The templates in a folder: everything in them is escaped, and an undefined name is an error."""
    import jinja2

    loader = jinja2.FileSystemLoader(folder)
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["text"] = text
    return made
