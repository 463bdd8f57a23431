"""Items as tuples of codes, written one after another. Control: random codes. Notebooks: 04 and 05."""
