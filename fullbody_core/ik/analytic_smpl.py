"""The closed form's trunk, head, feet and palms from the paper's 33 keypoints, most of which are SMPL's own joint centres.

Here the spine, the collars and the neck are bones like others: each one's swing comes from its direction. Their twist, which
nothing shows, is shared out between the pelvis, the chest and the head, whose whole turn is seen.
"""

import numpy as np

from ..contract.skeleton import SIDES
from ..contract.swing_twist import (
    axes_rotation,
    blend_directions,
    fraction_of,
    limit_angle,
    nearest_rotation,
    rotate,
    shortest_arc,
    transpose,
)
from .analytic_limbs import ANKLE_LIMIT, COLLAR_LIMIT, LEFT, NECK_LIMIT, UP, LimbSolver
from .face_mesh import found_heads

_HEAD = ("head", "head_top", "left_eye", "right_eye")


class SmplSolver(LimbSolver):
    """Reads SMPL_33."""

    def torso(self):
        """Pelvis from the hip line and the lower spine, chest from the upper spine and the shoulder line."""
        shoulders = self.point("left_shoulder") - self.point("right_shoulder")
        shoulders = blend_directions(shoulders, [1.0, 0, 0], self.seen("left_shoulder", "right_shoulder"))
        hips_seen = self.seen("left_hip", "right_hip", given_up=(0.001, 0.05))
        hips = blend_directions(self.point("left_hip") - self.point("right_hip"), shoulders, hips_seen)
        # What is not seen of the trunk is taken to be upright, and with nobody in the picture to face the camera.
        upright = axes_rotation(UP, LEFT, [0.0, -1, 0], shoulders)
        lower, rest_lower = self._bone("pelvis", "spine1", upright)
        upper, rest_upper = self._bone("spine3", "neck", upright)
        pelvis, chest = axes_rotation(LEFT, rest_lower, hips, lower), axes_rotation(rest_upper, LEFT, upper, shoulders)
        self.orientation["pelvis"] = pelvis
        self.share(("spine1", "spine2", "spine3"), pelvis, transpose(pelvis) @ chest)
        for joint, child in (("spine1", "spine2"), ("spine2", "spine3")):
            self.orientation[joint] = self._swung(joint, child, self.orientation[joint])
        chest = chest[:, None]
        rest = self.both_rest_bones("collar", "shoulder")
        level = rotate(chest, rest)
        bone = blend_directions(self.both("shoulder") - self.both("collar"), level, self.both_seen("collar", "shoulder"))
        collar = shortest_arc(level, bone) @ chest
        self.orientation["collar"] = chest @ limit_angle(transpose(chest) @ collar, COLLAR_LIMIT)

    def head(self):
        """Head from the face where that says it, else from its four points; the neck's twist is half of the head's."""
        chest = self.orientation["spine3"]
        points = np.stack([self.point(name) for name in _HEAD], 1)
        head = nearest_rotation(self.skeleton.at_rest(_HEAD), points)
        head = np.where(found_heads(self.keypoints)[:, None, None], self.keypoints.head_rotation, head)
        relative = fraction_of(limit_angle(transpose(chest) @ head, NECK_LIMIT), self.seen(*_HEAD))
        self.share(("neck", "head"), chest, relative)
        neck = self._swung("neck", "head", self.orientation["neck"])
        neck = chest @ limit_angle(transpose(chest) @ neck, NECK_LIMIT / 2)
        head = neck @ limit_angle(transpose(neck) @ self.orientation["head"], NECK_LIMIT)
        self.orientation["neck"], self.orientation["head"] = neck, head

    def feet(self):
        """The bones from the ankles to the balls of the feet."""
        return self.both("foot") - self.both("ankle"), self.both_rest_bones("ankle", "foot"), self.both_seen("ankle", "foot")

    def legs(self):
        """The feet also turn about their bones, as their toes show."""
        super().legs()
        rest_across, rest_bone = (
            self._at_rest("big_toe") - self._at_rest("little_toe"),
            self.both_rest_bones("ankle", "foot"),
        )
        shin, foot = self.orientation["knee"], self.orientation["ankle"]
        across = self.both("big_toe") - self.both("little_toe")
        rolled = axes_rotation(rest_bone, rest_across, rotate(foot, rest_bone), across)
        foot = foot @ fraction_of(transpose(foot) @ rolled, self.both_seen("ankle", "big_toe", "little_toe"))
        self.orientation["ankle"] = self.orientation["foot"] = shin @ limit_angle(transpose(shin) @ foot, ANKLE_LIMIT)

    def palms(self):
        """As the hand detector's; where it found no hand, from the body's own wrist and knuckles."""
        palms, found = super().palms()
        names = ("wrist", "index_mcp", "pinky_mcp")
        along, across = _palm_axes(*map(self.both, names))
        rest_along, rest_across = _palm_axes(*map(self._at_rest, ("wrist", "index1", "pinky1")))
        own = axes_rotation(rest_along, rest_across, along, across)
        return np.where(found[..., None, None], palms, own), found | (self.both_seen(*names) > 0.5)

    def _at_rest(self, name):
        """A joint or landmark of both sides at rest [2, 3] m, by its name without the side."""
        return self.skeleton.at_rest([f"{side}_{name}" for side in SIDES])

    def _bone(self, joint, child, default):
        """Directions of a bone: as seen [T, 3], else as in the orientation `default` [T, 3, 3]; and at rest [3]."""
        rest = self.rest_bone(joint, child)
        return blend_directions(self.point(child) - self.point(joint), rotate(default, rest), self.seen(joint, child)), rest

    def _swung(self, joint, child, orientation):
        """The orientation [T, 3, 3] turned the shortest way to where the bone points, as far as that is seen."""
        bone, rest = self._bone(joint, child, orientation)
        return shortest_arc(rotate(orientation, rest), bone) @ orientation


def _palm_axes(wrist, index, pinky):
    return (index + pinky) / 2 - wrist, index - pinky
