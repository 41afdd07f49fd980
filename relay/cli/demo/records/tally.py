"""Count records without regard to their order, so that sender and endpoint can be compared."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_MODULUS: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Tally:
    """A number of records, and the sum of their CRC-32 modulo 2^64.

    Equal tallies are of equal records, in any order, but for accidents.
    """

    records: int = 0
    checksum: int = 0

    def with_records(self, encoded: Iterable[bytes]) -> Tally:
        """Return the tally of these records, each as the official class writes it, besides."""
        count, checksum = self.records, self.checksum
        for one in encoded:
            count += 1
            checksum += zlib.crc32(one)
        return Tally(count, checksum % _MODULUS)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.records + other.records, (self.checksum + other.checksum) % _MODULUS)


NO_RECORDS: Final = Tally()
