"""Synthetic faces: labels that agree with the pixels, draws that keep to their bounds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_face import small_face

from fullbody_core.contract.morphable import MorphableModel
from fullbody_core.face.illumination import linear_to_srgb, sh_basis, shade, shading
from fullbody_core.networks.facenet import BOX_MARGIN, FacePoints
from fullbody_core.synth import face_mesh
from fullbody_core.synth.face import FaceSampler, shown_about
from fullbody_core.synth.face_looks import spoil
from fullbody_core.synth.face_mesh import FaceMesh, HeadMeasures, about_the_head, grow_skull, thin_out
from fullbody_core.synth.face_parameters import FaceMaker, draw_lights, draw_rotations, movements
from fullbody_core.synth.face_shaders import FACE_FIELDS, HAIR, LENSES, OCCLUDERS, SHAPES
from fullbody_core.synth.render import vertex_normals

MANY = 400


@pytest.fixture(scope="module")
def face():
    return small_face()


@pytest.fixture(scope="module")
def sampler(face):
    return FaceSampler(face, size=64)


@pytest.fixture(scope="module")
def heads(face):
    return FaceMaker(face).draw(np.random.default_rng(1), MANY)


def directions(count=500):
    towards = np.random.default_rng(0).normal(size=(count, 3))
    return towards / np.linalg.norm(towards, axis=-1, keepdims=True)


# What is drawn.


def test_expressions_keep_to_their_limits_and_most_are_few(face, heads):
    low, high = face.expression_limits.T
    assert (heads.expression >= low).all() and (heads.expression <= high).all()
    active = (heads.expression > 0.02).mean(0)
    assert (active > 0.05).all() and (active < 0.75).all()
    assert (heads.expression == 0).all(1).mean() > 0.04


def test_both_sides_of_a_face_mostly_move_together(face, heads):
    for name, (left, right) in movements(face.expression_names).items():
        if left != right:
            assert np.corrcoef(heads.expression[:, left], heads.expression[:, right])[0, 1] > 0.6, name


def test_movements_pair_sides_and_leave_ways_to_the_side_alone():
    found = movements(("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "jawLeft", "jawRight", "eyeLookUpLeft", "component 3"))
    assert found == {"jawOpen": (0, 0), "eyeBlink": (1, 2), "jawLeft": (3, 3), "jawRight": (4, 4), "component 3": (6, 6)}


def test_components_that_go_both_ways_are_drawn_both_ways(face):
    limits = np.tile([-3.0, 3.0], (face.expression_size, 1)).astype(np.float32)
    names = tuple(f"component {index}" for index in range(face.expression_size))
    pca = replace(face, expression_limits=limits, expression_names=names)
    expression = FaceMaker(pca).draw_expressions(np.random.default_rng(0), MANY)
    assert abs(expression.mean()) < 0.1 and 0.7 < expression.std() < 1.2 and np.abs(expression).max() <= 3


def test_rotations_are_rotations_about_frontal():
    rotations = draw_rotations(np.random.default_rng(0), MANY)
    np.testing.assert_allclose(rotations @ np.swapaxes(rotations, 1, 2), np.tile(np.eye(3), (MANY, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    # The face's front looks at the camera, its top is up.
    assert (-rotations[:, 2, 2] > np.cos(np.radians(60))).all() and (-rotations[:, 1, 1] > np.cos(np.radians(45))).all()
    assert np.median(-rotations[:, 2, 2]) > np.cos(np.radians(25))


def test_light_is_never_negative_and_faces_are_neither_black_nor_white(face, heads):
    for light in (draw_lights(np.random.default_rng(0), MANY), heads.illumination):
        assert (light @ sh_basis(directions()).T).min() > 0
    frontal = shading(heads.illumination, np.array([[0, 0, -1.0]]))[:, 0] * FaceMaker(face).skin_colour(heads.albedo)
    assert 0.15 < np.median(frontal) < 0.5 and (frontal.mean(1) < 1.2).all() and (frontal.mean(1) > 0.01).all()


def test_faces_fill_their_boxes_as_detectors_boxes_do(face, heads):
    points = heads.project(face.mesh_points.places(heads.shape, heads.expression))[:, :468]
    low, high = points.min(1), points.max(1)
    size = 2 / BOX_MARGIN / (high - low).max(1)
    assert (size > 0.8).all() and (size < 1.4).all()
    assert np.abs((low + high) / 2 / size[:, None]).max() < 2 * BOX_MARGIN * 0.13


def test_the_place_of_a_face_says_where_its_points_are(face, heads):
    places = face.mesh_points.places(heads.shape, heads.expression)
    points, place = FacePoints(face), heads.place(FacePoints(face).middle.numpy())
    shown = points.in_crop(*(torch.as_tensor(values, dtype=torch.float32) for values in (places, heads.rotation, place)))
    np.testing.assert_allclose(shown.numpy(), heads.project(places), atol=1e-4)


# The drawn mesh.


def two_sheets(side=60, gap=0.0004):
    """A model of two square sheets a hair's breadth apart, joined nowhere, of which only the front one moves."""
    across, up = np.meshgrid(np.linspace(0, 0.1, side), np.linspace(0, 0.1, side))
    sheet = np.stack([across.ravel(), up.ravel(), np.zeros(side * side)], -1)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    faces = np.stack([corner, corner + 1, corner + side + 1, corner + side], -1)
    count = side * side
    moves = np.zeros((1, 2 * count, 3), np.float32)
    moves[0, count:, 2] = 0.01
    return MorphableModel(
        mean=np.concatenate([sheet, sheet + [0, 0, gap]]).astype(np.float32),
        faces=np.concatenate([faces, faces + count]),
        shape_basis=moves,
        expression_basis=moves,
        expression_names=("lift",),
        expression_limits=np.array([[0.0, 1.0]]),
        albedo_mean=np.full((2 * count, 3), 0.4, np.float32),
        albedo_basis=moves,
    )


def test_thinning_keeps_surfaces_that_touch_apart():
    model = two_sheets()
    triangles, kept = thin_out(model)
    assert len(kept) < 0.4 * len(model.mean)
    side = kept[triangles] >= len(model.mean) // 2
    assert (side.all(1) | ~side.any(1)).all() and side.all(1).any() and (~side.any(1)).any()
    for which in (side.all(1), ~side.any(1)):
        corners = model.mean[kept[triangles[which]]]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1).sum() / 2
        # No holes: a sheet of 0.1 m keeps its area, up to its border.
        assert 0.85 * 0.01 < area < 1.01 * 0.01


def test_drawn_vertices_move_as_the_models_own(face):
    mesh, rng = FaceMesh(face), np.random.default_rng(0)
    shape, expression = rng.normal(size=face.shape_size), rng.random(face.expression_size)
    moved = mesh.mean + np.tensordot(shape, mesh.shape_basis, 1) + np.tensordot(expression, mesh.expression_basis, 1)
    own = len(face.mean)
    np.testing.assert_allclose(moved[:own], face.geometry(shape, expression), atol=1e-6)
    # The first ring of the skull lies on the face's edge and stays there.
    ring = moved[own : own + len(face.boundary)]
    np.testing.assert_allclose(ring, moved[face.boundary], atol=1e-6)
    last = mesh.expression_basis[:, -len(face.boundary) :]
    assert np.abs(last).max() < 0.01 * np.abs(face.expression_basis).max()


@pytest.mark.parametrize("way", [1, -1])
def test_a_skull_looks_outwards_whichever_way_the_edge_runs(face, way):
    measures = HeadMeasures.of(face)
    _, places, triangles = grow_skull(replace(face, boundary=face.boundary[::way]), measures, 0)
    middle, _ = face_mesh.skull_ellipsoid(measures)
    corners = places[triangles].astype(float)
    outwards = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    large = np.linalg.norm(outwards, axis=-1) > 1e-7
    assert (np.sum(outwards * (corners.mean(1) - middle), -1)[large] > 0).mean() > 0.95


def test_a_face_without_an_edge_has_no_skull(face):
    edgeless = replace(face, boundary=None)
    assert len(FaceMesh(edgeless).mean) == len(face.mean)


def test_what_goes_about_a_head_is_whole(face):
    places, normals, kinds, triangles = about_the_head(HeadMeasures.of(face))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-6)
    assert np.isfinite(places).all() and list(triangles)[-1] == LENSES
    for kind, faces in triangles.items():
        assert (kinds[faces] == kind).all()


def test_what_is_not_worn_is_not_drawn():
    block = np.zeros((len(FACE_FIELDS), 4))
    assert HAIR not in shown_about(block) and LENSES not in shown_about(block)
    block[FACE_FIELDS.index("hair"), 3] = 1
    assert HAIR in shown_about(block)


# Pictures.


def plain_blocks(sampler, heads):
    """Looks with nothing that the labels do not say."""
    blocks = sampler.look(np.random.default_rng(0), heads)

    def field(name):
        return blocks[:, FACE_FIELDS.index(name)]

    field("surface")[:] = 0
    field("lips")[:] = [1, 1, 1, 0]
    field("lamp")[:, 3] = field("hair")[:, 3] = field("glasses")[:, 3] = 0
    for name in [f"occluder{k}" for k in range(OCCLUDERS)] + [f"shape{k}" for k in range(SHAPES)]:
        field(name)[:, 3] = 0
    return blocks


def test_pixels_show_the_reflectance_in_the_light(face):
    large = FaceSampler(face, size=128)
    heads = large.maker.draw(np.random.default_rng(4), 12)
    pictures = large.renderer.draw(heads, plain_blocks(large, heads))
    places = face.geometry(heads.shape, heads.expression)
    points = heads.project(places)
    differences = []
    for head, picture in enumerate(pictures):
        normals = vertex_normals(places[head].astype(float), face.triangles) @ heads.rotation[head].T
        colour = linear_to_srgb(shade(np.clip(face.albedo(heads.albedo[head]), 0, 1), heads.illumination[head], normals))
        inner = (np.abs(points[head]) < 0.9).all(-1) & (normals[:, 2] < -0.6)
        inner[face.boundary] = False
        column, row = ((points[head, inner] + 1) * 64).astype(int).T
        differences.append(np.abs(picture[row, column] / 255 - colour[inner]).mean(-1))
    differences = np.concatenate(differences)
    assert len(differences) > 500 and np.median(differences) < 0.015 and np.quantile(differences, 0.9) < 0.05


def test_the_face_is_drawn_where_its_points_are(face, sampler):
    heads = sampler.maker.draw(np.random.default_rng(2), 16)
    blocks = plain_blocks(sampler, heads)
    lit = blocks.copy()
    dark = [FACE_FIELDS.index(f"light{number}") for number in range(9)]
    lit[:, dark[0]] *= 1.5
    # What changes with the light is the head; around it lies the backdrop.
    changed = np.abs(sampler.renderer.draw(heads, lit).astype(int) - sampler.renderer.draw(heads, blocks)).sum(-1) > 8
    points = heads.project(face.mesh_points.places(heads.shape, heads.expression))
    pixels = ((points + 1) * 32).astype(int)
    inside = ((pixels >= 0) & (pixels < 64)).all(-1)
    hits = [changed[head][pixels[head, inside[head]][:, 1], pixels[head, inside[head]][:, 0]].mean() for head in range(16)]
    assert min(hits) > 0.9


def test_samples_depend_on_the_seed_alone(sampler):
    one, _, again, other = (sampler.draw(5, seed) for seed in (3, 8, 3, 4))
    assert (one.pictures == again.pictures).all() and (one.points == again.points).all()
    assert (one.truth.expression == again.truth.expression).all()
    assert (one.pictures != other.pictures).mean() > 0.5
    assert one.pictures.shape == (5, 64, 64, 3) and one.pictures.dtype == np.uint8 and one.points.shape == (5, 478, 2)


def test_a_batch_larger_than_the_atlas_is_drawn_like_single_heads(sampler):
    heads = sampler.maker.draw(np.random.default_rng(5), sampler.renderer.capacity + 3)
    blocks = plain_blocks(sampler, heads)
    together = sampler.renderer.draw(heads, blocks)
    for index in (0, 7, len(heads) - 1):
        alone = sampler.renderer.draw(heads.take(slice(index, index + 1)), blocks[index : index + 1])
        assert np.abs(alone[0].astype(int) - together[index]).max() <= 1


def test_samples_can_be_taken_and_joined(sampler):
    samples = sampler.draw(6, 0)
    joined = type(samples).concatenate([samples.take(slice(0, 2)), samples.take(np.array([5, 2]))])
    assert len(joined) == len(joined.truth) == 4
    assert (joined.pictures[2] == samples.pictures[5]).all() and (joined.truth.shape[3] == samples.truth.shape[2]).all()


def test_spoilt_pictures_are_still_the_same_pictures():
    ramp = np.tile(np.linspace(40, 210, 64).astype(np.uint8)[None, None, :, None], (200, 64, 1, 3))
    spoilt, again = ramp.copy(), ramp.copy()
    spoil(np.random.default_rng(0), spoilt)
    spoil(np.random.default_rng(0), again)
    assert (spoilt == again).all() and (spoilt != ramp).any()
    assert np.abs(spoilt.astype(int) - ramp).mean((1, 2, 3)).max() < 50
    likeness = [np.corrcoef(one.ravel(), ramp[0].ravel())[0, 1] for one in spoilt]
    assert min(likeness) > 0.9
