# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the add-on as it ships: the add-on with the contract copied into it, as one package."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _stage(folder):
    """The shipped layout: `blender_addon` as `fullbody_mocap`, with the core's contract inside."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    package = folder / "fullbody_mocap"
    shutil.copytree(ROOT / "blender_addon", package, ignore=ignore)
    shutil.copytree(ROOT / "fullbody_core" / "contract", package / "contract", ignore=ignore)
    return package


# Test modules import the staged package at their top, before any fixture could run.
_STAGED = Path(tempfile.mkdtemp(prefix="fullbody_staged_"))
_stage(_STAGED)
sys.path[:0] = [str(_STAGED), str(Path(__file__).parent)]

import bpy  # noqa: E402

_exit_status = 0


def pytest_sessionfinish(session, exitstatus):
    global _exit_status
    _exit_status = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Leaves at once: Blender as a module can hang on its way out. The tests' status is what counts."""
    shutil.rmtree(_STAGED, ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_exit_status)


@pytest.fixture(scope="session")
def staged():
    """The shipped package's folder."""
    return _STAGED / "fullbody_mocap"


@pytest.fixture(autouse=True)
def scene():
    """An empty scene for each test."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return bpy.context.scene


@pytest.fixture
def addon():
    """The add-on, registered for one test."""
    import fullbody_mocap

    fullbody_mocap.register()
    yield fullbody_mocap
    fullbody_mocap.unregister()
