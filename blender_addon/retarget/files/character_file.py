# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens a rigged character's file as the open file of this Blender: .blend, .fbx, .glb, .gltf, .vrm."""

import tempfile
from pathlib import Path

import bpy

from ...contract.npz_file import FileError
from ..guess.find import find_role_map
from ..rig.reading import skeleton_of
from .vrm_file import glb_bytes, humanoid_map, read_glb

SUFFIXES = (".blend", ".fbx", ".glb", ".gltf", ".vrm")
"""How the names of files end that can be opened."""

_OLDEST_FBX = 7100
"""Version that Blender's main importer reads."""


class CharacterFileError(FileError):
    """A character's file that cannot be used. The message is one sentence for the user."""


def open_character(path, armature=None):
    """Opens a character's file in place of whatever was open. Returns its armature object, role map and notes.

    armature: the armature object's name; without it the one that fits most roles is taken. The role map is what the file
    itself says (VRM), or None. No script in the file is run. Imported files come without their own animations.
    Raises `FileError`.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise CharacterFileError(f"{path} is no character's file: give one that ends with {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise CharacterFileError(f"There is no character at {path}.")
    role_map, notes = None, []
    if path.suffix.lower() == ".blend":
        _open_blend(path)
    else:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        role_map = _import(path)
        if _drop_animation():
            notes.append(f"The animation that {path.name} came with is left out.")
    found = _choose(path, armature, role_map, notes)
    _show(found)
    return found, role_map, notes


def _open_blend(path):
    try:
        bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False, use_scripts=False)
    except RuntimeError as error:
        raise CharacterFileError(f"Blender {bpy.app.version_string} cannot open {path}: {_reason(error)}") from error


def _import(path):
    """Imports into the empty file. Returns the role map that the file brings, or None."""
    if path.suffix.lower() == ".fbx":
        _import_fbx(path)
        return None
    if path.suffix.lower() == ".gltf":
        _run(path, lambda: bpy.ops.import_scene.gltf(filepath=str(path)))
        return None
    document, further = read_glb(path)
    role_map = humanoid_map(document, path)
    if role_map is None:
        _run(path, lambda: bpy.ops.import_scene.gltf(filepath=str(path)))
        return None
    # Under a name that the importer takes, and with the names of the bones that the map knows.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"{path.stem}.glb"
        copy.write_bytes(glb_bytes(document, further))
        _run(path, lambda: bpy.ops.import_scene.gltf(filepath=str(copy)))
    return role_map


def _import_fbx(path):
    try:
        with path.open("rb") as file:
            start = file.read(27)
    except OSError as error:
        raise CharacterFileError(f"Cannot read {path}: {error.strerror}.") from error
    binary = start.startswith(b"Kaydara FBX Binary") and int.from_bytes(start[23:27], "little") >= _OLDEST_FBX
    # What is text or older only the other importer reads, which gives bones other axes than the file's.
    importer = bpy.ops.import_scene.fbx if binary else bpy.ops.wm.fbx_import
    _run(path, lambda: importer(filepath=str(path)))


def _run(path, importer):
    try:
        result = importer()
    except RuntimeError as error:
        raise CharacterFileError(f"{path} cannot be imported: {_reason(error)}") from error
    if "FINISHED" not in result:
        raise CharacterFileError(f"{path} cannot be imported: it is damaged, or not what its name says.")


def _reason(error):
    """What Blender says of a file, as the end of a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or any(words in lines[0] for words in ("Python: Traceback", "Couldn't open file")):
        return "it is damaged, or not what its name says."
    return lines[0].removeprefix("Error: ").rstrip(".") + "."


def _drop_animation():
    """Takes off what an imported file plays, and puts its armatures to rest. Returns whether there was any."""
    if not bpy.data.actions:
        return False
    for item in bpy.data.objects:
        item.animation_data_clear()
        for pose_bone in item.pose.bones if item.pose else ():
            pose_bone.matrix_basis.identity()
    for keys in bpy.data.shape_keys:
        keys.animation_data_clear()
    for action in list(bpy.data.actions):
        bpy.data.actions.remove(action)
    return True


def _choose(path, name, role_map, notes):
    armatures = [item for item in bpy.data.objects if item.type == "ARMATURE" and item.users_scene]
    if not armatures:
        raise CharacterFileError(f"{path} has no armature: give a rigged character.")
    if name is not None:
        named = [item for item in armatures if item.name == name] or [item for item in armatures if item.data.name == name]
        if not named:
            there = ", ".join(item.name for item in armatures)
            raise CharacterFileError(f"{path} has no armature called {name}; there is {there}.")
        return _own(named[0], path)
    if len(armatures) == 1:
        return _own(armatures[0], path)
    fits = {item: _fit(item, role_map) for item in armatures}
    best = max(armatures, key=fits.get)
    notes.append(f"{path.name} has {len(armatures)} armatures; {best.name} was taken, which fits most roles.")
    return _own(best, path)


def _fit(armature, role_map):
    """What may be animated comes before what may not, then what has all that is needed, then what has most."""
    names = {bone.name for bone in armature.data.bones}
    if role_map is None:
        role_map = find_role_map(skeleton_of(armature)) if names else None
    fitting = {role for role, bones in role_map.bones.items() if names.issuperset(bones)} if role_map else set()
    required = role_map is not None and not role_map.missing() and len(fitting) == len(role_map.bones)
    return armature.library is None, required, len(fitting)


def _own(armature, path):
    if not armature.data.bones:
        raise CharacterFileError(f"The armature {armature.name} of {path} has no bones: give a rigged character.")
    if armature.library is not None:
        raise CharacterFileError(
            f"The armature {armature.name} of {path} is linked from another file: make a library override of it, or give that file."
        )
    return armature


def _show(armature):
    """Makes the armature's scene the open one, out of any mode."""
    scene = armature.users_scene[0] if bpy.context.scene not in armature.users_scene else bpy.context.scene
    bpy.context.window.scene = scene
    if bpy.context.object is not None and bpy.context.object.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    if armature.name not in bpy.context.view_layer.objects:
        raise CharacterFileError(f"The armature {armature.name} is left out of the view layer: include its collection.")
