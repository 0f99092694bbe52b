"""What FaceNet is trained for: the truth of synthetic faces, and landmarks and pixels of real ones (Tewari et al. 2017)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..contract.surface import vertex_normals
from ..face.illumination import linear_to_srgb, sh_basis
from ..face.landmarks import (
    CONTOUR,
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    OUTER_LIP_LOWER,
    OUTER_LIP_UPPER,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
)
from ..networks.facenet import LIGHT_LEVEL, LIGHT_SPREAD, FacePoints, face_middle

WEIGHTS = {
    "points": 80.0, "landmarks": 12.0, "openings": 15.0, "shape": 0.08, "expression": 4.0, "colour": 6.0, "albedo": 0.04,
    "light": 0.15, "rotation": 1.5, "place": 0.5, "pixels": 2.0,
}  # fmt: skip
"""Of the terms for synthetic faces. Lengths are metres, and half-widths of the crop for landmarks, openings and place."""

REAL_WEIGHTS = {"landmarks": 30.0, "openings": 45.0, "pixels": 6.0, "plain": 0.05, "steady": 0.6}
"""Of the terms for real faces; `plain` is the prior that coefficients are small, `steady` that one person is one person."""

CONTOUR_WEIGHT, DETAIL_WEIGHT = 0.3, 2.0
"""Of landmarks where the face turns out of sight, which nobody sees exactly, and of lids and lips."""

PIXELS, OUTLIER = 600, 0.25
"""Vertices of the skin whose colours are compared, and the difference (of 0..1) above which something else is in the way."""

UPPER = (*RIGHT_EYE_UPPER[1:-1], *LEFT_EYE_UPPER[1:-1], *INNER_LIP_UPPER[1:-1])
LOWER = (*RIGHT_EYE_LOWER[1:-1], *LEFT_EYE_LOWER[1:-1], *INNER_LIP_LOWER[1:-1])
"""Points of lids and lips that meet when they shut."""

_DETAIL = (*UPPER, *LOWER, *OUTER_LIP_UPPER, *OUTER_LIP_LOWER)


@dataclass
class FaceTruth:
    """What is known of N synthetic faces, as tensors: as in `FaceNetPose`; points [N, 478, 2]: the mesh in the crop."""

    shape: torch.Tensor
    expression: torch.Tensor
    albedo: torch.Tensor
    illumination: torch.Tensor
    rotation: torch.Tensor
    place: torch.Tensor
    points: torch.Tensor

    @classmethod
    def of(cls, samples, face):
        """That of `FaceSamples` of the `MorphableModel` face."""
        heads = samples.truth
        arrays = (heads.shape, heads.expression, heads.albedo, heads.illumination, heads.rotation)
        arrays += (heads.place(face_middle(face)), samples.points)
        return cls(*(torch.as_tensor(np.asarray(array, np.float32)) for array in arrays))

    def to(self, device):
        """The same on a device."""
        return FaceTruth(*(value.to(device) for value in vars(self).values()))


class FaceNetLoss(nn.Module):
    """The terms of the loss for one 3DMM."""

    def __init__(self, face, seed=0):
        super().__init__()
        self.points = FacePoints(face)
        rng = np.random.default_rng(seed)
        skin = face.region("skin") > 0.5 if face.region("skin").any() else np.ones(len(face.mean), bool)
        chosen = rng.choice(np.flatnonzero(skin), min(PIXELS, int(skin.sum())), replace=False)
        self.surface = FacePoints(face, face.at(chosen[:, None], np.ones((len(chosen), 1))))
        weights = np.where(face.has_mesh_points, 1.0, 0.0)
        weights[list(CONTOUR)] *= CONTOUR_WEIGHT
        weights[list(_DETAIL)] *= DETAIL_WEIGHT
        normals = vertex_normals(face.mean.astype(float), face.triangles)[chosen]
        expression_reach = np.abs(face.expression_limits).max(1) if face.expression_size else np.ones(0)
        pairs = [pair for pair in zip(UPPER, LOWER) if face.has_mesh_points[list(pair)].all()]
        self.upper, self.lower = (list(column) for column in zip(*pairs)) if pairs else ([], [])
        for name, values in (
            ("point_weights", weights / max(weights.sum(), 1e-6)),
            ("normals", normals),
            ("colour_mean", face.albedo_mean[chosen]),
            ("colours", face.albedo_basis[:, chosen].reshape(face.albedo_size, -1)),
            ("light_scale", [1 / (0.5 * LIGHT_LEVEL), *(1 / (LIGHT_LEVEL * np.array(LIGHT_SPREAD)))]),
            ("reach", expression_reach),
        ):
            self.register_buffer(name, torch.as_tensor(np.asarray(values, np.float32)), persistent=False)

    def synthetic(self, pose, truth, pictures):
        """Terms by name. pose: `FaceNetPose`; truth: `FaceTruth`; pictures [N, 3, H, H] 0..1."""
        places = self.points(pose.shape, pose.expression)
        shown = self.points.in_crop(places, pose.rotation, pose.place)
        true_places = self.points(truth.shape, truth.expression)
        colour, true_colour = self.reflectance(pose.albedo), self.reflectance(truth.albedo)
        return {
            "points": self._weighted((places - true_places).norm(dim=-1)),
            "landmarks": self._weighted((shown - truth.points).norm(dim=-1)),
            "openings": self._openings(shown, truth.points),
            "shape": (pose.shape - truth.shape).square().mean(),
            "expression": ((pose.expression - truth.expression) / self.reach).abs().mean(),
            "colour": (colour - true_colour).abs().mean(),
            "albedo": (pose.albedo - truth.albedo).square().mean(),
            "light": ((pose.illumination - truth.illumination) * self.light_scale).abs().mean(),
            "rotation": (pose.rotation - truth.rotation).flatten(1).norm(dim=-1).mean(),
            "place": (pose.place - truth.place).abs().mean(),
            "pixels": self.pixels(pose, pictures),
        }

    def real(self, pose, points, person, pictures):
        """Terms by name. points [N, 478, 2]: a detector's mesh in the crop; person [N]: who is the same has the same number."""
        shown = self.points.in_crop(self.points(pose.shape, pose.expression), pose.rotation, pose.place)
        same = (person[:, None] == person).float()
        same = same / same.sum(1, keepdim=True)
        plain = pose.shape.square().mean() + pose.albedo.square().mean() + (pose.expression / self.reach).abs().mean()
        return {
            "landmarks": self._weighted((shown - points).norm(dim=-1)),
            "openings": self._openings(shown, points),
            "pixels": self.pixels(pose, pictures),
            "plain": plain,
            "steady": (pose.shape - same @ pose.shape).square().mean() + (pose.albedo - same @ pose.albedo).square().mean(),
        }

    def pixels(self, pose, pictures):
        """How far the colours [0..1] are from the picture's where the skin is seen (Eq. 5), up to OUTLIER."""
        places = self.surface(pose.shape, pose.expression)
        shown = self.surface.in_crop(places, pose.rotation, pose.place)
        normals = self.normals @ pose.rotation.transpose(1, 2)
        seen = ((normals[..., 2] < -0.3) & (shown.detach().abs() < 0.98).all(-1)).float()
        light = sh_basis(normals) @ pose.illumination.transpose(1, 2)
        colour = linear_to_srgb(self.reflectance(pose.albedo) * light)
        pixel = functional.grid_sample(pictures, shown[:, :, None], align_corners=False)[..., 0].transpose(1, 2)
        error = (colour - pixel).abs().mean(-1).clamp(max=OUTLIER)
        return (seen * error).sum() / seen.sum().clamp(min=1)

    def reflectance(self, albedo):
        """Linear RGB [N, P, 3] of the compared vertices."""
        return (self.colour_mean + (albedo @ self.colours).unflatten(1, (-1, 3))).clamp(0.002, 1)

    def _weighted(self, distances):
        return (distances * self.point_weights).sum(1).mean()

    def _openings(self, points, true_points):
        gaps = [p[:, self.upper] - p[:, self.lower] for p in (points, true_points)]
        return (gaps[0] - gaps[1]).norm(dim=-1).sum() / max(len(points) * len(self.upper), 1)


def total(losses, weights):
    """The weighted sum of the terms that have a weight."""
    return sum(weight * losses[name] for name, weight in weights.items())
