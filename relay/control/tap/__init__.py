"""Show sampled points as they are handed to sinks."""
