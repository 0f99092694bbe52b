# SPDX-License-Identifier: GPL-3.0-or-later
"""Which mapped bone each mapped bone follows: by the hierarchy where that is plain, else by trying random poses."""

from dataclasses import dataclass

import numpy as np

from ...contract.frames import axis_angle_to_quaternion, quaternion_to_matrix
from ..roles import REQUIRED
from ..solve.source import RetargetError
from .ground import FOOT_ROLES
from .stand_in import BonePose
from .steering import active_drivers, bone_of_path

_POSES = 4
"""Random poses in which a bone must follow another to be its child."""

_TURN = 0.7
"""rad, about the mean angle of the random turns."""

_ANGLE_TOLERANCE = 0.02
"""How far the entries of two turns may differ to be the same turn: what stretching helpers leave."""

_PLACE_TOLERANCE = 0.004
"""The same for places, as a share of the character's size."""

_TRIED_SINGLY = 24
"""How many bones that are off rest are tried one by one, some milliseconds each, for whether they steer anything."""

_UNSEEN = 0.1
"""How far a deforming bone may be from a limb's control, as the sine of an angle, and still follow it."""


class RigError(RetargetError):
    """A character that cannot be retargeted to. The message is one sentence for the user."""


@dataclass(frozen=True)
class Reading:
    """How the bones that can be used hang together.

    names [N], roles [N]; rotation_parents, location_parents [N] are indices of them, or -1
    at_rest         all bones with the mapped ones at rest
    followers       {mapped bone of a foot: names of the bones that turn exactly as it does}
    location_basis  [3, 3] as in `Rig`
    """

    names: list
    roles: list
    rotation_parents: list
    location_parents: list
    at_rest: BonePose
    followers: dict
    location_basis: np.ndarray


def read_hierarchy(stand_in, bones, roles):
    """The `Reading` of bones between which there is nothing but parents."""
    data, index = stand_in.armature.data.bones, {name: number for number, name in enumerate(bones)}
    rotation, location = [], []
    for name in bones:
        parent = data[name].parent
        while parent and parent.name not in index:
            parent = parent.parent
        location.append(index[parent.name] if parent else -1)
        rotation.append(location[-1] if data[name].use_inherit_rotation else -1)
    feet = [name for name, role in zip(bones, roles) if role in FOOT_ROLES]
    followers = {name: {name, *(child.name for child in data[name].children_recursive)} for name in feet}
    at_rest = stand_in.rest(stand_in.names)
    pelvis = bones[roles.index("pelvis")]
    basis = stand_in.matrix[:3, :3]
    if data[pelvis].use_local_location:
        basis = at_rest.matrices[stand_in.index[pelvis], :3, :3]
    return Reading(list(bones), list(roles), rotation, location, at_rest, followers, basis)


def probe_bones(stand_in, bones, roles, off):
    """The `Reading` of bones by trying, those of the bones `off` that really steer them, and notes. Raises `RigError`."""
    own = [stand_in.index[name] for name in bones]
    stand_in.to_rest(bones)
    at_rest, off = _at_rest(stand_in, own, off)
    pelvis = roles.index("pelvis")
    basis = _measured_basis(stand_in, bones[pelvis], at_rest)
    tried = _try_poses(stand_in, bones, pelvis, at_rest)
    ranks = _ranks(stand_in.armature, bones)

    taken_over = tried.axes[:, own] @ quaternion_to_matrix(tried.own).swapaxes(-1, -2) @ at_rest.axes[own].swapaxes(-1, -2)
    turns = tried.axes @ at_rest.axes.swapaxes(-1, -2)
    rotation, loose = _nearest(_turn_misfit(taken_over, turns[:, own]), ranks, _ANGLE_TOLERANCE)
    stiff = [bone for bone in loose if not _responds(stand_in, bones[bone], at_rest)]
    ranks[:, stiff] = np.inf
    rotation, loose = _nearest(_turn_misfit(taken_over, turns[:, own]), ranks, _ANGLE_TOLERANCE)
    ranks[np.arange(len(bones)), rotation] = 0
    misfit = _place_misfit(tried.heads[:, own], turns[:, own], at_rest.heads[own])
    misfit[pelvis] = _place_misfit(tried.heads[:, own], turns[:, own], at_rest.heads[own], tried.moved @ basis.T)[pelvis]
    location, adrift = _nearest(misfit / tried.size, ranks, _PLACE_TOLERANCE)

    notes = _follow_notes(stand_in.armature, bones, roles, stiff, loose, adrift)
    notes += _unseen_notes(stand_in, bones, roles, stiff, turns, at_rest)
    kept = [bone for bone in range(len(bones)) if bone not in stiff]
    number = {bone: place for place, bone in enumerate(kept)} | {len(bones): -1}
    followers = {
        bones[bone]: {
            stand_in.names[other] for other in np.flatnonzero(_turn_gap(turns, turns[:, own[bone]]) < _ANGLE_TOLERANCE)
        }
        for bone in kept
        if roles[bone] in FOOT_ROLES
    }
    reading = Reading(
        [bones[bone] for bone in kept],
        [roles[bone] for bone in kept],
        [number[rotation[bone]] for bone in kept],
        [number[location[bone]] for bone in kept],
        at_rest,
        followers,
        basis,
    )
    return reading, off, notes


def _at_rest(stand_in, own, off):
    """The `BonePose` with the bones `off` at rest too, and those of them that make a difference to bones `own`."""
    before = stand_in.evaluate()
    if not off:
        return before, off
    pose = stand_in.armature.pose.bones
    places = {name: pose[name].matrix_basis.copy() for name in off}
    stand_in.to_rest(off)
    at_rest = stand_in.evaluate()
    size = np.ptp(at_rest.heads[own], axis=0).max()

    def differs(other):
        return (
            max(np.abs(other.axes - at_rest.axes)[own].max(), np.abs(other.heads - at_rest.heads)[own].max() / size) > 1e-4
        )

    def steers(name):
        pose[name].matrix_basis = places[name]
        moved = stand_in.evaluate()
        stand_in.to_rest([name])
        return differs(moved)

    if not differs(before):
        return at_rest, set()
    # So many are tried one by one; of more, each may be one.
    return at_rest, {name for name in off if steers(name)} if len(off) <= _TRIED_SINGLY else off


def _measured_basis(stand_in, pelvis, at_rest):
    """Where a unit of each channel of the pelvis bone's location moves its head [3, 3], m. Raises `RigError` if it does not."""
    bone, place = stand_in.armature.pose.bones[pelvis], stand_in.index[pelvis]
    basis = np.empty((3, 3))
    for axis in range(3):
        bone.location = [float(axis == other) for other in range(3)]
        basis[:, axis] = stand_in.evaluate().heads[place] - at_rest.heads[place]
    bone.location = (0, 0, 0)
    if np.linalg.cond(basis) > 1e4:
        raise RigError(
            f"{pelvis} (pelvis) cannot be moved freely: {_why(stand_in.armature, pelvis)}; map its control instead."
        )
    return basis


@dataclass(frozen=True)
class _Tried:
    """K poses that were tried: own rotations [K, N, 4], the pelvis bone's location moved [K, 3], and all bones' axes, heads."""

    own: np.ndarray
    moved: np.ndarray
    axes: np.ndarray
    heads: np.ndarray
    size: float


def _try_poses(stand_in, bones, pelvis, at_rest):
    """`_Tried`: random turns of all bones at once, and the pelvis moved."""
    random = np.random.default_rng(9)
    own = axis_angle_to_quaternion(random.normal(scale=_TURN / np.sqrt(3), size=(_POSES, len(bones), 3)))
    size = np.ptp(at_rest.heads[[stand_in.index[name] for name in bones]], axis=0).max()
    unit = np.abs(np.linalg.det(stand_in.matrix[:3, :3])) ** (1 / 3)
    moved = random.normal(scale=0.2 * size / unit, size=(_POSES, 3))
    poses = []
    for turns, location in zip(own, moved):
        stand_in.turn(bones, turns)
        stand_in.armature.pose.bones[bones[pelvis]].location = location
        poses.append(stand_in.evaluate())
    stand_in.to_rest(bones)
    return _Tried(own, moved, np.array([pose.axes for pose in poses]), np.array([pose.heads for pose in poses]), size)


def _turn_gap(turns, others):
    """Largest difference [B] between turns [K, B, 3, 3] and others [K, 3, 3]."""
    return np.abs(turns - others[:, None]).max((0, 2, 3))


def _turn_misfit(taken_over, turns):
    """How far [N, N + 1] the turns [K, N, 3, 3] that bones take over are from those of each bone; the last column: from none."""
    turns = np.concatenate([turns, np.broadcast_to(np.eye(3), (len(turns), 1, 3, 3))], 1)
    return np.abs(taken_over[:, :, None] - turns[:, None]).max((0, 3, 4))


def _place_misfit(heads, turns, rest, moved=None):
    """How far [N, N + 1], m, heads [K, N, 3] lie from where each bone would carry them; the last column: from their rest.

    moved [K, 3]: by how much they were moved besides, in the axes of what carries them.
    """
    between = rest[:, None] - rest
    if moved is None:
        moved = np.zeros((len(heads), 3))
    carried = heads[:, None] + np.einsum("kpij,kbpj->kbpi", turns, between + moved[:, None, None])
    still = np.broadcast_to((rest + moved[:, None])[:, :, None], (*heads.shape[:2], 1, 3))
    return np.linalg.norm(np.concatenate([carried, still], 2) - heads[:, :, None], axis=-1).max(0)


def _ranks(armature, bones):
    """Which of the bones that fit is to be the parent [N, N + 1], lowest first: ancestors, none, others; never a descendant."""
    index = {name: number for number, name in enumerate(bones)}
    ranks = np.tile(np.append(1000.0 + np.arange(len(bones)), 500.0), (len(bones), 1))
    np.fill_diagonal(ranks, np.inf)
    for number, name in enumerate(bones):
        for distance, ancestor in enumerate(armature.data.bones[name].parent_recursive, 1):
            if ancestor.name in index:
                ranks[number, index[ancestor.name]] = distance
                ranks[index[ancestor.name], number] = np.inf
    return ranks


def _nearest(misfit, ranks, tolerance):
    """The lowest in rank of what fits, or else what fits best [N]; and which bones nothing fits."""
    possible = np.where(np.isfinite(ranks), misfit, np.inf)
    loose = np.flatnonzero(possible.min(1) > tolerance)
    chosen = np.where(possible <= tolerance, ranks, np.inf).argmin(1)
    chosen[loose] = possible[loose].argmin(1)
    return chosen, loose


def _responds(stand_in, name, at_rest):
    """Whether a bone turns when its own rotation is set."""
    stand_in.turn([name], axis_angle_to_quaternion(np.full((1, 3), 0.3)))
    axes = stand_in.evaluate().axes[stand_in.index[name]]
    stand_in.to_rest([name])
    return np.abs(axes - at_rest.axes[stand_in.index[name]]).max() > 0.1


def _follow_notes(armature, bones, roles, stiff, loose, adrift):
    """Notes on bones that cannot be used, or not fully. Raises `RigError` where nothing is left for a required role."""
    notes = []
    for bone in stiff:
        role, why = roles[bone], _why(armature, bones[bone])
        text = f"{bones[bone]} ({role}) does not turn by itself: {why}; map the bone that controls it instead."
        if role in REQUIRED and all(other in stiff for other in range(len(bones)) if roles[other] == role):
            raise RigError(text)
        # A rig that twists by itself is what one hopes for.
        if not role.endswith("_twist"):
            notes.append(text)
    for bone in loose:
        if bone not in stiff:
            notes.append(f"{bones[bone]} ({roles[bone]}) follows other bones in part, so its turn may be off.")
    for bone in adrift:
        if bone not in stiff and bone not in loose:
            notes.append(f"{bones[bone]} ({roles[bone]}) is carried by several bones at once, so its place may be off.")
    return notes


def _unseen_notes(stand_in, bones, roles, stiff, turns, at_rest):
    """Notes on limbs whose control nothing that deforms the body follows, as where a rig is switched to IK. turns [K, B, 3, 3]."""
    data = stand_in.armature.data.bones
    deforming = [place for place, name in enumerate(stand_in.names) if data[name].use_deform]
    unseen = []
    for bone, name in enumerate(bones):
        if not deforming or bone in stiff or roles[bone] not in REQUIRED or roles[bone] == "pelvis":
            continue
        own = stand_in.index[name]
        directions = turns[:, [own, *deforming]] @ at_rest.axes[own, :, 1]
        if np.abs(directions[:, 1:] - directions[:, :1]).max((0, 2)).min() > _UNSEEN:
            unseen.append(name)
    if not unseen:
        return []
    others = f" (and {len(unseen) - 1} more)" if len(unseen) > 1 else ""
    return [f"Nothing of the body follows {unseen[0]}{others}: switch the rig from IK to FK, or map other bones."]


def _why(armature, name):
    """What else moves a bone, as part of a sentence."""
    if any(bone_of_path(driver.data_path) == name for driver in active_drivers(armature)):
        return "a driver moves it"
    if any(not constraint.mute for constraint in armature.pose.bones[name].constraints):
        return "a constraint moves it"
    return "other bones move it"
