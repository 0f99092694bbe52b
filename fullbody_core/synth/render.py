"""Pictures of a body without Blender: rays cast by Embree at one mesh with painted vertices, under a lamp and a sky.

`render` knows nothing of bodies: it takes vertices, faces, colours and a camera. `dress` paints an open body as a clothed
person, and `room` paints what stands behind. Axes are the camera's (x right, y down, z away), metres and pixels.
"""

from dataclasses import dataclass

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from ..camera import project, rays
from ..contract.skeleton import JOINT_INDEX, JOINT_NAMES
from ..contract.surface import vertex_normals
from ..contract.swing_twist import unit

GAMMA = 2.2
"""Between light, which adds, and the numbers of a picture: close enough to sRGB's own curve."""

SHADOW_GAP = 2e-3
"""m along the normal from a surface to where its shadow ray starts, or smooth shading would show the triangles' shadows."""

SAMPLES = 2
"""Rays per pixel and axis."""

SHOE_THICKNESS = 0.005
"""m. Other clothes are thicker, and may have stripes."""

TROUSER_JOINTS = ("pelvis", "left_hip", "right_hip")
SHIRT_JOINTS = ("spine1", "spine2", "spine3", "left_collar", "right_collar")


@dataclass(frozen=True)
class Light:
    """direction [3] towards the lamp; up [3] towards the sky; lamp, sky and ground [3]: linear RGB, about 1 in all."""

    direction: np.ndarray
    up: np.ndarray
    lamp: np.ndarray
    sky: np.ndarray
    ground: np.ndarray

    def shade(self, normals, lit):
        """Light [N, 3] that falls on surfaces with unit normals [N, 3]; lit [N] bool: the lamp is not hidden."""
        facing = np.where(lit, np.clip(normals @ unit(self.direction), 0, None), 0)[:, None]
        above = 0.5 + 0.5 * (normals @ unit(self.up))[:, None]
        return facing * self.lamp + above * self.sky + (1 - above) * self.ground


@dataclass(frozen=True)
class Outfit:
    """colours [V, 3]: linear RGB of each vertex; thickness [V] m: how far cloth and hair stand off the skin."""

    colours: np.ndarray
    thickness: np.ndarray


def render(vertices, faces, colours, matrix, background, light, samples=SAMPLES):
    """A picture of one mesh before a background, and where in it the mesh is.

    vertices [V, 3] m in the camera frame, all before the camera; faces [F, 3]; colours [V, 3] linear RGB 0..1;
    matrix [3, 3] px; background [H, W, 3] RGB uint8, which sets the size; samples: rays per pixel and axis.
    Returns image [H, W, 3] RGB uint8 and mask [H, W] float32, the share of each pixel that the mesh covers.
    """
    height, width = background.shape[:2]
    box = _pixel_box(vertices, matrix, width, height)
    image, mask = background.copy(), np.zeros((height, width), np.float32)
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        return image, mask
    light_seen, covered = _cast(vertices, faces, colours, matrix, box, light, samples)
    window = (slice(top, bottom), slice(left, right))
    behind = (background[window] / 255.0) ** GAMMA
    mixed = light_seen + behind * (1 - covered[..., None])
    image[window] = np.round(255 * np.clip(mixed, 0, 1) ** (1 / GAMMA)).astype(np.uint8)
    mask[window] = covered
    return image, mask


def _pixel_box(vertices, matrix, width, height):
    """(left, top, right, bottom) of the pixels that the vertices [V, 3] fall on, inside the image."""
    pixels = project(vertices, matrix)
    low, high = np.floor(pixels.min(0)), np.floor(pixels.max(0)) + 1
    limits = np.array([width, height])
    return (*np.clip(low, 0, limits).astype(int), *np.clip(high, 0, limits).astype(int))


def _cast(vertices, faces, colours, matrix, box, light, samples):
    """Light [h, w, 3] that reaches the pixels of a box from the mesh, and the share [h, w] of each that it covers."""
    left, top, right, bottom = box
    shape = (bottom - top, right - left)
    across = left + (np.arange(shape[1] * samples) + 0.5) / samples
    down = top + (np.arange(shape[0] * samples) + 0.5) / samples
    directions = rays(np.stack(np.meshgrid(across, down), -1), matrix).reshape(-1, 3).astype(np.float32)
    scene = rtcore_scene.EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(vertices[faces], np.float32))
    hits = scene.run(np.zeros_like(directions), directions, output=1)
    hit = np.flatnonzero(hits["primID"] >= 0)
    corners = faces[hits["primID"][hit]]
    u, v = hits["u"][hit, None], hits["v"][hit, None]

    def smooth(values):
        return (1 - u - v) * values[corners[:, 0]] + u * values[corners[:, 1]] + v * values[corners[:, 2]]

    normals = unit(smooth(vertex_normals(vertices, faces))).astype(np.float32)
    origins = directions[hit] * hits["tfar"][hit, None] + SHADOW_GAP * normals
    towards = np.broadcast_to(unit(light.direction).astype(np.float32), origins.shape)
    lit = scene.run(np.ascontiguousarray(origins), np.ascontiguousarray(towards), query="OCCLUDED") < 0
    seen = np.zeros((len(directions), 4), np.float32)
    seen[hit, :3] = smooth(np.asarray(colours, np.float32)) * light.shade(normals, lit)
    seen[hit, 3] = 1
    seen = seen.reshape(shape[0], samples, shape[1], samples, 4).mean((1, 3))
    return seen[..., :3], seen[..., 3]


def sample_light(rng, up):
    """A lamp somewhere above and on the camera's side, and a sky. up [3] m: the world's vertical in the camera frame."""
    sideways, height = rng.uniform(-1, 1), rng.uniform(0.2, 1.2)
    strength = rng.uniform(0.4, 1.0)
    warmth = np.array([1 + 0.08 * rng.uniform(-1, 1), 1, 1 + 0.08 * rng.uniform(-1, 1)])
    return Light(
        direction=np.array([sideways, 0, -rng.uniform(0.3, 1.0)]) + height * np.asarray(up, float),
        up=np.asarray(up, float),
        lamp=strength * warmth,
        sky=rng.uniform(0.35, 0.65) * np.ones(3),
        ground=rng.uniform(0.12, 0.3) * np.ones(3),
    )


def room(rng, image_size, matrix, up, floor_height):
    """A backdrop [H, W, 3] RGB uint8: a floor, and a wall behind with a few flat things on it.

    image_size (width, height) px; up [3] the world's vertical in the camera frame; floor_height m: how far the camera is
    above the floor.
    """
    width, height = image_size
    across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    sight = rays(np.stack([across, down], -1), matrix)
    rise = sight @ np.asarray(up, float)
    wall_depth = rng.uniform(4, 9)
    on_wall = sight[..., 0] * wall_depth, rise * wall_depth + floor_height
    to_floor = floor_height / np.maximum(-rise, 1e-3)
    wall = _plain(rng, 0.25, 0.85) * (0.8 + 0.08 * on_wall[1][..., None])
    for _ in range(rng.integers(0, 6)):
        middle, size = [rng.uniform(-3, 3), rng.uniform(0.3, 2.5)], rng.uniform(0.2, 1.2, 2)
        inside = (np.abs(on_wall[0] - middle[0]) < size[0]) & (np.abs(on_wall[1] - middle[1]) < size[1])
        wall = np.where(inside[..., None], _plain(rng, 0.1, 0.9), wall)
    boards = 1 + 0.06 * np.sin(sight[..., 0] * to_floor * 2 * np.pi / rng.uniform(0.1, 0.6))
    floor = _plain(rng, 0.15, 0.6) * boards[..., None]
    picture = np.where((to_floor < wall_depth)[..., None], floor, wall)
    return np.clip(255 * picture, 0, 255).astype(np.uint8)


def _plain(rng, darkest, brightest):
    """A colour [3] of little saturation between two brightnesses 0..1."""
    return np.clip(rng.uniform(darkest, brightest) + rng.normal(0, 0.04, 3), 0, 1)


def dress(body, rng):
    """A random `Outfit` for a body of the open body's topology (`BodyModelFile` with its face landmarks)."""
    rest = np.asarray(body.v_template, float)
    skin = _skin_tone(rng)
    colours = np.broadcast_to(skin, rest.shape).copy()
    # A little unevenness: skin as even as plastic looks like a doll's, to people and to detectors.
    colours *= rng.normal(1, 0.02, (len(rest), 1))
    thickness = np.zeros(len(rest))
    for cover, layer in _garments(body, rng):
        colour = _cloth(rng, rest) if layer > SHOE_THICKNESS else _plain_cloth(rng, rest)
        colours[cover], thickness[cover] = colour[cover], layer
    hair = _hair(body, rest, rng)
    colours[hair] = rng.choice([[0.012, 0.01, 0.009], [0.05, 0.025, 0.012], [0.12, 0.07, 0.03], [0.35, 0.25, 0.12]])
    thickness[hair] = rng.uniform(0.005, 0.018)
    _paint_face(body, rest, colours, skin, rng)
    return Outfit(colours, thickness)


def put_on(outfit, vertices, faces):
    """Vertices [V, 3] m of a posed body with the thickness of its outfit added along the normals."""
    return vertices + outfit.thickness[:, None] * vertex_normals(vertices, faces)


def _skin_tone(rng):
    """Linear RGB [3] between pale and dark along the line that skin keeps to."""
    tones = np.array([[0.72, 0.48, 0.37], [0.55, 0.33, 0.23], [0.32, 0.17, 0.10], [0.11, 0.055, 0.035]])
    place = rng.uniform(0, len(tones) - 1)
    below = min(int(place), len(tones) - 2)
    return tones[below] + (place - below) * (tones[below + 1] - tones[below])


def _garments(body, rng):
    """(vertices [V] bool, thickness m) of trousers, shirt and shoes, of random length."""
    rest = np.asarray(body.v_template, float)
    owner = body.weights.argmax(1)

    def of(*names):
        return np.isin(owner, [JOINT_INDEX[name] for name in names])

    def beyond(joint, child, share):
        """Vertices that a joint holds and that lie before `share` of the way to its child."""
        start, end = (body.rest_joints[JOINT_INDEX[name]] for name in (joint, child))
        along = (rest - start) @ (end - start) / np.sum((end - start) ** 2)
        return of(joint) & (along < share)

    legs, sleeves = of(*TROUSER_JOINTS), of(*SHIRT_JOINTS)
    leg_length, sleeve_length = rng.choice([0.3, 1.0, 2.0]), rng.choice([0.0, 0.5, 1.0, 1.95])
    for side in ("left", "right"):
        legs |= beyond(f"{side}_hip", f"{side}_knee", leg_length) | beyond(f"{side}_knee", f"{side}_ankle", leg_length - 1)
        sleeves |= beyond(f"{side}_shoulder", f"{side}_elbow", 0.1 + sleeve_length)
        sleeves |= beyond(f"{side}_elbow", f"{side}_wrist", sleeve_length - 1)
    shoes = of("left_ankle", "right_ankle", "left_foot", "right_foot")
    if leg_length < 1:
        legs &= ~of("left_knee", "right_knee")
    neck = body.rest_joints[JOINT_INDEX["neck"]]
    sleeves |= of("neck") & (rest[:, 1] < neck[1] - rng.uniform(0, 0.04))
    return [(legs, rng.uniform(0.006, 0.014)), (sleeves, rng.uniform(0.006, 0.016)), (shoes, SHOE_THICKNESS)]


def _cloth(rng, rest):
    """Colours [V, 3] of a cloth: plain, or with stripes across rest vertices [V, 3]."""
    plain = _plain_cloth(rng, rest)
    if rng.random() < 0.85:
        return plain
    stripes = np.sin(rest[:, 1] * 2 * np.pi / rng.uniform(0.05, 0.12)) > 0
    return np.where(stripes[:, None], plain, rng.uniform(0.02, 0.7) * np.ones(3))


def _plain_cloth(rng, rest):
    """One colour for all rest vertices: [V, 3]."""
    return np.broadcast_to(rng.uniform(0.02, 0.7) * rng.uniform(0.3, 1, 3), rest.shape)


def _hair(body, rest, rng):
    """[V] bool: the scalp above and behind the ears, with a fringe of random height; sometimes none."""
    at = {name: rest[vertex] for name, vertex in body.landmarks.items()}
    if rng.random() < 0.08:
        return np.zeros(len(rest), bool)
    top, eye, ear = at["head_top"], at["left_eye"], at["left_ear"]
    hairline = eye[1] + rng.uniform(0.5, 0.7) * (top[1] - eye[1])
    # From the hairline over the brow the edge runs down to the ear and then behind it to the neck.
    share = np.clip((eye[2] - 0.005 - rest[:, 2]) / (eye[2] - ear[2]), 0, 1)
    edge = hairline + (ear[1] + 0.01 - hairline) * share
    behind = rest[:, 2] < ear[2] - 0.02
    edge = np.where(behind, ear[1] - rng.uniform(0.04, 0.09), edge)
    is_ear = (np.abs(rest[:, 0]) > ear[0] - 0.012) & (np.abs(rest[:, 1] - ear[1]) < 0.045) & ~behind
    held = np.isin(body.weights.argmax(1), [JOINT_INDEX["head"], JOINT_INDEX["neck"]])
    return held & (rest[:, 1] > edge) & ~is_ear


def _paint_face(body, rest, colours, skin, rng):
    """Paints lips, brows and eyes into colours [V, 3]."""
    at = {name: rest[vertex] for name, vertex in body.landmarks.items()}
    head = body.weights.argmax(1) == JOINT_NAMES.index("head")
    corner, eye = at["left_mouth"], at["left_eye"]
    across = np.abs(rest[:, 0])
    fullness = np.sqrt(np.clip(1 - (across / corner[0]) ** 2, 0, 1))
    lips = head & (rest[:, 2] > corner[2] - 0.004) & (np.abs(rest[:, 1] - corner[1]) < 0.011 * fullness)
    colours[lips] = skin * [0.9, 0.5, 0.5]
    arch = eye[1] + 0.021 + 0.003 * np.cos((across - eye[0]) / 0.02)
    brows = head & (rest[:, 2] > eye[2] - 0.03) & (np.abs(across - eye[0]) < 0.02) & (np.abs(rest[:, 1] - arch) < 0.0035)
    colours[brows] = skin * rng.uniform(0.1, 0.35)
    iris = np.array([rng.uniform(0.02, 0.15), rng.uniform(0.03, 0.12), rng.uniform(0.01, 0.2)])
    for side in ("left", "right"):
        pupil = at[f"{side}_eye"]
        ball = np.linalg.norm(rest - (pupil - [0, 0, 0.014]), axis=-1) < 0.0165
        ball &= head & _separate(body, body.landmarks[f"{side}_eye"])
        away = np.linalg.norm((rest - pupil)[:, :2], axis=-1)
        colours[ball] = 0.75
        colours[ball & (away < 0.0065)] = iris
        colours[ball & (away < 0.003)] = 0.003


def _separate(body, vertex):
    """[V] bool: the vertices that hang together with one of them, such as an eyeball."""
    reached = np.zeros(len(body.v_template), bool)
    reached[vertex] = True
    while True:
        grown = reached.copy()
        grown[body.f[reached[body.f].any(1)]] = True
        if (grown == reached).all():
            return reached
        reached = grown
