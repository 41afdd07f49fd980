"""OTLP over HTTP: paths, media types and answers of logs and traces."""
