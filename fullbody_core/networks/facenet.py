"""FaceNet: a face crop to 3DMM parameters, light and pose in one pass (Zhou et al. 2021, Sec. 3.4; Tewari et al. 2017).

Beyond the paper's shape, expression, albedo and illumination it gives the head's rotation and where the face is in the crop, so
that its landmarks need no fit. The crop's camera looks through the middle of the crop; the size of the face in the crop and how
near it is stand for a focal length, which a crop does not show.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..contract.npz_file import FileError
from ..contract.skeleton import MESH_POINTS
from ..weights import fill_network
from .iknet import rotation_from_6d
from .resnet import ConvNorm, stage

FORMAT_NAME, FORMAT_VERSION = "fullbody-facenet", 1

INPUT_SIZE = 128
"""px of a crop."""

BOX_MARGIN = 1.25
"""Side of a crop over the longer side of the upright rectangle around the 468 points of the face's skin."""

STEM, WIDTHS, BLOCKS = 32, (32, 64, 128, 256), (1, 2, 2, 1)
"""Channels at a half of the crop's resolution; channels and residual blocks at 1/4, 1/8, 1/16 and 1/32."""

SQUEEZED, HIDDEN = 64, 384
"""Channels of the coarsest map, cell by cell, and numbers that all answers are read from."""

EXPRESSION_SPREAD = 0.25
"""Standard deviation of expression coefficients, about, over how far they reach."""

LIGHT_LEVEL, LIGHT_LEVEL_SPREAD, LIGHT_SPREAD = 3.8, 0.5, (0.14,) * 3 + (0.055,) * 5
"""Median of the ambient coefficient, standard deviation of its logarithm, and those of the others relative to it."""

PLACE_MEAN, PLACE_SPREAD, NEAREST = (0.0, 0.0, 2.04, 1.5), (0.15, 0.15, 0.15, 0.8), 5.0
"""Means and standard deviations of `FaceNetPose.place`, and the largest nearness, 1 / m."""

LIGHTS, SIX, PLACE = 27, 6, 4

REFERENCE_SIZE, SAME_FACE = 4, 0.05
"""Numbers by which a component is known again, and how far all of them may differ relative to their size."""


class FaceNetPose(NamedTuple):
    """shape [N, S]; expression [N, E]; albedo [N, A]; illumination [N, 3, 9] in camera axes; rotation [N, 3, 3] from the face's
    frame to the camera's; place [N, 4]: where the face's middle is in the crop (x, y from -1 to 1), logarithm of the crop's
    half-widths per metre there, and 1 / m of its distance."""

    shape: torch.Tensor
    expression: torch.Tensor
    albedo: torch.Tensor
    illumination: torch.Tensor
    rotation: torch.Tensor
    place: torch.Tensor


class FaceNet(nn.Module):
    """Pictures [N, 3, 128, 128] RGB 0..1 to a `FaceNetPose`. Every input gives a finite answer."""

    def __init__(self, shape_size, expression_limits, albedo_size):
        """expression_limits [E, 2]: lowest and highest coefficient of each expression."""
        super().__init__()
        limits = torch.as_tensor(np.asarray(expression_limits), dtype=torch.float32)
        self.sizes = [shape_size, len(limits), albedo_size, LIGHTS, SIX, PLACE]
        self.stem = ConvNorm(3, STEM, stride=2)
        channels = (STEM, *WIDTHS)
        self.stages = nn.Sequential(*(stage(*pair, count) for *pair, count in zip(channels, channels[1:], BLOCKS)))
        self.squeeze = ConvNorm(WIDTHS[-1], SQUEEZED, kernel=1)
        cells = (INPUT_SIZE // 32) ** 2
        self.hidden = nn.Linear(cells * SQUEEZED, HIDDEN)
        self.leave = nn.Linear(HIDDEN, sum(self.sizes))
        nn.init.normal_(self.leave.weight, std=1e-2)
        nn.init.zeros_(self.leave.bias)
        self.register_buffer("limits", limits)
        for name, values in (
            ("light_spread", LIGHT_SPREAD),
            ("place_mean", PLACE_MEAN),
            ("place_spread", PLACE_SPREAD),
            # 6D of a head that looks into the camera: a fresh network answers with the mean face, from the front.
            ("frontal", (1.0, 0, 0, 0, -1, 0)),
        ):
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def forward(self, pictures):
        hidden = functional.relu(self.stem(4 * (pictures - 0.5)))  # [N, stem, 64, 64]
        hidden = functional.relu(self.squeeze(self.stages(hidden)))  # [N, squeezed, 4, 4]
        hidden = functional.relu(self.hidden(hidden.flatten(1)))
        shape, expression, albedo, light, six, place = self.leave(hidden).float().split(self.sizes, 1)
        return FaceNetPose(
            shape=shape,
            expression=self.bounded(EXPRESSION_SPREAD * expression * self.limits.abs().amax(1)),
            albedo=albedo,
            illumination=self.light(light.unflatten(1, (3, 9))),
            rotation=rotation_from_6d(0.3 * six + self.frontal),
            place=self.within_reach(self.place_mean + self.place_spread * place),
        )

    def bounded(self, expression):
        """Expressions within their limits; the gradient passes as if there were none, or a coefficient would stay at its limit."""
        return expression + (expression.clamp(self.limits[:, 0], self.limits[:, 1]) - expression).detach()

    def light(self, numbers):
        """Illumination [N, 3, 9] of numbers [N, 3, 9] of about unit size: positive ambient light, the rest in proportion to it."""
        level = LIGHT_LEVEL * (LIGHT_LEVEL_SPREAD * numbers[..., :1].clamp(-8, 8)).exp()
        return torch.cat([level, level.mean(1, keepdim=True) * self.light_spread * numbers[..., 1:]], -1)

    def within_reach(self, place):
        """A place whose size and nearness cannot run away, again with the gradient of none."""
        lowest, highest = torch.tensor([-4.0, -4, -1, 0]), torch.tensor([4.0, 4, 5, NEAREST])
        return place + (place.clamp(lowest.to(place), highest.to(place)) - place).detach()

    def to_tensors(self, face):
        """(tensors in half precision, text metadata) to store, for the `MorphableModel` it was trained on."""
        tensors = {name: value.detach().half().contiguous() for name, value in self.state_dict().items()}
        metadata = {"format": FORMAT_NAME, "version": str(FORMAT_VERSION), **face_identity(face)}
        return tensors | {"reference": torch.as_tensor(face_reference(face))}, metadata

    @classmethod
    def from_tensors(cls, tensors, metadata):
        """(network, reference) from what `to_tensors` gave. Raises `FileError` that names the first misfit."""
        if metadata.get("format") != FORMAT_NAME or metadata.get("version") != str(FORMAT_VERSION):
            raise FileError(f"These are not FaceNet weights of format {FORMAT_VERSION}, got {metadata.get('format')!r}.")
        try:
            shape, expression, albedo = (int(metadata[name]) for name in ("shape", "expression", "albedo"))
        except (KeyError, ValueError) as error:
            raise FileError("The FaceNet weights do not say how many coefficients they give.") from error
        if not (0 <= min(shape, expression, albedo) and max(shape, expression, albedo) < 10_000):
            raise FileError(f"FaceNet weights for {shape}, {expression} and {albedo} coefficients cannot be.")
        beside = [("reference", (shape + expression + albedo, REFERENCE_SIZE))]
        network = fill_network(cls(shape, np.zeros((expression, 2)), albedo), tensors, "FaceNet", beside)
        return network, tensors["reference"].float().numpy()


def face_identity(face):
    """What a file of weights says of the `MorphableModel` that its numbers are coefficients of, text by name."""
    return {
        "face": str(face.meta.get("name", "")),
        "produced_by": str(face.meta.get("produced_by", "")),
        "shape": str(face.shape_size),
        "expression": str(face.expression_size),
        "albedo": str(face.albedo_size),
    }


def face_reference(face):
    """What each component of a `MorphableModel` does, in a few numbers [S + E + A, REFERENCE_SIZE]: other components, or the same
    ones in another order or with another sign, give others."""
    # Waves over the mesh points: any fixed numbers do that are not alike.
    waves = np.cos(np.arange(1, 3 * MESH_POINTS + 1)[:, None] * (0.37 + 0.61 * np.arange(REFERENCE_SIZE)))
    points = face.mesh_points
    colours = np.einsum("apcx,pc->apx", face.albedo_basis[:, face.mesh_vertices], face.mesh_weights)
    rows = [basis.reshape(len(basis), -1) @ waves for basis in (points.shape_basis, points.expression_basis, colours)]
    return np.concatenate(rows).astype(np.float32)


def same_face(reference, other):
    """Whether two `face_reference`s are of one model: as baked on different machines, say, but never two different ones."""
    if reference.shape != other.shape:
        return False
    return bool(np.linalg.norm(reference - other) <= SAME_FACE * np.linalg.norm(reference))


class FacePoints(nn.Module):
    """Points of a 3DMM's surface from a `FaceNetPose`: in the face's frame, and in the crop."""

    def __init__(self, face, points=None):
        """points: `MorphablePoints` of the `MorphableModel` face, by default its mesh points."""
        super().__init__()
        points = face.mesh_points if points is None else points
        moves = np.concatenate([points.shape_basis, points.expression_basis])
        for name, values in (
            ("mean", points.mean),
            ("moves", moves.reshape(len(moves), -1)),
            ("middle", face_middle(face)),
        ):
            self.register_buffer(name, torch.as_tensor(np.asarray(values, np.float32)), persistent=False)

    def forward(self, shape, expression):
        """Places [N, P, 3] m."""
        return self.mean + (torch.cat([shape, expression], 1) @ self.moves).unflatten(1, (-1, 3))

    def in_crop(self, places, rotation, place):
        """Places [N, P, 3] of the face's frame in the crop [N, P, 2], from -1 (left, top) to 1: exactly in perspective."""
        turned = (places - self.middle) @ rotation.transpose(1, 2)
        size, nearness = place[:, None, 2:3].exp(), place[:, None, 3:]
        return (place[:, None, :2] + size * turned[..., :2]) / (1 + nearness * turned[..., 2:]).clamp(min=0.1)


def face_middle(face):
    """The point [3] m of the face's frame by which FaceNet places a face: the middle of its mesh points, or of its vertices."""
    known = face.has_mesh_points[:468]
    return (face.mesh_points.mean[:468][known] if known.any() else face.mean).mean(0)
