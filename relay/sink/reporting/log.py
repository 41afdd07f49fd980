"""Log lines of sinks, each with the fields that name one."""

from __future__ import annotations

import logging

from relay.sink.reporting.health import LogLine

logger = logging.getLogger("relay.sink")


def log_note(sink_id: str, exporter_id: str, note: LogLine) -> None:
    """Log what has become of a sink."""
    level = logging.INFO if note.good else logging.WARNING
    logger.log(
        level,
        "%s: %s",
        sink_name(sink_id, exporter_id),
        note.text,
        extra={"exporter": exporter_id, "sink": sink_id},
    )


def sink_name(sink_id: str, exporter_id: str) -> str:
    """Return a sink's name as log lines have it."""
    return f"exporter {exporter_id}, sink {sink_id}"
