"""Delivers sealed batches to endpoints; every point is counted by its outcome."""
