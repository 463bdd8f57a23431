"""Tidy tables -> plotly figures or escaped HTML. Nothing here knows a model.

Names are imported when first used, so that `import seqlab.figures` costs nothing. (No file has the name of a function
in it: the module would hide the function.)
"""

from importlib import import_module

_HOMES = {
    "history_lengths": "log_portraits",
    "popularity": "log_portraits",
    "gaps": "log_portraits",
    "repeats_by_lag": "log_portraits",
    "smells": "tables",
    "table": "tables",
    "top_tens": "tables",
    "user_cards": "tables",
    "Html": "tables",
    "scoreboard": "results",
    "differences": "results",
    "slices": "results",
    "training_curve": "results",
    "standings": "comparisons",
    "group_differences": "comparisons",
    "user_differences": "comparisons",
    "cost_and_quality": "comparisons",
    "recall_curves": "comparisons",
    "attention": "attention_maps",
    "attention_grid": "attention_maps",
    "influences": "memory",
    "event_measures": "histories",
    "dropped_events": "histories",
    "patched_places": "histories",
    "item_map": "catalogue_maps",
    "item_map_with_neighbours": "catalogue_maps",
    "code_tree": "code_trees",
    "code_use": "codebooks",
    "code_levels": "codebooks",
    "code_training": "codebooks",
    "collisions": "codebooks",
    "two_codebooks": "codebooks",
    "beam_steps": "beams",
    "beam_widths": "beams",
    "reasoning_steps": "reasoning",
    "reasoning_tradeoff": "reasoning",
    "reasoning_gains": "reasoning",
    "reasoning_masses": "reasoning",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
