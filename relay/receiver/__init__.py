"""The HTTP listeners: ingest for senders, admin for operators."""
