"""Writes the log lines of sinks, with the fields that name the sink."""

from __future__ import annotations

import logging

from relay.sink.reporting.health import LogLine

logger = logging.getLogger("relay.sink")


def log_note(sink_id: str, exporter_id: str, note: LogLine) -> None:
    """Log a change of a sink's state."""
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
