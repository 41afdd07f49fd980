"""The ``build_ext`` command: translates and compiles each module once, a line for each.

* Both steps of a module run in one task, as many tasks as there are processors, longest first.
* In a checkout (``--inplace``) only what is stale is built: relay/runtime/extension_check.py.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

from build_support.compiler import Compiler, CompilerError, choose

ROOT = Path(__file__).parents[1]
# By path: importing the package would ask for what is to be built.
CHECK = runpy.run_path(str(ROOT / "relay" / "runtime" / "extension_check.py"))

# After the interpreter's own flags, which differ from one to the next.
COMPILE_FLAGS = ["-g0", "-Wno-sign-compare", "-Wno-unused-function"]


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
        longest_first = sorted(self.extensions, key=_size, reverse=True)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
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
            one.extra_compile_args = [*one.extra_compile_args, compiler.optimize]
            if sys.platform == "linux" and not self.inplace:
                one.extra_link_args = [*one.extra_link_args, "-s"]

    def _build(self, extension: Extension) -> None:
        extension.sources = [self._translate(extension.name, extension.sources[0])]
        self.build_extension(extension)

    def _translate(self, name: str, source: str) -> str:
        """Write a module's C below the build directory; returns its path."""
        output = Path(self.build_temp, "c", f"{name}.c")
        output.parent.mkdir(parents=True, exist_ok=True)
        directives = [f"{key}={value}" for key, value in CHECK["DIRECTIVES"].items()]
        command = [sys.executable, "-m", "cython", "--module-name", name, "-o", str(output)]
        for directive in directives:
            command += ["-X", directive]
        done = subprocess.run(
            [*command, source],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.stdout:
            print(done.stdout, end="", flush=True)
        if done.returncode:
            raise CompileError(f"{source}: Cython refuses it")
        return str(output)


def _size(extension: Extension) -> int:
    return Path(ROOT, extension.sources[0]).stat().st_size
