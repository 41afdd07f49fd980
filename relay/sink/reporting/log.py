"""Writes the log lines of sinks, with the fields that name the sink."""

from __future__ import annotations

import logging

from relay.sink.reporting.health import LogLine

logger = logging.getLogger("relay.sink")


class SinkLog:
    """Logs the changes of a sink's state."""

    __slots__ = ("_exporter_id", "_sink_id")

    def __init__(self, sink_id: str, exporter_id: str) -> None:
        self._sink_id = sink_id
        self._exporter_id = exporter_id

    def __call__(self, note: LogLine) -> None:
        """Log a change."""
        logger.log(
            logging.INFO if note.good else logging.WARNING,
            "%s: %s",
            sink_name(self._sink_id, self._exporter_id),
            note.text,
            extra={"exporter": self._exporter_id, "sink": self._sink_id},
        )

    def __repr__(self) -> str:
        return f"<SinkLog {self._exporter_id} {self._sink_id}>"


def sink_name(sink_id: str, exporter_id: str) -> str:
    """Return a sink's name as log lines have it."""
    return f"exporter {exporter_id}, sink {sink_id}"
