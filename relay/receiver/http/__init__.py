"""The HTTP listeners and their connections."""
