"""Long hair and skirts: sheets that hang about the body at rest and follow its joints, added to the mesh that is drawn."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..contract.easing import smoothstep
from ..contract.skeleton import JOINT_INDEX, JOINT_NAMES, SIDES
from ..contract.swing_twist import unit


@dataclass(frozen=True)
class Shell:
    """A sheet at rest: places and normals [M, 3], weights [M, 52], nearest [M]: the body's vertex whose shape it shares,
    faces [F, 3]."""

    places: np.ndarray
    normals: np.ndarray
    weights: np.ndarray
    nearest: np.ndarray
    faces: np.ndarray


def long_hair(body, rows=14, columns=15):
    """Hair that falls from the back of the head to below the shoulders; the drawing cuts it to its length."""
    rest = np.asarray(body.v_template, float)
    at = {name: rest[vertex] for name, vertex in body.landmarks.items()}
    head, neck, chest = (body.rest_joints[JOINT_INDEX[name]] for name in ("head", "neck", "spine3"))
    down, around = np.meshgrid(np.linspace(0, 1, rows), np.radians(np.linspace(-125, 125, columns)), indexing="ij")
    height = at["left_eye"][1] + 0.03 + down * (chest[1] - at["left_eye"][1] - 0.03)
    skull = np.array([0, 0, (at["nose"][2] - 0.03 + rest[_held(body, "head"), 2].min()) / 2])
    width, depth = at["left_ear"][0] + 0.012, skull[2] - rest[_held(body, "head"), 2].min() + 0.016
    # Below the ears it narrows to the neck, and then lies on the back.
    narrow = 1 - 0.22 * smoothstep(-height, -at["left_ear"][1], -neck[1])
    back = smoothstep(-height, -neck[1] - 0.02, -chest[1]) * 0.035
    places = np.stack(
        [width * narrow * np.sin(around), height, skull[2] - depth * narrow * np.cos(around) - back], -1
    ).reshape(-1, 3)
    share = smoothstep(-places[:, 1], -at["left_ear"][1], -neck[1] + 0.06)
    weights = np.zeros((len(places), len(JOINT_NAMES)))
    weights[:, JOINT_INDEX["head"]] = 1 - share
    weights[:, JOINT_INDEX["neck"]], weights[:, JOINT_INDEX["spine3"]] = 0.35 * share, 0.65 * share
    normals = unit((places - [0, 0, skull[2]]) * [1, 0, 1])
    nearest = np.flatnonzero(_held(body, "head", "neck"))
    nearest = nearest[cKDTree(rest[nearest]).query(places)[1]]
    return Shell(places, normals, weights, nearest, _grid_faces(rows, columns, closed=False))


def skirt(body, rows=9, columns=24):
    """A skirt from the waist to the ankles, which the drawing widens, and cuts to its length."""
    rest = np.asarray(body.v_template, float)
    hip, knee, ankle = (body.rest_joints[JOINT_INDEX[f"left_{name}"]] for name in ("hip", "knee", "ankle"))
    waist = body.rest_joints[JOINT_INDEX["spine1"]]
    heights = np.linspace(waist[1] + 0.02, ankle[1] + 0.02, rows)
    angles = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    trunk = np.abs(rest[:, 0]) < 0.35
    rings, widest = [], np.zeros(2)
    for height in heights:
        near = rest[trunk & (np.abs(rest[:, 1] - height) < 0.03)]
        middle = np.array([0, (near[:, 2].min() + near[:, 2].max()) / 2])
        half = np.array([near[:, 0].max(), (near[:, 2].max() - near[:, 2].min()) / 2]) + 0.012
        # Cloth hangs straight down from where the body is widest.
        widest = np.maximum(widest, half) if height > hip[1] - 0.1 else np.maximum(half, 0.9 * widest)
        ring = np.stack([np.sin(angles) * widest[0], np.full(columns, height), middle[1] + np.cos(angles) * widest[1]], -1)
        rings.append(ring)
    places = np.concatenate(rings)
    low = smoothstep(-places[:, 1], -waist[1], -hip[1] + 0.12)
    left = smoothstep(places[:, 0], -0.09, 0.09)
    knees = 0.45 * smoothstep(-places[:, 1], -knee[1] - 0.08, -knee[1] + 0.12)
    weights = np.zeros((len(places), len(JOINT_NAMES)))
    weights[:, JOINT_INDEX["pelvis"]] = 1 - 0.8 * low
    for side, share in zip(SIDES, (left, 1 - left)):
        weights[:, JOINT_INDEX[f"{side}_hip"]] = 0.8 * low * share * (1 - knees)
        weights[:, JOINT_INDEX[f"{side}_knee"]] = 0.8 * low * share * knees
    normals = unit((places - places.reshape(rows, columns, 3).mean(1).repeat(columns, 0)) * [1, 0, 1])
    nearest = np.flatnonzero(trunk)
    nearest = nearest[cKDTree(rest[nearest]).query(places)[1]]
    return Shell(places, normals, weights, nearest, _grid_faces(rows, columns, closed=True))


def _held(body, *joints):
    """[V] bool: the vertices that these joints hold most of."""
    return np.isin(body.weights.argmax(1), [JOINT_INDEX[joint] for joint in joints])


def _grid_faces(rows, columns, closed):
    """Triangles of a grid of vertices, row after row; a closed one meets itself at the ends of each row."""
    number = np.arange(rows * columns).reshape(rows, columns)
    if closed:
        number = np.concatenate([number, number[:, :1]], 1)
    a, b, c, d = (corner.reshape(-1) for corner in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]).astype(np.int32)
