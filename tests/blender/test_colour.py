# SPDX-License-Identifier: GPL-3.0-or-later
"""The colour that Blender evaluates is R = mean + sum of gamma E at every vertex."""

import subprocess
import sys

import bpy
import numpy as np
import pytest
from fullbody_mocap import axes
from fullbody_mocap.character import build_character
from fullbody_mocap.colour import BODY_COLOUR, KEYABLE, MODIFIER, OWN_BODY_COLOUR, input_path, key_albedo, keyable, set_input
from fullbody_mocap.importer import import_capture
from fullbody_mocap.keyframes import Timing
from fullbody_mocap.stage import evaluated_vertices
from scene_reading import curves_of, evaluated_colours
from synthetic_person import make_clip, make_template, posed_vertices

STEP = 1 / 255


@pytest.fixture
def template():
    return make_template(expression_names=("smile",), shapes=4, albedos=12)


@pytest.fixture
def imported(scene, template):
    clip = make_clip(template, frames=30, expression_names=("smile",))
    view_layer = bpy.context.view_layer
    return clip, import_capture(clip, template, Timing(30.0), name="Walk", scene=scene, view_layer=view_layer)


def test_import_shows_the_persons_colour_and_keys_it_once(scene, template, imported):
    clip, made = imported
    mesh = made.character.mesh
    for frame in (1, 17, 30):
        scene.frame_set(frame)
        colours, kind = evaluated_colours(mesh)
        assert kind == ("FLOAT_COLOR", "POINT") and (colours[:, 3] == 1).all()
        assert np.abs(colours[:, :3] - template.albedo(clip.face_albedo)).max() < 1e-5
    curves = curves_of(mesh)
    assert len(curves) == KEYABLE == keyable(made.character)
    assert all(keys[:, 0].tolist() == [1] for keys in curves.values())
    assert mesh.animation_data.action == made.action and len(made.action.slots) == 3


def test_colour_at_three_keyed_frames(scene, template, imported):
    """Issue 5: equal to R = mean + gamma E to 1/255 at every vertex, and between the keys half of each."""
    clip, made = imported
    rng = np.random.default_rng(2)
    frames, leading = np.array([1, 11, 25]), rng.normal(0, 1.5, (3, KEYABLE))
    key_albedo(made.character, frames, leading)
    worst = 0.0
    for frame, coefficients in [*zip(frames, leading), (6, (leading[0] + leading[1]) / 2)]:
        scene.frame_set(int(frame))
        whole = np.r_[coefficients, clip.face_albedo[KEYABLE:]]
        difference = np.abs(evaluated_colours(made.character.mesh)[0][:, :3] - template.albedo(whole)).max()
        worst = max(worst, difference)
    print(f"{bpy.app.version_string}: colour error {worst:.1e} (1/255 is {STEP:.1e})")
    assert worst < 1e-5 < STEP
    assert np.ptp(template.albedo(np.r_[leading[0], np.zeros(4)]) - template.albedo(np.r_[leading[1], np.zeros(4)])) > 0.1


def test_keys_are_added_and_those_on_the_same_frame_replaced(scene, imported):
    clip, made = imported
    character = made.character
    key_albedo(character, [5, 9], np.ones((2, KEYABLE)))
    key_albedo(character, [9, 7], [[2.0] * 3, [3.0] * 3])
    curves = curves_of(character.mesh)
    path = input_path(character.mesh.modifiers[MODIFIER], "Albedo 0")
    np.testing.assert_allclose(curves[path, 0], [[1, clip.face_albedo[0]], [5, 1], [7, 3], [9, 2]], atol=1e-6)
    assert len(curves_of(character.mesh)) == KEYABLE and len(made.action.slots) == 3
    with pytest.raises(ValueError, match="at most 8"):
        key_albedo(character, [1], np.zeros((1, KEYABLE + 1)))


def test_shape_keys_and_armature_go_on_as_before(scene, template, imported):
    clip, made = imported
    mesh = made.character.mesh
    assert [modifier.type for modifier in mesh.modifiers] == ["ARMATURE", "NODES"]
    for frame in (0, 12, 29):
        scene.frame_set(1 + frame)
        vertices = evaluated_vertices(mesh, bpy.context.evaluated_depsgraph_get())
        assert np.abs(vertices - posed_vertices(template, clip, frame)).max() < 1e-4


def test_body_colour_by_hand_spares_the_face(scene, template, imported):
    clip, made = imported
    mesh, modifier = made.character.mesh, made.character.mesh.modifiers[MODIFIER]
    before = evaluated_colours(mesh)[0]
    set_input(modifier, BODY_COLOUR, (0.1, 0.2, 0.9, 1.0))
    for share in (1.0, 0.25):
        set_input(modifier, OWN_BODY_COLOUR, share)
        mesh.update_tag()
        colours = evaluated_colours(mesh)[0]
        np.testing.assert_allclose(colours[template.face_vertices], before[template.face_vertices], atol=1e-6)
        body = np.setdiff1d(np.arange(len(template.vertices)), template.face_vertices)
        mixed = (1 - share) * before[body] + share * np.array([0.1, 0.2, 0.9, 1.0])
        np.testing.assert_allclose(colours[body], mixed, atol=1e-5)


def test_a_body_without_a_face_has_the_default_colour(scene):
    template = make_template()
    view_layer = bpy.context.view_layer
    character = build_character(template, np.zeros(16), name="P", collection=scene.collection, view_layer=view_layer)
    assert keyable(character) == 0
    np.testing.assert_allclose(evaluated_colours(character.mesh)[0][:, :3], template.albedo_mean, atol=1e-6)
    vertices = evaluated_vertices(character.mesh, bpy.context.evaluated_depsgraph_get())
    assert np.abs(vertices - axes.rest_to_scene(template.vertices)).max() < 1e-5


def test_the_skin_reads_the_attribute(scene, imported):
    for name, coloured in (("Skin", True), ("Eyes", True), ("Clothes", False)):
        tree = next(item for item in bpy.data.materials if item.name == name).node_tree
        shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
        links = shader.inputs["Base Color"].links
        assert bool(links) == coloured
        if coloured:
            assert (links[0].from_node.attribute_type, links[0].from_node.attribute_name) == ("GEOMETRY", "Albedo")


READ_WITHOUT_ADDON = """
import bpy, numpy as np, os, sys
bpy.ops.wm.open_mainfile(filepath=sys.argv[1])
assert not any("fullbody" in name for name in sys.modules)
mesh = bpy.data.objects["Walk body"]
for frame in (1, 20):
    bpy.context.scene.frame_set(frame)
    evaluated = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
    colours = np.empty(4 * len(evaluated.data.vertices), np.float32)
    evaluated.data.attributes["Albedo"].data.foreach_get("color", colours)
    np.save(f"{sys.argv[2]}_{frame}.npy", colours.reshape(-1, 4))
os._exit(0)
"""


def test_the_file_shows_it_without_the_addon(template, imported, tmp_path):
    clip, made = imported
    key_albedo(made.character, [20], np.full((1, KEYABLE), -1.0))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "walk.blend"))
    command = [sys.executable, "-c", READ_WITHOUT_ADDON, str(tmp_path / "walk.blend"), str(tmp_path / "colours")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    for frame, leading in ((1, clip.face_albedo[:KEYABLE]), (20, np.full(KEYABLE, -1.0))):
        whole = np.r_[leading, clip.face_albedo[KEYABLE:]]
        assert np.abs(np.load(tmp_path / f"colours_{frame}.npy")[:, :3] - template.albedo(whole)).max() < 1e-5
