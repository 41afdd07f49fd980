"""Cumulative streams to deltas."""
