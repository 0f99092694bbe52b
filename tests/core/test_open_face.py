"""The open face as it was baked on this machine: its surface, its edge in the body's, what its parameters do."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from fullbody_core.face.landmarks import LANDMARKS_68, eye_opening, lip_distance
from fullbody_core.face.open_face import align, load_anny_face, sample_surfaces, shape_basis
from fullbody_core.face.subdivision import outer_loops


def mesh(face, **actions):
    """MediaPipe's mesh points [478, 3] m of the mean face with some actions."""
    expression = np.zeros(face.expression_size)
    for name, value in actions.items():
        expression[face.expression_names.index(name)] = value
    return face.mesh_points.places(np.zeros(face.shape_size), expression)


def test_sizes_are_the_papers(face):
    assert (face.shape_size, face.expression_size, face.albedo_size) == (80, 52, 80)
    assert (face.region("skin") > 0.5).sum() >= 20_000
    assert "eyeBlinkLeft" in face.expression_names and "tongueOut" in face.expression_names
    assert face.has_mesh_points.all() and face.sha256 and "CC0" in face.meta["licence"]


def test_but_for_the_teeth_the_surface_has_one_outer_edge(face):
    triangles = face.triangles[face.region("teeth")[face.triangles].max(1) == 0]
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1)
    once, uses = np.unique(edges, axis=0, return_counts=True)
    assert uses.max() == 2
    ring = np.sort(np.stack([face.boundary, np.roll(face.boundary, -1)], -1), 1)
    assert {tuple(edge) for edge in ring.tolist()} == {tuple(edge) for edge in once[uses == 1].tolist()}
    corners = face.mean[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    assert area.min() > 0


def test_the_edge_lies_in_the_bodys_surface(face, body):
    places = [np.mean(body.v_template[vertices], 0) for vertices in face.meta["body_boundary"]]
    np.testing.assert_allclose(face.mean[face.boundary], places, atol=1e-6)
    replaced = body.quads[face.meta["body_quads"]]
    (loop,) = outer_loops(replaced)
    assert {vertex for vertices in face.meta["body_boundary"] for vertex in vertices} == set(loop)
    assert len(face.boundary) == 2 * len(loop)


def test_the_mean_face_is_the_bodys_face_and_mirrors(face, body):
    replaced = np.unique(body.quads[face.meta["body_quads"]])
    low, high = body.v_template[replaced].min(0), body.v_template[replaced].max(0)
    assert (face.mean > low - 0.002).all() and (face.mean < high + 0.002).all()
    assert cKDTree(face.mean).query(face.mean * [-1, 1, 1])[0].max() < 1e-4


def test_blinks_close_the_right_eye(face):
    for side, other in (("Left", "right"), ("Right", "left")):
        closed, rest = mesh(face, **{f"eyeBlink{side}": 1.0}), mesh(face)
        assert eye_opening(closed, side.lower()) < 0.3 * eye_opening(rest, side.lower())
        np.testing.assert_allclose(eye_opening(closed, other), eye_opening(rest, other), atol=0.01)


def test_the_jaw_opens_downwards_and_lips_part(face):
    opened, rest = mesh(face, jawOpen=1.0), mesh(face)
    assert lip_distance(opened) > lip_distance(rest) + 0.15
    assert opened[152, 1] < rest[152, 1] - 0.008, "the chin drops"
    np.testing.assert_allclose(opened[10], rest[10], atol=1e-3)


@pytest.mark.parametrize(
    "action, point, axis, sign",
    [
        ("mouthSmileLeft", 291, 1, 1),
        ("mouthSmileRight", 61, 1, 1),
        ("mouthFrownLeft", 291, 1, -1),
        ("mouthLeft", 0, 0, 1),
        ("jawRight", 152, 0, -1),
        ("jawForward", 152, 2, 1),
        ("browInnerUp", 55, 1, 1),
        ("browDownLeft", 285, 1, -1),
        ("browOuterUpRight", 70, 1, 1),
        ("eyeLookUpLeft", 473, 1, 1),
        ("eyeLookDownRight", 468, 1, -1),
        ("eyeLookOutLeft", 473, 0, 1),
        ("eyeLookInRight", 468, 0, 1),
        ("eyeLookOutRight", 468, 0, -1),
    ],
)
def test_actions_go_where_their_names_say(face, action, point, axis, sign):
    moved = mesh(face, **{action: 1.0})[point] - mesh(face)[point]
    assert sign * moved[axis] > 0.0008, f"{1000 * moved[axis]:.2f} mm"


def test_no_action_and_no_usual_face_is_torn(face):
    assert np.linalg.norm(face.expression_basis, axis=-1).max() < 0.05
    rng = np.random.default_rng(0)
    faces = face.geometry(rng.normal(size=(20, 80)), np.zeros((20, 52)))
    assert np.linalg.norm(faces - face.mean, axis=-1).max() < 0.05
    spread = np.sqrt(np.square(face.shape_basis).sum((1, 2)))
    assert (spread[0] > spread[1:]).all() and spread[:10].min() > spread[-10:].max(), "the leading components come first"
    assert face.meta["explained_variance"]["shape"] > 0.98


def test_colours_are_those_of_skin(face):
    skin = face.albedo_mean[face.region("skin") > 0.9]
    assert (skin[:, 0] > skin[:, 1]).mean() > 0.95 and (skin[:, 1] > skin[:, 2]).mean() > 0.95
    rng = np.random.default_rng(1)
    people = face.albedo(rng.normal(size=(50, 80)))[:, face.region("skin") > 0.9]
    assert -0.15 < people.min() and people.max() < 1.2
    assert people.mean((1, 2)).std() > 0.05, "people are pale and dark"


def test_regions_are_shares_of_their_places(face):
    for share in face.regions.values():
        assert share.min() >= 0 and share.max() <= 1 and share.any()
    assert (face.region("irises") <= face.region("eyeballs") + 1e-3).all()
    middle = {name: np.average(np.abs(face.mean), axis=0, weights=share) for name, share in face.regions.items()}
    assert middle["lips"][1] < middle["nose"][1] < middle["eyeballs"][1] < middle["brows"][1] < middle["forehead"][1]
    assert not face.region("skin")[face.region("eyeballs") > 0.99].any()


def test_the_68_points_are_spread_over_the_face(face):
    points = face.mesh_points.mean[list(LANDMARKS_68)]
    assert len(np.unique(np.round(points, 4), axis=0)) == 68
    right, left = points[[36, 17, 48]], points[[45, 26, 54]]
    assert (right[:, 0] < -0.01).all() and (left[:, 0] > 0.01).all(), "left is the person's left"


def test_alignment_takes_out_turn_size_and_place():
    rng = np.random.default_rng(2)
    surface = rng.normal(size=(40, 3))
    turns = Rotation.from_rotvec(rng.normal(0, 0.4, (12, 3))).as_matrix()
    moved = rng.uniform(0.8, 1.2, (12, 1, 1)) * surface @ turns + rng.normal(size=(12, 1, 3))
    aligned = align(moved, np.ones(40), rounds=8)
    assert np.ptp(aligned, axis=0).max() < 1e-6
    shares = shape_basis(align(moved + rng.normal(0, 1e-3, moved.shape), np.ones(40)), 11)[1]
    assert shares > 0.999


def test_the_same_seed_samples_the_same_people():
    model, vertices = load_anny_face(), np.arange(100, 130)
    first, again, other = (sample_surfaces(model, vertices, 5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
