"""A body with a face of its own: one closed mesh for every shape, face and expression, and one colour at the seam."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from synthetic_face import small_face

from fullbody_core.body.full_body import BAND, FullBodyError, full_body_template
from fullbody_core.body.lbs import to_character_template
from fullbody_core.contract.character import CharacterTemplate
from fullbody_core.contract.morphable import MorphableModel
from fullbody_core.contract.skeleton import JOINT_INDEX, MESH_POINTS
from fullbody_core.face.subdivision import outer_loops, quad_edges, subdivide

HEAD = JOINT_INDEX["head"]


def cut_face(body, seed=0, shapes=5, expressions=4, albedos=6):
    """A `MorphableModel` of the top of the body's head, refined once, with random bases: built as the open face is, but small."""
    rng = np.random.default_rng(seed)
    rest = np.asarray(body.v_template, float)
    centres = rest[body.quads].mean(1)
    chosen = np.linalg.norm(centres - rest[body.landmarks["head_top"]], axis=-1) < 0.08
    vertices, local = np.unique(body.quads[chosen], return_inverse=True)
    local = local.reshape(-1, 4)
    matrix, faces, _ = subdivide(local, len(vertices))
    (edge,) = outer_loops(faces)
    mean = matrix @ rest[vertices]
    count = len(mean)
    return MorphableModel(
        mean=mean.astype(np.float32),
        faces=faces.astype(np.int32),
        shape_basis=rng.normal(0, 0.003, (shapes, count, 3)).astype(np.float32),
        expression_basis=rng.normal(0, 0.003, (expressions, count, 3)).astype(np.float32),
        expression_names=tuple(f"expression {number}" for number in range(expressions)),
        expression_limits=np.tile(np.float32([-0.5, 1.5]), (expressions, 1)),
        albedo_mean=rng.uniform(0.2, 0.5, (count, 3)).astype(np.float32),
        albedo_basis=rng.normal(0, 0.02, (albedos, count, 3)).astype(np.float32),
        mesh_vertices=rng.integers(0, count, (MESH_POINTS, 3)).astype(np.int32),
        mesh_weights=rng.dirichlet([1, 1, 1], MESH_POINTS).astype(np.float32),
        regions={"skin": np.ones(count, np.float32)},
        boundary=np.array(edge, np.int32),
        meta={
            "name": "cut face",
            "licence": "none",
            "body_quads": np.flatnonzero(chosen).tolist(),
            "body_boundary": [sorted(vertices[matrix[row].indices[matrix[row].data > 1e-9]].tolist()) for row in edge],
        },
    )


@pytest.fixture(scope="module")
def cut(body):
    return cut_face(body)


@pytest.fixture(scope="module", params=["cut", "face"])
def pair(request, body):
    """(face, its template) for a face cut from the body here, and for the open face."""
    chosen = request.getfixturevalue(request.param)
    return chosen, full_body_template(body, chosen)


def edges_of(faces):
    """Every side of faces [F, 4] with -1 padding, as sorted pairs of vertices."""
    following = np.roll(faces, -1, 1)
    following = np.where(following < 0, faces[:, :1], following)
    return np.sort(np.stack([faces, following], -1)[faces >= 0], 1)


def triangles_of(template):
    faces = template.faces
    return np.concatenate([faces[:, :3], faces[faces[:, 3] >= 0][:, [0, 2, 3]]])


def test_the_seam_is_closed(pair, body):
    face, template = pair
    seam = template.face_vertices[face.boundary]
    along = np.sort(np.stack([seam, np.roll(seam, -1)], -1), 1)
    every, uses = np.unique(edges_of(template.faces), axis=0, return_counts=True)
    assert set(map(tuple, along)) <= set(map(tuple, every[uses == 2])), "each of the loop's edges has two faces"
    near = np.isin(every, seam).any(1)
    assert (uses[near] == 2).all()
    whole_uses = quad_edges(body.quads)[2]
    of_teeth = np.isin(every, template.face_vertices[face.region("teeth") > 0]).all(1)
    assert (whole_uses == 2).all() and (uses[~of_teeth] == 2).all(), "what was closed stays closed, everywhere"


def test_no_face_is_flat_or_turned_over(pair):
    face, template = pair
    seam = np.isin(triangles_of(template), template.face_vertices[face.boundary]).any(1)
    triangles = triangles_of(template)[seam]
    corners = template.vertices[triangles].astype(float)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.linalg.norm(normals, axis=-1) > 1e-9).all()
    directed = np.concatenate([triangles[:, [k, (k + 1) % 3]] for k in range(3)])
    assert len(np.unique(directed, axis=0)) == len(directed), "neighbours go round their common edge in opposite senses"


def test_all_vertices_of_the_face_are_kept_in_their_places(pair):
    face, template = pair
    assert len(template.face_vertices) == len(face.mean) == len(np.unique(template.face_vertices))
    np.testing.assert_allclose(template.vertices[template.face_vertices], face.mean, atol=1e-5)
    own = template.faces[np.isin(template.faces, template.face_vertices).all(1) & (template.faces[:, 3] >= 0)]
    assert len(own) >= (face.faces.min(1) >= 0).sum()


def test_the_edge_moves_as_the_body_for_every_shape_face_and_expression(pair, body):
    """On the loop a face vertex is a body vertex, or exactly in the middle of an edge: there is no gap to open."""
    face, template = pair
    rng = np.random.default_rng(3)
    for _ in range(20):
        betas = rng.normal(0, 2, 16)
        surface = template.rest_surface(betas, rng.normal(0, 2, face.shape_size), rng.uniform(0, 1, face.expression_size))
        shaped = body.v_template + body.shapedirs @ betas
        expected = [shaped[ends].mean(0) for ends in face.meta["body_boundary"]]
        np.testing.assert_allclose(surface[template.face_vertices[face.boundary]], expected, atol=1e-6)


def test_weights_sum_to_one_and_the_inside_is_rigid_with_the_head(pair, body):
    face, template = pair
    np.testing.assert_allclose(template.weights.sum(1), 1, atol=1e-5)
    distance = np.linalg.norm(face.mean[:, None] - face.mean[face.boundary], axis=-1).min(1)
    inside = template.face_vertices[distance > BAND]
    assert len(inside) > 0.3 * len(face.mean)
    np.testing.assert_allclose(template.weights[inside, HEAD], 1, atol=1e-6)
    ends = [body.weights[pair].mean(0) for pair in face.meta["body_boundary"]]
    np.testing.assert_allclose(template.weights[template.face_vertices[face.boundary]], ends, atol=1e-6)


def test_betas_move_the_inside_as_one(pair):
    """A shift and a scale about one point: what is left after fitting both is nothing."""
    face, template = pair
    distance = np.linalg.norm(face.mean[:, None] - face.mean[face.boundary], axis=-1).min(1)
    inside = distance > BAND
    places = np.asarray(face.mean[inside], float)
    for number in range(16):
        moved = template.shapedirs[template.face_vertices[inside], :, number].astype(float)
        rows = np.concatenate([np.tile(np.eye(3), (len(places), 1)), places.reshape(-1, 1)], 1)
        left = moved.ravel() - rows @ np.linalg.lstsq(rows, moved.ravel(), rcond=None)[0]
        assert np.abs(left).max() < 1e-6


def test_shape_and_expressions_are_the_models_own_inside(pair):
    face, template = pair
    distance = np.linalg.norm(face.mean[:, None] - face.mean[face.boundary], axis=-1).min(1)
    inside = distance > BAND
    np.testing.assert_allclose(template.face_shapedirs[:, inside], face.shape_basis[:, inside], atol=1e-7)
    np.testing.assert_allclose(template.expressiondirs[:, inside], face.expression_basis[:, inside], atol=1e-7)
    assert not template.face_shapedirs[:, face.boundary].any() and not template.expressiondirs[:, face.boundary].any()


def test_one_formula_colours_all_of_it(pair):
    face, template = pair
    rng = np.random.default_rng(5)
    for _ in range(3):
        coefficients = rng.normal(size=face.albedo_size)
        colours, own = template.albedo(coefficients), face.albedo(coefficients)
        np.testing.assert_allclose(colours[template.face_vertices], own, atol=1e-5)
        # Body vertices beside the seam are no further from the edge's colours than those are from each other.
        seam = template.face_vertices[face.boundary]
        beside = np.setdiff1d(template.faces[np.isin(template.faces, seam).any(1)], np.r_[template.face_vertices, -1])
        assert len(beside) > 10
        low, high = own[face.boundary].min(0), own[face.boundary].max(0)
        assert (colours[beside] >= low - 1e-5).all() and (colours[beside] <= high + 1e-5).all()
        # Far from the face it is the edge's mean: both hands have one colour.
        hands = template.weights[:, [JOINT_INDEX["left_wrist"], JOINT_INDEX["right_wrist"]]].sum(1) > 0.5
        assert np.ptp(colours[hands], axis=0).max() < 1e-6
        np.testing.assert_allclose(colours[hands][0], own[face.boundary].mean(0), atol=1e-5)


def test_the_bodys_colour_may_be_chosen_outside_the_face_only(pair):
    face, template = pair
    assert not template.body_skin[template.face_vertices].any()
    far = np.linalg.norm(template.vertices - face.mean.mean(0), axis=-1) > 0.4
    assert (template.body_skin[far] == 1).all()


def test_a_written_template_is_read(pair, tmp_path):
    face, template = pair
    template.save(tmp_path / "character.npz")
    read = CharacterTemplate.load(tmp_path / "character.npz")
    np.testing.assert_array_equal(read.faces, template.faces)
    np.testing.assert_allclose(read.face_shapedirs, template.face_shapedirs, atol=5e-6)
    np.testing.assert_allclose(read.albedodirs, template.albedodirs, atol=1e-4)
    assert read.meta["face_sha256"] == face.sha256 and read.meta["face_name"] == face.meta["name"]
    assert tuple(read.expression_names) == tuple(face.expression_names)


def test_the_rest_of_the_body_is_untouched(pair, body):
    face, template = pair
    betas = np.random.default_rng(7).normal(size=16)
    shaped = body.v_template + body.shapedirs @ betas
    outside = np.setdiff1d(np.arange(len(template.vertices)), template.face_vertices)
    remaining = np.setdiff1d(np.arange(len(body.v_template)), body.quads[face.meta["body_quads"]])
    remaining = np.intersect1d(remaining, body.quads)
    np.testing.assert_allclose(template.rest_surface(betas)[outside], shaped[remaining], atol=1e-6)


def test_a_face_of_another_model_is_brought_to_its_place(body, cut):
    """The cut face, scaled, turned and moved: the bridge's face-mesh points bring it back."""
    moved = cut_face(body)
    del moved.meta["body_quads"], moved.meta["body_boundary"]
    turn = np.array([[0, 0, -1.0], [0, 1, 0], [1, 0, 0]])
    moved.mean = (100 * cut.mean @ turn.T + (3, 2, 1)).astype(np.float32)
    moved.shape_basis = (100 * cut.shape_basis @ turn.T).astype(np.float32)
    moved.expression_basis = (100 * cut.expression_basis @ turn.T).astype(np.float32)
    template, closed = full_body_template(body, moved, cut), full_body_template(body, cut)
    np.testing.assert_allclose(template.vertices[template.face_vertices], cut.mean, atol=1e-5)
    np.testing.assert_allclose(template.face_shapedirs, closed.face_shapedirs, atol=1e-5)
    lost = len(body.v_template) + len(cut.mean) - len(template.vertices)
    assert 0 < lost < len(body.v_template) / 2, "the body's face under it is gone"
    with pytest.raises(FullBodyError, match="not made from this body"):
        full_body_template(body, moved)
    with pytest.raises(FullBodyError, match="not made from this body"):
        full_body_template(body, moved, small_face())


def test_a_face_that_no_longer_fits_is_not_sewn_in(body):
    shifted = cut_face(body)
    shifted.mean = shifted.mean + np.float32(0.01)
    with pytest.raises(FullBodyError):
        full_body_template(body, shifted)


def test_texture_is_taken_from_the_surface_that_was_there(body, cut):
    """Every corner's place in the texture is that of the body's surface under it: to be seen where both have a vertex."""
    template, base = full_body_template(body, cut), to_character_template(body)
    middles = base.vertices[base.faces].mean(1)
    own = template.faces[(template.faces >= 0).all(1) & np.isin(template.faces, template.face_vertices).all(1)]
    numbers = np.flatnonzero((template.faces >= 0).all(1) & np.isin(template.faces, template.face_vertices).all(1))
    nearest = cKDTree(middles).query(template.vertices[own].mean(1))[1]
    spread = np.abs(template.uv[numbers].mean(1) - base.uv[nearest].mean(1)).max(1)
    size = np.ptp(base.uv[nearest], axis=1).max(1)
    assert (spread <= size).all() and np.median(spread / size) < 0.4
