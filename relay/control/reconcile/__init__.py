"""Bring the desired exporters into service, and report on the sinks that run."""
