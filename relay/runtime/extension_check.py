"""Refuse to run with extension modules that are missing, foreign or stale.

* The hot path consists of extension modules (:data:`MODULES`); there is no pure-Python fallback.
* :func:`check_extensions` runs when :mod:`relay` is imported and raises :class:`ExtensionError`.
  Uncaught, the process prints its one-line message only.
* Only a checkout can be stale. ``setup.py`` records a digest of each module's sources in
  :data:`MANIFEST`; the check compares contents, because file times change with branches and copies.
* ``setup.py`` runs this file by its path, so it must not import this package and importing it must
  have no side effects.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Final, NamedTuple

MODULES: Final = (
    "relay.pipeline.metrics.histograms.group",
    "relay.pipeline.metrics.translate.group_table",
    "relay.pipeline.metrics.translate.interned",
    "relay.pipeline.metrics.translate.point_template",
    "relay.pipeline.metrics.translate.target_info",
    "relay.pipeline.metrics.translate.translator",
    "relay.pipeline.metrics.series.hash_index",
    "relay.pipeline.batching.flush_schedule",
    "relay.pipeline.batching.transaction",
    "relay.pipeline.batching.watermark",
    "relay.pipeline.engine",
    "relay.pipeline.signals",
    "relay.control.durability.admission",
    "relay.receiver.counters",
    "relay.receiver.http.usual_head",
    "relay.receiver.http.usual_requests",
    "relay.receiver.http.whole_answer",
    "relay.receiver.remote_write",
    "relay.telemetry.histogram",
    "relay.sink.delivery",
    "relay.sink.encode_scheduler",
    "relay.sink.queue.encoding",
    "relay.sink.queue.payload",
    "relay.sink.queue.queue",
    "relay.sink.queue.shard",
    "relay.sink.queue.usage",
    "relay.sink.reporting.ledger",
    "relay.pipeline.metrics.hotpath.slow_path",
    "relay.pipeline.metrics.hotpath.v1_loop",
    "relay.pipeline.metrics.hotpath.v2_loop",
    "relay.pipeline.metrics.otlp.plan",
    "relay.pipeline.metrics.otlp.take_points",
    "relay.pipeline.metrics.histograms.point_layout",
    "relay.pipeline.metrics.histograms.counters",
    "relay.pipeline.routing.match_set",
    "relay.pipeline.routing.route",
    "relay.pipeline.routing.router",
    "relay.pipeline.routing.series_tally",
    "relay.pipeline.metrics.metadata.metric_types",
    "relay.pipeline.metrics.metadata.project_types",
    "relay.pipeline.metrics.series.lookup",
    "relay.pipeline.metrics.series.resolver",
    "relay.pipeline.metrics.series.series",
    "relay.pipeline.batching.emitter",
    "relay.pipeline.metrics.hotpath.v2_symbols",
    "relay.pipeline.metrics.series.series_table",
    "relay.codec.otlp.groups",
    "relay.codec.otlp.point_buffer",
    "relay.codec.otlp.point_request",
    "relay.codec.otlp.split",
    "relay.codec.otlp.batch",
    "relay.codec.otlp.envelope",
    "relay.codec.otlp.metrics_in.scan",
    "relay.codec.otlp.record_buffer",
    "relay.codec.otlp.record_fields",
    "relay.pipeline.records.entries",
    "relay.pipeline.records.appending",
    "relay.pipeline.records.results",
    "relay.pipeline.records.pipeline",
    "relay.codec.snappy_block",
    "relay.codec.compression",
    "relay.codec.remote_write.label_parser",
    "relay.codec.remote_write.cut",
    "relay.codec.remote_write.raw.label_table",
    "relay.codec.remote_write.raw.buffer",
    "relay.codec.remote_write.raw.ordered",
    "relay.codec.remote_write.raw.v1_plain",
    "relay.codec.remote_write.raw.v1_snappy",
    "relay.codec.remote_write.raw.v2_encoder",
    "relay.control.preview.scan",
    "relay.runtime.huge_pages",
    "relay.runtime.malloc",
)
"""Every extension module, compiled from its ``.pyx``, or from its ``.py`` with a ``.pxd`` beside
it."""

DIRECTIVES: Final[Mapping[str, object]] = {
    "language_level": "3",
    # Annotations are for mypy; C types are declared in .pxd files.
    "annotation_typing": False,
}
"""Compiler directives of all extension modules."""

MANIFEST: Final = "_build.json"
"""File in a checkout's package with the digest of each extension's sources, by extension path."""

PACKAGE: Final = Path(__file__).parents[1]
BUILD_COMMAND: Final = "python setup.py build_ext --inplace"

_CIMPORT = re.compile(r"^from (relay[.\w]+) cimport ", re.MULTILINE)
_SUFFIXES: Final = importlib.machinery.EXTENSION_SUFFIXES


class ExtensionError(ImportError):
    """Report an extension module that cannot run here; the message is one line with the remedy."""


def check_extensions(package: Path = PACKAGE) -> None:
    """Raise :class:`ExtensionError` unless every extension module is present and up to date.

    Also install an import hook that raises the same error if an extension fails to load later.
    """
    found: dict[str, Path] = {}
    for name in MODULES:
        extension = extension_of(name, package)
        if extension is None:
            raise _failure(_absence(name, package), package)
        found[name] = extension
    if is_checkout(package):
        stale = stale_modules(package)
        if stale:
            others = f" (and {len(stale) - 1} more)" if len(stale) > 1 else ""
            raise _failure(f"{stale[0]}{others} was not built from these sources", package)
    sys.meta_path.insert(0, _Finder(found, package))


def is_checkout(package: Path = PACKAGE) -> bool:
    """Return whether the package is a checkout, where sources may change at any time."""
    return (package.parent / "setup.py").is_file() and (package.parent / "pyproject.toml").is_file()


def stale_modules(package: Path = PACKAGE) -> list[str]:
    """Return the modules whose extension is missing or was built from other sources."""
    built = read_manifest(package)
    wanted = source_digests(package)
    stale = []
    for name in MODULES:
        extension = extension_of(name, package)
        if extension is None or built.get(_place(extension, package)) != wanted[name]:
            stale.append(name)
    return stale


def source_digests(package: Path = PACKAGE) -> dict[str, str]:
    """Return the SHA-256 of each module's sources and compiler directives."""
    read: dict[str, _Source | None] = {}
    digests = {}
    for name in MODULES:
        whole = hashlib.sha256(repr(sorted(DIRECTIVES.items())).encode())
        for source in _sources(name, package, read):
            whole.update(source.place.encode() + b"\n")
            whole.update(source.digest)
        digests[name] = whole.hexdigest()
    return digests


def read_manifest(package: Path = PACKAGE) -> dict[str, str]:
    """Return the recorded digests by extension path; empty if the file is missing or damaged."""
    try:
        found = json.loads((package / MANIFEST).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note_in_manifest(digests: Mapping[str, str], package: Path = PACKAGE) -> None:
    """Record the digests of the given modules; drop the entries of modules that are gone."""
    present = tuple(name.partition(".")[2].replace(".", "/") + "." for name in MODULES)
    entries = {
        place: digest
        for place, digest in read_manifest(package).items()
        if place.startswith(present)
    }
    for name, digest in digests.items():
        extension = extension_of(name, package)
        assert extension is not None, f"{name} was built"
        entries[_place(extension, package)] = digest
    _replace_manifest(entries, package)


def forget_in_manifest(names: Sequence[str], package: Path = PACKAGE) -> None:
    """Remove the entries of modules to be compiled, so that a failed build leaves them stale."""
    entries = read_manifest(package)
    for name in names:
        extension = extension_of(name, package)
        if extension is not None:
            entries.pop(_place(extension, package), None)
    _replace_manifest(entries, package)


def extension_of(name: str, package: Path = PACKAGE) -> Path | None:
    """Return the extension file that this Python would load for a module, or None."""
    for suffix in _SUFFIXES:
        path = _source(name, suffix, package)
        if path.is_file():
            return path
    return None


def main_source(name: str, package: Path = PACKAGE) -> Path:
    """Return the file that a module is compiled from."""
    raw = _source(name, ".pyx", package)
    return raw if raw.is_file() else _source(name, ".py", package)


def _replace_manifest(entries: Mapping[str, str], package: Path) -> None:
    text = json.dumps(dict(sorted(entries.items())), indent=1)
    (package / MANIFEST).write_text(text + "\n", encoding="utf-8")


class _Source(NamedTuple):
    """A file that modules are compiled from."""

    place: str
    """Its path below the package, with slashes."""

    digest: bytes
    cimports: tuple[str, ...]
    """Paths below the package of the ``.pxd`` files that it names; they need not be there."""


def _sources(name: str, package: Path, read: dict[str, _Source | None]) -> list[_Source]:
    """Return the files that a module is compiled from, in a fixed order.

    Includes the ``.pxd`` files that it cimports, because they define field offsets and inlined
    code. ``read`` has each file that was asked for by its path, None where there is none: all
    modules share most of theirs, and every process of a checkout asks for all.
    """
    stem = name.partition(".")[2].replace(".", "/")
    raw = _read(f"{stem}.pyx", package, read)
    main = raw if raw is not None else _read(f"{stem}.py", package, read)
    found = [one for one in (main, _read(f"{stem}.pxd", package, read)) if one is not None]
    for source in found:  # the list grows during the loop
        for place in source.cimports:
            declared = _read(place, package, read)
            if declared is not None and declared not in found:
                found.append(declared)
    return found


def _read(place: str, package: Path, read: dict[str, _Source | None]) -> _Source | None:
    if place not in read:
        try:
            content = (package / place).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            read[place] = None
        else:
            # A .py file cannot cimport.
            names = [] if place.endswith(".py") else _CIMPORT.findall(content.decode())
            cimports = [f"{one.partition('.')[2].replace('.', '/')}.pxd" for one in names]
            read[place] = _Source(place, hashlib.sha256(content).digest(), tuple(cimports))
    return read[place]


def _source(name: str, suffix: str, package: Path) -> Path:
    parts = name.split(".")[1:]
    return package.joinpath(*parts[:-1], parts[-1] + suffix)


def _place(path: Path, package: Path) -> str:
    return path.relative_to(package).as_posix()


def _absence(name: str, package: Path) -> str:
    """Return why there is no extension for this Python."""
    stem = _source(name, "", package)
    others = sorted(
        path.name
        for path in stem.parent.glob(f"{stem.name}.*")
        if path.suffix in (".so", ".pyd", ".dylib")
    )
    if others:
        return f"{name} was built for another Python or platform ({others[0]})"
    return f"{name} was not built"


def _failure(fault: str, package: Path) -> ExtensionError:
    """Make the error with fault and remedy, printed as one line if uncaught."""
    if is_checkout(package):
        remedy = f'run "{BUILD_COMMAND}" in {package.parent}'
    else:
        remedy = f"install telemetry-relay again, from a wheel for {_SUFFIXES[0].strip('.')}"
    _shorten_tracebacks()
    return ExtensionError(f"extension module {fault}; {remedy}")


def _shorten_tracebacks() -> None:
    """Print an uncaught :class:`ExtensionError` as one line without a traceback."""
    usual = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, ExtensionError):
            print(f"relay: {error}", file=sys.stderr)
        else:
            usual(kind, error, traceback)

    sys.excepthook = hook


class _Finder:
    """Find the extensions at the paths that :func:`check_extensions` verified."""

    def __init__(self, extensions: Mapping[str, Path], package: Path) -> None:
        self._extensions = extensions
        self._package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Implement the protocol of :data:`sys.meta_path`."""
        extension = self._extensions.get(fullname)
        if extension is None:
            return None
        loader = _Loader(fullname, str(extension), self._package)
        return importlib.util.spec_from_file_location(fullname, extension, loader=loader)


class _Loader(importlib.machinery.ExtensionFileLoader):
    """Load an extension; on failure raise :class:`ExtensionError` with the remedy."""

    def __init__(self, name: str, path: str, package: Path) -> None:
        super().__init__(name, path)
        self._package = package

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Implement :class:`importlib.machinery.ExtensionFileLoader`."""
        try:
            return super().create_module(spec)
        except ImportError as error:
            reason = (str(error).splitlines() or ["no reason given"])[0]
            fault = f"{self.name} does not load here ({reason})"
            raise _failure(fault, self._package) from error
