"""The HTML of widgets, parsed as a browser would."""

import json
import re
from html.parser import HTMLParser

TAGS = re.compile(r"<(script|img|b>of|i>shelf)", re.IGNORECASE)
"""Tags of the hostile titles."""

PLOTLY_SCRIPT = re.compile(r"<script[^>]*>\s*window\.PLOTLYENV.*?</script>", re.DOTALL)
"""The script of a figure inside HTML, whose titles are JSON with an escaped "<"."""


def texts(widget, *others):
    """All HTML and figures of a widget, and the others, as text without the scripts that draw figures."""
    import ipywidgets

    figures = [one for one in (widget.still(), getattr(widget, "figure", None), *others) if one is not None]
    found = [one.value for one in vars(widget).values() if isinstance(one, ipywidgets.HTML)]
    for one in figures:
        is_figure = hasattr(one, "to_json")
        found.append(json.dumps(json.loads(one.to_json()), ensure_ascii=False) if is_figure else str(one))
    return [PLOTLY_SCRIPT.sub("", text) for text in found]


def assert_escaped(widget, *others):
    """No hostile title is a tag anywhere in a widget."""
    assert not [text for text in texts(widget, *others) if TAGS.search(text)]


class Page(HTMLParser):
    """The tags, buttons and words of an HTML text."""

    def __init__(self, markup):
        super().__init__()
        self.tags, self.buttons, self._open = [], {}, None
        self.words = ""
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "button" and "data-press" in dict(attrs):  # others save a table
            self._open = dict(attrs)["data-press"]
            self.buttons[self._open] = ""

    def handle_endtag(self, tag):
        self._open = None if tag == "button" else self._open

    def handle_data(self, data):
        self.words += data
        if self._open is not None:
            self.buttons[self._open] += data


def page(widget):
    return Page(widget.table.markup)
