"""Benchmark the relay and its peers; ``python -m bench --help``. Needs Linux's ``/proc``."""
