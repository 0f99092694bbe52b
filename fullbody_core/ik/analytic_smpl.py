"""The closed form's trunk, head, feet and palms from the paper's 33 keypoints, most of which are SMPL's own joint centres.

Here the spine, the collars and the neck are bones like others: each one's swing comes from its direction. Their twist, which
nothing shows, is shared out between the pelvis, the chest and the head, whose whole turn is seen.
"""

import numpy as np

from ..contract.skeleton import SIDES
from ..swing_twist import (
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
        for side in SIDES:
            collar = self._swung(f"{side}_collar", f"{side}_shoulder", chest)
            self.orientation[f"{side}_collar"] = chest @ limit_angle(transpose(chest) @ collar, COLLAR_LIMIT)

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

    def foot(self, side):
        """The bone from the ankle to the ball of the foot."""
        ankle, ball = f"{side}_ankle", f"{side}_foot"
        return self.point(ball) - self.point(ankle), self.rest_bone(ankle, ball), self.seen(ankle, ball)

    def leg(self, side):
        """The foot also turns about its bone, as its toes show."""
        super().leg(side)
        toes = [f"{side}_{name}_toe" for name in ("big", "little")]
        rest_across, rest_bone = np.subtract(*self.skeleton.at_rest(toes)), self.rest_bone(f"{side}_ankle", f"{side}_foot")
        shin, foot = self.orientation[f"{side}_knee"], self.orientation[f"{side}_ankle"]
        rolled = axes_rotation(rest_bone, rest_across, rotate(foot, rest_bone), self.point(toes[0]) - self.point(toes[1]))
        foot = foot @ fraction_of(transpose(foot) @ rolled, self.seen(f"{side}_ankle", *toes))
        self.orientation[f"{side}_ankle"] = shin @ limit_angle(transpose(shin) @ foot, ANKLE_LIMIT)
        self.orientation[f"{side}_foot"] = self.orientation[f"{side}_ankle"]

    def palm(self, side):
        """As the hand detector's; where it found no hand, from the body's own wrist and knuckles."""
        palm, found = super().palm(side)
        names = [f"{side}_{name}" for name in ("wrist", "index_mcp", "pinky_mcp")]
        along, across = _palm_axes(*(self.point(name) for name in names))
        rest_along, rest_across = _palm_axes(
            *self.skeleton.at_rest([f"{side}_{name}" for name in ("wrist", "index1", "pinky1")])
        )
        own = axes_rotation(rest_along, rest_across, along, across)
        return np.where(found[:, None, None], palm, own), found | (self.seen(*names) > 0.5)

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
