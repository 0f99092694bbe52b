# SPDX-License-Identifier: GPL-3.0-or-later
"""The two models of a bridge kit in a scene: a body and a face object, their boundaries, and the face's place.

What a person annotates is kept in the objects: the boundary's vertices as a custom property, and the transformation as the face
object's own. The models' vectors stay in the kit's file.
"""

from dataclasses import replace
from pathlib import Path

import bmesh
import bpy
import numpy as np
from mathutils import Matrix

from . import axes
from .contract.bridge import BridgeError, BridgeKit, check_loop, fingerprint, sides
from .contract.full_body import kept_face_vertices, removed_faces

KIT_PROPERTY = "fullbody_kit"
"""Custom property of a pair's collection: the kit's file."""

RECIPE_PROPERTY, CHARACTER_PROPERTY = "fullbody_recipe", "fullbody_bridged"
"""Custom properties of a pair's collection once it is bridged: the recipe as JSON, and the character's collection."""

ROLE_PROPERTY = "fullbody_bridge_role"
"""Custom property of either object: "body" or "face"."""

BOUNDARY_PROPERTY = "fullbody_boundary"
"""Custom property of either object: the vertices of its boundary, in order."""

_FINGERPRINT, _COLUMNS = "fullbody_fingerprint", "fullbody_face_columns"

_ROLES = {"body": ("B_b", (0.95, 0.25, 0.05, 1.0)), "face": ("B_f", (0.05, 0.45, 0.95, 1.0))}
_COLOURS = {"body": (0.55, 0.55, 0.55), "face": (0.75, 0.6, 0.5)}
_FAINT = 0.15  # opacity of what a boundary leaves out
_LINE_WIDTH = 0.0012  # m, the radius of the line along a boundary
_STILL = 1e-5  # m, by which vertices may have moved by rounding
_UNEVEN = 1e-3  # share by which the face's scales may differ


def open_pair(path, scene):
    """Puts a kit's two models into a new collection of `scene`: (body object, face object). Raises `BridgeError`."""
    kit = BridgeKit.load(path)
    suggestion = kit.suggestion
    suggestion.check(kit.body.faces, len(kit.body.vertices), kit.face.faces, len(kit.face.mean))
    loops = {"body": suggestion.body_boundary, "face": suggestion.face_boundary}
    faint = {role: left_out(kit, role, loop) for role, loop in loops.items()}
    collection = bpy.data.collections.new(f"{suggestion.body_name} and {suggestion.face_name}")
    collection[KIT_PROPERTY] = str(Path(path).resolve())
    scene.collection.children.link(collection)
    body = _add_model("body", suggestion.body_name, kit.body.vertices, kit.body.faces, collection)
    face = _add_model("face", suggestion.face_name, kit.face.mean, kit.face.faces, collection)
    align_face(body, face, suggestion)
    for role, item in (("body", body), ("face", face)):
        keep_boundary(item, loops[role], faint[role])
    return body, face


def pair_of(scene_object):
    """The collection of the pair that an object is of, or whose bridged character it is of; None without one."""
    own = scene_object.users_collection if scene_object else ()
    pairs = [collection for collection in bpy.data.collections if KIT_PROPERTY in collection]
    return next((pair for pair in pairs if pair in own or bridged_character(pair) in own), None)


def bridged_character(pair):
    """The collection of the character that was bridged from a pair, or None."""
    character = pair.get(CHARACTER_PROPERTY)
    return character if isinstance(character, bpy.types.Collection) and len(character.objects) else None


def body_and_face(pair):
    """The two objects of a pair. Raises `BridgeError`."""
    found = [[item for item in pair.objects if item.get(ROLE_PROPERTY) == role] for role in _ROLES]
    if any(len(items) != 1 for items in found):
        raise BridgeError("The pair has lost its body or its face, or has one of them twice: open the bridge kit again.")
    return found[0][0], found[1][0]


def show(collection, view_layer, shown):
    """Shows a collection, or hides it from views and renders."""
    collection.hide_render = not shown
    for layer in _layers(view_layer.layer_collection):
        if layer.collection == collection:
            layer.hide_viewport = not shown


def _layers(layer):
    yield layer
    for child in layer.children:
        yield from _layers(child)


def load_kit(pair):
    """The `BridgeKit` that a pair was opened from. Raises `BridgeError`."""
    return BridgeKit.load(pair[KIT_PROPERTY])


def annotated_recipe(kit, body, face):
    """The recipe, not bridged, that the two objects say: the kit's suggestion where nothing was changed. Raises `BridgeError`."""
    suggestion = kit.suggestion
    for item, vertices, mark in (
        (body, kit.body.vertices, suggestion.body_fingerprint),
        (face, kit.face.mean, suggestion.face_fingerprint),
    ):
        if _fingerprint(item) != mark:
            raise BridgeError(f"The mesh of {item.name} has been edited: undo that, or open the bridge kit again.")
        if np.abs(_vertices(item) - axes.rest_to_scene(vertices)).max() > _STILL:
            raise BridgeError(
                f"Vertices of {item.name} have been moved: undo that, and move, turn and scale the face in Object Mode only."
            )
    scale, rotation, translation = _similarity(body, face)
    loops = {"body_boundary": boundary_of(body), "face_boundary": boundary_of(face)}
    moved = max(abs(scale - suggestion.scale), np.abs(rotation - suggestion.rotation).max())
    moved = max(moved, np.abs(translation - suggestion.translation).max())
    if moved < _STILL and all(np.array_equal(loop, getattr(suggestion, name)) for name, loop in loops.items()):
        return suggestion
    return replace(
        suggestion,
        **loops,
        scale=scale,
        rotation=rotation,
        translation=translation,
        strip=suggestion.strip[:0],
        sewn=suggestion.sewn[:0],
        meta={"produced_by": "Bridge a Face"},
    )


# The face's place.


def align_face(body, face, recipe):
    """Puts the face object where a recipe has the face, on the body object wherever that is."""
    placed = np.eye(4)
    placed[:3, :3] = recipe.scale * axes.rest_turn_to_scene(recipe.rotation)
    placed[:3, 3] = axes.rest_to_scene(recipe.translation)
    face.matrix_world = body.matrix_world @ Matrix(placed.tolist())


def _similarity(body, face):
    """Scale, rotation [3, 3] and translation [3] m from the face's rest frame to the body's. Raises `BridgeError`."""
    placed = np.array(body.matrix_world.inverted_safe() @ face.matrix_world)
    turn = placed[:3, :3]
    scales = np.linalg.norm(turn, axis=0)
    if scales.min() <= 0 or np.linalg.det(turn) <= 0:
        raise BridgeError(f"{face.name} is mirrored or has no size: make its three scales the same positive number.")
    left, singular, right = np.linalg.svd(turn)
    if singular[0] - singular[2] > _UNEVEN * singular[0]:
        raise BridgeError(f"{face.name} is not scaled evenly: make its three scales the same.")
    return float(singular.mean()), axes.scene_turn_to_rest(left @ right), axes.scene_to_rest(placed[:3, 3])


# Boundaries.


def boundary_of(item):
    """The boundary [L] kept in an object. Raises `BridgeError`."""
    if BOUNDARY_PROPERTY not in item:
        raise BridgeError(f"{item.name} has no boundary yet: set one in Edit Mode.")
    return np.array(item[BOUNDARY_PROPERTY][:], int)


def selected_loop(item):
    """The vertices [L], in order, of the closed loop of edges that is selected on an object in edit mode. Raises `BridgeError`."""
    build = bmesh.from_edit_mesh(item.data)
    neighbours = {}
    for edge in build.edges:
        if edge.select and not edge.hide:
            first, second = (vertex.index for vertex in edge.verts)
            neighbours.setdefault(first, []).append(second)
            neighbours.setdefault(second, []).append(first)
    if not neighbours:
        raise BridgeError(f"No edges of {item.name} are selected: select the boundary as one closed loop of edges.")
    counts = {len(others) for others in neighbours.values()}
    if max(counts) > 2:
        raise BridgeError("The selected edges branch or touch: select one loop only, in edge select mode.")
    if min(counts) < 2:
        raise BridgeError("The selected edges are not closed: select a loop that comes back to its start.")
    loop = [min(neighbours)]
    before, at = loop[0], neighbours[loop[0]][0]
    while at != loop[0]:
        loop.append(at)
        before, at = at, next(other for other in neighbours[at] if other != before)
    if len(loop) < len(neighbours):
        raise BridgeError("More than one loop is selected: select one.")
    return np.array(loop)


def check_boundary(item, loop):
    """Raises `BridgeError` unless a loop can be the boundary of an object whose mesh is as it was opened."""
    if _fingerprint(item) != item[_FINGERPRINT]:
        raise BridgeError(f"The mesh of {item.name} has been edited: undo that, or open the bridge kit again.")
    faces = _faces(item)
    check_loop(faces, loop, "The selected loop")
    smaller, larger = sides(faces, loop)
    if 2 * (smaller | larger).sum() < len(faces):
        raise BridgeError(f"The selected loop lies on a part of {item.name} that hangs apart, such as an eyeball.")
    if item[ROLE_PROPERTY] == "body" and not smaller.any():
        raise BridgeError("The body has nothing inside the selected loop: select one that goes round its face.")


def left_out(kit, role, loop):
    """Which faces [F] of a kit's "body" or "face" the character does not have with this boundary. Raises `BridgeError`."""
    recipe = replace(kit.suggestion, **{f"{role}_boundary": loop, "sewn": kit.suggestion.sewn[:0]})
    if role == "body":
        return removed_faces(kit.body, recipe)
    kept = np.append(kept_face_vertices(kit.face, recipe), -1)
    return ~np.isin(kit.face.faces, kept).all(1)


def set_boundary(item, loop, kit):
    """Makes a loop [L] the boundary of an object of a kit's pair. Raises `BridgeError` where it cannot be."""
    check_boundary(item, loop)
    keep_boundary(item, loop, left_out(kit, item[ROLE_PROPERTY], loop))


def keep_boundary(item, loop, faint):
    """Keeps a loop as an object's boundary, and shows it by a seam and a coloured line, and what it leaves out as `faint` [F]."""
    item[BOUNDARY_PROPERTY] = [int(vertex) for vertex in loop]
    _mark(item, loop, faint)
    _draw_line(item, loop)


def has_selected_edges(item):
    """Whether any edge of an object in edit mode is selected."""
    return any(edge.select and not edge.hide for edge in bmesh.from_edit_mesh(item.data).edges)


def select_boundary(item, loop):
    """Selects the edges of a loop [L], and nothing else, of an object in edit mode, in edge select mode."""
    build = bmesh.from_edit_mesh(item.data)
    bpy.context.scene.tool_settings.mesh_select_mode = (False, True, False)
    build.select_mode = {"EDGE"}
    for element in (*build.faces, *build.edges, *build.verts):
        element.select = False
    build.verts.ensure_lookup_table()
    for edge in _edges_along(build, loop):
        edge.hide_set(False)
        edge.select = True
    build.select_flush_mode()
    bmesh.update_edit_mesh(item.data, loop_triangles=False, destructive=False)


def _edges_along(build, loop):
    pairs = zip(loop.tolist(), np.roll(loop, -1).tolist())
    edges = (build.edges.get((build.verts[first], build.verts[second])) for first, second in pairs)
    return [edge for edge in edges if edge is not None]


def _mark(item, loop, faint):
    """Marks the loop's edges as seams, which edit mode shows red, and gives the `faint` faces [F] their material."""
    editing = item.mode == "EDIT"
    build = bmesh.from_edit_mesh(item.data) if editing else bmesh.new()
    if not editing:
        build.from_mesh(item.data)
    build.verts.ensure_lookup_table()
    along = set(_edges_along(build, np.asarray(loop)))
    for edge in build.edges:
        edge.seam = edge in along
    for face, is_faint in zip(build.faces, faint.tolist()):
        face.material_index = int(is_faint)
    if editing:
        bmesh.update_edit_mesh(item.data, loop_triangles=False, destructive=False)
    else:
        build.to_mesh(item.data)
        build.free()


def _draw_line(item, loop):
    """A bevelled curve along the loop, the object's child: seen in object mode, too, and not to be picked."""
    role = item[ROLE_PROPERTY]
    name = f"{item.name} boundary"
    for child in item.children:
        if child.type == "CURVE" and child.get(ROLE_PROPERTY) == f"{role} boundary":
            bpy.data.curves.remove(child.data)  # and the object with it
    curve = bpy.data.curves.new(name, "CURVE")
    curve.dimensions = "3D"
    curve.bevel_depth, curve.bevel_resolution = _LINE_WIDTH, 1
    spline = curve.splines.new("POLY")
    points = _vertices(item)[loop]
    spline.points.add(len(points) - 1)
    spline.points.foreach_set("co", np.c_[points, np.ones(len(points))].astype(np.float32).ravel())
    spline.use_cyclic_u = True
    label, colour = _ROLES[role]
    material = bpy.data.materials.get(f"Boundary {label}") or bpy.data.materials.new(f"Boundary {label}")
    material.diffuse_color = colour
    curve.materials.append(material)
    line = bpy.data.objects.new(name, curve)
    line[ROLE_PROPERTY] = f"{role} boundary"
    line.color = colour
    line.parent = item
    line.hide_select = True
    for collection in item.users_collection:
        collection.objects.link(line)


# Meshes.


def _add_model(role, name, vertices, faces, collection):
    mesh = bpy.data.meshes.new(name)
    faces = np.asarray(faces)
    mesh.from_pydata(axes.rest_to_scene(vertices).tolist(), [], [[v for v in face if v >= 0] for face in faces.tolist()])
    mesh.polygons.foreach_set("use_smooth", np.ones(len(faces), bool))
    for what, alpha in (("kept", 1.0), ("left out", _FAINT)):
        material = bpy.data.materials.new(f"{name} {what}")
        material.diffuse_color = (*_COLOURS[role], alpha)
        mesh.materials.append(material)
    item = bpy.data.objects.new(name, mesh)
    item[ROLE_PROPERTY], item[_FINGERPRINT], item[_COLUMNS] = role, fingerprint(faces, len(vertices)), faces.shape[1]
    collection.objects.link(item)
    return item


def _vertices(item):
    """Vertices [V, 3] m of an object's mesh in its own axes; in edit mode those that are being edited."""
    if item.mode == "EDIT":
        return np.array([vertex.co for vertex in bmesh.from_edit_mesh(item.data).verts])
    points = np.empty(3 * len(item.data.vertices), np.float32)
    item.data.vertices.foreach_get("co", points)
    return points.reshape(-1, 3).astype(float)


def _faces(item):
    """Faces [F, N] of an object's mesh as they were when it was opened, if nobody edited it."""
    if item.mode == "EDIT":
        item.update_from_editmode()
    mesh = item.data
    totals, vertices = np.empty(len(mesh.polygons), np.int32), np.empty(len(mesh.loops), np.int32)
    mesh.polygons.foreach_get("loop_total", totals)
    mesh.loops.foreach_get("vertex_index", vertices)
    columns = max(int(item[_COLUMNS]), int(totals.max(initial=0)))
    faces = np.full((len(totals), columns), -1)
    faces[np.arange(columns) < totals[:, None]] = vertices
    return faces


def _fingerprint(item):
    return fingerprint(_faces(item), len(item.data.vertices))
