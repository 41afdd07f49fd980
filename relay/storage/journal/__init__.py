"""The ingest journal: a write-ahead log of accepted requests, trimmed as sinks finish them."""
