"""Interactive views of models. Each has `.view`, its controls, and `.still()`, the same without a kernel.

A notebook displays a widget as the last expression of a cell; a report (SEQLAB_REPORT is set) displays its still and
creates no controls. Every class declares `question`, a sentence, and `needs` (see `fitting`, the views of a run). Names
are imported on first use.
"""

import lazy_loader

HOMES = {
    "views": ["fitting", "answer"],
    "history_editor": ["HistoryEditor"],
    "why": ["Why"],
    "what_would_change": ["WhatWouldChange"],
    "patching": ["Patching"],
    "attention_view": ["AttentionView"],
    "influence_view": ["InfluenceView"],
    "event_weights": ["EventWeights"],
    "logit_lens": ["LogitLens"],
    "direct_attribution": ["DirectAttribution"],
    "candidate_attention": ["CandidateAttention"],
    "event_times": ["IntensityOverTime", "AfterEvent"],
    "beam_steps": ["BeamSteps"],
    "decodings": ["Decodings"],
    "reasoning_steps": ["ReasoningSteps"],
    "neighbours": ["Neighbours"],
    "reliability": ["Reliability"],
    "related_items": ["RelatedItems"],
    "user_browser": ["UserBrowser"],
    "user_list": ["UserList"],
    "chosen_user": ["ChosenUser"],
    "item_map": ["ItemMap"],
    "code_tree": ["CodeTree"],
    "run_menu": ["RunMenu"],
    "compare_systems": ["CompareSystems"],
    "inputs.selection": ["Selection"],
    "workbench.workbench": ["Workbench"],
}
"""The public names by the module that defines them; views in the order of the workbench's tabs."""

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=HOMES)
