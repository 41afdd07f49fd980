"""The Exporter resource: its fields, loading, validation and secrets."""
