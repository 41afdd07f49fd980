"""Bytes to values and back: compression, remote write, OTLP. No I/O, no clock."""
