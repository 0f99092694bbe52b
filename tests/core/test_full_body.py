"""A body with a face of its own: one closed mesh for every shape, face, expression and pose, and one colour at the seam."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree
from synthetic_bridge import cut_face, foreign_pair

from fullbody_core.body.lbs import BodyModel, to_character_template
from fullbody_core.contract.bridge import BridgeError, sides
from fullbody_core.contract.character import CharacterTemplate
from fullbody_core.contract.frames import axis_angle_to_matrix, forward_kinematics
from fullbody_core.contract.full_body import (
    CARRY_BAND,
    FAIR_BAND,
    WEIGHT_BAND,
    full_body_template,
    kept_face_vertices,
    placed_face,
    removed_faces,
)
from fullbody_core.contract.skeleton import JOINT_INDEX
from fullbody_core.contract.surface import distance_along, face_edges, nearest_on_surface, triangulate
from fullbody_core.full_body.sewn_face import sewn_recipe
from fullbody_core.triangle_mesh import nearest_on_surface as nearest_by_tree

HEAD = JOINT_INDEX["head"]


@pytest.fixture(scope="module")
def base(body):
    return to_character_template(body)


@pytest.fixture(scope="module", params=["cut", "face", "foreign"])
def pair(request, body, base):
    """A face cut from the body here and the open face, both sewn in, and one of another mesh, bridged by a strip."""
    if request.param == "foreign":
        face, recipe = foreign_pair(body, base)
    else:
        face = cut_face(body) if request.param == "cut" else request.getfixturevalue("face")
        recipe = sewn_recipe(base, face)
    template = full_body_template(base, face, recipe)
    placed = placed_face(face, recipe)
    return SimpleNamespace(
        face=face,
        recipe=recipe,
        template=template,
        placed=placed,
        kept=kept_face_vertices(face, recipe),
        loop=template.face_vertices[placed.boundary],
        strip=np.arange(len(template.faces) - len(recipe.strip), len(template.faces)),
        from_edge=np.linalg.norm(placed.mean[:, None] - placed.mean[placed.boundary], axis=-1).min(1),
    )


def seam_faces(pair):
    """The faces of the strip, and all that touch one of its vertices, or the loop's."""
    seam = np.union1d(pair.loop, pair.template.faces[pair.strip])
    return pair.template.faces[np.isin(pair.template.faces, seam[seam >= 0]).any(1)]


def angles(vertices, triangles):
    """Angles [T, 3] of triangles, degrees."""
    corners = np.asarray(vertices, float)[triangles]
    one, two = np.roll(corners, -1, 1) - corners, np.roll(corners, 1, 1) - corners
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(one, two), axis=-1), np.sum(one * two, -1)))


def normals(vertices, triangles):
    corners = np.asarray(vertices, float)[..., triangles, :]
    across = np.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :])
    return across / np.linalg.norm(across, axis=-1, keepdims=True)


def random_rotations(rng, count, joints, spread=0.12):
    return axis_angle_to_matrix(rng.normal(0, spread, (count, joints, 3)))


def test_the_seam_is_closed_and_goes_round_in_one_sense(pair, body):
    edges, owner = face_edges(pair.template.faces)
    count = len(pair.template.vertices)
    keys, back = edges @ [count, 1], edges @ [1, count]
    near = np.isin(owner, np.flatnonzero(np.isin(pair.template.faces, seam_faces(pair)).any(1)))
    seam = np.isin(edges, seam_faces(pair)).all(1)
    assert len(np.unique(keys)) == len(keys), "an edge that two faces go along in one sense"
    assert np.isin(back[seam & near], keys).all(), "an edge with one face"
    along = np.stack([pair.loop, np.roll(pair.loop, -1)], -1)
    assert np.isin(along @ [count, 1], keys).all() and np.isin(along @ [1, count], keys).all()


def test_what_was_closed_stays_closed_everywhere(pair):
    every, uses = np.unique(np.sort(face_edges(pair.template.faces)[0], 1), axis=0, return_counts=True)
    of_teeth = np.isin(every, pair.template.face_vertices[pair.placed.region("teeth") > 0]).all(1)
    assert (uses[~of_teeth] == 2).all()


def test_no_face_at_the_seam_is_degenerate(pair):
    assert angles(pair.template.vertices, triangulate(seam_faces(pair))).min() > 1


def test_no_face_at_the_seam_turns_over_for_any_shape_expression_or_pose(pair):
    """Of 200 people with about five expressions each; what the face's own model turns over is not held against the seam."""
    rng = np.random.default_rng(3)
    vertices, local = np.unique(triangulate(seam_faces(pair)), return_inverse=True)
    triangles, template = local.reshape(-1, 3), pair.template.part(vertices)
    of_model = np.isin(vertices[triangles], pair.template.face_vertices).all(1)
    at_rest = normals(template.vertices, triangles)
    weights = template.weights[triangles].mean(1)
    limits = template.expression_limits
    for rotations in random_rotations(rng, 200, len(template.parents)):
        expression = rng.uniform(limits[:, 0], limits[:, 1]) * (rng.random(len(limits)) < 5 / len(limits))
        betas, shape = rng.normal(0, 1, 16), rng.normal(0, 1, len(template.face_shapedirs))
        alone = normals(template.rest_surface(np.zeros(16), shape, expression), triangles)
        posed = normals(template.posed_surface(rotations, betas, shape, expression), triangles)
        turn = np.einsum("tj,jab->tab", weights, forward_kinematics(template.joints, rotations, template.parents)[1])
        by_model = of_model & (np.sum(alone * at_rest, -1) < 0)
        assert ((np.einsum("ta,tab,tb->t", posed, turn, at_rest) > 0) | by_model).all()


def test_the_throat_does_not_fold_as_the_head_turns(base, face):
    """By 40 degrees about each axis: what lies beside the seam, and hangs on head and neck, does not turn over."""
    template = full_body_template(base, face, sewn_recipe(base, face))
    triangles = triangulate(template.faces)
    triangles = triangles[~np.isin(triangles, template.face_vertices).all(1)]
    of_neck = template.weights[:, [HEAD, JOINT_INDEX["neck"]]].sum(1) > 0.5
    vertices, local = np.unique(triangles[of_neck[triangles].all(1)], return_inverse=True)
    triangles, template = local.reshape(-1, 3), template.part(vertices)
    at_rest, weights = normals(template.vertices, triangles), template.weights[triangles].mean(1)
    assert len(triangles) > 2000
    for turn in np.radians(40) * np.concatenate([np.eye(3), -np.eye(3)]):
        rotations = np.tile(np.eye(3), (len(template.parents), 1, 1))
        rotations[HEAD] = axis_angle_to_matrix(turn)
        posed = normals(template.posed_surface(rotations, np.zeros(16)), triangles)
        turned = np.einsum("tj,jab->tab", weights, forward_kinematics(template.joints, rotations, template.parents)[1])
        assert (np.einsum("ta,tab,tb->t", posed, turned, at_rest) > 0).all()


def test_all_vertices_of_the_face_that_are_kept_are_in_their_places(pair):
    template, face = pair.template, pair.face
    assert len(template.face_vertices) == len(pair.kept) == len(np.unique(template.face_vertices))
    np.testing.assert_allclose(template.vertices[template.face_vertices], pair.recipe.place(face.mean[pair.kept]), atol=1e-6)
    assert set(pair.recipe.face_boundary) <= set(pair.kept)
    own = np.isin(template.faces, np.append(template.face_vertices, -1)).all(1)
    assert own.sum() >= len(pair.placed.faces) > 0.3 * len(face.faces)


def test_the_face_and_its_edge_turn_with_the_head_alone(pair):
    template, rng = pair.template, np.random.default_rng(4)
    betas = rng.normal(size=16)
    rotations = random_rotations(rng, 3, len(template.parents), 0.5)
    posed = template.posed_surface(rotations, betas, rng.normal(size=len(template.face_shapedirs)) * 0)[
        :, template.face_vertices
    ]
    joints, orientations = forward_kinematics(template.rest_joints(betas), rotations, template.parents)
    arms = template.rest_surface(betas)[template.face_vertices] - template.rest_joints(betas)[HEAD]
    rigid = np.einsum("pab,wb->pwa", orientations[:, HEAD], arms) + joints[:, HEAD, None]
    np.testing.assert_allclose(posed, rigid, atol=1e-5)


def test_outside_the_weights_go_over_into_the_bodys_own(pair, base):
    template = pair.template
    np.testing.assert_allclose(template.weights.sum(1), 1, atol=1e-5)
    remaining = ~removed_faces(base, pair.recipe)
    outside = np.setdiff1d(np.unique(base.faces[remaining]), pair.recipe.body_boundary)
    distance = distance_along(base.vertices, base.faces[remaining], pair.recipe.body_boundary, np.inf)[outside]
    number = np.searchsorted(np.unique(base.faces[remaining]), outside)
    got, own = template.weights[number], base.weights[outside]
    far = distance > WEIGHT_BAND
    assert far.sum() > 1000
    np.testing.assert_array_equal(got[far], own[far])
    np.testing.assert_array_less(own[:, HEAD] - 1e-6, got[:, HEAD])
    near = distance < 0.1 * WEIGHT_BAND
    assert near.any() and (got[near, HEAD] > 0.97).all()


def test_betas_move_the_face_as_one(pair):
    """A shift and a scale about one point, up to its edge: what is left after fitting both is nothing."""
    places = np.asarray(pair.placed.mean, float)
    rows = np.concatenate([np.tile(np.eye(3), (len(places), 1)), places.reshape(-1, 1)], 1)
    moved = pair.template.shapedirs[pair.template.face_vertices].astype(float).reshape(-1, 16)
    assert np.abs(moved - rows @ np.linalg.lstsq(rows, moved, rcond=None)[0]).max() < 1e-6


def test_betas_move_the_face_as_the_body_under_it_on_the_whole(pair, base):
    betas = np.random.default_rng(5).normal(0, 1, 16)
    shift = (base.shapedirs @ betas).astype(float)
    removed = triangulate(base.faces[removed_faces(base, pair.recipe)])
    nearest, weights, _ = nearest_by_tree(pair.placed.mean, base.vertices, removed)
    expected = np.einsum("lk,lkx->lx", weights, shift[removed[nearest]])
    got = (pair.template.rest_surface(betas) - pair.template.vertices)[pair.template.face_vertices]
    assert np.abs((got - expected).mean(0)).max() < 0.002 and np.abs(expected.mean(0)).max() > 0.004


def test_shape_and_expressions_are_the_models_own(pair):
    template, face, recipe = pair.template, pair.face, pair.recipe
    for got, own in ((template.face_shapedirs, face.shape_basis), (template.expressiondirs, face.expression_basis)):
        np.testing.assert_allclose(got[:, : len(pair.kept)], recipe.turn(own[:, pair.kept]), atol=1e-6)


def test_what_is_beside_the_face_is_carried_along_and_what_is_far_is_not(pair):
    template, loop = pair.template, pair.template.vertices[pair.loop]
    carried = template.carried_vertices
    assert len(carried) and not np.isin(carried, template.face_vertices).any()
    away = np.linalg.norm(template.vertices[carried][:, None] - loop, axis=-1)
    assert away.min(1).max() < CARRY_BAND
    for directions in (template.face_shapedirs, template.expressiondirs):
        own, beside = directions[:, : len(pair.kept)], directions[:, len(pair.kept) :]
        of_loop = np.linalg.norm(own[:, pair.placed.boundary], axis=-1)
        assert (np.linalg.norm(beside, axis=-1) <= of_loop.max(1, keepdims=True) + 1e-7).all()
        nearest, far = away.min(1) < 0.004, away.min(1) > 0.9 * CARRY_BAND
        nearby = own[:, pair.placed.boundary[away[nearest].argmin(1)]]
        assert np.abs(beside[:, nearest] - nearby).max(initial=0) < 0.6 * of_loop.max()
        assert np.abs(beside[:, far]).max(initial=0) < 0.05 * of_loop.max()


def test_one_formula_colours_all_of_it(pair):
    template, face, rng = pair.template, pair.face, np.random.default_rng(5)
    for _ in range(3):
        coefficients = rng.normal(size=face.albedo_size)
        colours, own = template.albedo(coefficients), face.albedo(coefficients)
        np.testing.assert_allclose(colours[template.face_vertices], own[pair.kept], atol=1e-5)
        # Body vertices at the seam are no further from the edge's colours than those are from each other.
        edge = own[pair.recipe.face_boundary]
        beside = np.setdiff1d(seam_faces(pair), np.append(template.face_vertices, -1))
        assert len(beside) > 10
        assert (colours[beside] >= edge.min(0) - 1e-5).all() and (colours[beside] <= edge.max(0) + 1e-5).all()
        # Far from the face it is the edge's mean: both hands have one colour.
        hands = template.weights[:, [JOINT_INDEX["left_wrist"], JOINT_INDEX["right_wrist"]]].sum(1) > 0.5
        assert np.ptp(colours[hands], axis=0).max() < 1e-6
        np.testing.assert_allclose(colours[hands][0], edge.mean(0), atol=1e-5)


def test_the_bodys_colour_may_be_chosen_outside_the_face_only(pair):
    template = pair.template
    assert not template.body_skin[template.face_vertices].any()
    far = np.linalg.norm(template.vertices - pair.placed.mean.mean(0), axis=-1) > 0.4
    assert (template.body_skin[far] == 1).all()


def test_a_written_template_is_read(body, base, tmp_path):
    face, recipe = foreign_pair(body, base)
    template = full_body_template(base, face, recipe)
    template.save(tmp_path / "character.npz")
    read = CharacterTemplate.load(tmp_path / "character.npz")
    np.testing.assert_array_equal(read.faces, template.faces)
    np.testing.assert_allclose(read.face_shapedirs, template.face_shapedirs, atol=5e-6)
    np.testing.assert_allclose(read.albedodirs, template.albedodirs, atol=1e-4)
    assert read.meta["face_sha256"] == face.sha256 and read.meta["face_name"] == face.meta["name"]
    assert tuple(read.expression_names) == tuple(face.expression_names)


def test_the_rest_of_the_body_is_as_it_was(pair, base):
    """All of it where a face is sewn in; beyond the band that is smoothed where it is bridged."""
    betas = np.random.default_rng(7).normal(size=16)
    remaining = ~removed_faces(base, pair.recipe)
    number = np.unique(base.faces[remaining])
    away = distance_along(base.vertices, base.faces[remaining], pair.recipe.body_boundary, np.inf)[number]
    smoothed = FAIR_BAND if len(pair.recipe.strip) else -1
    for person, band in ((np.zeros(16), smoothed), (betas, max(CARRY_BAND, smoothed))):
        got, expected = pair.template.rest_surface(person)[: len(number)], base.rest_surface(person)[number]
        np.testing.assert_allclose(got[away > band], expected[away > band], atol=1e-6)
    assert np.abs(got - expected).max() < 0.01


def test_texture_is_taken_from_the_surface_that_was_there(pair, base):
    """Every face's place in the texture is that of the body's surface under its middle; the strip's meets the body's beside it."""
    template = pair.template
    skin = np.append(template.face_vertices[pair.placed.region("skin") > 0.9], -1)
    chosen = np.flatnonzero(np.isin(template.faces, skin).all(1))
    present = (template.faces[chosen] >= 0)[..., None]
    middles = (template.vertices[template.faces[chosen]] * present).sum(1) / present.sum(1)
    uv = (template.uv[chosen] * present).sum(1) / present.sum(1)
    nearest = cKDTree(base.vertices[base.faces].mean(1)).query(middles)[1]
    spread = np.abs(uv - base.uv[nearest].mean(1)).max(1)
    size = np.ptp(base.uv[nearest], axis=1).max(1)
    assert np.median(spread / size) < 0.5 and (spread <= 1.5 * size).mean() > 0.98


def test_the_strips_texture_meets_the_bodys(body, base):
    face, recipe = foreign_pair(body, base)
    template = full_body_template(base, face, recipe)
    strip, strip_uv = template.faces[-len(recipe.strip) :], template.uv[-len(recipe.strip) :]
    own = np.isin(template.faces, np.append(template.face_vertices, -1)).all(1)
    rest, rest_uv = (values[: len(own) - own.sum() - len(strip)] for values in (template.faces, template.uv))
    for face_corners, face_uv in zip(strip, strip_uv):
        for vertex, place in zip(face_corners, face_uv):
            if vertex >= 0 and vertex not in template.face_vertices:
                assert np.abs(rest_uv[rest == vertex] - place).max(-1).min() < 1e-7
    stretched = np.ptp(strip_uv[:, :3], axis=1).max(1) / np.ptp(template.vertices[strip[:, :3]], axis=1).max(1)
    usual = np.ptp(base.uv, axis=1).max(1) / np.ptp(base.vertices[base.faces], axis=1).max(1)
    of_head = base.weights[base.faces[:, 0], HEAD] == 1
    assert stretched.max() < 2 * np.percentile(usual[of_head], 99), "no face of the strip spans the texture"


def test_a_strip_that_faces_inwards_is_turned(body, base):
    face, recipe = foreign_pair(body, base)
    right = full_body_template(base, face, recipe)
    turned = full_body_template(base, face, replace(recipe, strip=recipe.strip[:, [0, 2, 1, 3]]))
    np.testing.assert_array_equal(right.faces, turned.faces)


def test_a_strip_that_leaves_a_hole_is_refused(body, base):
    face, recipe = foreign_pair(body, base)
    with pytest.raises(BridgeError, match="does not close the gap"):
        full_body_template(base, face, replace(recipe, strip=recipe.strip[:-1]))


def test_smoothing_spreads_a_step_over_the_body_beside_it(body, base):
    """A face that stands 4 mm off the body: across the edges of the body's boundary the surface bends less than unsmoothed."""
    face, recipe = foreign_pair(body, base)
    centre = base.vertices[recipe.body_boundary].mean(0)
    away = recipe.place(face.mean.astype(float)).mean(0) - centre
    recipe = replace(recipe, translation=recipe.translation + 0.004 * away / np.linalg.norm(away))
    smooth = full_body_template(base, face, recipe)
    number = np.searchsorted(np.unique(base.faces[~removed_faces(base, recipe)]), recipe.body_boundary)
    rough = smooth.vertices.copy()
    remaining = np.unique(base.faces[~removed_faces(base, recipe)])
    rough[: len(remaining)] = base.vertices[remaining]
    bends = [bend_along(vertices, smooth.faces, number) for vertices in (rough, smooth.vertices)]
    assert bends[0] > 8 and bends[1] < 0.6 * bends[0]


def bend_along(vertices, faces, loop):
    """The mean angle between the two faces at each edge of a loop, degrees."""
    triangles = triangulate(faces)
    edges, owner = face_edges(triangles)
    of_edge = dict(zip(map(tuple, edges.tolist()), owner))
    pairs = [[of_edge[a, b], of_edge[b, a]] for a, b in zip(loop.tolist(), np.roll(loop, -1).tolist())]
    sides = normals(vertices, triangles)[np.array(pairs)]
    return np.degrees(np.arccos(np.clip(np.sum(sides[:, 0] * sides[:, 1], -1), -1, 1))).mean()


def test_an_open_gap_is_left_open(body, base):
    face, recipe = foreign_pair(body, base)
    template = full_body_template(base, face, replace(recipe, strip=np.zeros((0, 4), int)))
    _, uses = np.unique(np.sort(face_edges(template.faces)[0], 1), axis=0, return_counts=True)
    assert (uses == 1).sum() == len(recipe.body_boundary) + len(recipe.face_boundary)


def test_pieces_apart_stay_inside_the_boundary_and_go_beyond_it(body, base):
    """A little ball behind the middle of the face is kept, one at the rim that is cut off goes."""
    face, recipe = foreign_pair(body, base)
    lost = np.setdiff1d(np.arange(len(face.mean)), kept_face_vertices(face, recipe))
    assert len(lost) > 20
    corner = np.ptp(face.mean, axis=0).max() * 0.01 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    apart = len(face.mean) + np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    for place, is_kept in ((face.mean[kept_face_vertices(face, recipe)].mean(0), True), (face.mean[lost[0]], False)):
        more = with_vertices(face, place + corner, apart)
        kept = kept_face_vertices(more, recipe)
        assert np.isin(apart, kept).all() == is_kept and np.isin(apart, kept).any() == is_kept


def with_vertices(face, vertices, triangles):
    none = np.zeros((face.shape_size, len(vertices), 3), np.float32)
    return replace(
        face,
        mean=np.concatenate([face.mean, vertices]).astype(np.float32),
        faces=np.concatenate([face.faces, triangles]),
        shape_basis=np.concatenate([face.shape_basis, none], 1),
    )


def test_the_open_faces_recipe_removes_what_it_was_made_from(body, base, face):
    recipe = sewn_recipe(base, face)
    np.testing.assert_array_equal(np.flatnonzero(removed_faces(base, recipe)), np.sort(face.meta["body_quads"]))
    smaller, _ = sides(base.faces, recipe.body_boundary)
    assert smaller.sum() < len(face.meta["body_quads"]), "eyeballs and tongue are pieces apart"


def test_a_face_that_no_longer_fits_is_not_sewn_in(body, base):
    shifted = cut_face(body)
    recipe = sewn_recipe(base, shifted)
    shifted.mean = shifted.mean + np.float32(0.01)
    with pytest.raises(BridgeError, match="cannot be sewn in"):
        full_body_template(base, shifted, recipe)


def test_a_foreign_face_has_no_sewn_recipe(body, base):
    with pytest.raises(BridgeError, match="bridge the two"):
        sewn_recipe(base, foreign_pair(body, base)[0])


def test_models_that_changed_are_refused(body, base):
    face, recipe = foreign_pair(body, base)
    with pytest.raises(BridgeError, match="another face model"):
        full_body_template(base, replace(face, faces=face.faces[:-1]), recipe)
    with pytest.raises(BridgeError, match="another body model"):
        full_body_template(replace(base, faces=base.faces[:-1]), face, recipe)


# What it is made with.


def test_a_posed_template_is_the_posed_body_model(body, base):
    """A body model without pose blend shapes, in several poses at once, to the rounding of the template's float32."""
    assert not np.any(body.posedirs)
    rng = np.random.default_rng(9)
    betas, translation = rng.normal(size=16), rng.normal(size=(4, 3))
    rotations = random_rotations(rng, 4, len(base.parents), 0.6)
    expected, _ = BodyModel(body, torch.float64)(*map(torch.as_tensor, (np.tile(betas, (4, 1)), rotations, translation)))
    posed = base.posed_surface(rotations, betas, translation=translation)
    np.testing.assert_allclose(posed, expected, atol=1e-6)
    np.testing.assert_allclose(base.posed_surface(rotations[2], betas, translation=translation[2]), posed[2], atol=1e-12)
    still = np.tile(np.eye(3), (len(base.parents), 1, 1))
    np.testing.assert_allclose(base.posed_surface(still, betas), base.rest_surface(betas), atol=1e-9)


def test_nearest_places_are_the_nearest_of_all(base):
    rng = np.random.default_rng(0)
    triangles = triangulate(base.faces[:400])
    points = base.vertices[rng.choice(triangles.ravel(), 300)] + rng.normal(0, 0.01, (300, 3))
    points[:5] += 0.5
    nearest, weights, distance = nearest_on_surface(points, base.vertices, triangles)
    _, _, expected = nearest_by_tree(points, base.vertices, triangles, len(triangles))
    np.testing.assert_allclose(distance, expected, atol=1e-9)
    places = np.einsum("pc,pcx->px", weights, base.vertices[triangles[nearest]].astype(float))
    np.testing.assert_allclose(np.linalg.norm(places - points, axis=-1), distance, atol=1e-9)


def test_distances_along_a_surface_are_the_shortest_ways(base):
    faces, sources = base.faces[:3000], np.unique(base.faces[:3000])[[3, 500]]
    ends = np.unique(np.sort(face_edges(triangulate(faces))[0], 1), axis=0)
    lengths = np.linalg.norm(base.vertices[ends[:, 0]].astype(float) - base.vertices[ends[:, 1]], axis=-1)
    graph = coo_matrix((lengths, ends.T), (len(base.vertices),) * 2)
    expected = dijkstra(graph, directed=False, indices=sources, min_only=True, limit=0.1)
    np.testing.assert_allclose(distance_along(base.vertices, faces, sources, 0.1), expected, atol=1e-12)
    assert 10 < np.isfinite(expected).sum() < len(expected)
