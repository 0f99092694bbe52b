"""The renderer against what projection alone says: where the mesh is seen, what hides what, and from where light comes."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from fullbody_core.body.load_body import load_body
from fullbody_core.camera import camera_matrix, project
from fullbody_core.contract.frames import REST_TO_CAMERA
from fullbody_core.synth.render import Light, dress, put_on, render, room, sample_light, vertex_normals

SIZE = (160, 120)
MATRIX = camera_matrix(SIZE, 60)
UP = np.array([0.0, -1, 0])
EVEN = Light(direction=np.array([0.0, 0, -1]), up=UP, lamp=np.zeros(3), sky=np.ones(3), ground=np.ones(3))
BLACK = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)


@pytest.fixture(scope="module")
def body():
    return load_body("open")


def convex_solid(seed, depth, radius):
    """A random convex mesh: vertices [V, 3] m around (0, 0, depth), faces [F, 3] turned outwards."""
    points = np.random.default_rng(seed).normal(size=(30, 3))
    points *= radius / np.linalg.norm(points, axis=1, keepdims=True)
    hull = ConvexHull(points)
    corners = points[hull.simplices]
    outwards = (
        np.einsum("fc,fc->f", np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), corners[:, 0]) > 0
    )
    faces = np.where(outwards[:, None], hull.simplices, hull.simplices[:, ::-1])
    return points + [0, 0, depth], faces


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1.2, 1.2), st.floats(-0.8, 0.8), st.floats(1.5, 4))
def test_silhouette_is_the_hull_of_the_projected_vertices(seed, x, y, depth):
    vertices, faces = convex_solid(seed, depth, 0.7)
    vertices = vertices + [x, y, 0]
    _, mask = render(vertices, faces, np.ones_like(vertices), MATRIX, BLACK, EVEN, samples=1)
    outline = cv2.convexHull(project(vertices, MATRIX).astype(np.float32))
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    distance = np.array(
        [
            cv2.pointPolygonTest(outline, (float(u) + 0.5, float(v) + 0.5), True)
            for u, v in zip(columns.ravel(), rows.ravel())
        ]
    ).reshape(mask.shape)
    assert (mask[distance > 0.01] == 1).all()
    assert (mask[distance < -0.01] == 0).all()


@given(st.floats(1.2, 2.9))
@settings(max_examples=10, deadline=None)
def test_the_nearer_surface_hides_the_farther(near):
    """Whichever comes first in the mesh."""
    far_solid, near_solid = convex_solid(1, 3 + 0.9, 0.8), convex_solid(2, near, 0.15)
    for order in (0, 1):
        solids, shades = [(far_solid, near_solid), (near_solid, far_solid)][order], [(0.9, 0.2), (0.2, 0.9)][order]
        vertices = np.concatenate([each[0] for each in solids])
        faces = np.concatenate([solids[0][1], solids[1][1] + len(solids[0][0])])
        colours = np.concatenate([np.full_like(each[0], shade) for each, shade in zip(solids, shades)])
        image, _ = render(vertices, faces, colours, MATRIX, BLACK, EVEN)
        assert np.allclose(image[SIZE[1] // 2, SIZE[0] // 2], 255 * 0.2 ** (1 / 2.2), atol=1)
        ring = project(np.array([0.55, 0, 3.9]), MATRIX).astype(int)
        assert np.allclose(image[ring[1], ring[0]], 255 * 0.9 ** (1 / 2.2), atol=1)


def test_where_the_mesh_is_not_the_background_stays():
    background = np.random.default_rng(0).integers(0, 256, BLACK.shape, np.uint8)
    vertices, faces = convex_solid(0, 3, 0.5)
    image, mask = render(vertices, faces, np.full_like(vertices, 0.5), MATRIX, background, EVEN)
    assert (image[mask == 0] == background[mask == 0]).all()
    assert 0 < mask.mean() < 1
    image, mask = render(vertices + [50, 0, 0], faces, vertices, MATRIX, background, EVEN)
    assert (image == background).all() and not mask.any()


def test_the_lit_side_is_the_side_towards_the_lamp():
    vertices, faces = convex_solid(3, 3, 0.8)
    lamp = Light(direction=np.array([1.0, 0, -0.3]), up=UP, lamp=np.ones(3), sky=np.full(3, 0.05), ground=np.full(3, 0.05))
    image, mask = render(vertices, faces, np.ones_like(vertices), MATRIX, BLACK, lamp)
    columns = np.broadcast_to(np.arange(SIZE[0]), mask.shape)
    left, right = (image[(mask == 1) & side].mean() for side in (columns < SIZE[0] // 2, columns >= SIZE[0] // 2))
    assert right > 2 * left


def test_a_thing_before_the_lamp_throws_a_shadow():
    """A small square between the lamp, which is behind the camera's shoulder, and a large one."""
    square = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    faces = np.array([[0, 2, 1], [0, 3, 2]])
    vertices = np.concatenate([square * 3 + [0, 0, 4], square * 0.2 + [0.8, 0, 2.4]])
    lamp = Light(direction=np.array([0.8, 0, -1.6]), up=UP, lamp=np.ones(3), sky=np.full(3, 0.1), ground=np.full(3, 0.1))
    image, _ = render(vertices, np.concatenate([faces, faces + 4]), np.ones_like(vertices), MATRIX, BLACK, lamp)
    assert image[SIZE[1] // 2, SIZE[0] // 2].max() < 0.6 * image[10, 20].min()


def test_normals_point_outwards():
    vertices, faces = convex_solid(4, 0, 1.0)
    assert (np.sum(vertex_normals(vertices, faces) * vertices, -1) > 0.5).all()


def test_a_dressed_body_is_larger_than_a_bare_one_and_inside_the_colour_range(body):
    rng = np.random.default_rng(5)
    outfit = dress(body, rng)
    surface = body.v_template @ REST_TO_CAMERA.T + [0, 0, 3]
    dressed = put_on(outfit, surface, body.f)
    background = room(rng, SIZE, MATRIX, UP, 1.1)
    masks = [
        render(each, body.f, outfit.colours, MATRIX, background, sample_light(np.random.default_rng(0), UP))[1]
        for each in (surface, dressed)
    ]
    assert outfit.colours.min() >= 0 and outfit.colours.max() <= 1
    assert masks[1].sum() > 1.02 * masks[0].sum()
    assert np.linalg.norm(dressed - surface, axis=1).max() < 0.03


def test_the_same_seed_gives_the_same_picture(body):
    def picture():
        rng = np.random.default_rng(8)
        outfit, background, light = dress(body, rng), room(rng, SIZE, MATRIX, UP, 1.0), sample_light(rng, UP)
        surface = body.v_template @ REST_TO_CAMERA.T + [0, 0, 2.5]
        return render(put_on(outfit, surface, body.f), body.f, outfit.colours, MATRIX, background, light)[0]

    assert (picture() == picture()).all()
