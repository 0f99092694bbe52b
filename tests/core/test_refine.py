"""The whole-clip refinement: its derivatives against differences, its steps against dense ones, and motions of known truth."""

from dataclasses import replace

import numpy as np
import pytest

from fullbody_core.camera import camera_matrix, project
from fullbody_core.contract.frames import REST_TO_CAMERA, axis_angle_to_matrix
from fullbody_core.contract.skeleton import BLAZEPOSE_33, BODY_JOINTS
from fullbody_core.ik.rest_skeleton import SOLE_PLACES, RestSkeleton, tracked_places
from fullbody_core.motion import Motion
from fullbody_core.refine import refine
from fullbody_core.refine.pose_prior import PosePrior, PosePriorError, fit_pose_prior, mirror_vectors
from fullbody_core.refine.problem import JOINTS, UNKNOWNS, BodyPoints, Observations, Pose, Posed
from fullbody_core.refine.refine import Hints, RefineSettings, refine_motion
from fullbody_core.refine.solver import NormalEquations
from fullbody_core.refine.terms import (
    Agreement,
    Contact,
    Floor,
    Limits,
    PointForces,
    Prior,
    Reprojection,
    Shape,
    Smoothness,
)

FRAMES = 4
KEPT_SHAPE = RefineSettings().without("shape")
PLACES = ("nose", "left_wrist", "right_heel", "left_index1")
MATRIX = camera_matrix((640, 480), 55)


@pytest.fixture(scope="module")
def points(body):
    return BodyPoints.of_body(body, PLACES)


@pytest.fixture(scope="module")
def prior():
    return PosePrior.load()


def random_pose(rng, frames=FRAMES):
    rotations = axis_angle_to_matrix(0.3 * rng.standard_normal((frames, JOINTS, 3)))
    rotations[:, 0] = rotations[:, 0] @ REST_TO_CAMERA
    root = [0, 0, 4] + 0.1 * rng.standard_normal((frames, 3))
    return Pose(root, rotations, 0.3 * rng.standard_normal(16), 0.1)


def differences(function, pose, points, rng, count=6, size=1e-5):
    """(steps, shape steps, the function's slopes along them) for a few random steps of all unknowns at once."""
    for _ in range(count):
        step, shape = rng.standard_normal((len(pose.root), UNKNOWNS)), rng.standard_normal(17)
        ahead, back = (function(Posed.of(pose.stepped(way * step, way * shape), points)) for way in (size, -size))
        yield step, shape, (ahead - back) / (2 * size)


def test_points_are_the_skeletons(body, points):
    pose = random_pose(np.random.default_rng(0))
    skeleton = RestSkeleton.of_body(body, pose.betas)
    rotations = np.tile(np.eye(3), (FRAMES, 52, 1, 1))
    rotations[:, BODY_JOINTS] = pose.rotations
    expected = skeleton.place(SOLE_PLACES + PLACES, *skeleton.pose(rotations)) + pose.root[:, None]
    posed = Posed.of(pose, points)
    # The soles' height follows the lowest vertex, which is linear in the shape only as long as it is the same one.
    np.testing.assert_allclose(posed.points[:, points.soles.start :], expected, atol=1e-3)
    np.testing.assert_allclose(posed.joints, skeleton.pose(rotations)[0][:, BODY_JOINTS] + pose.root[:, None], atol=1e-9)


def test_jacobians_are_the_slopes_of_the_points(points):
    rng = np.random.default_rng(1)
    pose = random_pose(rng)
    posed = Posed.of(pose, points)
    jacobian, by_shape = posed.jacobian(), posed.shape_jacobian()
    for step, shape, slope in differences(lambda moved: moved.points, pose, points, rng):
        np.testing.assert_allclose((jacobian @ step[:, None, :, None])[..., 0] + by_shape @ shape[:-1], slope, atol=1e-7)


def terms_of_points(posed, rng):
    observed, smooth = len(PLACES), posed.body.observed.start
    times = np.cumsum(rng.uniform(0.02, 0.05, FRAMES))
    turns = axis_angle_to_matrix(0.05 * rng.standard_normal((FRAMES, 3)))
    standing = (rng.random((FRAMES, 6)) > 0.5).astype(float)
    up = np.array([0.0, -0.98, 0.199])
    floor = float(np.median(posed.points[:, posed.body.soles] @ up))
    pixels, weights = rng.uniform(150, 400, (FRAMES, observed, 2)), rng.random((FRAMES, observed))
    return {
        "reprojection": Reprojection(pixels, weights, np.full((FRAMES, observed), 20.0), turns, MATRIX),
        "smoothness": Smoothness(times, rng.uniform(1, 3, (FRAMES, smooth))),
        "contact": Contact(times, standing, 0.1),
        "floor": Floor(up, floor, 0.1 * rng.random((FRAMES, 6)), standing, 0.01, 0.02),
    }


def terms_of_joints(posed, rng, prior):
    orientations = posed.orientations @ axis_angle_to_matrix(0.2 * rng.standard_normal((FRAMES, JOINTS, 3)))
    return {
        "agreement": Agreement(orientations, rng.uniform(0.1, 0.5, (FRAMES, JOINTS))),
        "prior": Prior(prior, 0.1),
        "limits": Limits(0.1 * prior.low, 0.1 * prior.high, 0.1),
    }


def equations_of(term, posed):
    equations = NormalEquations.zeros(FRAMES, UNKNOWNS, 17)
    if isinstance(term, (Reprojection, Smoothness, Contact, Floor)):
        forces = PointForces.zeros(FRAMES, posed.points.shape[1])
        term.add(posed, forces)
        forces.into(equations, posed, True)
    else:
        term.add(posed, equations)
    return equations


def test_every_terms_gradient_is_the_slope_of_its_cost(points, prior):
    rng = np.random.default_rng(2)
    pose = random_pose(rng)
    posed = Posed.of(pose, points)
    shape = {"shape": Shape(np.zeros(16), 0.5, 0.1)}
    for name, term in (terms_of_points(posed, rng) | terms_of_joints(posed, rng, prior) | shape).items():
        equations = equations_of(term, posed)
        for step, shape_step, slope in differences(term.cost, pose, points, rng, count=3, size=1e-6):
            found = (equations.gradient * step).sum() + equations.border_gradient @ shape_step
            scale = np.linalg.norm(equations.gradient) + np.linalg.norm(equations.border_gradient)
            assert found == pytest.approx(slope, abs=1e-5 * scale * np.sqrt(UNKNOWNS * FRAMES)), name


def dense(equations):
    """(H, gradient) as one matrix and one vector."""
    frames, size = equations.gradient.shape
    whole = np.zeros((frames * size + len(equations.border_gradient),) * 2)
    rows = [slice(size * frame, size * frame + size) for frame in range(frames)]
    shared = slice(frames * size, None)
    for frame, own in enumerate(rows):
        whole[own, own] = equations.same[frame]
        whole[own, shared], whole[shared, own] = equations.border[frame], equations.border[frame].T
        for apart, blocks in ((1, equations.next), (2, equations.next_but_one)):
            if frame + apart < frames:
                whole[own, rows[frame + apart]] = blocks[frame]
                whole[rows[frame + apart], own] = blocks[frame].T
    whole[shared, shared] = equations.corner
    return whole, np.concatenate([equations.gradient.ravel(), equations.border_gradient])


def test_a_step_is_the_dense_solution_and_held_frames_stay():
    rng = np.random.default_rng(3)
    frames, size, shared = 5, 4, 2
    equations = NormalEquations.zeros(frames, size, shared)
    for blocks in vars(equations).values():
        blocks[...] = rng.standard_normal(blocks.shape)
    # Symmetric, and positive definite by its diagonal.
    equations.same += np.swapaxes(equations.same, 1, 2) + 30 * np.eye(size)
    equations.corner += equations.corner.T + 30 * np.eye(shared)
    for held in (0, 2):
        equations.hold(held)
        step, shape = equations.solve(0.0)
        matrix, gradient = dense(equations)
        np.testing.assert_allclose(np.append(step.ravel(), shape), np.linalg.solve(matrix, -gradient), atol=1e-9)
        assert not step[:held].any() and step[held:].any()


@pytest.fixture(scope="module")
def walker(body):
    """(truth `Motion`, `Observations`, up, floor) of somebody who sways on planted feet and swings their arms, 1.2 s at 30 Hz."""
    times = np.arange(36) / 30
    vectors = np.zeros((len(times), 52, 3))
    swing = np.sin(2 * np.pi * 0.8 * times)
    vectors[:, 16, 2], vectors[:, 17, 2] = -1.0 + 0.4 * swing, 1.0 + 0.4 * swing
    vectors[:, 18, 1], vectors[:, 19, 1] = -0.5, 0.5 + 0.3 * swing
    vectors[:, [1, 2], 0], vectors[:, [4, 5], 0], vectors[:, [7, 8], 0] = -0.3, 0.6, -0.3
    rotations = axis_angle_to_matrix(vectors)
    rotations[:, 0] = REST_TO_CAMERA @ axis_angle_to_matrix([0, 0.4, 0])
    skeleton = RestSkeleton.of_body(body, np.zeros(16))
    truth = Motion(skeleton, rotations, np.tile([0.1, 0.2, 3.5], (len(times), 1)), np.ones((len(times), 4), bool))
    places = tracked_places(BLAZEPOSE_33)
    pixels = project(skeleton.place(places, *skeleton.pose(rotations)) + truth.pelvis[:, None], MATRIX)
    still = np.broadcast_to(np.eye(3), (len(times), 3, 3))
    shape = pixels.shape[:2]
    seen, sizes, face = np.ones(len(times), bool), np.full(len(times), 330.0), np.zeros(len(times))
    return truth, Observations(times, pixels, np.ones(shape), places, MATRIX, still, sizes, seen, face)


def shaken(truth, rng, turn, step):
    """The motion with each joint turned and the pelvis moved at random in every frame."""
    rotations = truth.rotations.copy()
    rotations[:, BODY_JOINTS] = rotations[:, BODY_JOINTS] @ axis_angle_to_matrix(
        turn * rng.standard_normal((len(rotations), 22, 3))
    )
    return replace(truth, rotations=rotations, pelvis=truth.pelvis + step * rng.standard_normal(truth.pelvis.shape))


def joints_of(motion):
    return motion.skeleton.pose(motion.rotations)[0][:, BODY_JOINTS] + motion.pelvis[:, None]


def soles_of(motion):
    places = motion.skeleton.place(SOLE_PLACES, *motion.skeleton.pose(motion.rotations))
    return places + motion.pelvis[:, None]


def test_a_shaken_motion_comes_back_steady_and_stands(body, walker):
    truth, observations = walker
    rng = np.random.default_rng(4)
    start = shaken(truth, rng, 0.12, 0.05)
    noisy = replace(observations, pixels=observations.pixels + rng.standard_normal(observations.pixels.shape))
    found = refine_motion(start, body, np.zeros(16), noisy, Hints(up=np.array([0.0, -1, 0]), up_spread=0.02))

    def error(motion):
        return np.linalg.norm(joints_of(motion) - joints_of(truth), axis=-1).mean()

    def shake(motion):
        return np.linalg.norm(np.diff(joints_of(motion), 2, axis=0), axis=-1).mean()

    assert error(found.motion) < 0.5 * error(start)
    assert shake(found.motion) < 0.1 * shake(start)
    assert found.contacts.mean() > 0.9
    speed = np.linalg.norm(np.diff(soles_of(found.motion), axis=0), axis=-1) * 30
    assert np.median(speed) < 0.01
    assert (soles_of(found.motion) @ found.up).min() > found.floor - 0.01
    wrists = [np.linalg.norm(np.diff(joints_of(motion)[:, [20, 21]], axis=0), axis=-1) for motion in (found.motion, truth)]
    assert np.percentile(wrists[0], 95) > 0.95 * np.percentile(wrists[1], 95)
    np.testing.assert_array_equal(found.motion.rotations[:, 22:], start.rotations[:, 22:])


def test_a_wrong_pixel_is_not_followed(body, walker):
    truth, observations = walker
    pixels = observations.pixels.copy()
    wrist = observations.places.index("left_wrist")
    pixels[20:22, wrist] += [120, -90]
    found = refine_motion(truth, body, np.zeros(16), replace(observations, pixels=pixels), settings=KEPT_SHAPE)
    off = np.linalg.norm(joints_of(found.motion) - joints_of(truth), axis=-1)
    assert off[20:22, 20].max() < 0.06


def test_windows_join_without_a_seam(body, walker, monkeypatch):
    truth, observations = walker
    start = shaken(truth, np.random.default_rng(5), 0.05, 0.02)
    whole = refine_motion(start, body, np.zeros(16), observations, settings=KEPT_SHAPE)
    monkeypatch.setattr(refine, "WINDOW", 22)
    monkeypatch.setattr(refine, "TAIL", 8)
    parts = refine_motion(start, body, np.zeros(16), observations, settings=KEPT_SHAPE)
    np.testing.assert_allclose(joints_of(parts.motion), joints_of(whole.motion), atol=0.03)
    leap = np.linalg.norm(np.diff(joints_of(parts.motion), 2, axis=0), axis=-1).max()
    assert leap < 2 * np.linalg.norm(np.diff(joints_of(truth), 2, axis=0), axis=-1).max()


@pytest.mark.parametrize("frames", [1, 2])
def test_very_short_clips_and_nobody_seen(body, walker, frames):
    truth, observations = walker
    few = replace(truth, rotations=truth.rotations[:frames], pelvis=truth.pelvis[:frames], valid=truth.valid[:frames])
    seen = observations.take(slice(0, frames))
    unseen = replace(seen, weights=np.zeros_like(seen.weights), seen=np.zeros(frames, bool))
    for observed in (seen, unseen):
        found = refine_motion(few, body, np.zeros(16), observed)
        assert np.isfinite(found.motion.rotations).all() and np.isfinite(found.motion.pelvis).all()
        assert found.contacts.shape == (frames, 2, 3)


def test_a_turning_camera_is_seen_through(body, walker):
    truth, observations = walker
    turns = axis_angle_to_matrix(np.linspace(0, 0.16, 36)[:, None] * [0, 1, 0])
    points = truth.skeleton.place(observations.places, *truth.skeleton.pose(truth.rotations)) + truth.pelvis[:, None]
    pixels = project(points @ np.swapaxes(turns, 1, 2), MATRIX)
    turned = replace(observations, pixels=pixels, camera_turns=turns)
    found = refine_motion(truth, body, np.zeros(16), turned, settings=KEPT_SHAPE)
    assert np.linalg.norm(joints_of(found.motion) - joints_of(truth), axis=-1).mean() < 0.03


def test_a_term_is_left_out_by_its_name():
    assert not RefineSettings().without("contact").contact
    with pytest.raises(ValueError, match="no term 'contacts'"):
        RefineSettings().without("contacts")


def test_the_nearest_component_is_the_likeliest(prior):
    rng = np.random.default_rng(6)
    vectors = 0.3 * rng.standard_normal((5, 63))
    which, cost = prior.nearest(vectors)
    off = vectors[:, None] - prior.means
    heights = prior.log_weights + 0.5 * np.linalg.slogdet(prior.precisions)[1]
    plain = 0.5 * np.einsum("tci,cij,tcj->tc", off, prior.precisions, off) + heights.max() - heights
    np.testing.assert_array_equal(which, plain.argmin(1))
    np.testing.assert_allclose(cost, plain.min(1), rtol=1e-6)


def test_a_prior_is_learned_saved_and_read_again(tmp_path):
    rng = np.random.default_rng(7)
    vectors = 0.2 * rng.standard_normal((400, 63))
    vectors[:, [9, 12]] = rng.uniform(0, 2, (400, 2))  # the knees
    learned = fit_pose_prior(vectors, components=2, rounds=5)
    assert 1.9 < learned.high[9] < 2.3 and -0.2 < learned.low[9] < 0.1
    # What is learned is the same for both sides.
    np.testing.assert_allclose(learned.high[9], learned.high[12], atol=1e-6)
    np.testing.assert_allclose(mirror_vectors(mirror_vectors(vectors)), vectors)
    learned.save(tmp_path / "prior.npz")
    again = PosePrior.load(tmp_path / "prior.npz")
    np.testing.assert_allclose(again.nearest(vectors[:9])[1], learned.nearest(vectors[:9])[1], rtol=1e-3)
    (tmp_path / "broken.npz").write_bytes(b"no prior")
    with pytest.raises(PosePriorError):
        PosePrior.load(tmp_path / "broken.npz")
