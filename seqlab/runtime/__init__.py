"""Files, cache, settings, errors, processes, pools, progress, provenance: nothing of recommenders."""
