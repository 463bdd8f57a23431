"""Histories of item ids, encoded into one state that scores the catalogue. Control: SASRec. Notebook: 03."""
