"""Find the selectors that match a series without evaluating each of them."""
