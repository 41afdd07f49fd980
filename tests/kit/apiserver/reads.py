"""Random selectors, valid or not, and requests that are refused."""

from __future__ import annotations

from random import Random

KEYS = ("a", "b", "team", "x.example/app", "-bad", "a b", "")
VALUES = ("1", "2", "core", "", "-bad", "a_b.c", "x" * 64)
_FIELDS = ("metadata.name", "metadata.namespace", "spec.x", "type", "status.phase")


def label_selector(random: Random) -> str:
    """A selector of labels; about every third one is malformed."""
    return ",".join(_requirement(random) for _ in range(random.randint(1, 3)))


def _requirement(random: Random) -> str:
    good = random.random() < 0.85
    key = random.choice(KEYS[:4] if good else KEYS)
    value = random.choice(VALUES[:4] if good else VALUES)
    space = random.choice(["", " "])
    forms = [
        key,
        f"!{key}",
        f"{key}{space}={space}{value}",
        f"{key}=={value}",
        f"{key}!={value}",
        f"{key} in ({value}, {random.choice(VALUES[:4])})",
        f"{key} notin ({value})",
        f"{key}>1",
        f"{key}<2",
    ]
    bad = [f"{key} in {value}", f"{key} in (", f"{key}={value}={value}", f"{key} >< 1", f"({key})"]
    return random.choice(forms if good else forms + bad)


def field_selector(random: Random) -> str:
    """A selector of fields; most name fields that exist."""
    terms = []
    for _ in range(random.randint(1, 2)):
        field = random.choice(_FIELDS[:2] if random.random() < 0.8 else _FIELDS)
        operator = random.choice(["=", "==", "!=", "~"] if random.random() < 0.2 else ["=", "!="])
        terms.append(f"{field}{operator}{random.choice(['s0', 's1', 'default', ''])}")
    return ",".join(terms)
