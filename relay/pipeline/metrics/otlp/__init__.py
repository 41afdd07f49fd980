"""OTLP metrics in: the streams of their points, matched like series and forwarded as they came."""
