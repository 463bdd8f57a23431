"""How any module with a loss is trained: options, the epoch loop, checkpoints; it knows no split."""
