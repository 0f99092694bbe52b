"""The landmark fit on faces whose truth is known: recovery, noise, outliers, bounds, and frames that should not be believed."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_face_motion import MATRIX, SIZE, face_motion, mesh_of, timestamps

from fullbody_core.camera import camera_matrix
from fullbody_core.face.landmark_fit import (
    LARGEST_ANGLE,
    FitSettings,
    _bounded_sparse,
    believable,
    expression_cost,
    fit_landmarks,
    refine,
    solve_pose,
)
from fullbody_core.face.landmarks import CONTOUR, LANDMARKS_68, eye_opening, lip_distance

FREE = FitSettings(shape_prior=1e-7, expression_ridge=1e-7, expression_sparsity=1e-7, smoothness=0)
"""Hardly any prior: exact points then have to give the exact face."""


@pytest.fixture(scope="module")
def truth():
    return face_motion()


def fit(model, motion, mesh, settings=FitSettings(), confidence=None, matrix=MATRIX):
    confidence = np.ones(len(mesh)) if confidence is None else confidence
    return fit_landmarks(mesh, confidence, SIZE, matrix, timestamps(motion), model, settings)


def test_exact_points_give_the_exact_face(truth):
    model, motion = truth
    found = fit(model, motion, mesh_of(model, motion), FREE)
    assert found.valid.all() and found.albedo is None
    np.testing.assert_allclose(found.shape, motion.shape, atol=0.01)
    np.testing.assert_allclose(found.expression, motion.expression, atol=0.01)
    np.testing.assert_allclose(found.rotation, motion.rotation, atol=2e-3)
    np.testing.assert_allclose(found.translation, motion.translation, atol=2e-3)
    np.testing.assert_allclose(found.matrix, MATRIX)


def test_priors_and_noise_move_it_little(truth):
    model, motion = truth
    mesh = mesh_of(model, motion) + np.random.default_rng(1).normal(size=(30, 478, 3))
    found = fit(model, motion, mesh)
    assert np.abs(found.shape - motion.shape).max() < 0.3
    assert np.abs(found.expression - motion.expression).mean() < 0.06


def test_a_tenth_of_wild_points_does_no_harm(truth):
    model, motion = truth
    mesh, rng = mesh_of(model, motion), np.random.default_rng(2)
    clean = fit(model, motion, mesh)
    wild = rng.random(mesh.shape[:2]) < 0.1
    mesh[wild] += rng.choice([-60, 60], (wild.sum(), 3))
    found = fit(model, motion, mesh)
    assert found.valid.all()
    assert np.abs(found.expression - clean.expression).mean() < 0.03 and np.abs(found.shape - clean.shape).max() < 0.2


def test_expressions_stay_within_their_limits_whatever_the_points(truth):
    model, motion = truth
    mesh = mesh_of(model, motion) + 15 * np.random.default_rng(3).normal(size=(30, 478, 3))
    far = replace(motion, expression=5 * motion.expression, shape=4 * motion.shape)
    for points in (mesh, mesh_of(model, far)):
        found = fit(model, motion, points)
        low, high = model.expression_limits.T
        assert (found.expression >= low).all() and (found.expression <= high).all()
        assert np.isfinite(found.shape).all() and np.abs(found.shape).max() < 30


def test_a_face_at_rest_has_no_expression(truth):
    model, motion = truth
    still = replace(motion, expression=np.zeros_like(motion.expression))
    found = fit(model, still, mesh_of(model, still))
    assert (found.expression == 0).mean() > 0.8 and found.expression.max() < 0.05


def test_a_blink_of_three_frames_survives(truth):
    model, motion = truth
    blink = list(model.expression_names).index("eyeBlinkLeft")
    motion = replace(motion, expression=np.zeros_like(motion.expression))
    motion.expression[14:17, blink] = [0.6, 1, 0.6]
    found = fit(model, motion, mesh_of(model, motion)).expression[:, blink]
    assert found[15] > 0.85 and found[12] < 0.1 and found[18] < 0.1


def test_a_frame_without_a_face_takes_nothing_from_the_others(truth):
    model, motion = truth
    mesh, confidence = mesh_of(model, motion), np.ones(30)
    confidence[10:13], mesh[10:13] = 0, 0
    mesh[20, 5] = np.nan
    found = fit(model, motion, mesh, confidence=confidence)
    lost = [10, 11, 12, 20]
    assert np.flatnonzero(~found.valid).tolist() == lost
    assert (
        not found.expression[lost].any() and not found.translation[lost].any() and (found.rotation[lost] == np.eye(3)).all()
    )


def test_no_face_at_all(truth):
    model, motion = truth
    found = fit(model, motion, np.zeros((30, 478, 3)), confidence=np.zeros(30))
    assert not found.valid.any() and not found.expression.any() and not found.shape.any()


def test_tiny_faces_and_faces_at_the_edge_are_not_believed(truth):
    model, motion = truth
    mesh = mesh_of(model, motion)[:1]
    assert believable(mesh, np.ones(1), SIZE).all()
    assert not believable(mesh * 39 / np.ptp(mesh[..., 1]), np.ones(1), SIZE).any()
    assert not believable(mesh - [mesh[..., 0].mean(), 0, 0], np.ones(1), SIZE).any()


def test_a_profile_is_not_believed(truth):
    model, motion = truth
    turned = replace(motion, rotation=np.tile(turn_y(75) @ np.diag([1.0, -1, -1]), (30, 1, 1)))
    found = fit(model, turned, mesh_of(model, turned))
    assert LARGEST_ANGLE < 75 and not found.valid.any() and not found.expression.any()


def test_what_is_no_face_is_not_believed(truth):
    model, motion = truth
    points = np.random.default_rng(4).uniform(100, 380, (30, 478, 3))
    assert not fit(model, motion, points).valid.any()


def test_a_frame_alone_fits_as_it_does_among_others(truth):
    model, motion = truth
    mesh, settings = mesh_of(model, motion), replace(FREE, shape_prior=1e3)
    both = fit(model, motion, mesh, settings)
    alone = fit_landmarks(mesh[7:8], np.ones(1), SIZE, MATRIX, np.zeros(1), model, settings)
    np.testing.assert_allclose(alone.expression[0], both.expression[7], atol=0.02)


def test_refining_a_near_start_finds_the_truth(truth):
    model, motion = truth
    rng = np.random.default_rng(5)
    start = replace(
        motion,
        shape=motion.shape + 0.2 * rng.normal(size=motion.shape.shape),
        expression=np.clip(motion.expression + 0.2 * rng.normal(size=motion.expression.shape), 0, 1),
        translation=motion.translation + [0.01, -0.01, 0.03],
    )
    found = refine(start, mesh_of(model, motion), np.ones(30), SIZE, MATRIX, timestamps(motion), model)
    error, before = (np.abs(other.expression - motion.expression).mean() for other in (found, start))
    assert found.valid.all() and error < before / 3 and np.abs(found.translation - motion.translation).max() < 0.02


def test_a_long_lens_is_found_where_the_given_one_puts_the_face_too_near(truth):
    model, motion = truth
    found = fit(model, motion, mesh_of(model, motion), matrix=camera_matrix(SIZE, 90))
    assert found.matrix[0, 0] > 1.3 * camera_matrix(SIZE, 90)[0, 0]
    own = found.rotation_in(MATRIX, model)
    assert np.degrees(np.arccos(np.clip((np.einsum("tij,tij->t", own, motion.rotation) - 1) / 2, -1, 1))).max() < 6


def test_pose_alone_is_exact_and_faces_the_camera_when_in_doubt(truth):
    model, motion = truth
    places = model.mesh_points.places(motion.shape, motion.expression)[0]
    rotation, translation = solve_pose(places, mesh_of(model, motion)[0, :, :2], MATRIX)
    np.testing.assert_allclose(rotation, motion.rotation[0], atol=1e-4)
    np.testing.assert_allclose(translation, motion.translation[0], atol=1e-4)
    lost, _ = solve_pose(places[:10], np.zeros((10, 2)), MATRIX)
    assert lost[2, 2] < 0


def test_coordinate_descent_agrees_with_a_slow_search():
    rng = np.random.default_rng(6)
    factor = rng.normal(size=(3, 8, 4))
    normal, right = np.swapaxes(factor, 1, 2) @ factor + 0.1 * np.eye(4), rng.normal(size=(3, 4))
    limits, sparsity = np.tile([-0.2, 1.0], (4, 1)), np.full(4, 0.3)
    found = _bounded_sparse(normal, right, np.zeros((3, 4)), limits, sparsity, sweeps=200)

    def cost(values):
        return (
            np.einsum("ti,tij,tj->t", values, normal, values) / 2
            - (right * values).sum(1)
            + (sparsity * np.abs(values)).sum(1)
        )

    for _ in range(300):
        other = np.clip(found + 0.05 * rng.normal(size=found.shape), *limits.T)
        assert (cost(other) >= cost(found) - 1e-9).all()


def test_a_single_frame_s_descent_is_that_of_many():
    rng = np.random.default_rng(7)
    factor = rng.normal(size=(5, 30, 20))
    normal, right = np.swapaxes(factor, 1, 2) @ factor + 0.1 * np.eye(20), 5 * rng.normal(size=(5, 20))
    limits, sparsity = np.tile([0.0, 0.3], (20, 1)), rng.uniform(0, 2, 20)
    start = rng.uniform(0, 0.3, (5, 20))
    together = _bounded_sparse(normal, right, start, limits, sparsity)
    for frame in range(5):
        alone = _bounded_sparse(*(array[frame : frame + 1] for array in (normal, right, start)), limits, sparsity)
        np.testing.assert_allclose(alone[0], together[frame], atol=1e-5)
    assert (together == 0).any() and (together == 0.3).any() and ((together > 0) & (together < 0.3)).any()


def test_costs_go_by_the_beginning_of_a_name():
    assert expression_cost("jawOpen") == expression_cost("eyeBlinkLeft") == 1 < expression_cost("eyeWideLeft")


def test_landmarks_are_what_they_are_called():
    assert len(set(LANDMARKS_68)) == 68 and len(set(CONTOUR)) == len(CONTOUR) == 36
    mesh = np.zeros((478, 2))
    mesh[263], mesh[33], mesh[362], mesh[133] = [3, 0], [-3, 0], [1, 0], [-1, 0]
    mesh[[385, 386, 387]], mesh[[82, 13, 312]] = [2, 0.5], [0, -2.4]
    mesh[[87, 14, 317]] = [0, -3]
    mesh[[380, 374, 373]] = [2, -0.1]
    assert eye_opening(mesh, "left") == pytest.approx(0.3) and eye_opening(mesh, "right") == 0
    assert lip_distance(mesh) == pytest.approx(0.1)


def turn_y(degrees):
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
