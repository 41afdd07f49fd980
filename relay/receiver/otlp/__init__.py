"""OTLP over HTTP: paths, media types and answers of metrics, logs and traces."""
