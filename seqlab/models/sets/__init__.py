"""Sets of items: baskets, and what completes them. Control: counts of pairs (`basket_pmi`). Notebook: 10."""
