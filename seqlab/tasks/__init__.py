"""What a system is measured by: each task ranks the answers of a split's questions."""

from seqlab.tasks.next_item import rank

__all__ = ["rank"]
