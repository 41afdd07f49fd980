"""Parse MetricsQL selectors."""
