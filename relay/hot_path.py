"""Which build of the hot path runs, decided in one place, before any other module is loaded.

A few modules exist twice: as plain Python, the readable reference, and as an extension module
beside it, made by ``pip install .`` where there is a C compiler. Python prefers the extension.
Rules:

* All of :data:`MODULES` are of one build, or what one half keeps in raw memory the other would not
  find.
* An extension that is older than what it is made of is *stale* and never runs: it would hide edits.
* ``RELAY_BUILD=interpreted`` takes the plain modules, ``RELAY_BUILD=compiled`` refuses to run
  without the others; unset, the compiled ones run where there are any.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final, Literal

Build = Literal["compiled", "interpreted"]

SWITCH: Final = "RELAY_BUILD"
"""The environment variable that forces a build."""

MODULES: Final = (
    "relay.pipeline.guesses",
    "relay.pipeline.family",
    "relay.pipeline.forms",
    "relay.pipeline.intake",
    "relay.pipeline.kernel",
    "relay.pipeline.kernel2",
    "relay.pipeline.layouts",
    "relay.pipeline.outcomes",
    "relay.pipeline.request",
    "relay.pipeline.resolve",
    "relay.pipeline.rounds",
    "relay.pipeline.series",
    "relay.pipeline.streams",
    "relay.pipeline.table",
    "relay.wire.arena",
    "relay.wire.batch",
    "relay.wire.fresh_bytes",
    "relay.wire.label_reader",
)
"""Every module that may be an extension. The first has no plain twin: nothing plain needs one."""

_PACKAGE = Path(__file__).parent
_CIMPORT = re.compile(r"^from (relay[.\w]+) cimport ", re.MULTILINE)


class _PlainModules(importlib.abc.MetaPathFinder):
    """Finds the plain module where an extension lies beside it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See :class:`importlib.abc.MetaPathFinder`."""
        if fullname not in MODULES:
            return None
        return importlib.util.spec_from_file_location(fullname, _source(fullname, ".py"))


def choose() -> tuple[Build, str]:
    """Settle which build runs; returns it, and why it is not the compiled one, "" where it is.

    Raises ImportError where the switch asks for what there is not.
    """
    wanted = os.environ.get(SWITCH, "")
    if wanted not in ("", "compiled", "interpreted"):
        raise ImportError(f"{SWITCH} is {wanted!r}; it may be compiled, interpreted, or unset")
    reason = f"{SWITCH} says so" if wanted == "interpreted" else _lacking()
    if not reason:
        return "compiled", ""
    if wanted == "compiled":
        raise ImportError(
            f"{SWITCH} is compiled, but {reason}; with a C compiler, pip install . builds it"
        )
    sys.meta_path.insert(0, _PlainModules())
    return "interpreted", reason


def _lacking() -> str:
    """Why the compiled build cannot run, or ""."""
    extensions = [_extension(name) for name in MODULES]
    if not any(extensions):
        return "it was not built"
    for name, extension in zip(MODULES, extensions, strict=True):
        if extension is None:
            return f"{name} was not built"
        if extension.stat().st_mtime < max(map(_changed_at, _sources(name))):
            return f"{name} is older than its source"
    return ""


def _sources(name: str) -> list[Path]:
    """What an extension is made of, what it knows of others included: where their fields lie in
    memory, and what is inlined. The plain module is not, where there is one on raw memory."""
    raw = _source(name, ".pyx")
    found = [raw if raw.is_file() else _source(name, ".py"), _source(name, ".pxd")]
    found = [path for path in found if path.is_file()]
    for path in found:  # grows meanwhile
        named = _CIMPORT.findall(path.read_text(encoding="utf-8"))
        declared = [_source(other, ".pxd") for other in named]
        found += [path for path in dict.fromkeys(declared) if path.is_file() and path not in found]
    return found


def _changed_at(path: Path) -> float:
    return path.stat().st_mtime


def _extension(name: str) -> Path | None:
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = _source(name, suffix)
        if path.is_file():
            return path
    return None


def _source(name: str, suffix: str) -> Path:
    parts = name.split(".")[1:]
    return _PACKAGE.joinpath(*parts[:-1], parts[-1] + suffix)


BUILD, WHY_INTERPRETED = choose()
"""Which build runs in this process, and why it is not the compiled one, "" where it is."""
