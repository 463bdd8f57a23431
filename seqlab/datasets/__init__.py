"""Named datasets or your own log -> InteractionLog -> Split -> Sequences -> Batch.

Names are imported when first used, so that `import seqlab.datasets` costs nothing. (The module behind
`catalog()` is called named.py: a module of the function's name would hide the function.)
"""

from importlib import import_module

from seqlab.runtime.text import DataError

_HOMES = {
    "InteractionLog": "log",
    "read": "reading",
    "load": "loading",
    "reload": "loading",
    "catalog": "named",
    "card": "named",
    "leave_one_out": "splits",
    "by_time": "splits",
    "cold_items": "splits",
    "k_core": "splits",
    "Split": "splits",
    "Queries": "splits",
    "Sequences": "sequences",
    "Batch": "sequences",
    "smells": "smell_tests",
    "typed_items": "typed_in",
    "typed_history": "history",
}
__all__ = ["DataError", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
