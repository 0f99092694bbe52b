"""Fingers and palms of a whole clip: one small optimisation a hand, once the body's refinement has said where the wrists are.

A detector's hand shakes from frame to frame, and its depth far more than its place in the picture. All frames of a run in which
the hand is seen are solved at once, from the network's answer in each of them.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from ..camera import rays
from ..contract.easing import smoothstep
from ..contract.skeleton import BODY_JOINTS, JOINT_INDEX, SIDES
from ..contract.swing_twist import about, fraction_of, limit_angle, rotate, transpose, twist_angle, unit
from ..ik.holes import bridge_holes
from ..smoothing import valid_runs
from .fingers import POINT_ORDER, RELAXED, Fingers
from .hand_terms import (
    BENDS,
    PLACE,
    TURN,
    UNKNOWNS,
    FingerAgreement,
    FingerLimits,
    HandPose,
    HandReprojection,
    Place,
)
from .own_motion import own_acceleration, without_spikes, without_turned_spikes
from .terms import NEAREST
from .turn_terms import OwnSmoothness, TurnAgreement, solve, turning_acceleration
from .windows import windows

LONGEST_HOLE = 0.3
"""s. A hand that was not found for no longer is filled in from both sides."""

SURE_SHARE, SURE_WITHIN = 0.4, 0.25
"""A hand that is found in a smaller share of the frames within so many s on both sides was taken for one: of such finds two thirds
are wrong by more than 60 degrees, of the others one third, where the truth is known."""

EASING = 0.5
"""s in which a hand that was lost goes over to a relaxed one, and comes back from it."""

HOLE_SHARE = 0.1
"""How much a value counts that stands in for one over a hole, beside one that was seen."""

LARGEST_WRIST_TURN = np.radians(100)
"""A hand is turned no farther than this against its forearm."""


@dataclass(frozen=True)
class HandSettings:
    """Which terms there are, and how much each is believed.

    reprojection, agreement, limits, smoothness: terms on or off.
    point_spread m: of a point in the picture, at the hand's distance; limit: deviations beyond which a thing pulls ever less
    angle_spread, palm_spread rad: of the network's angles and of its palm; wrist_spread rad: of the body's own wrist
    place_spread m: of the body's wrist across the line of sight; size_spread: of the hand's size, as a share of its distance
    acceleration rad/s^2: of what is at rest; palm_share, angle_share: of the acceleration that the motion itself shows, above
    acceleration_noise rad/s^2, which is about what shaking alone makes it show
    range_spread rad: beyond a joint's range; tendon_spread rad: of a last joint about two thirds of the middle one
    """

    reprojection: bool = True
    agreement: bool = True
    limits: bool = True
    smoothness: bool = True
    point_spread: float = 0.006
    limit: float = 3.0
    angle_spread: float = 0.2
    palm_spread: float = 0.2
    wrist_spread: float = 0.6
    place_spread: float = 0.03
    size_spread: float = 0.1
    acceleration: float = 6.0
    acceleration_noise: float = 20.0
    palm_share: float = 4.0
    angle_share: float = 3.0
    range_spread: float = 0.05
    tendon_spread: float = 0.3

    def without(self, term):
        """The same without one term, for a table of what each is worth. Raises `ValueError` for a name that is no term."""
        if term not in HAND_TERMS:
            raise ValueError(f"There is no term {term!r} for hands: choose one of {', '.join(HAND_TERMS)}.")
        return replace(self, **{term: False})


HAND_TERMS = ("reprojection", "agreement", "limits", "smoothness")


@dataclass
class HandObservations:
    """What is seen of both hands, left first.

    pixels [T, 2, 21, 2] px in each frame's own picture; confidence [T, 2]: 0 where a hand was not found; fingers
    [T, 2, 15, 3, 3] parent-relative and palms [T, 2, 3, 3] in reference axes: as the network solved them.
    """

    pixels: np.ndarray
    confidence: np.ndarray
    fingers: np.ndarray
    palms: np.ndarray

    @classmethod
    def of(cls, keypoints, hands, camera_turns):
        """From `Keypoints`, their `SolvedHands` in camera axes, and camera_turns [T, 3, 3] from the reference camera."""
        palms = transpose(camera_turns)[:, None] @ hands.palms
        confidence = np.where(hands.found, keypoints.hand_confidence, 0.0)
        return cls(keypoints.hand2d, confidence, hands.fingers, palms)

    def of_side(self, side):
        """The same of one hand, without the axis of sides."""
        return HandObservations(*(getattr(self, item.name)[:, side] for item in fields(self)))

    def take(self, frames):
        """The frames of a slice."""
        return HandObservations(*(getattr(self, item.name)[frames] for item in fields(self)))


def refine_hands(motion, observations, matrix, camera_turns, timestamps, settings=HandSettings()):
    """The motion with fingers and wrists refined over the whole clip, and which of them are filled in, [T, 2] bool.

    motion: `Motion` in the reference frame, its body refined; observations: `HandObservations`; matrix [3, 3] px; camera_turns
    [T, 3, 3] from the reference camera to each frame's; timestamps [T] s. No joint of the body moves: the wrist turns, and the
    forearm takes half of a turn about itself. A hand counts as valid where it was found, not just in passing, or is
    filled in, and its body is valid. Elsewhere it goes over to a relaxed one, and its wrist to the body's own.
    """
    joints, orientations = motion.skeleton.pose(motion.rotations)
    joints = joints + np.where(np.isfinite(motion.pelvis), motion.pelvis, 0.0)[:, None]
    found = (observations.confidence > 0) & motion.valid[:, :1]
    found = np.stack([surely_found(seen, timestamps) for seen in found.T], 1)
    filled = np.stack([short_holes(seen, timestamps) for seen in found.T], 1) & motion.valid[:, :1]
    known = found | filled
    trust = np.stack([trust_near(seen, timestamps) for seen in known.T], 1)
    fingers, palms = [], []
    for side, name in enumerate(SIDES):
        wrist = JOINT_INDEX[f"{name}_wrist"]
        clip = _HandClip(
            fingers=Fingers(motion.skeleton, name),
            seen=observations.of_side(side),
            found=found[:, side],
            wrist=joints[:, wrist],
            wrist_turn=orientations[:, wrist],
            matrix=matrix,
            camera_turns=camera_turns,
            timestamps=timestamps,
            settings=settings,
        )
        angles, palm = clip.solve(known[:, side])
        fingers.append(clip.fingers.rotations(RELAXED + trust[:, side, None] * (angles - RELAXED)))
        palms.append(palm)
    rotations = motion.rotations.copy()
    rotations[:, BODY_JOINTS.stop :] = np.concatenate(fingers, 1)
    rotations = hang_on_forearms(rotations, orientations, np.stack(palms, 1), trust, motion.skeleton)
    valid = motion.valid.copy()
    valid[:, 1:3] = known
    return replace(motion, rotations=rotations, valid=valid), filled


def surely_found(found, timestamps):
    """found [T] bool without what is found in passing. timestamps [T] s."""
    near = np.searchsorted(timestamps, [timestamps - SURE_WITHIN, timestamps + SURE_WITHIN + 1e-9])
    before = np.concatenate([[0], np.cumsum(found)])
    return found & (before[near[1]] - before[near[0]] >= SURE_SHARE * (near[1] - near[0]))


def short_holes(found, timestamps, longest=LONGEST_HOLE):
    """Frames [T] bool that were not found, between two that were and are no more than `longest` s apart."""
    seen = np.flatnonzero(found)
    filled = np.zeros(len(found), bool)
    for before, after in zip(seen[:-1], seen[1:]):
        filled[before + 1 : after] = timestamps[after] - timestamps[before] <= longest + 1e-6
    return filled


def trust_near(known, timestamps):
    """[T] 1 where known [T] bool, falling smoothly to 0 in EASING s on both sides."""
    if not known.any():
        return np.zeros(len(known))
    times = timestamps[known]
    place = np.searchsorted(times, timestamps)
    after = np.abs(times[np.minimum(place, len(times) - 1)] - timestamps)
    before = np.abs(timestamps - times[np.maximum(place - 1, 0)])
    return 1 - smoothstep(np.minimum(before, after), 0, EASING)


@dataclass
class _HandClip:
    """One hand over a clip. wrist [T, 3] m and wrist_turn [T, 3, 3]: the body's, in the reference frame; found [T] bool."""

    fingers: Fingers
    seen: HandObservations
    found: np.ndarray
    wrist: np.ndarray
    wrist_turn: np.ndarray
    matrix: np.ndarray
    camera_turns: np.ndarray
    timestamps: np.ndarray
    settings: HandSettings

    def solve(self, known):
        """Angles [T, 21] rad and palms [T, 3, 3] in reference axes; where the hand is not known [T], its neighbours in time."""
        seen_angles, seen_palms = self._bridged()
        angles, palms = seen_angles.copy(), seen_palms.copy()
        for run in valid_runs(known):
            for frames, share in windows(run):
                pose = self._solve_window(frames, seen_angles[frames], seen_palms[frames])
                angles[frames] += share[:, None] * (pose.angles - angles[frames])
                palms[frames] = fraction_of(pose.turns @ transpose(palms[frames]), share) @ palms[frames]
        bridge = bridge_holes(known)
        on_wrist = bridge.rotations(transpose(self.wrist_turn) @ palms)
        return bridge.vectors(angles), self.wrist_turn @ on_wrist

    def _bridged(self):
        """The network's angles and palms. Over a hole the palm keeps what it differs by from the body's wrist."""
        found = self.found[:, None, None]
        bridge = bridge_holes(self.found)
        angles = bridge.vectors(self.fingers.angles(np.where(found[..., None], self.seen.fingers, np.eye(3))))
        difference = transpose(self.wrist_turn) @ np.where(found, self.seen.palms, np.eye(3))
        return angles, self.wrist_turn @ bridge.rotations(difference)

    def _solve_window(self, frames, angles, palms):
        """The `HandPose` of a slice's frames, solved together. angles and palms: what the network saw in them."""
        start = HandPose(np.zeros((len(angles), 3)), without_turned_spikes(palms), without_spikes(angles))
        return solve(start, self._terms(frames, start, angles, palms), UNKNOWNS)

    def _terms(self, frames, start, angles, palms):
        settings = self.settings
        wrist, turns = self.wrist[frames], self.camera_turns[frames]
        in_camera = rotate(turns, wrist)
        distance = np.maximum(in_camera[:, 2], NEAREST)
        line = unit(rotate(transpose(turns), in_camera))
        share = np.where(self.found[frames], 1.0, HOLE_SHARE) * (1.0 if settings.agreement else 0.01)
        terms = [
            Place.about(line, settings.place_spread, settings.size_spread * distance),
            TurnAgreement(palms, share, settings.palm_spread, settings.limit),
            FingerAgreement(angles, share, settings.angle_spread, settings.limit),
            TurnAgreement(self.wrist_turn[frames], np.ones(len(palms)), settings.wrist_spread, settings.limit),
        ]
        if settings.reprojection:
            sight = rays(self.seen.pixels[frames][:, POINT_ORDER], self.matrix)[..., :2]
            weights = np.where(self.found[frames], self.seen.confidence[frames], 0.0)
            spread = settings.point_spread / distance
            terms.append(HandReprojection(self.fingers, wrist, sight, weights, spread, turns, settings.limit))
        if settings.limits:
            terms.append(FingerLimits(settings.range_spread, settings.tendon_spread))
        if settings.smoothness:
            timestamps = self.timestamps[frames]
            terms.append(OwnSmoothness(timestamps, acceleration_spread(start, timestamps, settings)))
        return terms


def acceleration_spread(start, timestamps, settings):
    """[T, 27]: what accelerations of a hand's unknowns may be, from those that the motion itself shows."""
    spread = np.empty((len(timestamps), UNKNOWNS))
    palm = turning_acceleration(start.turns, timestamps)
    own = own_acceleration(start.angles, timestamps)
    spread[:, PLACE] = settings.place_spread * PLACE_SHARPNESS
    for part, found, share in ((TURN, palm, settings.palm_share), (BENDS, own, settings.angle_share)):
        # What shaking leaves in the measurement counts little, beside what is much more than that.
        spread[:, part] = settings.acceleration + share * found**2 / (found + settings.acceleration_noise)
    return spread


PLACE_SHARPNESS = 100.0
"""1/s^2: the wrist's place may change by its own deviation within a tenth of a second."""


def hang_on_forearms(rotations, orientations, palms, trust, skeleton):
    """Rotations [T, 52, 3, 3] whose hands are turned as `palms` [T, 2, 3, 3], as far as these are trusted, [T, 2] in 0..1.

    orientations [T, 52, 3, 3]: of the joints before. The forearm takes half of what a hand turns about it; over time that is one
    unbroken turn, so that a palm that goes round does not make it snap back.
    """
    rotations = rotations.copy()
    for side, name in enumerate(SIDES):
        elbow, wrist = JOINT_INDEX[f"{name}_elbow"], JOINT_INDEX[f"{name}_wrist"]
        difference = fraction_of(transpose(orientations[:, wrist]) @ palms[:, side], trust[:, side])
        turned = rotations[:, wrist] @ difference
        bone = unit(skeleton.joints[wrist] - skeleton.joints[elbow])
        twist = np.unwrap(twist_angle(turned, bone) - twist_angle(rotations[:, wrist], bone))
        half = about(bone, (twist - 2 * np.pi * np.round(np.median(twist) / (2 * np.pi))) / 2)
        rotations[:, elbow] = rotations[:, elbow] @ half
        rotations[:, wrist] = limit_angle(transpose(half) @ turned, LARGEST_WRIST_TURN)
    return rotations
