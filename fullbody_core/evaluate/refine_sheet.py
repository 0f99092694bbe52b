"""Sheets that show whether a refinement is right: the video with the refined body over it, and both bodies from the side.

Bodies are drawn by rays on a floor with lines (`synth.render`); nothing of Blender is needed.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ..body.lbs import BodyModel
from ..camera import camera_matrix, project
from ..contract.npz_file import write_whole
from ..contract.skeleton import JOINT_NAMES, PARENTS
from ..contract.swing_twist import unit
from ..ik.rest_skeleton import RestSkeleton
from ..synth.render import Light, render
from ..video import open_video

HEIGHT, SIDE_SIZE = 300, (300, 300)
"""px of all pictures, and (width, height) of those from the side."""

SIDE_FOV, SIDE_FILL = 30.0, 0.8
"""Degrees, and the share of the picture that somebody who stands takes there."""

PERSON, BETWEEN = 1.9, 0.5
"""m: of somebody's height, and from a line on the floor to the next."""

BEFORE_COLOUR, AFTER_COLOUR, TRUE_COLOUR = (0.75, 0.3, 0.15), (0.15, 0.4, 0.75), (0.3, 0.6, 0.2)
"""Linear RGB of the unrefined, the refined and the true body."""

_GREY, _LINE = 205, (150, 150, 150)
_LEFT, _RIGHT, _MIDDLE = (255, 140, 40), (60, 160, 255), (240, 240, 240)


def write_refine_sheet(output, video, before, after, timestamps, body, truth=None, frame_count=4):
    """Writes a PNG with a row for each of `frame_count` frames, spread over the clip.

    Columns: the video with the refined skeleton over it; the unrefined and the refined body as the camera sees them; then both
    from the side, and the true one where it is known. video: its path; before, after: `motion.Solved` of T frames at timestamps
    [T] s; body: `BodyModelFile`; truth: `synth.clips.Clip`, or None. Raises `FileError` and `VideoError`.
    """
    rows = np.unique(np.linspace(0, len(timestamps) - 1, frame_count + 2).round().astype(int)[1:-1])
    actors = [_Actor.of_solved(before, body, BEFORE_COLOUR), _Actor.of_solved(after, body, AFTER_COLOUR)]
    labels = ["video, refined over it", "unrefined, camera", "refined, camera", "unrefined, side", "refined, side"]
    if truth is not None:
        actors.append(_Actor.of_truth(truth, body))
        labels.append("truth, side")
    wanted = set(rows.tolist())
    pictures = {number: image for number, (_, image) in enumerate(open_video(video).frames()) if number in wanted}
    blocks = [_row(pictures[row], row, timestamps[row], actors, labels) for row in rows.tolist() if row in pictures]
    write_whole(output, cv2.imencode(".png", np.vstack(blocks)[..., ::-1])[1].tobytes())


def _row(picture, row, time, actors, labels):
    before, after = actors[:2]
    cells = [_fit(_over(picture, after, row))]
    cells += [_fit(actor.from_camera(row, picture.shape)) for actor in (before, after)]
    cells += [actor.from_side(row) for actor in actors]
    labels = [f"{time:.2f} s: {labels[0]}", *labels[1:]]
    return np.hstack([_labelled(cell, label) for cell, label in zip(cells, labels)])


@dataclass
class _Actor:
    """A body that moves: skeleton, rotations [T, 52, 3, 3] and pelvis [T, 3] m in each frame's camera, poses [T, 4, 4] of that in
    a world with its floor at z = 0, valid [T], surface(rotations, pelvis) [V, 3], faces [F, 3], matrix [3, 3] px, colour [3]."""

    skeleton: RestSkeleton
    rotations: np.ndarray
    pelvis: np.ndarray
    poses: np.ndarray
    valid: np.ndarray
    surface: object
    faces: np.ndarray
    matrix: np.ndarray
    colour: tuple

    @classmethod
    def of_solved(cls, solved, body, colour):
        motion = solved.motion
        poses = np.broadcast_to(solved.camera_to_world, (len(motion.pelvis), 4, 4))
        posed = motion.rotations, motion.pelvis, poses, motion.valid[:, 0]
        return cls(motion.skeleton, *posed, _surface_of(body, solved.betas), body.f, solved.matrix, colour)

    @classmethod
    def of_truth(cls, clip, body):
        posed = clip.rotations, clip.pelvis, clip.camera_to_world, np.ones(len(clip), bool)
        skeleton = RestSkeleton.of_body(body, clip.betas)
        return cls(skeleton, *posed, _surface_of(body, clip.betas), body.f, clip.matrix, TRUE_COLOUR)

    def joints(self, row):
        """The 52 joints [52, 3] m in the frame's camera."""
        return self.skeleton.pose(self.rotations[row : row + 1])[0][0] + self.pelvis[row]

    def from_camera(self, row, shape):
        """The body over its floor as the video's camera sees them: [H, W, 3] uint8."""
        height, width = shape[:2]
        return self._drawn(row, self.poses[row], self.matrix, (width, height))

    def from_side(self, row):
        """The same from its left, on the level, at the hips' height or what lets the floor be seen."""
        pose = self.poses[row]
        place = pose[:3, :3] @ self.pelvis[row] + pose[:3, 3]
        ahead = (pose[:3, :3] @ self.rotations[row, 0])[:, 2] * [1, 1, 0]
        ahead = unit(ahead) if np.linalg.norm(ahead) > 0.2 else np.array([0.0, -1, 0])
        # Somebody who looks to the picture's left is seen from their left.
        right, down = -ahead, np.array([0.0, 0, -1])
        away = np.cross(right, down)
        matrix = camera_matrix(SIDE_SIZE, SIDE_FOV)
        distance = PERSON / SIDE_FILL / 2 / np.tan(np.radians(SIDE_FOV) / 2)
        eye = place * [1, 1, 0] + [0, 0, PERSON / 2] - distance * away
        side = np.eye(4)
        side[:3, :3], side[:3, 3] = np.stack([right, down, away], 1), eye
        return self._drawn(row, side, matrix, SIDE_SIZE)

    def _drawn(self, row, camera, matrix, image_size):
        """The body and the floor's lines from a camera with pose [4, 4] in the world."""
        pose = self.poses[row]
        picture = np.full((image_size[1], image_size[0], 3), _GREY, np.uint8)
        middle = pose[:3, :3] @ self.pelvis[row] + pose[:3, 3]
        _draw_floor(picture, middle, camera, matrix)
        if not self.valid[row]:
            return picture
        to_camera = camera[:3, :3].T @ pose[:3, :3]
        vertices = self.surface(self.rotations[row], self.pelvis[row]) @ to_camera.T
        vertices += camera[:3, :3].T @ (pose[:3, 3] - camera[:3, 3])
        if vertices[:, 2].min() < 0.05:
            return picture
        up = camera[2, :3]
        light = Light(up - [0.3, 0, 1.0], up, 0.7 * np.ones(3), 0.5 * np.ones(3), 0.25 * np.ones(3))
        colours = np.broadcast_to(self.colour, vertices.shape)
        return render(vertices, self.faces, colours, matrix, picture, light)[0]


def _surface_of(body, betas):
    """Function from rotations [52, 3, 3] and pelvis [3] m to the posed surface [V, 3]."""
    import torch

    model = BodyModel(body, dtype=torch.float32)
    betas = torch.as_tensor(np.asarray(betas), dtype=torch.float32)[None]
    root = model.rest_joints(betas)[0, 0].numpy()

    def surface(rotations, pelvis):
        with torch.no_grad():
            turned, moved = (torch.as_tensor(values, dtype=torch.float32)[None] for values in (rotations, pelvis - root))
            return model(betas, turned, moved)[0][0].numpy().astype(float)

    return surface


def _draw_floor(picture, middle, camera, matrix):
    """Lines on the floor around a place [3] m of the world, those that lie before the camera."""
    first = np.floor(middle[:2] / BETWEEN) * BETWEEN
    steps = np.arange(-6, 7) * BETWEEN
    ends = steps[[0, -1]]
    lines = [[(x, y) for y in ends] for x in steps] + [[(x, y) for x in ends] for y in steps]
    points = np.concatenate([np.array(lines) + first, np.zeros((len(lines), 2, 1))], -1)
    # Short pieces, so that only what lies behind the camera is left out.
    share = np.linspace(0, 1, 25)[:, None, None]
    points = (1 - share) * points[:, 0] + share * points[:, 1]
    seen = (points - camera[:3, 3]) @ camera[:3, :3]
    pixels = project(np.where(seen[..., 2:] > 0.1, seen, np.nan), matrix)
    for line in pixels.swapaxes(0, 1):
        for start, end in zip(line[:-1], line[1:]):
            if np.isfinite([start, end]).all() and np.abs([start, end]).max() < 1e4:
                cv2.line(picture, tuple(map(int, start)), tuple(map(int, end)), _LINE, 1, cv2.LINE_AA)


def _over(picture, actor, row):
    """The picture [H, W, 3] with the skeleton of an actor over it."""
    picture = np.array(picture, order="C")
    if not actor.valid[row]:
        return picture
    unit_width = max(1, round(max(picture.shape[:2]) / 400))
    pixels = project(actor.joints(row), actor.matrix)
    for joint, parent in enumerate(PARENTS):
        if parent >= 0 and np.isfinite(pixels[[joint, parent]]).all() and np.abs(pixels[[joint, parent]]).max() < 1e4:
            side = JOINT_NAMES[joint].partition("_")[0]
            colour = {"left": _LEFT, "right": _RIGHT}.get(side, _MIDDLE)
            ends = (tuple(map(int, pixels[index])) for index in (parent, joint))
            cv2.line(picture, *ends, colour, unit_width, cv2.LINE_AA)
    return picture


def _fit(picture):
    """A picture as HEIGHT px high as all."""
    width = max(1, round(picture.shape[1] * HEIGHT / picture.shape[0]))
    return cv2.resize(picture, (width, HEIGHT), interpolation=cv2.INTER_AREA)


def _labelled(picture, label):
    picture = np.array(picture, order="C")
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, label, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness, cv2.LINE_AA)
    return picture
