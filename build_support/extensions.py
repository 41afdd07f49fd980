"""The ``build_ext`` command: translates and compiles each module once, a line for each.

* Builds that share a folder take from it what another one has made: build_support/build_cache.py.
* Both steps of a module run in one task, as many tasks as there are processors, longest first.
* In a checkout (``--inplace``) only what is stale is built: relay/runtime/extension_check.py.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import sysconfig
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

from build_support.build_cache import kept
from build_support.compiler import Compiler, CompilerError, choose
from build_support.translator import Translators

ROOT = Path(__file__).parents[1]
# By path: importing the package would ask for what is to be built.
CHECK = runpy.run_path(str(ROOT / "relay" / "runtime" / "extension_check.py"))

# After the interpreter's own flags, which differ from one to the next.
COMPILE_FLAGS = ["-g0", "-Wno-sign-compare", "-Wno-unused-function"]

COMPILED_FOR_SIZE = frozenset(
    {
        "relay.control.durability.admission",
        "relay.pipeline.batching.watermark",
        "relay.pipeline.engine",
        "relay.pipeline.signals",
        "relay.receiver.counters",
        "relay.receiver.http.usual_head",
        "relay.receiver.http.usual_requests",
        "relay.receiver.http.whole_answer",
        "relay.receiver.remote_write",
        "relay.runtime.huge_pages",
        "relay.runtime.malloc",
        "relay.sink.delivery",
        "relay.sink.queue.payload",
        "relay.sink.queue.queue",
        "relay.sink.queue.shard",
        "relay.sink.queue.usage",
        "relay.sink.reporting.ledger",
        "relay.telemetry.histogram",
    }
)
"""Modules of the request and the batch, whose loops are not over samples, series or records.

Compiled with -Os they take half of the memory (ADR 0026). The flags are not in a module's digest:
after a change here, delete the built modules.
"""
assert set(CHECK["MODULES"]) >= COMPILED_FOR_SIZE


def extensions() -> list[Extension]:
    """Return every extension module, not yet translated to C."""
    return [
        Extension(
            name,
            [CHECK["main_source"](name).relative_to(ROOT).as_posix()],
            extra_compile_args=COMPILE_FLAGS,
        )
        for name in CHECK["MODULES"]
    ]


class BuildExtensions(build_ext):  # type: ignore[misc]  # setuptools has no types
    """Builds extension modules from Cython sources."""

    extensions: list[Extension]

    def run(self) -> None:
        """Build all of them; in a checkout, those that are stale."""
        self.force = True  # which ones are built is decided here
        if not self.inplace:
            super().run()
            return
        everything = self.extensions
        digests = CHECK["source_digests"]()  # before anybody can change what is compiled
        stale = CHECK["stale_modules"]()
        CHECK["forget_in_manifest"](stale)
        self.extensions = [one for one in everything if one.name in stale]
        super().run()
        CHECK["note_in_manifest"]({name: digests[name] for name in stale})
        self.extensions = everything

    def build_extensions(self) -> None:
        """Build ``self.extensions``. Raises CompileError for the first that fails."""
        self.check_extensions_list(self.extensions)
        try:
            compiler = choose()
        except CompilerError as error:
            raise CompileError(str(error)) from error
        self._use(compiler)
        self._compiler = _version_text(compiler)
        self._digests: dict[str, str] = CHECK["source_digests"]()
        longest_first = sorted(self.extensions, key=_size, reverse=True)
        with (
            Translators() as self._translators,
            ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        ):
            running = {pool.submit(self._build, one): one.name for one in longest_first}
            for number, done in enumerate(as_completed(running), 1):
                self._report(done, running, number)

    def _report(self, done: Future[None], running: dict[Future[None], str], number: int) -> None:
        try:
            done.result()
        except BaseException:
            for other in running:
                other.cancel()
            raise
        print(f"{number}/{len(running)} {running[done]}", flush=True)

    def _use(self, compiler: Compiler) -> None:
        if compiler.is_zig:
            print(compiler.title, flush=True)
            for variable in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"):
                os.environ.setdefault(variable, str(Path(self.build_temp, "zig").absolute()))
        self.compiler.set_executables(
            compiler=list(compiler.compile),
            compiler_so=list(compiler.compile),
            linker_so=list(compiler.link),
        )
        for one in self.extensions:
            # By bench.micro.kernel: -O2 of gcc makes histograms 15 % slower, -O3 of zig gains none.
            one.extra_compile_args = [
                *one.extra_compile_args,
                compiler.level_of(one.name in COMPILED_FOR_SIZE),
            ]
            if sys.platform == "linux":
                # Read-only data beside the code, as before binutils 2.31: two pages less of each.
                one.extra_link_args = [*one.extra_link_args, "-Wl,-z,noseparate-code"]
            if sys.platform == "linux" and not self.inplace:
                one.extra_link_args = [*one.extra_link_args, "-s"]

    def _build(self, extension: Extension) -> None:
        source = self._translate(extension.name, extension.sources[0])
        extension.extra_objects = [self._compile(extension, source)]
        extension.sources = []
        self.build_extension(extension)

    def _translate(self, name: str, source: str) -> str:
        """Write a module's C below the build directory; returns its path."""
        output = Path(self.build_temp, "c", f"{name}.c")
        output.parent.mkdir(parents=True, exist_ok=True)
        directives = [f"{key}={value}" for key, value in CHECK["DIRECTIVES"].items()]
        command = ["--module-name", name, "-o", str(output)]
        for directive in directives:
            command += ["-X", directive]

        def translate() -> None:
            if not self._translators.translate([*command, source]):
                raise CompileError(f"{source}: Cython refuses it")

        digest = self._digests[name]
        kept(
            output,
            translate,
            name,
            digest,
            version("Cython"),
            is_unchanged=lambda: CHECK["source_digests"]()[name] == digest,
        )
        return str(output)

    def _compile(self, extension: Extension, source: str) -> str:
        """Compile a module's C; returns the object's path."""
        (name,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
        output = Path(str(name))
        output.parent.mkdir(parents=True, exist_ok=True)

        def compile_() -> None:
            self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=extension.include_dirs,
                extra_postargs=extension.extra_compile_args,
            )

        command = [*self.compiler.compiler_so, *extension.extra_compile_args]
        # The interpreter with its headers, which the file name tells; what is included besides is
        # the C library's.
        interpreter = (sys.version, sysconfig.get_paths()["include"], self.get_ext_filename(""))
        kept(output, compile_, Path(source).read_bytes(), command, self._compiler, *interpreter)
        return str(output)


def _version_text(compiler: Compiler) -> str:
    done = subprocess.run(
        [*compiler.compile, "--version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _size(extension: Extension) -> int:
    return Path(ROOT, extension.sources[0]).stat().st_size
