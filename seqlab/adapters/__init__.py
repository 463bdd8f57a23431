"""Systems that were not written here: a table of recommendations, a scoring function, any `nn.Module`."""
