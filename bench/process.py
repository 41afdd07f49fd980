"""Processes under the harness: started, watched through ``/proc``, and stopped by their own id."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_TIMEOUT_S = 30.0
_LOG_TAIL_BYTES = 2000
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A run cannot be made or is void; the text says why."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its descendants have used: CPU time, and peak resident memory."""

    cpu_s: float
    rss_peak_bytes: int


@dataclass(frozen=True, slots=True)
class MachineTime:
    """CPU time of the whole machine since it booted, over all cores, in s."""

    busy_s: float
    idle_s: float
    stolen_s: float


class Process:
    """A child in a session of its own, its output in a file; a context manager that stops it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        pipe_stdout: bool = False,
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe_stdout else log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<Process {self.name} {self._popen.pid} {self._popen.returncode}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._popen.poll() is None

    def read_line(self) -> str:
        """The next line of its output, which must be a pipe; raises BenchError at its end."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            self._popen.wait(STOP_TIMEOUT_S)
            raise BenchError(f"{self.name} ended: {self.log_tail()}")
        return line.decode()

    def log_tail(self) -> str:
        """The last lines that it logged, for an error message."""
        return self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()

    def send_signal(self, number: signal.Signals) -> None:
        """Send one signal, which is no reason to end."""
        self._popen.send_signal(number)

    def stop(self) -> bool:
        """SIGTERM, and SIGKILL where that does not help in time; True if it ended in good order."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
        try:
            code = self._popen.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            code = self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        return code in (0, -signal.SIGTERM)

    def usage(self) -> Usage:
        """CPU and memory of every process of its session, from the operating system."""
        assert self._popen.poll() is None, "a process that has ended cannot be measured"
        cpu_ticks = rss_bytes = 0
        for directory in Path("/proc").iterdir():
            if not directory.name.isdigit():
                continue
            try:
                stat = (directory / "stat").read_text(encoding="utf-8", errors="replace")
                status = (directory / "status").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked; its parent has its CPU time from then on
            # proc(5): field 2 is the name in brackets; 6 session, 14 utime, 15 stime, and 16 and
            # 17 the same of children that were waited for.
            fields = stat.rpartition(")")[2].split()
            if int(fields[3]) == self._popen.pid:
                cpu_ticks += sum(int(field) for field in fields[11:15])
                rss_bytes += _peak_rss_bytes(status)
        return Usage(cpu_ticks / _TICKS_PER_S, rss_bytes)


def _peak_rss_bytes(status: str) -> int:
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0  # a zombie has no memory


def machine_time() -> MachineTime:
    """CPU time of the machine: proc(5), first line of ``/proc/stat``."""
    line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    user, nice, system, idle, iowait, irq, softirq, steal = (
        int(field) / _TICKS_PER_S for field in line.split()[1:9]
    )
    return MachineTime(user + nice + system + irq + softirq, idle + iowait, steal)


def raise_file_limit() -> None:
    """Let this process and its children open as many files as it may ask for: thousands of sinks
    are thousands of connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
