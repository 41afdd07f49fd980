"""Sink kinds, workers and stored queues of tests."""
