"""A relay that is killed again and again, and the oracle of what must have arrived."""
