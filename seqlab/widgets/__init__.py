"""Interactive views of models. Each has `.view`, its controls, and `.still()`, the same without a kernel.

A notebook displays a widget as the last expression of a cell; a report (SEQLAB_REPORT is set) displays its still and
creates no controls. Names are imported on first use.
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
        "decodings": ["Decodings"],
        "reasoning_steps": ["ReasoningSteps"],
        "neighbours": ["Neighbours"],
        "workbench.workbench": ["Workbench"],
        "compare_systems": ["CompareSystems"],
        "event_times": ["IntensityOverTime", "AfterEvent"],
        "related_items": ["RelatedItems"],
        "candidate_attention": ["CandidateAttention"],
    },
)
