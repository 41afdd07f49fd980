"""Keep the control planes that the settings name: one, one a project, or a watched directory.

Rules:

* A kubeconfig that becomes faulty is a fault of the state, and its control plane stays as it was;
  so do all while their directory cannot be read.
* A control plane whose file is gone goes with all its objects, and with what the disk holds of
  them: its Secrets are the project's. A changed file replaces access only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from relay.config.schema.checks import dns_subdomain_problem
from relay.config.settings.kubernetes import PROJECT_MARK, KubernetesSettings
from relay.config.yaml.file_watcher import ABSENT, Signature, signature
from relay.control.cluster.control_plane import ControlPlane, PlaneOptions, directory_of
from relay.control.kubernetes.kubeconfig import ClusterAccess, in_cluster, read_kubeconfig
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.event_loop import run_in_thread
from relay.sink.http.tls import TlsContexts

_log = logging.getLogger("relay.control.cluster")

DIRECTORY_INTERVAL_S: Final = 2.0
"""Time between two looks at the kubeconfigs; s."""
PLANES_MAX: Final = 1000
PLANES_A_TURN: Final = 10
"""Control planes for each second that a shared connection keeps its watch: together they begin at
most some ten watches a second anew."""
TURN_S_MAX: Final = 10.0
_ENDINGS: Final = (".yaml", ".yml", ".kubeconfig")


_Kubeconfigs = dict[str, tuple[Signature, ClusterAccess | None]]
"""Signature of the kubeconfig of each project, and what it said last; None: nothing good yet."""


@dataclass(frozen=True, slots=True)
class _Found:
    """One control plane that there must be."""

    project: str
    access: ClusterAccess


class PlaneSet:
    """All control planes. Lives on the event loop, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        settings: KubernetesSettings,
        *,
        options: PlaneOptions,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._settings = settings
        self._options = options
        self.on_change: Callable[[], None] = lambda: None
        """Called when an object, a control plane or a fault comes, changes or goes."""
        self._environment = environment
        self._contexts = TlsContexts()
        self._planes: dict[str, ControlPlane] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """Those that run control planes, by name."""
        self._watching: asyncio.Task[None] | None = None
        self._ending: dict[str, asyncio.Task[None]] = {}
        """Ends of control planes that are gone, by name."""
        self._known: _Kubeconfigs = {}
        """Those of a directory."""
        self._signature: Signature = ABSENT
        """That of the only kubeconfig."""
        self._faults: tuple[Fault, ...] = ()

    @property
    def planes(self) -> tuple[ControlPlane, ...]:
        """The control planes, by name."""
        return tuple(self._planes[name] for name in sorted(self._planes))

    def plane(self, name: str) -> ControlPlane | None:
        """Return the control plane of that name."""
        return self._planes.get(name)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Faults of kubeconfigs."""
        return self._faults

    async def start(self) -> None:
        """Begin to watch. Raises ConfigError if the settings' own access is faulty."""
        projects, only = self._settings.projects, self._settings.kubeconfig
        if projects is not None and projects.kubeconfigs is not None:
            directory = projects.kubeconfigs
            if await self._look_below(directory):
                await self._forget_others(self._known)  # a faulty kubeconfig may be mended
            self._watching = asyncio.create_task(self._watch(lambda: self._look_below(directory)))
            return
        if only is None:
            self._apply(self._at(in_cluster(self._environment)))
        else:
            self._signature = signature(only)
            self._apply(self._at(read_kubeconfig(only)))
            self._watching = asyncio.create_task(self._watch(lambda: self._look_at(only)))
        await self._forget_others(self._planes)

    async def stop(self) -> None:
        """End all watches, and write the caches."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        for task in self._tasks.values():
            task.cancel()
        ended = (*self._tasks.values(), *self._ending.values())
        await asyncio.gather(*ended, return_exceptions=True)
        self._tasks.clear()

    def _at(self, access: ClusterAccess) -> dict[str, _Found]:
        """Return the control planes of one server, by name."""
        projects = self._settings.projects
        below = projects.server_path if projects is not None else None
        if below is None:
            return {"": _Found("", access)}
        return {
            name: _Found(
                name,
                replace(access, server=access.server + below.path.replace(PROJECT_MARK, name)),
            )
            for name in below.names
        }

    async def _watch(self, look: Callable[[], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(DIRECTORY_INTERVAL_S)
            try:
                await look()
            except Exception:
                _log.exception("bug in the relay: kubeconfigs were not read")

    async def _look_at(self, path: Path) -> None:
        """Read the only kubeconfig if it has changed, and apply what it says."""
        found = await run_in_thread(lambda: signature(path))
        if found == self._signature:
            return
        self._signature = found
        before = self._faults
        try:
            access = await run_in_thread(lambda: read_kubeconfig(path))
        except ConfigError as error:
            self._faults = error.faults
        else:
            self._faults = ()
            self._apply(self._at(access))
        if self._faults != before:
            self.on_change()

    async def _look_below(self, directory: Path) -> bool:
        """Read the kubeconfigs that have changed, apply what there is; False: none can be read."""
        before = self._faults
        known, faults = await run_in_thread(lambda: _read_directory(directory, self._known))
        self._faults = faults
        if known is not None:
            self._known = known
            found = {
                name: _Found(name, access)
                for name, (_, access) in known.items()
                if access is not None
            }
            self._apply(found)
        if faults != before:
            self.on_change()
        return known is not None

    def _apply(self, found: Mapping[str, _Found]) -> None:
        """Add, replace and remove control planes."""
        for name in [name for name in self._planes if name not in found]:
            self._end(name)
            del self._planes[name]
            self.on_change()
        share_s = len(found) / PLANES_A_TURN
        options = replace(self._options, turn_s=min(TURN_S_MAX, max(self._options.turn_s, share_s)))
        for name, one in found.items():
            plane = self._planes.get(name)
            if plane is None:
                plane = self._planes[name] = ControlPlane(
                    name,
                    one.project,
                    one.access,
                    options=options,
                    contexts=self._contexts,
                    on_change=self._note_change,
                )
                self._tasks[name] = asyncio.create_task(self._run(plane))
                self.on_change()
            elif plane.access != one.access:
                plane.replace_access(one.access)

    async def _run(self, plane: ControlPlane) -> None:
        """Run a control plane, after the end of an earlier one of its name."""
        before = self._ending.get(plane.name)
        if before is not None:
            await asyncio.wait([before])
        await plane.run()

    def _end(self, name: str) -> None:
        """Begin to end a control plane that is gone."""
        ended = asyncio.create_task(self._wipe(name, self._tasks.pop(name)))
        self._ending[name] = ended

        def forget(_: object) -> None:
            if self._ending.get(name) is ended:
                del self._ending[name]

        ended.add_done_callback(forget)

    async def _wipe(self, name: str, running: asyncio.Task[None]) -> None:
        """Wait for the end of a control plane, and delete what is on disk of it."""
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if self._options.cache is not None and name not in self._planes:
            path = self._options.cache / directory_of(name)
            await run_in_thread(lambda: _delete(path))

    async def _forget_others(self, present: Collection[str]) -> None:
        """Delete what is on disk of control planes that have gone while no relay ran."""
        root, kept = self._options.cache, {directory_of(name) for name in present}
        if root is not None:
            await run_in_thread(lambda: _delete_others(root, kept))

    def _note_change(self) -> None:
        self.on_change()

    def __repr__(self) -> str:
        return f"<PlaneSet {len(self._planes)} control planes>"


def _delete_others(root: Path, kept: Collection[str]) -> None:
    try:
        found = [path for path in root.iterdir() if path.name not in kept and path.is_dir()]
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("%s: cannot be read: %s", root, error.strerror)
        return
    for path in found:
        _delete(path)


def _delete(path: Path) -> None:
    """Delete the objects of one control plane; not for the event loop."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("%s: cannot be deleted: %s", path, error.strerror)
    else:
        _log.info("deleted the objects of a control plane that is gone", extra={"path": str(path)})


def _read_directory(
    directory: Path, known: _Kubeconfigs
) -> tuple[_Kubeconfigs | None, tuple[Fault, ...]]:
    """Return each project's signature and access, and all faults.

    None if the directory cannot be read. A faulty file keeps its last good access, and its fault is
    found again each time.
    """
    try:
        found = _read_files(_listed(directory), known)
        _listed(directory)  # its files are gone, too, where it went meanwhile
    except OSError as error:
        message = f"cannot be read: {error.strerror or type(error).__name__}"
        return None, (Fault("kubernetes.projects.kubeconfigs", message, str(directory)),)
    return found


def _listed(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.name[:1] != ".")


def _read_files(paths: list[Path], known: _Kubeconfigs) -> tuple[_Kubeconfigs, tuple[Fault, ...]]:
    """Return what each file says that is not gone meanwhile."""
    faults: list[Fault] = []
    read: _Kubeconfigs = {}
    for path in paths:
        ending = next((one for one in _ENDINGS if path.name.endswith(one)), "")
        project = path.name.removesuffix(ending)
        problem = dns_subdomain_problem(project)
        if not path.is_file():
            continue
        if problem:
            faults.append(Fault("", f"the file's name is not a project's: it {problem}", str(path)))
        elif project in read:
            faults.append(Fault("", f"project {project} has another kubeconfig here", str(path)))
        elif len(read) >= PLANES_MAX:
            faults.append(Fault("", f"more than {PLANES_MAX} kubeconfigs are here", str(path)))
        else:
            before = known.get(project)
            found = signature(path)
            if found == ABSENT:
                continue  # gone meanwhile
            if before is not None and before[0] == found and before[1] is not None:
                read[project] = before
                continue
            try:
                read[project] = (found, read_kubeconfig(path))
            except ConfigError as error:
                faults += error.faults
                read[project] = (ABSENT, before[1] if before is not None else None)
    return read, tuple(faults)
