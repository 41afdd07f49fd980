"""The relay: remote-write in, customers' OTLP endpoints out, chosen by Exporter resources."""

__version__ = "0.1.0"
