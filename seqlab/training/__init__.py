"""fit: prepare, train, calibrate, evaluate, and write the run folder."""
