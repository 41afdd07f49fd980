"""Queues on disk: store, segment files, owners."""
