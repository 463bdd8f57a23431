"""Files, cache, settings, text, processes, pools, progress, provenance; nothing about recommenders."""
