"""Items as tuples of codes, generated one after another. Control: random codes. Notebooks: 04 and 05."""
