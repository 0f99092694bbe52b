"""What a synthetic face is and does: shape, expression, albedo, light and where the camera stands, drawn for N faces at once."""

from dataclasses import dataclass, fields

import numpy as np

from ..contract.morphable import MorphableModel, MorphablePoints
from ..face.illumination import SH_CONSTANTS, SH_COUNT, sh_basis
from ..networks.facenet import BOX_MARGIN, face_middle

SHAPE_SPREAD, ALBEDO_SPREAD, FURTHEST = 0.85, 0.9, 2.8
"""Standard deviations of the coefficients, a little below the models' own, and where they are cut off."""

NEUTRAL = 0.06
"""Share of the faces at rest."""

LAMBERT = np.pi * np.array([1.0, *(2 / 3,) * 3, *(1 / 4,) * 5])
"""What a matt surface makes of each harmonic of the light around it (Ramamoorthi and Hanrahan 2001), without its 1 / pi."""

GAZES = tuple(
    (f"eyeLook{way}", sign, axis) for way, sign, axis in (("In", -1, 0), ("Out", 1, 0), ("Up", 1, 1), ("Down", -1, 1))
)
"""ARKit's gaze: way, its sign, and whether it is of the turn outwards (0) or upwards (1)."""

USUAL = {"jawOpen": 0.45, "eyeBlink": 0.3, "mouthSmile": 0.3, "browInnerUp": 0.25, "browDown": 0.25, "mouthPucker": 0.2}
"""How often single movements are made, where not as often as any other."""

OPPOSED = (("jawLeft", "jawRight"), ("mouthLeft", "mouthRight"), ("mouthSmile", "mouthFrown"), ("mouthFunnel", "mouthClose"),
           ("eyeWide", "eyeBlink"), ("mouthPucker", "mouthSmile"), ("browInnerUp", "browDown"),
           ("jawForward", "jawOpen"))  # fmt: skip
"""Movements that a face hardly makes at once: the lesser one is made smaller."""


@dataclass
class FaceParameters:
    """N faces in the axes of their crops' cameras.

    shape [N, S]; expression [N, E]; albedo [N, A]; illumination [N, 3, 9]
    rotation [N, 3, 3] from the face's frame; translation [N, 3] m
    half_view [N]: half the crop's width over the focal length: a point (x, y, z) is at x / (z half_view) half-widths
    """

    shape: np.ndarray
    expression: np.ndarray
    albedo: np.ndarray
    illumination: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    half_view: np.ndarray

    def __len__(self):
        return len(self.shape)

    def take(self, index):
        """The faces that a slice or an array of indices picks."""
        return FaceParameters(*(getattr(self, item.name)[index] for item in fields(self)))

    @classmethod
    def concatenate(cls, parts):
        """Several of them as one."""
        return cls(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)))

    def place(self, middle):
        """`FaceNetPose.place` [N, 4] of the point [3] of the faces' frame that FaceNet places faces by."""
        seen = self.rotation @ middle + self.translation
        size = 1 / (seen[:, 2] * self.half_view)
        return np.stack([seen[:, 0] * size, seen[:, 1] * size, np.log(size), 1 / seen[:, 2]], -1)

    def project(self, places):
        """Points [N, P, 3] of the faces' frame in the crop [N, P, 2], from -1 (left, top) to 1."""
        seen = places @ np.swapaxes(self.rotation, 1, 2) + self.translation[:, None]
        return seen[..., :2] / (seen[..., 2:] * self.half_view[:, None, None])


class FaceMaker:
    """Draws `FaceParameters` for one 3DMM."""

    def __init__(self, face: MorphableModel):
        self.face = face
        known = np.flatnonzero(face.has_mesh_points[:468])
        some = np.arange(0, len(face.mean), 7)
        whole = face.mesh_points if len(known) else face.at(some[:, None], np.ones((len(some), 1)))
        self.framed = (
            whole
            if not len(known)
            else MorphablePoints(whole.mean[known], whole.shape_basis[:, known], whole.expression_basis[:, known])
        )
        self.middle = face_middle(face)
        skin = face.region("skin") if face.region("skin").any() else np.ones(len(face.mean))
        self._skin_mean = skin @ face.albedo_mean / skin.sum()
        self._skin_basis = np.einsum("v,avc->ac", skin, face.albedo_basis, optimize=True) / skin.sum()
        self._pairs = movements(face.expression_names)

    def draw(self, rng, count):
        """`count` faces."""
        face = self.face
        shape = _coefficients(rng, count, face.shape_size, SHAPE_SPREAD)
        albedo = _coefficients(rng, count, face.albedo_size, ALBEDO_SPREAD)
        expression = self.draw_expressions(rng, count)
        rotation = draw_rotations(rng, count)
        light = draw_lights(rng, count)
        light *= self._exposure(rng, albedo, light)[:, None, None]
        translation, half_view = self._frame(rng, shape, expression, rotation)
        return FaceParameters(shape, expression, albedo, light, rotation, translation, half_view)

    def draw_expressions(self, rng, count):
        """Coefficients [count, E] within their limits: mostly a few movements, most of them on both sides alike."""
        names, limits = self.face.expression_names, self.face.expression_limits
        strength = np.zeros((count, len(names)))
        activity = rng.choice([0.06, 0.15, 0.35], (count, 1), p=[0.45, 0.35, 0.2])
        for name, (left, right) in self._pairs.items():
            often = np.maximum(activity[:, 0], USUAL.get(name, 0))
            on = rng.random(count) < often
            amount = np.where(on, rng.beta(1.1, 1.4, count), 0)
            if name == "eyeBlink":
                shut = rng.random(count) < 0.12
                amount = np.where(shut, rng.uniform(0.8, 1, count), amount)
            alone = rng.random(count)
            strength[:, left] = amount * np.where(alone < 0.1, 0, rng.uniform(0.8, 1, count))
            strength[:, right] = amount * np.where(alone > 0.9, 0, rng.uniform(0.8, 1, count))
        self._look_around(rng, strength)
        for one, other in OPPOSED:
            self._oppose(strength, one, other)
        strength[rng.random(count) < NEUTRAL] = 0
        # Components that go both ways, as those of a PCA do, are drawn like any other coefficient.
        both = limits[:, 0] < 0
        strength[:, both] = np.clip(rng.normal(0, 1 / 3, (count, both.sum())), -1, 1)
        return np.where(strength < 0, -strength * limits[:, 0], strength * limits[:, 1])

    def _look_around(self, rng, strength):
        """Both eyes at one place, now and then crossed."""
        count = len(strength)
        across, up = rng.normal(0, 0.3, (2, count))
        crossed = np.where(rng.random(count) < 0.1, rng.uniform(0, 0.9, count), rng.uniform(0, 0.1, count))
        still = rng.random(count) < 0.3
        for side, sign in (("Left", 1), ("Right", -1)):
            turns = (np.where(still, 0, sign * across - crossed), np.where(still, 0, up))
            for way, direction, axis in GAZES:
                if (name := f"{way}{side}") in self.face.expression_names:
                    strength[:, self.face.expression_names.index(name)] = np.clip(direction * turns[axis], 0, 1)

    def _oppose(self, strength, one, other):
        if one not in self._pairs or other not in self._pairs:
            return
        for a, b in zip(self._pairs[one], self._pairs[other]):
            less = np.where(strength[:, a] < strength[:, b], a, b)
            strength[np.arange(len(strength)), less] *= 0.25

    def skin_colour(self, albedo):
        """Mean linear RGB [N, 3] of the skin for coefficients [N, A]."""
        return np.clip(self._skin_mean + albedo @ self._skin_basis, 0.02, 1)

    def _exposure(self, rng, albedo, light):
        """What the light is multiplied by [N], so that the skin is as bright as pictures of faces are."""
        colour = self.skin_colour(albedo)
        towards = np.array([[0, 0, -1.0], [0.4, 0, -0.9], [-0.4, 0, -0.9], [0, -0.4, -0.9]])
        towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
        bright = np.einsum("ncb,pb->npc", light, sh_basis(towards)).mean(1) * colour
        wanted = np.exp(rng.normal(np.log(0.33), 0.4, len(albedo)))
        typical = self._skin_mean.mean()
        # A camera makes dark skin brighter, though not as bright as pale skin.
        kept = (colour.mean(1) / typical) ** rng.uniform(0.2, 0.8, len(albedo))
        return np.clip(wanted * kept, 0.03, 0.75) / np.maximum(bright.mean(1), 1e-3)

    def _frame(self, rng, shape, expression, rotation):
        """Translations [N, 3] and half_view [N] of faces in boxes such as detectors give."""
        count = len(shape)
        distance = np.exp(rng.uniform(np.log(0.3), np.log(2.0), count))
        turned = (self.framed.places(shape, expression) - self.middle) @ np.swapaxes(rotation, 1, 2)
        offset = np.zeros((count, 3))
        offset[:, 2] = distance
        size = np.exp(rng.uniform(np.log(0.85), np.log(1.3), count))
        shift = np.clip(rng.normal(0, 0.05, (count, 2)), -0.12, 0.12)
        for _ in range(2):
            seen = turned + offset[:, None]
            seen = seen[..., :2] / seen[..., 2:]
            low, high = seen.min(1), seen.max(1)
            half_view = BOX_MARGIN / 2 * (high - low).max(1) * size
            wanted = 2 * half_view[:, None] * shift
            offset[:, :2] += (wanted - (low + high) / 2) * distance[:, None]
        return offset - np.einsum("nij,j->ni", rotation, self.middle), half_view


def movements(names):
    """The (left, right) indices of each movement by its name without a side; both are the same where it has none."""
    found = {}
    for index, name in enumerate(names):
        if name.startswith("eyeLook"):
            continue
        for side, place in (("Left", 0), ("Right", 1)):
            other = name.removesuffix(side) + ("Right", "Left")[place]
            if name.endswith(side) and other in names and name not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
                found.setdefault(name.removesuffix(side), [index, index])[place] = index
                break
        else:
            found[name] = [index, index]
    return {name: tuple(pair) for name, pair in found.items()}


def draw_rotations(rng, count):
    """Rotations [count, 3, 3] from the face's frame to the camera's: mostly about frontal, none beyond half a profile by much."""
    wide = rng.random((count, 1)) < 0.35
    yaw, pitch, roll = np.where(wide, rng.uniform(-1, 1, (count, 3)), np.clip(rng.normal(0, 0.3, (count, 3)), -1, 1)).T
    return _turns(np.radians(50 * yaw), np.radians(30 * pitch), np.radians(25 * roll))


def _turns(yaw, pitch, roll):
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def matrix(*rows):
        return np.stack([np.stack(row, -1) for row in rows], -2)

    y = matrix((np.cos(yaw), zero, np.sin(yaw)), (zero, one, zero), (-np.sin(yaw), zero, np.cos(yaw)))
    x = matrix((one, zero, zero), (zero, np.cos(pitch), -np.sin(pitch)), (zero, np.sin(pitch), np.cos(pitch)))
    z = matrix((np.cos(roll), -np.sin(roll), zero), (np.sin(roll), np.cos(roll), zero), (zero, zero, one))
    return np.diag([1.0, -1, -1]) @ z @ y @ x


def draw_lights(rng, count):
    """Light [count, 3, 9] of about unit brightness: from all around, and one or two lamps or windows, somewhat tinted."""
    light = np.zeros((count, 3, SH_COUNT))
    tint = np.exp(rng.normal(0, 0.06, (count, 3, 1)))
    light[..., :1] = rng.uniform(0.35, 1.0, (count, 1, 1)) * tint / SH_CONSTANTS[0]
    for lamp in range(2):
        on = 1.0 if lamp == 0 else rng.random((count, 1, 1)) < 0.5
        # Lamps hang above and stand before people more often than below and behind.
        towards = rng.normal(0, 1, (count, 3)) + [0, -0.7, -0.6]
        towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
        warm = rng.normal(0, 0.12, (count, 1))
        colour = np.exp(warm * [1, 0, -1.3] + rng.normal(0, 0.03, (count, 3)))
        strength = on * rng.uniform(0, (0.9, 0.6)[lamp], (count, 1, 1))
        light += strength * colour[..., None] * (LAMBERT * sh_basis(towards))[:, None]
    return _kept_positive(light)


def _kept_positive(light):
    """The same with as much more ambient light as its darkest direction needs to be at least 3 % of it."""
    golden = np.arange(64) * 2.39996
    z = 1 - (np.arange(64) + 0.5) / 32
    ring = np.sqrt(1 - z * z)
    shown = light @ sh_basis(np.stack([ring * np.cos(golden), ring * np.sin(golden), z], -1)).T
    lacking = np.maximum(0.03 * shown.mean(-1) - shown.min(-1), 0)
    light[..., 0] += lacking / SH_CONSTANTS[0]
    return light


def _coefficients(rng, count, size, spread):
    """Coefficients [count, size]; some faces are plainer than others."""
    amount = spread * rng.uniform(0.5, 1.2, (count, 1))
    return np.clip(amount * rng.normal(size=(count, size)), -FURTHEST, FURTHEST)
