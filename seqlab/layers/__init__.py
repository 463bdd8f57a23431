"""Parts that models are made of; none knows a model."""
