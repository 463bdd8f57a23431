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
    "standings": "comparison_tables",
    "group_differences": "comparison_tables",
    "user_differences": "comparison_tables",
    "cost_and_quality": "cost_quality",
    "recall_curves": "recall_at_k",
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
    "beam_widths": "found_by_width",
    "reasoning_steps": "reasoning_path",
    "reasoning_tradeoff": "reasoning_quality",
    "reasoning_gains": "reasoning_quality",
    "reasoning_masses": "reasoning_path",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
