"""The run folder: what defines a run, how one is written, read and found."""
