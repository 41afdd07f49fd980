"""Turns accepted bodies into points in sinks' batches. No I/O, no clock, no randomness."""
