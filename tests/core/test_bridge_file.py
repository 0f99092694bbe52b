"""Recipes and kits of bridges: what is written is read, what is unsound is refused, and loops part surfaces as they should."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from synthetic_face import small_face

from fullbody_core.contract.bridge import BridgeError, BridgeKit, BridgeRecipe, check_loop, fingerprint, sides
from fullbody_core.contract.character import CharacterTemplate
from fullbody_core.contract.frames import axis_angle_to_matrix
from fullbody_core.contract.surface import face_edges, parts_between

SIDE = 9
"""Vertices along an edge of the square grid that loops are drawn on."""


def grid(side=SIDE):
    """Quads [Q, 4] of a square grid of side x side vertices, numbered row by row."""
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    return np.stack([corner, corner + 1, corner + side + 1, corner + side], -1)


def ring(low, high, side=SIDE):
    """The loop of vertices round the square from row and column `low` to `high`."""
    numbers = np.arange(side * side).reshape(side, side)[low : high + 1, low : high + 1]
    return np.concatenate([numbers[0], numbers[1:, -1], numbers[-1, -2::-1], numbers[-2:0:-1, 0]])


def recipe(**changes):
    """A bridged recipe of two rings of eight."""
    strip = [[k, (k + 1) % 8, 8 + (k + 1) % 8, 8 + k] for k in range(8)]
    values = {
        "body_name": "a body",
        "body_fingerprint": "b" * 64,
        "face_name": "a face",
        "face_fingerprint": "f" * 64,
        "body_boundary": ring(3, 5),
        "face_boundary": ring(2, 4),
        "scale": 0.9,
        "rotation": axis_angle_to_matrix([0.2, -0.4, 0.1]),
        "translation": np.array([0.1, 0.2, -0.3]),
        "strip": strip,
        "meta": {"produced_by": "a test"},
    }
    return BridgeRecipe(**values | changes)


def assert_same(first, second):
    assert first.to_json() == second.to_json()


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_what_json_says_is_the_same_recipe(data):
    turn = data.draw(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
    loops = [data.draw(st.lists(st.integers(0, 30000), min_size=3, max_size=40, unique=True)) for _ in range(2)]
    both = len(loops[0]) + len(loops[1])
    strip = data.draw(st.lists(st.lists(st.integers(0, both - 1), min_size=4, max_size=4), max_size=10))
    made = recipe(
        body_boundary=loops[0],
        face_boundary=loops[1],
        scale=data.draw(st.floats(1e-6, 1e6)),
        rotation=axis_angle_to_matrix(turn),
        translation=data.draw(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3)),
        strip=strip,
        body_name=data.draw(st.text(max_size=20)),
        meta=data.draw(st.dictionaries(st.text(max_size=5), st.integers(), max_size=3)),
    )
    assert_same(BridgeRecipe.from_json(json.loads(json.dumps(made.to_json())), "it"), made)


def test_a_written_recipe_is_read(tmp_path):
    for number, made in enumerate((recipe(), recipe(strip=[]), recipe(strip=[], sewn=np.arange(16).reshape(8, 2) % 8))):
        made.save(tmp_path / f"{number}.json")
        assert_same(BridgeRecipe.load(tmp_path / f"{number}.json"), made)
        assert made.is_bridged == (number != 1)
    with pytest.raises(BridgeError, match="Cannot write"):
        made.save(tmp_path / "no folder" / "recipe.json")


def test_places_and_displacements_are_turned_alike():
    made, rng = recipe(), np.random.default_rng(0)
    points, steps = rng.normal(size=(2, 7, 3))
    np.testing.assert_allclose(made.place(points + steps) - made.place(points), made.turn(steps), atol=1e-12)
    expected = made.scale * np.einsum("ab,nb->na", made.rotation, points) + made.translation
    np.testing.assert_allclose(made.place(points), expected, atol=1e-12)
    assert made.turn(steps.astype(np.float32)).dtype == np.float32


BAD = {
    "format": "another",
    "version": 2,
    "body_name": 3,
    "face_name": None,
    "body_boundary": [1, 2],
    "face_boundary": [1, 2, 2],
    "scale": 0,
    "rotation": (2 * np.eye(3)).tolist(),
    "translation": [0, 0],
    "strip": [[0, 1, 16, -1]],
    "sewn": [[0, 1]],
    "meta": "none",
}


@pytest.mark.parametrize(
    "name, value",
    [*BAD.items()]
    + [("scale", float("nan")), ("scale", "much"), ("rotation", np.diag([1, 1, -1]).tolist()), ("rotation", [1, 0, 0])]
    + [
        ("translation", [0, 0, float("inf")]),
        ("strip", [[0, 1, -1, -1]]),
        ("strip", [[0, 1, 2]]),
        ("strip", [[0, 1, -2, 3]]),
    ]
    + [
        ("body_boundary", [[1, 2], [3, 4]]),
        ("body_boundary", [-1, 2, 3]),
        ("body_boundary", "loop"),
        ("sewn", [[0, 8]] * 8),
    ],
)
def test_a_bad_field_is_refused_in_one_sentence(name, value, tmp_path):
    values = recipe().to_json() | {name: value}
    (tmp_path / "bad.json").write_text(json.dumps(values))
    with pytest.raises(BridgeError) as raised:
        BridgeRecipe.load(tmp_path / "bad.json")
    assert is_one_sentence(raised.value, "bad.json")


def is_one_sentence(error, name):
    text = str(error)
    return name in text and text.endswith(".") and "\n" not in text and len(text) < 400


@pytest.mark.parametrize("name", sorted(recipe().to_json()))
def test_a_missing_field_is_refused(name):
    values = recipe().to_json()
    del values[name]
    with pytest.raises(BridgeError) as raised:
        BridgeRecipe.from_json(values, "it.json")
    assert is_one_sentence(raised.value, "it.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"\xff\xfe", b"PK\x03\x04", b"3"])
def test_other_files_are_no_recipes(content, tmp_path):
    (tmp_path / "other.json").write_bytes(content)
    with pytest.raises(BridgeError) as raised:
        BridgeRecipe.load(tmp_path / "other.json")
    assert is_one_sentence(raised.value, "other.json")
    with pytest.raises(BridgeError, match="no bridge"):
        BridgeRecipe.load(tmp_path / "none.json")
    with pytest.raises(BridgeError, match="unknown more"):
        BridgeRecipe.from_json(recipe().to_json() | {"more": 1}, "it")


# Kits.


@pytest.fixture(scope="module")
def kit():
    faces, count = grid(), SIDE * SIDE
    rows, columns = np.divmod(np.arange(count), SIDE)
    body = CharacterTemplate(
        vertices=np.stack([columns, rows, 0 * rows], -1).astype(np.float32),
        faces=faces.astype(np.int32),
        uv=np.zeros((*faces.shape, 2), np.float32),
        joint_names=("pelvis", "head"),
        parents=np.array([-1, 0], np.int32),
        joints=np.zeros((2, 3), np.float32),
        weights=np.tile(np.float32([0, 1]), (count, 1)),
        shapedirs=np.zeros((count, 3, 2), np.float32),
        joint_shapedirs=np.zeros((2, 3, 2), np.float32),
        meta={"name": "a sheet"},
    )
    face = small_face(side=SIDE)
    face.sha256 = "5" * 64
    points = np.random.default_rng(0).normal(size=(478, 3))
    points[::7] = np.nan
    return BridgeKit(body, face, recipe(strip=[]), points, "a folder")


def test_a_written_kit_is_read(kit, tmp_path):
    kit.save(tmp_path / "kit.npz")
    read = BridgeKit.load(tmp_path / "kit.npz")
    assert_same(read.suggestion, kit.suggestion)
    np.testing.assert_array_equal(read.body.faces, kit.body.faces)
    np.testing.assert_array_equal(read.face.faces, kit.face.faces)
    np.testing.assert_allclose(read.face.mean, kit.face.mean)
    np.testing.assert_allclose(read.body_points, kit.body_points, rtol=1e-6)
    assert (read.recipes_folder, read.face.sha256, read.body.meta["name"]) == ("a folder", "5" * 64, "a sheet")
    for which in ("body", "face"):
        vertices = {"body": "vertices", "face": "mean"}[which]
        first, second = getattr(kit, which), getattr(read, which)
        assert fingerprint(first.faces, len(getattr(first, vertices))) == fingerprint(
            second.faces, len(getattr(second, vertices))
        )


@pytest.mark.parametrize("name", ["body.faces", "face.mean", "body_points", "has_body_points", "meta"])
def test_a_kit_that_lacks_something_is_refused(kit, name, tmp_path):
    kit.save(tmp_path / "kit.npz")
    with np.load(tmp_path / "kit.npz") as file:
        arrays = {key: file[key] for key in file.files if key != name}
    np.savez(tmp_path / "less.npz", **arrays)
    with pytest.raises(BridgeError):
        BridgeKit.load(tmp_path / "less.npz")


def test_a_kit_of_an_unsound_suggestion_or_surface_is_refused(kit, tmp_path):
    kit.save(tmp_path / "kit.npz")
    with np.load(tmp_path / "kit.npz") as file:
        arrays = {key: file[key] for key in file.files}
    meta = json.loads(str(arrays["meta"]))
    meta["suggestion"]["body_boundary"] = [1]
    for change in (
        {"meta": np.array(json.dumps(meta))},
        {"body.faces": arrays["body.faces"] + 1000},
        {"body_points": np.zeros(3)},
    ):
        np.savez(tmp_path / "bad.npz", **arrays | change)
        with pytest.raises(BridgeError):
            BridgeKit.load(tmp_path / "bad.npz")
    (tmp_path / "text.npz").write_text("no kit")
    np.savez(tmp_path / "code.npz", meta=np.array([{"a": 1}], dtype=object))
    for name in ("text.npz", "code.npz", "none.npz"):
        with pytest.raises(BridgeError):
            BridgeKit.load(tmp_path / name)
    with pytest.raises(BridgeError):
        kit.save(tmp_path / "no folder" / "kit.npz")


# Loops and sides.


def test_a_recipe_is_checked_against_the_surfaces_it_is_for():
    faces, count = grid(), SIDE * SIDE
    mark = fingerprint(faces, count)
    made = recipe(body_fingerprint=mark, face_fingerprint=mark)
    made.check(faces, count, faces, count)
    with pytest.raises(BridgeError, match="another body model"):
        made.check(faces[:-1], count, faces, count)
    with pytest.raises(BridgeError, match="another face model"):
        made.check(faces, count, faces, count + 1)
    with pytest.raises(BridgeError, match="The face boundary is not one closed"):
        replace(made, face_boundary=ring(2, 4)[::-2]).check(faces, count, faces, count)


def test_any_change_of_a_surface_changes_its_fingerprint():
    faces, count = grid(), SIDE * SIDE
    turned, moved = faces.copy(), faces.copy()
    turned[3] = np.roll(turned[3], 1)
    moved[[0, 1]] = moved[[1, 0]]
    triangles = np.where(np.arange(4) < 3, faces, -1)
    marks = [
        fingerprint(*each) for each in ((faces, count), (turned, count), (moved, count), (triangles, count), (faces, 99))
    ]
    assert len(set(marks)) == len(marks)
    assert fingerprint(faces.astype(np.int64), count) == fingerprint(np.asfortranarray(faces.astype(np.int32)), count)


def test_a_closed_simple_loop_of_edges_is_accepted():
    for loop in (ring(2, 6), ring(2, 6)[::-1], np.roll(ring(2, 6), 5), ring(0, SIDE - 1)):
        check_loop(grid(), loop, "The loop")


@pytest.mark.parametrize(
    "loop",
    [
        np.append(ring(1, 3), ring(5, 7)),  # two
        ring(2, 6)[:-1],  # open
        [10, 11, 20, 21, 22, 31, 30, 29, 20, 19],  # touches itself
        [10, 11, 10],
        ring(2, 6) + SIDE * SIDE,  # of another surface
        [10, 20, 19],  # across a quad
        [10, 11],
        [],
    ],
    ids=["two", "open", "touching", "back", "elsewhere", "diagonal", "two vertices", "none"],
)
def test_what_is_no_closed_simple_loop_is_refused(loop):
    with pytest.raises(BridgeError) as raised:
        check_loop(grid(), loop, "The body boundary")
    assert is_one_sentence(raised.value, "The body boundary")


@pytest.mark.parametrize("low, high", [(2, 6), (3, 5), (1, 7), (1, 8)])
def test_the_sides_of_a_loop_are_what_is_inside_and_outside(low, high):
    rows, columns = np.divmod(grid()[:, 0], SIDE)
    inside = (rows >= low) & (rows < high) & (columns >= low) & (columns < high)
    smaller, larger = sides(grid(), ring(low, high))
    np.testing.assert_array_equal(smaller, inside if inside.sum() < (~inside).sum() else ~inside)
    np.testing.assert_array_equal(larger, ~smaller)


def test_pieces_apart_are_on_neither_side_and_an_outer_edge_has_one():
    both = np.concatenate([grid(), grid() + SIDE * SIDE])
    smaller, larger = sides(both, ring(2, 6))
    assert smaller.sum() == 16 and larger.sum() == 48 and not (smaller | larger)[64:].any()
    smaller, larger = sides(grid(), ring(0, SIDE - 1))
    assert not smaller.any() and larger.all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_parts_are_the_connected_components(seed):
    """Of a random selection of quads and triangles, cut along a random loop."""
    rng = np.random.default_rng(seed)
    faces = grid()[rng.random((SIDE - 1) ** 2) < 0.6]
    faces[rng.random(len(faces)) < 0.3, 3] = -1
    low, high = np.sort(rng.choice(SIDE, 2, replace=False))
    loop = ring(low, high)
    edges, owner = face_edges(faces)
    along = {frozenset(pair) for pair in zip(loop.tolist(), np.roll(loop, -1).tolist())}
    shared = {}
    for edge, number in zip(edges.tolist(), owner.tolist()):
        if frozenset(edge) not in along:
            shared.setdefault(frozenset(edge), []).append(number)
    pairs = np.array([numbers for numbers in shared.values() if len(numbers) == 2]).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), (len(faces),) * 2)
    expected = connected_components(graph, directed=False)[1]
    got = parts_between(faces, loop)
    assert len(set(zip(got.tolist(), expected.tolist()))) == len(set(got.tolist())) == len(set(expected.tolist()))
    assert (np.diff(np.bincount(got)) <= 0).all(), "the largest first"
