"""Start the harness's processes, measure them through ``/proc``, and stop them by their own id."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_TIMEOUT_S = 30.0
_LOG_TAIL_BYTES = 2000
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """Report a run that cannot be made or is void; the text has the reason."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of a process and its descendants: CPU time, and peak resident memory."""

    cpu_s: float
    rss_peak_bytes: int


@dataclass(frozen=True, slots=True)
class MachineTime:
    """CPU time of the whole machine since boot, over all cores, in s."""

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
        """True if the process is running."""
        return self._popen.poll() is None

    def read_line(self) -> str:
        """Return the next line of its output, which must be a pipe. Raise BenchError at its end."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            self._popen.wait(STOP_TIMEOUT_S)
            raise BenchError(f"{self.name} ended: {self.log_tail()}")
        return line.decode()

    def log_tail(self) -> str:
        """Return the last lines of its log, for an error message."""
        return self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal that does not end the process."""
        self._popen.send_signal(number)

    def stop(self) -> bool:
        """Send SIGTERM, after a timeout SIGKILL; return whether it ended with status 0."""
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

    def cpu_s(self) -> float:
        """Return the CPU time of this process alone, to the nanosecond."""
        # clock_getcpuclockid(3), of which Python has the form for threads only: Linux makes the
        # clock of a process of its complement (MAKE_PROCESS_CPUCLOCK, kind 2).
        return time.clock_gettime(~self._popen.pid << 3 | 2)

    def rss_bytes(self) -> tuple[int, int]:
        """Return the resident memory of this process alone, now and at its peak."""
        status = Path(f"/proc/{self._popen.pid}/status").read_text(encoding="utf-8")
        return _bytes_of(status, "VmRSS:"), _bytes_of(status, "VmHWM:")

    def usage(self) -> Usage:
        """Return CPU and memory of every process of its session, from the operating system."""
        assert self._popen.poll() is None, "a process that has ended cannot be measured"
        cpu_ticks = rss_bytes = 0
        for directory in Path("/proc").iterdir():
            if not directory.name.isdigit():
                continue
            try:
                stat = (directory / "stat").read_text(encoding="utf-8", errors="replace")
                status = (directory / "status").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile; its parent has its CPU time from then on
            # proc(5): field 2 is the name in brackets; 6 session, 14 utime, 15 stime, and 16 and 17
            # the same of children that were waited for.
            fields = stat.rpartition(")")[2].split()
            if int(fields[3]) == self._popen.pid:
                cpu_ticks += sum(int(field) for field in fields[11:15])
                rss_bytes += _bytes_of(status, "VmHWM:")
        return Usage(cpu_ticks / _TICKS_PER_S, rss_bytes)


def _bytes_of(status: str, name: str) -> int:
    for line in status.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0  # a zombie has no memory


def machine_time() -> MachineTime:
    """Return the CPU time of the machine: proc(5), first line of ``/proc/stat``."""
    line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    user, nice, system, idle, iowait, irq, softirq, steal = (
        int(field) / _TICKS_PER_S for field in line.split()[1:9]
    )
    return MachineTime(user + nice + system + irq + softirq, idle + iowait, steal)


def raise_file_limit() -> None:
    """Raise the limit of open files to its maximum: thousands of sinks need as many connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def free_ports(count: int) -> list[int]:
    """Return different loopback ports that were free just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
