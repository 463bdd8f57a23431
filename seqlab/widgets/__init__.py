"""Figures bound to a live model. Each has `.view`, the live controls, and `.still()`, the same without a kernel.

In a notebook a widget is shown by naming it; in a report (SEQLAB_REPORT is set) it makes no control and shows its
still. Names are imported when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "inputs.selection": ["Selection"],
        "user_list": ["UserList"],
        "user_browser": ["UserBrowser"],
        "item_map": ["ItemMap"],
        "attention_view": ["AttentionView"],
        "influence_view": ["InfluenceView"],
        "history_editor": ["HistoryEditor"],
        "why": ["Why"],
        "what_would_change": ["WhatWouldChange"],
        "patching": ["Patching"],
        "code_tree": ["CodeTree"],
        "beam_steps": ["BeamSteps"],
        "reasoning_steps": ["ReasoningSteps"],
        "neighbours": ["Neighbours"],
        "workbench.workbench": ["Workbench"],
        "compare_systems": ["CompareSystems"],
    },
)
