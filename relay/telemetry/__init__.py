"""Define, collect and expose the relay's own metrics."""
