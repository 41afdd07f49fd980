"""OTLP requests of logs and traces, made and read by the official classes."""
