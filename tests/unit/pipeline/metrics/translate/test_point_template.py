"""Prefixes by templates are made of a series' own labels, whatever is read meanwhile."""

from __future__ import annotations

import pytest

from relay.codec.remote_write.label_intern import LabelInterner
from relay.codec.remote_write.label_parser import LabelParser
from relay.codec.remote_write.v1 import label_key
from relay.pipeline.metrics.translate.point_template import PointTemplates

OWN = label_key([("__name__", "m"), ("a", "1"), ("b", "x" * 60)])
OTHERS = [
    label_key([("__name__", "l" * 900), ("q", "2"), ("r", "3")]),
    label_key([("__name__", "z"), ("q", "2"), ("r", "4")]),
]


def parser() -> LabelParser:
    return LabelParser(labels_max=99, bytes_max=9_999)


def test_other_labels_that_are_read_meanwhile_change_no_prefix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = PointTemplates().prefix(parser().read(OWN), frozenset())
    others, intern = parser(), LabelInterner.__missing__

    def reads_others(self: LabelInterner, field: bytes) -> tuple[str, str]:
        for key in OTHERS:
            others.read(key)
        return intern(self, field)

    labels = parser().read(OWN)
    monkeypatch.setattr(LabelInterner, "__missing__", reads_others)
    assert PointTemplates().prefix(labels, frozenset()) == expected
    assert b"x" * 60 in expected
