"""Draws tidy tables as plotly figures or escaped HTML, independently of any model.

Names are imported lazily. No module has the name of a public function, because it would shadow the function.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "log_distributions": ["history_lengths", "popularity", "gaps", "repeats_by_lag"],
        "html": ["Html"],
        "tables": ["neighbours", "smells", "table", "top_tens", "user_cards"],
        "results": ["scoreboard", "differences", "slices", "training_curve"],
        "comparison_tables": ["standings", "group_differences", "user_differences"],
        "cost_quality": ["cost_and_quality"],
        "recall_at_k": ["recall_curves"],
        "attention_maps": ["attention", "attention_grid"],
        "influence_bars": ["influences"],
        "layer_reading": ["logit_lens", "lens_ranks"],
        "logit_parts": ["direct_attribution"],
        "event_memory": ["event_weights"],
        "histories": ["event_measures", "dropped_events", "patching_heatmap"],
        "catalogue_maps": ["item_map", "item_map_with_neighbours"],
        "code_trees": ["code_tree"],
        "codebooks": ["code_use", "code_levels", "code_training", "collisions", "two_codebooks"],
        "beams": ["beam_steps"],
        "found_by_width": ["beam_widths"],
        "decoding_lists": ["decodings"],
        "reasoning_path": ["reasoning_steps", "reasoning_masses"],
        "reasoning_quality": ["reasoning_tradeoff", "reasoning_gains"],
        "event_times": ["intensities", "event_changes", "survival_fans", "time_calibration"],
        "related_items": ["related_items", "pair_scores", "relatedness", "relatedness_verdict"],
        "click_models": ["attention_by_recency"],
        "forecasts": ["reliability", "risk_coverage", "selective"],
        "saving": ["save"],
        "study_tables": ["study_table", "verdicts"],
    },
)
