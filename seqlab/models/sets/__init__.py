"""Sets: what completes a basket, and what is clicked among the items that were shown.

Control of baskets: counts of pairs (`basket_pmi`); of slates: `slate_clicks`. Notebook: 10.
"""
