"""Who may import whom, read from the sources, so that an import inside a function counts too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE, ADDON = ROOT / "fullbody_core", ROOT / "blender_addon"
CONTRACT = CORE / "contract"


def sources(folder):
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imported(path):
    """Top-level names of the packages that a file imports absolutely, and its relative imports as (level, module)."""
    absolute, relative = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            absolute |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            absolute.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            relative |= {(node.level, node.module or alias.name) for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("__import__", "import_module"):
            if node.args and isinstance(node.args[0], ast.Constant):
                absolute.add(str(node.args[0].value).split(".")[0])
    return absolute, relative


def offenders(folder, forbidden):
    found = {str(path.relative_to(ROOT)): sorted(imported(path)[0] & forbidden) for path in sources(folder)}
    return {name: names for name, names in found.items() if names}


def test_there_are_sources():
    assert sources(CORE) and sources(ADDON) and sources(CONTRACT)


def test_the_core_never_imports_blender():
    assert offenders(CORE, {"bpy", "bmesh", "mathutils", "gpu", "bpy_extras", "blender_addon"}) == {}


def test_the_addon_never_imports_the_core_or_what_it_needs():
    heavy = {"torch", "cv2", "mediapipe", "scipy", "av", "anny", "roma", "smplx", "tqdm", "platformdirs", "fullbody_core"}
    assert offenders(ADDON, heavy) == {}


def test_the_addon_needs_only_blender_numpy_and_itself():
    blender = {"bpy", "bmesh", "mathutils", "gpu", "gpu_extras", "bpy_extras", "blf", "addon_utils", "imbuf", "aud"}
    allowed = blender | {"numpy"} | sys.stdlib_module_names
    found = {str(path.relative_to(ROOT)): sorted(imported(path)[0] - allowed) for path in sources(ADDON)}
    assert {name: extra for name, extra in found.items() if extra} == {}


def test_the_contract_needs_only_numpy():
    allowed = {"numpy"} | sys.stdlib_module_names
    found = {path.name: sorted(imported(path)[0] - allowed) for path in sources(CONTRACT)}
    assert {name: extra for name, extra in found.items() if extra} == {}


@pytest.mark.parametrize("path", sources(CONTRACT), ids=lambda path: path.name)
def test_the_contract_stays_inside_itself(path):
    depth = len(path.relative_to(CONTRACT).parts)
    assert all(level <= depth for level, _ in imported(path)[1])


def test_a_capture_needs_no_renderer():
    """What only training and tests install must not be needed to capture a video and to build its .blend."""
    blocked = "import sys\nfor name in ('embreex', 'moderngl', 'smplx', 'h5py', 'bpy'): sys.modules[name] = None\n"
    wanted = "import fullbody_core.pipeline, fullbody_core.blend, fullbody_core.overlay, fullbody_core.cli\n"
    faces = "import fullbody_core.face.open_face, fullbody_core.face.load_face, fullbody_core.evaluate.face\n"
    done = subprocess.run([sys.executable, "-c", blocked + wanted + faces], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
