"""A captured motion beside the true one of a filmed clip (`synth.clips`): all figures of one capture."""

from dataclasses import dataclass, replace

import numpy as np

from ..camera import project
from ..contract.skeleton import BLAZEPOSE_33, SIDES
from ..contract.swing_twist import transpose
from ..ik.rest_skeleton import BODY_PLACES, SOLE_PLACES, RestSkeleton, hand_places
from ..refine.contacts import find_contacts
from .motion_metrics import (
    acceleration_error,
    aligned_error,
    angle_of,
    contact_scores,
    lag,
    mean_error,
    path_errors,
    peak_speeds_kept,
    penetrations,
    procrustes,
    resting,
    sliding_speeds,
    still_shaking,
)

KEYPOINTS = (
    "nose",
    *(f"{side}_{name}" for side in SIDES for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
    *(f"{side}_{name}" for side in SIDES for name in ("heel", "foot_index")),
)
"""BlazePose's keypoints that are about where the body has them, too: what is compared."""

DETECTED = [BLAZEPOSE_33.index(name) for name in KEYPOINTS]
_PLACES = [BODY_PLACES[BLAZEPOSE_33.name][keypoint] for keypoint in DETECTED]
_HIPS = [KEYPOINTS.index(f"{side}_hip") for side in SIDES]
_ENDS = [KEYPOINTS.index(f"{side}_{name}") for name in ("wrist", "ankle") for side in SIDES]
_SHOWN_FEET = [[KEYPOINTS.index(f"{side}_{name}") for name in ("heel", "foot_index")] for side in SIDES]


@dataclass
class Moved:
    """A motion over T frames, true or captured.

    camera [T, 17, 3]: `KEYPOINTS` m in each frame's camera, and world [T, 17, 3] m in a world with z up and its floor at z = 0;
    poses [T, 4, 4]: of the cameras in it; soles [T, 2, 3, 3] m in it: left and right foot; heel, ball, toe; hands [T, 2, 21, 3] m
    in camera axes; matrix [3, 3] px; valid [T, 4]; contacts [T, 2, 3] bool. A bare detector has neither world nor poses, soles,
    matrix, contacts.
    """

    camera: np.ndarray
    hands: np.ndarray
    valid: np.ndarray
    world: np.ndarray = None
    poses: np.ndarray = None
    soles: np.ndarray = None
    matrix: np.ndarray = None
    contacts: np.ndarray = None

    @property
    def up(self):
        """The world's vertical [3] in the first frame's camera."""
        return self.poses[0, 2, :3]

    @property
    def about_hips(self):
        """`KEYPOINTS` [T, 17, 3] m about the middle of the hips, in camera axes."""
        return self.camera - self.camera[:, _HIPS].mean(1, keepdims=True)


def moved_of(skeleton, rotations, pelvis, camera_to_world, **others):
    """`Moved` of a posed skeleton: rotations [T, 52, 3, 3] and pelvis [T, 3] m in each frame's camera; camera_to_world [T, 4, 4].

    others: the rest of it by name.
    """
    joints, turns = skeleton.pose(rotations)
    place = pelvis[:, None]
    camera = skeleton.place(_PLACES, joints, turns) + place
    hands = np.stack([skeleton.place(hand_places(side), joints, turns) for side in SIDES], 1) + place[:, None]
    soles = skeleton.place(SOLE_PLACES, joints, turns) + place
    world, soles = (_into(camera_to_world, points) for points in (camera, soles))
    soles = soles.reshape(len(soles), 2, 3, 3)
    return Moved(camera, hands, world=world, soles=soles, poses=camera_to_world, **others)


def _into(poses, points):
    """Points [T, N, 3] as poses [T, 4, 4] bring them."""
    return points @ transpose(poses[:, :3, :3]) + poses[:, None, :3, 3]


def moved_of_truth(clip, body):
    """`Moved` of a `Clip` with known truth."""
    return moved_of(
        RestSkeleton.of_body(body, clip.betas),
        clip.rotations,
        clip.pelvis,
        clip.camera_to_world,
        valid=np.ones((len(clip), 4), bool),
        matrix=clip.matrix,
        contacts=clip.contacts,
    )


def moved_of_solved(solved, timestamps):
    """`Moved` of a `motion.Solved`. Contacts are the refinement's own, or found afterwards where there are none."""
    motion = solved.motion
    poses = np.broadcast_to(solved.camera_to_world, (len(timestamps), 4, 4))
    result = moved_of(motion.skeleton, motion.rotations, motion.pelvis, poses, valid=motion.valid, matrix=solved.matrix)
    result.contacts = solved.contacts
    if result.contacts is None:
        placed = np.repeat(motion.valid[:, :1], len(SIDES), 1)
        result.contacts = find_contacts(result.soles, timestamps, np.array([0.0, 0, 1]), floor=0.0, seen=placed)
    return result


@dataclass
class Scores:
    """Figures of one way to capture one clip, in m, s, degrees; NaN for what it does not say. As in the table's head."""

    mpjpe: float = np.nan
    pa_mpjpe: float = np.nan
    acceleration: float = np.nan
    jitter: float = np.nan
    drift: float = np.nan
    path: float = np.nan
    sliding: float = np.nan
    sliding_median: float = np.nan
    sliding_held: float = np.nan
    penetration: float = np.nan
    deepest: float = np.nan
    precision: float = np.nan
    recall: float = np.nan
    f1: float = np.nan
    peak_speed: float = np.nan
    peak_velocity: float = np.nan
    lag: float = np.nan
    hands: float = np.nan
    up: float = np.nan
    focal: float = np.nan
    seconds: float = np.nan


def score(answer, truth, clip, timestamps, found, seconds=np.nan):
    """The `Scores` of `Moved` answer beside the truth's. found [T] bool: frames in which the detector had somebody.

    What the picture does not show, or what something covers, is not compared.
    """
    shown = _in_picture(clip, truth.camera) & (found & _uncovered(clip) & answer.valid[:, 0])[:, None]
    feet = shown[:, _SHOWN_FEET].all(-1)
    about, about_truth = answer.about_hips, truth.about_hips
    ends = _size(about, about_truth, shown) * about[:, _ENDS], about_truth[:, _ENDS]
    peak_speed, peak_velocity = peak_speeds_kept(*ends, shown[:, _ENDS], timestamps)
    result = Scores(
        mpjpe=mean_error(about, about_truth, shown),
        pa_mpjpe=aligned_error(about, about_truth, shown),
        acceleration=acceleration_error(about, about_truth, shown, timestamps),
        jitter=still_shaking(about, about_truth, shown, timestamps, resting(truth.world, timestamps)),
        peak_speed=peak_speed,
        peak_velocity=peak_velocity,
        lag=lag(*ends, shown[:, _ENDS], timestamps),
        hands=_hands_error(answer, truth, clip, shown),
        seconds=seconds,
    )
    if answer.poses is None:
        return result
    drift, path = path_errors(answer.world, truth.world, shown)
    depths = penetrations(answer.soles, feet)
    precision, recall, f1 = contact_scores(answer.contacts, truth.contacts, feet)
    standing = truth.contacts & feet[..., None]
    slides = sliding_speeds(answer.soles, standing, timestamps)
    held = sliding_speeds(answer.soles, standing & answer.contacts, timestamps)
    return replace(
        result,
        drift=drift,
        path=path,
        sliding=figure_of(np.mean, slides),
        sliding_median=figure_of(np.median, slides),
        sliding_held=figure_of(np.mean, held),
        penetration=figure_of(lambda values: np.percentile(values, 95), depths),
        deepest=figure_of(np.max, depths),
        precision=precision,
        recall=recall,
        f1=f1,
        up=angle_of(answer.up, truth.up),
        focal=abs(answer.matrix[0, 0] / truth.matrix[0, 0] - 1),
    )


def figure_of(figure, values):
    """A figure of values [N], or NaN without any."""
    return float(figure(values)) if len(values) else float("nan")


def _size(points, truth, shown):
    """How much larger the true person is than the captured one, by points [T, K, 3] m about the hips: speeds are compared by it."""
    scale, _, _ = procrustes(points.reshape(-1, 3), truth.reshape(-1, 3), shown.reshape(-1).astype(float))
    return float(scale)


def _in_picture(clip, points):
    """[T, K] bool: points [T, K, 3] m that fall into the picture."""
    pixels = project(points, clip.matrix)
    return ((pixels >= 0) & (pixels <= clip.image_size)).all(-1)


def _uncovered(clip):
    """[T] bool: frames without anything in the way."""
    frames = np.arange(len(clip))
    return (frames < clip.cover[0]) | (frames >= clip.cover[1])


def _hands_error(answer, truth, clip, shown):
    """Mean distance in m of the hands' points that are captured and shown, each hand turned and sized onto the true one."""
    inside = _in_picture(clip, truth.hands.reshape(len(clip), -1, 3)).reshape(truth.hands.shape[:-1])
    inside &= (answer.valid[:, 1:3] & shown.any(1)[:, None])[..., None]
    return aligned_error(answer.hands, truth.hands, inside)
