"""Tables as escaped HTML, for what a picture would only blur: smells, top tens, users."""

from __future__ import annotations

import html
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqlab.figures.theme import plain

if TYPE_CHECKING:
    import pandas as pd

STYLE = """<style>
.sl { font: 13px/1.45 system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif;
  color: var(--jp-content-font-color1, inherit); }
.sl table { border-collapse: collapse; margin: 4px 0 10px; font-size: 13px; }
.sl th:not(.n), .sl td:not(.n) { text-align: left !important; } /* JupyterLab has right for every cell */
.sl th, .sl td { padding: 3px 10px 3px 0; vertical-align: top; border: 0;
  border-bottom: 1px solid rgba(128, 134, 144, .28); background: none; white-space: normal;
  overflow-wrap: anywhere; min-width: 4.6em; }
.sl th { font-weight: 600; white-space: nowrap; overflow-wrap: normal; }
.sl td.n, .sl th.n { min-width: 0; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.sl .grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(max(240px, 44%), 1fr)); gap: 6px 30px; }
.sl .card { border: 1px solid rgba(128, 134, 144, .35); border-radius: 6px; padding: 8px 12px; margin: 0 0 10px; }
.sl .three { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 4px 26px; }
.sl h4 { margin: 2px 0 4px; font-size: 13px; font-weight: 600; }
.sl ol { margin: 0; padding-left: 2em; } .sl ol.long { padding-left: 3.4em; } .sl li { overflow-wrap: anywhere; }
.sl .quiet { opacity: .68; color: inherit; font-size: inherit; } .sl .gone td { opacity: .6; }
.sl .mark { border-radius: 4px; padding: 0 6px; font-weight: 600; color: #fff; white-space: nowrap; }
.sl .good { background: #00734f; } .sl .bad { background: #a63d00; } .sl .look { background: #8a5b00; }
.sl .note { background: #005a8f; }
.sl .hit { font-weight: 700; } .sl .up { color: #009E73; } .sl .down { color: #D55E00; }
</style>"""

VERDICTS = {"fine": ("good", "✓ fine"), "look": ("look", "● look"), "trap": ("bad", "▲ trap")}


@dataclass(frozen=True)
class Html:
    """Markup that a notebook shows; made here only, from escaped text."""

    body: str

    @property
    def markup(self) -> str:
        """The body with its style, ready to be shown."""
        return f"{STYLE}<div class='sl'>{self.body}</div>"

    def _repr_html_(self) -> str:
        return self.markup

    def __repr__(self) -> str:
        return f"Html({len(self.body):,} characters)"


def text(value: object, most: int = 0) -> str:
    """A value as one escaped line of HTML, isolated from the direction of the text around it."""
    return f"<bdi>{html.escape(plain(value, most))}</bdi>"


def table(frame: pd.DataFrame, digits: int = 4) -> Html:
    """Any small frame as an escaped table; floats with `digits` decimals, whole numbers with separators."""
    import pandas as pd

    numeric = [pd.api.types.is_numeric_dtype(frame[column]) for column in frame.columns]
    head = "".join(
        f"<th{_right(number)}>{text(name)}</th>" for name, number in zip(frame.columns, numeric, strict=True)
    )
    rows = [
        "".join(f"<td{_right(number)}>{_cell(value, digits)}</td>" for value, number in zip(row, numeric, strict=True))
        for row in frame.itertuples(index=False)
    ]
    return Html(f"<table><tr>{head}</tr>{_rows(rows)}</table>")


def smells(frame: pd.DataFrame) -> Html:
    """The table of `datasets.smells`, each verdict with its colour, its sign and its word."""
    rows = []
    for row in frame.itertuples(index=False):
        colour, word = VERDICTS.get(row.verdict, ("look", row.verdict))
        share = "" if row.value != row.value else f"{row.value:.2%}"
        rows.append(
            f"<td><span class='mark {colour}'>{html.escape(word)}</span></td><th>{text(row.smell)}</th>"
            f"<td class='n'>{share}</td><td>{text(row.sentence)}</td>"
        )
    head = "<th>verdict</th><th>smell</th><th class='n'>measured</th><th>what it means</th>"
    return Html(f"<table><tr>{head}</tr>{_rows(rows)}</table>")


def top_tens(rankings: dict[str, pd.DataFrame]) -> Html:
    """Top tens side by side, one under each caption.

    A frame has columns rank, title and, for a changed list, moved (places gained), status ("same", "up", "down",
    "new", "left", "filtered") and was (the rank before): see `inspection.influence.rerank`.
    """
    parts = [f"<div><h4>{text(caption)}</h4>{_top_ten(frame)}</div>" for caption, frame in rankings.items()]
    return Html(f"<div class='grid'>{''.join(parts)}</div>")


def user_cards(cards: Sequence[dict]) -> Html:
    """One card per user: what they did last, what was recommended, what came next.

    A card has user (label), history (titles, oldest first), earlier (events before those), recommended (titles), hit
    (which of these came next, from 1; 0 none), answer (title), rank (of the answer, 1 is best; halves are ties), of
    (items ranked), met (whether the answer was in the history).
    """
    return Html("".join(_card(card) for card in cards))


def _card(card: dict) -> str:
    rank, hit = card["rank"], card["hit"]
    verdict = f"<span class='mark {'good' if hit else 'bad'}'>{'✓ in the list' if hit else '✗ not in the list'}</span>"
    met = "met before" if card["met"] else "new to this user"
    earlier = f"<div class='quiet'>… after {card['earlier']:,} earlier events</div>" if card["earlier"] else ""
    history = "".join(f"<li>{text(title, 60)}</li>" for title in card["history"])
    listed = "".join(
        f"<li class='hit'>{text(title, 60)} <span class='mark good'>✓ came next</span></li>"
        if at == hit
        else f"<li>{text(title, 60)}</li>"
        for at, title in enumerate(card["recommended"], 1)
    )
    return (
        f"<div class='card'><h4>User {text(card['user'], 40)}</h4><div class='three'>"
        f"<div><b>Last events, oldest first</b>{earlier}"
        f"<ol class='long' start='{card['earlier'] + 1}'>{history}</ol></div>"
        f"<div><b>Recommended</b><ol>{listed}</ol></div>"
        f"<div><b>What came next</b><div>{text(card['answer'], 90)}</div><div class='quiet'>{met}</div>"
        f"<div>{verdict} rank {rank:,.10g} of {card['of']:,}</div></div></div></div>"
    )


def _top_ten(frame: pd.DataFrame) -> str:
    changed = "status" in frame.columns
    rows = []
    for row in frame.to_dict("records"):
        gone = changed and row["status"] in ("left", "filtered")
        place = "–" if row["rank"] != row["rank"] else f"{row['rank']:,.0f}"
        cells = f"<td class='n'>{place}</td><td>{text(row['title'], 60)}</td>"
        if changed:
            cells += f"<td class='n'>{_arrow(row)}</td>"
        rows.append(f"<tr{' class=gone' if gone else ''}>{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _arrow(row: dict) -> str:
    if row["status"] == "filtered":
        return "in the history now"
    beyond = row["moved"] != row["moved"]  # a list tells nothing of places beyond it
    moved = 0 if beyond else abs(int(row["moved"]))
    return {
        "same": "<span class='quiet'>=</span>",
        "up": f"<span class='up'>▲ {moved:,}</span>",
        "down": f"<span class='down'>▼ {moved:,}</span>",
        "new": "<span class='mark note'>NEW</span>"
        + (f" <span class='up'>▲ {moved:,}</span>" if row["moved"] > 0 else ""),
        "left": f"<span class='down'>▼{'' if beyond else f' {moved:,}'}</span> was {row['was']:,.0f}",
    }[row["status"]]


def _rows(rows: list[str]) -> str:
    return "".join(f"<tr>{row}</tr>" for row in rows)


def _right(number: bool) -> str:
    return " class='n'" if number else ""


def _cell(value: object, digits: int) -> str:
    import pandas as pd

    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return text(value)
    return f"{value:,}" if isinstance(value, numbers.Integral) else f"{value:,.{digits}f}"
