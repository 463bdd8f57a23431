"""The workbench: up to three runs on one page, whose views follow one selection, one user and one history."""
