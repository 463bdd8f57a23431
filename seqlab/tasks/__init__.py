"""What a system is measured by: the rank of each answer of a split."""

from seqlab.tasks.next_item import rank

__all__ = ["rank"]
