"""Check the rules of CONTRIBUTING for prose, as far as a machine can."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kit.prose import riddles

ROOT = Path(__file__).parents[2]
TREES = ("relay", "bench")

QUESTION = re.compile(r"(?:who|what|whether|when|where|why|how)\b", re.IGNORECASE)
"""A docstring states a contract in the imperative; it does not begin with a question's word."""

REFERRAL = re.compile(r"See (?:[\w./`:~]+\.pyx?\b|the module's|:\w+:`)")
"""A docstring that only points elsewhere says nothing where it is read."""

HEADER_LINES_MAX = 20
"""Lines of a module's docstring, invariants included, without literal blocks."""

REFERENCE = re.compile(r":(class|mod|func|meth|data|attr|exc):`~?([^`]+)`")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def files(*suffixes: str) -> list[Path]:
    found = [path for tree in TREES for path in (ROOT / tree).rglob("*")]
    return sorted(path for path in found if path.suffix in suffixes)


class Text(NamedTuple):
    line: int
    text: str


STRING = re.compile(r'^[ \t]*r?"""(.*?)"""', re.DOTALL | re.MULTILINE)
"""A docstring in a compiled source, which Python's parser does not read."""


@cache
def docstrings(path: Path) -> tuple[Text, ...]:
    """Every string that stands alone: of modules, classes, functions, attributes and constants."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return tuple(
            Text(source.count("\n", 0, found.start()) + 1, found[1].strip())
            for found in STRING.finditer(source)
        )
    return tuple(
        Text(node.lineno, node.value.value.strip())
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


SOURCES = files(".py", ".pyx", ".pxd")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_docstrings_state_contracts(path: Path) -> None:
    found = [
        f"{name_of(path)}:{line}: {text.splitlines()[0]}"
        for line, text in docstrings(path)
        if QUESTION.match(text) or REFERRAL.match(text)
    ]
    assert not found


@pytest.mark.parametrize("path", [one for one in SOURCES if one.suffix == ".py"], ids=name_of)
def test_docstrings_begin_with_one_line(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = (ast.get_docstring(node) or "").partition("\n\n")[0]
            assert "\n" not in first, f"{name_of(path)}: {first}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_things_are_not_who(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [f"{name_of(path)}:{n}: {line}" for n, line in enumerate(lines, 1) if riddles(line)]
    assert not found


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_open_briefly(path: Path) -> None:
    for line, text in docstrings(path):
        if line <= 3:
            lines = sum(not each.startswith("    ") for each in text.splitlines())
            assert lines <= HEADER_LINES_MAX, f"{name_of(path)}: {lines} lines"


# -- references ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Definitions:
    """The names of one module: ``own`` with members as ``Class.member``, and those imported."""

    own: frozenset[str]
    imported: dict[str, str] = field(default_factory=dict)

    def knows(self, name: str) -> bool:
        """Return whether a name is the module's, or a member of any of its classes."""
        return name in self.own or any(one.endswith(f".{name}") for one in self.own)


DEFINED = re.compile(
    r"^( *)(?:(?:cdef |cpdef )?(?:inline )?(?:(?:class|struct) (\w+)|[\w.*\[\] ]*?\b(\w+)\()"
    r"|(?:cdef )?(?:public |readonly )*[\w.]+ \*?(\w+)$|(\w+) *=|def (\w+)\()",
    re.MULTILINE,
)


IMPORTED = re.compile(r"^from ([\w.]+) c?import (\([^)]*\)|.*)$", re.MULTILINE)


def _compiled_names(path: Path) -> Iterator[str]:
    """Names of a compiled source; members are told by their indentation alone."""
    for source in (path, path.with_suffix(".pxd")):
        if not source.is_file():
            continue
        owner = ""
        for found in DEFINED.finditer(source.read_text(encoding="utf-8")):
            name = next(filter(None, found.groups()[1:]), "")
            if not found[1] and found[2]:
                owner = name
            elif not found[1]:
                owner = ""
            yield name
            if found[1] and owner:
                yield f"{owner}.{name}"


def _class_names(node: ast.ClassDef, prefix: str) -> Iterator[str]:
    name = f"{prefix}{node.name}"
    yield name
    for child in ast.walk(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name}.{child.name}"
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            yield f"{name}.{child.target.id}"
        elif isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store):
            yield f"{name}.{child.attr}"
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield f"{name}.{child.id}"


def _names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from _class_names(node, "")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for child in ast.walk(node):
                if isinstance(child, ast.Name):
                    yield child.id


@cache
def definitions() -> dict[str, Definitions]:
    """The names of every module, by its dotted name."""
    found: dict[str, Definitions] = {}
    for path in files(".py", ".pyx", ".pxd"):
        if path.suffix == ".pxd" and any(
            path.with_suffix(one).is_file() for one in (".py", ".pyx")
        ):
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        imported: dict[str, str] = {}
        if path.suffix == ".py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            own = set(_names(tree))
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom):
                    for alias in node.names:
                        imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        else:
            own = set(_compiled_names(path))
            for origin, names in IMPORTED.findall(path.read_text(encoding="utf-8")):
                for name in re.findall(r"\w+", names):
                    imported[name] = f"{origin}.{name}"
        found[module] = Definitions(frozenset(own), imported)
    return found


def exists(target: str, module: str) -> bool:
    """Return whether a reference in a module names a thing that is there."""
    target = target.strip().removesuffix("()")
    here = definitions()[module]
    head, _, rest = target.partition(".")
    if target.startswith(("relay.", "bench.")) or target in definitions():
        return _is_absolute(target)
    if here.knows(target):
        return True
    if head in here.imported:
        whole = here.imported[head] + (f".{rest}" if rest else "")
        return _is_absolute(whole) if whole.startswith(("relay.", "bench.")) else _is_foreign(whole)
    return _is_foreign(target)


def _is_absolute(target: str) -> bool:
    parts = target.split(".")
    for size in range(len(parts), 0, -1):
        module, name = ".".join(parts[:size]), ".".join(parts[size:])
        if module in definitions():
            known = definitions()[module]
            return not name or name in known.own or name in known.imported
    return False


def _is_foreign(target: str) -> bool:
    """Return whether a dotted name can be imported from elsewhere."""
    parts = target.split(".")
    for size in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:size]))
        except ImportError:
            continue
        try:
            for part in parts[size:]:
                found = getattr(found, part)
        except AttributeError:
            return False
        return True
    return False


def dangling(path: Path) -> Iterator[str]:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    source = path.read_text(encoding="utf-8")
    for found in REFERENCE.finditer(source):
        if not exists(re.sub(r"\s+", "", found[2]), module):
            yield f"{name_of(path)}:{source.count(chr(10), 0, found.start()) + 1}: {found[0]}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_references_lead_somewhere(path: Path) -> None:
    assert not list(dangling(path))


def test_a_reference_to_nothing_is_noticed() -> None:
    module = "relay.runtime.event_loop"
    assert exists("run_in_thread", module)
    assert exists("relay.runtime.event_loop.run_in_thread", module)
    assert exists("relay.sink.worker.SinkWorker.offer", module)
    assert exists("importlib.abc.MetaPathFinder", module)
    assert not exists("run_in_threads", module)
    assert not exists("relay.runtime.event_loops", module)
    assert not exists("relay.sink.worker.SinkWorker.offers", module)
    assert not exists("importlib.abc.MetaPathFinders", module)
