"""Parse MetricsQL selectors and match series against them. No I/O, no clock."""
