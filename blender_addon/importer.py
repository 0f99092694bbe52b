# SPDX-License-Identifier: GPL-3.0-or-later
"""One capture into one scene: the passes that the import operator and the headless `build_scene` share."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import bpy

from .camera import add_background_video, create_camera
from .character import Character, build_character, check_template
from .colour import key_albedo, keyable
from .contract.capture import CaptureClip
from .contract.character import CharacterTemplate
from .keyframes import animate_character


@dataclass
class Imported:
    """What an import made, and sentences for the user about what it could not do."""

    collection: bpy.types.Collection
    character: Character
    action: bpy.types.Action
    keyframe_seconds: float
    camera: bpy.types.Object = None
    warnings: list = field(default_factory=list)


def load_capture(clip_path, template_path):
    """Reads and checks both files and that they fit each other, before Blender is touched. Raises `FileError`."""
    clip = CaptureClip.load(clip_path)
    template = CharacterTemplate.load(template_path)
    check_template(template, clip.betas)
    return clip, template


def import_capture(clip, template, timing, *, name, scene, view_layer, add_camera=True, video=None):
    """Builds the character, keys the clip, adds the camera with its video: all in a new collection. Returns `Imported`.

    The scene keeps its own frame rate; its end moves back where the clip is longer. `video` may be None.
    """
    collection = bpy.data.collections.new(name)
    scene.collection.children.link(collection)
    models = clip.meta.get("models")
    face_warning = face_misfit(models, (len(clip.face_shape), len(clip.face_albedo)), template)
    face = {} if face_warning else {"face_shape": clip.face_shape, "face_albedo": clip.face_albedo}
    character = build_character(template, clip.betas, name=name, collection=collection, view_layer=view_layer, **face)
    start = time.perf_counter()
    action, missing = animate_character(clip, character, timing, name=name)
    if face and len(clip.face_albedo):
        key_albedo(character, [timing.frame_start], clip.face_albedo[None, : keyable(character)], action)
    imported = Imported(collection, character, action, time.perf_counter() - start)
    if not same_body(models, template):
        imported.warnings.append(
            "The clip was captured with another body model than this character's: shape and reach may be off."
        )
    if face_warning:
        imported.warnings.append(face_warning)
    if missing:
        imported.warnings.append(
            f"The character has no shape key for {len(missing)} of the clip's expressions, such as {missing[0]}."
        )
    if add_camera:
        imported.camera = create_camera(clip, timing, name=f"{name} camera", scene=scene, collection=collection)
        if video:
            warning = add_background_video(imported.camera, video, clip, timing)
            imported.warnings.extend([warning] if warning else [])
    scene.frame_end = max(scene.frame_end, timing.frame_end(clip))
    return imported


def same_body(models, template):
    """Whether a capture's models, a dict of sha256, and a character name the same body; where one names none it is believed."""
    captured = models.get("body") if isinstance(models, dict) else None
    built = template.meta.get("body_sha256")
    return not captured or not built or captured == built


def face_misfit(models, sizes, template):
    """One sentence for the user where a captured face is not of this character's face model, else None.

    models: a dict of sha256; sizes: how many coefficients of shape and of albedo were captured.
    """
    if not any(sizes):
        return None
    if not len(template.face_vertices):
        return "The character has no face of its own, so the person's features and colours are left out."
    captured = models.get("face") if isinstance(models, dict) else None
    built = template.meta.get("face_sha256")
    another = captured and built and captured != built
    if another or tuple(sizes) != (len(template.face_shapedirs), len(template.albedodirs)):
        return (
            "The clip was captured with another face model than this character's: "
            "the person's features and colours are left out."
        )
    return None


def source_video(clip, clip_path):
    """Where the clip's video should lie: the path its `meta` names, seen from the capture file's folder, or None."""
    source = clip.meta.get("source")
    path = source.get("path") if isinstance(source, dict) else source
    if not isinstance(path, str) or not path:
        return None
    beside = Path(clip_path).parent / Path(path.replace("\\", "/")).name
    return str(beside if beside.is_file() else Path(clip_path).parent / path)
