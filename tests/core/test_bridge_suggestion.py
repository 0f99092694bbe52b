from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from fullbody_core.body.lbs import to_character_template
from fullbody_core.contract.bridge import BridgeError, BridgeKit, BridgeRecipe, sides
from fullbody_core.contract.full_body import kept_face_vertices, removed_faces
from fullbody_core.contract.surface import triangulate
from fullbody_core.face.landmarks import CONTOUR
from fullbody_core.full_body.bridge_suggestion import similarity, suggest_bridge
from fullbody_core.full_body.bridges import find_recipe, fits, head_model, keep_recipe, make_kit, recipe_for, recipe_path

SCALE, TURN, SHIFT = 1.1, Rotation.from_euler("x", 7, degrees=True).as_matrix(), np.array([0, 0.02, -0.03])


@pytest.fixture(scope="module")
def template(body):
    return to_character_template(body)


@pytest.fixture(scope="module")
def foreign(face):
    """The open face as a stranger: triangles, its vertices in another order, larger, turned and elsewhere, without a boundary."""
    order = np.random.default_rng(3).permutation(len(face.mean))
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    none = np.zeros((0, len(order), 3), np.float32)
    return replace(
        face,
        mean=(SCALE * face.mean[order] @ TURN.T + SHIFT).astype(np.float32),
        faces=place[triangulate(face.faces)].astype(np.int32),
        shape_basis=none,
        expression_basis=none,
        expression_names=(),
        expression_limits=np.zeros((0, 2), np.float32),
        albedo_mean=face.albedo_mean[order],
        albedo_basis=none,
        mesh_vertices=place[face.mesh_vertices].astype(np.int32),
        regions={name: share[order] for name, share in face.regions.items()},
        boundary=None,
        meta={"name": "stranger"},
    )


@pytest.fixture(scope="module")
def suggestion(template, foreign, face):
    return suggest_bridge(template, foreign, face.mesh_points.mean)


def loops(template, foreign, recipe):
    return np.asarray(template.vertices, float)[recipe.body_boundary], recipe.place(foreign.mean[recipe.face_boundary])


def test_loops_are_closed_simple_and_part_their_surfaces(template, foreign, suggestion):
    suggestion.check(template.faces, len(template.vertices), foreign.faces, len(foreign.mean))
    for faces, loop in ((template.faces, suggestion.body_boundary), (foreign.faces, suggestion.face_boundary)):
        smaller, larger = sides(faces, loop)
        assert smaller.sum() > 100 and larger.sum() > 100
    assert not suggestion.is_bridged


def test_a_known_similarity_is_found_again(face, foreign, suggestion):
    off = np.linalg.norm(suggestion.place(foreign.mean) - suggestion.place(SCALE * face.mean @ TURN.T + SHIFT)[0], axis=-1)
    assert off.min() < 1e-3  # the two are in the same units
    points = suggestion.place(foreign.mesh_points.mean)
    assert np.abs(points - face.mesh_points.mean).max() < 0.001
    assert abs(suggestion.scale * SCALE - 1) < 0.01


def test_both_loops_and_the_placed_face_are_their_own_mirror_images(template, foreign, suggestion):
    body_loop, face_loop = loops(template, foreign, suggestion)
    for points, tolerance in ((body_loop, 1e-5), (face_loop, 1e-4)):
        assert cKDTree(points).query(points * [-1, 1, 1])[0].max() < tolerance
    assert abs(suggestion.translation[0]) < 1e-4 and abs(suggestion.rotation[0, 0] - 1) < 1e-6


def test_the_gap_is_a_ribbon(template, foreign, suggestion):
    body_loop, face_loop = loops(template, foreign, suggestion)
    ahead = np.linspace(0, 1, 10, endpoint=False)[:, None, None]
    along = (body_loop + ahead * (np.roll(body_loop, -1, 0) - body_loop)).reshape(-1, 3)
    gaps = cKDTree(along).query(face_loop)[0]
    assert gaps.min() > 0.0025 and 0.005 < gaps.mean() < 0.015 and gaps.max() < 0.03


def test_loops_have_no_staircases(template, foreign, suggestion):
    for points in loops(template, foreign, suggestion):
        steps = np.roll(points, -1, 0) - points
        steps /= np.linalg.norm(steps, axis=-1, keepdims=True)
        turns = np.degrees(np.arccos(np.clip(np.sum(steps * np.roll(steps, 1, 0), -1), -1, 1)))
        assert turns.mean() < 30 and turns.max() < 130


def test_the_features_are_the_faces_and_the_ears_the_bodys(body, template, foreign, suggestion):
    removed = np.setdiff1d(template.faces[removed_faces(template, suggestion)], suggestion.body_boundary)
    assert body.landmarks["nose"] in removed and body.landmarks["left_mouth"] in removed
    assert body.landmarks["left_ear"] not in removed and body.landmarks["right_ear"] not in removed
    kept = kept_face_vertices(foreign, suggestion)
    inner = np.setdiff1d(np.arange(468), CONTOUR)
    assert np.isin(foreign.mesh_vertices[inner], kept).all()


def test_the_answer_is_always_the_same(template, foreign, face, suggestion):
    again = suggest_bridge(template, foreign, face.mesh_points.mean)
    assert again.to_json() == suggestion.to_json()


def test_a_face_that_ends_early_is_taken_to_its_edge(template, foreign, face):
    places = foreign.mean @ TURN  # upright again
    above = np.quantile(places[foreign.mesh_vertices[10], 1], 0.5) - 0.03
    short = replace(foreign, faces=foreign.faces[(places[foreign.faces, 1] < above).all(1)])
    recipe = suggest_bridge(template, short, face.mesh_points.mean)
    recipe.check(template.faces, len(template.vertices), short.faces, len(short.mean))
    top = recipe.place(short.mean[recipe.face_boundary])[:, 1].max()
    assert recipe.place(short.mean[np.unique(short.faces)])[:, 1].max() - top < 0.012


def test_too_few_points_are_told(template, foreign, face):
    points = face.mesh_points.mean.copy()
    points[15:] = np.nan
    with pytest.raises(BridgeError, match="too few points"):
        suggest_bridge(template, foreign, points)


def test_similarity_is_exact_and_heeds_weights():
    rng = np.random.default_rng(1)
    points, rotation = rng.normal(size=(30, 3)), Rotation.random(random_state=2).as_matrix()
    targets = 0.7 * points @ rotation.T + [1, 2, 3]
    targets[0] += 5
    weights = np.ones(30)
    weights[0] = 0
    scale, turn, shift = similarity(points, targets, weights)
    np.testing.assert_allclose(scale, 0.7, atol=1e-12)
    np.testing.assert_allclose(turn, rotation, atol=1e-12)
    np.testing.assert_allclose(shift, [1, 2, 3], atol=1e-12)


# Recipes that are kept.


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("FULLBODY_DATA", str(tmp_path))
    return tmp_path / "bridges"


def test_the_open_pair_needs_no_blender(data, monkeypatch, body, face):
    monkeypatch.setattr("fullbody_core.full_body.bridges.find_blender", lambda name: pytest.fail("looked for a Blender"))
    recipe = recipe_for(body, face)
    assert len(recipe.sewn) and not list(data.glob("*"))


def test_a_users_own_recipe_comes_first(data, template, body, face):
    own = replace(find_recipe(template, face), meta={"produced_by": "me"})
    assert keep_recipe(own) == recipe_path(own)
    assert recipe_path(own).name.startswith("open_body_anny_with_open_face_anny_")
    assert find_recipe(template, face).meta == {"produced_by": "me"}


def test_a_chosen_recipe_is_kept(data, tmp_path, template, body, face):
    chosen = replace(find_recipe(template, face), meta={"produced_by": "chosen"})
    chosen.save(tmp_path / "mine.json")
    recipe_for(body, face, chosen=tmp_path / "mine.json")
    assert BridgeRecipe.load(recipe_path(chosen)).meta == {"produced_by": "chosen"}


def test_a_broken_recipe_and_that_of_others_are_told(data, tmp_path, template, body, face, foreign):
    recipe = find_recipe(template, face)
    recipe.save(tmp_path / "other.json")
    with pytest.raises(BridgeError, match="other.json is the bridge of other models"):
        recipe_for(body, foreign, chosen=tmp_path / "other.json")
    assert not data.exists(), "looking leaves nothing behind"
    keep_recipe(recipe)
    (data / "broken.json").write_text('{"format": "fullbody-bri')
    with pytest.raises(BridgeError, match="broken.json"):
        find_recipe(template, face)


def test_a_sewn_recipe_is_for_the_very_body_only(template, face):
    recipe = find_recipe(template, face)
    assert fits(recipe, template, face)
    assert not fits(recipe, replace(template, vertices=template.vertices * np.float32(1.01)), face)


def test_a_kit_holds_what_it_takes(data, tmp_path, body, face, foreign, suggestion):
    make_kit(body, foreign, suggestion).save(tmp_path / "kit.npz")
    kit = BridgeKit.load(tmp_path / "kit.npz")
    assert kit.suggestion.to_json() == suggestion.to_json() and kit.recipes_folder == str(data)
    np.testing.assert_allclose(kit.body_points, face.mesh_points.mean, atol=1e-6)


def test_the_head_of_a_body_is_a_surface_of_its_own(template):
    head = head_model(template)
    assert 0.15 < np.ptp(head.mean[:, 1]) < 0.4 and head.faces.max() == len(head.mean) - 1
