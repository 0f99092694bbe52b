"""A small face in motion before a camera, with the points a detector would find: what tests of the fits know the truth of."""

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from synthetic_face import small_face

from fullbody_core.camera import camera_matrix, project
from fullbody_core.face.correspondence import vertex_normals
from fullbody_core.face.face_motion import FaceMotion
from fullbody_core.face.illumination import ambient, linear_to_srgb, shade

SIZE = (640, 480)
MATRIX = camera_matrix(SIZE)


def face_motion(frame_count=30, seed=0, turn=25):
    """(MorphableModel, FaceMotion with colours): smooth expressions, turns of up to `turn` degrees, 0.8 to 1.1 m away."""
    model, rng = small_face(seed), np.random.default_rng(seed)
    time = np.arange(frame_count)[:, None] / 30
    waves = np.sin(
        2 * np.pi * (rng.uniform(0.3, 1, (1, model.expression_size)) * time + rng.random((1, model.expression_size)))
    )
    angles = rng.uniform(-turn, turn, (2, 3))
    blend = np.linspace(0, 1, frame_count)[:, None]
    rotation = Rotation.from_euler("yxz", (1 - blend) * angles[0] + blend * angles[1], degrees=True).as_matrix()
    return model, FaceMotion(
        shape=rng.normal(size=model.shape_size),
        expression=np.clip(waves, 0, 1) * 0.8,
        rotation=rotation @ np.diag([1.0, -1, -1]),
        translation=np.column_stack([rng.uniform(-0.1, 0.1, (frame_count, 2)), rng.uniform(0.8, 1.1, frame_count)]),
        valid=np.ones(frame_count, bool),
        albedo=rng.normal(size=model.albedo_size),
        illumination=ambient(0.9) + 0.15 * rng.normal(size=(frame_count, 3, 9)) * [1, 1, 1, 1, 0.2, 0.2, 0.2, 0.2, 0.2],
    )


def mesh_of(model, motion):
    """The face mesh [T, 478, 3] px that an exact detector finds."""
    camera = motion.to_camera(model.mesh_points.places(motion.shape, motion.expression))
    middle = camera[..., 2].mean(1, keepdims=True)
    return np.concatenate([project(camera, MATRIX), ((camera[..., 2] - middle) * MATRIX[0, 0] / middle)[..., None]], -1)


def timestamps(motion):
    return np.arange(motion.frame_count) / 30


def pictures(model, motion):
    """RGB uint8 pictures of the face's vertices in their colours, each the nearest vertex's; grey around."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    pixels = np.stack([x, y], -1).reshape(-1, 2) + 0.5
    colours = model.albedo(motion.albedo)
    for frame in range(motion.frame_count):
        vertices = model.geometry(motion.shape, motion.expression[frame])
        normals = vertex_normals(vertices, model.triangles) @ motion.rotation[frame].T
        where = project(vertices @ motion.rotation[frame].T + motion.translation[frame], MATRIX)
        distance, nearest = cKDTree(where).query(pixels, distance_upper_bound=12)
        shown = linear_to_srgb(shade(colours, motion.illumination[frame], normals))
        image = np.append(shown, [[0.5, 0.5, 0.5]], 0)[nearest]
        yield np.round(255 * image).astype(np.uint8).reshape(SIZE[1], SIZE[0], 3)
