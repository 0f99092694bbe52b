"""The faces that FaceNet is trained on: rendered ones, kept and seen several times, and those of videos with their landmarks."""

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ..contract.skeleton import MESH_POINTS
from ..detect.crops import cut
from ..networks.facenet import BOX_MARGIN, INPUT_SIZE, face_middle
from ..synth.face import FaceSamples
from ..synth.face_looks import spoil
from ..video import open_video
from .training_run import TrainingError

KEPT_SIZE, KEPT_MARGIN = 224, 1.6
"""px of a video's face as it is kept, and how much wider than its box that is: room to move the crop in."""

GROUP, GRID = 3, 17
"""Frames that are warped alike in a batch, and corners along a side of the grid that a warp is worked out on."""

SMALLEST = 24
"""px: a face less wide than that says too little."""


class FacePool:
    """Batches of `batch` rendered faces, each of which is seen `reuse` times on average, spoilt anew every time.

    What the pool holds at a step follows from the step, and is rendered again where it is missing.
    """

    def __init__(self, sampler, batch, reuse=1, blocks=64, seed=0):
        """sampler: draw(count, seed, spoilt) -> `FaceSamples`; blocks: of `batch` faces that are held."""
        self.sampler, self.batch, self.reuse, self.blocks, self.seed = sampler, batch, reuse, blocks, seed
        self._held = {}

    def draw(self, step):
        """The `FaceSamples` of that step."""
        rng = np.random.default_rng((self.seed, 1, step))
        newest = step // self.reuse
        numbers = range(max(0, newest - self.blocks + 1), newest + 1)
        held = [self._block(number) for number in numbers]
        if self.reuse == 1:
            chosen = held[-1].take(slice(None))
        else:
            picked = np.sort(rng.choice(len(held) * self.batch, self.batch, replace=False))
            parts = [
                held[block].take(picked[picked // self.batch == block] % self.batch)
                for block in np.unique(picked // self.batch)
            ]
            chosen = FaceSamples.concatenate(parts)
        spoil(rng, chosen.pictures)
        return chosen

    def _block(self, number):
        slot = number % self.blocks
        if slot not in self._held or self._held[slot][0] != number:
            self._held[slot] = (number, self.sampler.draw(self.batch, (self.seed, 0, number), False))
        return self._held[slot][1]


def as_pictures(pictures):
    """Pictures [N, H, H, 3] uint8 as [N, 3, H, H] float 0..1, channels last in memory."""
    return torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True)
class ClipPart:
    """A video, and which of its frames: from `start` to before `end` (None: all to the end)."""

    path: Path
    start: int = 0
    end: int | None = None

    @classmethod
    def parse(cls, text):
        """From FILE or FILE:START-END. Raises `TrainingError` for a span that cannot be."""
        if not (found := re.fullmatch(r"(.+):(\d+)-(\d+)", text)):
            return cls(Path(text))
        start, end = int(found[2]), int(found[3])
        if end <= start:
            raise TrainingError(
                f"The frames {start}-{end} of {found[1]} are none: give the first one and the one after the last."
            )
        return cls(Path(found[1]), start, end)


class ClipFaces:
    """Faces of real videos, cut out, with a detector's face mesh.

    pictures [T, KEPT_SIZE, KEPT_SIZE, 3] uint8; points [T, 478, 2] px of them; person [T]: the number of the video
    """

    def __init__(self, pictures, points, person, mirror):
        """mirror [478]: the mesh point that each one's mirror image is."""
        self.pictures, self.points, self.person, self.mirror = pictures, points, person, mirror
        low, high = points[:, :468].min(1), points[:, :468].max(1)
        self.middles, self.sides = (low + high) / 2, BOX_MARGIN * (high - low).max(1)

    def __len__(self):
        return len(self.pictures)

    def draw(self, count, rng):
        """(pictures [count, 128, 128, 3] uint8, points [count, 478, 2] in -1..1, person [count]).

        Groups of GROUP frames of one video become one new person: their faces are warped alike, or the network would learn the
        few people there are by heart. Each is seen through its own jittered crop.
        """
        group = np.arange(count) // GROUP
        groups = group[-1] + 1 if count else 0
        numbers, sizes = np.unique(self.person, return_counts=True)
        person = rng.choice(numbers, groups, p=np.sqrt(sizes) / np.sqrt(sizes).sum())
        chosen = np.array([rng.choice(np.flatnonzero(self.person == person[g])) for g in group], int)
        warps, flips = draw_warps(rng, groups)[group], np.where(rng.random(groups) < 0.5, -1.0, 1.0)[group]
        size = np.exp(rng.uniform(np.log(0.85), np.log(1.3), count))
        shift = np.clip(rng.normal(0, 0.05, (count, 2)), -0.12, 0.12)
        turn = np.radians(np.clip(rng.normal(0, 10, count), -25, 25))
        # From the face's own square, -1..1, to the crop: warped, turned and scaled, mirrored.
        cosine, sine = np.cos(turn), np.sin(turn)
        matrix = (
            np.stack([np.stack([flips * cosine, -flips * sine], -1), np.stack([sine, cosine], -1)], -2) / size[:, None, None]
        )
        own = 2 * (self.points[chosen] - self.middles[chosen, None]) / self.sides[chosen, None, None]
        points = warp(own, warps) @ np.swapaxes(matrix, 1, 2) + 2 * shift[:, None]
        mirrored = flips < 0
        points[mirrored] = points[mirrored][:, self.mirror]
        pictures = self._cut(chosen, warps, matrix, shift)
        gain = np.exp(rng.normal(0, 0.12, (count, 1, 1, 1)) + rng.normal(0, 0.04, (count, 1, 1, 3)))
        pictures = np.clip(pictures * gain, 0, 255).astype(np.uint8)
        spoil(rng, pictures)
        return pictures, points.astype(np.float32), group

    def _cut(self, chosen, warps, matrix, shift):
        """The crops [N, 128, 128, 3] float: where each pixel comes from is worked out on a coarse grid and interpolated."""
        along = np.linspace(-1, 1, GRID)
        grid = np.stack(np.meshgrid(along, along), -1).reshape(1, -1, 2) - 2 * shift[:, None]
        source = unwarp(grid @ np.swapaxes(np.linalg.inv(matrix), 1, 2), warps)
        source = source * self.sides[chosen, None, None] / 2 + self.middles[chosen, None] - 0.5  # OpenCV's pixel 0 is at 0
        pictures = np.empty((len(chosen), INPUT_SIZE, INPUT_SIZE, 3), np.float32)
        # Middles of pixels between the grid's corners.
        place = ((np.arange(INPUT_SIZE) + 0.5) / INPUT_SIZE * (GRID - 1)).astype(np.float32)
        across, down = np.meshgrid(place, place)
        for index, picture in enumerate(self.pictures[chosen]):
            fine = cv2.remap(source[index].reshape(GRID, GRID, 2).astype(np.float32), across, down, cv2.INTER_LINEAR)
            pictures[index] = cv2.remap(picture, fine, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return pictures


def draw_warps(rng, count):
    """Numbers [count, 6] of random smooth warps of a face's square: `warp` says of what."""
    return np.clip(rng.normal(0, 1, (count, 6)), -2, 2) * [0.05, 0.05, 0.05, 0.04, 0.05, 0.03]


def warp(points, numbers):
    """Points [N, P, 2] of a square, -1..1, where warps [N, 6] take them: wider, taller, tapered, rounder, with higher or lower
    features, and bent."""
    return points + _offsets(points, numbers)


def unwarp(points, numbers):
    """The inverse of `warp`, for points in or about the square."""
    found = points
    for _ in range(6):
        found = points - _offsets(found, numbers)
    return found


def _offsets(points, numbers):
    # Far outside there is nothing to warp, and a square would grow without end.
    x, y = np.clip(points[..., 0], -1.6, 1.6), np.clip(points[..., 1], -1.6, 1.6)
    wide, tall, taper, round_, low, bent = (numbers[:, None, k] for k in range(6))
    return np.stack([x * (wide + taper * y + round_ * (x * x - 0.4)), y * tall + low * (y * y - 0.4) + bent * x * x], -1)


def load_clips(parts, face, progress=lambda items, total=None: items):
    """`ClipFaces` of `ClipPart`s, found by MediaPipe. Raises `VideoError`, or `TrainingError` where no face is found."""
    from ..detect.mediapipe import MediaPipeDetector

    pictures, points, person = [], [], []
    for number, part in enumerate(parts):
        video, detector = open_video(part.path), MediaPipeDetector()
        found = len(pictures)
        try:
            for index, (_, image) in enumerate(progress(video.frames(), video.frame_count_estimate)):
                if part.end is not None and index >= part.end:
                    break
                if index >= part.start and (kept := keep_face(image, detector.detect(image))) is not None:
                    pictures.append(kept[0]), points.append(kept[1]), person.append(number)
        finally:
            detector.close()
        if len(pictures) == found:
            raise TrainingError(f"No face was found in {part.path}: leave it out.")
    return ClipFaces(np.stack(pictures), np.stack(points), np.array(person), mirror_points(face))


def keep_face(image, keypoints):
    """(picture [KEPT_SIZE, KEPT_SIZE, 3], points [478, 2] px of it) of the face in a frame, or None."""
    mesh = keypoints.face3d[:, :2]
    if not keypoints.face_confidence or len(mesh) != MESH_POINTS:
        return None
    low, high = mesh[:468].min(0), mesh[:468].max(0)
    side = (high - low).max()
    if side < SMALLEST:
        return None
    side *= BOX_MARGIN * KEPT_MARGIN
    corner = (low + high) / 2 - side / 2
    return cut(image, (*corner, side, side), (KEPT_SIZE, KEPT_SIZE)), (mesh - corner) / side * KEPT_SIZE


def mirror_points(face):
    """The mesh point [478] that each one's mirror image is, from where they are on the mean face."""
    places = face.mesh_points.mean
    mirrored = (places - face_middle(face)) * [-1, 1, 1] + face_middle(face)
    table = np.empty(MESH_POINTS, int)
    # Skin among skin: an eye's points lie close to its lids'.
    for group in (slice(0, 468), slice(468, MESH_POINTS)):
        distance = np.linalg.norm(mirrored[group][:, None] - places[group], axis=-1)
        table[group] = linear_sum_assignment(distance)[1] + group.start
    return table
