"""The demo's logs and traces: what the platform sends, and what should become of it."""
