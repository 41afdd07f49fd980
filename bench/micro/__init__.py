"""Measurements of single parts, each in one process: ``python -m bench.micro.selection``."""
