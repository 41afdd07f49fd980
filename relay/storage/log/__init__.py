"""What every log on disk stands on: frames, file system, I/O thread, data directory."""
