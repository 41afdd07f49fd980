"""Which sinks a series goes to, within the boundary of its project."""
