"""Surface points by name on a body of SMPL-H's joints whose maker does not name any: the names that the open body has.

On SMPL's own surface of 6890 vertices the numbers of some are known (smplx and OpenPose's users share them). The others, and all
on any other surface, are found by shape: ends of the head, the hands and the feet, and on the face by its usual proportions.
"""

import numpy as np

from ..contract.skeleton import JOINT_INDEX, SIDES
from ..contract.surface import vertex_normals

_SMPL_SIZE = (6890, 13776)
_SMPL_VERTICES = {
    "nose": 332,
    "left_eye": 2800, "left_ear": 583, "left_big_toe": 3216, "left_little_toe": 3226, "left_heel": 3387,
    "left_thumb_tip": 2746, "left_index_tip": 2319, "left_middle_tip": 2445, "left_ring_tip": 2556, "left_pinky_tip": 2673,
    "right_eye": 6260, "right_ear": 4071, "right_big_toe": 6617, "right_little_toe": 6624, "right_heel": 6787,
    "right_thumb_tip": 6191, "right_index_tip": 5782, "right_middle_tip": 5905, "right_ring_tip": 6016, "right_pinky_tip": 6133,
}  # fmt: skip

_ON_THE_FACE = {"eye": (0.34, 0.27), "eye_inner": (0.18, 0.23), "eye_outer": (0.54, 0.22), "mouth": (0.28, -0.21)}
"""Places beside and above the nose's tip: in half the distance of the ears, and in the height from there to the top of the head."""

FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def find_landmarks(vertices, faces, joints, weights):
    """{name: vertex} of a body's mean surface in the T-pose.

    vertices [V, 3] and joints [52, 3] m; faces [F, 3]; weights [V, 52]. An eye is the middle of its front; a knuckle (index_mcp,
    pinky_mcp) is on the back of the hand above the joint.
    """
    vertices, owner = np.asarray(vertices, float), np.asarray(weights).argmax(1)
    places = _Places(vertices, vertex_normals(vertices, np.asarray(faces)), joints, owner)
    landmarks = {"head_top": places.extreme("head", [0, 1, 0]), "nose": places.nose()}
    for side in SIDES:
        landmarks |= {f"{side}_{name}": vertex for name, vertex in places.of_side(side).items()}
    if (len(vertices), len(faces)) == _SMPL_SIZE:
        known = {name: vertex for name, vertex in _SMPL_VERTICES.items() if _is_near(vertices, landmarks[name], vertex)}
        landmarks |= known
    return landmarks


def _is_near(vertices, found, known):
    """Whether a known vertex is about where the shape says: the same vertices in another order would be anywhere."""
    return np.linalg.norm(vertices[found] - vertices[known]) < 0.05


class _Places:
    """Finds places on one surface."""

    def __init__(self, vertices, normals, joints, owner):
        self.vertices, self.normals, self.joints, self.owner = vertices, normals, joints, owner
        self.head = np.flatnonzero(owner == JOINT_INDEX["head"])

    def extreme(self, joint, direction):
        """The vertex, of those that a joint holds most of, that lies farthest in a direction; if there is none, the nearest."""
        members = np.flatnonzero(self.owner == JOINT_INDEX[joint])
        if not len(members):
            return int(np.linalg.norm(self.vertices - self.joints[JOINT_INDEX[joint]], axis=1).argmin())
        return int(members[np.argmax(self.vertices[members] @ np.asarray(direction, float))])

    def nose(self):
        """The foremost of the head near its middle plane."""
        middle = self.joints[JOINT_INDEX["head"], 0]
        near = self.head[np.abs(self.vertices[self.head, 0] - middle) < 0.01]
        return int(near[self.vertices[near, 2].argmax()]) if len(near) else self.extreme("head", [0, 0, 1])

    def of_side(self, side):
        """{name: vertex} of one side, without the side's name."""
        sign = 1 if side == "left" else -1
        found = {
            "ear": self.extreme("head", [sign, 0, 0]),
            "index_mcp": self.above(side, "index1"),
            "pinky_mcp": self.above(side, "pinky1"),
            "big_toe": self.extreme(f"{side}_foot", [-0.3 * sign, 0, 1]),
            "little_toe": self.extreme(f"{side}_foot", [sign, 0, 0.5]),
            "heel": self.extreme(f"{side}_ankle", [0, -0.5, -1]),
        }
        for finger in FINGERS:
            outwards = [sign, 0, 1] if finger == "thumb" else [sign, 0, 0]
            found[f"{finger}_tip"] = self.extreme(f"{side}_{finger}3", outwards)
        return found | {name: self.on_face(sign, *place) for name, place in _ON_THE_FACE.items()}

    def on_face(self, sign, beside, above):
        """The vertex of the face's front nearest to a place beside and above the nose (see _ON_THE_FACE)."""
        nose, top = self.vertices[self.nose()], self.vertices[self.extreme("head", [0, 1, 0])]
        ears = [self.vertices[self.extreme("head", [way, 0, 0]), 0] for way in (1, -1)]
        place = nose[:2] + [sign * beside * (ears[0] - ears[1]) / 2, above * (top[1] - nose[1])]
        front = self.head[self.vertices[self.head, 2] > self.joints[JOINT_INDEX["head"], 2]]
        # The inside of a mouth or a lid looks another way than the skin before it.
        shown = front[self.normals[front, 2] > 0.2]
        return int(shown[np.linalg.norm(self.vertices[shown, :2] - place, axis=1).argmin()]) if len(shown) else self.nose()

    def above(self, side, finger):
        joint = self.joints[JOINT_INDEX[f"{side}_{finger}"]]
        holders = [JOINT_INDEX[f"{side}_{finger}"], JOINT_INDEX[f"{side}_wrist"]]
        upper = np.flatnonzero(np.isin(self.owner, holders) & (self.vertices[:, 1] > joint[1]))
        if not len(upper):
            return int(np.linalg.norm(self.vertices - joint, axis=1).argmin())
        return int(upper[np.linalg.norm((self.vertices[upper] - joint)[:, [0, 2]], axis=-1).argmin()])
