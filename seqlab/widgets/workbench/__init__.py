"""The workbench: every view of one run, side by side."""
