"""A 3DMM fitted to the points of MediaPipe's face mesh: one shape for the clip, pose and expression for each frame.

Full perspective. Every step is one of Gauss and Newton on all unknowns together: those of a frame (pose, expression) touch no
other frame's, so they are eliminated from the shape's normal equations frame by frame, and no step needs more than a small
matrix for each. Expressions stay within the model's limits and are sparse (L1), which a projected coordinate descent over all
frames at once takes care of. Residuals are in units of the face's size, so nothing depends on the resolution.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..contract.frames import axis_angle_to_matrix, skew
from ..detect.keypoints import SMALLEST_FACE
from ..smoothing import valid_runs
from .face_motion import FaceMotion
from .landmarks import (
    CONTOUR,
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    LEFT_BROW,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LEFT_IRIS,
    NOSE,
    RIGHT_BROW,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    RIGHT_IRIS,
    eye_opening,
)

LARGEST_ANGLE = 60.0
"""Degrees between where the face looks and the line to the camera. Beyond, the detector invents the far half."""

MOST_OUTSIDE = 0.15
"""Share of the mesh's points that may lie outside the image."""

WORST_MISFIT = 0.04
"""Median distance between fitted and found points, in heights of the face: above it, what was found is no face like any."""

STEADY = (*NOSE, 33, 133, 263, 362, 9, 8, 151, 10, 55, 285, 107, 336)
"""Points that expressions hardly move, for the pose of a face of which nothing else is known yet."""

SECOND_CHOICE = {
    **{"eyeSquint": 5.0, "eyeWide": 15.0, "cheekSquint": 3.0},
    **{"mouthClose": 15.0, "mouthShrug": 4.0, "mouthLowerDown": 5.0, "mouthUpperUp": 3.0, "jawForward": 3.0},
}
"""How much dearer than others some expressions are, by the beginning of their names. Two lids closing are first a blink and two
lips parting are first a jaw that opens, though other expressions would move the same points a little better."""

HALF_CLOSED = 0.15
"""Eye opening below which an iris counts less and less: the detector goes on finding one behind closed lids."""

NEAR = 0.7
"""m: hardly anybody films a face from nearer. Then the picture was cut out of a larger one, or its lens was longer than its
field of view is believed to be; and a face that is fitted from too near gets flat and its nose long."""

LENSES = (1.0, 1.4, 2.0, 2.8)
"""Focal lengths that are tried then, in those of the given matrix."""

_LENS_FRAMES = 30
_CHUNK = 48
"""Frames whose equations are written out at once: some ten megabytes."""


@dataclass(frozen=True)
class FitSettings:
    """What decides where the points leave a choice.

    noise: standard deviation of a found point, in heights of the face; outlier: distance at which a point's say has dropped to
    a quarter (Geman-McClure), in the same unit
    shape_prior, expression_ridge, expression_sparsity: weights of squared shape coefficients, squared and absolute
    expression coefficients, beside the mean over points of squared residuals in units of the noise
    smoothness: weight of the squared difference to the mean of the neighbouring frames' expression
    depth_weight: of a point's depth, beside one coordinate in the picture
    tight, firm, loose: weights of lids, inner lips and irises, of brows, and of the outline, where other points have one
    shape_frames: how many frames, evenly spread, the shape is fitted to; shape_steps, frame_steps: Gauss-Newton steps
    """

    noise: float = 0.01
    outlier: float = 0.07
    shape_prior: float = 0.003
    expression_ridge: float = 0.005
    expression_sparsity: float = 0.015
    smoothness: float = 0.1
    depth_weight: float = 0.01
    tight: float = 6.0
    firm: float = 4.0
    loose: float = 0.3
    shape_frames: int = 150
    shape_steps: int = 12
    frame_steps: int = 6


def fit_landmarks(points, confidence, image_size, matrix, timestamps, model, settings=FitSettings()):
    """Fits a `MorphableModel` to face meshes: a `FaceMotion` without colours.

    points [T, 478, 3] px in the whole image, z in px at the same scale, away from the camera; confidence [T], 0 where no face
    was found; image_size (width, height) px; matrix [3, 3] px; timestamps [T] s.
    Where the matrix would have the face nearer than NEAR, longer lenses are tried too: `FaceMotion.matrix` is the one that fits.
    """
    found = believable(points, confidence, image_size)
    motion = replace(FaceMotion.nobody(model, len(points)), valid=found)
    if not found.any():
        return motion
    target = FitTarget.of(points[found], matrix, model, settings)
    state, target = _choose_lens(target, model, settings)
    state = _fit_shape(state, target, settings)
    for _ in range(settings.frame_steps):
        state = take_step(state, target, settings, _neighbours(state.expression, timestamps, found))
    return _to_motion(state, target, motion)


def refine(start, points, confidence, image_size, matrix, timestamps, model, settings=FitSettings(), steps=3):
    """A few steps of the same fit from a `FaceMotion` that is already near, such as a network's answer.

    The shape is drawn to the start's instead of to the mean face. Frames in which the start is not valid are not fitted.
    """
    found = believable(points, confidence, image_size) & start.valid
    motion = replace(
        FaceMotion.nobody(model, len(points)),
        valid=found,
        shape=np.array(start.shape, float),
        matrix=start.matrix,
        albedo=start.albedo,
        illumination=start.illumination,
    )
    if not found.any():
        return motion
    target = FitTarget.of(points[found], matrix if start.matrix is None else start.matrix, model, settings)
    state = FitState(motion.shape, start.expression[found], start.rotation[found], start.translation[found])
    settings = replace(settings, shape_steps=steps)
    state = _fit_shape(state, target, settings, centre=motion.shape)
    for _ in range(steps):
        state = take_step(state, target, settings, _neighbours(state.expression, timestamps, found))
    return _to_motion(state, target, motion)


def believable(points, confidence, image_size):
    """In which frames a face mesh [T, 478, 3] px is worth a fit: [T] bool. Not where it is tiny or leaves the image."""
    finite = np.isfinite(points).all((1, 2)) & (np.asarray(confidence) > 0)
    flat = np.where(finite[:, None, None], points, 0)[..., :2]
    outside = ((flat < 0) | (flat > np.asarray(image_size))).any(-1).mean(1)
    return finite & (np.ptp(flat[..., 1], axis=1) >= SMALLEST_FACE) & (outside <= MOST_OUTSIDE)


@dataclass(frozen=True)
class FitTarget:
    """What is fitted to what, P points in T frames.

    pixels [T, P, 2]; depth [T, P] about the mean, and size [T], in px; weights [T, P], of sum one; mean [P, 3]; basis
    [P, 3, E + S]: expression, then shape; limits [E, 2] and costs [E] of expressions; present [P]: which of the mesh's points
    they are; steady: which of the P points are STEADY
    """

    pixels: np.ndarray
    depth: np.ndarray
    size: np.ndarray
    weights: np.ndarray
    mean: np.ndarray
    basis: np.ndarray
    limits: np.ndarray
    costs: np.ndarray
    matrix: np.ndarray
    present: np.ndarray
    steady: np.ndarray

    @classmethod
    def of(cls, points, matrix, model, settings):
        present = np.flatnonzero(model.has_mesh_points)
        places = model.mesh_points
        basis = np.concatenate([places.expression_basis, places.shape_basis])[:, present]
        nothing = np.zeros((0, len(present)))
        return cls(
            pixels=nothing[..., None],
            depth=nothing,
            size=nothing,
            weights=nothing,
            mean=places.mean[present],
            basis=np.ascontiguousarray(basis.transpose(1, 2, 0)),
            limits=np.asarray(model.expression_limits, float),
            costs=np.array([expression_cost(name) for name in model.expression_names]),
            matrix=np.asarray(matrix, float),
            present=present,
            steady=np.flatnonzero(np.isin(present, STEADY)),
        ).with_points(points, settings)

    def with_points(self, points, settings):
        """The same face fitted to other points [T, 478, 3] px."""
        weights = _point_weights(points, settings)[:, self.present]
        weights = weights / weights.sum(1, keepdims=True)
        depth = points[:, self.present, 2]
        return replace(
            self,
            pixels=points[:, self.present, :2],
            depth=depth - (depth * weights).sum(1, keepdims=True),
            size=np.ptp(points[..., 1], axis=1),
            weights=weights,
        )

    def with_shape(self, shape):
        """The same with the shape [S] settled: a face without shape components."""
        size = self.expression_size
        return replace(
            self,
            mean=self.mean + self.basis[..., size:] @ shape,
            basis=np.ascontiguousarray(self.basis[..., :size], np.float32),
        )

    @property
    def expression_size(self):
        return len(self.limits)

    def take(self, frames):
        return replace(
            self,
            pixels=self.pixels[frames],
            depth=self.depth[frames],
            size=self.size[frames],
            weights=self.weights[frames],
        )


def expression_cost(name):
    """What an expression's coefficient costs, beside others of the same size."""
    return next((cost for start, cost in SECOND_CHOICE.items() if name.startswith(start)), 1.0)


def _point_weights(points, settings):
    """Weights [T, 478] of the points of face meshes."""
    weights = np.ones(points.shape[:2])
    for row in (LEFT_EYE_UPPER, LEFT_EYE_LOWER, RIGHT_EYE_UPPER, RIGHT_EYE_LOWER, INNER_LIP_UPPER, INNER_LIP_LOWER):
        weights[:, list(row)] = settings.tight
    for side, iris in (("left", LEFT_IRIS), ("right", RIGHT_IRIS)):
        open_share = np.clip(eye_opening(points[..., :2], side) / HALF_CLOSED, 0, 1)
        weights[:, list(iris)] = settings.tight * open_share[:, None] ** 2
    weights[:, [*LEFT_BROW, *RIGHT_BROW]] = settings.firm
    weights[:, list(CONTOUR)] = settings.loose
    return weights


@dataclass(frozen=True)
class FitState:
    """The unknowns: shape [S]; expression [T, E]; rotation [T, 3, 3] and translation [T, 3] m, model to camera."""

    shape: np.ndarray
    expression: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray

    def take(self, frames):
        return FitState(self.shape, self.expression[frames], self.rotation[frames], self.translation[frames])

    def turned(self, target):
        """The points [T, P, 3] m in camera axes, before the translation."""
        coefficients = np.concatenate(
            [self.expression, np.broadcast_to(self.shape, (len(self.expression), len(self.shape)))], 1
        )
        flat = coefficients @ target.basis.reshape(-1, target.basis.shape[-1]).T
        places = target.mean + flat.reshape(len(flat), *target.mean.shape)
        return places @ np.swapaxes(self.rotation, -1, -2)


def _start(target, model):
    """The mean face at rest in each frame's pose, by PnP with RANSAC on the steady points and Gauss-Newton on all."""
    count = len(target.pixels)
    rotation, translation = np.empty((count, 3, 3)), np.empty((count, 3))
    for frame in range(count):
        rotation[frame], translation[frame] = solve_pose(
            target.mean[target.steady], target.pixels[frame, target.steady], target.matrix
        )
    return FitState(np.zeros(model.shape_size), np.zeros((count, model.expression_size)), rotation, translation)


def solve_pose(places, pixels, matrix, tolerance=0.04):
    """Pose of one rigid set of points by PnP with RANSAC: rotation [3, 3] and translation [3] m, model to camera.

    places [P, 3] m; pixels [P, 2]; tolerance: largest distance of an inlier, as a share of the pixels' height. Where that finds
    nothing in front of the camera that faces it, the face is taken to face the camera.
    """
    size = max(float(np.ptp(pixels[:, 1])), 1.0)
    middle = places.mean(0)
    pose = _ransac(places - middle, pixels, matrix, tolerance * size)
    if pose is not None:
        rotation, shift = pose
        if shift[2] > 0 and rotation[2, 2] < 0:
            return rotation, shift - rotation @ middle
    rotation = np.diag([1.0, -1, -1])
    depth = matrix[1, 1] * np.ptp(places[:, 1]) / size
    centre = (pixels.mean(0) - matrix[:2, 2]) / matrix[[0, 1], [0, 1]] * depth
    return rotation, np.r_[centre, depth] - rotation @ middle


def _ransac(places, pixels, matrix, distance):
    """Pose (rotation, translation) by PnP with RANSAC, and by Levenberg and Marquardt over the inliers; None without one."""
    cv2.setRNGSeed(0)
    places, pixels = np.ascontiguousarray(places, np.float64), np.ascontiguousarray(pixels, np.float64)
    try:
        found, turn, shift, inliers = cv2.solvePnPRansac(
            places, pixels, matrix, None, iterationsCount=50, reprojectionError=distance, flags=cv2.SOLVEPNP_SQPNP
        )
        if not found:
            return None
        inliers = inliers[:, 0]
        turn, shift = cv2.solvePnPRefineLM(places[inliers], pixels[inliers], matrix, None, turn, shift)
    except cv2.error:  # points that all coincide
        return None
    return axis_angle_to_matrix(turn[:, 0]), shift[:, 0]


def _fit_shape(state, target, settings, centre=None):
    """The state with the clip's shape, from evenly spread frames; their expressions come along, the others' stay."""
    frames = _shape_frames(state, target, settings)
    some, chosen = state.take(frames), target.take(frames)
    for step in range(settings.shape_steps):
        # First who it is, as far as a face at rest can say; then what it does.
        at_rest = centre is None and step < 2
        drawn_to = np.zeros(len(state.shape)) if centre is None else centre
        some = take_step(some, chosen, settings, None, drawn_to, move_expression=not at_rest)
    expression, rotation, translation = state.expression.copy(), state.rotation.copy(), state.translation.copy()
    expression[frames], rotation[frames], translation[frames] = some.expression, some.rotation, some.translation
    return FitState(some.shape, expression, rotation, translation)


def _choose_lens(target, model, settings):
    """The start of the fit, and the target with the focal length under which the points are the likeliest."""
    state = _start(target, model)
    if np.median(state.translation[:, 2] + (state.rotation @ target.mean.mean(0))[:, 2]) >= NEAR:
        return state, target
    settings = replace(settings, shape_frames=_LENS_FRAMES)
    best = None
    for lens in LENSES:
        matrix = target.matrix.copy()
        matrix[[0, 1], [0, 1]] *= lens
        longer = replace(target, matrix=matrix)
        start = _start(longer, model)
        frames = _shape_frames(start, longer, settings)
        fitted = _fit_shape(start, longer, settings).take(frames)
        cost = _cost(fitted, longer.take(frames), settings)
        if best is None or cost < best[0]:
            best = cost, start, longer
    return best[1:]


def _cost(state, target, settings):
    """What the fit minimises, for one clip: the misfit of all points, and what shape and expressions cost."""
    _, residual = _linearised(state, target, np.zeros((*target.mean.shape, 0), np.float32), settings)
    fit = (residual.astype(float) ** 2).sum(1).mean() / 2
    expression = (
        settings.expression_sparsity * np.abs(state.expression) + settings.expression_ridge / 2 * state.expression**2
    )
    return fit + (expression * target.costs).sum(1).mean() + settings.shape_prior / 2 * (state.shape**2).sum()


def _shape_frames(state, target, settings):
    """Evenly spread frames, of those in which the face looks about at the camera if there are any."""
    frontal = np.flatnonzero(view_angle(state, target) < np.radians(40))
    if not len(frontal):
        frontal = np.arange(len(state.expression))
    return frontal[np.unique(np.linspace(0, len(frontal) - 1, settings.shape_frames).astype(int))]


def view_angle(state, target):
    """Angle [T] rad between where the face looks and the line to the camera."""
    middle = target.mean.mean(0)
    sight = (state.rotation @ middle) + state.translation
    ahead = state.rotation[:, :, 2]
    cosine = -(ahead * sight).sum(1) / np.maximum(np.linalg.norm(sight, axis=1), 1e-9)
    return np.arccos(np.clip(cosine, -1, 1))


def _neighbours(expression, timestamps, found):
    """Mean [T', E] of the expressions before and after, among found frames, and how much they count [T'] (0 to 1)."""
    total, count = np.zeros_like(expression), np.zeros(len(expression))
    start = 0
    for run in valid_runs(found):
        frames = slice(start, start + run.stop - run.start)
        # Neighbours of a film at 30 frames a second count fully, those of a slower one less.
        near = np.minimum(1, 1 / 30 / np.maximum(np.diff(timestamps[run]), 1e-6))[:, None]
        values = expression[frames]
        total[frames][1:] += near * values[:-1]
        total[frames][:-1] += near * values[1:]
        count[frames][1:] += near[:, 0]
        count[frames][:-1] += near[:, 0]
        start = frames.stop
    return total / np.maximum(count, 1e-9)[:, None], count / 2


def take_step(state, target, settings, neighbours=None, centre=None, move_expression=True):
    """One Gauss-Newton step of pose and expression, and of the shape towards `centre` [S] where that is given.

    neighbours: what `_neighbours` gives, expressions [T, E] that a frame's is drawn to and how much they count [T].
    """
    normal, right = _equations(state, target, settings, with_shape=centre is not None)
    size = target.expression_size
    normal, right, pose_map, pose_right = _eliminate(normal, right, 6)
    expression, shape = state.expression, state.shape
    mean, count = neighbours or (expression, np.zeros(len(expression)))
    sparsity = settings.expression_sparsity * target.costs
    pull = settings.expression_ridge * target.costs + settings.smoothness * count[:, None]
    right[:, :size] += settings.smoothness * count[:, None] * mean - pull * expression
    normal[:, range(size), range(size)] += pull
    change = np.zeros(right.shape)
    if centre is not None:
        free = _free(expression, right[:, :size], target.limits, sparsity) & move_expression
        change[:, size:] = _shape_change(normal, right, free, sparsity * np.sign(expression), shape - centre, settings)
        right[:, :size] -= np.einsum("tes,ts->te", normal[:, :size, size:], change[:, size:])
        shape = shape + change[0, size:]
    if move_expression:
        new = _bounded_sparse(normal[:, :size, :size], right[:, :size], expression, target.limits, sparsity)
        change[:, :size] = new - expression
        expression = new
    move = pose_right - np.einsum("tpo,to->tp", pose_map, change)
    return _moved(FitState(shape, expression, state.rotation, state.translation), target, move)


def _equations(state, target, settings, with_shape):
    """Normal matrices [T, N, N] and right sides [T, N] of the pose (6), the expression (E) and, if asked, the shape (S)."""
    columns = target.basis.shape[-1] if with_shape else target.expression_size
    basis = np.ascontiguousarray(target.basis[..., :columns], np.float32)
    count = len(target.pixels)
    normal, right = np.empty((count, 6 + columns, 6 + columns)), np.empty((count, 6 + columns))
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        design, residual = _linearised(state.take(part), target.take(part), basis, settings)
        across = design.swapaxes(-1, -2)
        normal[part] = across @ design
        right[part] = (across @ residual[..., None])[..., 0]
    return normal, right


def _linearised(state, target, basis, settings):
    """Weighted derivatives [T, 3 P, N] of picture coordinates and depths, in units of the noise, and residuals [T, 3 P]."""
    turned = state.turned(target)
    x, y, z = np.moveaxis(turned + state.translation[:, None], -1, 0)
    z = np.maximum(z, 1e-3)
    count, points = z.shape
    focal = target.matrix[[0, 1], [0, 1]]
    unit = 1 / (settings.noise * target.size)
    slope = np.zeros((count, points, 3, 3))
    slope[..., 0, 0], slope[..., 0, 2] = focal[0] / z, -focal[0] * x / z**2
    slope[..., 1, 1], slope[..., 1, 2] = focal[1] / z, -focal[1] * y / z**2
    # The mesh's own depth is in px as if all of the face were equally far.
    mean_depth = (z * target.weights).sum(1, keepdims=True)
    scale = settings.depth_weight**0.5 * focal[0] / mean_depth
    slope[..., 2, 2] = scale
    residual = np.empty((count, points, 3))
    residual[..., 0] = target.pixels[..., 0] - (focal[0] * x / z + target.matrix[0, 2])
    residual[..., 1] = target.pixels[..., 1] - (focal[1] * y / z + target.matrix[1, 2])
    residual[..., 2] = settings.depth_weight**0.5 * target.depth - scale * (z - mean_depth)
    squared = (residual[..., :2] ** 2).sum(-1) / (settings.outlier * target.size[:, None]) ** 2
    weight = (unit[:, None] * np.sqrt(target.weights) / (1 + squared))[..., None]
    slope *= weight[..., None]
    arm = turned - turned.mean(1, keepdims=True)
    pose = np.concatenate([-slope @ skew(arm), slope], -1)
    # A depth counts from the face's own middle, so moving the face does not change it.
    pose[..., 2, 3:] = 0
    sloped = (slope @ state.rotation[:, None]).astype(np.float32)
    by_point = sloped.transpose(1, 0, 2, 3).reshape(points, count * 3, 3) @ basis
    by_frame = by_point.reshape(points, count, 3, -1).swapaxes(0, 1)
    design = np.concatenate([pose.astype(np.float32), by_frame], -1)
    return design.reshape(count, points * 3, -1), (weight * residual).astype(np.float32).reshape(count, -1)


def _eliminate(normal, right, count):
    """Takes the first `count` unknowns out of batched normal equations.

    Returns the reduced matrices and right sides, and the map [T, count, N'] and constant [T, count] that give the eliminated
    unknowns from the others: constant - map @ others.
    """
    own = (
        normal[:, :count, :count]
        + 1e-9 * np.eye(count) * np.trace(normal[:, :count, :count], axis1=1, axis2=2)[:, None, None]
    )
    solved = np.linalg.solve(own, np.concatenate([normal[:, :count, count:], right[:, :count, None]], -1))
    back, constant = solved[..., :-1], solved[..., -1]
    across = normal[:, count:, :count]
    return (
        normal[:, count:, count:] - across @ back,
        right[:, count:] - (across @ constant[..., None])[..., 0],
        back,
        constant,
    )


def _free(expression, right, limits, sparsity):
    """Which coefficients [T, E] a step may move: not those at a limit, or at rest, that nothing pushes away from it."""
    low, high = limits.T
    stuck = (expression <= low) & (right <= sparsity) & (low < 0) | (expression >= high) & (right >= -sparsity)
    resting = (expression == 0) & ((np.abs(right) <= sparsity) | (low == 0) & (right <= sparsity))
    return ~(stuck | resting)


def _shape_change(normal, right, free, drag, offset, settings):
    """Step [S] of the shape, with all frames' free expression coefficients [T, E] following it; drag [T, E] holds those back."""
    size = free.shape[1]
    both = free[:, :, None] & free[:, None]
    own = np.where(both, normal[:, :size, :size], np.eye(size))
    shared = np.where(free[:, :, None], normal[:, :size, size:], 0)
    own_right = np.where(free, right[:, :size] - drag, 0)
    solved = np.linalg.solve(own, np.concatenate([shared, own_right[..., None]], -1))
    across = shared.swapaxes(-1, -2)
    reduced = (normal[:, size:, size:] - across @ solved[..., :-1]).mean(0)
    reduced_right = (right[:, size:] - (across @ solved[..., -1:])[..., 0]).mean(0)
    held = reduced + settings.shape_prior * np.eye(len(offset))
    return np.clip(np.linalg.solve(held, reduced_right - settings.shape_prior * offset), -1, 1)


def _bounded_sparse(normal, right, start, limits, sparsity, sweeps=12):
    """Minimises (e - start) N (e - start) / 2 - right (e - start) + sparsity [E] |e| within limits [E, 2], for all frames at once.

    Coordinate descent, each coordinate of all T frames in one go: normal [T, E, E], right and start [T, E].
    """
    if len(normal) == 1:
        return _bounded_sparse_one(normal[0], right[0], start[0], limits, sparsity, sweeps)[None]
    by_column = np.ascontiguousarray(np.moveaxis(normal, 2, 0))  # [E, T, E]
    values, gradient = start.copy(), right.copy()
    for _ in range(sweeps):
        for index in range(len(limits)):
            column = by_column[index]
            own = np.maximum(column[:, index], 1e-12)
            wanted = values[:, index] + gradient[:, index] / own
            shrunk = np.sign(wanted) * np.maximum(np.abs(wanted) - sparsity[index] / own, 0)
            new = np.clip(shrunk, *limits[index])
            gradient -= column * (new - values[:, index])[:, None]
            values[:, index] = new
    return values


def _bounded_sparse_one(normal, right, start, limits, sparsity, sweeps):
    """`_bounded_sparse` of a single frame, several times as fast: most coefficients rest, and a resting one takes no array's work.

    It ends early where a sweep moves nothing by more than a millionth.
    """
    columns, gradient = list(normal.T), right.copy()
    values, own = start.tolist(), np.maximum(normal.diagonal(), 1e-12).tolist()
    bounds, sparsity = limits.tolist(), sparsity.tolist()
    for _ in range(sweeps):
        largest = 0.0
        for index, value in enumerate(values):
            wanted = value + gradient.item(index) / own[index]
            shrunk = max(abs(wanted) - sparsity[index] / own[index], 0.0)
            low, high = bounds[index]
            new = min(max(shrunk if wanted > 0 else -shrunk, low), high)
            if new != value:
                gradient -= columns[index] * (new - value)
                values[index], largest = new, max(largest, abs(new - value))
        if largest < 1e-6:
            break
    return np.array(values)


def _moved(state, target, move):
    """The state with its poses moved by [T, 6]: a turn in rad about the face's middle, in camera axes, and a shift in m."""
    middle = state.turned(target).mean(1)
    turn = move[:, :3] * np.minimum(1, 0.4 / np.maximum(np.linalg.norm(move[:, :3], axis=1), 1e-9))[:, None]
    rotate = axis_angle_to_matrix(turn)
    centre = middle + state.translation
    shift = move[:, 3:].copy()
    # A step must not reach the camera, or leap away from it.
    shift *= np.minimum(1, 0.5 * np.maximum(centre[:, 2], 1e-3) / np.maximum(np.linalg.norm(shift, axis=1), 1e-9))[:, None]
    translation = centre + shift - np.einsum("tij,tj->ti", rotate, middle)
    return replace(state, rotation=rotate @ state.rotation, translation=translation)


def _to_motion(state, target, motion):
    """Puts the fit into the found frames, and takes back those whose answer cannot be believed."""
    found = np.flatnonzero(motion.valid)
    motion.shape, motion.matrix = state.shape, target.matrix
    motion.expression[found], motion.rotation[found], motion.translation[found] = (
        state.expression,
        state.rotation,
        state.translation,
    )
    bad = (view_angle(state, target) > np.radians(LARGEST_ANGLE)) | (misfit(state, target) > WORST_MISFIT)
    bad |= ~np.isfinite(state.translation).all(1)
    lost = found[bad]
    motion.valid[lost] = False
    motion.expression[lost], motion.rotation[lost], motion.translation[lost] = 0, np.eye(3), 0
    return motion


def misfit(state, target):
    """Median distance [T] between fitted and found points, in heights of the face."""
    camera = state.turned(target) + state.translation[:, None]
    pixels = camera[..., :2] / np.maximum(camera[..., 2:], 1e-3) * target.matrix[[0, 1], [0, 1]] + target.matrix[:2, 2]
    return np.median(np.linalg.norm(pixels - target.pixels, axis=-1), axis=1) / target.size
