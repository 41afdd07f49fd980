"""Encode OTLP requests and parse OTLP responses."""
