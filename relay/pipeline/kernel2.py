"""The loop of remote write 2.0: every series' labels are looked up, none recognised in place.

A request of this version brings its own table of strings, and its series refer to it by numbers
that mean something else in the next request. In plain Python it costs less to write the labels out
and look them up than to compare them one by one; ``kernel2.pyx`` (:mod:`relay.hot_path`) does
compare them, with the series that followed last time, as :mod:`relay.pipeline.kernel` does with
those of version 1.0. Everything behind that is the same in both versions and in both builds.
"""

from __future__ import annotations

from relay.pipeline.careful import Resolution
from relay.pipeline.intake import Intake, leave
from relay.pipeline.table import SeriesTable
from relay.pipeline.unusual2 import take_series
from relay.wire.remote_write2 import parse_request


def consume2(table: SeriesTable, body: bytes, intake: Intake, resolution: Resolution) -> None:
    """Append every good sample of a decompressed 2.0 request to the batches of its series' routes.

    ``table`` is the one that ``resolution`` looks into. Raises DecodeError where the body is not a
    Request, TooLargeError for more entries than :data:`~relay.pipeline.careful.CAREFUL_MAX`. Then
    :meth:`Intake.undo` puts every batch back.
    """
    del table  # nothing is recognised here
    symbols, spans = parse_request(body)
    for start, stop in spans:
        take_series(body, start, stop, symbols, intake, resolution)
    leave(intake)
