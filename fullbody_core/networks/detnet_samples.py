"""The one sample format that DetNet is trained and evaluated on, whatever the sample comes from.

A sample is what DetNet sees after its own cropping: the low-resolution image I, and both hands cut from the high-resolution image
I_h. Nobody ever needs I_h itself, so renderers draw the two apart, and readers of datasets cut them from the original picture.

Pixels are continuous: the centre of the first pixel is (0.5, 0.5). All 2D places are in pixels of I, 192 wide and 256 high, also
those of the hands: `hand_boxes` says which square of I a hand image shows. 3D axes are parallel to a camera that looks along the
line of sight through the middle of the picture the part is read from (I for a body, its hand image for a hand): x right, y down,
z away.
"""

from dataclasses import dataclass, fields

import numpy as np

from ..contract.skeleton import HAND_21
from .body_keypoints import DEFINITION_NAMES, EXTENDED_BODIES, MOST_KEYPOINTS
from .detnet import CELL, HAND_SIZE, IMAGE_SIZE

FACE_POINTS = 68
"""Places for face landmarks; unknown ones fill up."""

BOX_SHARE = 0.8
"""How far from the middle of a face's box to its edge landmarks commonly lie."""

HAND_ROOT, HAND_UNIT = HAND_21.index("middle_mcp"), (HAND_21.index("wrist"), HAND_21.index("middle_mcp"))
"""The hand's root keypoint, and the bone whose length is the unit of its 3D coordinates (supplementary Sec. 3, PoseNet)."""


@dataclass
class DetNetSamples:
    """One sample, or N of them when every array has a leading N axis.

    definition [] int                index into DEFINITION_NAMES: which extended keypoints follow the basic ones
    image [256, 192, 3] uint8        I, RGB; black for a hand-only sample
    hand_images [2, 128, 128, 3] uint8   left hand first; the right one is not flipped
    hand_boxes [2, 3] float32        (u, v, w): left, top and width in cells, the square of I that the hand image shows, anywhere
                                     inside the maps; zeros where there is no hand image
    body2d [33, 2] float32           px; the basic keypoints, then the definition's extended ones, then zeros
    body3d [33, 3] float32           m from the pelvis
    body_known2d, body_known3d [33] bool   what is annotated. A known point may lie outside the image or be hidden
    hand2d [2, 21, 2] float32        px of I
    hand3d [2, 21, 3] float32        m or any other unit, from any origin
    hand_known2d, hand_known3d [2, 21] bool
    hand_map_known [2] bool          whether it is known where in I the hand is, or that it is not there: trains the heat-map
    face2d [68, 2] float32           px; face landmarks, in no particular order
    face_known [68] bool
    face_map_known [] bool           as hand_map_known
    body_present [] bool             the attention channel: False for hand-only samples
    """

    definition: np.ndarray
    image: np.ndarray
    hand_images: np.ndarray
    hand_boxes: np.ndarray
    body2d: np.ndarray
    body3d: np.ndarray
    body_known2d: np.ndarray
    body_known3d: np.ndarray
    hand2d: np.ndarray
    hand3d: np.ndarray
    hand_known2d: np.ndarray
    hand_known3d: np.ndarray
    hand_map_known: np.ndarray
    face2d: np.ndarray
    face_known: np.ndarray
    face_map_known: np.ndarray
    body_present: np.ndarray

    def __len__(self):
        return len(self.image)

    @classmethod
    def blank(cls, definition="smpl", count=None):
        """A sample (or `count` of them) of which nothing is known, to be filled in."""
        lead = () if count is None else (count,)
        width, height = IMAGE_SIZE
        return cls(
            definition=np.full(lead, DEFINITION_NAMES.index(definition), np.int64),
            image=np.zeros((*lead, height, width, 3), np.uint8),
            hand_images=np.zeros((*lead, 2, HAND_SIZE, HAND_SIZE, 3), np.uint8),
            hand_boxes=np.zeros((*lead, 2, 3), np.float32),
            body2d=np.zeros((*lead, MOST_KEYPOINTS, 2), np.float32),
            body3d=np.zeros((*lead, MOST_KEYPOINTS, 3), np.float32),
            body_known2d=np.zeros((*lead, MOST_KEYPOINTS), bool),
            body_known3d=np.zeros((*lead, MOST_KEYPOINTS), bool),
            hand2d=np.zeros((*lead, 2, len(HAND_21), 2), np.float32),
            hand3d=np.zeros((*lead, 2, len(HAND_21), 3), np.float32),
            hand_known2d=np.zeros((*lead, 2, len(HAND_21)), bool),
            hand_known3d=np.zeros((*lead, 2, len(HAND_21)), bool),
            hand_map_known=np.zeros((*lead, 2), bool),
            face2d=np.zeros((*lead, FACE_POINTS, 2), np.float32),
            face_known=np.zeros((*lead, FACE_POINTS), bool),
            face_map_known=np.zeros(lead, bool),
            body_present=np.zeros(lead, bool),
        )

    @classmethod
    def stack(cls, samples):
        """N single samples as one with a leading axis."""
        return cls(*(np.stack([getattr(sample, item.name) for sample in samples]) for item in fields(cls)))

    @classmethod
    def concatenate(cls, batches):
        """Several batches as one."""
        return cls(*(np.concatenate([getattr(batch, item.name) for batch in batches]) for item in fields(cls)))

    def take(self, index):
        """The samples that a slice or an array of indices picks, or the single one of an int."""
        return DetNetSamples(*(getattr(self, item.name)[index] for item in fields(self)))

    def extended_body(self):
        """The `ExtendedBody` of a single sample."""
        return EXTENDED_BODIES[DEFINITION_NAMES[int(self.definition)]]


def image_to_hand(points, box):
    """Pixels of I [..., N, 2] as pixels of the hand image that shows box [..., 3] (u, v, w in cells)."""
    return (points - CELL * box[..., None, :2]) * (HAND_SIZE / (CELL * box[..., None, 2:]))


def hand_to_image(points, box):
    """Pixels of a hand image [..., N, 2] as pixels of I."""
    return points * (CELL * box[..., None, 2:] / HAND_SIZE) + CELL * box[..., None, :2]


def face_of_box(box):
    """(face2d [68, 2], face_known [68]) that stand for a face of which only the box [4] px (left, top, right, bottom) is annotated.

    Its heat-map is then that of twelve points on an ellipse in the box and of its middle.
    """
    box = np.asarray(box, np.float32)
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.concatenate([np.stack([np.cos(angles), np.sin(angles)], -1), np.zeros((1, 2))])
    face2d, known = np.zeros((FACE_POINTS, 2), np.float32), np.zeros(FACE_POINTS, bool)
    face2d[: len(ring)] = (box[:2] + box[2:]) / 2 + BOX_SHARE * ring * (box[2:] - box[:2]) / 2
    known[: len(ring)] = True
    return face2d, known
