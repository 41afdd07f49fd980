"""The HTTP client of the sinks."""
