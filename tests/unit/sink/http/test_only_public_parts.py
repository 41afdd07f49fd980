"""The HTTP client and the listeners stand on the public parts of the libraries below them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

RELAY = Path(__file__).parents[4] / "relay"
MODULES = sorted([*RELAY.glob("sink/http/*.py"), *RELAY.glob("receiver/http/*.py")])


def own_names(tree: ast.Module) -> set[str]:
    """Names that begin with an underscore and that the module itself defines."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
    return found


def foreign_private_parts(source: str) -> Iterator[str]:
    """Every private name that a module uses and does not define."""
    tree = ast.parse(source)
    own = own_names(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if name.startswith("_") and not name.endswith("__"):
                on_self = isinstance(node.value, ast.Name) and node.value.id == "self"
                if not (on_self and name in own):
                    yield f"{node.lineno}: {name}"
            case ast.ImportFrom(module=str(module), names=names):
                parts = [*module.split("."), *(each.name for each in names)]
                yield from (f"{node.lineno}: {part}" for part in parts if is_private(part))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@pytest.mark.parametrize(
    "module", MODULES, ids=lambda path: f"{path.parent.parent.name}/{path.stem}"
)
def test_no_private_part_of_a_library_is_used(module: Path) -> None:
    assert list(foreign_private_parts(module.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "connector._get(key)",
        "class A(B):\n    def f(self):\n        return self._should_close",
        "from aiohttp._http_parser import HttpResponseParser",
        "self.protocol._buffer",
    ],
)
def test_private_parts_are_found(source: str) -> None:
    assert list(foreign_private_parts(source))
