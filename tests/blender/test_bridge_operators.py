# SPDX-License-Identifier: GPL-3.0-or-later
import builtins
import json
import pickle

import bmesh
import bpy
import numpy as np
import pytest
from fullbody_mocap import pair as pairs
from fullbody_mocap.contract.bridge import BridgeKit, BridgeRecipe
from fullbody_mocap.contract.character import CharacterTemplate
from fullbody_mocap.contract.frames import axis_angle_to_matrix
from mathutils import Matrix, Vector
from scene_reading import contents
from synthetic_pair import BODY_AROUND, BODY_RING, FACE_AROUND, FACE_RINGS, make_kit, ring
from synthetic_person import make_clip

BODY_LOOP, FACE_LOOP = ring(BODY_RING, BODY_AROUND), ring(FACE_RINGS, FACE_AROUND)


@pytest.fixture
def kit_file(tmp_path):
    kit = make_kit()
    (tmp_path / "recipes").mkdir()
    kit.recipes_folder = str(tmp_path / "recipes")
    kit.save(tmp_path / "kit.npz")
    return tmp_path / "kit.npz"


@pytest.fixture
def opened(addon, scene, kit_file):
    """(pair collection, body, face), as the operator leaves them."""
    assert bpy.ops.fullbody.open_bridge_kit(filepath=str(kit_file)) == {"FINISHED"}
    pair = pairs.pair_of(bpy.context.object)
    yield pair, *pairs.body_and_face(pair)
    if bpy.context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")


def everything():
    """What `contents` says, and all that the operators could have changed of objects and meshes."""
    objects = {}
    for item in bpy.context.scene.objects:
        properties = {key: str(item[key].to_list() if hasattr(item[key], "to_list") else item[key]) for key in item.keys()}
        objects[item.name] = (np.array(item.matrix_world).tolist(), properties, item.hide_render)
        if item.type == "MESH" and item.mode != "EDIT":
            seams = [polygon.material_index for polygon in item.data.polygons] + [
                edge.index for edge in item.data.edges if edge.use_seam
            ]
            objects[item.name] += (
                len(item.data.vertices),
                [tuple(polygon.vertices) for polygon in item.data.polygons],
                seams,
            )
    curves = sorted(curve.name for curve in bpy.data.curves)
    return contents() | {"objects": objects, "curves": curves, "active": bpy.context.object and bpy.context.object.name}


def edit(item, *edges):
    """Goes into edit mode of one object with these edges, pairs of vertices, selected."""
    if bpy.context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    bpy.context.view_layer.objects.active = item
    for other in bpy.context.view_layer.objects:
        other.select_set(other == item)
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.context.tool_settings.mesh_select_mode = (False, True, False)
    bpy.ops.mesh.select_all(action="DESELECT")
    select(item, *edges)


def select(item, *edges):
    build = bmesh.from_edit_mesh(item.data)
    build.verts.ensure_lookup_table()
    for first, second in edges:
        build.edges.get((build.verts[int(first)], build.verts[int(second)])).select = True
    bmesh.update_edit_mesh(item.data)


def around(loop):
    return list(zip(loop.tolist(), np.roll(loop, -1).tolist()))


def selected(item):
    return {tuple(sorted(v.index for v in edge.verts)) for edge in bmesh.from_edit_mesh(item.data).edges if edge.select}


def refused(operator, words, **options):
    """Calls an operator that must refuse in one sentence and leave all as it was."""
    before = everything()
    with pytest.raises(RuntimeError, match=words) as caught:
        operator(**options)
    assert "Traceback" not in str(caught.value) and len(str(caught.value).strip().splitlines()) == 1
    assert everything() == before


def object_mode():
    bpy.ops.object.mode_set(mode="OBJECT")


def test_a_kit_opens_with_its_suggestion(opened, kit_file):
    pair, body, face = opened
    kit = BridgeKit.load(kit_file)
    assert bpy.context.object == face and len(body.data.vertices) == len(kit.body.vertices)
    assert pairs.boundary_of(body).tolist() == BODY_LOOP.tolist() and pairs.boundary_of(face).tolist() == FACE_LOOP.tolist()
    # The face's vertices stand in the scene where the recipe has them in the body's.
    rest_to_scene = Matrix(((1, 0, 0), (0, 0, -1), (0, 1, 0)))
    for number in (0, 17, 100):
        expected = rest_to_scene @ Vector(kit.suggestion.place(kit.face.mean[number]).tolist())
        assert (face.matrix_world @ face.data.vertices[number].co - expected).length < 1e-6
    for item, loop in ((body, BODY_LOOP), (face, FACE_LOOP)):
        seams = {tuple(sorted(edge.vertices)) for edge in item.data.edges if edge.use_seam}
        assert seams == {tuple(sorted(pair)) for pair in around(loop)}
        (line,) = item.children
        points = np.array([point.co[:3] for point in line.data.splines[0].points])
        assert np.abs(points - [item.data.vertices[int(v)].co for v in loop]).max() < 1e-6
        assert line.data.splines[0].use_cyclic_u and line.hide_select
    inside = set(range(BODY_LOOP[0])) | set(BODY_LOOP.tolist())
    faint = [polygon.material_index == 1 for polygon in body.data.polygons]
    assert faint == [set(polygon.vertices) <= inside for polygon in body.data.polygons]
    assert not any(polygon.material_index for polygon in face.data.polygons)


def test_an_untouched_pair_is_the_suggestion(opened, kit_file):
    kit = BridgeKit.load(kit_file)
    assert pairs.annotated_recipe(kit, *opened[1:]) is kit.suggestion


def test_where_the_face_is_moved_is_where_it_goes(opened, kit_file):
    _, body, face = opened
    kit = BridgeKit.load(kit_file)
    turn = Matrix(axis_angle_to_matrix([0.1, 0.2, -0.3]).tolist()).to_4x4()
    face.matrix_world = Matrix.Translation((0.01, -0.02, 0.03)) @ turn @ Matrix.Scale(1.1, 4) @ face.matrix_world
    # The pair as a whole may stand anywhere.
    for item in (body, face):
        item.matrix_world = Matrix.Translation((1, 2, 3)) @ Matrix.Rotation(0.5, 4, "Z") @ item.matrix_world
    bpy.context.view_layer.update()
    recipe = pairs.annotated_recipe(kit, body, face)
    assert recipe.scale == pytest.approx(2.2, rel=1e-5) and not recipe.is_bridged
    rest_to_scene = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    onto_body = np.array(body.matrix_world.inverted() @ face.matrix_world)
    points = np.array([vertex.co for vertex in face.data.vertices])
    expected = points @ onto_body[:3, :3].T + onto_body[:3, 3]
    assert np.abs(recipe.place(kit.face.mean) @ rest_to_scene.T - expected).max() < 1e-6
    assert bpy.ops.fullbody.align_face() == {"FINISHED"}
    bpy.context.view_layer.update()
    assert pairs.annotated_recipe(kit, body, face) is kit.suggestion


def test_boundaries_are_set_shown_and_taken_back(opened, kit_file):
    _, body, face = opened
    for item, inner, own in ((body, ring(4, BODY_AROUND), BODY_LOOP), (face, ring(7, FACE_AROUND), FACE_LOOP)):
        edit(item, *around(inner))
        assert bpy.ops.fullbody.set_boundary() == {"FINISHED"}
        assert sorted(pairs.boundary_of(item)) == inner.tolist()
        bpy.ops.mesh.select_all(action="DESELECT")
        assert bpy.ops.fullbody.show_boundary() == {"FINISHED"}
        assert selected(item) == {tuple(sorted(pair)) for pair in around(inner)}
        (line,) = item.children
        assert len(line.data.splines[0].points) == len(inner)
        object_mode()
        assert sum(edge.use_seam for edge in item.data.edges) == len(inner)
        assert any(polygon.material_index for polygon in item.data.polygons)
        recipe = pairs.annotated_recipe(BridgeKit.load(kit_file), body, face)
        assert sorted(getattr(recipe, f"{item[pairs.ROLE_PROPERTY]}_boundary")) == inner.tolist()
        assert bpy.ops.fullbody.suggest_boundary() == {"FINISHED"}
        assert pairs.boundary_of(item).tolist() == own.tolist()


@pytest.mark.parametrize(
    "edges, words",
    [
        ([], "No edges of ball body are selected"),
        (around(BODY_LOOP) + around(ring(8, BODY_AROUND)), "More than one loop"),
        (around(BODY_LOOP)[:-1], "not closed"),
        (around(BODY_LOOP) + [(ring(6, BODY_AROUND)[3], BODY_LOOP[3])], "branch or touch"),
        ([(0, v) for v in (1, 2, 12, 13)] + [(1, 2), (12, 13)], "branch or touch"),
    ],
)
def test_a_selection_that_is_no_loop_is_refused(opened, edges, words):
    edit(opened[1], *edges)
    refused(bpy.ops.fullbody.set_boundary, words)
    assert len(selected(opened[1])) == len(edges)


def test_a_loop_on_another_object_is_refused(opened):
    _, body, face = opened
    bpy.context.view_layer.objects.active = face
    body.select_set(True)
    face.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.context.tool_settings.mesh_select_mode = (False, True, False)
    bpy.ops.mesh.select_all(action="DESELECT")
    select(body, *around(BODY_LOOP))
    refused(bpy.ops.fullbody.set_boundary, "Edges of ball body are selected, and cap face is the active object")


def test_an_edited_mesh_is_refused(opened):
    _, body, face = opened
    edit(body)
    build = bmesh.from_edit_mesh(body.data)
    build.faces.ensure_lookup_table()
    bmesh.ops.delete(build, geom=[build.faces[200]], context="FACES_ONLY")
    bmesh.update_edit_mesh(body.data)
    select(body, *around(BODY_LOOP))
    for operator in (bpy.ops.fullbody.set_boundary, bpy.ops.fullbody.show_boundary, bpy.ops.fullbody.suggest_boundary):
        refused(operator, "ball body has been edited")
    object_mode()
    refused(bpy.ops.fullbody.bridge_face, "ball body has been edited")


def spoil_scale(pair, body, face, kit_file):
    face.scale.x *= 1.2


def spoil_mirror(pair, body, face, kit_file):
    face.scale = [-x for x in face.scale]


def spoil_flat(pair, body, face, kit_file):
    face.scale = (0, 0, 0)


def spoil_vertices(pair, body, face, kit_file):
    face.data.vertices[5].co.x += 0.01


def spoil_place(pair, body, face, kit_file):
    face.matrix_world = Matrix.Translation((0.5, 0, 0)) @ face.matrix_world


def spoil_boundary(pair, body, face, kit_file):
    del body[pairs.BOUNDARY_PROPERTY]


def spoil_kit(pair, body, face, kit_file):
    kit_file.write_bytes(kit_file.read_bytes()[:500])


def spoil_kit_place(pair, body, face, kit_file):
    kit_file.unlink()


def spoil_body(pair, body, face, kit_file):
    pair.objects.unlink(body)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (spoil_scale, "not scaled evenly"),
        (spoil_mirror, "mirrored or has no size"),
        (spoil_flat, "mirrored or has no size"),
        (spoil_vertices, "Vertices of cap face have been moved"),
        (spoil_place, "strip|bridge"),
        (spoil_boundary, "has no boundary yet"),
        (spoil_kit, "cut short"),
        (spoil_kit_place, "no bridge kit"),
        (spoil_body, "lost its body or its face"),
    ],
)
def test_what_cannot_be_bridged_is_refused(opened, kit_file, spoil, words):
    spoil(*opened, kit_file)
    bpy.context.view_layer.update()
    refused(bpy.ops.fullbody.bridge_face, words)


class Spy:
    """What a pickle may hold: code that runs when somebody unpickles it."""

    def __reduce__(self):
        return exec, ("import builtins; builtins.fullbody_was_fooled = True",)


def archive_of_objects(path):
    np.savez(path, **{"meta": np.array([Spy()], object)})


@pytest.mark.parametrize(
    "write",
    [
        lambda path: None,
        lambda path: path.write_bytes(b"text"),
        lambda path: path.write_bytes(b"PK\x03\x04"),
        lambda path: path.write_bytes(pickle.dumps(Spy())),
        archive_of_objects,
        lambda path: make_kit().body.save(path),
        lambda path: make_kit().face.save(path),
    ],
)
def test_a_kit_that_cannot_be_read_is_refused(addon, scene, tmp_path, write):
    write(tmp_path / "bad.npz")
    refused(bpy.ops.fullbody.open_bridge_kit, "bridge kit", filepath=str(tmp_path / "bad.npz"))
    assert not hasattr(builtins, "fullbody_was_fooled")


def test_a_kit_with_a_suggestion_for_other_models_is_refused(addon, scene, tmp_path):
    make_kit(face_fingerprint="0").save(tmp_path / "kit.npz")
    refused(bpy.ops.fullbody.open_bridge_kit, "another face model", filepath=str(tmp_path / "kit.npz"))


def test_bridging_builds_the_character_beside_the_hidden_pair(opened):
    pair, body, face = opened
    assert bpy.ops.fullbody.bridge_face() == {"FINISHED"}
    armature = bpy.context.object
    assert armature.type == "ARMATURE" and pairs.pair_of(armature) == pair
    (mesh,) = armature.children
    build = bmesh.new()
    build.from_mesh(mesh.data)
    assert all(edge.is_manifold and edge.is_contiguous for edge in build.edges) and build.calc_volume() > 0
    build.free()
    assert list(mesh.data.shape_keys.key_blocks.keys())[-2:] == ["smile", "jawOpen"]
    assert not body.visible_get() and not face.visible_get() and mesh.visible_get() and pair.hide_render
    count = len(bpy.data.collections)
    # Back, and again: the second character takes the first one's place.
    assert bpy.ops.fullbody.edit_boundaries() == {"FINISHED"}
    assert body.visible_get() and bpy.context.object == face and not mesh.visible_get()
    assert bpy.ops.fullbody.bridge_face() == {"FINISHED"}
    assert len(bpy.data.collections) == count and bpy.context.object.name.startswith("ball body + cap face")
    assert len([item for item in bpy.context.scene.objects if item.type == "ARMATURE"]) == 1


def test_undo_takes_each_step_back(addon, scene, kit_file):
    bpy.ops.ed.undo_push(message="Before")
    before = contents()
    assert bpy.ops.fullbody.open_bridge_kit("EXEC_DEFAULT", True, filepath=str(kit_file)) == {"FINISHED"}
    opened = contents()
    assert bpy.ops.fullbody.bridge_face("EXEC_DEFAULT", True) == {"FINISHED"}
    assert contents() != opened
    assert bpy.ops.ed.undo() == {"FINISHED"}
    assert contents() == opened
    _, face = pairs.body_and_face(pairs.pair_of(bpy.context.object))
    assert face.visible_get()
    assert bpy.ops.ed.undo() == {"FINISHED"}
    assert contents() == before


def test_what_is_saved_is_what_was_bridged(opened, kit_file, tmp_path):
    pair, body, face = opened
    face.matrix_world = Matrix.Translation((0, 0.0005, 0)) @ face.matrix_world
    edit(body, *around(ring(6, BODY_AROUND)))
    bpy.ops.fullbody.set_boundary()
    object_mode()
    assert bpy.ops.fullbody.bridge_face() == {"FINISHED"}
    before = everything()
    assert bpy.ops.fullbody.save_bridge(filepath=str(tmp_path / "pair.json")) == {"FINISHED"}
    assert everything() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kit.npz", "pair.blend", "pair.json", "pair.npz", "recipes"]
    recipe = BridgeRecipe.load(tmp_path / "pair.json")
    assert recipe.to_json() == json.loads(pair[pairs.RECIPE_PROPERTY]) | {"format": "fullbody-bridge", "version": 1}
    assert BridgeRecipe.load(tmp_path / "recipes" / "pair.json").to_json() == recipe.to_json()
    assert sorted(recipe.body_boundary) == ring(6, BODY_AROUND).tolist() and recipe.is_bridged
    template = CharacterTemplate.load(tmp_path / "pair.npz")
    mesh = bpy.context.object.children[0]
    assert len(template.vertices) == len(mesh.data.vertices) and template.meta["name"] == "ball body + cap face"

    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(str(tmp_path / "pair.blend"), assets_only=True) as (there, wanted):
        assert there.collections == ["ball body + cap face"] and not there.objects
        wanted.collections = list(there.collections)
    (collection,) = wanted.collections
    bpy.context.scene.collection.children.link(collection)
    assert collection.asset_data is not None and [tag.name for tag in collection.asset_data.tags] == [
        "fullbody",
        "character",
    ]
    assert "CC0" in collection.asset_data.description and collection.asset_data.author == ""
    (armature,) = [item for item in collection.objects if item.type == "ARMATURE"]
    assert len(armature.data.bones) == 52 and armature.children[0].modifiers["Armature"].object == armature


def test_saving_is_whole_or_not_at_all(opened, kit_file, tmp_path):
    assert bpy.ops.fullbody.bridge_face() == {"FINISHED"}
    files = sorted(tmp_path.rglob("*"))
    refused(bpy.ops.fullbody.save_bridge, "no such folder", filepath=str(tmp_path / "none" / "pair.json"))
    refused(bpy.ops.fullbody.save_bridge, "take the place of the bridge kit", filepath=str(tmp_path / "kit.json"))
    (tmp_path / "full.blend").mkdir()
    refused(bpy.ops.fullbody.save_bridge, "Cannot write", filepath=str(tmp_path / "full.json"))
    (tmp_path / "full.blend").rmdir()
    assert sorted(tmp_path.rglob("*")) == files
    options = {"save_template": False, "save_asset": False, "use_from_now_on": False}
    assert bpy.ops.fullbody.save_bridge(filepath=str(tmp_path / "only.json"), **options) == {"FINISHED"}
    assert sorted(tmp_path.rglob("*")) == sorted([*files, tmp_path / "only.json"])


def test_the_import_takes_the_saved_character(opened, tmp_path):
    assert bpy.ops.fullbody.bridge_face() == {"FINISHED"}
    assert bpy.ops.fullbody.save_bridge(filepath=str(tmp_path / "pair.json")) == {"FINISHED"}
    template = CharacterTemplate.load(tmp_path / "pair.npz")
    make_clip(template, frames=5, betas=np.zeros(16), expression_names=("smile", "jawOpen")).save(tmp_path / "walk.npz")
    done = bpy.ops.fullbody.import_capture(filepath=str(tmp_path / "walk.npz"), template_path=str(tmp_path / "pair.npz"))
    assert done == {"FINISHED"}
    assert len(bpy.context.object.children[0].data.vertices) == len(template.vertices)


def test_polls_say_what_to_do(addon, scene, kit_file):
    operators = bpy.ops.fullbody
    assert operators.open_bridge_kit.poll()
    for name in ("set_boundary", "show_boundary", "suggest_boundary", "align_face", "bridge_face", "edit_boundaries"):
        assert not getattr(operators, name).poll()
    assert not operators.save_bridge.poll()
    operators.open_bridge_kit(filepath=str(kit_file))
    assert operators.bridge_face.poll() and operators.align_face.poll() and operators.suggest_boundary.poll()
    assert not operators.set_boundary.poll() and not operators.save_bridge.poll()
    with pytest.raises(RuntimeError, match="Select the loop in Edit Mode"):
        operators.set_boundary()
    edit(bpy.context.object)
    assert operators.set_boundary.poll() and not operators.bridge_face.poll()
    object_mode()


def test_no_path_is_kept_in_what_is_shared(opened, tmp_path):
    assert bpy.ops.fullbody.bridge_face() == {"FINISHED"}
    assert str(tmp_path) not in opened[0][pairs.RECIPE_PROPERTY]
    character = pairs.bridged_character(opened[0])
    for item in (character, *character.objects):
        assert not any(str(tmp_path) in str(item[key]) for key in item.keys())
