"""What happens inside a system, as tables: influence, edits, patching, attention, attribution, reasoning steps."""

from seqlab.inspection.edits import smallest_edit
from seqlab.inspection.influence import surprise
from seqlab.inspection.patching import patched, tracing_grid

__all__ = ["patched", "smallest_edit", "surprise", "tracing_grid"]
