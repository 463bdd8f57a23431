"""Run folders: what identifies a run, and how runs are written, read and found."""
