"""How the camera turns in the course of a shot, from what moves behind the people.

A camera that only turns maps its pictures onto each other by homographies K R K^-1 (Hartley and Zisserman 2004, Sec. 8.4), however
far away things are. So for each picture a rotation is fitted to lines of sight, robustly, against a key frame. Of a camera that
walks at the same time the turn is what the depths of the scene leave of it (see `epipolar`); its way is not found, which is said.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import lsqr

from ..camera import project, rays
from ..contract.frames import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_to_matrix,
    slerp_quaternions,
)
from ..ik.holes import bridge_holes
from .background import CORNERS, BackgroundTracker
from .epipolar import fit_walk

STATIC, TURNING, MOVING = "static", "turning", "moving"

STILL = 0.35
"""px of the small picture by which points of an unmoved background may seem to move: noise and compression."""

UNMOVED = 0.2
"""Share of points that stay where they were from the first picture to the last, which a camera that turns has nowhere."""

SPREAD, SLACK = 0.5, 0.01
"""px of the small picture by which points are found amiss, and the share of their way that comes to it: lenses bend."""

SIGHTED = 0.5
"""Share of the pictures in which the background was found, below which nothing is said of the camera."""

FAR_OFF = 4.0
"""px of the small picture from where a rotation takes a point, beyond which something else has moved it."""

PARALLAX = 0.2, 0.6
"""Of a camera that walks or zooms: the least share of points that are far off, and the share of these that lie on their epipolar
lines. Of passers-by, each going their own way, no more than half do by chance."""

ZOOM = 0.03
"""Change of the focal length's logarithm that is a zoom, or a camera that comes nearer to what is far away."""

HALF = 0.5
"""A rotation that explains a smaller share of the points than this may have been looked for in the wrong place."""

FORGETTING = 0.1
"""Share by which each picture changes how far a point is trusted. What has moved by itself once may do so again."""


@dataclass(frozen=True)
class CameraMotion:
    """How a clip's camera moves, shot by shot.

    turns [T, 3, 3]: rotation from the axes of the camera in the shot's first frame to those in frame t, x_t = turns[t] @ x_first;
    exactly the identity for a static camera
    kinds: for each shot "static"; "turning", all of it is in `turns`; or "moving", it also walks or zooms, which is not in `turns`
    notes: sentences for the user on what could not be told
    """

    turns: np.ndarray
    kinds: tuple
    notes: tuple = ()


class CameraMotionEstimator:
    """Looks at all pictures of a clip, in order, and then solves for the camera's turns."""

    def __init__(self):
        self._shots, self._solved = [], {}

    def look(self, image, boxes=(), cut=False, people=()):
        """Takes the next picture [H, W, 3] RGB uint8.

        boxes [N, 4] px of all people in it who are known of; cut: whether it begins another shot; people: the `Keypoints` of those
        whose keypoints are known, which say better than a box what they cover of the background.
        """
        if cut or not self._shots:
            self._shots.append(BackgroundTracker())
        self._solved.clear()
        self._shots[-1].look(image, boxes, people)

    def solve(self, matrix, timestamps=None):
        """The `CameraMotion` of the pictures so far, for intrinsics [3, 3] px of the video's picture.

        timestamps [T] s: the notes then say when.
        """
        turns, kinds, notes, start = [np.zeros((0, 3, 3))], [], [], 0
        for shot in self._shots:
            stop = start + len(shot.sightings)
            when = "" if len(self._shots) == 1 or timestamps is None else f" from {timestamps[start]:.1f} s on"
            its_turns, kind, doubt = self._solve_shot(shot, matrix)
            turns.append(its_turns)
            kinds.append(kind)
            notes += [doubt.format(when=when)] if doubt else []
            start = stop
        return CameraMotion(np.concatenate(turns), tuple(kinds), tuple(notes))

    def _solve_shot(self, shot, matrix):
        """What `solve_shot` says, which for the same lens it says once: each person of a clip asks."""
        asked = id(shot), np.asarray(matrix, float).tobytes()
        if asked not in self._solved:
            self._solved[asked] = solve_shot(shot, matrix)
        return self._solved[asked]


WALKS = (
    "The camera{when} walks: its turns are taken out, but not its own way, so the person's way through the world is not to be"
    " trusted."
)
ZOOMS = "The camera{when} zooms or comes nearer: its turns are taken out, but the person's distance is not to be trusted."
UNSEEN = "Too little of the background is seen{when} to tell how the camera turns there: it is taken as still."


def solve_shot(background, matrix):
    """turns [T, 3, 3], kind and a note for the user, or None, of the shot that a `BackgroundTracker` has looked at.

    matrix [3, 3] px of the video's picture.
    """
    frame_count = len(background.sightings)
    still = np.tile(np.eye(3), (frame_count, 1, 1))
    if frame_count == 1:
        return still, STATIC, None
    pairs = sighted_pairs(background, np.diag([background.scale, background.scale, 1.0]) @ matrix)
    if len({pair.frame for pair in pairs}) < SIGHTED * (frame_count - 1):
        return still, STATIC, UNSEEN
    rotations, scales = fit_rotations(pairs)
    if is_static(pairs, rotations, scales):
        return still, STATIC, None
    key_frames = [key.frame for key in background.keys]
    walk = find_walk(pairs, rotations, scales)
    if walk is not None:
        return camera_turns(pairs, walk, key_frames, frame_count), MOVING, WALKS
    if is_zooming(scales):
        return camera_turns(pairs, rotations, key_frames, frame_count), MOVING, ZOOMS
    # Without a zoom a scale is noise, and a sharper mean of the turned pictures says so.
    rotations, _ = fit_rotations(pairs, zooms=False)
    return camera_turns(pairs, rotations, key_frames, frame_count), TURNING, None


@dataclass(frozen=True)
class Pair:
    """Points of the background seen twice: in the picture of key frame number `key`, and in that of `frame`.

    points: their numbers [N] in the key frame; agree [N] bool: which follow one homography; start, places [N, 2] px of the small
    picture, before and after; matrix [3, 3] px of the small picture.
    """

    frame: int
    key: int
    points: np.ndarray
    agree: np.ndarray
    start: np.ndarray
    places: np.ndarray
    matrix: np.ndarray

    @property
    def before(self):
        """Lines of sight [N, 3] to the points in the key frame, at depth one."""
        return rays(self.start, self.matrix)

    @property
    def after(self):
        """Lines of sight [N, 3] to them in the frame, at depth one."""
        return rays(self.places, self.matrix)

    @property
    def way(self):
        """px [N] by which the points have moved in the picture."""
        return np.linalg.norm(self.places - self.start, axis=-1)

    def taken(self, rotation, scale=1.0):
        """px [N, 2] to where a rotation [3, 3] takes the points, seen through a lens of `scale` times the focal length."""
        middle = self.matrix[:2, 2]
        return middle + scale * (project(self.before @ rotation.T, self.matrix) - middle)

    def off(self, rotation, scale=1.0):
        """px [N] from where they are taken to where they were found."""
        return np.linalg.norm(self.taken(rotation, scale) - self.places, axis=-1)


def sighted_pairs(background, matrix):
    """A `Pair` for every `Sighting` of a `BackgroundTracker`, in order. matrix [3, 3] px of the small picture."""
    pairs = []
    for frame, sightings in enumerate(background.sightings):
        for sighting in sightings:
            start = background.keys[sighting.key].points[sighting.points]
            seen = sighting.points, sighting.agree, start, sighting.places
            pairs.append(Pair(frame, sighting.key, *seen, matrix))
    return pairs


def is_static(pairs, rotations, scales):
    """Whether the camera stands: there is hardly a picture in which not a good share of points is unmoved, or in which the fitted
    rotation moves them, in the median, by what can be measured."""
    unmoved = np.array([(pair.way < STILL).mean() for pair in pairs])
    turned = [pair.taken(*fit) - pair.start for pair, *fit in zip(pairs, rotations, scales)]
    moved = np.array([np.median(np.linalg.norm(way, axis=-1)) for way in turned])
    return bool(((unmoved >= UNMOVED) | (moved < STILL)).mean() > 0.95)


def find_walk(pairs, rotations, scales):
    """Rotations [3, 3] for each `Pair` if the camera walks, else None.

    It does if what the fitted rotations and scales leave over is what a walk through a scene at rest leaves over: many points are
    far off where a rotation takes them, and most of those on their epipolar lines. A third of the pictures must say so: those
    beside a key frame cannot.
    """
    least, on_lines = PARALLAX
    off = [pair.off(rotation, scale) for pair, rotation, scale in zip(pairs, rotations, scales)]
    parallax = np.array([(those > FAR_OFF).mean() >= least for those in off])
    if parallax.mean() < 1 / 3:
        return None
    walks, beside = fit_walks(pairs, rotations)
    for index in np.flatnonzero(parallax):
        parallax[index] = (beside[index][off[index] > FAR_OFF] < 2 * SPREAD).mean() > on_lines
    if parallax.mean() < 1 / 3:
        return None
    # Beside a key frame a step aside looks like a turn; from farther on it is known where the camera goes.
    return fit_walks(pairs[::-1], walks[::-1])[0][::-1]


def is_zooming(scales):
    """Whether things become larger or smaller in the course of a shot, by more than focusing does."""
    return bool(np.mean(np.abs(np.log(scales)) > ZOOM) > 0.1)


def fit_walks(pairs, rotations):
    """Rotations [3, 3] of a camera that also walks, and how many px off its epipolar line each point is [N], for each `Pair`.

    Each starts from where the last one was, or from `rotations`: the one of the two that the points agree with better counts.
    """
    walks, off, last = [], [], {}
    for pair, rotation in zip(pairs, rotations):
        starts = [last.get(pair.key, (np.eye(3), None)), (rotation, None)]
        lines = pair.before, pair.after
        found = [fit_walk(*lines, pair.matrix[0, 0], *start) for start in starts]
        best = max(found, key=lambda walk: (1 / (1 + (walk[2] / SPREAD) ** 2)).sum())
        last[pair.key] = best[:2]
        walks.append(best[0])
        off.append(best[2])
    return walks, off


def fit_rotations(pairs, zooms=True):
    """Rotations [3, 3] from the key frame's camera to the frame's and focal lengths in those of the key frame, for each `Pair`.

    Each starts from the one before, and a key frame's points are trusted by how well rotations explained them so far: of two layers
    that move differently it is the same one that is followed all the time. Where that explains but few, the points that follow one
    homography are asked, too. zooms: whether the focal length may change.
    """
    fits, last, trust = [], {}, {}
    for pair in pairs:
        trusted = trust.setdefault(pair.key, np.ones(CORNERS))
        fit = fit_rotation(pair, trusted[pair.points], *last.get(pair.key, (np.eye(3), 1.0)), zooms)
        explained = is_explained(pair, fit)
        if explained.mean() < HALF:
            other = fit_rotation(pair, trusted[pair.points], *fit_rotation(pair, pair.agree * 1.0, *fit, zooms), zooms)
            if is_explained(pair, other).sum() > explained.sum():
                fit, explained = other, is_explained(pair, other)
        trusted[pair.points] += FORGETTING * (np.maximum(explained, FORGETTING) - trusted[pair.points])
        last[pair.key] = fit
        fits.append(fit)
    return tuple(zip(*fits))


def is_explained(pair, fit):
    """Which points [N] of a `Pair` are found where a fit, (rotation [3, 3], scale), takes them."""
    return pair.off(*fit) < 2 * (SPREAD + SLACK * pair.way)


def fit_rotation(pair, trust, rotation, scale, zooms=True):
    """The rotation [3, 3] and scale that take the points of a `Pair` to where they were found; trust [N]: their weights.

    Kabsch's (1976) solution for the rotation and the least squares' for the scale by turns, with the weights of Geman and McClure,
    whose width narrows from what points are off by with the given rotation and scale (graduated non-convexity: Blake and
    Zisserman 1987). zooms: whether the scale is to be found, too.
    """
    before, middle = unit(pair.before), pair.matrix[:2, 2]
    allowed = SLACK * pair.way
    off = pair.off(rotation, scale)
    halvings = max(np.ceil(np.log2(max(1.5 * np.median(off), 2 * SPREAD) / SPREAD)), 1)
    widths = SPREAD * 2.0 ** np.arange(halvings, 0, -1)
    for width in (*widths, *[SPREAD] * (4 if zooms else 2)):
        weights = trust / (1 + (off / (width + allowed)) ** 2) ** 2
        after = unit(rays(middle + (pair.places - middle) / scale, pair.matrix))
        rotation = nearest_rotation((weights[:, None] * after).T @ before)
        if zooms:
            turned = pair.taken(rotation) - middle
            scale = weights @ (turned * (pair.places - middle)).sum(1) / (weights @ (turned**2).sum(1))
        off = pair.off(rotation, scale)
    return rotation, scale


def unit(vectors):
    """Vectors [..., 3] of length one."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def nearest_rotation(matrix):
    """The rotation [3, 3] for which the trace of its transpose times the matrix [3, 3] is largest."""
    u, _, v = np.linalg.svd(matrix)
    return u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v


def camera_turns(pairs, rotations, key_frames, frame_count):
    """turns [T, 3, 3] from the first frame's camera, from a rotation [3, 3] for each `Pair`.

    key_frames: the frame of each key frame.
    Where nothing was found they turn evenly from what is known before to what is known after; after a break without sight of
    anything seen before, they go on from where they were.
    """
    by_frame = [[] for _ in range(frame_count)]
    for pair, rotation in zip(pairs, rotations):
        by_frame[pair.frame].append((pair.key, rotation))
    keys = key_turns(by_frame, key_frames)
    known = np.array([bool(those) for those in by_frame])
    turns = np.tile(np.eye(3), (frame_count, 1, 1))
    for frame in np.flatnonzero(known):
        turns[frame] = nearest_rotation(np.sum([rotation @ keys[key] for key, rotation in by_frame[frame]], 0))
    turns[key_frames], known[key_frames] = keys, True
    over = bridge_holes(known)
    ends = (matrix_to_quaternion(turns[neighbour]) for neighbour in (over.before, over.after))
    return np.where(known[:, None, None], turns, quaternion_to_matrix(slerp_quaternions(*ends, over.share)))


def key_turns(by_frame, key_frames):
    """turns [K, 3, 3] of the key frames' cameras, from the (key, rotation) of each frame's pairs.

    A key frame is a frame in which an earlier one was sighted, and so on to the first. A frame in which two were sighted says a
    second time how one is turned against the other, so that a camera that comes back closes its circle: all that is said agrees
    as well as it can (rotation averaging: Govindu 2001).
    """
    keys, last, relations = [], np.eye(3), []
    for frame, those in enumerate(by_frame):
        # A key frame may have been made of an earlier picture than the one that asked for it, never of a later one.
        those = [(key, rotation) for key, rotation in those if key < len(keys)]
        if those:
            last = those[0][1] @ keys[those[0][0]]
        if len(keys) < len(key_frames) and key_frames[len(keys)] == frame:
            relations += [(key, len(keys), rotation) for key, rotation in those]
            keys.append(last)
        relations += [(a, b, to_b.T @ to_a) for (a, to_a), (b, to_b) in zip(those, those[1:])]
    return averaged(np.array(keys), relations)


def averaged(keys, relations, rounds=3):
    """Rotations [K, 3, 3] in which relations (i, j, relative [3, 3]), keys[j] = relative @ keys[i], hold best; the first one stays.

    Least squares over the axis-angles by which they are amiss, those of all keys at once.
    """
    if len(relations) < len(keys):
        return keys
    first, second = np.array([relation[:2] for relation in relations]).T
    relative = np.array([relation[2] for relation in relations])
    rows = np.arange(len(relations))
    entries = np.repeat([1.0, -1.0], len(rows)), (np.tile(rows, 2), np.concatenate([second, first]))
    graph = csr_matrix(entries, shape=(len(rows), len(keys)))[:, 1:]
    for _ in range(rounds):
        # Both as turns in the reference camera's axes, where they add up.
        amiss = matrix_to_axis_angle(np.swapaxes(keys[second], -1, -2) @ relative @ keys[first])
        change = np.stack([lsqr(graph, amiss[:, axis])[0] for axis in range(3)], -1)
        keys = np.concatenate([keys[:1], keys[1:] @ axis_angle_to_matrix(change)])
    return keys
