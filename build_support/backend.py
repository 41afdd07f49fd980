"""The PEP 517 build backend: setuptools', and a C compiler where the machine has none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from setuptools import build_meta

from build_support.compiler import missing_requirements

Settings = dict[str, Any] | None

get_requires_for_build_sdist = build_meta.get_requires_for_build_sdist
build_sdist = build_meta.build_sdist
prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable
build_editable = build_meta.build_editable


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Return setuptools' requirements, and a compiler where there is none."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *missing_requirements()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """Return setuptools' requirements, and a compiler where there is none."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *missing_requirements()]


def build_wheel(
    wheel_directory: str,
    config_settings: Settings = None,
    metadata_directory: str | None = None,
) -> str:
    """Build a wheel of what is there now."""
    # setuptools packs whatever an earlier build left in build/lib, deleted modules included.
    for stale in Path("build").glob("lib*"):
        shutil.rmtree(stale)
    name: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    return name
