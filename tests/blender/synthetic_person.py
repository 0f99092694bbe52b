# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up person: a template of boxes on the SMPL-H tree, and captures of it in smooth random motion. Numpy only."""

import numpy as np
from fullbody_mocap.contract.capture import CaptureClip
from fullbody_mocap.contract.character import CharacterTemplate
from fullbody_mocap.contract.frames import (
    CAMERA_TO_WORLD,
    REST_TO_WORLD,
    axis_angle_to_matrix,
    forward_kinematics,
    matrix_to_axis_angle,
)
from fullbody_mocap.contract.skeleton import JOINT_NAMES, PARENTS

_MIDDLE_AND_LEFT = {
    "pelvis": (0, 0, 0), "spine1": (0, 0.11, -0.02), "spine2": (0, 0.24, -0.01), "spine3": (0, 0.30, 0.0),
    "neck": (0, 0.50, -0.03), "head": (0, 0.58, 0.01),
    "left_hip": (0.07, -0.09, 0), "left_knee": (0.10, -0.47, 0.01), "left_ankle": (0.09, -0.88, -0.03),
    "left_foot": (0.11, -0.93, 0.10),
    "left_collar": (0.08, 0.41, -0.02), "left_shoulder": (0.18, 0.44, -0.03), "left_elbow": (0.44, 0.43, -0.05),
    "left_wrist": (0.69, 0.44, -0.05),
}  # fmt: skip
_FINGER_DEPTH = {"index": 0.03, "middle": 0.008, "ring": -0.014, "pinky": -0.034, "thumb": 0.045}


def rest_joints():
    """The 52 joints [52, 3] m of a person in a T-pose, in the rest frame."""
    places = dict(_MIDDLE_AND_LEFT)
    x, y, z = places["left_wrist"]
    for finger, depth in _FINGER_DEPTH.items():
        for segment in range(3):
            reach = (0.03 if finger == "thumb" else 0.09) + 0.028 * segment
            places[f"left_{finger}{segment + 1}"] = (
                x + reach,
                y - 0.005 * segment,
                z + depth + (0.02 * segment if finger == "thumb" else 0),
            )
    for name, (x, y, z) in list(places.items()):
        if name.startswith("left_"):
            places[f"right_{name[5:]}"] = (-x, y, z)
    return np.array([places[name] for name in JOINT_NAMES]) + (0.003, 0.05, 0.02)


def make_template(seed=0, beta_count=16, expression_names=(), shapes=0, albedos=0):
    """A box along every bone, blended with its parent near the joint, and smooth random shape directions.

    Where it has expressions, shapes or colours of a face, half of its vertices are the face's own, in no order.
    """
    rng = np.random.default_rng(seed)
    joints = rest_joints()
    vertices, faces, weights = [], [], []
    for joint, _name in enumerate(JOINT_NAMES):
        children = [child for child, parent in enumerate(PARENTS) if parent == joint]
        start = joints[joint]
        end = (
            joints[children[0]] if children else start + 0.5 * (start - joints[PARENTS[joint]]) * (1 if joint > 21 else 1.2)
        )
        _add_box(vertices, faces, weights, start, end, 0.008 if joint > 21 else 0.05, joint, max(PARENTS[joint], 0))
    vertices = np.array(vertices)
    faces = np.array(faces + [(0, 1, 2, -1)])  # one padded triangle among the quads
    # Affine fields of the rest place: what moves a vertex moves the joint in the same place alike.
    fields = rng.normal(0, 0.01, (beta_count, 3, 3))
    shifts = rng.normal(0, 0.003, (beta_count, 3))
    order, half = rng.permutation(len(vertices)), len(vertices) // 2 if expression_names or shapes or albedos else 0
    own, carried = order[:half], order[half : half + half // 4]
    skin, eyeballs = np.ones(len(vertices)), np.zeros(len(vertices))
    skin[own], eyeballs[vertices[:, 1] > 0.6] = 0, len(own) > 0
    return CharacterTemplate(
        vertices=vertices,
        faces=faces,
        uv=rng.uniform(0, 1, (*faces.shape, 2)),
        joint_names=JOINT_NAMES,
        parents=np.array(PARENTS),
        joints=joints,
        weights=np.array(weights),
        shapedirs=np.einsum("bij,vj->vib", fields, vertices) + shifts.T,
        joint_shapedirs=np.einsum("bij,vj->vib", fields, joints) + shifts.T,
        face_vertices=own,
        carried_vertices=carried,
        face_shapedirs=rng.normal(0, 0.002, (shapes, len(own) + len(carried), 3)),
        expression_names=tuple(expression_names),
        expression_limits=np.tile([0.0, 1.5], (len(expression_names), 1)),
        expressiondirs=rng.normal(0, 0.002, (len(expression_names), len(own) + len(carried), 3)),
        albedo_mean=rng.uniform(0.2, 0.6, (len(vertices), 3)),
        albedodirs=rng.normal(0, 0.05, (albedos, len(vertices), 3)),
        body_skin=skin,
        eyeballs=eyeballs,
        meta={"name": "box person", "face_sha256": "face"},
    )


def _add_box(vertices, faces, weights, start, end, radius, joint, parent):
    along = (end - start) / np.linalg.norm(end - start)
    side = np.cross(along, (0.0, 0.0, 1.0) if abs(along[2]) < 0.9 else (0.0, 1.0, 0.0))
    side /= np.linalg.norm(side)
    other = np.cross(along, side)
    first = len(vertices)
    rings = 4
    for ring in range(rings):
        centre = start + (end - start) * ring / (rings - 1)
        for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
            vertices.append(centre + radius * (a * side + b * other))
            weight = np.zeros(len(JOINT_NAMES))
            share = 0.5 + 0.5 * min(1.0, ring / 2)
            weight[joint] += share
            weight[parent] += 1 - share
            weights.append(weight)
    for ring in range(rings - 1):
        low = first + 4 * ring
        faces += [(low + k, low + (k + 1) % 4, low + 4 + (k + 1) % 4, low + 4 + k) for k in range(4)]
    faces += [(first + 3, first + 2, first + 1, first), tuple(first + 4 * (rings - 1) + k for k in range(4))]


def make_clip(
    template, *, frames=60, fps=30.0, seed=0, betas=None, expression_names=(), image_size=(1280, 720), standing=False
):
    """A capture of `template` in smooth random motion, seen by a camera that is neither level nor centred.

    `standing` keeps the rest pose upright and facing the camera instead.
    """
    rng = np.random.default_rng(seed)
    timestamps = 0.4 + np.arange(frames) / fps
    betas = rng.normal(0, 1, 16) if betas is None else np.asarray(betas, float)
    poses, trans = _smooth(rng, timestamps, 156, 0.5), _smooth(rng, timestamps, 3, 0.3)
    if standing:
        poses, trans = np.zeros_like(poses), np.zeros_like(trans)
    turned = REST_TO_WORLD @ axis_angle_to_matrix(poses[:, :3])
    poses[:, :3] = matrix_to_axis_angle(turned)
    trans[:, 2] += 0.95
    tilt = np.zeros(3) if standing else np.array([-0.12, 0.05, 0.03])
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = CAMERA_TO_WORLD @ axis_angle_to_matrix(tilt)
    camera_to_world[:3, 3] = (0.0, -4.0, 1.1) if standing else (0.15, -4.0, 1.3)
    width, height = image_size
    clip = CaptureClip(
        poses=poses,
        trans=trans,
        betas=betas,
        mocap_framerate=fps,
        timestamps=timestamps,
        joints_camera=np.zeros((frames, 52, 3)),
        keypoints2d=np.zeros((frames, 0, 3)),
        keypoint_names=(),
        valid=np.ones((frames, 4), bool),
        camera_matrix=np.array([[1100.0, 0, width / 2 + 37], [0, 1080.0, height / 2 - 21], [0, 0, 1]]),
        camera_to_world=camera_to_world,
        image_size=np.array([width, height]),
        person_box=np.zeros((frames, 4)),
        face_expression=0.5 + 0.5 * np.tanh(_smooth(rng, timestamps, len(expression_names), 1.0)),
        expression_names=tuple(expression_names),
        face_shape=rng.normal(0, 1, len(template.face_shapedirs)),
        face_albedo=rng.normal(0, 1, len(template.albedodirs)),
        meta={"models": {"face": "face"}} if len(template.face_vertices) else {},
    )
    joints = posed_joints(template, clip)
    clip.joints_camera = (joints - camera_to_world[:3, 3]) @ camera_to_world[:3, :3]
    return clip


def _smooth(rng, times, channels, size):
    """Sums of slow sines [T, C]."""
    rates, phases = rng.uniform(0.5, 4.0, (3, channels)), rng.uniform(0, 2 * np.pi, (3, channels))
    return size * np.sin(rates * times[:, None, None] + phases).mean(1)


def shape_values(template, clip):
    betas = np.zeros(template.shapedirs.shape[-1])
    betas[: len(clip.betas)] = clip.betas[: len(betas)]
    return betas


def posed_joints(template, clip):
    """Joints in the world [T, 52, 3] m by plain forward kinematics: FK of the rest joints, plus trans."""
    rest = template.rest_joints(shape_values(template, clip))
    rotations = axis_angle_to_matrix(clip.poses.reshape(-1, 52, 3))
    return forward_kinematics(rest, rotations, PARENTS)[0] + clip.trans[:, None]


def posed_vertices(template, clip, frame):
    """Vertices in the world [V, 3] m by plain linear blend skinning, one captured frame."""
    betas = shape_values(template, clip)
    rest = template.rest_joints(betas)
    expression = clip.face_expression[frame] if template.expression_names else ()
    vertices = template.rest_surface(betas, clip.face_shape, expression)
    joints, orientations = forward_kinematics(rest, axis_angle_to_matrix(clip.poses[frame].reshape(52, 3)), PARENTS)
    moved = np.einsum("jab,vjb->vja", orientations, vertices[:, None] - rest) + joints
    return np.einsum("vj,vja->va", template.weights, moved) + clip.trans[frame]
