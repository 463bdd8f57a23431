"""Latent steps between the history and the answer. Control: the same encoder without them. Notebook: 06."""
