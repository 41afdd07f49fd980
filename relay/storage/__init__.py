"""Durable logs on disk: the ingest journal and the parts that every log shares."""
