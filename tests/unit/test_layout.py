"""What the style promises about every file, enforced: imports, sizes, docstrings, leftovers."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from relay.runtime.extension_check import MODULES as EXTENSIONS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "relay"
MODULES = sorted(PACKAGE.rglob("*.py"))
COMPILED = sorted(PACKAGE.rglob("*.pyx"))
OWN_TREES = [PACKAGE, ROOT / "tests", ROOT / "bench"]

LEVELS = [
    {"runtime"},
    {"codec", "selector", "storage", "telemetry"},
    {"config", "pipeline"},
    {"receiver", "sink"},
    {"control"},
    {"api", "apiserver"},
    {"ui"},
    {"app"},
    {"cli"},
    {"__main__"},
]
"""The order of imports: a package imports those of lower levels only, so pipeline and config, and
codec, selector, storage and telemetry, do not know of each other."""

SANS_IO = [
    *sorted((PACKAGE / "codec").rglob("*.py")),
    *sorted((PACKAGE / "selector").rglob("*.py")),
    *sorted((PACKAGE / "pipeline").rglob("*.py")),
    *sorted((PACKAGE / "sink/queue").rglob("*.py")),
    *sorted((PACKAGE / "sink/retry").rglob("*.py")),
    PACKAGE / "storage/log/frame.py",
    *(
        PACKAGE / "storage/journal" / f"{name}.py"
        for name in ("checkpoint", "gaps", "record", "segment_log")
    ),
    *(
        PACKAGE / "control/status" / f"{name}.py"
        for name in (
            "assess",
            "conditions",
            "facts",
            "history",
            "object_facts",
            "object_status",
        )
    ),
    *(
        PACKAGE / "control/replicas" / f"{name}.py"
        for name in (
            "event_schedule",
            "members",
            "merge",
            "peer_report",
            "report",
            "report_log",
            "transitions",
            "written_status",
        )
    ),
    *(
        PACKAGE / "sink" / f"{name}.py"
        for name in (
            "delivery",
            "http/address_guard",
            "http/answer_parser",
            "http/credentials",
            "http/request_head",
            "open_batches",
            "reporting/forecast",
            "reporting/health",
            "reporting/ledger",
            "reporting/outcomes",
            "reporting/throughput",
            "request_size",
            "spill/orphans",
            "spill/owner",
            "spill/record",
            "steps",
        )
    ),
]
IO_MODULES = {"aiohttp", "asyncio", "random", "select", "socket", "threading", "time", "uvloop"}
"""``random`` may be named for the type of an injected generator, nothing else: see below."""

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
FOLDER_FILES_MAX = 15


class Import(NamedTuple):
    """One import statement's target, and whether it is only for type checkers."""

    name: str
    line: int
    names: tuple[str, ...]


def name_of(path: Path) -> str:
    """A path as people say it."""
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    """The module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=name_of(path))


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import anywhere in a module, functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, ())
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            assert node.module is not None
            yield Import(node.module, node.lineno, tuple(alias.name for alias in node.names))


def unit_of(module: str) -> str | None:
    """The unit that a dotted name belongs to; None for the package itself and for others."""
    parts = module.split(".")
    if parts[0] != "relay" or len(parts) == 1:
        return None
    return parts[1]


def level_of(unit: str) -> int:
    """Where the unit stands in the order of imports."""
    found = [level for level, units in enumerate(LEVELS) if unit in units]
    assert found, f"relay.{unit} has no place in LEVELS: decide who may import it"
    return found[0]


def own_unit(path: Path) -> str | None:
    """The unit that a file belongs to."""
    return unit_of(".".join(path.relative_to(ROOT).with_suffix("").parts))


def imported_units(path: Path) -> Iterator[tuple[str, int]]:
    """The units that a file imports, with lines; ``from relay import x`` counts as ``relay.x``."""
    for item in imports(parse(path)):
        names = [item.name]
        if item.name == "relay":
            names = [f"relay.{name}" for name in item.names if not name.startswith("__")]
        for name in names:
            unit = unit_of(name)
            if unit is not None:
                yield unit, item.line


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    own = own_unit(path)
    if own in (None, "__init__"):  # the package itself only checks its extensions
        assert {unit for unit, _ in imported_units(path)} <= {"runtime"}
        return
    assert own is not None
    for unit, line in imported_units(path):
        where = f"{name_of(path)}:{line}: relay.{own} imports relay.{unit}"
        assert unit == own or level_of(unit) < level_of(own), where


@pytest.mark.parametrize("path", SANS_IO, ids=name_of)
def test_the_core_does_no_io(path: Path) -> None:
    for item in imports(parse(path)):
        top = item.name.partition(".")[0]
        if item == Import("random", item.line, ("Random",)):
            continue  # the type of an injected generator
        assert top not in IO_MODULES, f"{name_of(path)}:{item.line}: imports {item.name}"


def test_the_core_never_makes_a_random_generator() -> None:
    for path in SANS_IO:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("Random", "random.Random"), name_of(path)


def lines_of(path: Path) -> int:
    """How many lines a file has."""
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("path", [*MODULES, *COMPILED], ids=name_of)
def test_modules_fit_a_sitting(path: Path) -> None:
    lines = lines_of(path)
    assert lines <= MODULE_LINES_MAX, f"{lines} lines"


def test_tests_and_benchmarks_fit_a_sitting() -> None:
    lines = {name_of(path): lines_of(path) for path in own_files()}
    assert not {name: count for name, count in lines.items() if count > MODULE_LINES_MAX}


def test_folders_fit_a_glance() -> None:
    files = [*MODULES, *COMPILED, *(ROOT / "tests").rglob("*.py")]
    for folder in {path.parent for path in files}:
        names = {path.stem for path in files if path.parent == folder}
        assert len(names) <= FOLDER_FILES_MAX, f"{name_of(folder)}: {len(names)} modules"


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_functions_fit_a_screen() -> None:
    too_long = set()
    for path in MODULES:
        for function in functions(parse(path)):
            assert function.end_lineno is not None
            if function.end_lineno - function.lineno + 1 > FUNCTION_LINES_MAX:
                too_long.add(f"{name_of(path)}:{function.name}")
    assert not too_long


Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public_parts(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, Documented]]:
    """Public classes, functions and methods, by dotted name."""
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if child.name.startswith("_"):
            continue
        yield f"{prefix}.{child.name}", child
        if isinstance(child, ast.ClassDef):
            yield from public_parts(child, f"{prefix}.{child.name}")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_is_public_says_what_it_is_for(path: Path) -> None:
    tree = parse(path)
    assert ast.get_docstring(tree), "the module has no docstring"
    missing = [
        name for name, node in public_parts(tree, path.stem) if ast.get_docstring(node) is None
    ]
    assert not missing, f"no docstring: {missing}"


def own_files() -> Iterator[Path]:
    """Everything in our own trees that is written by people."""
    for tree in OWN_TREES:
        for pattern in ("*.py", "*.pyx", "*.pxd", "*.pyi"):
            yield from tree.rglob(pattern)


def test_a_compiled_module_has_a_stub_and_no_twin() -> None:
    assert COMPILED
    for path in COMPILED:
        assert path.with_suffix(".pyi").is_file(), f"{name_of(path)}: mypy knows nothing of it"
        assert not path.with_suffix(".py").exists(), f"{name_of(path)} is written twice"
    stubs = {path.with_suffix(".pyx") for path in PACKAGE.rglob("*.pyi")}
    assert stubs == set(COMPILED)


def test_a_stub_names_what_its_module_has() -> None:
    for path in COMPILED:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = importlib.import_module(name)
        for top in parse(path.with_suffix(".pyi")).body:
            if isinstance(top, ast.FunctionDef):
                assert callable(getattr(module, top.name)), f"{name}.{top.name}"
            elif isinstance(top, ast.ClassDef):
                for node in top.body:
                    if isinstance(node, ast.FunctionDef):
                        member = node.name
                    elif isinstance(node, ast.AnnAssign):
                        member = ast.unparse(node.target)
                    else:
                        continue
                    found = getattr(module, top.name)
                    assert hasattr(found, member), f"{name}.{top.name}.{member}"


def test_the_list_of_extensions_is_whole() -> None:
    declared = {path.with_suffix("") for path in PACKAGE.rglob("*.pxd")}
    sources = {path.with_suffix("") for path in [*MODULES, *COMPILED]}
    compiled = (declared & sources) | {path.with_suffix("") for path in COMPILED}
    assert {".".join(path.relative_to(ROOT).parts) for path in compiled} == set(EXTENSIONS)


def test_a_class_name_means_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for path in [*MODULES, *(path.with_suffix(".pyi") for path in COMPILED)]:
        for node in parse(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name_of(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_drawer_for_everything() -> None:
    names = {"utils", "util", "helpers", "misc", "common"}
    assert not [name_of(path) for path in own_files() if path.stem in names]


def test_nothing_is_left_for_later() -> None:
    leftover = re.compile("TO" + "DO|FIX" + "ME|XX" + "X:")
    found = [
        f"{name_of(path)}:{number}"
        for path in own_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if leftover.search(line)
    ]
    assert not found


def test_every_exception_to_a_rule_has_its_reason() -> None:
    """``noqa`` and ``type: ignore`` name their rule, and in the product say why."""
    bare = re.compile(r"#\s*noqa(?!: [A-Z]+[0-9]+)|#\s*type: ignore(?!\[)")
    unexplained = re.compile(r"#\s*noqa: [A-Z0-9, ]+$")
    found = []
    for path in own_files():
        in_product = path.is_relative_to(PACKAGE)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if bare.search(line) or (in_product and unexplained.search(line)):
                found.append(f"{name_of(path)}:{number}: {line.strip()}")
    assert not found


def test_test_files_have_names_of_their_own() -> None:
    stems = [path.stem for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(stems) == len(set(stems))
