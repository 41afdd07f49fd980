"""The relay: remote-write in, customers' OTLP endpoints out, chosen by Exporter resources."""

from relay.runtime.extension_check import check_extensions

__version__ = "0.2.0"

check_extensions()
