"""What pyproject.toml cannot say: the hot path is made of extension modules.

``python setup.py build_ext --inplace`` compiles, in a checkout, those whose sources are others than
those that they were made of; by content, never by file time. Everything else compiles all of them.
A module that does not compile fails the build.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup

# Run as a script, by a caller whose first entry of the path is another one.
sys.path.insert(0, str(Path(__file__).parent))

from build_support.extensions import BuildExtensions, extensions

setup(cmdclass={"build_ext": BuildExtensions}, ext_modules=extensions())
