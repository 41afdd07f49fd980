"""OTLP out: batches, points, responses."""
