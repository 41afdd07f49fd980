"""Implement the commands: run, check, explain, demo, version."""
