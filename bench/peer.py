"""A peer: any command that accepts remote write and forwards it, described by a YAML file.

``bench/peers/<name>.yaml``; every text may hold ``$name`` of :func:`Peer.variables` (``$$`` is a
dollar sign)::

    title: for people
    install: what to do where the command is missing
    version: [command, that, prints, it]
    command: [the, process, under, test]
    environment: {NAME: value}          # optional
    ports: [port, admin_port]           # free ones, by these names
    ready: http://127.0.0.1:$port/ready # answers 200 when it takes samples
    write: http://127.0.0.1:$port/api/v1/write
    workloads:
      export:
        arguments: [more, of, the, command]     # optional
        files: {name: content}                  # optional, written to $directory
    files: {name: content}              # optional, for every workload
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import msgspec

from bench.process import BenchError, free_ports

PEERS = Path(__file__).parent / "peers"


class Setup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one workload adds to a peer's command and files."""

    arguments: tuple[str, ...] = ()
    files: dict[str, str] = {}


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A peer's file as it is written, before anything is filled in."""

    title: str
    install: str
    version: tuple[str, ...]
    command: tuple[str, ...]
    ports: tuple[str, ...]
    ready: str
    write: str
    workloads: dict[str, Setup]
    environment: dict[str, str] = {}
    files: dict[str, str] = {}

    def prepare(self, workload: str, directory: Path, sink_port: int) -> Launch:
        """Choose ports, write the files of a workload into ``directory`` and fill in the rest.

        Raises BenchError where the peer cannot do the workload or its command is missing.
        """
        setup = self.workloads.get(workload)
        if setup is None:
            raise BenchError(f"{self.title} has no set-up for the workload {workload}")
        variables = {
            "python": sys.executable,
            "directory": str(directory),
            "sink": f"http://127.0.0.1:{sink_port}",
            **{
                name: str(port)
                for name, port in zip(self.ports, free_ports(len(self.ports)), strict=True)
            },
        }
        command = [_fill(text, variables) for text in (*self.command, *setup.arguments)]
        if shutil.which(command[0]) is None:
            raise BenchError(f"{command[0]} is not installed: {_fill(self.install, variables)}")
        for name, content in {**self.files, **setup.files}.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_fill(content, variables), encoding="utf-8")
        return Launch(
            command=command,
            environment={k: _fill(v, variables) for k, v in self.environment.items()},
            ready=_fill(self.ready, variables),
            write=_fill(self.write, variables),
        )

    def version_text(self) -> str:
        """What the peer says its version is."""
        command = [_fill(text, {"python": sys.executable}) for text in self.version]
        if shutil.which(command[0]) is None:
            raise BenchError(f"{command[0]} is not installed: {self.install}")
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False
        )
        text = done.stdout.decode(errors="replace").strip()
        if done.returncode:
            raise BenchError(f"{' '.join(command)} failed: {text}")
        return text


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that is needed to start a peer once."""

    command: list[str]
    ready: str
    write: str
    environment: dict[str, str] = field(default_factory=dict)


def load_peer(name: str) -> Peer:
    """The peer of that name in ``bench/peers``; raises BenchError for unknown or faulty ones."""
    path = PEERS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in PEERS.glob("*.yaml")))
        raise BenchError(f"there is no peer {name!r}; {PEERS} has {known}")
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Peer)
    except msgspec.DecodeError as error:
        raise BenchError(f"{path}: {error}") from error


def _fill(text: str, variables: Mapping[str, str]) -> str:
    try:
        return Template(text).substitute(variables)
    except (KeyError, ValueError) as error:
        raise BenchError(f"cannot fill in {text!r}: {error}") from error
