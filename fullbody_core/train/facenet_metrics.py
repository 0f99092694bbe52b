"""What is measured of FaceNet on synthetic faces, whose truth is known."""

import numpy as np
import torch

from ..face.landmarks import LANDMARKS_68
from ..networks.facenet import FaceNetPose, FacePoints, face_middle
from ..table import format_table

UNITS = {
    "landmarks": "px of 224", "surface": "mm", "shape": "sd", "expression": "0..1", "colour": "0..1", "albedo": "sd",
    "light": "share of level", "rotation": "deg",
}  # fmt: skip
"""Of the errors: the 68 landmarks in the crop; the face mesh in the face's own frame; root mean squares of shape and albedo
coefficients; means of expression coefficients, of the skin's linear RGB, and of the light's, over its ambient level."""

BATCH = 64

HELD_OUT_SEED = 1_000_003
"""Of the synthetic faces that are only measured on: no training's seed goes with it."""


@torch.no_grad()
def predict_pictures(network, pictures, device="cpu"):
    """`FaceNetPose`, on the CPU, of pictures [N, H, H, 3] uint8."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        part = torch.as_tensor(pictures[start : start + BATCH]).to(device).permute(0, 3, 1, 2).float() / 255
        parts.append([value.float().cpu() for value in network(part)])
    return FaceNetPose(*(torch.cat(values) for values in zip(*parts)))


def true_pose(samples, face):
    """What FaceNet should answer to `FaceSamples` of the `MorphableModel` face."""
    heads = samples.truth
    arrays = (
        heads.shape,
        heads.expression,
        heads.albedo,
        heads.illumination,
        heads.rotation,
        heads.place(face_middle(face)),
    )
    return FaceNetPose(*(torch.as_tensor(np.asarray(array, np.float32)) for array in arrays))


def mean_answer(truth):
    """The best answer that never looks: the means of the truth, and a head seen from the front."""
    means = [value.mean(0, keepdim=True).expand_as(value) for value in truth]
    frontal = torch.diag(torch.tensor([1.0, -1, -1])).expand_as(truth.rotation)
    return FaceNetPose(*means)._replace(rotation=frontal)


@torch.no_grad()
def pose_errors(pose, truth, face):
    """Mean errors by the names of UNITS. pose, truth: `FaceNetPose`."""
    mesh = FacePoints(face)
    places, true_places = mesh(pose.shape, pose.expression), mesh(truth.shape, truth.expression)
    shown, true_shown = (
        mesh.in_crop(points, item.rotation, item.place) for points, item in ((places, pose), (true_places, truth))
    )
    skin = face.region("skin") > 0.5 if face.region("skin").any() else np.ones(len(face.mean), bool)
    colours = torch.as_tensor(face.albedo_basis[:, skin][:, ::20].reshape(face.albedo_size, -1))
    between = (pose.rotation.transpose(1, 2) @ truth.rotation).diagonal(dim1=1, dim2=2).sum(-1)
    points = [point for point in LANDMARKS_68 if face.has_mesh_points[point]]
    errors = {
        "landmarks": 112 * (shown - true_shown)[:, points].norm(dim=-1).mean(),
        "surface": 1000 * (places - true_places)[:, face.has_mesh_points].norm(dim=-1).mean(),
        "shape": (pose.shape - truth.shape).square().mean().sqrt(),
        "expression": (pose.expression - truth.expression).abs().mean(),
        "colour": ((pose.albedo - truth.albedo) @ colours).abs().mean(),
        "albedo": (pose.albedo - truth.albedo).square().mean().sqrt(),
        "light": ((pose.illumination - truth.illumination).abs().mean((1, 2)) / truth.illumination[..., 0].mean(1)).mean(),
        "rotation": torch.rad2deg(((between - 1) / 2).clamp(-1, 1).acos()).mean(),
    }
    return {name: float(value) for name, value in errors.items()}


def measure(network, face, samples, device="cpu"):
    """Mean errors by the names of UNITS of a `FaceNet` in eval mode on `FaceSamples`."""
    return pose_errors(predict_pictures(network, samples.pictures, device), true_pose(samples, face), face)


def format_errors(network, face, samples, device="cpu"):
    """A table of FaceNet's errors beside those of the mean answer."""
    truth = true_pose(samples, face)
    answers = {
        "FaceNet": measure(network, face, samples, device),
        "mean answer": pose_errors(mean_answer(truth), truth, face),
    }
    rows = [(name, unit, *(f"{errors[name]:.3f}" for errors in answers.values())) for name, unit in UNITS.items()]
    return f"{len(samples)} held-out synthetic faces\n" + format_table(("error of", "unit", *answers), rows)
