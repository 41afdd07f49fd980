"""The relay: remote-write in, customers' OTLP endpoints out, chosen by Exporter resources."""

from relay import hot_path as hot_path

__version__ = "0.1.0"
