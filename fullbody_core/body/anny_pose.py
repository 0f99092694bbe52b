"""Anny itself, and how to pose it: loading, sampling adults, and the turns that bring it to SMPL's T-pose.

Everything is in Anny's frame: z up, facing -y, x to the person's left; metres.
"""

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..contract.frames import axis_angle_to_matrix
from ..contract.swing_twist import axes_rotation, rotate, shortest_arc, transpose, twist_angle
from .smplh_file import BodyModelError

ADULT_YEARS = (18.0, 80.0)

ANNY_TO_REST = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Rotation from Anny's frame (z up, facing -y) to SMPL's rest frame (y up, facing +z); x is the person's left in both."""

FINGER_NUMBERS = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "pinky": 5}

FINGER_SPLAY_DEGREES = {"index": 4.0, "middle": 0.0, "ring": -4.0, "pinky": -9.0}
"""How far each finger of the flat hand points forward of the arm's line."""

THUMB_DIRECTION = np.array([0.68, 0.68, 0.26])
"""The flat hand's thumb, from its root to its tip: how much along the arm, forward, and down (a unit vector, to 1 %)."""


def load_anny(topology="anny"):
    """Anny with every phenotype, on the CPU in float64, skinned by plain linear blend skinning."""
    import warp

    # Anny imports Warp, which greets on stdout.
    warp.config.quiet = True
    import anny

    return anny.Anny(phenotypes="all", topology=topology, skinning_method="lbs")


def sample_adults(model, count, seed):
    """`count` adults' phenotypes from Anny's own distribution, ages 18 to 80: dict of [count] tensors."""
    from anny.shape_distribution import SimpleShapeDistribution

    low, high = (torch.tensor(years, dtype=model.dtype) for years in ADULT_YEARS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ages = torch.distributions.Uniform(low, high)
        return SimpleShapeDistribution(model, morphological_age_distribution=ages).sample(count)[1]


def pose_anny(model, rest, turns):
    """Poses Anny by turning each bone about its head. Anny's frame, its root left in place.

    rest: `model.get_rest_model(...)` of B people; turns [B, 104, 3, 3]: each bone's rotation from its rest to its posed
    orientation. Returns vertices [B, V, 3] and bone heads [B, 104, 3] m.
    """
    poses = rest["rest_bone_poses"].clone()
    poses[..., :3, :3] = torch.as_tensor(turns, dtype=poses.dtype) @ poses[..., :3, :3]
    transforms, posed = model.get_bone_transforms(poses, rest["rest_bone_poses"], pose_parameterization="world-orient")
    vertices = model.get_skinned_vertices(rest["rest_vertices"], transforms)
    return vertices.numpy(), posed[..., :3, 3].numpy()


def t_pose_turns(model, rest, tips):
    """The turns [B, 104, 3, 3] that bring Anny's rest pose (arms down and forward) to SMPL's T-pose.

    Each arm becomes one level line, turned about itself so that a bending elbow brings the forearm forward and the palm
    faces down; the fingers lie along it, the thumb points half forward. The legs become plumb, the feet stay flat.
    """
    index = {name: bone for bone, name in enumerate(model.bone_labels)}
    heads, vertices = rest["rest_bone_heads"].numpy(), rest["rest_vertices"].numpy()
    turns = np.broadcast_to(np.eye(3), heads.shape + (3,)).copy()
    forward, down = np.array([0.0, -1, 0]), np.array([0.0, 0, -1])

    for side, out in ((".L", np.array([1.0, 0, 0])), (".R", np.array([-1.0, 0, 0]))):

        def head(name, side=side):
            return heads[:, index[name + side]]

        def turn(name, value, side=side):
            turns[:, index[name + side]] = value

        # The elbow's hinge: the normal of the plane of upper arm and forearm; Anny's rest pose bends it by some 40 degrees.
        upper_arm, forearm = head("lowerarm01") - head("upperarm01"), head("wrist") - head("lowerarm01")
        hinge, posed_hinge = np.cross(upper_arm, forearm), np.cross(out, forward)
        upper = axes_rotation(upper_arm, hinge, out, posed_hinge)
        lower = axes_rotation(forearm, hinge, out, posed_hinge)
        # The hand's plane: along to the middle knuckle, across from the little finger's knuckle to the index's.
        along, across = head("finger3-1") - head("wrist"), head("finger2-1") - head("finger5-1")
        hand = axes_rotation(along, across, out, forward)
        turn("upperarm01", _swing(upper, head("upperarm02") - head("upperarm01"), out))
        turn("upperarm02", _swing(upper, head("lowerarm01") - head("upperarm02"), out))
        # The palm's turn is shared along the forearm as in life; all of it at the wrist would pinch the skin.
        twist = twist_angle(hand @ transpose(lower), out)
        for bone, share, end in (("lowerarm01", 0.3, "lowerarm02"), ("lowerarm02", 0.7, "wrist")):
            turned = axis_angle_to_matrix(share * twist[:, None] * out) @ lower
            turn(bone, _swing(turned, head(end) - head(bone), out))
        for bone in ["wrist"] + [f"metacarpal{number}" for number in range(1, 5)]:
            turn(bone, hand)
        thumb_tip = vertices[:, tips["finger1-3" + side]].mean(1)
        thumb = _swing(hand, thumb_tip - head("finger1-1"), THUMB_DIRECTION @ np.stack([out, forward, down]))
        for part in (1, 2, 3):
            turn(f"finger1-{part}", thumb)
        for finger, splay in FINGER_SPLAY_DEGREES.items():
            direction = np.cos(np.radians(splay)) * out + np.sin(np.radians(splay)) * forward
            bones = [f"finger{FINGER_NUMBERS[finger]}-{part}" for part in (1, 2, 3)]
            ends = [head(bones[1]), head(bones[2]), vertices[:, tips[bones[2] + side]].mean(1)]
            for bone, end in zip(bones, ends):
                turn(bone, _swing(hand, end - head(bone), direction))
        for part, end in (("upperleg", "lowerleg01"), ("lowerleg", "foot")):
            for bone in (f"{part}01", f"{part}02"):
                turn(bone, _swing(np.eye(3), head(end) - head(f"{part}01"), down))
    return turns


def mirror_vertices(model):
    """For each vertex the index [V] of its mirror image across the body's middle."""
    vertices = model.template_vertices.numpy()
    distances, mirror = cKDTree(vertices * [-1, 1, 1]).query(vertices)
    if distances.max() > 1e-4 or (mirror[mirror] != np.arange(len(mirror))).any():
        raise BodyModelError("This version of Anny is not mirror-symmetric, so the open body cannot be baked from it.")
    return mirror


def fingertip_vertices(model):
    """The five outermost vertices of each fingertip, by the name of its last bone."""
    rest = model.get_rest_model(model.get_phenotype_blendshape_coefficients())
    vertices, heads = rest["rest_vertices"][0].numpy(), rest["rest_bone_heads"][0].numpy()
    owner = owning_bones(model)
    tips = {}
    for bone, name in enumerate(model.bone_labels):
        if name.startswith("finger") and "-3." in name:
            direction = heads[bone] - heads[model.bone_parents[bone]]
            owned = np.flatnonzero(owner == bone)
            tips[name] = owned[np.argsort(vertices[owned] @ direction)[-5:]]
    return tips


def owning_bones(model):
    """The bone that moves each vertex most: [V]."""
    return model.vertex_bone_indices.gather(1, model.vertex_bone_weights.argmax(1, keepdim=True))[:, 0].numpy()


def _swing(turn, segment, direction):
    """`turn` [B, 3, 3], then the smallest rotation that brings the turned segment [B, 3] exactly onto `direction` [3]."""
    return shortest_arc(rotate(turn, segment), direction) @ turn
