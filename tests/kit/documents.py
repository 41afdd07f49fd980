"""The project's documents, and the fenced blocks in them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from relay.control.durability.backup import back_up
from tests.kit.paths import DATA, ROOT

STORED = DATA / "data_directories/format-3/killed/data"
"""The data directory of commands that want one."""
FENCE = re.compile(r"^ *```")


class Block(NamedTuple):
    """One fenced block; ``line`` is that of its first line, counted from 1."""

    path: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """Return where it stands, for messages."""
        return f"{self.path.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def title(self) -> str:
        """Return the file name that a first line such as ``# relay.yaml`` says, or ""."""
        found = re.match(r"# (\S+\.ya?ml)\n", self.text)
        return found[1] if found else ""


def documents() -> list[Path]:
    """Return every document for people: those of the root but the changelog, and all of docs."""
    return [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    ]


def blocks(path: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a document. Fails for a fence that is not closed."""
    language: str | None = None
    began = 0
    held: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not FENCE.match(line):
            held.append(line)
        elif language is None:
            language, began, held = line.strip().removeprefix("```"), number + 1, []
        else:
            yield Block(path, began, language, "".join(f"{one}\n" for one in held))
            language = None
    assert language is None, f"{path}: the fence before line {began} is not closed"


def all_blocks(*languages: str) -> list[Block]:
    """Return the blocks of all documents in these languages, or in any."""
    found = (block for path in documents() for block in blocks(path))
    return [block for block in found if not languages or block.language in languages]


def outside_blocks(path: Path) -> str:
    """Return a document without its fenced blocks."""
    lines, inside = [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            lines.append(line)
    return "\n".join(lines)


class Command(NamedTuple):
    """A command of a ``console`` block, and the output that is shown below it."""

    block: Block
    text: str
    output: str


def commands() -> Iterator[Command]:
    """Yield what stands behind every ``$`` of the documents' console blocks, less its comment."""
    for block in all_blocks("console"):
        assert block.text.startswith("$ "), f"{block.name}: a console block begins with a command"
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            yield Command(block, re.sub(r" {2,}#.*", "", line).strip(), output)


ELLIPSIS = "…"
"""A line that stands for any lines of an output."""


def matches(expected: str, found: str) -> bool:
    """Tell whether an output is what is shown; lines that are an ellipsis stand for any."""
    pieces = [
        re.escape(piece) for piece in re.split(rf"^{ELLIPSIS}\n", expected, flags=re.MULTILINE)
    ]
    return re.fullmatch("(?:.*\n)*?".join(pieces), found) is not None


NOT_RUN = {
    r"python3 -m venv|pipx |uv tool|docker ": "installs; .ci/run does the same",
    r"kubectl |helm ": "asks a cluster; tests/integration/kubernetes has an API server",
    r"export KUBECONFIG=": "is of a shell; tests/integration/cli/test_demo_api.py has one",
    r"vmagent ": "another program; tests/integration/senders/test_real_senders.py drives it",
    r"\.venv/bin/python -m pytest ": "runs these very tests",
    r"relay \w+ --kubernetes ": "needs a cluster; test_explain_on_kubernetes.py has one",
}
"""Commands that are only shown, and why they are not run here."""

WALKED = {"docs/api.md": "tests/integration/docs/test_api_page.py"}
"""Pages whose commands need each other, and the test that runs them in order."""

TARGETS = re.compile(r"make ([\w-]+)")
"""Checked against the Makefile; .ci/run runs demo, test and lint."""


def is_not_run(command: Command) -> bool:
    """Tell whether a command is only shown, or its page is walked through."""
    page = command.block.path.relative_to(ROOT).as_posix()
    return page in WALKED or any(re.match(pattern, command.text) for pattern in NOT_RUN)


def is_live(command: Command) -> bool:
    """Tell whether a command starts a relay or asks a running one."""
    if is_not_run(command):
        return False
    return bool(re.match(r"relay run |relay (explain|preview|top) --relay |curl ", command.text))


def workspace(directory: Path) -> Path:
    """Lay out what the documents' commands refer to by relative paths; return the directory.

    That is every file whose name a YAML block says in its first line, the last of each name; the
    checkout's own folders; and what the examples' names stand for.
    """
    for name in ("config", "relay", "Makefile"):
        (directory / name).symlink_to(ROOT / name)
    for block in all_blocks("yaml"):
        if block.title:
            (directory / block.title).write_text(block.text, encoding="utf-8")
    mounted = directory / "secrets/grafana-api-key"
    mounted.mkdir(parents=True)
    (mounted / "token").write_text("a-token-that-opens-nothing")
    exporter = (directory / "gateway-exporter.yaml").read_text(encoding="utf-8")
    for project in ("acme", "globex"):
        (directory / project).mkdir()
        named = exporter.replace("name: gateway-exporter", "name: x")
        (directory / project / "x.yaml").write_text(named, encoding="utf-8")
    (directory / "BODY").write_bytes(_captured_request())
    shutil.copytree(STORED, directory / "data")
    back_up(STORED, directory / "earlier.tar", now=0.0)
    return directory


def _captured_request() -> bytes:
    name = b"network_bytes_sent_total"
    label = b"\x0a\x08__name__\x12" + bytes([len(name)]) + name
    sample = b"\x09" + b"\x00" * 7 + b"\x40\x10\x01"
    series = b"\x0a" + bytes([len(label)]) + label + b"\x12" + bytes([len(sample)]) + sample
    return b"\x0a" + bytes([len(series)]) + series
