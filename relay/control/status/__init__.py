"""Conditions of exporters and sinks, the same wherever a status is shown."""
