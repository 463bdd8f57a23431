"""Counting: no loss, no gradient. The floors that every table shows. Notebook: 00."""
