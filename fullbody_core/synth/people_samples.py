"""Synthetic people as samples for DetNet: sampled, drawn and labelled, batch by batch."""

import time
from pathlib import Path

import cv2
import numpy as np
import torch

from ..networks.detnet_samples import CELL, IMAGE_SIZE, DetNetSamples
from ..networks.heat_maps import BODY_MAP, hand_windows
from . import appearance
from .gl_renderer import PICTURE_SIZE, GLRenderer, RendererError
from .people import PeopleMaker, crop_axes, project_to, seen_along
from .person_mesh import PersonMesh

COMPRESSED = 0.25
"""Share of the samples that show traces of a video codec."""


class PeopleSampler:
    """Draws `DetNetSamples` of definition "smpl" from synthetic people.

        sampler = PeopleSampler(load_body("open"), load_motions(folder, held_out=False))
        samples = sampler.draw(64, seed=7)

    Samples depend on the arguments and the seed alone, on one machine and driver.
    """

    def __init__(self, body, motions, hand_boxes=None, jitter=0.12, backgrounds=None, device="cpu", columns=4, rows=2):
        """body: `BodyModelFile` with the open body's landmarks; motions: list of `Motion`.

        hand_boxes: function from the hands' keypoints [N, 2, 21, 2] px of I to squares [N, 2, 3] (u, v, w in cells, w = 0 for a
        hand that is not in the picture), by default `hand_windows`; jitter: how far a square is moved and scaled, relative to
        its size; backgrounds: a folder of pictures to stand behind some of the people, or None; device: where torch poses the
        people; columns, rows: people drawn at once. Raises `RendererError` where there is no OpenGL.
        """
        self.maker, self.wardrobe = PeopleMaker(body, motions), appearance.Wardrobe(body)
        self.device = torch.device(device)
        self.mesh = PersonMesh(body).to(self.device)
        self.hand_boxes, self.jitter = hand_boxes or hand_windows, jitter
        pictures = None if backgrounds is None else load_pictures(backgrounds)
        self.picture_count = 0 if pictures is None else len(pictures)
        self.renderer = GLRenderer(self.mesh, self.wardrobe.measures(), pictures, columns, rows)

    def draw(self, count, seed):
        """`count` samples. seed: an int, or a numpy Generator to go on with."""
        rng = np.random.default_rng(seed)
        people = self.maker.draw(rng, count)
        samples = label(people)
        boxes = np.where(in_picture(people)[..., None], self.hand_boxes(samples.hand2d), 0)
        samples.hand_boxes = jitter_boxes(rng, boxes, self.jitter)
        _label_hands(samples, people)
        blocks = self.look(rng, people, samples.hand_boxes)
        drawn = self.renderer.draw(lambda part: self.pose(people, part), blocks, samples.hand_boxes)
        samples.image, samples.hand_images = drawn
        compress(rng, samples)
        return samples

    def look(self, rng, people, boxes):
        """The random block [N, F, 4] of how people and pictures look, for `GLRenderer.draw`."""
        count = len(people)
        look = appearance.camera_fields(people, rng.uniform(0, 50, count))
        look |= self.wardrobe.dress(rng, count) | appearance.light(rng, people.up)
        look |= appearance.shadow_frames(people, look["lamp"])
        look |= appearance.backdrop(rng, count, appearance.horizon(people), self.picture_count)
        look |= appearance.obstacles(rng, count) | appearance.camera_faults(rng, boxes)
        return appearance.pack(look)

    def pose(self, people, part):
        """Surfaces [n, M, 6] of the people in a slice, as `PersonMesh` gives them."""
        betas, rotations, pelvis = (
            torch.as_tensor(array[part], dtype=torch.float32, device=self.device)
            for array in (people.betas, people.rotations, people.pelvis)
        )
        return self.mesh(betas, rotations, pelvis).cpu().numpy()


def label(people):
    """Samples with all labels of `People` but the hand squares and what hangs on them; the pictures are still black."""
    count = len(people)
    samples = DetNetSamples.blank("smpl", count)
    samples.body2d[:] = project_to(people.body, people.matrix)
    samples.hand2d[:] = project_to(people.hands, people.matrix)
    samples.face2d[:] = project_to(people.face, people.matrix)
    axes = crop_axes(np.tile(np.array(IMAGE_SIZE) / 2, (count, 1)), people.matrix)
    body = seen_along(people.body, axes)
    samples.body3d[:] = body - body[:, :1]
    for name in "body_known2d body_known3d hand_known2d hand_known3d face_known face_map_known body_present".split():
        getattr(samples, name)[:] = True
    # A hand in the black beyond the picture's edge is neither to be found nor to be denied.
    inside = ((samples.hand2d >= 0) & (samples.hand2d <= IMAGE_SIZE)).all(-1).any(-1)
    samples.hand_map_known[:] = in_picture(people) | ~inside
    return samples


def in_picture(people):
    """[N, 2] bool: the hands of which the whole picture, of which I is a part, shows something."""
    places = project_to(people.hands, people.matrix)
    low, high = (people.frame[:, None, None, corner] for corner in (slice(0, 2), slice(2, 4)))
    return ((places >= low) & (places <= high)).all(-1).any(-1)


def _label_hands(samples, people):
    """Fills in hand3d, m from the wrist, seen along the middle of each hand image (or of I where there is none)."""
    boxes = samples.hand_boxes.astype(float)
    middle = CELL * (boxes[..., :2] + boxes[..., 2:] / 2)
    middle = np.where(boxes[..., 2:] > 0, middle, np.array(IMAGE_SIZE) / 2)
    hands = seen_along(people.hands, crop_axes(middle, people.matrix))
    samples.hand3d[:] = hands - hands[..., :1, :]


def keep_inside(boxes):
    """Squares [..., 3] no larger than the maps, and moved into them."""
    width = np.minimum(boxes[..., 2:], min(BODY_MAP))
    middle = boxes[..., :2] + boxes[..., 2:] / 2
    corner = np.clip(middle - width / 2, 0, np.array(BODY_MAP) - width)
    return np.concatenate([corner, width], -1)


def jitter_boxes(rng, boxes, amount):
    """The same squares a little off, as found ones are: `amount` is the standard deviation relative to the width."""
    lead = boxes.shape[:-1]
    width = boxes[..., 2:] * np.clip(np.exp(rng.normal(0, amount, (*lead, 1))), 1 - 2 * amount, 1 + 2.5 * amount)
    shift = boxes[..., 2:] * np.clip(rng.normal(0, amount / 2, (*lead, 2)), -amount, amount)
    moved = np.concatenate([boxes[..., :2] + boxes[..., 2:] / 2 + shift - width / 2, width], -1)
    return np.where(boxes[..., 2:] > 0, keep_inside(moved), 0).astype(np.float32)


def compress(rng, samples):
    """Passes some of the pictures, in place, through JPEG: the hand images of COMPRESSED of the samples, and I of half of those."""
    for sample in np.flatnonzero(rng.random(len(samples)) < COMPRESSED):
        quality = int(rng.integers(25, 85))
        views = [samples.hand_images[sample, hand] for hand in np.flatnonzero(samples.hand_boxes[sample, :, 2])]
        views += [samples.image[sample]] * int(rng.random() < 0.5)
        for picture in views:
            coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            picture[:] = cv2.imdecode(coded, cv2.IMREAD_COLOR)


def load_pictures(folder):
    """All pictures of a folder and its subfolders, cut square: [B, 256, 256, 3] RGB uint8. Raises `RendererError`."""
    pictures = []
    for path in sorted(Path(folder).rglob("*")):
        picture = cv2.imread(str(path)) if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".bmp") else None
        if picture is not None:
            side = min(picture.shape[:2])
            top, left = ((length - side) // 2 for length in picture.shape[:2])
            square = picture[top : top + side, left : left + side, ::-1]
            pictures.append(cv2.resize(square, (PICTURE_SIZE, PICTURE_SIZE), interpolation=cv2.INTER_AREA))
    if not pictures:
        raise RendererError(f"{folder} holds no pictures: give a folder of .jpg or .png files for the backgrounds.")
    return np.stack(pictures)


def samples_per_second(sampler, seconds=5.0, batch=64):
    """How many samples a second a sampler draws, warm, over at least that many seconds."""
    sampler.draw(batch, 0)
    start, drawn = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        drawn += len(sampler.draw(batch, drawn + 1))
    return drawn / (time.perf_counter() - start)
