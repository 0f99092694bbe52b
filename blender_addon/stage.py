# SPDX-License-Identifier: GPL-3.0-or-later
"""Light, ground and still pictures for a scene that is built without anyone looking."""

import math
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector

_GROUND_SIZE = 20.0  # m


class RenderError(Exception):
    """A picture that could not be rendered. The message is one sentence for the user."""


def add_light(scene, collection):
    """A sun from the upper left of the front, and a grey sky."""
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy = 3.0
    sun.data.angle = math.radians(5)
    sun.rotation_euler = (math.radians(45), 0, math.radians(-35))
    collection.objects.link(sun)
    world = bpy.data.worlds.new("World")
    if world.node_tree is None:  # before 5.0 a new world has no nodes
        world.use_nodes = True
    background = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    background.inputs["Color"].default_value = (0.75, 0.8, 0.9, 1.0)
    background.inputs["Strength"].default_value = 0.6
    scene.world = world
    return sun


def add_ground(collection):
    """A square on z = 0, which in renders shows only the shadows that fall on it."""
    half = _GROUND_SIZE / 2
    mesh = bpy.data.meshes.new("Ground")
    mesh.from_pydata([(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)], [], [(0, 1, 2, 3)])
    ground = bpy.data.objects.new("Ground", mesh)
    material = bpy.data.materials.new("Ground")
    material.diffuse_color = (0.35, 0.36, 0.38, 1.0)
    mesh.materials.append(material)
    ground.is_shadow_catcher = True
    ground.hide_select = True
    collection.objects.link(ground)
    return ground


def set_render(scene, samples=24):
    """Cycles on the CPU with a clear background: the same everywhere, with or without a display."""
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    scene.cycles.use_denoising = False
    scene.render.use_persistent_data = True
    scene.render.film_transparent = True
    # Colours as a camera's: the default bends them for looks, and skin would not be the skin that was captured.
    scene.view_settings.view_transform = "Standard"
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"


def three_quarter_camera(mesh_object, depsgraph, collection):
    """A camera that sees the whole posed mesh from the front, its left and a little above."""
    xyz = evaluated_vertices(mesh_object, depsgraph)
    low, high = xyz.min(0), xyz.max(0)
    low[2] = min(low[2], 0.0)
    camera = add_camera("Three-quarter camera", collection)
    _aim(camera, (low + high) / 2, np.linalg.norm(high - low) / 2, Vector((0.62, -0.72, 0.32)))
    return camera


def add_camera(name, collection):
    """A camera of a normal lens."""
    camera = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    camera.data.sensor_fit = "AUTO"
    camera.data.lens = 50.0
    collection.objects.link(camera)
    return camera


def look_at(camera, points, turn, lift):
    """Points a camera at points [N, 3] m, all of them in view: `turn` degrees from the front to the person's left, `lift` up."""
    turn, lift = math.radians(turn), math.radians(lift)
    towards = (math.sin(turn) * math.cos(lift), -math.cos(turn) * math.cos(lift), math.sin(lift))
    low, high = points.min(0), points.max(0)
    _aim(camera, (low + high) / 2, np.linalg.norm(high - low) / 2, Vector(towards))


def _aim(camera, centre, radius, towards):
    half_angle = math.atan(camera.data.sensor_width / 2 / camera.data.lens)
    towards = towards.normalized()
    camera.location = Vector(centre) + towards * float(radius / math.sin(half_angle))
    camera.rotation_euler = towards.to_track_quat("Z", "Y").to_euler()
    camera.data.clip_start = 0.01


def evaluated_vertices(mesh_object, depsgraph):
    """World positions [V, 3] m of a mesh object after its shape keys and modifiers."""
    evaluated = mesh_object.evaluated_get(depsgraph)
    mesh = evaluated.to_mesh()
    xyz = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", xyz)
    matrix = np.array(evaluated.matrix_world)
    evaluated.to_mesh_clear()
    return xyz.reshape(-1, 3).astype(float) @ matrix[:3, :3].T + matrix[:3, 3]


def render_still(scene, camera, path, width, size=None, box=None):
    """Renders the current frame through `camera` to a PNG `width` px wide. `size` [2] gives the shape, else the scene does.

    box: (left, top, right, bottom) as shares of the picture, counted from the upper left: only that part, `width` px wide.
    The scene's own settings are put back. Raises `RenderError`.
    """
    render = scene.render
    aspect = np.divide(*(size or (render.resolution_x, render.resolution_y)))
    left, top, right, bottom = box or (0.0, 0.0, 1.0, 1.0)
    whole = round(width / (right - left))
    settings = {
        "resolution_x": whole,
        "resolution_y": max(4, round(whole / aspect)),
        "resolution_percentage": 100,
        "filepath": str(path),
        "use_border": box is not None,
        "use_crop_to_border": box is not None,
        "border_min_x": left,
        "border_max_x": right,
        "border_min_y": 1 - bottom,
        "border_max_y": 1 - top,
    }
    kept, kept_camera = {name: getattr(render, name) for name in settings}, scene.camera
    try:
        scene.camera = camera
        for setting, value in settings.items():
            setattr(render, setting, value)
        done = bpy.ops.render.render(write_still=True, scene=scene.name)
    finally:
        scene.camera = kept_camera
        for setting, value in kept.items():
            setattr(render, setting, value)
    if "FINISHED" not in done or not Path(path).is_file():
        raise RenderError(f"Blender did not render {path}.")
