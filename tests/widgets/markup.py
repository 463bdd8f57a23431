"""What a browser would make of a widget's HTML."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would make of a markup: its tags, its buttons and its words."""

    def __init__(self, markup):
        super().__init__()
        self.tags, self.buttons, self._open = [], {}, None
        self.words = ""
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "button":
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
