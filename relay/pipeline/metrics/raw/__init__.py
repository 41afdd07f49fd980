"""Series as they came, for sinks that speak remote write: no types, no assembly, no deltas."""
