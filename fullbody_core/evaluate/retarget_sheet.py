"""Contact sheets of retargeted characters: rendered frames of the capture's own character beside all that it drives."""

import json
import tempfile
from pathlib import Path

import cv2
import numpy as np

from ..addon_package import stage_addon
from ..blend import character_of
from ..blender_process import BlenderError, run_in_blender
from ..contract.amass import is_amass, read_clip
from ..contract.npz_file import write_whole

_WIDTH = 150  # px of a picture
_COLUMNS = 9
_RADIUS = 1.1  # about a person's pelvis, in heights of the pelvis
_TITLE = 16  # px


def write_retarget_sheet(output, evaluation, clip, frame_count, blender=None):
    """Writes a PNG: for each of `frame_count` frames spread over a clip, the source and every character that it was put on.

    evaluation: an `Evaluation`; clip: one of its clips by name. Raises `FileError` or `BlenderError`.
    """
    played = [one for one in evaluation.measured if one.clip == clip and one.figures]
    source = evaluation.sources[clip]
    rows = np.unique(np.linspace(0, len(source.joints) - 1, frame_count + 2).round().astype(int)[1:-1])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        stage_addon(folder)
        blend = _source_blend(evaluation.clips[clip], folder, blender)
        floor = source.joints[:, :, 2].min() - 0.02
        height = source.rest_joints[0, 2] - source.sole
        jobs = [_job(blend, floor, source.joints[:, 0], height, rows, folder, "source")]
        jobs += [
            _job(one.blend, one.character.ground, one.centres, one.height, rows, folder, one.character.name)
            for one in played
        ]
        (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
        run_in_blender(
            folder, ["--jobs", folder / "jobs.json", "--width", _WIDTH], blender, program="evaluate.render_played"
        )
        blocks = [_block(folder, [job["name"] for job in jobs], row) for row in rows]
    write_whole(output, cv2.imencode(".png", np.vstack(blocks))[1].tobytes())


def _source_blend(path, folder, blender):
    """The capture on its own character, by the ordinary import."""
    clip = read_clip(path)
    if is_amass(clip):
        clip.betas[:] = 0  # another model's
        path = folder / "amass.npz"
        clip.save(path)
    character_of(clip, blender=blender).save(folder / "character.npz")
    arguments = ["--clip", path, "--template", folder / "character.npz", "--out", folder / "source.blend"]
    run_in_blender(folder, arguments, blender)
    return folder / "source.blend"


def _job(blend, ground, centres, height, rows, folder, name):
    pictures = [
        {
            "frame": int(row) + 1,
            "path": str(folder / f"{name}_{row}.png"),
            "centre": centres[row].tolist(),
            "radius": _RADIUS * float(height),
        }
        for row in rows
    ]
    return {"name": name, "file": str(Path(blend).resolve()), "ground": float(ground), "pictures": pictures}


def _block(folder, names, row):
    cells = [_cell(folder / f"{name}_{row}.png", f"{name} {row + 1}" if name == "source" else name) for name in names]
    columns = min(_COLUMNS, len(cells))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)])


def _cell(path, title):
    picture = cv2.imread(str(path))
    if picture is None:
        raise BlenderError("Blender made no picture: run it again, and report what it printed.")
    bar = np.zeros((_TITLE, picture.shape[1], 3), np.uint8)
    cv2.putText(bar, title, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([bar, picture])
