"""Batches of people before cameras: shape, pose, fingers, camera and crop, drawn for all of them at once.

What `scenes.sample_scene` does for one person and a burst of frames, this does for N persons and one frame each, and adds what a
tracker adds: the crop around the person that DetNet sees, never exactly in its place, sometimes with parts cut off.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..body.lbs import BodyModel
from ..contract.frames import CAMERA_TO_WORLD, MIRROR, axis_angle_to_matrix, matrix_to_axis_angle
from ..contract.skeleton import BODY_JOINTS, HAND_21, JOINT_INDEX, JOINT_NAMES, SIDES, SMPL_33, mirror_names
from ..contract.swing_twist import rotate, shortest_arc
from ..ik.rest_skeleton import BODY_PLACES, hand_places
from ..networks.body_keypoints import EXTENDED_BODIES
from ..networks.detnet_samples import FACE_POINTS, IMAGE_SIZE
from .hand_poses import sample_hand_poses
from .scenes import LARGEST_BETA

BODY_NAMES = EXTENDED_BODIES["smpl"].complete

RECOMBINED, SHAKEN, TUMBLED = 0.15, 0.4, 0.04
"""Share of the people whose arms come from another frame, whose joints are disturbed, and who are turned over in space."""

SIGNING, REACHING = 0.35, 0.15
"""Share of the arms held before the chest, as in signing, and of those put anywhere a shoulder reaches."""

FRONTAL = 0.65
"""Share of the people filmed from about the front, within some 40 degrees."""

FRAMINGS = (
    ("full", 0.40, SMPL_33.names, (0.35, 1.0)),
    (
        "thighs",
        0.15,
        tuple(name for name in BODY_NAMES if "ankle" not in name and "foot" not in name and "toe" not in name),
        (0.6, 1.05),
    ),
    (
        "hips",
        0.30,
        ("head_top", "left_hip", "right_hip", "left_shoulder", "right_shoulder", "left_wrist", "right_wrist"),
        (0.65, 1.1),
    ),
    ("chest", 0.15, ("head_top", "left_shoulder", "right_shoulder", "spine2"), (0.45, 0.9)),
)
"""What a camera is put up for: (name, share of the people, keypoints to show, the share of the picture's height they fill)."""

FIELD_OF_VIEW = (30.0, 75.0)
"""Degrees across the longer side of the picture."""

NEAREST = 0.35
"""m of depth that every keypoint keeps from the camera."""

CROP_MARGIN = (0.06, 0.25)
"""Of the size of the person's keypoints, on every side."""

FREE = 0.6
"""Share of the people whose crop lies inside the picture altogether; the others' may show black beyond its edges."""

CROP_JITTER, CUT = 0.12, 0.15
"""How far a crop is off, in place and size, relative to its size; share of the crops that cut a part of the person off."""

HEAD_RADIUS, TRUNK_RADIUS, ATTEMPTS = 0.085, 0.12, 3
"""m about the axes of head and trunk that no hand should come to, and how often such a pose is drawn anew."""

X, Y, Z = np.eye(3)


@dataclass
class People:
    """N people, each before a camera of its own. Axes are the camera's, metres and pixels of I.

    betas [N, 16]; rotations [N, 52, 3, 3] parent-relative, the pelvis's turned to camera axes; pelvis [N, 3];
    up [N, 3]: the world's vertical; matrix [N, 3, 3]: from the camera to I, off-centre as crops are;
    frame [N, 4]: left, top, right and bottom edge of the whole picture that I is cut from.
    body [N, 33, 3] in the order of EXTENDED_BODIES["smpl"], hands [N, 2, 21, 3] and face [N, 68, 3]: the keypoints' places.
    """

    betas: np.ndarray
    rotations: np.ndarray
    pelvis: np.ndarray
    up: np.ndarray
    matrix: np.ndarray
    frame: np.ndarray
    body: np.ndarray
    hands: np.ndarray
    face: np.ndarray

    def __len__(self):
        return len(self.betas)


class PeopleMaker:
    """Draws `People` with one body's shapes and the poses of motion capture."""

    def __init__(self, body, motions):
        """body: `BodyModelFile`; motions: list of `Motion`, mirrored ones are drawn as well."""
        self.body, self.model, self.rest_joints = body, BodyModel(body), body.rest_joints
        turns = np.concatenate([matrix_to_axis_angle(motion.rotations[:, BODY_JOINTS]) for motion in motions])
        self.turns = turns.astype(np.float32)  # [T, 22, 3] rad
        places = [BODY_PLACES[SMPL_33.name][SMPL_33.index(name)] for name in BODY_NAMES]
        places += [place for side in SIDES for place in hand_places(side)]
        vertices = [body.landmarks[place] for place in places if place not in JOINT_INDEX]
        # Where each keypoint stands among the joints, followed by the vertices.
        following = iter(range(len(JOINT_NAMES), len(JOINT_NAMES) + len(vertices)))
        self._places = np.array([JOINT_INDEX[place] if place in JOINT_INDEX else next(following) for place in places])
        self._vertices = np.concatenate([vertices, face_vertices(body)]).astype(np.int64)

    def draw(self, rng, count):
        """`People` [count]."""
        betas = np.clip(rng.normal(size=(count, self.model.shape_size)), -LARGEST_BETA, LARGEST_BETA)
        rotations = self._poses(rng, count)
        for _ in range(ATTEMPTS):
            again = np.flatnonzero(self.collides(betas, rotations))
            if not len(again):
                break
            rotations[again] = self._poses(rng, len(again))
        world_to_camera = sample_views(rng, rotations[:, 0])
        rotations[:, 0] = world_to_camera @ rotations[:, 0]
        tumbled = rng.random(count) < TUMBLED
        rotations[tumbled, 0] = axis_angle_to_matrix(rng.normal(0, 2, (tumbled.sum(), 3)))
        points = self.keypoints(betas, rotations)
        pelvis, matrix, frame = frame_people(rng, points[:, : len(BODY_NAMES)])
        points = points + pelvis[:, None]
        matrix, frame = crop_people(rng, points[:, : self._places.size], matrix, frame)
        body, hands, face = np.split(points, [len(BODY_NAMES), self._places.size], 1)
        hands = hands.reshape(count, 2, len(HAND_21), 3)
        return People(betas, rotations, pelvis, world_to_camera[:, :, 2], matrix, frame, body, hands, face)

    @torch.no_grad()
    def keypoints(self, betas, rotations):
        """Body, both hands' and face keypoints [N, 33 + 42 + 68, 3] m about the pelvis."""
        betas, rotations = (torch.as_tensor(array, dtype=torch.float32) for array in (betas, rotations))
        surface, joints = self.model.posed_points(betas, rotations, torch.zeros(len(betas), 3), self._vertices)
        everything = torch.cat([joints, surface], 1) - joints[:, :1]
        face = everything[:, -FACE_POINTS:]
        return torch.cat([everything[:, self._places], face], 1).numpy().astype(float)

    def _poses(self, rng, count):
        """Rotations [count, 52, 3, 3], the pelvis's to the world."""
        turns = self._pick(rng, count)
        other, arms = self._pick(rng, count), _joints(*(f"{{}}_{name}" for name in ("collar", "shoulder", "elbow", "wrist")))
        turns[:, arms] = np.where(rng.random((count, 1, 1)) < RECOMBINED, other[:, arms], turns[:, arms])
        rotations = np.empty((count, len(JOINT_NAMES), 3, 3))
        rotations[:, BODY_JOINTS] = axis_angle_to_matrix(turns)
        shaken = (rng.random((count, 1, 1)) < SHAKEN) * rng.random((count, 1, 1)) * np.radians(12)
        noise = rng.normal(size=(count, turns.shape[1] - 1, 3)) * shaken
        rotations[:, 1 : turns.shape[1]] = rotations[:, 1 : turns.shape[1]] @ axis_angle_to_matrix(noise)
        raise_hands(rng, rotations)
        turn_wrists(rng, rotations)
        bend_fingers(rng, rotations, self.rest_joints)
        return rotations

    def collides(self, betas, rotations):
        """[N] bool: whose hands reach into their own head or trunk."""
        points = self.keypoints(betas, rotations)
        hands = points[:, len(BODY_NAMES) : self._places.size]
        deep = np.zeros(len(points), bool)
        # The head's axis ends below its top by about its radius.
        for start, stop, reach, radius in (("head", "head_top", 0.6, HEAD_RADIUS), ("pelvis", "spine3", 1, TRUNK_RADIUS)):
            start, stop = (points[:, None, BODY_NAMES.index(name)] for name in (start, stop))
            along = np.sum((hands - start) * (stop - start), -1) / np.sum((stop - start) ** 2, -1)
            nearest = start + np.clip(along, 0, reach)[..., None] * (stop - start)
            deep |= (np.linalg.norm(hands - nearest, axis=-1) < radius).any(1)
        return deep

    def _pick(self, rng, count):
        """Axis-angle poses [count, 22, 3] from anywhere in the motions, half of them mirrored."""
        turns = self.turns[rng.integers(len(self.turns), size=count)].astype(float)
        return np.where(rng.random((count, 1, 1)) < 0.5, mirror_turns(turns), turns)


def _joints(*names):
    """Indices of joints by name, those with {} on both sides."""
    return [JOINT_INDEX[name.format(side)] for name in names for side in SIDES]


def mirror_turns(turns):
    """Axis-angle body poses [N, 22, 3] as a mirror across the person's middle shows them, the pelvis's in the world as well."""
    return turns[:, mirror_names(JOINT_NAMES[BODY_JOINTS])] * [1.0, -1, -1]


def raise_hands(rng, rotations):
    """Puts some people's arms, in place, before the chest, and others' anywhere a shoulder reaches."""
    count = len(rotations)
    both = rng.random(count)
    for side, sign in zip(SIDES, (1, -1)):
        # Hands come up together more often than alone.
        chance = np.where(rng.random(count) < 0.8, both, rng.random(count))
        signing, reaching = chance < SIGNING, (chance >= SIGNING) & (chance < SIGNING + REACHING)

        def angle(near, far, signing=signing):
            degrees = np.where(signing, rng.uniform(*near, count), rng.uniform(*far, count))
            return np.radians(degrees)[:, None]

        down, forward = angle((-80, -45), (-85, 80)), angle((-50, 0), (-100, 30))
        twist, flexion = angle((-50, 40), (-80, 70)), angle((60, 135), (0, 140))
        shoulder = (
            axis_angle_to_matrix(Y * sign * forward)
            @ axis_angle_to_matrix(Z * sign * down)
            @ axis_angle_to_matrix(X * twist)
        )
        elbow = axis_angle_to_matrix(-Y * sign * flexion)
        for name, turn in (("shoulder", shoulder), ("elbow", elbow)):
            joint, which = JOINT_INDEX[f"{side}_{name}"], signing | reaching
            rotations[which, joint] = turn[which]


def turn_wrists(rng, rotations):
    """Turns all wrists, in place, within what forearm and wrist can do: pronation, shared with the elbow, flexion, deviation."""
    count = len(rotations)
    for side in SIDES:
        wrist, elbow = JOINT_INDEX[f"{side}_wrist"], JOINT_INDEX[f"{side}_elbow"]
        angles = np.radians(np.clip(rng.normal(0, [60, 30, 12], (count, 3)), [-100, -75, -25], [100, 75, 25]))
        angles *= rng.random((count, 1)) < 0.8
        half = axis_angle_to_matrix(X * angles[:, :1] / 2)
        rotations[:, elbow] = rotations[:, elbow] @ half
        bend = axis_angle_to_matrix(Z * angles[:, 1:2]) @ axis_angle_to_matrix(Y * angles[:, 2:])
        rotations[:, wrist] = half @ rotations[:, wrist] @ bend


def bend_fingers(rng, rotations, rest_joints):
    """Gives all hands fingers, in place; some of them are drawn towards the flat hand."""
    count = len(rotations)
    for joints, mirror in ((slice(22, 37), np.eye(3)), (slice(37, 52), MIRROR)):
        fingers = sample_hand_poses(rng, count, rest_joints)
        flat = rng.random(count) < 0.15
        turns = matrix_to_axis_angle(fingers[flat]) * rng.random((flat.sum(), 1, 1))
        fingers[flat] = axis_angle_to_matrix(turns)
        rotations[:, joints] = mirror @ fingers @ mirror


def sample_views(rng, pelvis_to_world):
    """Rotations [N, 3, 3] from the world to cameras that look mostly at the front, a little from above, hardly rolled."""
    count = len(pelvis_to_world)
    facing = pelvis_to_world[:, :, 2]
    azimuth = np.where(rng.random(count) < FRONTAL, rng.normal(0, 40, count), rng.uniform(-180, 180, count))
    # A person who faces -y looks into the camera.
    turn = np.radians(azimuth) - np.pi / 2 - np.arctan2(facing[:, 1], facing[:, 0])
    pitch = np.radians(np.clip(rng.normal(6, 11, count), -25, 60))
    roll = np.radians(rng.normal(0, 4, count))
    to_camera = axis_angle_to_matrix(X * pitch[:, None]) @ CAMERA_TO_WORLD.T
    return axis_angle_to_matrix(Z * roll[:, None]) @ to_camera @ axis_angle_to_matrix(Z * turn[:, None])


def frame_people(rng, points):
    """Places people before their cameras, so that what each camera is put up for fills a random share of its picture.

    points [N, 33, 3] m about the pelvis. Returns pelvis [N, 3] m, matrix [N, 3, 3] and frame [N, 4] of the whole pictures, in
    units of their height.
    """
    count = len(points)
    kind = rng.choice(len(FRAMINGS), count, p=[share for _, share, *_ in FRAMINGS])
    shown = np.array([[name in names for name in BODY_NAMES] for _, _, names, _ in FRAMINGS])[kind]
    aspect = np.exp(rng.uniform(np.log(9 / 16), np.log(16 / 9), count))
    fov = np.radians(rng.uniform(*FIELD_OF_VIEW, count))
    focal = np.maximum(aspect, 1) / 2 / np.tan(fov / 2)
    low = np.where(shown[..., None], points, np.inf).min(1)
    high = np.where(shown[..., None], points, -np.inf).max(1)
    fill = rng.uniform(*np.array([limits for *_, limits in FRAMINGS])[kind].T)
    size = (high - low)[:, :2]
    depth = focal * np.maximum(size[:, 1] / fill, size[:, 0] / (1.05 * aspect))
    # The share of the picture is that of the nearest point shown.
    depth = np.maximum(depth - low[:, 2], NEAREST - points[..., 2].min(1))
    slack = np.clip(1 - focal[:, None] * size / depth[:, None] / np.stack([aspect, np.ones(count)], -1), 0, 1)
    middle = 0.4 * slack * rng.uniform(-1, 1, (count, 2)) * np.stack([aspect, np.ones(count)], -1)
    place = middle / focal[:, None] * depth[:, None] - (low + high)[:, :2] / 2
    matrix = np.zeros((count, 3, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = focal
    matrix[:, 0, 2], matrix[:, 1, 2], matrix[:, 2, 2] = aspect / 2, 0.5, 1
    frame = np.stack([np.zeros(count), np.zeros(count), aspect, np.ones(count)], -1)
    return np.concatenate([place, depth[:, None]], -1), matrix, frame


def crop_people(rng, points, matrix, frame):
    """Cuts I out of each picture as a tracker does: around the keypoints inside the picture, with a margin, a little off.

    points [N, K, 3] m; matrix [N, 3, 3] and frame [N, 4] in any unit of the picture. Returns both in pixels of I.
    """
    count = len(points)
    pixels = project_to(points, matrix)
    inside = ((pixels >= frame[:, None, :2]) & (pixels <= frame[:, None, 2:])).all(-1)
    inside[inside.sum(1) < 4] = True
    low = np.where(inside[..., None], pixels, np.inf).min(1)
    high = np.where(inside[..., None], pixels, -np.inf).max(1)
    shape = np.array(IMAGE_SIZE) / IMAGE_SIZE[1]
    height = ((high - low) * (1 + 2 * rng.uniform(*CROP_MARGIN, (count, 1))) / shape).max(1)
    cut = rng.random(count) < CUT
    height *= np.clip(np.exp(rng.normal(0, CROP_JITTER, count)), 0.75, 1.35) * np.where(cut, rng.uniform(0.5, 0.9, count), 1)
    size = height[:, None] * shape
    spread = np.where(cut, 2, 1)[:, None] * CROP_JITTER
    middle = (low + high) / 2 + size * np.clip(rng.normal(0, spread, (count, 2)), -2 * spread, 2 * spread)
    # Some trackers keep to the picture where they can.
    keeps = (size <= frame[:, 2:] - frame[:, :2]) & (rng.random((count, 1)) < 0.5)
    middle = np.where(keeps, np.clip(middle, frame[:, :2] + size / 2, frame[:, 2:] - size / 2), middle)
    scale = IMAGE_SIZE[1] / height
    corner = middle - size / 2
    free = rng.random((count, 1)) < FREE
    around = np.concatenate([np.minimum(frame[:, :2], corner), np.maximum(frame[:, 2:], corner + size)], -1)
    frame = np.where(free, around, frame)
    matrix = matrix.copy()
    matrix[:, :2, 2] -= corner
    matrix[:, :2] *= scale[:, None, None]
    return matrix, (frame - np.tile(corner, 2)) * scale[:, None]


def project_to(points, matrix):
    """Camera-frame points [N, ..., 3] m to pixels [N, ..., 2], with one matrix [N, 3, 3] each."""
    lead = (len(matrix),) + (1,) * (points.ndim - 2)
    focal = np.stack([matrix[:, 0, 0], matrix[:, 1, 1]], -1).reshape(*lead, 2)
    return points[..., :2] / points[..., 2:] * focal + matrix[:, :2, 2].reshape(*lead, 2)


def crop_axes(centre, matrix):
    """`camera.crop_to_camera_rotation` for a crop around each centre [N, ..., 2] px and one matrix [N, 3, 3] each."""
    lead = (len(matrix),) + (1,) * (centre.ndim - 2)
    focal = np.stack([matrix[:, 0, 0], matrix[:, 1, 1]], -1).reshape(*lead, 2)
    sight = (centre - matrix[:, :2, 2].reshape(*lead, 2)) / focal
    return shortest_arc(Z, np.concatenate([sight, np.ones_like(sight[..., :1])], -1))


def seen_along(points, rotation):
    """Camera-frame points [..., K, 3] in the axes of crops with rotations [..., 3, 3] from `crop_axes`."""
    return rotate(np.swapaxes(rotation, -1, -2)[..., None, :, :], points)


def face_vertices(body):
    """FACE_POINTS vertices of the face, from chin to brow and ear to ear: the landmarks first, then evenly spread ones."""
    rest = np.asarray(body.v_template, float)
    at = {name: rest[vertex] for name, vertex in body.landmarks.items()}
    top, eye, mouth, ear = (at[name] for name in ("head_top", "left_eye", "left_mouth", "left_ear"))
    chin = mouth[1] - 0.45 * (eye[1] - mouth[1]) - 0.015
    held = body.weights.argmax(1) == JOINT_INDEX["head"]
    front = rest[:, 2] > np.interp(np.abs(rest[:, 0]), [0, ear[0]], [mouth[2] - 0.03, ear[2] + 0.02])
    region = held & front & (rest[:, 1] > chin) & (rest[:, 1] < eye[1] + 0.4 * (top[1] - eye[1]))
    # The seen surface: the foremost vertices of each small column.
    columns = np.round(rest[:, :2] / 0.006).astype(int)
    keys = columns[:, 0] * 10_000 + columns[:, 1]
    foremost = {}
    for vertex in np.flatnonzero(region):
        best = foremost.setdefault(keys[vertex], vertex)
        if rest[vertex, 2] > rest[best, 2]:
            foremost[keys[vertex]] = vertex
    candidates = np.array(sorted(foremost.values()))
    names = ("nose", *(f"{side}_{part}" for side in SIDES for part in ("eye", "eye_inner", "eye_outer", "mouth")))
    chosen = [body.landmarks[name] for name in names]
    distance = np.min([np.linalg.norm(rest[candidates] - rest[vertex], axis=-1) for vertex in chosen], 0)
    while len(chosen) < FACE_POINTS:
        chosen.append(int(candidates[np.argmax(distance)]))
        distance = np.minimum(distance, np.linalg.norm(rest[candidates] - rest[chosen[-1]], axis=-1))
    return np.array(chosen)
