"""Serve health, metrics, status and explanations of a running relay."""
