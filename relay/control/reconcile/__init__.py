"""Bring the desired exporters into service, and report on the running sinks."""
