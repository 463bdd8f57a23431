"""Baselines that count, without a loss: the lower bounds that other systems are compared with. Notebook: 00."""
