"""Candidates with labels: how likely is each one clicked, given the history? Control: click_rate. Notebook: 10."""
