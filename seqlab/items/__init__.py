"""Item vectors and item graphs, the inputs of models and tokenizers."""
