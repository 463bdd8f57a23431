"""Systems side by side as tables: all of them, two of them by groups of users, and two of them user by user.

Tables are escaped HTML. With `live` they hold real buttons, whose `data-press` says what was pressed by its place in
the frame that was given: "system:ROW", "cell:ROW:METRIC", "group:ROW", "user:ROW".
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

from seqlab.evaluation.comparison import EVERYBODY
from seqlab.figures.tables import Html, text
from seqlab.figures.theme import FAINT, INK, PALETTE

if TYPE_CHECKING:
    import pandas as pd

KINDS = {
    "trained": ("trained", "circle"),
    "floor": ("floor: only counts", "diamond-open"),
    "number": ("only a number", "x-thin-open"),
}
"""What a row is: kind -> what it is called, and its sign in the plot."""

SYSTEM, REFERENCE, BETTER, WORSE = PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[4]
WIDE = 132
"""A drawing in a table, in pixels."""

STYLE = """<style>
.sl .cmp td, .sl .cmp th { vertical-align: middle; padding: 4px 14px 4px 0; font-size: 12.5px; min-width: 0; }
.sl .cmp th { white-space: normal; } .sl .cmp thead th { vertical-align: bottom; }
.sl .cmp tbody th { overflow-wrap: anywhere; min-width: 10.5em; }
.sl .cmp svg { display: block; margin: 2px 0; max-width: none; }
.sl .cmp .fine { opacity: .75; font-size: 11.5px; white-space: nowrap; }
.sl .cmp tr.number th, .sl .cmp tr.number b { font-weight: 400; }
.sl .cmp tr.picked td, .sl .cmp tr.picked th { background: rgba(0, 114, 178, .16); }
.sl .cmp + h4, .sl .quiet + h4 { margin-top: 18px; }
.sl .cmp .lot th { padding-top: 12px; }
.sl .tag { font-size: 11px; font-weight: 400; border: 1px solid rgba(128, 134, 144, .55); border-radius: 8px;
  padding: 0 6px; white-space: nowrap; }
.sl button[data-press] { font: inherit; font-variant-numeric: tabular-nums; color: inherit; cursor: pointer;
  background: rgba(128, 134, 144, .13); border: 1px solid rgba(128, 134, 144, .5); border-radius: 4px; padding: 1px 8px;
  text-align: left; overflow-wrap: anywhere; }
.sl button[data-press]:hover { border-color: #0072B2; }
.sl button[data-press]:focus-visible { outline: 2px solid #0072B2; outline-offset: 1px; }
.sl button[aria-pressed=true] { border-color: #0072B2; box-shadow: inset 0 0 0 1px #0072B2; }
@media (max-width: 44rem) {
  .sl .cmp, .sl .cmp tbody, .sl .cmp tr, .sl .cmp td, .sl .cmp tbody th { display: block; text-align: left; border: 0; }
  .sl .cmp thead { display: none; }
  .sl .cmp tr { border-bottom: 1px solid rgba(128, 134, 144, .4); padding: 6px 0; }
  .sl .cmp td, .sl .cmp td.n, .sl .cmp tbody th { padding: 1px 0; white-space: normal; text-align: left; }
  .sl .cmp td[data-label]::before { content: attr(data-label) ": "; opacity: .75; }
}
</style>"""


def standings(
    frame: pd.DataFrame, metrics: tuple[str, ...], reference: str, live: bool = False, pick: bool = False
) -> Html:
    """The table of all systems: each metric with its 95 % interval and its paired difference to `reference`.

    frame: one row per system: system, kind (one of KINDS), seeds, parameters, seconds, milliseconds (NaN: not known)
    and, of each metric, METRIC, "METRIC low", "METRIC high", "METRIC difference", "METRIC difference low", "METRIC
    difference high"; a row without ranks has no differences, and one of several seeds no interval either (NaN).
    pick: names are buttons too.
    """
    most = {metric: float(frame[[metric, f"{metric} high"]].max().max()) for metric in metrics}
    own = frame[frame["system"] == reference].iloc[0]
    rows = []
    for place, row in enumerate(frame.to_dict("records")):
        name = text(row["system"], 60)
        if live and pick and row["kind"] != "number":
            name = _button(
                f"system:{place}", name, f"{row['system']}: select the users it has an answer for in its ten"
            )
        tags = [KINDS[row["kind"]][0]] if row["kind"] != "trained" else []
        tags += ["reference"] if row["system"] == reference else []
        tags += [f"{row['seeds']:.0f} seeds"] if row["seeds"] > 1 else []
        cells = [
            f"<th scope='row'>{name} {' '.join(f'<span class=tag>{html.escape(tag)}</span>' for tag in tags)}</th>"
        ]
        for column, metric in enumerate(metrics):
            inside = _metric(row, metric, most[metric], own[metric])
            press = live and row["kind"] != "number" and row["system"] != reference
            value = f"<b>{row[metric]:.4f}</b>"
            said = f"{metric} of {row['system']} by groups of users"
            value = _button(f"cell:{place}:{column}", value, said) if press else value
            cells.append(f"<td data-label='{html.escape(metric)}'>{value}{inside}</td>")
            cells.append(
                f"<td data-label='{html.escape(metric)} minus the reference'>{_gain(row, metric, reference)}</td>"
            )
        spent = (("parameters", "parameters"), ("seconds", "s of training"), ("milliseconds", "ms per user"))
        lines = "<br>".join(f"{_number(row[column])} {what}" for column, what in spent if row[column] == row[column])
        cells.append(f"<td data-label='cost'><span class='fine'>{lines}</span></td>")
        rows.append(f"<tr class='{row['kind']}'>{''.join(cells)}</tr>")
    head = "<th scope='col'>system</th>" + "".join(
        f"<th scope='col'>{html.escape(metric)}{_axis(0.0, most[metric])}</th>"
        f"<th scope='col'>minus {text(reference, 24)}</th>"
        for metric in metrics
    )
    head += "<th scope='col'>cost</th>"
    return Html(f"{STYLE}<table class='cmp'><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")


def group_differences(frame: pd.DataFrame, system: str, reference: str, metric: str, live: bool = False) -> Html:
    """One metric of two systems for groups of users, and the paired difference, each with its 95 % interval.

    frame: what `evaluation.Standings.slices` returns.
    """
    most = float(frame[["a high", "b high"]].max().max())
    ends = float(frame["low"].min()), float(frame["high"].max())
    ends = min(ends[0], 0.0), max(ends[1], 0.0)
    rows, before = [], None
    for place, row in enumerate(frame.to_dict("records")):
        if row["slice"] not in (before, EVERYBODY[0]):
            before = row["slice"]
            rows.append(f"<tr class='lot'><th colspan='6'>by {text(before)}</th></tr>")
        name = text(row["group"])
        name = _button(f"group:{place}", name, f"the users of: {row['group']}") if live else name
        both = [(row[side], row[f"{side} low"], row[f"{side} high"]) for side in ("a", "b")]
        sides = "".join(
            f"<td data-label='{html.escape(who, quote=True)}'>{one[0]:.4f} "
            f"<span class='fine'>{one[1]:.4f} to {one[2]:.4f}</span></td>"
            for who, one in zip((system, reference), both, strict=True)
        )
        marks = [(*one, colour, shape) for one, colour, shape in zip(both, (SYSTEM, REFERENCE), "●◆", strict=True)]
        gain = (row["difference"], row["low"], row["high"])
        colour = BETTER if row["low"] > 0 else WORSE if row["high"] < 0 else INK
        rows.append(
            f"<tr><th scope='row'>{name}</th><td class='n' data-label='users'>{row['users']:,}</td>"
            f"{sides}<td>{_track(marks, 0.0, most)}</td>"
            f"<td data-label='difference'>{_told(*gain)}{_track([(*gain, colour, '●')], *ends, zero=True)}</td></tr>"
        )
    signs = [f"<span style='color:{colour}'>{sign}</span>" for colour, sign in ((SYSTEM, "●"), (REFERENCE, "◆"))]
    head = (
        "<th scope='col'>group of users</th><th scope='col' class='n'>users</th>"
        f"<th scope='col'>{signs[0]} {text(system, 40)}</th><th scope='col'>{signs[1]} {text(reference, 40)}</th>"
        f"<th scope='col'>{html.escape(metric)}{_axis(0.0, most)}</th>"
        f"<th scope='col'>{signs[0]} minus {signs[1]}, the same users{_axis(*ends)}</th>"
    )
    return Html(f"{STYLE}<table class='cmp'><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")


def user_differences(
    frame: pd.DataFrame, system: str, reference: str, metric: str, picked: int | None = None, live: bool = False
) -> Html:
    """Users with the rank of what came next in two systems.

    frame: columns user (number), name (id), history_length, title (of the answer), a and b (its ranks in `system` and
    in `reference`; halves are ties, or means of seeds), difference (of the metric). picked: the number of a user.
    """
    k = int(metric.partition("@")[2])
    rows = []
    for place, row in enumerate(frame.to_dict("records")):
        name, mine = text(row["name"], 40), row["user"] == picked
        name = _button(f"user:{place}", name, f"user {row['name']}", mine) if live else name
        places = "".join(
            f"<td class='n' data-label='{html.escape(f'rank in {who}', quote=True)}'>{_place(row[side], k)}</td>"
            for who, side in ((system, "a"), (reference, "b"))
        )
        rows.append(
            f"<tr{' class=picked' if mine else ''}><th scope='row'>{name}</th>{places}"
            f"<td class='n' data-label='difference'>{_signed(row['difference'])}</td>"
            f"<td class='n' data-label='history, events'>{row['history_length']:,}</td>"
            f"<td data-label='what came next'>{text(row['title'], 90)}</td></tr>"
        )
    head = (
        f"<th scope='col'>user</th><th scope='col' class='n'>rank in<br>{text(system, 30)}</th>"
        f"<th scope='col' class='n'>rank in<br>{text(reference, 30)}</th>"
        f"<th scope='col' class='n'>{html.escape(metric)},<br>difference</th>"
        "<th scope='col' class='n'>history,<br>events</th><th scope='col'>what came next</th>"
    )
    return Html(f"{STYLE}<table class='cmp'><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")


def _button(press: str, inside: str, said: str = "", pressed: bool | None = None) -> str:
    """A button; `inside` is escaped already, `said` is not."""
    name = f" aria-label='{html.escape(said, quote=True)}' title='{html.escape(said, quote=True)}'" if said else ""
    state = "" if pressed is None else f" aria-pressed='{str(pressed).lower()}'"
    return f"<button type='button' data-press='{press}'{name}{state}>{inside}</button>"


def _metric(row: Mapping, metric: str, most: float, beside: float) -> str:
    """The interval of a metric as numbers and as a line; the dashes are the reference's mean."""
    low, high = row[f"{metric} low"], row[f"{metric} high"]
    said = "interval: needs its runs" if low != low else f"{low:.4f} to {high:.4f}"
    colour = INK if row["kind"] == "number" else SYSTEM
    mark = (row[metric], *((low, high) if low == low else (row[metric], row[metric])), colour, "●")
    return f"<br><span class='fine'>{said}</span>{_track([mark], 0.0, most, beside=beside)}"


def _gain(row: Mapping, metric: str, reference: str) -> str:
    if row["system"] == reference:
        return "<span class='quiet'>–</span>"
    gain = [row[f"{metric} difference{end}"] for end in ("", " low", " high")]
    if gain[0] != gain[0]:
        return "<span class='quiet'>needs a run</span>"
    return _told(*gain)


def _told(gain: float, low: float, high: float) -> str:
    """A difference with its interval; that it misses 0 is said by a sign and by colour."""
    sign, colour = ("▲", "up") if low > 0 else ("▼", "down") if high < 0 else ("○", "quiet")
    return (
        f"<span class='{colour}'><b>{sign} {_signed(gain)}</b></span>"
        f"<br><span class='fine'>{_signed(low)} to {_signed(high)}</span>"
    )


def _signed(value: float) -> str:
    return f"{value:+.4f}" if value else "0"


def _place(rank: float, k: int) -> str:
    shown = f"{rank:,.1f}".removesuffix(".0")
    return f"<b class='up'>✓ {shown}</b>" if rank <= k else shown


def _number(value: float) -> str:
    if value != value:
        return "–"
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:,.2g}" if value < 1 else f"{value:,.1f}"


def _track(marks: list[tuple], low: float, high: float, zero: bool = False, beside: float | None = None) -> str:
    """Means (dot or diamond) with their intervals on one scale as a drawing of a few pixels.

    The numbers stand beside it. zero: a line there; beside: dashes there.
    """

    def at(value: float) -> float:
        return 6 + (WIDE - 12) * (value - low) / ((high - low) or 1.0)

    tall = 6 + 9 * len(marks)
    parts = [f"<line x1='6' x2='{WIDE - 6}' y1='{tall - 1}' y2='{tall - 1}' stroke='{FAINT}'/>"]
    for value, dashes in ((0.0 if zero else None, ""), (beside, " stroke-dasharray='2 2'")):
        if value is not None:
            x = at(value)
            parts.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='0' y2='{tall}' stroke='{INK}'{dashes}/>")
    for row, (mean, start, end, colour, shape) in enumerate(marks):
        y, x = 6 + 9 * row, at(mean)
        parts.append(
            f"<line x1='{at(start):.1f}' x2='{at(end):.1f}' y1='{y}' y2='{y}' stroke='{colour}' stroke-width='2'/>"
        )
        sign = (
            f"<circle cx='{x:.1f}' cy='{y}' r='3.6' fill='{colour}'/>"
            if shape == "●"
            else f"<path d='M{x:.1f} {y - 5}l5 5l-5 5l-5 -5z' fill='{colour}'/>"
        )
        parts.append(sign)
    return f"<svg width='{WIDE}' height='{tall}' viewBox='0 0 {WIDE} {tall}' aria-hidden='true'>{''.join(parts)}</svg>"


def _axis(low: float, high: float) -> str:
    """The ends of the scale of the drawings below."""
    style = f"fill='{INK}' font-size='10' font-weight='400'"
    ends = f"<text x='2' y='10' {style}>{low:.2g}</text>"
    ends += f"<text x='{WIDE - 2}' y='10' text-anchor='end' {style}>{high:.2g}</text>"
    if low < 0 < high and 0.2 < -low / (high - low) < 0.8:
        ends += f"<text x='{6 + (WIDE - 12) * -low / (high - low):.1f}' y='10' text-anchor='middle' {style}>0</text>"
    return f"<svg width='{WIDE}' height='13' viewBox='0 0 {WIDE} 13' aria-hidden='true'>{ends}</svg>"
