"""Hostile text stays text, and stays in its place."""

from __future__ import annotations

import unicodedata
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.runtime.excerpt import clipped
from relay.ui.rendering import Rendering
from relay.ui.static_files import StaticFiles
from relay.ui.views.texts import visible

RENDERING = Rendering(StaticFiles())
EMBEDDINGS = {"RLE", "LRE", "RLO", "LRO", "PDF", "RLI", "LRI", "FSI", "PDI"}
"""Classes of characters that change the direction of text (UAX 9)."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("über 10 µs – ja", "über 10 µs – ja"),
        ("two\nlines\tand", "two\nlines\tand"),
        ("a\x00b\x1b[31m", "a\\x00b\\x1b[31m"),
        ("admin\u202egnp.exe", "admin\\u202egnp.exe"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        ("half\ud800", "half\\ud800"),
        ("e" + "\u0301" * 30, "e" + "\u0301" * 4),
        ("日本 🎉", "日本 🎉"),
    ],
)
def test_what_is_invisible_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(alphabet=st.characters()))
def test_nothing_that_moves_text_is_left(text: str) -> None:
    shown = visible(text)
    for one in shown:
        assert unicodedata.category(one) not in ("Cc", "Cs") or one in "\n\t", repr(one)
        assert unicodedata.bidirectional(one) not in EMBEDDINGS, repr(one)
    assert visible(shown) == shown
    shown.encode()


def test_long_text_is_cut() -> None:
    assert clipped("abc", 3) == "abc"
    assert clipped("abcd", 3) == "ab…"


@given(st.text())
def test_a_template_escapes_and_writes_out(text: str) -> None:
    template = RENDERING._environment.from_string('<p title="{{ text }}">{{ text }}</p>')
    html = template.render(text=text)
    inner = html.removeprefix('<p title="').removesuffix("</p>")
    assert inner.count("<") == 0
    assert inner.count('"') == 1
    assert unescape(inner.partition('">')[2]) == visible(text)
