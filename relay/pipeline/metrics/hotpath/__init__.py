"""The decode loops of remote write 1.0 and 2.0, and their slow paths."""
