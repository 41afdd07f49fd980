"""Merge objects: patches of every kind, and server-side apply with its managed fields."""
