"""Temporal point processes: when the next event comes, and which. Control: household_rate. Notebook: 09."""
