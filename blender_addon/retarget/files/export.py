# SPDX-License-Identifier: GPL-3.0-or-later
"""An animated character into files: .blend, .fbx, .glb, .bvh, .usd, each whole or not at all.

What is written is the character alone: its armature, what hangs on it or is deformed by it, and the empties and armatures
above it. Its rest pose, its transforms and its bones' names stay as they are; the motion is what Blender evaluates, frame by frame.
"""

from contextlib import contextmanager
from pathlib import Path

import bpy
import numpy as np

from ...whole_files import whole_files
from .bvh_file import bvh_text
from .plain_armature import STRETCH, is_control_rig, plain_armature, pose_matrices

SUFFIXES = {"blend": ".blend", "fbx": ".fbx", "glb": ".glb", "bvh": ".bvh", "usd": ".usd"}
"""What can be written, and how the files' names end."""

_EXPORTED_TYPES = {"MESH", "EMPTY", "ARMATURE"}


class ExportError(ValueError):
    """A file that could not be written. The message is one sentence for the user."""


def write(path, format, armature, action, frames):
    """Writes a character that plays `action` to `path` in one of the formats of `SUFFIXES`. See `write_files`."""
    return write_files({format: path}, armature, action, frames)


def write_files(paths, armature, action, frames):
    """Writes a character that plays `action` to files, {format: path}, all or none. Returns sentences for the user.

    frames: first and last of the scene, which are written at the scene's rate; .blend takes the whole open file as it is.
    Nothing in Blender is changed in the end. Raises `ExportError`; files that were there before are then still there.
    """
    if unknown := set(paths) - set(SUFFIXES):
        raise ExportError(f"There is no format {sorted(unknown)[0]!r}: choose from {', '.join(SUFFIXES)}.")
    if armature.animation_data is None or armature.animation_data.action != action:
        raise ExportError(f"{armature.name} does not play {action.name}, so it cannot be written: assign the action first.")
    for path in map(Path, paths.values()):
        if not path.resolve().parent.is_dir():  # some exporters would make it
            raise ExportError(f"Cannot write {path}: there is no such folder.")
    notes = []
    try:
        with whole_files(*(Path(path) for path in paths.values())) as parts:
            parts = dict(zip(paths, parts))
            if "blend" in parts:
                _write(paths, parts, "blend", _write_blend)
            others = [format for format in _WRITERS if format in parts]
            if others:
                with _stage(armature, action, frames, notes) as (shown, played):
                    for format in others:
                        _write(paths, parts, format, _WRITERS[format], shown, played, frames)
    except OSError as error:
        raise ExportError(
            f"Cannot write {error.filename or ' and '.join(map(str, paths.values()))}: {error.strerror}."
        ) from error
    return notes


def _write(paths, parts, format, writer, *arguments):
    try:
        writer(parts[format], *arguments)
    except RuntimeError as error:
        raise ExportError(f"Cannot write {paths[format]}: {_first_line(error)}") from error
    if not parts[format].is_file():
        raise ExportError(f"Cannot write {paths[format]}: Blender gave no reason.")


def objects_of(armature):
    """The objects that make up a character, its armature first."""
    shapes = {bone.custom_shape for bone in armature.pose.bones}
    above = [armature]
    while above[-1].parent is not None:
        above.append(above[-1].parent)
    found = above[:1] + [item for item in above[1:] if item.type in ("EMPTY", "ARMATURE")]
    deformed = [item for item in bpy.data.objects if item.users_scene and _deformer(item) == armature]
    for item in dict.fromkeys([*armature.children_recursive, *deformed]):
        if item.type in _EXPORTED_TYPES and item not in shapes and item not in found:
            found.append(item)
    return found


def _deformer(item):
    """The armature object that deforms a mesh object, or None."""
    return next((modifier.object for modifier in item.modifiers if modifier.type == "ARMATURE"), None)


@contextmanager
def _stage(armature, action, frames, notes):
    """A scene with the character alone, as the open one; exporters write all that is in it. Passes its armature and action.

    They are a control rig's deforming bones as a plain armature, or else the given ones.
    """
    window, usual = bpy.context.window, bpy.context.scene
    frame, subframe = usual.frame_current, usual.frame_subframe
    scene, hidden = bpy.data.scenes.new(action.name), []  # FBX calls its animation after the scene
    try:
        objects = objects_of(armature)
        for item in objects:
            scene.collection.objects.link(item)
            if item.hide_viewport and item.library is None:
                hidden.append(item)
                item.hide_viewport = False
        for name in ("fps", "fps_base"):
            setattr(scene.render, name, getattr(usual.render, name))
        for name in ("system", "scale_length", "length_unit"):
            setattr(scene.unit_settings, name, getattr(usual.unit_settings, name))
        scene.frame_start, scene.frame_end = frames
        window.scene = scene
        scene.frame_set(frames[0])
        if is_control_rig(armature):
            with plain_armature(armature, action, frames, objects) as (shown, played, stretch):
                if stretch > STRETCH:
                    notes.append(
                        f"Bones of {armature.name} stretch by up to {stretch:.0%} in Blender, and do not in other files."
                    )
                scene.frame_set(frames[0])
                yield shown, played
        else:
            yield armature, action
    finally:
        for item in hidden:
            item.hide_viewport = True
        window.scene = usual
        bpy.data.scenes.remove(scene)
        usual.frame_set(frame, subframe=subframe)


def _write_blend(part):
    bpy.ops.wm.save_as_mainfile(filepath=str(part), copy=True, compress=True, check_existing=False)


def _write_fbx(part, armature, action, frames):
    with_keys = any(item.type == "MESH" and item.data.shape_keys for item in bpy.context.scene.objects)
    bpy.ops.export_scene.fbx(
        filepath=str(part),
        check_existing=False,
        object_types=_EXPORTED_TYPES,
        # Applying modifiers would cost the shape keys. The armature's own is never applied.
        use_mesh_modifiers=not with_keys,
        add_leaf_bones=False,
        bake_anim=True,
        bake_anim_use_all_bones=True,
        bake_anim_use_nla_strips=False,
        bake_anim_use_all_actions=False,
        bake_anim_force_startend_keying=True,
        bake_anim_step=1.0,
        bake_anim_simplify_factor=0.0,
        path_mode="COPY",
        embed_textures=True,
    )


def _write_glb(part, armature, action, frames):
    render = bpy.context.scene.render
    rate = render.fps / render.fps_base
    # Blender's exporter multiplies by the base where it should divide, so it is given the base that comes out right.
    render.fps_base = rate / render.fps
    with _frame_range(action, frames):
        _export_gltf(part, action)
    render.fps_base = render.fps / rate


@contextmanager
def _frame_range(action, frames):
    """Says that an action lasts over these frames: glTF's exporter else begins at its first key, whenever that is."""
    kept = {name: getattr(action, name) for name in ("use_frame_range", "frame_start", "frame_end")}
    action.use_frame_range, action.frame_start, action.frame_end = True, *frames
    try:
        yield
    finally:
        action.frame_start, action.frame_end = kept["frame_start"], kept["frame_end"]
        action.use_frame_range = kept["use_frame_range"]


def _export_gltf(part, action):
    bpy.ops.export_scene.gltf(
        filepath=str(part),
        check_existing=False,
        export_format="GLB",
        use_active_scene=True,
        export_animations=True,
        export_animation_mode="ACTIVE_ACTIONS",
        export_nla_strips_merged_animation_name=action.name,
        export_frame_range=True,
        export_anim_slide_to_zero=True,
        export_force_sampling=True,
        export_optimize_animation_size=False,
        export_rest_position_armature=True,
        export_all_influences=False,
        export_yup=True,
    )


def _write_usd(part, armature, action, frames):
    bpy.ops.wm.usd_export(
        filepath=str(part),
        check_existing=False,
        export_animation=True,
        export_armatures=True,
        export_shapekeys=True,
        export_textures_mode="KEEP",
        convert_world_material=False,
        export_lights=False,
        export_cameras=False,
    )


def _write_bvh(part, armature, action, frames):
    scene, bones = bpy.context.scene, armature.data.bones
    names = [bone.name for bone in bones]
    parents = [bones.find(bone.parent.name) if bone.parent else -1 for bone in bones]
    posed, places = pose_matrices(scene, armature, names, range(frames[0], frames[1] + 1))
    rest, posed = places[0] @ np.array([bone.matrix_local for bone in bones]), places[:, None] @ posed
    tails = np.array([(*bone.tail_local, 1.0) for bone in bones]) @ places[0][:3].T
    if parents.count(-1) > 1:
        # A BVH file has one root: the armature's own place carries the bones that no bone carries.
        names, parents = [armature.name, *names], [-1, *(parent + 1 for parent in parents)]
        rest, tails = np.concatenate([places[:1], rest]), np.concatenate([places[:1, :3, 3], tails])
        posed = np.concatenate([places[:, None], posed], 1)
    text = bvh_text(_without_spaces(names), parents, rest, tails, posed, scene.render.fps / scene.render.fps_base)
    part.write_text(text, encoding="utf-8")


def _without_spaces(names):
    """The names as words of their own, still different from one another."""
    words = []
    for name in names:
        word = "_".join(name.split()) or "bone"
        while word in words:
            word += "_"
        words.append(word)
    return words


def _first_line(error):
    return next(
        (line.strip().removeprefix("Error: ") for line in str(error).splitlines() if line.strip()), "Blender failed."
    )


_WRITERS = {"fbx": _write_fbx, "glb": _write_glb, "usd": _write_usd, "bvh": _write_bvh}
