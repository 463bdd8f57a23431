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
    import pandas as pd

    from seqlab.evaluation.comparison import Order

    Pair = tuple[str, str, str]  # a system, the reference, and a metric

ORDERS = {"system": "{system} is better", "reference": "{reference} is better", "most": "they differ most"}


def all_systems(
    board: pd.DataFrame,
    metrics: tuple[str, ...],
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
        "Differences are paired by user: ▲ better and ▼ worse where the interval excludes 0, ○ otherwise. "
        "A floor is not trained. Milliseconds: ten items for a batch of 64 users, on this machine. Peak memory is "
        "left out: systems trained in one process share it."
    )
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
        f"For whom {plain(system, 40)} gains or loses: {metric} of both on the same users with 95 % intervals; "
        "▲ and ▼ mark differences whose interval excludes 0; lengths and counts are in quartiles of users."
    )
    head = _back_header(f"{metric} of {system} beside {reference}, by groups of users") if buttons else Html("")
    return head + _paragraph(words) + table


def users(frame: pd.DataFrame, pair: Pair, order: Order, several_seeds: bool) -> Html:
    """Users as `figures.user_differences` lists them, under a sentence about their order.

    several_seeds: whether a system has more than one seed.
    """
    return _order_note(pair, order, several_seeds) + figures.user_differences(frame, *pair)


def users_of_group(
    frame: pd.DataFrame,
    pair: Pair,
    order: Order,
    several_seeds: bool,
    group: tuple[str, str],
    shown: int,
    step: int,
    picked: int | None,
) -> Html:
    """`users` of one group with buttons: the first `shown` rows of the frame, `step` more per click, and the orders."""
    system, reference, metric = pair
    table = figures.user_differences(frame.head(shown), system, reference, metric, picked, buttons=True)
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
    head = _back_header(f"{len(frame):,} users, {whose}; {metric} of {system} and {reference}")
    words = _order_note(pair, order, several_seeds)
    return Html("{}{}<div role='group' aria-label='order'>first where {}</div>{}{}").format(
        head, words, orders, table, rest if more > 0 else ""
    )


def _order_note(pair: Pair, order: Order, several_seeds: bool) -> Html:
    system, reference, metric = pair
    first = {
        "system": f"{plain(system, 40)} has the answer nearer to the top",
        "reference": f"{plain(reference, 40)} has the answer nearer to the top",
        "most": "either has the answer nearer to the top than the other",
    }[order]
    means = "; ranks are means over the seeds" if several_seeds else ""
    return _paragraph(
        f"Users for whom {first} come first: by the difference of {metric}, then of the ranks (✓: among the first "
        f"{metric.partition('@')[2]}; 1 is best{means})."
    )


def _back_header(title: str) -> Html:
    return Html("<div><button type='button' data-press='back:'>← Back</button> <b>{}</b></div>").format(text(title))


def _paragraph(words: str) -> Html:
    return Html("<div>{}</div>").format(text(words))
