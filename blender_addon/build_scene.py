# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture file to a .blend without windows: what `fullbody blend` runs.

    python -m fullbody_mocap.build_scene --clip CLIP.npz --template CHARACTER.npz --out OUT.blend ...      (bpy as a module)
    blender --background --factory-startup --python-exit-code 1 --python build_scene.py -- --clip ...      (a Blender)

The last line on stdout is one JSON object that says what was made. Exit code 0 only if everything asked for was written.
"""

import argparse
import json
import sys
import time
from pathlib import Path

if not __package__:  # run as a file by Blender: the package is the folder this file lies in
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

import bpy

from . import stage
from .contract.npz_file import FileError
from .headless import exit_code, own_arguments
from .importer import import_capture, load_capture
from .keyframes import Timing, scene_fps, set_scene_fps
from .whole_files import whole_files_or_end

_RENDER_WIDTH = 640
"""px of pictures of which no other width is asked."""


class BuildError(Exception):
    """A scene that could not be built. The message is one sentence for the user."""


def build(
    clip_path,
    template_path,
    out,
    *,
    video=None,
    render=None,
    render_three_quarter=None,
    render_frame=None,
    render_all=None,
    width=_RENDER_WIDTH,
    shots=(),
):
    """Starts from an empty scene and writes `out` (.blend) and the pictures asked for. Returns what was made, as a dict.

    The scene plays at the clip's own rate from frame 1. `render_frame` is a scene frame; without it the middle is
    rendered. width: of the pictures, px.
    shots: more pictures through the capture camera, each a dict of frame (of the scene), path, width (px) and box (the part
    of the picture to show, as shares from its upper left corner, or None).
    Raises `FileError`, `BuildError` or `RenderError`; nothing has been written then.
    """
    clip, template = load_capture(clip_path, template_path)
    for path in filter(None, (out, render, render_three_quarter)):
        if not Path(path).resolve().parent.is_dir():
            raise BuildError(f"Cannot write {path}: there is no such folder.")

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene, view_layer = bpy.context.scene, bpy.context.view_layer
    set_scene_fps(scene, clip)
    timing = Timing(scene_fps(scene), 1)
    scene.frame_start, scene.frame_end = 1, timing.frame_end(clip)
    if render_frame is None:
        render_frame = (scene.frame_start + scene.frame_end) // 2
    for frame in (render_frame, *(shot["frame"] for shot in shots)):
        if not scene.frame_start <= frame <= scene.frame_end:
            raise BuildError(
                f"Frame {frame} cannot be rendered: the clip has frames {scene.frame_start} to {scene.frame_end}."
            )

    start = time.perf_counter()
    imported = import_capture(
        clip, template, timing, name=Path(clip_path).stem, scene=scene, view_layer=view_layer, video=video
    )
    import_seconds = time.perf_counter() - start
    stage.add_light(scene, scene.collection)
    ground = stage.add_ground(scene.collection)
    stage.set_render(scene)
    scene.frame_set(scene.frame_start)
    view_layer.objects.active = imported.character.armature

    with whole_files_or_end(out, render, render_three_quarter) as (part_out, part_render, part_three_quarter):
        _save(part_out, out)
        scene.frame_set(render_frame)
        if render:
            stage.render_still(scene, scene.camera, part_render, width)
        if render_three_quarter:
            camera = stage.three_quarter_camera(imported.character.mesh, view_layer.depsgraph, scene.collection)
            ground.is_shadow_catcher = False
            stage.render_still(scene, camera, part_three_quarter, width, size=(1, 1))
            ground.is_shadow_catcher = True
        for shot in shots:
            scene.frame_set(shot["frame"])
            stage.render_still(scene, scene.camera, shot["path"], shot["width"], box=shot["box"])
        for number in range(scene.frame_start, scene.frame_end + 1) if render_all else ():
            scene.frame_set(number)
            stage.render_still(scene, scene.camera, Path(render_all) / f"{number:04d}.png", width)
    return {
        "out": str(out),
        "blender": bpy.app.version_string,
        "captured_frames": clip.frame_count,
        "scene_frames": timing.frame_count(clip),
        "fps": scene_fps(scene),
        "duration": clip.duration,
        "bones": len(imported.character.armature.data.bones),
        "vertices": len(imported.character.mesh.data.vertices),
        "shape_keys": len(imported.character.shape_keys.key_blocks) - 1,
        "import_seconds": round(import_seconds, 3),
        "keyframe_seconds": round(imported.keyframe_seconds, 3),
        "video": bool(imported.camera.data.background_images),
        "render": render and str(render),
        "render_three_quarter": render_three_quarter and str(render_three_quarter),
        "render_frame": render_frame,
        "warnings": imported.warnings,
    }


def _save(part, out):
    """Saves the open file as `part`, beside `out`: a file saved for the first time has its paths relative."""
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(part), compress=True, check_existing=False)
    except RuntimeError as error:
        raise BuildError(f"Cannot write {out}: {str(error).strip().removeprefix('Error: ')}") from error


def main(argv=None):
    """Parses `argv`, builds, prints the JSON line. Returns the exit code: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="build_scene", description="Builds an animated character from a capture file.")
    parser.add_argument("--clip", required=True, type=Path, help="capture file (.npz)")
    parser.add_argument("--template", required=True, type=Path, help="character template (.npz)")
    parser.add_argument("--out", required=True, type=Path, help=".blend to write")
    parser.add_argument("--video", type=Path, help="video for the camera's background")
    parser.add_argument("--render", type=Path, help="PNG to render through the capture camera")
    parser.add_argument("--render-3q", type=Path, help="PNG to render from a three-quarter view, with the ground")
    parser.add_argument("--render-frame", type=int, help="scene frame to render, from 1; the middle one without it")
    parser.add_argument("--width", type=int, default=_RENDER_WIDTH, help="of the pictures, px")
    parser.add_argument("--shots", type=Path, metavar="FILE.json", help="list of further pictures, as `build` takes them")
    parser.add_argument(
        "--render-all", type=Path, metavar="FOLDER", help="every scene frame as PNG through the capture camera"
    )
    args = parser.parse_args(argv)

    def work():
        return build(
            args.clip,
            args.template,
            args.out,
            video=args.video,
            render=args.render,
            render_three_quarter=args.render_3q,
            render_frame=args.render_frame,
            render_all=args.render_all,
            width=args.width,
            shots=json.loads(args.shots.read_text()) if args.shots else (),
        )

    return exit_code(work, (FileError, BuildError, stage.RenderError))


if __name__ == "__main__":
    sys.exit(main(own_arguments()))
