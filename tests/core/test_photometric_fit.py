"""Colours from pictures of a face that is drawn: its albedo, the light, what is visible, and what may hide it."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_face import small_face
from synthetic_face_motion import MATRIX, face_motion, pictures

from fullbody_core.face.correspondence import vertex_normals
from fullbody_core.face.face_motion import FaceMotion
from fullbody_core.face.illumination import linear_to_srgb, shade
from fullbody_core.face.photometric_fit import (
    _Surface,
    photometric_error,
    sample_colours,
    skin_vertices,
    solve_colour,
    solve_from_samples,
)


@pytest.fixture(scope="module")
def scene():
    """(model, motion with its true colours, samples) of eight drawn frames."""
    model, motion = face_motion(8)
    return model, motion, sample_colours(pictures(model, motion), motion, model, MATRIX)


def test_drawn_colours_are_read_back(scene):
    model, motion, samples = scene
    assert samples.visible.mean() > 0.5
    assert photometric_error(samples, motion, model).max() < 0.01
    solved = solve_colour(pictures(model, motion), replace(motion, albedo=None, illumination=None), model, MATRIX)
    assert photometric_error(samples, solved, model).max() < 0.01
    # How bright the face is and how bright the light is no picture can tell; the pattern of the colours it can.
    found, mean, truth = (model.albedo(a)[samples.vertices] for a in (solved.albedo, 0 * motion.albedo, motion.albedo))
    assert unlikeness(found, truth) < 0.5 * unlikeness(mean, truth)


def test_the_albedo_explains_more_than_the_mean_colours(scene):
    model, motion, samples = scene
    solved = solve_from_samples(samples, motion, model)
    plain = replace(solved, albedo=np.zeros(model.albedo_size))
    assert photometric_error(samples, solved, model).mean() < 0.7 * photometric_error(samples, plain, model).mean()


def test_hair_over_a_fifth_of_the_face_hardly_moves_the_colours(scene):
    model, motion, samples = scene
    pixels = samples.pixels.copy()
    pixels[:, model.mean[samples.vertices, 1] > 0.06] = 12
    clean = solve_from_samples(samples, motion, model)
    hairy = solve_from_samples(replace(samples, pixels=pixels), motion, model)
    assert photometric_error(samples, hairy, model).mean() < photometric_error(samples, clean, model).mean() + 0.01


def test_frames_without_a_face_have_no_light(scene):
    model, motion, _ = scene
    valid = motion.valid.copy()
    valid[[0, 5]] = False
    motion = replace(motion, valid=valid, albedo=None, illumination=None)
    samples = sample_colours(pictures(*face_motion(8)), motion, model, MATRIX)
    solved = solve_from_samples(samples, motion, model)
    assert not samples.visible[[0, 5]].any() and not solved.illumination[[0, 5]].any() and solved.illumination[1].any()


def test_nobody_gives_zeros_and_no_error_figure():
    model = small_face()
    nobody = FaceMotion.nobody(model, 3)
    images = [np.zeros((40, 60, 3), np.uint8)] * 3
    solved = solve_colour(images, nobody, model, MATRIX)
    assert not solved.albedo.any() and solved.illumination.shape == (3, 3, 9) and not solved.illumination.any()
    assert np.isnan(photometric_error(sample_colours(images, nobody, model, MATRIX), solved, model)).all()


def test_points_outside_the_picture_are_not_visible(scene):
    model, motion, _ = scene
    away = replace(motion, translation=motion.translation + [5, 0, 0])
    assert not sample_colours(pictures(model, motion), away, model, MATRIX).visible.any()


def test_what_lies_behind_a_nearer_part_is_hidden():
    model = small_face(side=41)
    behind = np.concatenate([model.mean, model.mean - [0, 0, 0.03]])
    corners = len(model.mean)
    double = replace_geometry(model, behind, np.concatenate([model.faces, model.faces + corners]))
    motion = FaceMotion.nobody(double, 1)
    motion.rotation[:], motion.translation[:], motion.valid[:] = np.diag([1.0, -1, -1]), [0, 0, 1], True
    samples = sample_colours([np.full((480, 640, 3), 99, np.uint8)], motion, double, MATRIX)
    front = samples.vertices < corners
    assert samples.visible[0, front].mean() > 0.8 and samples.visible[0, ~front].mean() < 0.1


def test_normals_of_the_few_are_those_of_the_whole(scene):
    model, motion, samples = scene
    _, normals = _Surface.of(model).posed(motion, slice(3, 4))
    vertices = model.geometry(motion.shape, motion.expression[3])
    whole = vertex_normals(vertices, model.triangles)[samples.vertices] @ motion.rotation[3].T
    np.testing.assert_allclose(normals[0], whole, atol=1e-4)
    assert (normals[0] * [0, 0, 1]).sum() < 0


def test_points_lie_on_the_skin_alone():
    model = small_face()
    model.regions["skin"] = (model.mean[:, 0] > 0).astype(np.float32)
    chosen = skin_vertices(model, 50)
    assert len(chosen) <= 50 and (model.mean[chosen, 0] > 0).all() and (np.diff(chosen) > 0).all()
    model.regions["skin"] = np.zeros(len(model.mean), np.float32)
    assert not len(skin_vertices(model))


def test_the_error_is_the_mean_difference(scene):
    model, motion, samples = scene
    albedo = model.albedo(motion.albedo)[samples.vertices]
    total = []
    for frame in range(8):
        shown = linear_to_srgb(shade(albedo, motion.illumination[frame], samples.normals[frame]))
        total.append(np.abs(shown - samples.pixels[frame] / 255)[samples.visible[frame]])
    np.testing.assert_allclose(photometric_error(samples, motion, model), np.concatenate(total).mean(0), rtol=1e-5)


def unlikeness(colours, others):
    """How much the ratio of colours [P, 3] varies over the points, as a share of its mean, over all channels."""
    ratio = colours / others
    return float((ratio.std(0) / ratio.mean(0)).mean())


def replace_geometry(model, mean, faces):
    """A model with its surface twice, one behind the other."""
    return replace(
        model,
        mean=mean.astype(np.float32),
        faces=faces,
        shape_basis=np.tile(model.shape_basis, (1, 2, 1)),
        expression_basis=np.tile(model.expression_basis, (1, 2, 1)),
        albedo_mean=np.tile(model.albedo_mean, (2, 1)),
        albedo_basis=np.tile(model.albedo_basis, (1, 2, 1)),
        mesh_vertices=None,
        regions={"skin": np.ones(len(mean), np.float32)},
        boundary=None,
    )
