"""Narrow a selector by one metric: to it alone, or to all but it. Pure.

Selectors with alternatives, more than one pair of braces or invisible characters are left to
people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from relay.selector.matchers import NAME
from relay.selector.quoting import quote_string
from relay.ui.views.texts import visible

_STRING: Final = r'"(?:[^"\\\n]|\\.)*"'
_SIMPLE: Final = re.compile(
    rf"\s*(?P<name>[A-Za-z_:][A-Za-z0-9_:.]*)?\s*(?:\{{(?P<inner>(?:{_STRING}|[^\"'`{{}}])*)\}})?\s*"
)
_ALTERNATIVE: Final = re.compile(r"\bor\b", re.IGNORECASE)
_OF_NAME: Final = re.compile(rf"\s*{NAME}\s*(?:=~|!~|!=|=)\s*{_STRING}\s*(?:,|\Z)")
_PLAIN: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Selectors that take one metric alone, or leave it out; "" where there is none to offer."""

    only: str = ""
    without: str = ""


def narrowed(selector: str, metric: str) -> Narrowing:
    """Return what a selector becomes that matches a metric, among others or not."""
    found = _SIMPLE.fullmatch(selector)
    if visible(selector + metric) != selector + metric:
        return Narrowing()
    inner = "" if found is None else (found["inner"] or "").strip().rstrip(",").strip()
    if found is None or _ALTERNATIVE.search(re.sub(_STRING, '""', inner)):
        return Narrowing()
    name = found["name"] or ""
    rest = _OF_NAME.sub("", inner).strip().rstrip(",")
    if _PLAIN.fullmatch(metric) and metric != "or":
        only = f"{metric}{{{rest}}}" if rest else metric
    else:
        only = _braces(rest, f"{NAME}={quote_string(metric)}")
    without = "" if name else _braces(inner, f"{NAME}!={quote_string(metric)}")
    return Narrowing("" if only == selector.strip() else only, without)


def _braces(*matchers: str) -> str:
    return "{" + ",".join(one for one in matchers if one) + "}"
