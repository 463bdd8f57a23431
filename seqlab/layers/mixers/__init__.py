"""Layers that mix the events of a history: attention, state-space models."""
