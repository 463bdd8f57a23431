"""Tasks: how a system is measured on the queries of a split."""

from seqlab.tasks.next_item import rank

__all__ = ["rank"]
