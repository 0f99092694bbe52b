"""A hand's fingers as chains of hinges: 21 angles instead of 15 free joints.

A knuckle bends and spreads, two hinges follow it, and a thumb's saddle joint also rolls (Lin, Wu and Huang 2000, "Modeling the
constraints of human hand motion"). The axes are those about which HandIKNet's training poses turn (`synth.hand_poses`).
"""

import numpy as np

from ..contract.frames import MIRROR_TURN, cross
from ..contract.skeleton import FINGERS, HAND_21
from ..contract.swing_twist import about, rotate, transpose, twist_angle, unit
from ..ik.analytic_hand import DIP_FLEXION, MCP_ABDUCTION, MCP_FLEXION, PIP_FLEXION

POINT_ORDER = [0] + [
    HAND_21.index(f"{finger}_{part}")
    for finger in FINGERS
    for part in (("cmc", "mcp", "ip", "tip") if finger == "thumb" else ("mcp", "pip", "dip", "tip"))
]
"""HAND_21's points as they are taken here: the wrist, then each finger's four from its root, in the order of FINGERS."""

THUMB = FINGERS.index("thumb")
BEND, SPREAD, ROLL, MIDDLE, LAST = range(5)
"""A finger's angles: its root's bend about the hinge, spread and roll, then the bends of the two hinges."""

FREE = np.array([[finger == THUMB or angle != ROLL for angle in range(5)] for finger in range(5)])
"""[5, 5] which angles of which finger there are: only a thumb rolls."""

ANGLES = int(FREE.sum())

_PLACES = np.cumsum(FREE).reshape(FREE.shape) - 1
MIDDLES, LASTS = (_PLACES[np.arange(5) != THUMB, angle] for angle in (MIDDLE, LAST))
"""Where the long fingers' hinges are among the 21 angles, [4] each."""

_FINGER_RANGES = np.array([MCP_FLEXION, MCP_ABDUCTION, [0, 0], PIP_FLEXION, DIP_FLEXION])
_THUMB_RANGES = np.radians([[-25, 55], [-45, 35], [-25, 40], [-15, 65], [-25, 85]])
RANGES = np.stack([_THUMB_RANGES if finger == THUMB else _FINGER_RANGES for finger in range(5)])[FREE]
"""[21, 2] rad: lowest and highest of each angle."""

RELAXED = np.radians([[10, 0, 5, 10, 15] if finger == THUMB else [20, 0, 0, 28, 14] for finger in range(5)])[FREE]
"""[21] rad: a hand that does nothing."""

_CLOSING = np.array([unit(np.array([0.1, -0.5, -0.85])) if finger == THUMB else [0.0, -1, 0] for finger in range(5)])
"""[5, 3]: which way a left hand's fingers close at rest. A thumb goes towards the little finger and a little into the palm."""

_MOVES = np.arange(4)[:, None] > np.array([0, 0, 0, 1, 2])
"""[point of a finger, angle]: whether the angle moves the point."""


class Fingers:
    """One hand's fingers in the axes of its palm, the wrist at the origin.

    joints [5, 4, 3] m: each finger's three joints and its tip at rest, in the order of FINGERS; axes [5, 3, 3]: hinge, spread and
    roll of its root as rows. The two other joints have the same hinge.
    """

    def __init__(self, skeleton, side):
        names = [f"{side}_{finger}{part}" for finger in FINGERS for part in ("1", "2", "3", "_tip")]
        self.joints = skeleton.at_rest(names).reshape(5, 4, 3) - skeleton.at_rest([f"{side}_wrist"])
        mirror = np.array([1.0 if side == "left" else -1.0, 1, 1])
        bone = unit(self.joints[:, 1] - self.joints[:, 0]) * mirror
        hinge = unit(cross(bone, _CLOSING))
        axes = np.stack([hinge, cross(hinge, bone), bone], 1)
        self.axes = axes if side == "left" else axes * MIRROR_TURN

    def rotations(self, angles):
        """Parent-relative rotations [T, 15, 3, 3] in SMPL-H's order of angles [T, 21] rad."""
        bend, spread, roll, middle, last = self._turns(angles)
        return np.stack([bend @ spread @ roll, middle, last], 2).reshape(len(angles), 15, 3, 3)

    def _turns(self, angles):
        """Of each finger the turn by each of its angles: five times [T, 5, 3, 3]."""
        whole = np.zeros((len(angles), *FREE.shape))
        whole[:, FREE] = angles
        return [about(self.axes[:, axis], whole[..., angle]) for angle, axis in enumerate((0, 1, 2, 0, 0))]

    def angles(self, rotations):
        """The angles [T, 21] rad of rotations [T, 15, 3, 3], less what none of these joints can do."""
        root, middle, last = np.moveaxis(rotations.reshape(len(rotations), 5, 3, 3, 3), 2, 0)
        # In the right-handed axes (hinge, spread, -roll) the root turns about z, then y, then x.
        to_hand = transpose(self.axes * [[1], [1], [-1]])
        root = transpose(to_hand) @ root @ to_hand
        whole = [
            np.arctan2(-root[..., 1, 2], root[..., 2, 2]),
            np.arcsin(np.clip(root[..., 0, 2], -1, 1)),
            np.arctan2(root[..., 0, 1], root[..., 0, 0]),
            twist_angle(middle, self.axes[:, 0]),
            twist_angle(last, self.axes[:, 0]),
        ]
        return np.stack(whole, -1)[:, FREE]

    def points(self, angles):
        """Points [T, 21, 3] m in the order of POINT_ORDER in the palm's axes."""
        return self._posed(angles)[0]

    def points_and_derivatives(self, angles):
        """The points, and their derivatives [T, 21, 3, 21] m/rad by the angles."""
        points, axes = self._posed(angles)
        chains = points[:, 1:].reshape(-1, 5, 4, 3)
        arms = chains[:, :, :, None] - chains[:, :, None, [0, 0, 0, 1, 2]]
        moved = cross(axes[:, :, None], arms) * _MOVES[:, :, None]  # [T, finger, point, angle, 3]
        fingers = np.arange(5)
        derivatives = np.zeros((len(points), 5, 4, 3, 5, 5))
        derivatives[:, fingers, :, :, fingers] = moved.transpose(1, 0, 2, 4, 3)
        whole = np.zeros((len(points), 21, 3, ANGLES))
        whole[:, 1:] = derivatives.reshape(-1, 20, 3, FREE.size)[..., FREE.ravel()]
        return points, whole

    def _posed(self, angles):
        """Points [T, 21, 3] m, and the axes [T, finger, angle, 3] about which the angles turn what comes after them."""
        bend, spread, roll, middle, last = self._turns(angles)
        spreading = bend @ spread
        root = spreading @ roll
        bones = np.diff(self.joints, axis=1)
        points = [np.broadcast_to(self.joints[:, 0], bend.shape[:-1])]
        for bone, orientation in enumerate((root, root @ middle, root @ middle @ last)):
            points.append(points[-1] + rotate(orientation, bones[:, bone]))
        hinge = rotate(root, self.axes[:, 0])
        first = np.broadcast_to(self.axes[:, 0], hinge.shape)
        axes = np.stack([first, rotate(bend, self.axes[:, 1]), rotate(spreading, self.axes[:, 2]), hinge, hinge], 2)
        chains = np.stack(points, 2).reshape(len(angles), 20, 3)
        return np.concatenate([np.zeros((len(angles), 1, 3)), chains], 1), axes
