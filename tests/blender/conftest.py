# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the add-on as it ships: the add-on with the contract copied into it, as one package."""

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


sys.path.insert(0, str(ROOT))
from fullbody_core.addon_package import stage_addon  # noqa: E402

# Test modules import the staged package at their top, before any fixture could run.
_STAGED = Path(tempfile.mkdtemp(prefix="fullbody_staged_"))
stage_addon(_STAGED)
sys.path[:1] = [str(_STAGED), str(Path(__file__).parent)]

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


@pytest.fixture(scope="session")
def rigify_file(request):
    """A .blend with Rigify's human rig, generated and skinned: armature object "rigify".

    Generating takes some seconds, so it is kept in pytest's cache for as long as Blender and what skins it stay the same.
    """
    from rigged_characters import save_rigify

    makers = b"".join(
        (_STAGED / "fullbody_mocap" / "evaluate" / f"{name}.py").read_bytes() for name in ("make_characters", "rig_variants")
    )
    kept = request.config.cache.mkdir("rigify") / f"{bpy.app.version_string}_{hashlib.sha256(makers).hexdigest()[:16]}.blend"
    if not kept.is_file():
        part = kept.with_name(f"{os.getpid()}.blend")
        save_rigify(part)
        os.replace(part, kept)
    return kept


@pytest.fixture
def rigify(rigify_file, scene):
    """Rigify's human rig in the open scene."""
    from rigged_characters import append_rig

    return append_rig(rigify_file)


@pytest.fixture
def addon():
    """The add-on, registered for one test."""
    import fullbody_mocap

    fullbody_mocap.register()
    yield fullbody_mocap
    fullbody_mocap.unregister()
