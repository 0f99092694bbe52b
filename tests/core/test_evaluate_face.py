"""The figures that a captured face is judged by, on answers whose errors are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_face_motion import MATRIX, SIZE, face_motion, mesh_of, pictures, timestamps

from fullbody_core.evaluate.face import (
    CROP,
    CROP_MARGIN,
    FaceClip,
    align_in_picture,
    blink_correlations,
    coefficient,
    format_face_reports,
    halves,
    identity_ratio,
    landmark_errors,
    report_face,
    solve,
)
from fullbody_core.face.landmarks import LANDMARKS_68


@pytest.fixture(scope="module")
def scene():
    model, motion = face_motion(12)
    mesh = mesh_of(model, motion)
    return model, motion, FaceClip(Path("drawn.mp4"), mesh, np.ones(12), timestamps(motion), SIZE, MATRIX)


def test_the_truth_has_no_error(scene):
    model, motion, clip = scene
    report = report_face(clip, motion, model, "truth", images=pictures(model, motion))
    assert report.landmarks < 0.01 and report.reprojection < 1e-6 and report.valid == 1
    assert report.photometric.max() < 0.01


def test_errors_are_in_pixels_of_the_crop(scene):
    model, motion, clip = scene
    box = clip.points[:, list(LANDMARKS_68), :2]
    side = CROP_MARGIN * np.ptp(box, axis=1).max(1)
    shift = np.zeros_like(clip.points)
    shift[..., 0] = (side / CROP)[:, None]
    aligned, own = landmark_errors(replace(clip, points=clip.points + 3 * shift), motion, model)
    np.testing.assert_allclose(own, 3, rtol=1e-6)
    assert aligned.max() < 0.3


def test_alignment_takes_out_turn_size_and_place():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(4, 9, 2))
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(align_in_picture(3 * target @ turn.T + [5, -2], target), target, atol=1e-9)
    assert np.abs(align_in_picture(target * [-1, 1], target) - target).max() > 0.3


def test_a_blink_that_follows_the_eye_correlates_with_it(scene):
    model, motion, clip = scene
    closed = np.linspace(0, 1, 12)
    points = clip.points.copy()
    upper, lower = [385, 386, 387], [380, 374, 373]
    points[:, upper, 1] = points[:, lower, 1] - 10 * (1 - closed)[:, None]
    points[:, upper, 0] = points[:, lower, 0]
    points[:, [263, 362]] = [[20.0, 0, 0], [0.0, 0, 0]]
    moved = replace(motion, expression=motion.expression.copy())
    moved.expression[:, list(model.expression_names).index("eyeBlinkLeft")] = closed
    assert blink_correlations(replace(clip, points=points), moved, model)[1] == pytest.approx(1)
    assert not coefficient(motion, model, "noSuchExpression").any()


def test_identity_is_distance_between_people_over_that_within():
    one, other = np.zeros(5), np.eye(5)[0]
    assert identity_ratio([[one, one + 0.1 * other], [one + other, one + other]]) == pytest.approx(9.5, rel=0.06)
    assert identity_ratio([[one, other]]) is None


def test_halves_are_the_clip(scene):
    _, _, clip = scene
    first, second = halves(clip)
    np.testing.assert_array_equal(np.concatenate([first.points, second.points]), clip.points)
    assert (first.first, second.first) == (0, 6) and len(second.confidence) == len(second.timestamps) == 6


def test_the_landmark_fit_is_measured_and_printed(scene):
    model, motion, clip = scene
    report = report_face(clip, solve(clip, model, "landmarks"), model, "landmarks", images=pictures(model, motion))
    assert report.landmarks < 1 and report.photometric.mean() < 0.03 and report.jaw != 0
    text = format_face_reports([report], {"landmarks": 4.2})
    assert "drawn.mp4" in text and "4.2" in text and f"{report.landmarks:.2f}" in text
    assert "identity" not in format_face_reports([report], {"landmarks": None})


def test_a_clip_without_a_face_is_reported_as_such(scene):
    model, _, clip = scene
    empty = replace(clip, points=0 * clip.points, confidence=0 * clip.confidence)
    images = [np.zeros((48, 64, 3), np.uint8)] * 12
    report = report_face(empty, solve(empty, model, "landmarks"), model, "landmarks", images=images)
    assert report.valid == 0 and np.isnan(report.landmarks) and np.isnan(report.photometric).all()
    assert "nan" in format_face_reports([report], {})
