"""Systems for baskets and slates: what completes a basket, and what is clicked among the items that were shown."""
