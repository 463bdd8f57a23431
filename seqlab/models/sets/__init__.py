"""Sets of items: baskets and slates, what completes them and what is clicked. Control: counts. Notebook: 10."""
