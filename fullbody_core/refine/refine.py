"""Whole-clip refinement: one optimisation over all frames of a span, from the networks' answer to the motion a video shows.

The unknowns, terms and steps are in `problem`, `terms` and `solver`; here is which terms count how much, and in which order. The
person's shape is found first, with the pose of a part of the clip; then the whole motion without the ground; then contacts and
floor, and the motion again with them, twice. A long clip goes in windows that overlap, of which the earlier one's last frames are
held: what the equations take of memory does not grow with the clip.
"""

from dataclasses import dataclass, field, fields, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, median_filter

from ..contract.skeleton import BODY_JOINT_NAMES, BODY_JOINTS, SIDES
from ..contract.swing_twist import unit
from ..ik.rest_skeleton import RestSkeleton
from ..motion import Motion
from .contacts import find_contacts, person_size
from .floor import find_floor, find_vertical, lower_grounds, stand_levels
from .pose_prior import PosePrior
from .problem import UNKNOWNS, BodyPoints, Observations, Pose, Posed
from .solver import NormalEquations, minimise
from .terms import Agreement, Contact, Floor, Limits, PointForces, Prior, Reprojection, Shape, Smoothness

WINDOW, TAIL, HELD = 240, 30, 2
"""Frames that are solved at once; of them the last so many are solved again with what follows; and so many are held from before."""

PASSES = 2
"""Times that contacts and floor are found and the motion solved with them."""

FIRST_LIMIT = 4.0
"""Times that `pixel_limit` is wider at first: a limb that starts far off is to be drawn there before it is doubted."""

_WIDE = {"left_hip": 2.0, "right_hip": 2.0, "left_shoulder": 1.3, "right_shoulder": 1.3}
"""Places where detectors are less of one mind with the body, and how much their deviations are wider for it."""

_AGREEMENT = {
    "pelvis": 0.2, "spine1": 0.25, "spine2": 0.25, "spine3": 0.2, "neck": 0.2, "head": 0.15, "collar": 0.2, "hip": 0.2,
    "knee": 0.25, "ankle": 0.3, "foot": 0.3, "shoulder": 0.25, "elbow": 0.3, "wrist": 0.25,
}  # fmt: skip
"""rad, by joint: how far the start's orientations are usually off."""

FACE_SHARE = 1 / 3
"""How much of a head's deviation is left where the face says how it is turned."""


@dataclass(frozen=True)
class RefineSettings:
    """Which terms count, as named in `terms`, and how much; `without` switches one off.

    Spreads are standard deviations. pixel_spread: share of the person's height in the picture; pixel_limit: deviations beyond
    which a pixel is doubted; agreement_spread: times what is usual of the start; prior_weight: of minus its logarithm;
    limit_spread: rad; still_acceleration: m/s^2 that is allowed at rest; acceleration_share: what is allowed beyond, of a motion's
    own acceleration; contact_spread: m/s; floor_spread, depth_spread: m, of what stands and of what is below; shape_spread: of
    betas about the start's, small because a clip's frames all make the same mistakes; focal_spread: likewise of the logarithm of
    the focal length, which a person alone tells poorly.
    """

    reprojection: bool = True
    agreement: bool = True
    prior: bool = True
    limits: bool = True
    smoothness: bool = True
    contact: bool = True
    floor: bool = True
    shape: bool = True
    pixel_spread: float = 0.01
    pixel_limit: float = 3.0
    agreement_spread: float = 0.7
    prior_weight: float = 0.1
    limit_spread: float = 0.1
    still_acceleration: float = 2.0
    acceleration_share: float = 2.2
    contact_spread: float = 0.01
    floor_spread: float = 0.005
    depth_spread: float = 0.005
    shape_spread: float = 0.05
    focal_spread: float = 0.02

    def without(self, term):
        """The same with one term less. Raises `ValueError` for a name that is none of TERMS."""
        if term not in TERMS:
            raise ValueError(f"There is no term {term!r} of the refinement: choose one of {', '.join(TERMS)}.")
        return replace(self, **{term: False})


TERMS = tuple(item.name for item in fields(RefineSettings) if item.type is bool)


@dataclass(frozen=True)
class Hints:
    """What a network says beside the pose: contacts [T, 2, 2] probabilities of heel and toe, or None; up [3] in the reference
    frame, or None, and the standard deviation of its error in rad."""

    contacts: np.ndarray | None = None
    up: np.ndarray | None = None
    up_spread: float = np.inf


@dataclass(frozen=True)
class Ground:
    """up [3]; floor m along it; levels [T, 2] m above the floor on which each foot stands; lowest [T] m above it, 0 or less: what
    no sole goes below; standing [T, 2, 3] bool."""

    up: np.ndarray
    floor: float
    levels: np.ndarray
    lowest: np.ndarray
    standing: np.ndarray

    def take(self, frames):
        return replace(self, levels=self.levels[frames], lowest=self.lowest[frames], standing=self.standing[frames])


@dataclass(frozen=True)
class Refined:
    """The answer, in the reference frame. motion: `Motion`; betas [B]; skeleton: `RestSkeleton` of them; matrix [3, 3];
    up [3], floor m; contacts [T, 2, 3] bool; notes: sentences for the user."""

    motion: Motion
    betas: np.ndarray
    skeleton: RestSkeleton
    matrix: np.ndarray
    up: np.ndarray
    floor: float
    contacts: np.ndarray
    notes: list = field(default_factory=list)


def refine_motion(start, body, betas, observations, hints=Hints(), settings=RefineSettings(), fixed_focal=True):
    """The `Refined` motion of one span.

    start: `Motion` of T frames in the reference frame, all of which have values, be they bridged; body: `BodyModelFile`; betas
    [B]: of the start; observations: `Observations` of the same frames; fixed_focal: whether the matrix is to stay. Fingers and
    `valid` stay as they are.
    """
    task = _Task.of(start, body, betas, observations, settings)
    pose = task.start
    if settings.shape or not fixed_focal:
        pose = task.fit_person(pose, fixed_focal)
    pose = task.solve(pose, None, task.accelerations(pose), iterations=10)
    # Once: what is smoothed by its own smoothness again and again ends up with none of its motion.
    spread = task.accelerations(pose)
    for _ in range(PASSES):
        ground = find_ground(Posed.of(pose, task.body), observations, hints, start, body)
        if not (settings.contact or settings.floor):
            break
        pose = task.solve(pose, ground, spread, iterations=6)
    skeleton = RestSkeleton.of_body(body, pose.betas)
    rotations = start.rotations.copy()
    rotations[:, BODY_JOINTS] = pose.rotations
    motion = Motion(skeleton, rotations, pose.root, start.valid)
    return Refined(motion, pose.betas, skeleton, task.matrix(pose), ground.up, ground.floor, ground.standing)


def find_ground(posed, observations, hints, start, body):
    """The `Ground` of a `Posed` body: up, floor and contacts, found from each other by turns."""
    skeleton = RestSkeleton.of_body(body, posed.pose.betas)
    joints, orientations = skeleton.pose(_with_fingers(start.rotations, posed.pose.rotations))
    joints = joints + posed.pose.root[:, None]
    soles, times, size = posed.soles, observations.timestamps, person_size(skeleton)
    feet = _feet_seen(observations)
    both = (feet > 0).all(1)
    # Unseen feet stand where the motion says so; where nobody was seen nothing does.
    feet = np.where(observations.seen[:, None], np.maximum(feet, LEAST_FEET), 0)
    vertical = find_vertical(joints, both, soles, np.zeros(soles.shape[:3], bool), hints.up, hints.up_spread)
    standing = find_contacts(soles, times, vertical.up, None, hints.contacts, feet, size)
    vertical = find_vertical(joints, both, soles, standing, hints.up, hints.up_spread)
    floor = find_floor(soles, standing, vertical.up)
    standing = find_contacts(soles, times, vertical.up, floor, hints.contacts, feet, size)
    levels, lowest = stand_levels(soles, standing, vertical.up, floor), lower_grounds(soles, times, vertical.up, floor)
    return Ground(vertical.up, floor, levels, lowest, standing)


def _with_fingers(rotations, body):
    """Rotations [T, 52, 3, 3] with those [T, 22, 3, 3] of the body."""
    rotations = rotations.copy()
    rotations[:, BODY_JOINTS] = body
    return rotations


def _feet_seen(observations):
    """[T, 2] in 0..1: how far each foot is seen, by the best of its points below the knee."""
    sides = [
        [index for index, place in enumerate(observations.places) if place.startswith(side) and place.endswith(FOOT_PLACES)]
        for side in SIDES
    ]
    return np.stack([observations.weights[:, points].max(1, initial=0.0) for points in sides], 1)


LEAST_FEET = 0.3
"""How far a foot is believed that is not seen, of a person who is."""

FOOT_PLACES = ("ankle", "heel", "big_toe", "foot")


@dataclass(frozen=True)
class _Task:
    """What all passes over one span share. start: the `Pose` that the answer agrees with; agreement [T, 22] rad: how nearly;
    orientations [T, 22, 3, 3]: the start's, in the reference frame."""

    body: BodyPoints
    start: Pose
    observations: Observations
    settings: RefineSettings
    prior: PosePrior
    agreement: np.ndarray
    orientations: np.ndarray

    @classmethod
    def of(cls, start, body, betas, observations, settings):
        pose = Pose(start.pelvis, start.rotations[:, BODY_JOINTS], np.asarray(betas, float))
        points = BodyPoints.of_body(body, observations.places)
        spreads = [_AGREEMENT[name.split("_")[-1]] * settings.agreement_spread for name in BODY_JOINT_NAMES]
        # Where nobody was seen the start is a bridge, and says less.
        agreement = np.array(spreads) * np.where(observations.seen, 1.0, BRIDGED)[:, None]
        head = BODY_JOINT_NAMES.index("head")
        agreement[:, head] *= FACE_SHARE**observations.face_turned
        return cls(points, pose, observations, settings, PosePrior.load(), agreement, Posed.of(pose, points).orientations)

    def matrix(self, pose):
        """The camera's matrix with the pose's focal length."""
        scaled = self.observations.matrix.copy()
        scaled[[0, 1], [0, 1]] *= np.exp(pose.log_focal)
        return scaled

    def terms(self, frames, spread, ground):
        """(terms of points, terms of joints) over a slice of the frames; spread [n, N] of their accelerations.

        Without the ground, as at first, pixels far off are believed.
        """
        settings, seen = self.settings, self.observations.take(frames)
        of_points, of_joints = [], []
        if settings.reprojection:
            wide = np.array([_WIDE.get(place, 1.0) for place in seen.places])
            pixels = settings.pixel_spread * seen.size[:, None] * wide
            limit = settings.pixel_limit * (FIRST_LIMIT if ground is None else 1)
            of_points.append(Reprojection(seen.pixels, seen.weights, pixels, seen.camera_turns, seen.matrix, limit))
        if settings.smoothness:
            of_points.append(Smoothness(seen.timestamps, spread))
        if ground is not None:
            standing = ground.standing.reshape(len(ground.standing), -1).astype(float)
            if settings.contact:
                of_points.append(Contact(seen.timestamps, standing, settings.contact_spread))
            if settings.floor:
                levels = np.where(standing > 0, np.repeat(ground.levels, 3, 1), ground.lowest[:, None])
                of_points.append(
                    Floor(ground.up, ground.floor, levels, standing, settings.floor_spread, settings.depth_spread)
                )
        if settings.agreement:
            of_joints.append(Agreement(self.orientations[frames], self.agreement[frames]))
        if settings.prior:
            of_joints.append(Prior(self.prior, settings.prior_weight))
        if settings.limits:
            of_joints.append(Limits(self.prior.low, self.prior.high, settings.limit_spread))
        return of_points, of_joints

    def solve(self, pose, ground, spread, iterations):
        """The `Pose` of all frames, window by window, from a pose and (or None) the ground; spread: `accelerations`."""
        first, solved = 0, pose
        while True:
            frames = slice(first, first + WINDOW)
            last = frames.stop >= len(pose.root)
            held = HELD if first else 0
            terms = self.terms(frames, spread[frames], None if ground is None else ground.take(frames))
            window, _ = descend(solved.take(frames), self.body, terms, held, iterations)
            kept = window if last else window.take(slice(0, WINDOW - TAIL))
            solved = replace(
                solved,
                root=_put(solved.root, first, kept.root),
                rotations=_put(solved.rotations, first, kept.rotations),
            )
            if last:
                return solved.tidy()
            first += WINDOW - TAIL - HELD

    def accelerations(self, pose):
        """Deviations [T, N] m/s^2 that smoothness allows each point: more where the motion itself accelerates.

        Its own acceleration is that of its smoothed places, the largest within a tenth of a second, so that no blow is rounded off.
        """
        settings, times = self.settings, self.observations.timestamps
        smooth = self.body.observed.start
        if len(times) < 3:
            return np.full((len(times), smooth), settings.still_acceleration)
        step = float(np.median(np.diff(times)))
        points = Posed.of(pose, self.body).points[:, :smooth]
        # A leap of two frames and back is a mistake of the detector's.
        steady = median_filter(points, (2 * round(LEAP_SECONDS / step) + 1, 1, 1), mode="nearest")
        steady = gaussian_filter1d(steady, OWN_SECONDS / step, axis=0, mode="nearest")
        own = np.gradient(np.gradient(steady, times, axis=0), times, axis=0)
        # Along the line of sight an acceleration is mostly noise.
        sight = unit(points)
        own = np.linalg.norm(own - np.sum(own * sight, -1, keepdims=True) * sight, axis=-1)
        own = maximum_filter1d(own, 2 * round(NEAR_SECONDS / step) + 1, axis=0, mode="nearest")
        own = gaussian_filter1d(own, NEAR_SECONDS / step, axis=0, mode="nearest")
        return np.hypot(settings.still_acceleration, settings.acceleration_share * own)

    def fit_person(self, pose, fixed_focal):
        """The pose with the shape, and the focal length where it may change, that explain a part of the clip best."""
        frames = _telling_frames(len(pose.root))
        of_points, of_joints = self.terms(frames, self.accelerations(pose)[frames], None)
        settings = self.settings
        shape = Shape(
            pose.betas, settings.shape_spread if settings.shape else 1e-4, 1e-4 if fixed_focal else settings.focal_spread
        )
        fitted, _ = descend(pose.take(frames), self.body, (of_points, of_joints), 0, 8, shape)
        moved = replace(pose, betas=fitted.betas, log_focal=fitted.log_focal)
        return replace(moved, root=pose.root * [1, 1, np.exp(fitted.log_focal)])


BRIDGED = 3.0
"""Times that a bridged frame's start is less sure than one that was solved."""

OWN_SECONDS, NEAR_SECONDS, LEAP_SECONDS = 0.08, 0.1, 0.067
"""s: standard deviation of the bell that a motion's own acceleration is measured through, how far to both sides it counts, and how
far to both sides a median is taken before."""


def _put(whole, first, part):
    whole = whole.copy()
    whole[first : first + len(part)] = part
    return whole


def _telling_frames(count):
    """The slice of T frames that shape and focal length are found on: the middle ones of a long clip."""
    first = max(0, (count - WINDOW) // 2)
    return slice(first, min(count, first + WINDOW))


def descend(pose, body, terms, held, iterations, shape=None):
    """(`Pose`, cost) at the least of the terms: (terms of points, terms of joints), and `Shape` where shape and focal length move.

    The first `held` frames stay.
    """
    of_points, of_joints = terms

    def cost(posed):
        own = sum(term.cost(posed) for term in (*of_points, *of_joints))
        return own if shape is None else own + shape.cost(posed)

    def linearise(posed):
        frames = len(posed.points)
        forces = PointForces.zeros(frames, posed.points.shape[1])
        equations = NormalEquations.zeros(frames, UNKNOWNS, 0 if shape is None else len(pose.betas) + 1)
        for term in of_points:
            term.add(posed, forces)
        forces.into(equations, posed, shape is not None)
        for term in of_joints:
            term.add(posed, equations)
        if shape is not None:
            shape.add(posed, equations)
        equations.hold(held)
        return equations

    def move(posed, step, shared):
        return Posed.of(posed.pose.stepped(step, None if shape is None else shared), body)

    found, lowest = minimise(Posed.of(pose, body), cost, linearise, move, iterations)
    return found.pose, lowest
