"""The official classes of OTLP's metrics, which few relays need.

They take 4 MiB, and their import 80 ms of the interpreter. Codecs import them where they need one,
and the event loop would wait meanwhile: :func:`load` is called in a thread before the first body of
metrics. Logs and traces need them for lists and mappings alone; the first of these imports them.
"""

from __future__ import annotations

_is_loaded = False


def are_loaded() -> bool:
    """Return whether :func:`load` has ended once."""
    return _is_loaded


def load() -> None:
    """Import them."""
    global _is_loaded  # noqa: PLW0603 - modules are imported once for the process
    import relay.codec.otlp.metrics_in.messages  # noqa: F401, PLC0415 - see above

    _is_loaded = True
