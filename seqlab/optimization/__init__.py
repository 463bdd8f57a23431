"""The epoch loop for any module with a loss: options, checkpoint, processes."""
