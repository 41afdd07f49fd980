"""Decide on access to the API: users and their roles, limits, certificates."""
