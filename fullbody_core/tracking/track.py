"""One person from frame to frame: where they should be, what they look like, and whether a body that is found can be theirs."""

from dataclasses import dataclass, field

import numpy as np

from ..contract.skeleton import BLAZEPOSE_33, SIDES
from ..detect.keypoints import SEEN, Keypoints
from ..detect.mediapipe import Region
from .appearance import Gallery, Look, likeness
from .person_detection import circle_boxes

SAME_BODY = 0.22
"""Two bodies whose seen points, or whose trunks, are on average this near each other in radii are one."""

ALIKE, UNLIKE, GRADUAL = 0.82, 0.66, 0.8
"""Likeness from which somebody far away is taken for a person who was lost; below which a body is somebody else's; and of a body to
that of the frame before from which the change of looks is one of light or of view."""

FALL = 0.18
"""Nobody looks so much less like themselves than usual from one frame to the next."""

_LEARNED = 0.1
"""Share of a frame in how much somebody usually looks like themselves."""

JUMP, CALM = 0.6, 0.3
"""Ways in radii between where somebody is found and should be: farther is doubted, and nearer is certain."""

RUN, FARTHEST = 0.2, 3.0
"""Who is lost may have moved on by the first in radii a frame, and is not expected farther away than the second."""

FORGET = 60
"""Frames for which somebody who is not seen is expected about where they were last seen."""

_TRUNK = [BLAZEPOSE_33.index(f"{side}_{name}") for name in ("shoulder", "hip") for side in SIDES]


@dataclass
class Find:
    """A body in a frame: keypoints, the next region and the person's `Look`."""

    keypoints: Keypoints
    region: Region
    look: Look


@dataclass
class Track:
    """One person: where they are expected, what they look like and for how long they were seen. Identity 0 is of no interest.

    region: of the latest find, or where it should be by now; velocity [2] px a frame; find: None while they are not seen, for
    `missed` frames now; clear_frames: for how many nobody else was in the way; usual: their likeness to themselves of late
    """

    identity: int
    region: Region
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))
    gallery: Gallery = field(default_factory=Gallery)
    find: Find = None
    seen_frames: int = 0
    missed: int = 0
    clear_frames: int = 0
    usual: float = ALIKE

    def expected(self):
        """The region of the next frame."""
        return Region(self.region.centre + self.velocity, self.region.radius, self.region.lean)

    def innovation(self, region):
        """By how much a region is another than the expected one: its way in radii plus its change of size."""
        way = min(np.linalg.norm(region.centre - item.centre) for item in (self.region, self.expected()))
        radius = max(self.region.radius, 1)
        return way / radius + abs(np.log(max(region.radius, 1) / radius))

    def likeness(self, find):
        """0..1 of a find and the person; `UNLIKE` where it cannot be told."""
        alike = self.gallery.likeness(find.look)
        return UNLIKE if alike is None else alike

    def accept(self, find):
        """The person was seen."""
        step = find.region.centre - self.region.centre
        self.velocity = 0.5 * self.velocity + 0.5 * step if self.find is not None else np.zeros(2)
        self.usual += _LEARNED * (self.likeness(find) - self.usual)
        self.find, self.region, self.missed = find, find.region, 0
        self.seen_frames += 1

    def miss(self):
        """The person was not seen: they are expected to go on, ever slower."""
        self.region, self.velocity = self.expected(), 0.8 * self.velocity
        self.find, self.missed = None, self.missed + 1


def new_track(find, identity):
    """The `Track` of somebody who was not seen before."""
    track = Track(identity, find.region)
    track.accept(find)
    track.gallery.learn(find.look)
    return track


def regions_to_try(track):
    """Where somebody is looked for in the next frame, one after the other."""
    if track.missed > FORGET:
        return []
    moves = np.linalg.norm(track.velocity) > 0.05 * track.region.radius
    return [track.region, track.expected()] if moves else [track.region]


def fits(track, find):
    """Whether a body can be the one of a track, by its place and looks."""
    jump, alike = track.innovation(find.region), track.likeness(find)
    if track.missed or track.find is None:
        return is_somebody(find) and alike >= UNLIKE and jump < reach(track)
    if jump > JUMP:
        return alike >= ALIKE
    if alike < track.usual - FALL:
        return False
    if alike >= UNLIKE:
        return True
    gradual = likeness(track.find.look, find.look)
    return jump < CALM and (gradual is None or gradual >= GRADUAL)


def is_somebody(find):
    """Whether both shoulders or both hips of a body are seen; close-ups show no hips."""
    seen = find.keypoints.body_confidence[_TRUNK].reshape(2, 2) >= SEEN
    return bool(seen.all(1).any())


def reach(track):
    """How far from their last place somebody who is lost may be, in radii; 0 if that was too long ago to tell."""
    return min(JUMP + RUN * track.missed, FARTHEST) if track.missed <= FORGET else 1e-6


def doubt(track, find):
    """How badly a body fits a track: the smaller, the better its claim."""
    settled = min(track.seen_frames, 10) / 10
    return track.innovation(find.region) + 3 * (1 - track.likeness(find)) - 0.5 * settled + 0.1 * (track.missed > 0)


def region_box(region):
    """Box [4] px of the circle that holds a body."""
    return circle_boxes(region.centre[None], np.array([region.radius]), np.array([region.lean]))[0]


def whole_box(find):
    """Box [4] px of the seen points and of the circle that holds the body, unseen hips and the crown too."""
    box, circle = find.keypoints.person_box, region_box(find.region)
    return np.concatenate([np.minimum(box[:2], circle[:2]), np.maximum(box[2:], circle[2:])])


def same_body(find, other):
    """Whether two finds are of one body, by the distances of their points."""
    apart = np.linalg.norm(find.keypoints.body2d - other.keypoints.body2d, axis=-1)
    seen = (find.keypoints.body_confidence >= SEEN) & (other.keypoints.body_confidence >= SEEN)
    nearest = min(apart[seen].mean() if seen.sum() >= 4 else apart.mean(), apart[_TRUNK].mean())
    return bool(nearest < SAME_BODY * min(find.region.radius, other.region.radius))
