"""The split within each user: the last events of every long history are queries, several of each user."""

from __future__ import annotations

import torch
from torch import Tensor

from seqlab.datasets.log import InteractionLog
from seqlab.datasets.splits import Split, order_note, prefix, queries_at, whole_log
from seqlab.runtime.text import DataError


def within_user(
    log: InteractionLog, share: float = 0.2, valid: float = 0.1, least: int = 10, columns: tuple[str, ...] = ()
) -> Split:
    """The last `share` of each user's events are test answers, the last `valid` of the others validation answers.

    Counts are rounded down: of 19 events, 3 are test answers for a share of .2, and of the other 16, one is a
    validation answer for .1. valid: may be 0; then there are no validation queries. Each answer is a query of its own,
    with all events of the user before it as its history. Users with fewer than `least` events have no query; all their
    events are training. Events are in the order of the log; if times are out of order there, a note counts the users.
    columns: further event columns to gather. Raises `DataError` unless 0 < share < 1, 0 <= valid < 1 and least >= 2.
    """
    if not (0 < share < 1 and 0 <= valid < 1 and least >= 2):
        raise DataError(
            "within-user: the shares of test and validation lie between 0 and 1, and a user with queries has at least "
            f"2 events (got {share:g}, {valid:g} and {least})."
        )
    whole, lengths = whole_log(log, columns)
    has_query = lengths >= least
    n_test = torch.where(has_query, _part(lengths, share), 0)
    n_valid = torch.where(has_query, _part(lengths - n_test, valid), 0)
    kept = lengths - n_test - n_valid
    train, notes = prefix(whole, kept), order_note(log)
    inside, queried = (kept - 1).clamp(min=0), n_test > 0
    notes.append(
        f"{int(queried.sum()):,} users have queries, and {int(inside[queried].sum()):,} of the training events follow "
        f"another one of theirs. {int((~queried).sum()):,} users have fewer than {least} events or none to spare: they "
        f"are trained on only ({int(inside[~queried].sum()):,} such events)."
    )
    at_valid, at_test = _answers(whole.offsets, kept, n_valid), _answers(whole.offsets, kept + n_valid, n_test)
    valid_queries = queries_at(log, whole, whole.users[at_valid], at_valid, notes, "validation")
    test_queries = queries_at(log, whole, whole.users[at_test], at_test, notes, "test")
    name = f"within-user {share:g} {valid:g}" + (f" {least}" if least != 10 else "")
    return Split(log, train, valid_queries, test_queries, name, tuple(notes))


def _part(counts: Tensor, share: float) -> Tensor:
    """The share of each count, rounded down; a product such as .2 * 15 is 3."""
    return (counts.double() * share + 1e-9).floor().long()


def _answers(offsets: Tensor, first: Tensor, count: Tensor) -> Tensor:
    """The places of the events `first` to `first + count` of each user, in the order of users."""
    row = torch.repeat_interleave(torch.arange(len(count)), count)
    return (offsets[:-1] + first)[row] + torch.arange(len(row)) - (count.cumsum(0) - count)[row]
