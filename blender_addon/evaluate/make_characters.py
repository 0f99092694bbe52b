# SPDX-License-Identifier: GPL-3.0-or-later
"""Characters to test retargeting on, as files: public rigs and odd ones, skinned.

    python -m fullbody_mocap.evaluate.make_characters --definitions RIGS.json --out FOLDER [--template ...] [--only NAME ...]
    blender --background --factory-startup --python-exit-code 1 --python make_characters.py -- --definitions ...

Beside each NAME.blend, .fbx, .glb or .vrm lies NAME.json: what its bones are truly for (roles), the degrees to the left that it
faces, and the height of the ground under it, for measuring. The last line on stdout is one JSON object with the files by name.
"""

import argparse
import json
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file by Blender: the add-on is the folder above this file's
    _addon = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(_addon.parent))
    __package__ = f"{_addon.name}.{Path(__file__).resolve().parent.name}"
    __import__(__package__)

import addon_utils
import bpy
import numpy as np
from mathutils import Matrix

from ..character import build_character
from ..contract.character import CharacterTemplate
from ..contract.frames import axis_angle_to_matrix
from ..contract.npz_file import FileError
from ..contract.skeleton import FINGERS, JOINT_NAMES, SIDES
from ..headless import exit_code, own_arguments
from . import rig_variants


@dataclass(frozen=True)
class CharacterSpec:
    """A character to make: the rig, the kind of file, and what is odd about it.

    variants: keyword arguments of `rig_variants.variant`; place: of `object_matrix`; build: of `build_rig`
    parented: the object's place is that of an empty that it hangs from; overridden: a linked file's, with a library override
    """

    rig: str
    suffix: str = ".blend"
    variants: dict = field(default_factory=dict)
    place: dict = field(default_factory=dict)
    build: dict = field(default_factory=dict)
    parented: bool = False
    overridden: bool = False


_SHORT_ARMS_LONG_SHINS = {"shoulder": 0.7, "elbow": 0.7, "knee": 1.2}

CHARACTERS = {
    "mixamo": CharacterSpec("mixamo", ".fbx"),
    "unreal": CharacterSpec("unreal", ".fbx"),
    "vrm": CharacterSpec("vrm", ".vrm"),
    "makehuman": CharacterSpec("makehuman", ".glb"),
    "cmu": CharacterSpec("cmu"),
    "rigify": CharacterSpec("rigify"),
    "smplh": CharacterSpec("smplh"),
    "rolled": CharacterSpec("mixamo", variants={"rolls": 1}),
    "mixamo_a_pose": CharacterSpec("mixamo", variants={"arms": 45}),
    "unreal_t_pose": CharacterSpec("unreal", variants={"arms": 0}),
    "facing_x": CharacterSpec("mixamo", variants={"facing": 90}),
    "scaled_100": CharacterSpec("mixamo", place={"scale": 100.0}),
    "lying_hundredth": CharacterSpec("unreal", place={"scale": 0.01, "turn": (90, 0, 0)}),
    "turned_moved": CharacterSpec(
        "unreal", variants={"facing": -60}, place={"turn": (0, 0, -60), "place": (1.0, -2.0, 0.5)}
    ),
    "spine_1": CharacterSpec("mixamo", variants={"spine": 1}),
    "spine_2": CharacterSpec("unreal", variants={"spine": 2}),
    "spine_6": CharacterSpec("mixamo", variants={"spine": 6, "rolls": 2}),
    "no_fingers": CharacterSpec("unreal", variants={"fingers": False}),
    "proportions": CharacterSpec("mixamo", variants={"lengths": _SHORT_ARMS_LONG_SHINS, "rolls": 3}),
    "split_limbs": CharacterSpec("mixamo", variants={"split": True}),
    "euler": CharacterSpec("unreal", build={"rotation_mode": "XYZ"}),
    "no_inherit": CharacterSpec("mixamo", build={"without_inherited_turn": ("mixamorig:Head", "mixamorig:LeftArm")}),
    "parented": CharacterSpec("unreal", place={"scale": 2.0, "turn": (0, 0, 30)}, parented=True),
    "overridden": CharacterSpec("cmu", overridden=True),
}
"""Every test character by its name."""


def make_characters(definitions, folder, only=None, template=None):
    """Writes the characters of `CHARACTERS`, or those named `only`, into `folder`. Returns {name: path}.

    definitions: what `rig_variants.read_definitions` reads; template: the character that "smplh" is built from, which is left
    out without one. Each starts from an empty file.
    """
    made = {}
    for name, spec in CHARACTERS.items():
        if (only is None or name in only) and (spec.rig != "smplh" or template is not None):
            made[name] = str(_make_character(name, spec, definitions, Path(folder), template))
    return made


def _make_character(name, spec, definitions, folder, template):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene, view_layer = bpy.context.scene, bpy.context.view_layer
    if spec.rig == "rigify":
        armature, roles = build_rigify(scene, view_layer), rig_variants.true_roles("rigify")
    elif spec.rig == "smplh":
        built = build_character(template, (), name=name, collection=scene.collection, view_layer=view_layer)
        armature, roles = built.armature, smplh_roles()
    else:
        rig = rig_variants.make_rig_arrays(definitions, spec.rig, axes_from_roll)
        rig = rig_variants.variant(rig, **spec.variants)
        matrix = object_matrix(**spec.place)
        armature = build_rig(rig, name=name, scene=scene, view_layer=view_layer, matrix=matrix, **spec.build)
        roles = rig.roles
        if spec.parented:
            _hang_from_empty(armature, scene)
    path = folder / f"{name}{spec.suffix}"
    ground = float(_lowest(armature)) if spec.rig == "smplh" else spec.place.get("place", (0, 0, 0))[2]
    armature.name = name
    _write(path, armature, roles, spec)
    sidecar = {"roles": roles, "facing": spec.variants.get("facing", 0.0), "ground": ground, "armature": name}
    path.with_suffix(".json").write_text(json.dumps(sidecar, indent=1), encoding="utf-8")
    return path


def smplh_roles():
    """Our own character's roles: its bones are named after the joints."""
    roles = {name: (name,) for name in JOINT_NAMES if not name.startswith("spine")}
    return roles | {"spine": ("spine1", "spine2", "spine3")}


def _lowest(armature):
    body = next(child for child in armature.children if child.type == "MESH")
    return min((body.matrix_world @ vertex.co).z for vertex in body.data.vertices)


def _hang_from_empty(armature, scene):
    empty = bpy.data.objects.new("Holder", None)
    scene.collection.objects.link(empty)
    empty.matrix_world = armature.matrix_world.copy()
    armature.parent = empty
    armature.matrix_basis = Matrix.Identity(4)


def _write(path, armature, roles, spec):
    """The open file's character as `path`, in the kind of file that it is called."""
    if spec.overridden:
        _save_override(path, armature)
    elif path.suffix == ".blend":
        bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=True, check_existing=False)
    elif path.suffix == ".fbx":
        bpy.ops.export_scene.fbx(filepath=str(path), add_leaf_bones=True, bake_anim=False)
    else:
        glb = path.with_suffix(".glb")
        bpy.ops.export_scene.gltf(filepath=str(glb), export_format="GLB", export_animations=False)
        if path.suffix == ".vrm":
            path.write_bytes(with_vrm_bones(glb.read_bytes(), roles))
            glb.unlink()


def _save_override(path, armature):
    """Saves the character as a library of its own and `path` as a file that links and overrides it."""
    collection = bpy.data.collections.new(armature.name)
    bpy.context.scene.collection.children.link(collection)
    for item in (armature, *armature.children):
        bpy.context.scene.collection.objects.unlink(item)
        collection.objects.link(item)
    library = path.with_name(f"{path.stem}_library.blend")
    name = collection.name
    bpy.ops.wm.save_as_mainfile(filepath=str(library), compress=True, check_existing=False)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(str(library), link=True) as (_, wanted):
        wanted.collections = [name]
    scene, view_layer = bpy.context.scene, bpy.context.view_layer
    scene.collection.children.link(wanted.collections[0])
    wanted.collections[0].override_hierarchy_create(scene, view_layer, do_fully_editable=True)
    for linked in [child for child in scene.collection.children if child.library]:
        scene.collection.children.unlink(linked)
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=True, check_existing=False)


_VRM_LIMBS = {
    "hip": "UpperLeg",
    "knee": "LowerLeg",
    "ankle": "Foot",
    "foot": "Toes",
    "collar": "Shoulder",
    "shoulder": "UpperArm",
    "elbow": "LowerArm",
    "wrist": "Hand",
}
_VRM_SEGMENTS = ("Proximal", "Intermediate", "Distal")
_VRM_THUMB = ("Metacarpal", "Proximal", "Distal")


def with_vrm_bones(glb, roles):
    """A glb's bytes with VRM 1.0's list of humanoid bones written into its JSON."""
    length = struct.unpack_from("<I", glb, 12)[0]
    document = json.loads(glb[20 : 20 + length])
    nodes = {node.get("name"): index for index, node in enumerate(document["nodes"])}
    bones = {bone: {"node": nodes[name]} for bone, name in _vrm_bones(roles).items() if name in nodes}
    meta = {"name": "test character", "authors": ["fullbody"], "licenseUrl": "https://vrm.dev/licenses/1.0/"}
    document["extensions"] = {"VRMC_vrm": {"specVersion": "1.0", "meta": meta, "humanoid": {"humanBones": bones}}}
    document["extensionsUsed"] = sorted({*document.get("extensionsUsed", ()), "VRMC_vrm"})
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    rest = glb[20 + length :]
    head = struct.pack("<4sII", b"glTF", 2, 20 + len(text) + len(rest))
    return head + struct.pack("<I4s", len(text), b"JSON") + text + rest


def _vrm_bones(roles):
    """{VRM's name of a humanoid bone: name of the bone}."""
    named = {"hips": "pelvis", "neck": "neck", "head": "head"}
    for side in SIDES:
        named |= {f"{side}{bone}": f"{side}_{limb}" for limb, bone in _VRM_LIMBS.items()}
        for finger in FINGERS:
            segments = _VRM_THUMB if finger == "thumb" else _VRM_SEGMENTS
            vrm = "Little" if finger == "pinky" else finger.title()
            named |= {f"{side}{vrm}{segment}": f"{side}_{finger}{k + 1}" for k, segment in enumerate(segments)}
    spine = zip(("spine", "chest", "upperChest"), roles["spine"])
    return {bone: roles[role][0] for bone, role in named.items() if role in roles} | dict(spine)


def build_rig(rig, *, name, scene, view_layer, matrix=None, rotation_mode="QUATERNION", without_inherited_turn=()):
    """Builds a `rig_variants.Rig` as an armature object with a skinned mesh object below it; returns the armature object.

    matrix [4, 4]: the armature object's own. The bones are laid out against its turn and scale, so that the character stands in
    the world as the rig says, at the object's place. without_inherited_turn: bones that do not take over their parents' turns.
    """
    matrix = np.eye(4) if matrix is None else np.asarray(matrix, float)
    armature = bpy.data.objects.new(name, bpy.data.armatures.new(name))
    scene.collection.objects.link(armature)
    scale = np.linalg.norm(matrix[:3, 0])
    turn = matrix[:3, :3] / scale
    heads = rig.heads @ turn / scale
    lengths = np.linalg.norm(rig.tails - rig.heads, axis=1) / scale
    axes = turn.T @ rig.axes
    _add_bones(armature, rig, heads, lengths, axes, view_layer)
    for bone in armature.pose.bones:
        bone.rotation_mode = rotation_mode
        bone.bone.use_inherit_rotation = bone.name not in without_inherited_turn
    armature.matrix_world = Matrix(matrix.tolist())
    add_body(armature, rig, scene)
    view_layer.update()
    return armature


def _add_bones(armature, rig, heads, lengths, axes, view_layer):
    previous = view_layer.objects.active
    view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        bones = [armature.data.edit_bones.new(name) for name in rig.names]
        for bone, head, length, rotation in zip(bones, heads, lengths, axes):
            # The length must come first: a bone without one has no direction that the matrix could set.
            bone.head, bone.tail = (0, 0, 0), (0, length, 0)
            whole = np.eye(4)
            whole[:3, :3], whole[:3, 3] = rotation, head
            bone.matrix = Matrix(whole.tolist())
        for bone, parent, connected, deform in zip(bones, rig.parents, rig.connected, rig.deform):
            if parent >= 0:
                bone.parent = bones[parent]
                near = (bone.head - bones[parent].tail).length < 1e-3 * bone.length
                bone.use_connect = bool(connected and near)
            bone.use_deform = bool(deform)
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")
        view_layer.objects.active = previous


def add_body(armature, rig, scene):
    """Skins the armature with `rig_variants.box_body`; the mesh object is parented to it."""
    vertices, faces, bones = rig_variants.box_body(rig)
    mesh = bpy.data.meshes.new(f"{armature.name} body")
    to_object = np.linalg.inv(np.array(armature.matrix_world)[:3, :3])
    mesh.from_pydata((vertices @ to_object.T).tolist(), [], faces)
    body = bpy.data.objects.new(mesh.name, mesh)
    scene.collection.objects.link(body)
    for bone in np.unique(bones).tolist():
        body.vertex_groups.new(name=rig.names[bone]).add(np.flatnonzero(bones == bone).tolist(), 1.0, "REPLACE")
    body.parent = armature
    body.modifiers.new("Armature", "ARMATURE").object = armature
    left = rig.head("left_hip") - rig.head("right_hip")
    _colour_sides(mesh, np.array(armature.matrix_world)[:3, :3], left / np.linalg.norm(left))
    return body


def _colour_sides(mesh, to_world, left):
    """Gives faces that look to the front at rest one colour, those to the left another: so twists and mirrors are seen."""
    for name, colour in _SIDE_COLOURS.items():
        material = bpy.data.materials.new(name)
        material.diffuse_color = (*colour, 1.0)
        if material.node_tree is None:  # before 5.0 a new material has no nodes
            material.use_nodes = True
        material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (*colour, 1.0)
        mesh.materials.append(material)
    normals = np.array([polygon.normal for polygon in mesh.polygons]) @ to_world.T
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    sides = np.select([normals @ np.cross(left, (0, 0, 1)) > 0.7, normals @ left > 0.7], [1, 2], 0)
    mesh.polygons.foreach_set("material_index", sides.astype(np.int32))


_SIDE_COLOURS = {"skin": (0.55, 0.5, 0.45), "front": (0.9, 0.35, 0.05), "left": (0.1, 0.3, 0.8)}


def build_rigify(scene, view_layer):
    """Generates Rigify's human rig from its metarig, skinned; the open file's scene. Returns the armature object.

    Takes some seconds. Rigify stays enabled.
    """
    addon_utils.enable("rigify", default_set=True)
    bpy.ops.object.armature_human_metarig_add()
    metarig = view_layer.objects.active
    bpy.ops.pose.rigify_generate()
    armature = next(item for item in scene.objects if item.type == "ARMATURE" and item != metarig)
    metarig_data = metarig.data
    bpy.data.objects.remove(metarig)
    bpy.data.armatures.remove(metarig_data)
    armature.name = "rigify"
    add_body(armature, rig_of(armature, rig_variants.true_roles("rigify")), scene)
    view_layer.update()
    return armature


def rig_of(armature, roles):
    """The bones of `roles` of an armature object as a `rig_variants.Rig`, upright in the world."""
    names = [name for bones in roles.values() for name in bones]
    bones = [armature.data.bones[name] for name in names]
    return rig_variants.Rig(
        names=tuple(names),
        parents=(-1,) * len(names),
        heads=np.array([armature.matrix_world @ bone.head_local for bone in bones]),
        tails=np.array([armature.matrix_world @ bone.tail_local for bone in bones]),
        axes=np.array([(armature.matrix_world @ bone.matrix_local).to_3x3().normalized() for bone in bones]),
        connected=(False,) * len(names),
        deform=(True,) * len(names),
        roles=dict(roles),
    )


def axes_from_roll(direction, roll):
    """A bone's axes [3, 3] from its direction [3] and roll (radians), as Blender has them."""
    return np.array(bpy.types.Bone.MatrixFromAxisRoll(direction, roll))


def object_matrix(scale=1.0, turn=(0.0, 0.0, 0.0), place=(0.0, 0.0, 0.0)):
    """World matrix [4, 4] of an armature object: scaled, turned by an axis-angle [3] in degrees, and moved."""
    matrix = np.eye(4)
    matrix[:3, :3] = axis_angle_to_matrix(np.radians(turn)) * scale
    matrix[:3, 3] = place
    return matrix


def main(argv=None):
    """Parses `argv`, makes the files, prints the JSON line. Returns the exit code: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="make_characters", description="Makes characters to test retargeting on.")
    parser.add_argument("--definitions", required=True, type=Path, help="the public rigs' bones (.json)")
    parser.add_argument("--out", required=True, type=Path, help="folder for the files, which exists")
    parser.add_argument("--template", type=Path, help='character template (.npz) for "smplh"')
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=sorted(CHARACTERS), help="which to make; all without it"
    )
    args = parser.parse_args(argv)

    def work():
        template = args.template and CharacterTemplate.load(args.template)
        definitions = rig_variants.read_definitions(args.definitions)
        return {"characters": make_characters(definitions, args.out.resolve(), args.only, template)}

    return exit_code(work, (FileError, OSError))


if __name__ == "__main__":
    sys.exit(main(own_arguments()))
