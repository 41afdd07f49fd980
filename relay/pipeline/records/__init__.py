"""Logs and traces: recognise resources, match them, and forward their records."""
