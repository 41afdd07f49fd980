"""How a whole answer is written: small ones as one piece, large bodies without another copy."""

from __future__ import annotations

import asyncio
import re

import pytest

from relay.receiver.http.whole_answer import LARGE_BYTES, WholeAnswer


class Written(asyncio.WriteTransport):
    """Keeps what is written, as it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[object] = []

    def write(self, data: object) -> None:
        self.pieces.append(data)


def undated(data: bytes) -> bytes:
    return re.sub(rb"Date: [^\r]*\r\n", b"", data)


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("size", [0, 1, LARGE_BYTES - 1, LARGE_BYTES, 3 * LARGE_BYTES])
def test_every_size_is_written_as_it_is_encoded(size: int, closes: bool) -> None:
    body, written = bytes(size), Written()
    answer = WholeAnswer(200, {"Server": "relay"}, body)
    answer.write(written, closes=closes)
    pieces = [bytes(one) for one in written.pieces if isinstance(one, bytes)]
    whole = answer.encode_last() if closes else answer.encode()
    assert undated(b"".join(pieces)) == undated(whole)
    assert whole.endswith(b"\r\n\r\n" + body)
    assert (b"Connection: close" in whole) == closes
    assert len(pieces) == (1 if size < LARGE_BYTES else 2)
    assert size < LARGE_BYTES or written.pieces[1] is body
