"""The commands: run, check, explain, demo, version."""
