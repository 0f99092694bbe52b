"""The face frame by frame: near the fit of the whole clip, found again after a loss, and never believed where the fit would not."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_face_motion import MATRIX, SIZE, face_motion, mesh_of, timestamps

from fullbody_core.camera import camera_matrix
from fullbody_core.face.face_motion import FaceMotion
from fullbody_core.face.face_tracker import LONGEST_GAP, FaceTracker
from fullbody_core.face.landmark_fit import FitSettings, FitState, FitTarget, fit_landmarks, take_step


@pytest.fixture(scope="module")
def scene():
    """(model, motion, meshes with a detector's noise, the fit of the whole clip)."""
    model, motion = face_motion(frame_count=45)
    # A face does not leap from frame to frame, as the random places of `face_motion` do.
    motion = replace(motion, translation=np.linspace([-0.05, 0, 0.9], [0.05, 0.03, 1.0], 45))
    mesh = mesh_of(model, motion) + 0.5 * np.random.default_rng(1).normal(size=(45, 478, 3))
    return model, motion, mesh, fit_landmarks(mesh, np.ones(45), SIZE, MATRIX, timestamps(motion), model)


def track(tracker, mesh, times, confidence=None):
    confidence = np.ones(len(mesh)) if confidence is None else confidence
    return [tracker.track(points, sure, SIZE, time) for points, sure, time in zip(mesh, confidence, times)]


def degrees_apart(a, b):
    return np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1)))


def test_it_stays_near_the_fit_of_the_whole_clip(scene):
    model, motion, mesh, fitted = scene
    faces = track(FaceTracker(model, fitted.shape, fitted.matrix), mesh, timestamps(motion))
    errors = np.stack([face.expression for face in faces]) - fitted.expression
    assert np.abs(errors).mean() < 0.02 and np.abs(errors).max() < 0.15
    for frame, face in enumerate(faces):
        assert degrees_apart(face.rotation, fitted.rotation[frame]) < 1
        np.testing.assert_allclose(face.translation, fitted.translation[frame], atol=0.01)
        assert (face.expression >= model.expression_limits[:, 0]).all()
        assert (face.expression <= model.expression_limits[:, 1]).all()


def test_it_knows_no_future(scene):
    model, motion, mesh, fitted = scene
    first = track(FaceTracker(model, fitted.shape, MATRIX), mesh[:10], timestamps(motion))
    again = track(FaceTracker(model, fitted.shape, MATRIX), np.concatenate([mesh[:10], mesh[:0:-1]]), np.arange(54) / 30)
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one.expression, other.expression)


def test_a_lost_face_is_found_again(scene):
    model, motion, mesh, fitted = scene
    confidence = np.ones(45)
    confidence[10:14] = 0
    faces = track(FaceTracker(model, fitted.shape, MATRIX), mesh, timestamps(motion), confidence)
    assert [frame for frame, face in enumerate(faces) if face is None] == [10, 11, 12, 13]
    assert degrees_apart(faces[14].rotation, fitted.rotation[14]) < 1
    assert np.abs(faces[20].expression - fitted.expression[20]).max() < 0.15


def test_after_a_long_gap_nothing_of_the_last_frame_is_left(scene):
    model, motion, mesh, fitted = scene
    tracker = FaceTracker(model, fitted.shape, MATRIX)
    track(tracker, mesh[:5], timestamps(motion))
    later = tracker.track(mesh[40], 1.0, SIZE, 4 / 30 + LONGEST_GAP + 0.1)
    fresh = FaceTracker(model, fitted.shape, MATRIX).track(mesh[40], 1.0, SIZE, 0.0)
    np.testing.assert_array_equal(later.expression, fresh.expression)
    np.testing.assert_array_equal(later.rotation, fresh.rotation)


def test_a_face_that_leaps_is_followed(scene):
    model, motion, mesh, fitted = scene
    tracker = FaceTracker(model, fitted.shape, MATRIX)
    tracker.track(mesh[0], 1.0, SIZE, 0.0)
    aside = mesh[44] + [150, 60, 0]
    face = tracker.track(aside, 1.0, SIZE, 1 / 30)
    alone = FaceTracker(model, fitted.shape, MATRIX).track(aside, 1.0, SIZE, 0.0)
    assert degrees_apart(face.rotation, alone.rotation) < 1
    np.testing.assert_allclose(face.translation, alone.translation, atol=0.01)


@pytest.mark.parametrize("what", ["nobody", "no numbers", "tiny", "no face", "a profile"])
def test_what_cannot_be_believed_is_none(scene, what):
    model, motion, mesh, fitted = scene
    points, confidence = mesh[0].copy(), 1.0
    if what == "nobody":
        confidence = 0.0
    elif what == "no numbers":
        points[7] = np.nan
    elif what == "tiny":
        points *= 0.1
    elif what == "no face":
        points = np.random.default_rng(4).uniform(100, 380, (478, 3))
    else:
        sideways = np.array([[0.2588, 0, 0.9659], [0, 1, 0], [-0.9659, 0, 0.2588]])
        turned = replace(motion, rotation=np.tile(sideways @ np.diag([1.0, -1, -1]), (45, 1, 1)))
        points = mesh_of(model, turned)[0]
    tracker = FaceTracker(model, fitted.shape, MATRIX)
    assert tracker.track(points, confidence, SIZE, 0.0) is None
    assert tracker.track(mesh[0], 1.0, SIZE, 1 / 30) is not None


def test_a_settled_shape_gives_the_same_step(scene):
    """The shape folded into the mean, its columns left out, beside the whole basis with the shape held."""
    model, motion, mesh, fitted = scene
    whole = FitTarget.of(mesh[:1], MATRIX, model, FitSettings())
    pose = fitted.rotation[:1], fitted.translation[:1]
    plain = take_step(FitState(fitted.shape, fitted.expression[1:2], *pose), whole, FitSettings())
    folded = take_step(FitState(np.zeros(0), fitted.expression[1:2], *pose), whole.with_shape(fitted.shape), FitSettings())
    np.testing.assert_allclose(folded.expression, plain.expression, atol=1e-4)
    np.testing.assert_allclose(folded.translation, plain.translation, atol=1e-5)


def test_the_head_turns_in_another_camera_as_a_clip_s_does(scene):
    model, motion, mesh, fitted = scene
    tracker, wide = FaceTracker(model, fitted.shape, MATRIX), camera_matrix(SIZE, 90)
    face = tracker.track(mesh[44], 1.0, SIZE, 0.0)
    clip = replace(
        FaceMotion.nobody(model, 1),
        rotation=face.rotation[None],
        translation=face.translation[None],
        valid=np.ones(1, bool),
        matrix=MATRIX,
    )
    np.testing.assert_allclose(tracker.rotation_in(face, wide), clip.rotation_in(wide, model)[0], atol=1e-12)
    np.testing.assert_allclose(tracker.rotation_in(face, MATRIX), face.rotation, atol=1e-9)
    assert degrees_apart(tracker.rotation_in(face, wide), face.rotation) > 0.5
