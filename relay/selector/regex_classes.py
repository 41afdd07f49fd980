r"""Translate named character classes of Go's regular expressions to RE2's syntax.

Go 1.25 (regexp/syntax, "\p{name}") accepts names in any case, ignoring blanks, dashes and
underscores, the long names of Unicode's general categories, and ``Any``, ``ASCII``, ``Assigned``,
``Cn`` and ``LC``. RE2 accepts exact short names only. RE2 has no class for unassigned characters:
``\p{Cn}`` is the complement of all others, which cannot stand inside brackets.
"""

from __future__ import annotations

import re
from typing import Final

from relay.runtime.errors import SelectorError

_CATEGORIES: Final = {
    "letter": "L",
    "casedletter": "LC",
    "uppercaseletter": "Lu",
    "lowercaseletter": "Ll",
    "titlecaseletter": "Lt",
    "modifierletter": "Lm",
    "otherletter": "Lo",
    "mark": "M",
    "combiningmark": "M",
    "nonspacingmark": "Mn",
    "spacingmark": "Mc",
    "enclosingmark": "Me",
    "number": "N",
    "decimalnumber": "Nd",
    "digit": "Nd",
    "letternumber": "Nl",
    "othernumber": "No",
    "punctuation": "P",
    "punct": "P",
    "connectorpunctuation": "Pc",
    "dashpunctuation": "Pd",
    "openpunctuation": "Ps",
    "closepunctuation": "Pe",
    "initialpunctuation": "Pi",
    "finalpunctuation": "Pf",
    "otherpunctuation": "Po",
    "symbol": "S",
    "mathsymbol": "Sm",
    "currencysymbol": "Sc",
    "modifiersymbol": "Sk",
    "othersymbol": "So",
    "separator": "Z",
    "spaceseparator": "Zs",
    "lineseparator": "Zl",
    "paragraphseparator": "Zp",
    "other": "C",
    "control": "Cc",
    "cntrl": "Cc",
    "format": "Cf",
    "surrogate": "Cs",
    "privateuse": "Co",
    "unassigned": "Cn",
}
_SHORT: Final = frozenset(_CATEGORIES.values()) - {"Cn", "LC"}
_BY_FOLDED: Final = {name.lower(): name for name in _SHORT} | _CATEGORIES

_ASSIGNED: Final = r"\pL\pM\pN\pP\pS\pZ\pC"
# Members of Go's additional classes, and of their complements; "" if not expressible as a list.
_OWN: Final = {
    "lc": (r"\p{Lu}\p{Ll}\p{Lt}", ""),
    "ascii": (r"\x00-\x7F", r"\x{80}-\x{10FFFF}"),
    "assigned": (_ASSIGNED, ""),
    "cn": ("", _ASSIGNED),
}
_ALIASES: Final = {"casedletter": "lc", "unassigned": "cn"}

_TOKEN: Final = re.compile(
    r"\\Q.*?(?:\\E|\Z)|\\(?P<sign>[pP])\{(?P<not>\^?)(?P<name>[^}]*)\}|\\.|\[\^?\]?|\[:\^?\w+:\]|\]",
    re.DOTALL,
)
_POSIX: Final = re.compile(r"\[:\^?\w+:\]")
_NAMED: Final = re.compile(r"\\[pP]\{")


def translated(pattern: str) -> str:
    """Return the pattern with Go-only class names expanded.

    Raise SelectorError for a class that RE2 cannot express.
    """
    if _NAMED.search(pattern) is None:
        return pattern
    parts: list[str] = []
    pos = 0
    in_brackets = False
    while (found := _TOKEN.search(pattern, pos)) is not None:
        parts.append(pattern[pos : found.start()])
        token = found[0]
        if in_brackets and (posix := _POSIX.match(pattern, found.start())) is not None:
            token = posix[0]
        elif in_brackets and token.startswith("["):
            token = token[:1]
        elif found["sign"]:
            negated = (found["sign"] == "P") != bool(found["not"])
            token = _class(found["name"], token, negated=negated, in_brackets=in_brackets)
            if not token:
                raise SelectorError(
                    f"invalid regular expression: {found[0]} cannot stand inside brackets",
                    text=pattern,
                    offset=found.start(),
                    hint="write it as an alternative beside the brackets, divided by |",
                )
        elif token.startswith("["):
            in_brackets = True
        elif token.startswith("]"):
            in_brackets = False
        parts.append(token)
        pos = found.start() + (len(found[0]) if found["sign"] else len(token))
    parts.append(pattern[pos:])
    return "".join(parts)


def _class(name: str, written: str, *, negated: bool, in_brackets: bool) -> str:
    """Return RE2's notation of a class; unchanged if RE2 must decide, "" if there is none."""
    folded = re.sub(r"[ _-]", "", name).lower()
    own = _OWN.get(_ALIASES.get(folded, folded))
    if own is None:
        short = _BY_FOLDED.get(folded)
        if short is None and (name.islower() or name.isupper()):  # a script, in any case
            short = "_".join(part.capitalize() for part in re.split(r"[ _-]", name))
        if short is None or short == name:
            return written
        return rf"\{'P' if negated else 'p'}{{{short}}}"
    members, others = own[::-1] if negated else own
    if members:
        return members if in_brackets else f"[{members}]"
    return "" if in_brackets else f"[^{others}]"
