"""Translates labels to OTLP: resource, scope, metric and point template."""
