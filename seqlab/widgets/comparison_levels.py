"""The HTML of CompareSystems at each level: all systems, two systems by groups of users, and the users of a group.

With `buttons`, it has buttons with a `data-press` key: those of `figures.comparison_tables`, and "back:",
"order:ORDER", "more:".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqlab import figures
from seqlab.evaluation.bootstrap import INTERVALS
from seqlab.evaluation.comparison import EVERYBODY
from seqlab.figures.html import Html, text
from seqlab.figures.theme import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from seqlab.evaluation.comparison import Order
    from seqlab.evaluation.outcome import Metric

    Pair = tuple[str, str, Metric]  # a system, the reference, and a metric

ORDERS = {"system": "{system} is better", "reference": "{reference} is better", "most": "they differ most"}


def all_systems(
    board: pd.DataFrame,
    metrics: Sequence[Metric],
    reference: str,
    protocol: str,
    left_out: str,
    buttons: bool,
    pick: bool,
) -> Html:
    """The table of all systems, as `figures.standings` draws it, with its protocol and a key.

    left_out: the number of leaderboard rows that are not comparable, in words.
    """
    key = (
        f"Below each number is its interval; dashes are {plain(reference, 40)}, the reference. {INTERVALS}. "
        f"Differences to {plain(reference, 40)} are paired by user: ▲ better and ▼ worse where the interval "
        "excludes 0, ○ otherwise. A floor is not trained. Peak memory is left out: systems trained in one process "
        "share it."
    )
    if board["milliseconds"].notna().any():
        key += " Milliseconds: ten items for a batch of 64 users, on this machine."
    if lower := [one.name for one in metrics if not one.higher]:
        key += f" Of {', '.join(lower)} less is better."
    if (board["kind"] == "number").any():
        key += (
            " Only a number: a row of the leaderboard under this protocol, with other settings or training; the views "
            "below need a run."
        )
    if left_out:
        key += f" {left_out} of the leaderboard left out: other data of this name, or another protocol."
    table = figures.standings(board, metrics, reference, buttons, pick)
    return Html("{}{}<div class='quiet'>{}</div>").format(_paragraph(protocol), table, text(key))


def groups(frame: pd.DataFrame, pair: Pair, buttons: bool = False) -> Html:
    """A system beside the reference by groups of users; frame: what `evaluation.Standings.slices` returns."""
    system, reference, metric = pair
    table = figures.group_differences(frame, system, reference, metric, buttons)
    words = (
        f"For whom {plain(system, 40)} gains or loses: {metric.name} of both on the same users with 95 % intervals; "
        f"▲ (better) and ▼ (worse{'' if metric.higher else '; less is better'}) mark differences whose interval "
        "excludes 0; numbers are in quartiles."
    )
    head = _back_header(f"{metric.name} of {system} beside {reference}, by groups of users") if buttons else Html("")
    return head + _paragraph(words) + table


def users(frame: pd.DataFrame, pair: Pair, order: Order, several_seeds: bool, ranks: bool) -> Html:
    """Users as `figures.user_differences` lists them, under a sentence about their order.

    several_seeds: whether a system has more than one seed. ranks: whether the columns a and b are ranks.
    """
    return _order_note(pair, order, several_seeds, ranks) + figures.user_differences(frame, *pair, ranks)


def users_of_group(
    frame: pd.DataFrame,
    pair: Pair,
    order: Order,
    several_seeds: bool,
    ranks: bool,
    group: tuple[str, str],
    shown: int,
    step: int,
    picked: int | None,
) -> Html:
    """`users` of one group with buttons: the first `shown` rows of the frame, `step` more per click, and the orders."""
    system, reference, metric = pair
    table = figures.user_differences(frame.head(shown), system, reference, metric, ranks, picked, buttons=True)
    names = {"system": plain(system, 40), "reference": plain(reference, 40)}
    orders = Html(" ").join(
        Html("<button type='button' data-press='order:{}' aria-pressed='{}'>{}</button>").format(
            one, str(one == order).lower(), text(words.format(**names))
        )
        for one, words in ORDERS.items()
    )
    more = len(frame) - shown
    rest = Html("<button type='button' data-press='more:'>{} of {:,} more</button>").format(min(more, step), more)
    whose = "all users" if group == EVERYBODY else f"{group[0]}: {group[1]}"
    count = frame["user"].nunique()
    several = "" if count == len(frame) else f" with {len(frame):,} queries, a row each"
    head = _back_header(f"{count:,} users{several}, {whose}; {metric.name} of {system} and {reference}")
    words = _order_note(pair, order, several_seeds, ranks)
    return Html("{}{}<div role='group' aria-label='order'>first where {}</div>{}{}").format(
        head, words, orders, table, rest if more > 0 else ""
    )


def _order_note(pair: Pair, order: Order, several_seeds: bool, ranks: bool) -> Html:
    system, reference, metric = plain(pair[0], 40), plain(pair[1], 40), pair[2]
    if not ranks:
        better = f"{'more' if metric.higher else 'less'} is better"
        first = {"system": f"{system} is better", "reference": f"{reference} is better", "most": "the two differ most"}
        means = "; means over the seeds" if several_seeds else ""
        return _paragraph(
            f"Users for whom {first[order]} come first: by the difference of {metric.name} ({better}; the mean of a "
            f"column over all queries is the metric{means})."
        )
    first = {
        "system": f"{system} has the answer nearer to the top",
        "reference": f"{reference} has the answer nearer to the top",
        "most": "either has the answer nearer to the top than the other",
    }[order]
    means = "; ranks are means over the seeds" if several_seeds else ""
    cutoff = metric.name.partition("@")[2]
    mark = f"✓: among the first {cutoff}; " if cutoff else ""
    return _paragraph(
        f"Users for whom {first} come first: by the difference of {metric.name}, then of the ranks ({mark}1 is "
        f"best{means})."
    )


def _back_header(title: str) -> Html:
    return Html("<div><button type='button' data-press='back:'>← Back</button> <b>{}</b></div>").format(text(title))


def _paragraph(words: str) -> Html:
    return Html("<div>{}</div>").format(text(words))
