"""Arranges an executed notebook for a page: what is left out, contents, links between pages, joined folds."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bs4 import BeautifulSoup, Tag
    from nbformat import NotebookNode

REMOVED = "remove-cell"
"""The tag of a cell that a page leaves out, as in Jupyter Book."""

OPTIONAL = "optional-section"
"""The tag of a heading's cell: a page leaves out the section where none of its cells shows anything."""

THUMBNAIL = "thumbnail"
"""The tag of the cell whose figure stands for the page in the index."""

MOST_CONTENTS = 14
"""Entries up to which the contents list headings of the third level too."""

HEADING = re.compile(r"^(#{1,6})\s+\S", re.MULTILINE)


def kept(notebook: NotebookNode) -> NotebookNode:
    """A copy without the cells and sections that a page leaves out; streams of one name in a row are one output."""
    notebook, cells, place = copy.deepcopy(notebook), [], 0
    while place < len(notebook.cells):
        cell = notebook.cells[place]
        end = place + 1
        if OPTIONAL in _tags(cell) and (level := _level(cell)):
            while end < len(notebook.cells) and not 0 < (_level(notebook.cells[end]) or 9) <= level:
                end += 1
            if not _shows_nothing(notebook.cells[place:end]):
                end = place + 1
                cells += [cell]
        elif REMOVED not in _tags(cell):
            cells += [cell]
        place = end
    for cell in cells:
        if cell.cell_type == "code":
            cell.outputs = _joined_streams(cell.outputs)
    notebook.cells = cells
    return notebook


def summary(notebook: NotebookNode, most: int = 320) -> str:
    """The first sentences below the title as plain text: as many as fit in `most` characters, one at least."""
    prose = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    below = re.split(r"^#\s+.+$", prose, maxsplit=1, flags=re.MULTILINE)[-1].strip()
    paragraph = re.split(r"\n\s*\n", below)[0]
    if paragraph.startswith(("#", "`", "|", "-", "*   ")):
        return ""
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", paragraph)
    plain = " ".join(re.sub(r"\*+|`+|(?<!\w)_|_(?!\w)", "", plain).split())
    sentences = re.split(r"(?<=[.?!])\s+(?=[A-Z*\"'])", plain)
    found = sentences[0]
    for sentence in sentences[1:]:
        if len(found) + len(sentence) >= most:
            break
        found += f" {sentence}"
    return found.removesuffix(":") + "." * found.endswith(":")


def take_title(soup: BeautifulSoup) -> str:
    """Remove the title, where the first heading is one, and return its HTML; "" without."""
    first = soup.find(re.compile("^h[1-6]$"))
    if first is None or first.name != "h1":
        return ""
    return str(first.extract())


def take_headline(soup: BeautifulSoup) -> str:
    """Remove the first `reports.headlines.Headline` that a cell shows, and return its HTML; "" without."""
    first = soup.select_one(".output > .sl > .headline")
    return "" if first is None else str(first.parent.extract())


def join_folds(soup: BeautifulSoup) -> None:
    """One fold for code, and one for messages, where several follow one another with nothing between."""
    for outputs in soup.select("div.outputs"):
        for fold in outputs.find_all("details", class_="code", recursive=False):
            outputs.insert_before(fold.extract())
        if not outputs.find(True) and not outputs.get_text(strip=True):
            outputs.decompose()
    for fold in soup.select("details.code"):
        firsts = {_word(fold): fold}
        for other in _folds_after(fold) if fold.parent is not None else ():  # None: it was joined before
            first = firsts.setdefault(_word(other), other)
            if first is not other:
                for part in [*other.children][1:]:  # without its summary
                    first.append(part.extract())
                other.extract()


def contents(soup: BeautifulSoup) -> list[tuple[int, str, str]]:
    """The headings of the second and third level: (level, id, text). Headings without an id of their own get one."""
    found, taken = [], {str(one["id"]) for one in soup.find_all(id=True)}
    seen: set[str] = set()
    for heading in soup.find_all(["h2", "h3"]):
        text = heading.get_text(" ", strip=True)
        name = str(heading.get("id") or "")
        if not name or name in seen:
            base = name = re.sub(r"\W+", "-", text.lower()).strip("-") or "section"
            number = 2
            while name in taken:
                name, number = f"{base}-{number}", number + 1
            heading["id"] = name
        taken.add(name)
        seen.add(name)
        found.append((int(heading.name[1]), name, text))
    return found if len(found) <= MOST_CONTENTS else [one for one in found if one[0] == 2]


def link_pages(soup: BeautifulSoup, pages: Mapping[str, str], own: str) -> None:
    """Turn links to notebooks, and names of notebooks, into links to their pages; without a page, into plain text.

    pages: name -> title. Only prose is changed.
    """
    for link in soup.select(".prose a[href]"):
        found = re.fullmatch(r"(?:\./)?([^/:#?]+)\.ipynb", unquote(str(link["href"])))
        if found and found[1] in pages and found[1] != own:
            link["href"], link["title"] = f"{quote(found[1])}.html", pages[found[1]]
        elif found:
            link.unwrap()
    for code in soup.select(".prose code"):
        name = code.get_text()
        if name in pages and name != own and not code.find_parent(["a", "pre"]):
            code.wrap(soup.new_tag("a", href=f"{quote(name)}.html", title=pages[name]))


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _level(cell: NotebookNode) -> int:
    """The level of the first heading of a Markdown cell; 0: none."""
    found = HEADING.search(cell.source) if cell.cell_type == "markdown" else None
    return len(found[1]) if found else 0


def _shows_nothing(cells: list[NotebookNode]) -> bool:
    """Whether these cells ran and show nothing but messages."""
    code = [cell for cell in cells if cell.cell_type == "code"]
    return all(
        cell.execution_count is not None and all(output.get("name") == "stderr" for output in cell.outputs)
        for cell in code
    )


def _joined_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    joined: list[NotebookNode] = []
    for output in outputs:
        before = joined[-1] if joined else None
        if before and output.output_type == "stream" == before.output_type and output.name == before.name:
            before.text += output.text
        else:
            joined.append(output)
    return joined


def _folds_after(fold: Tag) -> list[Tag]:
    """The folds that follow one, with nothing but blanks between."""
    found, after = [], fold.next_sibling
    while after is not None and (getattr(after, "name", None) == "details" or not str(after).strip()):
        if getattr(after, "name", None) == "details":
            if "code" not in (after.get("class") or []):
                break
            found.append(after)
        after = after.next_sibling
    return found


def _word(fold: Tag) -> str:
    return fold.summary.get_text() if fold.summary else ""
