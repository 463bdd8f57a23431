"""Encoders of item-id histories into one state that scores the catalogue. Control: SASRec. Notebook: 03."""
