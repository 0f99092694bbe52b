"""The open body: an SMPL-H-schema model baked once from Anny (Bregier et al. 2025; code Apache-2.0, assets CC0).

Anny is MakeHuman's body as a function of phenotypes (age, weight, ...) with 104 bones. The bake samples adults, puts each
into SMPL's T-pose with Anny's own skinning, folds the bones into SMPL-H's 52 joints, and keeps the mean, the 16 main
directions of shape, and a sparse joint regressor. Vertices keep Anny's order ("anny" topology), so Anny's own data fits.
"""

import importlib.metadata
import sys

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..cache import kept_in_cache
from ..contract.frames import axis_angle_to_matrix
from ..contract.skeleton import JOINT_INDEX, JOINT_NAMES, PARENTS, mirror_names
from .anny_pose import (
    ANNY_TO_REST,
    FINGER_NUMBERS,
    fingertip_vertices,
    load_anny,
    mirror_vertices,
    owning_bones,
    pose_anny,
    sample_adults,
    t_pose_turns,
)
from .lbs import BodyModel
from .smplh_file import BodyModelError, BodyModelFile

BAKE_VERSION = 3
"""Counts up whenever the same Anny would bake to another body."""

SHAPE_COUNT = 16

MOUTH_CORNER_VERTEX = 7169
"""The left corner of the lips in the "anny" topology, picked by eye: the lips' seam has no other mark."""

_CENTRAL_BONES = {
    "root": "pelvis", "spine05": "pelvis", "spine04": "spine1", "spine03": "spine1", "spine02": "spine2",
    "spine01": "spine3", "neck01": "neck", "neck02": "neck", "neck03": "neck", "head": "head",
}  # fmt: skip
_SIDE_BONES = {
    "upperleg01": "hip", "upperleg02": "hip", "lowerleg01": "knee", "lowerleg02": "knee", "foot": "ankle",
    "clavicle": "collar", "shoulder01": "collar", "upperarm01": "shoulder", "upperarm02": "shoulder",
    "lowerarm01": "elbow", "lowerarm02": "elbow", "wrist": "wrist",
}  # fmt: skip


def open_body_path():
    """Path of the baked open body, baking it first if this machine has none. Raises `BodyModelError`."""
    try:
        anny_version = importlib.metadata.version("anny")
    except importlib.metadata.PackageNotFoundError as error:
        raise BodyModelError("The open body is made from the package anny: install it with 'pip install anny'.") from error

    def bake():
        print("Baking the open body from Anny (once, about a minute)...", file=sys.stderr, flush=True)
        return bake_open_body()

    return kept_in_cache(f"open_body_anny{anny_version}_bake{BAKE_VERSION}.npz", bake, BodyModelError)


def bake_open_body(sample_count=400, held_out_count=100, seed=0):
    """Bakes the open body and returns it as a `BodyModelFile`; the figures measured on the way are in its `meta`.

    sample_count: adults that the shape basis and the joint regressor are made from; held_out_count: others they are
    measured on. The result depends on the arguments and on Anny's version only.
    """
    model = load_anny()
    phenotypes = sample_adults(model, sample_count + held_out_count, seed)
    mirror = mirror_vertices(model)
    surfaces, joints = t_posed_adults(model, phenotypes, mirror)  # [N, V, 3], [N, 52, 3]

    # As in SMPL the origin is the middle of the mean surface, not the pelvis; but the pelvis stays put as the betas change.
    pelvis = joints[:, :1]
    surfaces, joints = surfaces - pelvis, joints - pelvis
    origin = surfaces[:sample_count].mean((0, 1)) * [0, 1, 1]
    surfaces, joints = surfaces - origin, joints - origin

    weights = fold_weights(model, mirror)
    mean, shapedirs, explained = shape_basis(surfaces[:sample_count])
    regressor = fit_joint_regressor(surfaces[:sample_count], joints[:sample_count], weights, mirror)
    joint_errors = 1000 * np.linalg.norm(regressor @ surfaces[sample_count:] - joints[sample_count:], axis=-1)
    held_out = surfaces[sample_count:]
    shape_errors = 1000 * np.linalg.norm(_reconstruct(held_out, mean, shapedirs) - held_out, axis=-1)

    quads, quads_ft = _anny_quads(model)
    meta = {
        "name": "open body (Anny)",
        "licence": "Anny: code Apache-2.0, assets CC0",
        "produced_by": f"fullbody bake {BAKE_VERSION} from anny {importlib.metadata.version('anny')}",
        "explained_variance": [round(float(value), 6) for value in np.cumsum(explained)],
        "held_out_joint_error_mm": {"mean": round(joint_errors.mean(), 3), "max": round(joint_errors.max(), 3)},
        "held_out_shape_error_mm": {"mean": round(shape_errors.mean(), 3), "p95": round(np.percentile(shape_errors, 95), 3)},
        "samples": sample_count,
    }
    return BodyModelFile(
        v_template=mean.astype(np.float32),
        f=model.faces.numpy().astype(np.int32),
        weights=weights.astype(np.float32),
        parents=np.array(PARENTS),
        J_regressor=regressor.astype(np.float32),
        shapedirs=shapedirs.astype(np.float32),
        posedirs=np.zeros((len(mean), 3, 9 * (len(PARENTS) - 1)), np.float16),
        vt=model.texture_coordinates.numpy().astype(np.float32),
        ft=model.face_texture_coordinate_indices.numpy().astype(np.int32),
        quads=quads,
        quads_ft=quads_ft,
        landmarks=find_landmarks(model, mean, regressor @ mean, weights, mirror),
        meta=meta,
    )


def t_posed_adults(model, phenotypes, mirror, chunk=25):
    """Surfaces [N, V, 3] and SMPL-H joints [N, 52, 3] m of people in SMPL's T-pose, mirror-symmetric, in the rest frame."""
    bone_mirror = np.array(mirror_names(model.bone_labels, ".L", ".R"))
    tips = fingertip_vertices(model)
    rows = joint_of_bone_heads(model.bone_labels)
    surfaces, joints = [], []
    coefficients = model.get_phenotype_blendshape_coefficients(**phenotypes)
    for batch in coefficients.split(chunk):
        rest = model.get_rest_model(batch)
        turns = t_pose_turns(model, rest, tips)
        vertices, heads = pose_anny(model, rest, turns)
        surfaces.append(_symmetrised(vertices, mirror))
        joints.append(rows @ _symmetrised(heads, bone_mirror))
    return np.concatenate(surfaces) @ ANNY_TO_REST.T, np.concatenate(joints) @ ANNY_TO_REST.T


def joint_of_bone(name):
    """The SMPL-H joint that an Anny bone folds into."""
    if name in _CENTRAL_BONES:
        return _CENTRAL_BONES[name]
    base, suffix = name.rsplit(".", 1)
    side = {"L": "left", "R": "right"}[suffix]
    if base == "pelvis":
        return "pelvis"
    if base == "eye":
        return "head"
    if base.startswith("toe"):
        return f"{side}_foot"
    if base.startswith("metacarpal"):
        return f"{side}_wrist"
    if base.startswith("finger"):
        finger = next(finger for finger, number in FINGER_NUMBERS.items() if base[6] == str(number))
        return f"{side}_{finger}{base[-1]}"
    return f"{side}_{_SIDE_BONES[base]}"


def joint_of_bone_heads(bone_labels):
    """Matrix [52, 104] that takes bone heads to SMPL-H joints.

    A joint is the head of the first bone that folds into it; SMPL's foot joint, at the ball of the foot, is the mean of the
    five toes' heads. The shoulder is the upper arm's head: the collar joint stands for clavicle and shoulder blade. Of
    Anny's five spine bones the three are chosen whose heads stand nearest to SMPL's: 8, 23 and 36 cm above the pelvis here,
    some 12, 26 and 31 cm in SMPL.
    """
    matrix = np.zeros((len(JOINT_NAMES), len(bone_labels)))
    for bone, name in enumerate(bone_labels):
        joint = JOINT_INDEX[joint_of_bone(name)]
        if name.startswith("toe"):
            matrix[joint, bone] = 0.2 if name[4:6] == "-1" else 0.0
        elif not matrix[joint].any():
            matrix[joint, bone] = 1.0
    return matrix


def fold_weights(model, mirror):
    """Anny's skinning weights on SMPL-H's joints: [V, 52], mirror-symmetric, each row sums to 1."""
    weights = np.zeros((len(model.template_vertices), len(JOINT_NAMES)))
    joints = np.array([JOINT_INDEX[joint_of_bone(name)] for name in model.bone_labels])
    bones = model.vertex_bone_indices.numpy()
    np.add.at(weights, (np.arange(len(weights))[:, None], joints[bones]), model.vertex_bone_weights.numpy())
    weights = (weights + weights[mirror][:, _joint_mirror()]) / 2
    return weights / weights.sum(1, keepdims=True)


def shape_basis(surfaces):
    """Principal components of surfaces [N, V, 3]: mean [V, 3], basis [V, 3, 16] per standard deviation, variance shares.

    Betas of the sampled people have mean 0 and variance 1 each. Signs are fixed so that the taller side is positive.
    """
    mean = surfaces.mean(0)
    centred = (surfaces - mean).reshape(len(surfaces), -1)
    # There are far fewer people than coordinates, so the eigenvectors of the small Gram matrix give the large ones.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, vectors = values[::-1][:SHAPE_COUNT], vectors[:, ::-1][:, :SHAPE_COUNT]
    basis = (centred.T @ vectors / np.sqrt(len(surfaces) - 1)).reshape(mean.shape + (SHAPE_COUNT,))
    top, bottom = mean[:, 1].argmax(), mean[:, 1].argmin()
    basis *= np.where(basis[top, 1] < basis[bottom, 1], -1.0, 1.0)
    return mean, basis, values / np.square(centred).sum()


def project_to_betas(surfaces, mean, shapedirs):
    """Least-squares betas [N, S] of T-posed surfaces [N, V, 3] for a basis [V, 3, S]."""
    basis = np.asarray(shapedirs, float).reshape(-1, shapedirs.shape[-1])
    return np.linalg.lstsq(basis.T @ basis, basis.T @ (surfaces - mean).reshape(len(surfaces), -1).T, rcond=None)[0].T


def fit_joint_regressor(surfaces, joints, weights, mirror, per_octant=40, stride=8, ridge=1e-5):
    """Sparse rows [52, V] that sum to 1 and take surfaces [N, V, 3] to joints [N, 52, 3].

    Each joint uses vertices on all sides of it that move with it, its parent or its children. SMPL fits non-negative rows
    (Loper et al. 2015, Sec. 4.2); here that leaves 10 mm at hips and spine, because Anny's bones do not keep to a fixed
    share of the flesh around them, so weights of both signs are allowed and `ridge` (m^2) keeps them small. Right is left
    mirrored.
    """
    mean, mean_joints, owner = surfaces.mean(0), joints.mean(0), weights.argmax(1)
    regressor = np.zeros((len(JOINT_NAMES), len(mean)))
    joint_mirror = _joint_mirror()
    for joint, name in enumerate(JOINT_NAMES):
        if name.startswith("right_"):
            continue
        family = [joint, max(PARENTS[joint], 0)] + [child for child, parent in enumerate(PARENTS) if parent == joint]
        candidates = np.flatnonzero(np.isin(owner, family))
        chosen = candidates[_vertices_all_round(mean[candidates] - mean_joints[joint], per_octant, stride)]
        offsets = (surfaces[:, chosen] - joints[:, None, joint]).transpose(0, 2, 1).reshape(-1, len(chosen))
        # Least squares with the sum held at 1: the solution is H^-1 1, scaled.
        normal_matrix = offsets.T @ offsets / len(surfaces) + ridge * np.eye(len(chosen))
        solution = np.linalg.solve(normal_matrix, np.ones(len(chosen)))
        regressor[joint, chosen] = solution / solution.sum()
        if joint_mirror[joint] == joint:
            regressor[joint] = (regressor[joint] + regressor[joint, mirror]) / 2
        else:
            regressor[joint_mirror[joint]] = regressor[joint, mirror]
    return regressor


def _vertices_all_round(offsets, count, stride):
    """Every `stride`-th of the shortest offsets [N, 3] of each octant, at most `count` each: a joint lies amid them."""
    octant, distance = (offsets > 0) @ [1, 2, 4], np.linalg.norm(offsets, axis=-1)
    members = [np.flatnonzero(octant == code) for code in range(8)]
    return np.concatenate([each[np.argsort(distance[each])[: count * stride : stride]] for each in members])


def find_landmarks(model, vertices, joints, weights, mirror):
    """Surface points of the head, hands and feet as {name: vertex}, right mirrored from left.

    vertices [V, 3] m and joints [52, 3] m: the mean body in the T-pose; weights [V, 52]. An eye is its pupil, its corners
    are the lids'; a knuckle (index_mcp, pinky_mcp) is on the back of the hand above the joint.
    """
    owner = weights.argmax(1)
    is_eye = owning_bones(model) == model.bone_labels.index("eye.L")

    def extreme(members, direction):
        return int(members[np.argmax(vertices[members] @ np.asarray(direction, float))])

    def of_joint(name):
        return np.flatnonzero(owner == JOINT_INDEX[name])

    def above(name):
        joint = joints[JOINT_INDEX[name]]
        upper = np.flatnonzero(np.isin(owner, [JOINT_INDEX[name], JOINT_INDEX["left_wrist"]]) & (vertices[:, 1] > joint[1]))
        return int(upper[np.argmin(np.linalg.norm((vertices[upper] - joint)[:, [0, 2]], axis=-1))])

    head, eyeball = of_joint("head"), vertices[is_eye]
    skin = head[~is_eye[head] & (vertices[head, 2] > (eyeball[:, 2].min() + eyeball[:, 2].max()) / 2)]
    lids = skin[cKDTree(eyeball).query(vertices[skin])[0] < 0.003]
    landmarks = {"head_top": extreme(head, [0, 1, 0]), "nose": extreme(head, [0, 0, 1])}
    left = {
        "eye": extreme(np.flatnonzero(is_eye), [0, 0, 1]),
        "eye_inner": extreme(lids, [-1, 0, 0]),
        "eye_outer": extreme(lids, [1, 0, 0]),
        "mouth": MOUTH_CORNER_VERTEX,
        "ear": extreme(head, [1, 0, 0]),
        "index_mcp": above("left_index1"),
        "pinky_mcp": above("left_pinky1"),
        "big_toe": extreme(of_joint("left_foot"), [-0.3, 0, 1]),
        "little_toe": extreme(of_joint("left_foot"), [1, 0, 0.5]),
        "heel": extreme(of_joint("left_ankle"), [0, -0.5, -1]),
    }
    for finger in FINGER_NUMBERS:
        left[f"{finger}_tip"] = extreme(of_joint(f"left_{finger}3"), [1, 0, 1] if finger == "thumb" else [1, 0, 0])
    for name, vertex in left.items():
        landmarks[f"left_{name}"], landmarks[f"right_{name}"] = vertex, int(mirror[vertex])
    return landmarks


def compare_with_anny(body_file, count=10, seed=1, spread=0.3, finger_spread=0.2):
    """How far the open body is from Anny itself, for the same new people in the same random poses: distances in mm.

    Anny gets, bone by bone, the world turn of the joint its bone folds into; the open body gets the betas nearest to the
    person. spread and finger_spread: standard deviation of each joint's axis-angle components, rad.
    Returns {"rest": (mean, p95), "posed": (mean, p95), "posed_joints": (mean, p95)} over vertices and people.
    """
    model = load_anny()
    mirror = mirror_vertices(model)
    body = BodyModel(body_file, dtype=torch.float64)
    phenotypes = sample_adults(model, count, seed + 1000)
    surfaces, t_joints = t_posed_adults(model, phenotypes, mirror)
    pelvis = t_joints[:, :1]
    aligned = surfaces - pelvis + body.joint_template[:1].numpy()
    betas = torch.tensor(project_to_betas(aligned, np.asarray(body_file.v_template, float), body_file.shapedirs))

    deviations = np.where(np.arange(len(JOINT_NAMES)) < 22, spread, finger_spread)[:, None]
    rotations = axis_angle_to_matrix(np.random.default_rng(seed).normal(size=(count, len(JOINT_NAMES), 3)) * deviations)
    with torch.no_grad():
        posed, joints = body(betas, torch.tensor(rotations), torch.zeros(count, 3, dtype=torch.float64))
        rest = body.rest_vertices(betas).numpy()
        orientations = body.tree(body.joint_template, torch.tensor(rotations))[1].numpy()

    rest_model = model.get_rest_model(model.get_phenotype_blendshape_coefficients(**phenotypes))
    joint_of = [JOINT_INDEX[joint_of_bone(name)] for name in model.bone_labels]
    world = ANNY_TO_REST.T @ orientations[:, joint_of] @ ANNY_TO_REST
    vertices, heads = pose_anny(model, rest_model, world @ t_pose_turns(model, rest_model, fingertip_vertices(model)))
    anny_joints = joint_of_bone_heads(model.bone_labels) @ heads @ ANNY_TO_REST.T
    shift = joints[:, :1].numpy() - anny_joints[:, :1]

    def summary(difference):
        distances = 1000 * np.linalg.norm(difference, axis=-1)
        return round(float(distances.mean()), 2), round(float(np.percentile(distances, 95)), 2)

    return {
        "rest": summary(rest - aligned),
        "posed": summary(posed.numpy() - (vertices @ ANNY_TO_REST.T + shift)),
        "posed_joints": summary(joints.numpy() - (anny_joints + shift)),
    }


def _symmetrised(points, mirror):
    """Points [B, P, 3] averaged with their mirror image across x = 0."""
    return (points + points[:, mirror] * [-1, 1, 1]) / 2


def _joint_mirror():
    return np.array(mirror_names(JOINT_NAMES))


def _reconstruct(surfaces, mean, shapedirs):
    return mean + np.einsum("vcs,bs->bvc", shapedirs, project_to_betas(surfaces, mean, shapedirs))


def _anny_quads(model):
    """Anny's surface as quads [Q, 4] with texture indices [Q, 4], on the same vertices."""
    quad_model = load_anny("anny-quads")
    same = torch.equal(quad_model.template_vertices, model.template_vertices)
    if not same or not torch.equal(quad_model.texture_coordinates, model.texture_coordinates):
        raise BodyModelError("This version of Anny orders its quads differently, so the open body cannot be baked from it.")
    return quad_model.faces.numpy().astype(np.int32), quad_model.face_texture_coordinate_indices.numpy().astype(np.int32)
