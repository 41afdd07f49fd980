"""From an accepted body to points in sinks' batches. No I/O, no clock, no random."""
