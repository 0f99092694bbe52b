"""From a capture file to a .blend with the animated character: the core's side of the way into Blender."""

import json
import tempfile
from pathlib import Path

from .addon_package import stage_addon
from .blender_process import find_blender, run_in_blender
from .body.lbs import to_character_template
from .body.load_body import load_body
from .contract.capture import CaptureClip
from .contract.full_body import full_body_template
from .face.load_face import load_face
from .full_body.bridges import recipe_for
from .picture_sheet import SheetRow, face_boxes, face_is_large, write_sheet


class BlendError(ValueError):
    """A .blend that cannot be made. The message is one sentence for the user."""


def build_blend(clip_path, output, body=None, face=None, video=None, render=None, blender=None, frames=None, close_up=None):
    """Builds the animated character of a capture file in Blender and saves it as `output` (.blend).

    body, face: the models the clip was captured with, where they are no longer at their place; video: the source, where it has
    moved; render: a PNG, a row for each of `frames` (of the clip, from 0; None takes one in the middle) with the video's frame and
    the character side by side; close_up: whether each row shows the face, too (None: where it is large enough in the video);
    blender: a Blender program. Returns what was made, and `warnings` with it.
    Raises `FileError`, `BlenderError` or `BlendError`; nothing is left half-written.
    """
    clip = CaptureClip.load(clip_path)
    frames = [representative_frame(clip)] if not frames else list(frames)
    for frame in frames:
        if not 0 <= frame < clip.frame_count:
            raise BlendError(f"There is no frame {frame} to render: the clip has frames 0 to {clip.frame_count - 1}.")
    blender = find_blender(blender)
    character = character_of(clip, body, face, blender)
    warnings = []
    video = Path(video or clip.meta.get("source", {}).get("path", ""))
    if not video.is_file():
        warnings.append(
            f"The video {video.name} is not at its place any more, so there is no background: give it with --video."
        )
        video = None
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        stage_addon(folder)
        template = folder / "character.npz"
        character.save(template)
        arguments = ["--clip", clip_path, "--template", template, "--out", output]
        arguments += ["--video", video] * (video is not None)
        rows = []
        if render is not None:
            boxes = face_boxes(clip, frames, character)
            if close_up is None:
                close_up = len(character.face_vertices) > 0 and face_is_large(clip, frames, boxes)
            rows = [SheetRow(folder, clip, frame, box if close_up else None) for frame, box in zip(frames, boxes)]
            (folder / "shots.json").write_text(
                json.dumps([shot for row in rows for shot in row.shots(1 + scene_frame(clip, row.frame))])
            )
            arguments += ["--shots", folder / "shots.json"]
        made = run_in_blender(folder, [str(argument) for argument in arguments], blender)
        if render is not None:
            write_sheet(render, clip, rows, video)
    return dict(made, warnings=warnings + made["warnings"])


def character_of(clip, body=None, face=None, blender=None):
    """The template of the character that a clip was captured for: the body and face that its settings name, or these.

    blender: what `find_blender` found or takes, needed only for a pair of models that were never bridged before.
    """
    settings = clip.meta.get("settings", {})
    body_file = load_body(body or settings.get("body", "open"))
    name = face or settings.get("face", "none")
    template = to_character_template(body_file)
    if name == "none":
        return template
    model = load_face(name)
    return full_body_template(template, model, recipe_for(body_file, model, blender))


def scene_frame(clip, frame):
    """Whole frames of a scene at the clip's rate from the clip's first frame to its frame number `frame`."""
    return round((clip.timestamps[frame] - clip.timestamps[0]) * clip.mocap_framerate)


def representative_frame(clip):
    """The valid frame nearest to the middle of the clip."""
    seen = clip.valid[:, 0].nonzero()[0]
    return int(min(seen, key=lambda frame: abs(frame - clip.frame_count / 2), default=clip.frame_count // 2))
