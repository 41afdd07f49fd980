"""Words for values and misspelt names in messages."""

from __future__ import annotations

from collections.abc import Iterable

from relay.config.yaml.source_positions import is_field, shown

_SUGGESTION_CHARS_MAX = 64  # difflib is quadratic
_CLOSE_CHARS_MIN = 5
_CLOSE_RATIO = 0.85


def described(value: object) -> str:
    """Return a value's kind, and its text if that helps and is short."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else f"the number {value}"


def kind_of(value: object) -> str:
    """Return a value's kind without its text: it may be a secret in the wrong place."""
    if isinstance(value, str):
        return "a string"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number" if is_number else described(value)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean "..."?`` for a misspelt word, "" if no known word is close."""
    if len(word) > _SUGGESTION_CHARS_MAX:
        return ""
    import difflib  # noqa: PLC0415 - for misspelt words alone

    folded = {_fold(candidate): candidate for candidate in sorted(known)}
    close = difflib.get_close_matches(_fold(word), folded, n=1)
    return f'did you mean "{folded[close[0]]}"?' if close else ""


def is_misspelt(word: str, field: str) -> bool:
    """Return True if a field that does not exist can only stand for ``field``."""
    if _fold(word) == _fold(field):
        return True
    if is_field(word) or not _CLOSE_CHARS_MIN <= len(word) <= _SUGGESTION_CHARS_MAX:
        return False
    import difflib  # noqa: PLC0415 - as above

    close = difflib.SequenceMatcher(None, _fold(word), _fold(field))
    return close.real_quick_ratio() > _CLOSE_RATIO and close.ratio() > _CLOSE_RATIO


def _fold(word: str) -> str:
    """Remove the differences between naming conventions."""
    return word.replace("_", "").replace("-", "").lower()
