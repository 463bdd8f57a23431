"""Named datasets or your own log -> InteractionLog -> Split -> Sequences -> Batch.

Names are imported when they are first used, so `import seqlab.datasets` is fast.
"""

import lazy_loader

from seqlab.runtime.text import DataError

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "log": ["InteractionLog"],
        "reading": ["read"],
        "loading": ["load", "reload"],
        "named": ["catalog", "card"],
        "splits": ["Split"],
        "split_names": ["split"],
        "split_rules": ["leave_one_out", "by_time", "cold_items"],
        "k_core": ["k_core"],
        "events": ["Events", "Ragged"],
        "sequences": ["Sequences", "Batch", "Queries"],
        "smell_tests": ["smells"],
        "shopping_trips": ["trips"],
        "joining": ["join"],
        "exposures": ["Exposures", "log_of_exposures"],
        "gaps": ["gap_report", "unfit_times"],
        "typed_in": ["typed_items"],
        "item_names": ["item_names"],
        "history": ["typed_history"],
    },
)
__all__ += ["DataError"]
