"""Measure what the relay is to reach beside its peers, all in one run."""
