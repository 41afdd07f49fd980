"""What pyproject.toml cannot say: the hot path is made of extension modules.

``python setup.py build_ext --inplace`` compiles, in a checkout, those whose sources are others than
those that they were made of; by content, never by file time. Everything else compiles all of them.
A module that does not compile fails the build.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
# By path: importing the package would ask for what is to be built.
CHECK = runpy.run_path(str(ROOT / "relay" / "runtime" / "extension_check.py"))


def extension(name: str) -> Extension:
    """One module, not yet translated to C."""
    return Extension(name, [CHECK["main_source"](name).relative_to(ROOT).as_posix()])


def translate(extensions: list[Extension]) -> None:
    """Turn the sources of all of them into C."""
    translated = cythonize(
        [Extension(one.name, one.sources) for one in extensions],
        build_dir="build/cython",
        compiler_directives=dict(CHECK["DIRECTIVES"]),
        force=True,
    )
    for one, done in zip(extensions, translated, strict=True):
        one.sources = done.sources


class BuildExtensions(build_ext):
    """Compiles what is stale, and writes down what that was made of."""

    def run(self) -> None:
        """See :class:`setuptools.command.build_ext.build_ext`."""
        self.force = True  # which ones are compiled is decided here
        if not self.inplace:
            translate(self.extensions)
            super().run()
            return
        everything = self.extensions
        digests = CHECK["source_digests"]()  # before anybody can change what is compiled
        stale = CHECK["stale_modules"]()
        CHECK["forget_in_manifest"](stale)
        self.extensions = [one for one in everything if one.name in stale]
        translate(self.extensions)
        super().run()
        CHECK["note_in_manifest"]({name: digests[name] for name in stale})
        self.extensions = everything


setup(
    cmdclass={"build_ext": BuildExtensions},
    options={"build_ext": {"parallel": os.cpu_count()}},
    ext_modules=[extension(name) for name in CHECK["MODULES"]],
)
