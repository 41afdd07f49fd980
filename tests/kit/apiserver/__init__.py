"""Run the relay's own API as a process."""
