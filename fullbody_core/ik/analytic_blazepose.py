"""The closed form's trunk, head and feet from BlazePose's points, most of which lie on the surface."""

import numpy as np

from ..contract.skeleton import JOINT_INDEX
from ..contract.swing_twist import axes_rotation, blend_directions, fraction_of, limit_angle, reject, transpose, unit
from .analytic_limbs import COLLAR_LIMIT, LEFT, NECK_LIMIT, UP, LimbSolver
from .face_mesh import found_heads

EYES_ABOVE_MOUTH = np.array([0.0, np.cos(np.radians(9)), -np.sin(np.radians(9))])
"""From the mouth's corners to the eyes on an upright head: the mouth lies about 9 degrees further forward."""

FOOT_SLOPE = np.radians(15)
"""How much lower than its heel BlazePose puts the toe of a flat foot: 12 to 30 degrees on standing people, and less seen from
the side."""


class BlazePoseSolver(LimbSolver):
    """Reads BLAZEPOSE_33."""

    def torso(self):
        """Pelvis from the hip line, chest from the shoulder line, the spine's three joints sharing what lies between."""
        hips = self.point("left_hip") - self.point("right_hip")
        shoulders = self.point("left_shoulder") - self.point("right_shoulder")
        up = (
            self.point("left_shoulder") + self.point("right_shoulder") - self.point("left_hip") - self.point("right_hip")
        ) / 2
        # With the hips out of the picture the trunk is taken to be upright, and with nobody in it to face the camera.
        hips_seen = self.seen("left_hip", "right_hip", given_up=(0.001, 0.05))
        up = blend_directions(up, [0.0, -1, 0], hips_seen)
        shoulders = blend_directions(shoulders, [1.0, 0, 0], self.seen("left_shoulder", "right_shoulder"))
        hips = blend_directions(hips, shoulders, hips_seen)
        rest_up = self._middle("left_shoulder", "right_shoulder") - self._middle("left_hip", "right_hip")
        pelvis = axes_rotation(LEFT, rest_up, hips, up)
        along_spine = axes_rotation(rest_up, LEFT, up, shoulders)
        along_shoulders = axes_rotation(LEFT, rest_up, shoulders, up)
        # A slanting shoulder line is half a leaning chest and half raised collars; without hips to say, all of it is the chest.
        chest = along_spine @ fraction_of(transpose(along_spine) @ along_shoulders, 1 - 0.5 * hips_seen)
        collar = chest @ limit_angle(transpose(chest) @ along_shoulders, COLLAR_LIMIT)
        self.orientation["collar"] = np.stack([collar, collar], 1)
        self.share(("spine1", "spine2", "spine3"), pelvis, transpose(pelvis) @ chest)
        self.orientation["pelvis"] = pelvis

    def head(self):
        """Head from the face where that says it, else from BlazePose's eyes, ears and mouth; the neck takes half."""
        chest = self.orientation["spine3"]
        ears = self.point("left_ear") - self.point("right_ear")
        eyes = self.point("left_eye_centre") + self.point("right_eye_centre")
        eyes_above_mouth = (eyes - self.point("left_mouth") - self.point("right_mouth")) / 2
        head = axes_rotation(LEFT, EYES_ABOVE_MOUTH, ears, eyes_above_mouth)
        head = np.where(found_heads(self.keypoints)[:, None, None], self.keypoints.head_rotation, head)
        relative = limit_angle(transpose(chest) @ head, NECK_LIMIT)
        relative = fraction_of(relative, self.seen("nose"))
        self.share(("neck", "head"), chest, relative)

    def feet(self):
        """From heel to toe."""
        level = unit(reject(self.both_rest_bones("ankle", "foot"), UP))
        rest = np.cos(FOOT_SLOPE) * level - np.sin(FOOT_SLOPE) * UP
        return self.both("foot_index") - self.both("heel"), rest, self.both_seen("heel", "foot_index")

    def _middle(self, a, b):
        return (self.rest_joints[JOINT_INDEX[a]] + self.rest_joints[JOINT_INDEX[b]]) / 2
