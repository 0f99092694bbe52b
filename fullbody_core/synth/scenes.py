"""Scenes to look at: an open body of random shape and dress, moved by motion capture, before a random camera in a room."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from ..body.lbs import BodyModel
from ..camera import camera_matrix
from ..contract.frames import CAMERA_TO_WORLD, MIRROR, axis_angle_to_matrix, matrix_to_axis_angle
from ..contract.skeleton import FINGERS, JOINT_INDEX, SIDES
from ..ik.rest_skeleton import RestSkeleton
from .hand_poses import sample_hand_poses
from .render import dress, put_on, render, room, sample_light

FRAMERATE = 30.0
BURST = 9
"""Frames of a scene."""

LARGEST_BETA = 2.5
CLOSE_SHARE = 0.4
"""Scenes that show the person from about the waist up, where the hands are large."""

SIGNING_SHARE = 0.75
"""Of those, the ones with the hands before the chest, as in signing; the rest keep the motion capture's arms."""

FULL_VIEWS, CLOSE_VIEWS = (0.75, 50), (0.85, 30)
"""Share of the scenes filmed from about the front, and standard deviation in degrees of the side they are filmed from then."""

NEAREST = 0.55
"""m of depth that every joint keeps from the camera."""

IMAGE_SIZES = ((512, 640), (640, 640), (800, 600), (540, 960), (960, 540))
"""px (width, height)."""

X, Y, Z = np.eye(3)


@dataclass
class Scene:
    """A burst of T frames of one person before one camera that stands still.

    betas [16]; rotations [T, 52, 3, 3] parent-relative, the pelvis's turned to camera axes; pelvis [T, 3] m in the camera
    frame; matrix [3, 3] px; image_size (width, height) px; up [3]: the world's vertical in the camera frame; close: whether
    it shows the upper body only.
    """

    betas: np.ndarray
    rotations: np.ndarray
    pelvis: np.ndarray
    matrix: np.ndarray
    image_size: tuple
    up: np.ndarray
    close: bool


def sample_scene(rng, body, motions):
    """A random person, burst of motion and camera. body: `BodyModelFile`; motions: list of `Motion`."""
    betas = np.clip(rng.normal(size=body.shapedirs.shape[-1]), -LARGEST_BETA, LARGEST_BETA)
    skeleton = RestSkeleton.of_body(body, betas)
    close = bool(rng.random() < CLOSE_SHARE)
    rotations = _sample_burst(rng, motions)
    if close and rng.random() < SIGNING_SHARE:
        _raise_hands(rng, rotations)
    _turn_wrists(rng, rotations)
    _move_fingers(rng, rotations, skeleton.joints)
    world_to_camera = _sample_view(rng, rotations[BURST // 2, 0], *CLOSE_VIEWS if close else FULL_VIEWS)
    rotations[:, 0] = world_to_camera @ rotations[:, 0]
    image_size = IMAGE_SIZES[rng.integers(len(IMAGE_SIZES))]
    matrix = camera_matrix(image_size, rng.uniform(35, 65))
    joints, orientations = skeleton.pose(rotations)
    points = np.concatenate([joints, skeleton.place(["head_top", "left_heel", "right_heel"], joints, orientations)], 1)
    pelvis = _place_person(rng, points, close, matrix, image_size)
    return Scene(betas, rotations, np.tile(pelvis, (BURST, 1)), matrix, image_size, world_to_camera[:, 2], close)


def _sample_burst(rng, motions):
    """BURST consecutive frames [T, 52, 3, 3] from anywhere in the motions, every frame alike."""
    starts = np.array([max(len(motion.rotations) - BURST, 0) for motion in motions])
    motion = rng.choice(len(motions), p=starts / starts.sum())
    start = rng.integers(starts[motion])
    return motions[motion].rotations[start : start + BURST].copy()


def _drift(rng, spread, speed):
    """An angle [T, 1] rad that starts anywhere within `spread` rad and moves on at up to `speed` rad/s."""
    return rng.uniform(-spread, spread) + rng.normal(0, speed / 2) * np.arange(BURST)[:, None] / FRAMERATE


def _raise_hands(rng, rotations):
    """Puts the arms, in place, before the chest: upper arms down and forward, elbows bent, forearms turned inwards."""
    for side, sign in zip(SIDES, (1, -1)):
        if rng.random() < 0.15:
            continue
        down, forward, twist = np.radians([rng.uniform(-80, -45), rng.uniform(-50, 0), rng.uniform(-50, 40)])
        shoulder = (
            axis_angle_to_matrix(Y * sign * forward)
            @ axis_angle_to_matrix(Z * sign * down)
            @ axis_angle_to_matrix(X * twist)
        )
        wobble = axis_angle_to_matrix(rng.normal(size=3) * _drift(rng, 0.2, 0.8))
        rotations[:, JOINT_INDEX[f"{side}_shoulder"]] = wobble @ shoulder
        flexion = sign * (-np.radians(rng.uniform(60, 135)) + _drift(rng, 0.1, 1.5))
        rotations[:, JOINT_INDEX[f"{side}_elbow"]] = axis_angle_to_matrix(Y * flexion)


def _turn_wrists(rng, rotations):
    """Turns both wrists, in place: pronation about the forearm, flexion and deviation."""
    for side in SIDES:
        for axis, spread in ((X, 60), (Z, 35), (Y, 15)):
            turn = axis_angle_to_matrix(axis * _drift(rng, np.radians(spread), 1.0))
            joint = JOINT_INDEX[f"{side}_wrist"]
            rotations[:, joint] = rotations[:, joint] @ turn


def _move_fingers(rng, rotations, rest_joints):
    """Gives both hands fingers, in place, that go part of the way from one pose to another."""
    for side, mirror in zip(SIDES, (np.eye(3), MIRROR)):
        start, stop = sample_hand_poses(rng, 2, rest_joints)
        change = np.swapaxes(start, -1, -2) @ stop
        share = rng.uniform(0, 0.4) * np.linspace(0, 1, BURST)
        hand = start @ axis_angle_to_matrix(matrix_to_axis_angle(change) * share[:, None, None])
        first = JOINT_INDEX[f"{side}_{FINGERS[0]}1"]
        rotations[:, first : first + hand.shape[1]] = mirror @ hand @ mirror


def _sample_view(rng, pelvis_to_world, frontal_share, spread):
    """Rotation [3, 3] from the world to a camera without roll; frontal_share and spread as in FULL_VIEWS."""
    facing = pelvis_to_world[:, 2]
    azimuth = np.radians(rng.normal(0, spread) if rng.random() < frontal_share else rng.uniform(-180, 180))
    front = np.arctan2(facing[1], facing[0])
    # A person who faces -y looks into the camera.
    turn = axis_angle_to_matrix(Z * (azimuth - np.pi / 2 - front))
    pitch = np.radians(rng.uniform(-5, 25))
    return (CAMERA_TO_WORLD @ axis_angle_to_matrix([-pitch, 0, 0])).T @ turn


def _place_person(rng, points, close, matrix, image_size):
    """Where the pelvis stands [3] m, so that the person fills a random share of the image.

    points [T, N, 3] m about the pelvis in camera axes: 52 joints and further points.
    """
    width, height = image_size
    shown = points[:, [JOINT_INDEX[f"{s}_{j}"] for s in SIDES for j in ("hip", "shoulder", "elbow", "wrist")] + [52]]
    shown = (shown if close else points).reshape(-1, 3)
    low, high = shown.min(0), shown.max(0)
    tall, wide = matrix[0, 0] * (high - low)[:2][::-1] / [height, width]
    depth = max(tall / rng.uniform(0.4 if not close else 0.6, 0.95), wide / (0.95 if not close else 1.1))
    # The share of the image is that of the nearest point.
    depth = max(depth - low[2], NEAREST - points[..., 2].min())
    slack = np.clip(1 - matrix[0, 0] * (high - low)[:2] / depth / [width, height], 0, 1)
    middle = np.array([width, height]) * (0.5 + 0.35 * slack * rng.uniform(-1, 1, 2))
    place = (middle - matrix[:2, 2]) / matrix[0, 0] * depth
    return np.array([*(place - (low + high)[:2] / 2), depth])


def render_scene(rng, scene, body):
    """The T pictures of a scene, RGB uint8 [H, W, 3] each, one after another."""
    outfit = dress(body, rng)
    vertices = pose_vertices(scene, body)
    soles = (vertices @ scene.up).min()
    background = room(rng, scene.image_size, scene.matrix, scene.up, max(-soles, 0.3))
    light, blur = sample_light(rng, scene.up), rng.uniform(0.2, 0.9)
    grain = rng.uniform(0.5, 4)
    for surface in vertices:
        image, _ = render(put_on(outfit, surface, body.f), body.f, outfit.colours, scene.matrix, background, light)
        soft = cv2.GaussianBlur(image, (0, 0), blur)
        yield np.clip(soft + rng.normal(0, grain, soft.shape), 0, 255).astype(np.uint8)


def pose_vertices(scene, body):
    """Posed surface [T, V, 3] m of a scene's person in the camera frame."""
    model = BodyModel(body, dtype=torch.float32)
    betas = torch.as_tensor(scene.betas, dtype=torch.float32)[None].expand(len(scene.pelvis), -1)
    with torch.no_grad():
        translation = torch.as_tensor(scene.pelvis, dtype=torch.float32) - model.rest_joints(betas)[:, 0]
        return model(betas, torch.as_tensor(scene.rotations, dtype=torch.float32), translation)[0].numpy().astype(float)
