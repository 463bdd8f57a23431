"""seqlab: a lab for seeing how a sequential recommender thinks.

Submodules are imported when they are first used, so `import seqlab` is fast.
"""

from pkgutil import iter_modules

import lazy_loader

__version__ = "0.1.0"

HOMES = {
    "tracing": ["watch", "patch", "Tap"],
    "datasets": ["load", "read", "catalog", "leave_one_out", "by_time", "cold_items", "DataError"],
    "training.fit": ["fit"],
    "training.arms": ["open_run"],
    "training.evaluate": ["evaluate"],
    "runs.run": ["load_run", "Run"],
    "optimization.options": ["Options"],
    "adapters.recommendations": ["read_recommendations"],
    "adapters.functions": ["wrap"],
    "adapters.modules": ["tap", "untap"],
    "adapters.opening": ["open_model"],
    "reports.results": ["record"],
    "reports.render": ["render"],
}
"""The public names of the package, by the module that defines them."""

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [one.name for one in iter_modules(__path__)], HOMES)
