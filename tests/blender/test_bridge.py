# SPDX-License-Identifier: GPL-3.0-or-later
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from fullbody_mocap import bridge
from fullbody_mocap.bridge import bridge_recipe, bridge_strip, crossings_with_models, smallest_angles, strip_problem
from fullbody_mocap.contract.bridge import BridgeError
from fullbody_mocap.contract.frames import axis_angle_to_matrix
from fullbody_mocap.contract.full_body import full_body_template
from fullbody_mocap.contract.surface import face_edges
from synthetic_pair import BODY_AROUND, make_face, make_kit, ring


@pytest.fixture
def kit():
    return make_kit()


def loops(kit, recipe):
    return kit.body.vertices[recipe.body_boundary], recipe.place(kit.face.mean[recipe.face_boundary])


def circle(count, radius, height, seed=None):
    """`count` points round y, evenly, or as a seed throws them."""
    shares = np.arange(count) if seed is None else np.cumsum(np.random.default_rng(seed).uniform(0.4, 2, count))
    turns = 2 * np.pi * shares / (count if seed is None else shares[-1])
    return np.stack([radius * np.cos(turns), np.full(count, height), radius * np.sin(turns)], -1)


def test_a_strip_closes_the_whole_with_normals_outward(kit):
    recipe = bridge_recipe(kit, kit.suggestion)
    body_count, face_count = len(recipe.body_boundary), len(recipe.face_boundary)
    assert recipe.is_bridged and len(recipe.strip) == body_count + face_count
    points = np.concatenate(loops(kit, recipe))
    corners = points[recipe.strip[:, :3]]
    assert smallest_angles(corners).min() > 5
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.sum(normals * (corners.mean(1) - kit.body.vertices[1:-1].mean(0)), -1) > 0).all()
    faces = full_body_template(kit.body, kit.face, recipe).faces
    edges, _ = face_edges(faces)
    place = np.array([faces.max() + 1, 1])
    assert np.array_equal(np.sort(edges @ place), np.sort(edges[:, ::-1] @ place))
    assert len(np.unique(edges @ place)) == len(edges)
    assert crossings_with_models(kit, recipe) == 0


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("start", [0, 7])
def test_neither_start_nor_direction_of_a_loop_matters(kit, start, turned):
    loop = np.roll(kit.suggestion.face_boundary, start)[:: -1 if turned else 1]
    expected, got = bridge_recipe(kit, kit.suggestion), bridge_recipe(kit, replace(kit.suggestion, face_boundary=loop))

    def triangles(recipe):
        both = np.concatenate([recipe.body_boundary, 10_000 + recipe.face_boundary])
        rows = both[recipe.strip[:, :3]].tolist()
        return sorted(min(row[k:] + row[:k] for k in range(3)) for row in rows)

    assert triangles(got) == triangles(expected)


def rings(counts, seed):
    """Two rings of points about y, 0.022 m apart, and the normals of the cone between them: points and normals of both."""
    points = circle(counts[0], 0.10, 0.0, seed), circle(counts[1], 0.09, 0.02, seed + 50)
    return *points, *(ring * (1, 0, 1) + (0, 0.05, 0) for ring in points)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("counts", [(90, 200), (200, 90), (60, 60)])
def test_uneven_loops_are_joined_straight_across(counts, seed):
    body, face, *normals = rings(counts, seed)
    strip, points = bridge_strip(body, face, *normals), np.concatenate([body, face])
    assert strip_problem(strip, points, len(body)) is None
    edges, _ = face_edges(strip)
    across = edges[(edges < len(body)).sum(1) == 1]
    lengths = np.linalg.norm(points[across[:, 0]] - points[across[:, 1]], axis=-1)
    assert lengths.max() < 0.028 and np.median(lengths) < 0.0235


@pytest.mark.parametrize("seed", range(3))
def test_the_cheapest_strip_is_the_cheapest_of_all(seed):
    body, face, *normals = rings((4, 5), seed)
    chosen = bridge_strip(body, face, *normals)
    points, facing = np.concatenate([body, face]), np.concatenate(normals)

    def cost(triangles):
        corners = points[triangles].transpose(1, 0, 2)
        return bridge._costs(*corners, facing[triangles].sum(1)).sum()

    gaps = np.linalg.norm(body[:, None] - face, axis=-1)
    start, start_face = np.unravel_index(gaps.argmin(), gaps.shape)
    costs = []
    for steps in set(permutations([True] * 4 + [False] * 5)):
        at, at_face, triangles = start, start_face, []
        for on_body in steps:
            after, after_face = ((at + 1) % 4, at_face) if on_body else (at, (at_face + 1) % 5)
            triangles.append((after, at, 4 + at_face) if on_body else (at, 4 + at_face, 4 + after_face))
            at, at_face = after, after_face
        costs.append(cost(np.array(triangles)))
    assert cost(chosen[:, :3]) == pytest.approx(min(costs))


def test_teeth_are_bridged_without_folds():
    body = circle(40, 0.1, 0.0)
    body[::2, 1] -= 0.008  # the body's boundary goes to and fro over a quad's height
    face = circle(90, 0.1, 0.006)
    strip = bridge_strip(body, face, body * (1, 0, 1), face * (1, 0, 1))
    points = np.concatenate([body, face])
    corners = points[strip[:, :3]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = np.sum(normals * corners.mean(1) * (1, 0, 1), -1)
    assert (outward > 0).all() or (outward < 0).all()
    assert bridge._folds(points, strip[:, :3]).max() < 60


def test_strip_problems_are_found():
    body, face, *normals = rings((12, 12), 0)
    points, strip = np.concatenate([body, face]), bridge_strip(body, face, *normals)
    assert strip_problem(strip, points, 12) is None
    assert "leave an edge out" in strip_problem(strip[1:], points, 12)
    assert "a face twice" in strip_problem(np.concatenate([strip, strip[:1]]), points, 12)
    assert "no width" in strip_problem(strip, np.concatenate([body, np.tile(body[:1], (12, 1))]), 12)
    twisted = np.concatenate([body, np.roll(face, 5, 0)])
    assert "folds" in strip_problem(strip, twisted, 12)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda kit: {"face_fingerprint": "0"}, "another face model"),
        (lambda kit: {"body_fingerprint": "0"}, "another body model"),
        (lambda kit: {"body_boundary": kit.suggestion.body_boundary[:-1]}, "body boundary is not one closed"),
        (lambda kit: {"face_boundary": kit.suggestion.face_boundary[::2]}, "face boundary is not one closed"),
        (lambda kit: {"rotation": axis_angle_to_matrix([np.pi, 0, 0])}, "strip|bridge"),
        (lambda kit: {"translation": kit.suggestion.translation + (0.3, 0, 0)}, "strip|bridge"),
        # In the very place of the body's boundary.
        (lambda kit: {"body_boundary": ring(1, BODY_AROUND), "scale": 1e-4}, "strip|bridge"),
    ],
)
def test_what_cannot_be_bridged_is_one_sentence(kit, change, words):
    recipe = replace(kit.suggestion, **change(kit))
    with pytest.raises(BridgeError, match=words) as caught:
        full_body_template(kit.body, kit.face, bridge_recipe(kit, recipe))
    assert len(str(caught.value).splitlines()) == 1


def test_crossings_are_counted(kit):
    sunk = replace(kit.suggestion, translation=kit.suggestion.translation - (0, 0, 0.03))
    strip = bridge_recipe(kit, kit.suggestion).strip
    assert crossings_with_models(kit, replace(sunk, strip=strip)) >= 0
    inside = replace(kit.suggestion, translation=kit.suggestion.translation - (0, 0, 0.15), strip=strip)
    assert crossings_with_models(kit, inside) > 0


def test_sewn_recipes_stay_as_they_are():
    face = make_face()
    kit = make_kit(sewn=np.zeros((len(face.boundary), 2), int))
    assert bridge_recipe(kit, kit.suggestion) is kit.suggestion
