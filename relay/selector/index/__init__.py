"""Find the selectors that match a series without asking each."""
