"""Face-mesh points of a 3DMM: the casting back against plain geometry, and the result on real face models."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from synthetic_face import small_face

from fullbody_core.contract.morphable import FaceModelError
from fullbody_core.face.correspondence import (
    IRISES,
    SKIN,
    draw_face,
    find_mesh_points,
    mirror_mesh_points,
    nearest_on_surface,
    own_triangles,
)
from fullbody_core.face.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
)
from fullbody_core.face.load_face import load_face

ICT = Path(os.environ.get("FULLBODY_ICT") or Path(__file__).parents[3] / "shared" / "data" / "ict_facekit.npz")


def drawn(face, turn=0.0, surface=None, side=640):
    rotation = Rotation.from_euler("y", turn, degrees=True).as_matrix()
    surface = np.asarray(face.mean if surface is None else surface, float)
    return draw_face(surface, face.triangles, np.clip(face.albedo_mean, 0, 1), rotation, side=side)


@pytest.fixture(scope="module")
def detect():
    """Mesh points [478, 2] px that MediaPipe finds in a picture of its own."""
    import mediapipe

    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True) as mesh:

        def found(picture):
            landmarks = mesh.process(picture).multi_face_landmarks[0].landmark
            return np.array([[point.x, point.y] for point in landmarks]) * len(picture)

        yield found


def test_a_cast_point_lies_on_the_ray_and_nothing_covers_it():
    face = small_face()
    _, view = drawn(face, turn=20, side=300)
    pixels = np.random.default_rng(0).uniform(60, 240, (400, 2))
    vertices, weights = view.cast(pixels, reach=0)
    hit = weights.any(1)
    assert 100 < hit.sum() < 400  # some miss the face, and get nothing
    np.testing.assert_allclose(weights[hit].sum(1), 1)
    places = np.einsum("pc,pcx->px", weights[hit], view.camera_vertices[vertices[hit]])
    np.testing.assert_allclose(view.focal * places[:, :2] / places[:, 2:] + 150, pixels[hit], atol=1e-6)
    # The slow way: every triangle that faces the camera, hit by the ray through its plane.
    corners = view.camera_vertices[face.triangles]
    for pixel, depth in zip(pixels[hit], places[:, 2]):
        ray = np.array([*(pixel - 150) / view.focal, 1])
        shares = np.linalg.solve(corners.transpose(0, 2, 1), np.broadcast_to(ray, (len(corners), 3))[..., None])[..., 0]
        met = (shares >= 0).all(1) & view.facing_camera
        assert depth == pytest.approx((1 / shares[met].sum(1)).min())


def test_a_point_beside_the_face_goes_to_the_edge_within_reach_only():
    face = small_face()
    _, view = drawn(face, side=300)
    rightmost = view.points[:, 0].argmax()
    beside = view.points[[rightmost]] + [[3, 0]]
    assert not view.cast(beside, reach=2)[1].any()
    vertices, weights = view.cast(beside, reach=4)
    assert vertices[0, weights[0] == 1] == rightmost


def test_the_picture_shows_the_face_in_its_colours_and_outlines():
    face = replace(small_face(), albedo_mean=np.full((225, 3), [0.5, 0.2, 0.1], np.float32))
    picture, view = drawn(face, side=300)
    middle, corner = picture[150, 150], picture[2, 2]
    assert middle[0] > middle[1] > middle[2] and np.ptp(corner) == 0
    rows, columns = np.nonzero(picture[..., 0] != corner[0])
    np.testing.assert_allclose([columns.min(), rows.min()], view.points.min(0), atol=2)
    np.testing.assert_allclose([columns.max(), rows.max()], view.points.max(0), atol=2)


@pytest.mark.parametrize("dimensions", [3, 6])
def test_nearest_on_a_surface_beats_a_dense_sampling_of_it(dimensions):
    rng = np.random.default_rng(1)
    face = small_face()
    surface = np.concatenate([face.mean, face.geometry(np.zeros(8), np.ones(6))], -1)[:, :dimensions].astype(float)
    points = surface[rng.integers(0, 225, 40)] + rng.normal(0, 0.004, (40, dimensions))
    numbers, weights, distance = nearest_on_surface(points, surface, face.triangles)
    places = np.einsum("pc,pcx->px", weights, surface[face.triangles[numbers]])
    np.testing.assert_allclose(np.linalg.norm(places - points, axis=1), distance)
    assert weights.min() >= -1e-9
    np.testing.assert_allclose(weights.sum(1), 1)
    samples = np.einsum("sc,fcx->fsx", rng.dirichlet([0.7] * 3, 300), surface[face.triangles]).reshape(-1, dimensions)
    sampled = np.sqrt(np.square(points[:, None] - samples).sum(-1).min(1))
    assert (distance <= sampled + 1e-9).all() and (sampled - distance).max() < 0.001


def test_mirroring_keeps_the_mesh_but_for_six_diagonals():
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_CONTOURS, FACEMESH_TESSELATION

    mirror = mirror_mesh_points()
    np.testing.assert_array_equal(mirror[mirror], np.arange(478))

    def edges(pairs):
        return {tuple(sorted(pair)) for pair in np.asarray(pairs).tolist()}

    joined = np.array(sorted(FACEMESH_TESSELATION))
    assert len(edges(mirror[joined]) - edges(joined)) == 6
    contours = np.array(sorted(FACEMESH_CONTOURS))
    assert edges(mirror[contours]) == edges(contours)


def test_a_surface_without_a_face_is_refused():
    with pytest.raises(FaceModelError, match="No face was found"):
        find_mesh_points(small_face())


def test_every_point_is_on_its_own_part(face):
    skin, eyes = own_triangles(face)
    for points, own in ((SKIN, skin), (IRISES, eyes)):
        for point in points:
            assert np.isin(face.mesh_vertices[point], own).all()
    pupils = face.mesh_points.mean[[468, 473]]
    irises = face.mean[face.region("irises") > 0.5]
    for pupil, side in zip(pupils, (-1, 1)):
        assert np.linalg.norm(irises[side * irises[:, 0] > 0].mean(0) - pupil) < 0.002


def test_the_points_are_where_the_detector_sees_them(face, detect):
    for turn in (0, 10):
        picture, view = drawn(face, turn)
        offsets = np.einsum("pc,pcx->px", face.mesh_weights, view.points[face.mesh_vertices]) - detect(picture)
        millimetres = 1000 * np.linalg.norm(offsets, axis=1) * 0.8 / view.focal
        assert np.median(millimetres) < 1.2
        lids = [*LEFT_EYE_UPPER, *LEFT_EYE_LOWER, *RIGHT_EYE_UPPER, *RIGHT_EYE_LOWER]
        assert millimetres[lids].mean() < 1.2 and millimetres[IRISES].mean() < 1.5


def test_lips_part_where_the_mouth_does(face):
    expression = np.zeros(face.expression_size)
    rest = face.mesh_points.places(np.zeros(face.shape_size), expression)
    expression[face.expression_names.index("jawOpen")] = 0.7
    opened = face.mesh_points.places(np.zeros(face.shape_size), expression)
    fall = rest[:, 1] - opened[:, 1]
    upper, lower = list(INNER_LIP_UPPER[1:-1]), list(INNER_LIP_LOWER[1:-1])
    assert fall[upper].max() < 0.005 < fall[lower].min()
    gap = rest[list(INNER_LIP_UPPER[4:7]), 1] - rest[list(INNER_LIP_LOWER[4:7]), 1]
    assert -0.0005 < gap.min() and gap.max() < 0.002  # closed at rest


@pytest.mark.slow
@pytest.mark.skipif(not ICT.is_file(), reason="no ICT-FaceKit here")
def test_another_model_gets_its_points_by_the_same_way(tmp_path, monkeypatch):
    monkeypatch.setenv("FULLBODY_CACHE", str(tmp_path))
    ict = load_face(ICT)
    assert ict.has_mesh_points.all() and (ict.shape_size, ict.expression_size, ict.albedo_size) == (100, 53, 80)
    assert load_face(ICT).sha256 == ict.sha256 and len(list(tmp_path.iterdir())) == 1
    places = ict.mesh_points.mean
    # The 68 landmarks that the archive itself names, where both know a corner: eyes, mouth, tip and foot of the nose.
    with np.load(ICT) as file:
        known = file["vertices"][file["landmarks68"]] * 0.01
    for index, point in {36: 33, 39: 133, 42: 362, 45: 263, 48: 61, 54: 291, 30: 4, 33: 2, 51: 0, 57: 17}.items():
        assert np.linalg.norm(places[point] - known[index]) < 0.005, (index, point)
    assert 0.060 < np.linalg.norm(places[468] - places[473]) < 0.067
    assert ict.region("lips")[ict.mesh_vertices[[0, 17, 13, 14]]].max(1).min() > 0.3
