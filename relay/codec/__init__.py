"""Encode and decode bytes: compression, remote write, OTLP. No I/O, no clock."""
