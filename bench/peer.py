"""A peer: any command that accepts remote write and forwards it, described by a YAML file.

``bench/peers/<name>.yaml``; every text may use ``$name`` of the peer's variables: ``python``,
``directory`` (its own, empty), ``sink`` (a URL), ``newest`` (where :mod:`bench.newest` builds),
``relay`` (a command of the caller's choice), each of its ports, and those in ``variables``, each of
which may use earlier ones; ``$$`` is a dollar sign::

    extends: another peer               # optional: inherit it; tables are merged
    title: for people
    install: what to do if the command is missing
    version: [command, that, prints, it]
    command: [the, process, under, test]
    environment: {NAME: value}          # optional
    ports: [port, admin_port]           # free ports, by these names
    ready: http://127.0.0.1:$port/ready # answers 200 when the peer accepts samples
    write: http://127.0.0.1:$port/api/v1/write
    metrics: http://127.0.0.1:$admin_port/metrics    # optional
    reloads: true                       # optional: SIGHUP reloads its files
    page: http://127.0.0.1:$page_port/live      # optional: a stream, open while it is under load
    preview: http://127.0.0.1:$port/preview     # optional: POST, each second under load
    workloads:
      export:
        arguments: [more, of, the, command]     # optional
        files: {name: content}                  # optional, written to $directory
        variables: {name: text}                 # optional
    cannot: {workload: why}             # optional
    files: {name: content}              # optional, for every workload
    variables: {name: text}             # optional, for every workload

Content is a text, or ``{before: text, times: 2000, text: text}``: ``text`` repeated with
``$number`` (0000, 0001 and so on); a file with ``$number`` in its name is written as often.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from bench import newest
from bench.process import BenchError, free_ports

PEERS = Path(__file__).parent / "peers"


class Repeated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content that is written many times."""

    times: int
    text: str
    before: str = ""


class Setup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Additions of one workload to a peer's command and files."""

    arguments: tuple[str, ...] = ()
    files: dict[str, str | Repeated] = {}
    variables: dict[str, str] = {}


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A peer's file as written, before variables are substituted."""

    title: str
    install: str
    version: tuple[str, ...]
    command: tuple[str, ...]
    ports: tuple[str, ...]
    ready: str
    write: str
    workloads: dict[str, Setup]
    environment: dict[str, str] = {}
    files: dict[str, str | Repeated] = {}
    variables: dict[str, str] = {}
    metrics: str = ""
    reloads: bool = False
    page: str = ""
    preview: str = ""
    cannot: dict[str, str] = {}

    def why_not(self, workload: str) -> str:
        """Return the reason for which the peer cannot run a workload; "" if it can."""
        if workload in self.workloads:
            return ""
        return self.cannot.get(workload, "it has no set-up for that")

    def prepare(self, workload: str, directory: Path, sink_port: int, relay: str = "") -> Launch:
        """Choose ports, write the files of a workload into ``directory`` and substitute variables.

        ``relay``: the variable of that name. Raise BenchError if the peer does not support the
        workload or its command is missing.
        """
        setup = self.workloads.get(workload)
        if setup is None:
            why = self.why_not(workload)
            raise BenchError(f"{self.title} has no set-up for the workload {workload}: {why}")
        variables = {
            **_everywhere(relay),
            "directory": str(directory),
            "sink": f"http://127.0.0.1:{sink_port}",
            **{
                name: str(port)
                for name, port in zip(self.ports, free_ports(len(self.ports)), strict=True)
            },
        }
        for name, text in {**self.variables, **setup.variables}.items():
            variables[name] = _fill(text, variables)
        command = [_fill(text, variables) for text in (*self.command, *setup.arguments)]
        if shutil.which(command[0]) is None:
            raise BenchError(f"{command[0]} is not installed: {self.install}")
        for name, content in {**self.files, **setup.files}.items():
            for file_name, text in _files(name, content, variables):
                path = directory / file_name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        return Launch(
            command=command,
            environment={k: _fill(v, variables) for k, v in self.environment.items()},
            ready=_fill(self.ready, variables),
            write=_fill(self.write, variables),
            metrics=_fill(self.metrics, variables),
            page=_fill(self.page, variables),
            preview=_fill(self.preview, variables),
        )

    def version_text(self, relay: str = "") -> str:
        """Return the peer's version text; ``relay`` as in :meth:`prepare`."""
        command = [_fill(text, _everywhere(relay)) for text in self.version]
        if shutil.which(command[0]) is None:
            raise BenchError(f"{command[0]} is not installed: {self.install}")
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self.environment},
            timeout=30,
            check=False,
        )
        text = done.stdout.decode(errors="replace").strip()
        if done.returncode:
            raise BenchError(f"{' '.join(command)} failed: {text}")
        return text


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything needed to start a peer once."""

    command: list[str]
    ready: str
    write: str
    environment: dict[str, str] = field(default_factory=dict)
    metrics: str = ""
    page: str = ""
    preview: str = ""


def load_peer(name: str) -> Peer:
    """Return the peer of ``bench/peers``. Raise BenchError for an unknown or faulty one."""
    path = _path_of(name)
    try:
        given = msgspec.yaml.decode(path.read_bytes(), type=dict[str, Any])
        base = given.pop("extends", None)
        if base is not None:
            given = _extended(msgspec.yaml.decode(_path_of(base).read_bytes(), type=dict), given)
        return msgspec.convert(given, type=Peer)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BenchError(f"{path}: {error}") from error


def _extended(base: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Merge ``given`` into ``base``, tables entry by entry; an entry without a value is removed."""
    merged = {**base, **given}
    for name, value in given.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            both = {**base[name], **value}
            merged[name] = {key: one for key, one in both.items() if one is not None}
    return merged


def _path_of(name: str) -> Path:
    path = PEERS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in PEERS.glob("*.yaml")))
        raise BenchError(f"there is no peer {name!r}; {PEERS} has {known}")
    return path


def _files(
    name: str, content: str | Repeated, variables: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield the files that an entry of ``files`` writes."""
    if isinstance(content, str):
        yield name, _fill(content, variables)
        return
    before = _fill(content.before, variables)
    texts = {
        number: _fill(content.text, {**variables, "number": number})
        for number in (f"{n:04d}" for n in range(content.times))
    }
    if "$number" in name:
        for number, text in texts.items():
            yield _fill(name, {"number": number}), before + text
    else:
        yield name, before + "".join(texts.values())


def _everywhere(relay: str) -> dict[str, str]:
    """Return the variables that do not depend on the workload."""
    variables = {"python": sys.executable, "newest": str(newest.directory() / "bin")}
    return {**variables, "relay": relay} if relay else variables


def _fill(text: str, variables: Mapping[str, str]) -> str:
    try:
        return Template(text).substitute(variables)
    except (KeyError, ValueError) as error:
        raise BenchError(f"cannot fill in {text!r}: {error}") from error
