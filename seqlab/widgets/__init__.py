"""Figures bound to a live model. Each has `.view`, the live controls, and `.still()`, the same without a kernel.

In a notebook a widget is shown by naming it; in a report (SEQLAB_REPORT is set) it makes no control and shows its
still. Names are imported when first used.
"""

from importlib import import_module

_HOMES = {
    "Selection": "inputs.selection",
    "UserList": "user_list",
    "UserBrowser": "user_browser",
    "ItemMap": "item_map",
    "AttentionView": "attention_view",
    "Memories": "memories",
    "HistoryEditor": "history_editor",
    "Why": "why",
    "WhatWouldChange": "what_would_change",
    "Patching": "patching",
    "CodeTree": "code_tree",
    "BeamSteps": "beam_steps",
    "ReasoningSteps": "reasoning_steps",
    "Neighbours": "neighbours",
    "Workbench": "workbench.workbench",
    "CompareSystems": "compare_systems",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
