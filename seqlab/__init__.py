"""seqlab: a lab for seeing how a sequential recommender thinks.

Everything here is imported when it is first used, so that `import seqlab` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

__version__ = "0.1.0"

_HOMES = {
    "watch": "tracing", "patch": "tracing", "Tap": "tracing",
    "load": "datasets", "read": "datasets", "catalog": "datasets", "leave_one_out": "datasets", "by_time": "datasets",
    "cold_items": "datasets", "DataError": "datasets",
    "fit": "training.fit", "load_run": "runs.run", "Options": "optimization.options", "Run": "runs.run",
    "record": "reports.results", "render": "reports.render",
}  # fmt: skip
_ROOMS = frozenset(module.name for module in iter_modules(__path__))
__all__ = sorted({*_HOMES, *_ROOMS})


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _ROOMS:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
