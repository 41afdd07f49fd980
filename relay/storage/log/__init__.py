"""Shared by all logs on disk: frames, segments, file system, I/O thread, data directory."""
