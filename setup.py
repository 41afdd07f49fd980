"""What pyproject.toml cannot say: the hot path as extension modules, where there is a compiler.

Each is optional: without a compiler the plain module beside it runs (relay/hot_path.py).
``python setup.py build_ext --inplace`` makes them in a checkout.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

HOT_PATH = Path(__file__).parent / "relay" / "hot_path.py"


def modules() -> list[str]:
    """``MODULES`` of relay/hot_path.py, read without importing what may have to be built."""
    for node in ast.parse(HOT_PATH.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "MODULES":
            assert node.value is not None
            return list(ast.literal_eval(node.value))
    raise AssertionError("relay/hot_path.py names no MODULES")


def extension(name: str) -> Extension:
    """One module, from its .pyx where there is one: that is its twin on raw memory."""
    source = Path(*name.split(".")).with_suffix(".pyx")
    if not source.is_file():
        source = source.with_suffix(".py")
    return Extension(name, [source.as_posix()])


extensions = cythonize(
    [extension(name) for name in modules()],
    build_dir="build/cython",
    compiler_directives={
        "language_level": "3",
        # Annotations are for mypy; types that are to be compiled stand in .pxd files.
        "annotation_typing": False,
    },
)
for built in extensions:
    built.optional = True  # here, because Cython makes extensions of its own

setup(options={"build_ext": {"parallel": os.cpu_count()}}, ext_modules=extensions)
