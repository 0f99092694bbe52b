# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on as users get it: built, validated and installed by Blender's own tools."""

import os
import re
import subprocess
import sys
from pathlib import Path

import bpy
from synthetic_person import make_clip, make_template

from fullbody_core.addon_package import zip_addon

INSTALL_AND_IMPORT = """
import os, sys
import bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
archive, clip = sys.argv[1:]
done = bpy.ops.extensions.package_install_files(filepath=archive, repo="user_default", enable_on_install=True)
assert done == {"FINISHED"}, done
import bl_ext.user_default.fullbody_mocap as addon
assert addon.__file__.startswith(os.environ["BLENDER_USER_RESOURCES"]), addon.__file__
assert "fullbody_mocap" not in sys.modules
# No template given: the character that comes with the add-on.
assert bpy.ops.fullbody.import_capture(filepath=clip) == {"FINISHED"}
assert bpy.context.object.animation_data.action is not None
assert len(bpy.context.object.data.bones) == 52
print("installed and imported", flush=True)
os._exit(0)  # a registered panel can hang Blender as a module on its way out
"""


def extension_tool():
    return Path(bpy.utils.resource_path("LOCAL")) / "scripts" / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"


def run(*command, **options):
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_build_validate_install_and_import(staged, tmp_path):
    run(extension_tool(), "validate", staged)
    run(extension_tool(), "build", "--source-dir", staged, "--output-dir", tmp_path)
    (built,) = tmp_path.glob("*.zip")
    template = make_template()
    template.save(tmp_path / "person.npz")
    archive = zip_addon(tmp_path / "shipped.zip", tmp_path / "person.npz")
    for path in (built, archive):
        run(extension_tool(), "validate", path)

    make_clip(template, frames=20).save(tmp_path / "walk.npz")
    resources = tmp_path / "resources"
    resources.mkdir()
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(resources), "PYTHONPATH": ""}
    assert "installed and imported" in run("-c", INSTALL_AND_IMPORT, archive, tmp_path / "walk.npz", env=environment)


def test_needs_nothing_but_blender_and_numpy(staged):
    allowed = set(sys.stdlib_module_names) | {"bpy", "bpy_extras", "addon_utils", "bmesh", "mathutils", "numpy"}
    for path in staged.rglob("*.py"):
        imported = re.findall(r"^\s*(?:import|from)\s+([a-zA-Z_]\w*)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(imported) <= allowed, f"{path.name} imports {set(imported) - allowed}"
