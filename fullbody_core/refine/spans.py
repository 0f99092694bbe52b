"""What of a clip is refined as one: stretches of one shot in which the person is lost for moments at most."""

from dataclasses import dataclass, replace

import numpy as np

from ..contract.frames import matrix_to_quaternion, quaternion_to_matrix, slerp_quaternions
from ..ik.holes import bridge_holes

LONGEST_GAP = 0.5
"""s between two frames in which the person is seen. In more than that anybody may have done anything."""


@dataclass(frozen=True)
class Span:
    """frames: a slice of the clip's frames, seen in the first and in the last; filled [n] bool: those of them in which the person
    is not seen, but was shortly before and is shortly after."""

    frames: slice
    filled: np.ndarray


def spans(valid, timestamps, cuts=None):
    """The `Span`s of a clip, in order and apart from each other; none where nobody is ever seen.

    valid [T] bool: the person is seen; timestamps [T] s, increasing; cuts [T] bool: the picture begins a new shot, as
    `ShotDetector` says. Two frames in which the person is seen belong together if no shot begins after the first and up to the
    second one, and if they are no more than LONGEST_GAP apart.
    """
    valid, timestamps = np.asarray(valid, bool), np.asarray(timestamps, float)
    shot = np.zeros(len(valid), int) if cuts is None else np.cumsum(np.asarray(cuts, bool))
    if not len(valid) == len(timestamps) == len(shot):
        raise ValueError(f"One entry a frame is needed, got {len(valid)}, {len(timestamps)} and {len(shot)}.")
    seen = np.flatnonzero(valid)
    # Half a nanosecond of grace: a gap of just the longest length should not hang on how its times were rounded.
    apart = np.diff(timestamps[seen]) > LONGEST_GAP + 5e-10
    runs = np.split(seen, np.flatnonzero(apart | (np.diff(shot[seen]) > 0)) + 1) if len(seen) else []
    slices = [slice(int(run[0]), int(run[-1]) + 1) for run in runs]
    return [Span(frames, ~valid[frames]) for frames in slices]


def bridge(motion, filled):
    """The `Motion` of T frames with values in its `filled` [T] frames: turned and moved evenly from neighbour to neighbour.

    They are no more than where an optimisation may start. What is not `filled`, and `valid`, stay as they are; where nothing
    lies on one side, the other side's value is held.
    """
    filled = np.asarray(filled, bool)
    if not filled.any() or filled.all():
        return motion
    hole = np.flatnonzero(filled)
    over = bridge_holes(~filled)
    before, after, share = over.before[hole], over.after[hole], over.share[hole]
    ends = matrix_to_quaternion(motion.rotations[before]), matrix_to_quaternion(motion.rotations[after])
    rotations, pelvis = motion.rotations.copy(), motion.pelvis.copy()
    rotations[hole] = quaternion_to_matrix(slerp_quaternions(*ends, share[:, None]))
    pelvis[hole] = over.vectors(motion.pelvis)[hole]
    return replace(motion, rotations=rotations, pelvis=pelvis)
