"""Queued requests of a sink: shards in memory and on disk."""
