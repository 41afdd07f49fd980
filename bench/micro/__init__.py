"""Measure single parts, each in one process: ``python -m bench.micro.selection``."""
