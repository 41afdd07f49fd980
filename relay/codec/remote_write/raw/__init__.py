"""Batches of series as they came, and their encoders: remote write 1.0 and 2.0 out."""
