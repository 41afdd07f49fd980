"""Label values that are chosen to collide cost no more than others."""

from __future__ import annotations

from collections.abc import Iterable

from relay.codec.remote_write.raw.label_table import LabelTable
from relay.codec.remote_write.v1 import label_key
from tests.own_time import LeastTime

PAIRS = 15
FIELDS = 1 << PAIRS
RATIO_MAX = 3.0
"""It was 4 to 7 where the halves of a product did not both count."""


def crafted(number: int) -> str:
    """A value of pairs of words: each bit changes bits of both words that once cancelled."""
    words = bytearray(b"p" * 7)  # up to the first whole word of the field
    for pair in range(PAIRS):
        both = bytearray(b"A" * 16)
        if number >> pair & 1:
            for at in (7, 11, 15):
                both[at] ^= 0x40
        words += both
    return words.decode()


def seconds(values: Iterable[str]) -> float:
    """The time that a table takes for one field with each of the values, s; the best of three."""
    keys = [label_key([("n", value)]) for value in values]
    least = LeastTime()
    for _ in range(3):
        table = LabelTable()
        with least.attempt():
            for key in keys:
                table.place(key)
    return least.s


def test_crafted_values_do_not_collide() -> None:
    size = len(crafted(0))
    plain = seconds(f"{number:0{size}}" for number in range(FIELDS))
    assert seconds(map(crafted, range(FIELDS))) < RATIO_MAX * plain
