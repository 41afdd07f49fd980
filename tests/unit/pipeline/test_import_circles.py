"""The folders of the pipeline import one way, also for type checkers and for the compiler."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

PIPELINE = Path(__file__).parents[3] / "relay/pipeline"
IMPORT = re.compile(r"^\s*from relay\.pipeline\.([\w.]+) c?import ", re.MULTILINE)


def place_of(module: str) -> str:
    """The folder of a module; a module at the top stands for itself."""
    folder, _, name = module.rpartition(".")
    return folder or name


def imported(sources: dict[str, str]) -> dict[str, set[str]]:
    """The places that each place imports; ``sources`` are texts by module."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, text in sources.items():
        own = place_of(module)
        found[own] |= {place_of(name) for name in IMPORT.findall(text)} - {own}
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Some places that import each other; none where there are none."""
    left = {place: set(others) for place, others in graph.items()}
    while True:
        ends = [place for place, others in left.items() if not others & left.keys()]
        if not ends:
            return sorted(left)
        for place in ends:
            del left[place]


def test_there_is_no_circle() -> None:
    sources: dict[str, str] = defaultdict(str)
    for pattern in ("*.py", "*.pyi", "*.pyx", "*.pxd"):
        for path in PIPELINE.rglob(pattern):
            module = ".".join(path.relative_to(PIPELINE).with_suffix("").parts)
            sources[module] += path.read_text(encoding="utf-8")
    graph = imported(sources)
    assert len(graph) > 10
    assert circle(graph) == []


def test_a_circle_is_found() -> None:
    graph = imported(
        {
            "top": "from relay.pipeline.a.one import x\n",
            "a.one": "    from relay.pipeline.b.two import x\n",
            "b.two": "from relay.pipeline.a.three cimport x\n",
            "c.four": "from relay.pipeline.c.five import x\n",
        }
    )
    assert circle(graph) == ["a", "b", "top"]
    del graph["b"]
    assert circle(graph) == []
