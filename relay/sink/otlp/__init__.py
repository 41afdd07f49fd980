"""OTLP of logs and traces."""
