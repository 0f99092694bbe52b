"""The refinement as a pass of the capture: a person's frames in, the whole clip's answer out.

Zhou et al. 2021 give an answer for a frame; what they leave to future work, time, is used here. A start comes from the temporal
lifter (or from IKNet, where that does not know the body), then every shot is one optimisation (`refine`), its feet are settled, and
the hands follow.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..contract.skeleton import VALID_PARTS
from ..contract.swing_twist import rotate, transpose
from ..ground import camera_to_world
from ..ik.face_mesh import found_heads
from ..ik.hand_flips import without_flips
from ..ik.iknet import turn_wrists
from ..ik.lifter import Lifter
from ..ik.rest_skeleton import RestSkeleton
from ..motion import Motion, Solved, hold_through_holes, place, solve_motion
from ..tracking.camera_motion import MOVING
from ..weights import WeightsAbsent, WeightsUnsuited
from .hands import HAND_TERMS, HandObservations, HandSettings, refine_hands
from .head import refine_head
from .problem import Observations
from .refine import TERMS, Hints, RefineSettings, refine_motion
from .settle import settle
from .spans import bridge, spans

LONGEST_ABSENCE = 10.0
"""s. Somebody who is away for longer comes back as if in another clip: what they did meanwhile costs time and says nothing."""

STAGES = ("lifter", "camera", "settle", "hands")
"""What may be left out beside the optimisation's terms: the start from the lifter, the camera's turns, and the last passes."""

PARTS = TERMS + STAGES + tuple(f"hand_{term}" for term in HAND_TERMS)
"""Names for `CaptureSettings.without`."""


class UnknownPartError(ValueError):
    """A part of the refinement that there is not. The message is one sentence for the user."""


def check_parts(names):
    """Raises `UnknownPartError` where one of the names is none of PARTS."""
    for name in names:
        if name not in PARTS:
            raise UnknownPartError(f"The refinement has no part {name!r} to leave out: choose among {', '.join(PARTS)}.")


def solve_whole_clip(keypoints, seen, betas, valid, matrix, watched, equipment):
    """The `Solved` clip, refined as a whole.

    keypoints: `Keypoints` of T frames in camera axes and in the body's size; seen: the same as detected; betas [B]; valid [T, 4];
    matrix [3, 3] px; watched: the video's `Watched`; equipment: the capture's `Equipment`.
    """
    left_out = equipment.settings.without
    check_parts(left_out)
    clip = _Clip(keypoints, valid, watched, equipment, _settings(RefineSettings(), TERMS, left_out))
    person = _Person(np.asarray(betas, float), matrix, fixed=equipment.settings.fov is not None)
    stretches = clip.stretches()
    if not stretches:
        nobody = solve_motion(keypoints, RestSkeleton.of_body(equipment.body, betas), matrix, valid, equipment.solver)
        return Solved(nobody, person.betas, matrix, np.eye(4))
    frames = clip.frame_count
    rotations, pelvis = np.tile(np.eye(3), (frames, 52, 1, 1)), np.zeros((frames, 3))
    poses, solved, filled = np.tile(np.eye(4), (frames, 1, 1)), np.zeros((frames, 4), bool), np.zeros((frames, 4), bool)
    contacts, standing_at, notes = np.zeros((frames, 2, 3), bool), {}, []
    # The longest says most about the person and the lens; the others take over what it found.
    for stretch in sorted(stretches, key=lambda one: -valid[one.frames, 0].sum()):
        answer = clip.refine(stretch, person)
        person = answer.person
        at = stretch.frames
        rotations[at], pelvis[at] = answer.motion.rotations, answer.motion.pelvis
        solved[at], filled[at], contacts[at] = answer.motion.valid, answer.filled, answer.contacts
        poses[clip.shots[stretch.shot]] = standing_at.setdefault(stretch.shot, answer.camera_to_world)
        notes += [note for note in answer.notes if note not in notes]
    motion = Motion(RestSkeleton.of_body(equipment.body, person.betas), rotations, pelvis, solved)
    motion = hold_through_holes(motion)
    models = clip.lifter.sha256 if clip.lifter else {}
    return Solved(motion, person.betas, person.matrix, poses, filled, notes, contacts, models)


def _settings(settings, names, left_out, prefix=""):
    for name in names:
        if prefix + name in left_out:
            settings = settings.without(name)
    return settings


@dataclass(frozen=True)
class _Person:
    """betas [B] and camera matrix [3, 3]; fixed: whether the lens is known; measured: whether the betas are."""

    betas: np.ndarray
    matrix: np.ndarray
    fixed: bool
    measured: bool = False


@dataclass(frozen=True)
class _Stretch:
    """A slice of a shot's frames that are refined together, and the shot's number."""

    frames: slice
    shot: int


@dataclass(frozen=True)
class _Answer:
    """Of a stretch: its `Motion` in each frame's camera, filled [n, 4], contacts [n, 2, 3], the poses [T', 4, 4] of the camera over
    the whole shot, the person, and notes."""

    motion: Motion
    filled: np.ndarray
    contacts: np.ndarray
    camera_to_world: np.ndarray
    person: _Person
    notes: list


class _Clip:
    """What stays the same while a person's clip is refined."""

    def __init__(self, keypoints, valid, watched, equipment, settings):
        self.keypoints, self.valid, self.watched, self.equipment = keypoints, valid, watched, equipment
        self.settings, self.timestamps = settings, watched.timestamps
        self.left_out = equipment.settings.without
        self.shots = watched.shots()
        self.frame_count = len(self.timestamps)
        self.filled = np.zeros(self.frame_count, bool)
        for span in spans(valid[:, 0], self.timestamps, watched.cuts):
            self.filled[span.frames] = span.filled
        self.lifter = self._load_lifter()

    def _load_lifter(self):
        if "lifter" in self.left_out:
            return None
        try:
            return Lifter.load(self.equipment.body, self.keypoints.definition)
        except (WeightsAbsent, WeightsUnsuited):
            return None

    def stretches(self):
        """The `_Stretch`es in which the person is seen, in order."""
        found = []
        for number, shot in enumerate(self.shots):
            seen = shot.start + np.flatnonzero(self.valid[shot, 0])
            apart = np.flatnonzero(np.diff(self.timestamps[seen]) > LONGEST_ABSENCE) + 1
            runs = np.split(seen, apart) if len(seen) else []
            found += [_Stretch(slice(int(run[0]), int(run[-1]) + 1), number) for run in runs]
        return found

    def refine(self, stretch, person):
        """The `_Answer` for a `_Stretch`, and a `_Person` who is known as far as that."""
        shot, frames = self.shots[stretch.shot], stretch.frames
        camera = self.watched.camera.solve(person.matrix, self.timestamps)
        turns = camera.turns[shot] if "camera" not in self.left_out else np.tile(np.eye(3), (shot.stop - shot.start, 1, 1))
        own_turns = turns[frames.start - shot.start : frames.stop - shot.start]
        keypoints, timestamps, valid = self.keypoints.take(frames), self.timestamps[frames], self.valid[frames]
        start, hints, hands = self._start(keypoints, timestamps, valid, own_turns, person)
        observations = Observations.of(keypoints, timestamps, person.matrix, own_turns, seen=start.valid[:, 0])
        settings = self.settings.without("shape") if person.measured else self.settings
        refined = refine_motion(
            start, self.equipment.body, person.betas, observations, hints, settings, person.fixed or person.measured
        )
        motion = refined.motion
        if "settle" not in self.left_out:
            motion = settle(motion, timestamps, refined.contacts, refined.up, refined.floor)
        body = start.valid[:, 0] | self.filled[frames]
        motion = replace(motion, valid=np.column_stack([body, valid[:, 1:]]))
        filled = np.zeros((len(body), len(VALID_PARTS)), bool)
        filled[:, 0] = body & ~start.valid[:, 0]
        if "hands" not in self.left_out:
            own = _settings(HandSettings(), HAND_TERMS, self.left_out, "hand_")
            observed = HandObservations.of(keypoints, hands, own_turns)
            motion, filled[:, 1:3] = refine_hands(motion, observed, refined.matrix, own_turns, timestamps, own)
        world = camera_to_world(refined.up, refined.floor, motion.pelvis[0])
        person = _Person(refined.betas, refined.matrix, person.fixed, measured=True)
        # A camera that is taken as still for want of a background is the usual case, and nothing to be told.
        notes = [*refined.notes, *(camera.notes if MOVING in camera.kinds else ())]
        return _Answer(_in_cameras(motion, own_turns), filled, refined.contacts, _camera_poses(world, turns), person, notes)

    def _start(self, keypoints, timestamps, valid, turns, person):
        """(`Motion` in the reference frame with values in every frame, `Hints`, `SolvedHands` in camera axes)."""
        skeleton, solver = RestSkeleton.of_body(self.equipment.body, person.betas), self.equipment.solver
        keypoints, hands = without_flips(keypoints, skeleton, person.matrix, solver)
        hints = Hints()
        if self.lifter is None:
            motion = solve_motion(keypoints, skeleton, person.matrix, valid, solver)
        else:
            lifted = self.lifter.lift(keypoints, skeleton, person.matrix, timestamps, turns, valid[:, 0])
            rotations = np.concatenate([lifted.rotations, hands.fingers.reshape(len(valid), -1, 3, 3)], 1)
            rotations = turn_wrists(rotations, hands, skeleton)
            pelvis = place(skeleton, rotations, keypoints, person.matrix)
            placed = np.isfinite(pelvis).all(1) & (pelvis[:, 2] > 0)
            motion = Motion(skeleton, rotations, pelvis, valid & placed[:, None])
            hints = Hints(lifted.contacts, lifted.up, lifted.up_spread)
        valid, face_turns = motion.valid, transpose(turns) @ keypoints.head_rotation
        motion = bridge(_in_reference(motion, turns), ~valid[:, 0])
        motion = refine_head(replace(motion, valid=np.ones_like(valid)), face_turns, found_heads(keypoints), timestamps)
        return replace(motion, valid=valid), hints, hands


def _in_reference(motion, turns):
    """A `Motion` in each frame's camera, in the reference camera's axes instead. turns [T, 3, 3] from that to each frame's."""
    rotations = motion.rotations.copy()
    rotations[:, 0] = transpose(turns) @ rotations[:, 0]
    return replace(motion, rotations=rotations, pelvis=rotate(transpose(turns), motion.pelvis))


def _in_cameras(motion, turns):
    """Inverse of `_in_reference`."""
    return _in_reference(motion, transpose(turns))


def _camera_poses(world, turns):
    """Poses [T, 4, 4] m of a camera that turns, from that of the reference camera [4, 4]."""
    poses = np.tile(world, (len(turns), 1, 1))
    poses[:, :3, :3] = world[:3, :3] @ transpose(turns)
    return poses
