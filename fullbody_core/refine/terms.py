"""The terms of the whole-clip refinement, each half a sum of squares of how many deviations something is off.

A term of points knows forces: what a step of each point [3] costs to first and second order, in a frame and between
neighbouring ones. `PointForces` gathers them, and one product with the points' Jacobian makes them the unknowns'. A term of
joints adds to the `NormalEquations` itself. All arrays lead with the frame axis T; reference frame, metres, radians.
"""

from dataclasses import dataclass

import numpy as np

from ..contract.frames import matrix_to_axis_angle, skew
from ..contract.skeleton import BODY_PARENTS
from ..contract.swing_twist import transpose
from .problem import ANCESTRY, JOINTS

_PARENTS_OF_OTHERS = np.array(BODY_PARENTS)[1:]

NEAREST = 0.1
"""m before the camera: no point is taken to be nearer."""


@dataclass
class PointForces:
    """Gradient [T, P, 3] of a cost by the points, and its second derivatives (Gauss-Newton's).

    same [T, P, 3, 3] within a frame; next, next_but_one [T, P] between a frame's point and its own place one and two frames on,
    times the identity. By the logarithm of the focal length: focal_gradient, focal_corner, and focal_border [T, P, 3] with points.
    """

    gradient: np.ndarray
    same: np.ndarray
    next: np.ndarray
    next_but_one: np.ndarray
    focal_border: np.ndarray
    focal_gradient: float = 0.0
    focal_corner: float = 0.0

    @classmethod
    def zeros(cls, frames, points):
        shape = frames, points
        return cls(np.zeros((*shape, 3)), np.zeros((*shape, 3, 3)), *np.zeros((2, *shape)), np.zeros((*shape, 3)))

    def add_isotropic(self, points, weight):
        """Adds weights [T, N] on N points (a slice), the same in every direction."""
        for axis in range(3):
            self.same[:, points, axis, axis] += weight

    def into(self, equations, posed, shared):
        """Adds to `NormalEquations` what the forces are for the unknowns; shared: whether shape and focal length are among them."""
        frames, smooth = len(self.gradient), posed.body.observed.start
        jacobian = posed.jacobian(np.float32)
        flat = jacobian.reshape(frames, -1, jacobian.shape[-1])
        pulled = (self.same.astype(np.float32) @ jacobian).reshape(flat.shape)
        along = transpose(flat)
        equations.same += along @ pulled
        equations.gradient += (along @ self.gradient.reshape(frames, -1, 1))[..., 0]
        moving = flat[:, : 3 * smooth]
        for apart, weight, blocks in ((1, self.next, equations.next), (2, self.next_but_one, equations.next_but_one)):
            if frames > apart:
                weighted = np.repeat(weight[:-apart, :smooth].astype(np.float32), 3, 1)[..., None] * moving[apart:]
                blocks[:-apart] += transpose(moving[:-apart]) @ weighted
        if shared:
            self._into_shared(equations, posed, along)

    def _into_shared(self, equations, posed, along):
        frames, smooth = len(self.gradient), posed.body.observed.start
        columns = np.concatenate([posed.shape_jacobian(), np.zeros(self.gradient.shape + (1,))], -1)
        pulled = self.same @ columns
        for apart, weight in ((1, self.next), (2, self.next_but_one)):
            if frames > apart:
                between = weight[:-apart, :smooth, None, None]
                pulled[:-apart, :smooth] += between * columns[apart:, :smooth]
                pulled[apart:, :smooth] += between * columns[:-apart, :smooth]
        flat = columns.reshape(-1, columns.shape[-1])
        equations.corner += flat.T @ pulled.reshape(flat.shape)
        equations.border_gradient += flat.T @ self.gradient.reshape(-1)
        pulled[..., -1] += self.focal_border
        equations.border += along @ pulled.reshape(frames, -1, columns.shape[-1])
        focal = flat.T @ self.focal_border.reshape(-1)
        equations.corner[-1] += focal
        equations.corner[:, -1] += focal
        equations.corner[-1, -1] += self.focal_corner
        equations.border_gradient[-1] += self.focal_gradient


def geman_mcclure(squared, limit):
    """(cost, weight) of squared residuals by Geman and McClure 1987: one half of them while small, limit^2 / 2 at most."""
    share = 1 / (1 + squared / limit**2)
    return 0.5 * squared * share, share**2


@dataclass(frozen=True)
class Reprojection:
    """The observed points lie under their pixels: SMPLify's data term (Bogo et al. 2016, Eq. 2), robust by Geman and McClure.

    pixels [T, K, 2]; weights [T, K]: 0..1 over squared deviations; spread [T, K] px: one deviation; turns [T, 3, 3]: from the
    reference camera to the frame's; matrix [3, 3]; limit: deviations beyond which a pixel pulls ever less.
    """

    pixels: np.ndarray
    weights: np.ndarray
    spread: np.ndarray
    turns: np.ndarray
    matrix: np.ndarray
    limit: float = 3.0

    def residuals(self, posed):
        """How far [T, K, 2] px the projected points are from where they were seen."""
        seen = posed.points[:, posed.body.observed] @ transpose(self.turns)
        depth = np.maximum(seen[..., 2:], NEAREST)
        return seen[..., :2] / depth * self._focal(posed) + self.matrix[:2, 2] - self.pixels

    def _focal(self, posed):
        return np.diag(self.matrix)[:2] * np.exp(posed.pose.log_focal)

    def cost(self, posed):
        off = self.residuals(posed) / self.spread[..., None]
        return float((self.weights * geman_mcclure((off**2).sum(-1), self.limit)[0]).sum())

    def add(self, posed, forces):
        seen = posed.points[:, posed.body.observed] @ transpose(self.turns)
        depth = np.maximum(seen[..., 2], NEAREST)
        focal = self._focal(posed)
        flat = seen[..., :2] / depth[..., None] * focal
        off = (flat + self.matrix[:2, 2] - self.pixels) / self.spread[..., None]
        weight = self.weights * geman_mcclure((off**2).sum(-1), self.limit)[1]
        by_camera = np.zeros(flat.shape + (3,))
        by_camera[..., 0, 0], by_camera[..., 1, 1] = focal[0] / depth, focal[1] / depth
        by_camera[..., 2] = np.where(seen[..., 2:] > NEAREST, -flat / depth[..., None], 0)
        by_point = by_camera @ self.turns[:, None] / self.spread[..., None, None]
        pull = transpose(by_point) * weight[..., None, None]
        points = posed.body.observed
        forces.same[:, points] += pull @ by_point
        forces.gradient[:, points] += (pull @ off[..., None])[..., 0]
        by_focal = flat / self.spread[..., None]
        forces.focal_border[:, points] += (pull @ by_focal[..., None])[..., 0]
        forces.focal_gradient += float((weight * (by_focal * off).sum(-1)).sum())
        forces.focal_corner += float((weight * (by_focal**2).sum(-1)).sum())


@dataclass(frozen=True)
class Smoothness:
    """Points in the world accelerate little: the whole-clip smoothness of motion capture by optimisation (Arnab et al. 2019),
    with a deviation of its own for each point and time, so that what is fast stays fast.

    timestamps [T] s; spread [T, N] m/s^2 of the first N points at every frame that has neighbours.
    """

    timestamps: np.ndarray
    spread: np.ndarray

    def _accelerations(self, posed):
        """Accelerations [T - 2, N, 3] and the coefficients [3, T - 2] of the three places that they are made of."""
        before, after = np.diff(self.timestamps)[:-1], np.diff(self.timestamps)[1:]
        both = before + after
        coefficients = 2 * np.stack([1 / (before * both), -1 / (before * after), 1 / (after * both)])
        points = posed.points[:, : self.spread.shape[1]]
        parts = (points[:-2], points[1:-1], points[2:])
        return sum(c[:, None, None] * part for c, part in zip(coefficients, parts)), coefficients

    def cost(self, posed):
        if len(self.timestamps) < 3:
            return 0.0
        found, _ = self._accelerations(posed)
        return float(0.5 * (found**2 / self.spread[1:-1, :, None] ** 2).sum())

    def add(self, posed, forces):
        if len(self.timestamps) < 3:
            return
        found, coefficients = self._accelerations(posed)
        weight = 1 / self.spread[1:-1] ** 2
        points, count = slice(0, weight.shape[1]), len(weight)
        for first, one in enumerate(coefficients):
            forces.gradient[first : first + count, points] += (one[:, None] * weight)[..., None] * found
            squared = np.zeros(self.spread.shape)
            squared[first : first + count] = one[:, None] ** 2 * weight
            forces.add_isotropic(points, squared)
        first, second, third = (one[:, None] * weight for one in coefficients)
        forces.next[:count, points] += first * coefficients[1][:, None]
        forces.next[1 : 1 + count, points] += second * coefficients[2][:, None]
        forces.next_but_one[:count, points] += third * coefficients[0][:, None]


@dataclass(frozen=True)
class Contact:
    """A sole point that stands keeps its place: zero velocity, as in Rempe et al. 2020 (Eq. 5).

    timestamps [T] s; standing [T, 6] in 0..1; spread: m/s.
    """

    timestamps: np.ndarray
    standing: np.ndarray
    spread: float

    def _moves(self, posed):
        """Steps [T - 1, 6, 3] m to the next frame and the weights [T - 1, 6] of their squares."""
        points = posed.points[:, posed.body.soles]
        held = self.standing[:-1] * self.standing[1:]
        return np.diff(points, axis=0), held / (self.spread * np.diff(self.timestamps)[:, None]) ** 2

    def cost(self, posed):
        moves, weight = self._moves(posed)
        return float(0.5 * (weight[..., None] * moves**2).sum())

    def add(self, posed, forces):
        moves, weight = self._moves(posed)
        soles = posed.body.soles
        forces.gradient[:-1, soles] -= weight[..., None] * moves
        forces.gradient[1:, soles] += weight[..., None] * moves
        forces.add_isotropic(soles, np.pad(weight, ((0, 1), (0, 0))) + np.pad(weight, ((1, 0), (0, 0))))
        forces.next[:-1, soles] -= weight


@dataclass(frozen=True)
class Floor:
    """Sole points that stand are on the ground, and none is below the floor (Rempe et al. 2020, Eq. 6 and 7).

    up [3]; floor: m along it; levels [T, 6] m above it: what a standing point stands on, and what any other one does not go below;
    standing [T, 6] in 0..1; spread: m of a standing point; depth: m of one below.
    """

    up: np.ndarray
    floor: float
    levels: np.ndarray
    standing: np.ndarray
    spread: float
    depth: float

    def _heights(self, posed):
        """Heights [T, 6] m that should be zero, and the weights of their squares."""
        off = posed.points[:, posed.body.soles] @ self.up - self.floor - self.levels
        below = (self.standing <= 0) & (off < 0)
        return off, self.standing / self.spread**2 + below / self.depth**2

    def cost(self, posed):
        off, weight = self._heights(posed)
        return float(0.5 * (weight * off**2).sum())

    def add(self, posed, forces):
        off, weight = self._heights(posed)
        forces.gradient[:, posed.body.soles] += (weight * off)[..., None] * self.up
        forces.same[:, posed.body.soles] += weight[..., None, None] * np.outer(self.up, self.up)


@dataclass(frozen=True)
class Agreement:
    """Joints are turned in the reference frame as the start says, robustly: the 3D agreement with the networks' answer.

    orientations [T, 22, 3, 3]; spread [T, 22] rad, infinite where the start says nothing; limit: deviations.
    """

    orientations: np.ndarray
    spread: np.ndarray
    limit: float = 3.0

    def _off(self, posed):
        return matrix_to_axis_angle(posed.orientations @ transpose(self.orientations)) / self.spread[..., None]

    def cost(self, posed):
        return float(geman_mcclure((self._off(posed) ** 2).sum(-1), self.limit)[0].sum())

    def add(self, posed, equations):
        off = self._off(posed)
        weight = geman_mcclure((off**2).sum(-1), self.limit)[1] / self.spread
        along = ANCESTRY.astype(float)
        frames = len(off)
        equations.gradient[:, 3:] += (along.T @ (weight[..., None] * off)).reshape(frames, -1)
        between = along.T @ ((weight / self.spread)[..., None] * along)
        blocks = equations.same[:, 3:, 3:].reshape(frames, JOINTS, 3, JOINTS, 3)
        for axis in range(3):
            blocks[:, :, axis, :, axis] += between


def turn_to_rotation_vector(vectors):
    """J [..., 3, 3] with log(exp(w) exp(v)) = v + J w to first order: the inverse of SO(3)'s left Jacobian at v [..., 3]."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    # Below a hundredth the series' first term is as exact, and no difference of large numbers.
    safe = np.maximum(angle, 1e-2)
    second = np.where(angle < 1e-2, 1 / 12, 1 / safe**2 - 1 / (2 * safe * np.tan(safe / 2)))
    generator = skew(vectors)
    return np.eye(3) - generator / 2 + second * (generator @ generator)


def _vectors(posed):
    """Rotation vectors [T, 21, 3] of every joint but the root, and what turns of the unknowns [T, 21, 3, 3] make of them."""
    vectors = matrix_to_axis_angle(posed.pose.rotations[:, 1:])
    parents = posed.orientations[:, _PARENTS_OF_OTHERS]
    return vectors, turn_to_rotation_vector(vectors) @ transpose(parents)


@dataclass(frozen=True)
class Prior:
    """Poses are like those of people: minus the logarithm of a mixture of Gaussians on rotation vectors, of which in every
    frame the likeliest counts (Olson and Agarwal 2013; SMPLify's pose prior, Bogo et al. 2016, Eq. 5).

    prior: `PosePrior`; weight: how much of it counts.
    """

    prior: object
    weight: float

    def cost(self, posed):
        vectors = matrix_to_axis_angle(posed.pose.rotations[:, 1:])
        return self.weight * float(self.prior.nearest(vectors.reshape(len(vectors), -1))[1].sum())

    def add(self, posed, equations):
        vectors, turned = _vectors(posed)
        flat = vectors.reshape(len(vectors), -1)
        which, _ = self.prior.nearest(flat)
        precision = self.weight * self.prior.precisions[which]
        size = flat.shape[1]
        by_turn = _block_diagonal(turned)
        pulled = precision @ by_turn
        equations.same[:, 6:, 6:] += transpose(by_turn) @ pulled
        off = (flat - self.prior.means[which])[..., None]
        equations.gradient[:, 6:] += (transpose(pulled) @ off)[..., 0].reshape(-1, size)


@dataclass(frozen=True)
class Limits:
    """No joint turns farther than people's do: the components of its rotation vector stay within what motions show.

    As SMPLify keeps elbows and knees from bending the wrong way (Bogo et al. 2016, Eq. 4). low, high [63] rad; spread: rad.
    """

    low: np.ndarray
    high: np.ndarray
    spread: float

    def _beyond(self, flat):
        return flat - np.clip(flat, self.low, self.high)

    def cost(self, posed):
        flat = matrix_to_axis_angle(posed.pose.rotations[:, 1:]).reshape(len(posed.points), -1)
        return float(0.5 * (self._beyond(flat) ** 2).sum() / self.spread**2)

    def add(self, posed, equations):
        vectors, turned = _vectors(posed)
        beyond = self._beyond(vectors.reshape(len(vectors), -1)).reshape(vectors.shape) / self.spread**2
        weight = (beyond != 0) / self.spread**2
        equations.gradient[:, 6:] += (transpose(turned) @ beyond[..., None]).reshape(len(vectors), -1)
        own = transpose(turned) @ (weight[..., None] * turned)
        blocks = equations.same[:, 6:, 6:].reshape(len(vectors), JOINTS - 1, 3, JOINTS - 1, 3)
        joints = np.arange(JOINTS - 1)
        blocks[:, joints, :, joints, :] += np.moveaxis(own, 1, 0)


def _block_diagonal(blocks):
    """Matrices [T, 3 N, 3 N] of blocks [T, N, 3, 3]."""
    frames, count = blocks.shape[:2]
    whole = np.zeros((frames, count, 3, count, 3))
    index = np.arange(count)
    whole[:, index, :, index, :] = np.moveaxis(blocks, 1, 0)
    return whole.reshape(frames, 3 * count, 3 * count)


@dataclass(frozen=True)
class Shape:
    """The person has one shape for the clip, near the one that the bones were measured at, and so has the camera its focal length.

    SMPLify's shape prior (Bogo et al. 2016, Sec. 3.3) about a middle: betas come in standard deviations, and the start has them
    from bone lengths and that prior (`ik.bone_lengths`). betas [B]: the middle; spread: of betas; focal_spread: of the logarithm
    of the focal length over the given one.
    """

    betas: np.ndarray
    spread: float
    focal_spread: float

    def cost(self, posed):
        pose = posed.pose
        off = ((pose.betas - self.betas) ** 2).sum() / self.spread**2 + (pose.log_focal / self.focal_spread) ** 2
        return 0.5 * float(off)

    def add(self, posed, equations):
        off, weight = (
            posed.pose.betas - self.betas,
            np.append(np.full(len(self.betas), self.spread**-2), self.focal_spread**-2),
        )
        equations.border_gradient += weight * np.append(off, posed.pose.log_focal)
        equations.corner += np.diag(weight)
