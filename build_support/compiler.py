"""Choose the C compiler for the extension modules.

* The system's own where it works: $CC, then the interpreter's, cc, gcc, clang.
* Otherwise the one in the ``ziglang`` package, for Linux on x86-64 and AArch64.
* ``RELAY_CC=zig`` takes the second at once, ``RELAY_CC=system`` never takes it.
* ``RELAY_OPTIMIZE=-O1`` compiles in half of the time what is not for use: a build for tests.

``python -m build_support.compiler`` prints the requirement that is missing, if any.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

SWITCH = "RELAY_CC"
OPTIMIZE = "RELAY_OPTIMIZE"
ZIG_REQUIREMENT = "ziglang>=0.13"

# glibc 2.17 is manylinux2014's. Without a target and a processor zig compiles for the very machine
# that it runs on, and others meet illegal instructions.
ZIG_TARGETS = {
    "x86_64-linux-gnu": ("x86_64-linux-gnu.2.17", "x86_64_v2"),
    "x86_64-linux-musl": ("x86_64-linux-musl", "x86_64_v2"),
    "aarch64-linux-gnu": ("aarch64-linux-gnu.2.17", "generic"),
    "aarch64-linux-musl": ("aarch64-linux-musl", "generic"),
}

# Headers that generated C includes: a compiler without the C library's is of no use.
_PROBE = """
#include <math.h>
#include <stdlib.h>
#include <string.h>
int probe(const char *text) { return atoi(text) + (int)strlen(text) + (int)floor(0.5); }
"""


class CompilerError(Exception):
    """There is no way to compile; the text says what to install."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler and how it is called."""

    title: str
    compile: tuple[str, ...]
    link: tuple[str, ...]
    optimize: str = "-O3"
    """Its level; the one of $RELAY_OPTIMIZE counts instead."""

    is_zig: bool = False
    """Whether it came from the package index."""

    def level_of(self, is_small: bool) -> str:
        """Return the level of optimization to compile a module with."""
        return os.environ.get(OPTIMIZE) or ("-Os" if is_small else self.optimize)


def choose() -> Compiler:
    """Return the compiler to use. Raises CompilerError where there is none."""
    check_headers()
    if (found := find_system()) is not None:
        return found
    return zig()


def missing_requirements() -> list[str]:
    """Return what a build has to install besides its fixed requirements."""
    if find_system() is not None or _zig_binary() is not None or not zig_target():
        return []
    return [ZIG_REQUIREMENT]


def check_headers() -> None:
    """Raise CompilerError where the interpreter comes without its headers."""
    include = sysconfig.get_paths()["include"]
    if not Path(include, "Python.h").is_file():
        raise CompilerError(
            f"there is no Python.h in {include}: install the headers of this Python "
            "(on Debian: apt-get install python3-dev)"
        )


def find_system() -> Compiler | None:
    """Return the system's compiler, None where it has none that works.

    Raises CompilerError for a $CC that does not work.
    """
    wanted = os.environ.get(SWITCH, "")
    if wanted not in ("", "system", "zig"):
        raise CompilerError(f"{SWITCH} is {wanted!r}; it may be system, zig, or unset")
    if wanted == "zig":
        return None
    if given := os.environ.get("CC"):
        if not _works(shlex.split(given)):
            raise CompilerError(f"CC is {given!r}, which cannot compile and link a small C file")
        return _system(shlex.split(given))
    own = sysconfig.get_config_var("CC") or ""
    for command in dict.fromkeys((own, "cc", "gcc", "clang")):
        if command and _works(shlex.split(command)):
            return _system(shlex.split(command))
    if wanted == "system":
        raise CompilerError(f"{SWITCH} is system, and no C compiler works; install one (gcc)")
    return None


def zig() -> Compiler:
    """Return the compiler of the ``ziglang`` package."""
    binary, target = _zig_binary(), zig_target()
    if not target:
        raise CompilerError("no C compiler works; install one (gcc or clang)")
    if binary is None:
        raise CompilerError(
            f"no C compiler works; install one (gcc), or pip install {ZIG_REQUIREMENT}"
        )
    triple, processor = target
    command = (str(binary), "cc", "-target", triple, f"-mcpu={processor}")
    flags = ("-fPIC", "-fwrapv", "-DNDEBUG", "-fno-sanitize=all", *_debian_headers())
    version = subprocess.run(
        [binary, "version"], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()
    why = f"{SWITCH} is zig" if os.environ.get(SWITCH) == "zig" else "no C compiler works here"
    title = f"{why}: compiling with zig cc {version} for {triple}, {processor}"
    return Compiler(title, (*command, *flags), (*command, "-shared"), "-O2", is_zig=True)


def zig_target() -> tuple[str, str] | None:
    """Return target and processor for this interpreter, None where zig is not used."""
    return ZIG_TARGETS.get(_abi())


def _abi() -> str:
    """Return the end of the file names of extension modules: x86_64-linux-gnu."""
    return (sysconfig.get_config_var("SOABI") or "").split("-", 2)[-1]


def _zig_binary() -> Path | None:
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        return None
    binary = Path(found.origin).with_name("zig")
    return binary if binary.is_file() else None


def _debian_headers() -> tuple[str, ...]:
    """Return the option for pyconfig.h, which Debian keeps elsewhere and includes by a path."""
    include = Path(sysconfig.get_paths()["include"])
    if (include.parent / _abi() / include.name / "pyconfig.h").is_file():
        return ("-idirafter", str(include.parent))
    return ()


def _system(command: list[str]) -> Compiler:
    flags = shlex.split(sysconfig.get_config_var("CFLAGS") or "")
    shared = shlex.split(sysconfig.get_config_var("LDSHARED") or "")
    own = shlex.split(sysconfig.get_config_var("CC") or "")
    # What follows the interpreter's own compiler in its link command, after ours.
    rest = shared[len(own) :] if shared[: len(own)] == own else shared[1:]
    pic = shlex.split(sysconfig.get_config_var("CCSHARED") or "")
    ours = tuple(command)
    return Compiler(
        shlex.join(command),
        (*ours, *flags, *shlex.split(os.environ.get("CFLAGS", "")), *pic),
        (*ours, *rest, *shlex.split(os.environ.get("LDFLAGS", ""))),
    )


def _works(command: list[str]) -> bool:
    """Whether a compiler makes a shared object of a file that includes the C library's headers."""
    if shutil.which(command[0]) is None:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "probe.c")
        source.write_text(_PROBE, encoding="utf-8")
        output = Path(scratch, "probe.so")
        shared = ["-dynamiclib"] if sysconfig.get_platform().startswith("macosx") else ["-shared"]
        done = subprocess.run(
            [*command, *shared, "-fPIC", "-o", str(output), str(source)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
        return done.returncode == 0 and output.is_file()


def main() -> int:
    """Print what is missing; 1 where a compiler was asked for that does not work."""
    try:
        print("\n".join(missing_requirements()))
    except CompilerError as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
