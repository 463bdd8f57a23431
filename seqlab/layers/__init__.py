"""Modules and losses that systems are composed of."""
