"""A face's shape, expression, albedo, light and pose from pictures by FaceNet (Zhou et al. 2021, Sec. 3.4).

`face_box` and `coarse_face_box` say where to look: around the landmarks, or around the head's few points of a body detector,
which the paper calls tight and coarse.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..camera import crop_to_camera_rotation, rays
from ..detect.crops import cut
from ..networks.facenet import BOX_MARGIN, INPUT_SIZE, FaceNet, FacePoints, face_reference, same_face
from ..networks.resnet import fold_batch_norms
from ..weights import WeightsUnsuited, load_shipped, read_tensors
from .illumination import sh_basis

WEIGHTS_ID = "facenet"

FURTHEST_NEARNESS = 0.1
"""1 / m: what is farther than ten metres counts as ten metres away."""

CHUNK = 64
"""Faces in one call: as fast as any larger number."""

HEAD_POINTS = tuple(
    f"{side}_{name}" for side in ("left", "right") for name in ("eye_inner", "eye_centre", "eye_outer", "ear", "mouth")
) + ("nose",)
"""BlazePose's points of the head."""

COARSE_SIDE, COARSE_DOWN = 3.65, 0.032
"""Side of a coarse box over how far the head's points reach from their middle, and how far the box's middle lies below that, in
sides: what puts it about where tight boxes are, on videos of four people."""


@dataclass
class FaceEstimate:
    """What FaceNet says of N faces.

    shape [N, S]; expression [N, E]; albedo [N, A]
    illumination [N, 3, 9] in camera axes; rotation [N, 3, 3] from the face's frame to the camera's; translation [N, 3] m
    mesh [N, 478, 2] px: the face mesh in the whole picture; mesh3d [N, 478, 3] m in the face's frame
    looked_at [N, 2] px: the middle of its crop; middle [N, 2] px: where the face's `centre` [3] m is seen; scale [N] px for a
        metre there; focal [N] px: how long a lens the face looks as if seen through, which one frame hardly shows: see `lens`
    """

    shape: np.ndarray
    expression: np.ndarray
    albedo: np.ndarray
    illumination: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    mesh: np.ndarray
    mesh3d: np.ndarray
    looked_at: np.ndarray
    middle: np.ndarray
    scale: np.ndarray
    focal: np.ndarray
    centre: np.ndarray

    def __len__(self):
        return len(self.shape)

    def lens(self, image_size):
        """Intrinsics [3, 3] px of the camera that most frames of a clip look as if taken by: see `FaceMotion.matrix`."""
        longest = max(image_size)
        focal = float(np.clip(np.median(self.focal), 0.5 * longest, 8 * longest)) if len(self) else float(longest)
        return np.array([[focal, 0, image_size[0] / 2], [0, focal, image_size[1] / 2], [0, 0, 1]])

    def seen_by(self, matrix):
        """The same in the axes of one camera of intrinsics [3, 3] px, at distances at which its faces are as large as these.

        To be asked of what `predict` gives without a camera, in the axes of each face's own crop.
        """
        turn = crop_to_camera_rotation(self.looked_at, matrix)
        rotation = turn @ self.rotation
        distance = matrix[0, 0] / self.scale
        translation = distance[:, None] * rays(self.middle, matrix) - rotation @ self.centre
        return replace(self, rotation=rotation, translation=translation, illumination=turn_light(self.illumination, turn))


class FaceNetPredictor:
    """FaceNet with its weights, for one 3DMM. sha256: of the weights' file where they are the shipped ones."""

    def __init__(self, network, face, device="cpu", sha256=None):
        """network: `FaceNet`, which is taken over; face: the `MorphableModel` it was trained on."""
        self.device, self.sha256 = torch.device(device), sha256
        self.network = fold_batch_norms(network.eval()).to(self.device, memory_format=torch.channels_last)
        self.points = FacePoints(face).to(self.device)

    @classmethod
    def load(cls, face, path=None, device="cpu"):
        """With the shipped weights, or those of a file. Raises `WeightsUnsuited` where they are for another `MorphableModel`,
        and `WeightsError` or `FileError` where they cannot be used at all."""
        sha256 = None
        if path is None:
            tensors, metadata, sha256 = load_shipped(WEIGHTS_ID)
        else:
            tensors, metadata = read_tensors(path)
        network, reference = FaceNet.from_tensors(tensors, metadata)
        if not same_face(reference, face_reference(face)):
            raise WeightsUnsuited(
                f"FaceNet was trained on another face model, {metadata.get('face') or 'without a name'}: train it on this one "
                "with 'fullbody train facenet'."
            )
        return cls(network, face, device, sha256)

    @torch.inference_mode()
    def predict(self, images, boxes, matrix=None):
        """`FaceEstimate` of one face a picture.

        images: RGB uint8 [H, W, 3] each; boxes [N, 4] px (left, top, right, bottom) around the faces, as `face_box` gives them;
        matrix [3, 3] px: the camera's intrinsics; without them each face is given in the axes of its own crop, as if it was in the
        middle of the picture. Raises ValueError for boxes that are not finite or not as many as pictures.
        """
        boxes = square_boxes(boxes)
        if len(images) != len(boxes):
            raise ValueError(f"There should be a box for each picture, got {len(boxes)} for {len(images)}.")
        parts = [] if len(boxes) else [self._estimate(torch.zeros(0, 3, INPUT_SIZE, INPUT_SIZE), boxes)]
        for start in range(0, len(boxes), CHUNK):
            part = boxes[start : start + CHUNK]
            crops = [cut(images[start + index], _rectangle(box), (INPUT_SIZE, INPUT_SIZE)) for index, box in enumerate(part)]
            parts.append(self._estimate(torch.as_tensor(np.stack(crops)).permute(0, 3, 1, 2), part))
        joined = {name: np.concatenate(values) for name, *values in zip(parts[0], *(part.values() for part in parts))}
        estimate = FaceEstimate(**joined, centre=self.points.middle.double().cpu().numpy())
        return estimate if matrix is None else estimate.seen_by(matrix)

    def _estimate(self, crops, boxes):
        pictures = (crops.to(self.device).float() / 255).contiguous(memory_format=torch.channels_last)
        pose = self.network(pictures)
        places = self.points(pose.shape, pose.expression)
        shown = self.points.in_crop(places, pose.rotation, pose.place)
        values = [value.double().cpu().numpy() for value in (*pose, places, shown)]
        shape, expression, albedo, light, rotation, place, mesh3d, shown = values
        middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        size, distance = np.exp(place[:, 2:3]), 1 / np.maximum(place[:, 3:], FURTHEST_NEARNESS)
        centre = np.concatenate([place[:, :2] / size, distance], 1)
        return {
            "shape": shape,
            "expression": expression,
            "albedo": albedo,
            "illumination": light,
            "rotation": rotation,
            "translation": centre - rotation @ self.points.middle.double().cpu().numpy(),
            "mesh": middle[:, None] + half[:, None] * shown,
            "mesh3d": mesh3d,
            "looked_at": middle,
            "middle": middle + half * place[:, :2],
            "scale": (half * size)[:, 0],
            "focal": (half * size * distance)[:, 0],
        }


def turn_light(illumination, rotations):
    """Light [N, 3, 9] in the axes that rotations [N, 3, 3] lead to: what shone on n shines on R n."""
    # Any directions do that tell nine harmonics apart.
    golden, height = 2.39996 * np.arange(32), 1 - (np.arange(32) + 0.5) / 16
    ring = np.sqrt(1 - height**2)
    directions = np.stack([ring * np.cos(golden), ring * np.sin(golden), height], -1)
    shown = sh_basis(directions @ rotations) @ np.swapaxes(illumination, -1, -2)  # of R^T n: [N, 32, 3]
    return np.swapaxes(np.linalg.pinv(sh_basis(directions)) @ shown, -1, -2)


def face_box(mesh):
    """Square boxes [..., 4] px (left, top, right, bottom) around face meshes [..., 478, 2 or 3] px, as FaceNet was trained on."""
    skin = np.asarray(mesh, float)[..., :468, :2]
    low, high = skin.min(-2), skin.max(-2)
    half = BOX_MARGIN / 2 * (high - low).max(-1, keepdims=True)
    return np.concatenate([(low + high) / 2 - half, (low + high) / 2 + half], -1)


def coarse_face_box(keypoints):
    """Square boxes [..., 4] px from the head's points of `Keypoints` with BlazePose's body; NaN where the body was not found."""
    definition = keypoints.definition
    points = keypoints.body2d[..., [definition.index(name) for name in HEAD_POINTS], :]
    middle = points.mean(-2)
    # How far they spread hardly changes as a head turns, other than the distance of any two of them.
    size = np.linalg.norm(points - middle[..., None, :], axis=-1).max(-1, keepdims=True)
    eyes, mouth = (
        np.mean([keypoints.body2d[..., definition.index(f"{side}_{name}"), :] for side in ("left", "right")], 0)
        for name in ("eye_centre", "mouth")
    )
    up = eyes - mouth
    up = up / np.maximum(np.linalg.norm(up, axis=-1, keepdims=True), 1e-6)
    half = COARSE_SIDE * size / 2
    middle = middle - COARSE_DOWN * 2 * half * up
    found = keypoints.body_confidence.any(-1)[..., None] & (size > 0)
    return np.where(found, np.concatenate([middle - half, middle + half], -1), np.nan)


def square_boxes(boxes):
    """Boxes [N, 4] px made square about their middles. Raises ValueError for what is not finite or has no area."""
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    half = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2 if len(boxes) else np.zeros((0, 1))
    if not np.isfinite(boxes).all() or (half <= 0).any():
        raise ValueError("A face's box should be finite and have an area.")
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([middle - half, middle + half], 1)


def _rectangle(box):
    return (*box[:2], *(box[2:] - box[:2]))
