"""How sound a bridge is (Zhou et al. 2021, Sec. 3.1): the seam between a body and a face as a mesh, its looks, and how it moves."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ..addon_package import stage_addon
from ..blender_process import run_in_blender
from ..contract.character import CharacterTemplate
from ..contract.frames import axis_angle_to_matrix, forward_kinematics
from ..contract.full_body import kept_face_vertices, placed_face, removed_faces
from ..contract.joined_mesh import JoinedMesh
from ..contract.npz_file import read_npz, write_npz
from ..contract.skeleton import JOINT_INDEX
from ..contract.surface import face_edges, smallest_angles, triangulate
from ..table import format_table

NEAR = 0.025
"""m from the seam within which the surface is looked at."""

LARGEST_TURN = np.radians(40)
"""Of the head against the trunk in the random poses; neck and head share it."""

ACTIVE = 5
"""How many expressions of a model whose expressions only go one way, such as facial actions, a random face has on average."""

_RIGID_SAMPLE = 2000  # face vertices that are followed through the poses


@dataclass(frozen=True)
class Seam:
    """Where a character's body and face meet.

    vertices [V, 3] m at rest, faces [F, N]: the whole character's
    loops: closed loops of vertices, B_b and B_f, or one of both for a face that is sewn in
    strip [F] bool: the faces that close the gap; for a sewn face those with an edge on the seam
    of_model [F] bool: the face model's own faces, which are as they were
    """

    vertices: np.ndarray
    faces: np.ndarray
    loops: tuple
    strip: np.ndarray
    of_model: np.ndarray

    @property
    def near(self):
        """Which faces [F] have a corner within `NEAR` of the seam."""
        distance, _ = cKDTree(self.vertices[np.concatenate(self.loops)]).query(self.vertices, distance_upper_bound=NEAR)
        return (np.isfinite(distance)[self.faces] & (self.faces >= 0)).any(1)


@dataclass(frozen=True)
class SeamFigures:
    """What is measured of a seam.

    kept, model: how many of the face model's vertices there are in the character, and in the model
    loop_edges, loop_edges_used: the loops' edges, and those of them that two faces share
    non_manifold, open_edges: edges at the seam that more than two faces, or only one, use
    inconsistent: edges at the seam that two faces go along in the same sense
    smallest_angle: degrees, in the triangles of the strip; crossings: pairs of faces near the seam that pass through each other
    gap_mean, gap_largest: mm from B_f to B_b
    crease, own_crease: largest and median angle in degrees between neighbouring faces, of the seam and of the body there before
    """

    kept: int
    model: int
    loop_edges: int
    loop_edges_used: int
    non_manifold: int
    open_edges: int
    inconsistent: int
    smallest_angle: float
    crossings: int
    gap_mean: float
    gap_largest: float
    crease: tuple
    own_crease: tuple

    @property
    def is_sound(self):
        """Whether the surface is closed, evenly wound, without degenerate faces, and nowhere passes through itself."""
        faults = self.non_manifold + self.open_edges + self.inconsistent + self.crossings
        return self.loop_edges_used == self.loop_edges and not faults and self.smallest_angle > 1


@dataclass(frozen=True)
class MotionFigures:
    """What is measured of a seam in random people, faces and poses.

    count: of these; flipped, flipped_of_face: faces near the seam that are turned over in one of them, of the strip and the body,
    and of the face model; flipped_before: of the body alone, with its own face, there; shared: whether each vertex of the loops is
    one for the faces on either side, so that no gap can open; rigidity: m, the face part's largest step away from the head joint
    """

    count: int
    flipped: int
    flipped_of_face: int
    flipped_before: int
    shared: bool
    rigidity: float


def evaluate_bridge(body, face, recipe, template, count=200, seed=0):
    """(`SeamFigures`, `MotionFigures`) of the character that a bridged recipe makes of a body (`CharacterTemplate`) and a face.

    template: that character.
    """
    seam = find_seam(body, face, recipe, template)
    return measure_seam(body, face, recipe, seam), measure_motion(template, seam, body, count, seed)


def find_seam(body, face, recipe, template):
    """The `Seam` of a template made of these."""
    placed = placed_face(face, recipe)
    joined = JoinedMesh(body, removed_faces(body, recipe), placed, recipe)
    face_loop = joined.face_vertices[placed.boundary]
    strip = np.zeros(len(template.faces), bool)
    if len(recipe.strip):
        loops = (joined.body_boundary, face_loop)
        strip[-len(recipe.strip) :] = True
    else:
        loops = (face_loop,)
        edges, owner = face_edges(template.faces)
        strip[owner[np.isin(_keys(edges), _keys(_loop_edges(face_loop)))]] = True
    of_model = (np.isin(template.faces, template.face_vertices) | (template.faces < 0)).all(1)
    return Seam(np.asarray(template.vertices, float), template.faces, loops, strip, of_model)


def measure_seam(body, face, recipe, seam):
    """`SeamFigures` of a seam and the models it is of."""
    used, non_manifold, open_edges, inconsistent = edge_faults(seam)
    gaps = loop_gaps(seam) if len(seam.loops) == 2 else np.zeros(1)
    loop = np.asarray(body.vertices, float)[recipe.body_boundary]
    return SeamFigures(
        kept=len(kept_face_vertices(face, recipe)),
        model=len(face.mean),
        loop_edges=sum(len(loop) for loop in seam.loops),
        loop_edges_used=used,
        non_manifold=non_manifold,
        open_edges=open_edges,
        inconsistent=inconsistent,
        smallest_angle=smallest_angle(seam),
        crossings=len(crossing_faces(seam)),
        gap_mean=1000 * gaps.mean(),
        gap_largest=1000 * gaps.max(),
        crease=_largest_and_median(creases(seam.vertices, seam.faces, seam.strip)),
        own_crease=_largest_and_median(creases(body.vertices, body.faces, _faces_near(body, loop))),
    )


# The seam as a mesh.


def edge_faults(seam):
    """(loop edges that two faces share, edges of over two faces, of one, gone along twice in the same sense), at the loops."""
    edges, _ = face_edges(seam.faces)
    edges = edges[np.isin(edges, np.concatenate(seam.loops)).any(1)]
    keys, uses = np.unique(_keys(edges), return_counts=True)
    _, same_sense = np.unique(edges[:, 0].astype(np.int64) * 2**32 + edges[:, 1], return_counts=True)
    wanted = np.concatenate([_keys(_loop_edges(loop)) for loop in seam.loops])
    used = np.isin(wanted, keys[uses == 2]).sum()
    return int(used), int((uses > 2).sum()), int((uses == 1).sum()), int((same_sense > 1).sum())


def smallest_angle(seam):
    """The smallest angle of the strip's triangles, degrees."""
    return float(smallest_angles(seam.vertices[triangulate(seam.faces[seam.strip])]).min())


def loop_gaps(seam):
    """Distance [L] m of each vertex of B_f from the nearest place of B_b."""
    body_loop, face_loop = (seam.vertices[loop] for loop in seam.loops)
    start, along = body_loop, np.roll(body_loop, -1, 0) - body_loop
    arms = face_loop[:, None] - start
    share = np.clip(np.sum(arms * along, -1) / np.maximum(np.sum(along * along, -1), 1e-20), 0, 1)
    return np.linalg.norm(arms - share[..., None] * along, axis=-1).min(1)


def creases(vertices, faces, chosen):
    """Angles [M], degrees, between the normals of neighbouring triangles, across every edge of the `chosen` faces [F].

    The diagonal of a quad counts: it is shaded, too.
    """
    faces = np.asarray(faces)
    corners = np.unique(faces[chosen])
    beside = faces[np.isin(faces, corners[corners >= 0]).any(1)]
    triangles = triangulate(beside)
    own = np.unique(_keys(face_edges(triangulate(faces[chosen]))[0]))
    places = np.asarray(vertices, float)[triangles]
    normals = np.cross(places[:, 1] - places[:, 0], places[:, 2] - places[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-20)
    edges, owner = face_edges(triangles)
    keys = _keys(edges)
    order = np.argsort(keys, kind="stable")
    keys, owner = keys[order], owner[order]
    pairs = np.flatnonzero((keys[1:] == keys[:-1]) & np.isin(keys[1:], own))
    cosine = np.sum(normals[owner[pairs]] * normals[owner[pairs + 1]], -1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _faces_near(body, loop):
    """Which of a body's faces [F] have all corners within `NEAR` of a loop at [B, 3] m."""
    distance, _ = cKDTree(loop).query(body.vertices, distance_upper_bound=NEAR)
    return (np.isfinite(distance)[body.faces] | (np.asarray(body.faces) < 0)).all(1)


def _largest_and_median(angles):
    return float(angles.max()), float(np.median(angles))


def crossing_faces(seam):
    """Pairs [P, 2] of triangles near the seam that pass through each other and share no vertex, by their numbers among these.

    Two of the face model's own do not count: what teeth do in its gums, it did before.
    """
    triangles, of_model = _near_triangles(seam)
    corners = seam.vertices[triangles]
    middles = corners.mean(1)
    radii = np.linalg.norm(corners - middles[:, None], axis=-1).max(1)
    first, second = _near_pairs(middles, radii)
    apart = ~(of_model[first] & of_model[second])
    apart &= ~(triangles[first][:, :, None] == triangles[second][:, None]).any((1, 2))
    low, high = corners.min(1), corners.max(1)
    apart &= ((low[first] <= high[second]) & (low[second] <= high[first])).all(1)
    pairs = np.stack([first[apart], second[apart]], -1)
    crosses = np.zeros(len(pairs), bool)
    for one, other in ((0, 1), (1, 0)):
        for corner in range(3):
            start, end = corners[pairs[:, one], corner], corners[pairs[:, one], corner - 2]
            crosses |= _passes_through(start, end, corners[pairs[:, other]])
    return pairs[crosses]


def _near_triangles(seam):
    """Triangles [T, 3] near the seam, and which of them [T] are the face model's own."""
    faces, of_model = seam.faces[seam.near], seam.of_model[seam.near]
    second = faces[:, 3] >= 0 if faces.shape[1] == 4 else np.zeros(len(faces), bool)
    return triangulate(faces), np.concatenate([of_model, of_model[second]])


def _near_pairs(middles, radii):
    """Pairs of numbers of balls that touch, the small ones looked for from the large ones."""
    tree = cKDTree(middles)
    near = tree.query_ball_point(middles, 2 * radii)  # of two that touch, the larger one reaches the other's middle
    first = np.repeat(np.arange(len(middles)), [len(each) for each in near])
    second = np.concatenate([np.asarray(each, int) for each in near])
    pairs = np.unique(np.sort(np.stack([first, second], -1), 1), axis=0)
    return pairs[pairs[:, 0] != pairs[:, 1]].T


def _passes_through(start, end, corners):
    """Which segments from start to end [P, 3] go through their triangles [P, 3, 3], by the signs of the volumes they span."""

    def volume(a, b, c, d):
        return np.sum(np.cross(b - a, c - a) * (d - a), -1)

    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    sides = np.stack([volume(start, end, a, b), volume(start, end, b, c), volume(start, end, c, a)])
    between = volume(start, a, b, c) * volume(end, a, b, c) < 0
    return between & ((sides > 0).all(0) | (sides < 0).all(0))


# The seam in motion.


def measure_motion(template, seam, body, count=200, seed=0):
    """`MotionFigures` over `count` random people, faces, expressions and poses; body: the `CharacterTemplate` without the face."""
    rng = np.random.default_rng(seed)
    triangles, of_model = _near_triangles(seam)
    loops = seam.vertices[np.concatenate(seam.loops)]
    own = triangulate(body.faces[_faces_near(body, loops)])
    watched, before = _Watched(template, triangles), _Watched(body, own)
    followed = _Watched(template, rng.permutation(template.face_vertices)[:_RIGID_SAMPLE])
    head, rigidity = JOINT_INDEX["head"], 0.0
    for _ in range(count):
        betas, shape, expression, rotations = sample_parameters(template, rng)
        joints = template.rest_joints(betas)
        posed, orientations = forward_kinematics(joints, rotations, template.parents)
        watched.see(orientations[head], rotations, betas, shape, expression)
        before.see(orientations[head], rotations, betas)
        still = followed.part.posed_surface(rotations, betas, shape)
        rigid = (followed.part.rest_surface(betas, shape) - joints[head]) @ orientations[head].T + posed[head]
        rigidity = max(rigidity, float(np.abs(still - rigid).max()))
    used, _, open_edges, _ = edge_faults(seam)
    return MotionFigures(
        count=count,
        flipped=int((watched.flipped & ~of_model).sum()),
        flipped_of_face=int((watched.flipped & of_model).sum()),
        flipped_before=int(before.flipped.sum()),
        shared=used == sum(len(loop) for loop in seam.loops) and not open_edges,
        rigidity=rigidity,
    )


class _Watched:
    """Some triangles [T, 3] (or vertices [T]) of a template in motion; `flipped` [T] says which were ever turned over."""

    def __init__(self, template, triangles):
        vertices, local = np.unique(triangles, return_inverse=True)
        self.part, self._triangles = template.part(vertices), local.reshape(np.shape(triangles))
        self.flipped = np.zeros(len(triangles), bool)

    def see(self, head, *parameters):
        """Takes in one pose; head [3, 3]: how the head is turned in it."""
        carried = _normals(np.asarray(self.part.vertices, float), self._triangles) @ head.T
        self.flipped |= np.sum(carried * _normals(self.part.posed_surface(*parameters), self._triangles), -1) < 0


def sample_parameters(template, rng):
    """A random person, face, expression and pose: (betas, shape, expression, rotations [J, 3, 3])."""
    betas = rng.normal(size=template.shapedirs.shape[-1])
    shape = rng.normal(size=len(template.face_shapedirs))
    low, high = template.expression_limits.T
    acts = rng.uniform(size=len(low)) < ACTIVE / max(len(low), 1)
    expression = np.clip(np.where(low < 0, rng.normal(size=len(low)), acts * rng.uniform(size=len(low)) * high), low, high)
    turns = 0.3 * rng.normal(size=(len(template.joint_names), 3))
    axis, angle, share = rng.normal(size=3), rng.uniform(0, LARGEST_TURN), rng.uniform()
    for name, own in (("neck", share), ("head", 1 - share)):
        turns[JOINT_INDEX[name]] = own * angle * axis / np.linalg.norm(axis)
    return betas, shape, expression, axis_angle_to_matrix(turns)


def _normals(vertices, triangles):
    """Normals [F, 3] of triangles, of any length."""
    corners = vertices[triangles]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _loop_edges(loop):
    return np.stack([loop, np.roll(loop, -1)], -1)


def _keys(edges):
    """One number [M] for each edge [M, 2], in either sense."""
    edges = np.sort(np.asarray(edges, np.int64), 1)
    return edges[:, 0] * 2**32 + edges[:, 1]


# The character in Blender.


def compare_in_blender(template, blender, count=3, seed=1):
    """(largest distance m, slowest seconds) between the character that Blender builds and poses, and the template's own surface.

    blender: what `find_blender` found; over `count` random parameters. Raises `BlenderError`.
    """
    rng = np.random.default_rng(seed)
    names = ("betas", "shape", "expression", "rotations")
    parameters = {
        name: np.stack(rows) for name, rows in zip(names, zip(*(sample_parameters(template, rng) for _ in range(count))))
    }
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        stage_addon(folder)
        template.save(folder / "character.npz")
        write_npz(folder / "parameters.npz", parameters)
        files = {"--template": "character.npz", "--check": "parameters.npz", "--out": "vertices.npz"}
        arguments = [word for option, name in files.items() for word in (option, folder / name)]
        made = run_in_blender(folder, arguments, blender, program="evaluate.check_character")
        found = read_npz(folder / "vertices.npz", "Blender's surface")["vertices"]
        saved = CharacterTemplate.load(folder / "character.npz")
    own = [saved.posed_surface(rotations, *rest) for *rest, rotations in zip(*(parameters[name] for name in names))]
    return float(np.linalg.norm(found - own, axis=-1).max()), float(max(made["build_seconds"]))


# For the terminal.


def seam_line(figures):
    """The seam's figures in one line."""
    state = "closed" if figures.is_sound else "NOT SOUND"
    return (
        f"{state}: {figures.loop_edges_used} of {figures.loop_edges} loop edges joined, {figures.open_edges} open, "
        f"{figures.non_manifold} non-manifold, smallest angle {figures.smallest_angle:.1f} degrees, {figures.crossings} crossings; "
        f"gap {figures.gap_mean:.1f} mm on average, {figures.gap_largest:.1f} mm at most"
    )


def format_bridge_report(name, seam, motion, in_blender=None):
    """All figures of a pair's bridge as a table; in_blender: what `compare_in_blender` found, or None."""
    rows = [
        ("face vertices kept / of the model", f"{seam.kept} / {seam.model}"),
        ("loop edges joined / in all", f"{seam.loop_edges_used} / {seam.loop_edges}"),
        ("non-manifold edges", str(seam.non_manifold)),
        ("open edges", str(seam.open_edges)),
        ("edges wound inconsistently", str(seam.inconsistent)),
        ("smallest angle at the seam, degrees", f"{seam.smallest_angle:.2f}"),
        ("faces through each other", str(seam.crossings)),
        ("gap bridged, mean / largest mm", f"{seam.gap_mean:.1f} / {seam.gap_largest:.1f}"),
        ("crease at the seam, median / largest degrees", f"{seam.crease[1]:.1f} / {seam.crease[0]:.1f}"),
        ("crease of the body there before", f"{seam.own_crease[1]:.1f} / {seam.own_crease[0]:.1f}"),
        (f"faces turned over in {motion.count} people and poses: strip and body", str(motion.flipped)),
        ("face part, as its model moves it", str(motion.flipped_of_face)),
        ("the body alone", str(motion.flipped_before)),
        ("vertices shared across the seam", "yes" if motion.shared else "NO"),
        ("face part off the head joint, m", f"{motion.rigidity:.1e}"),
    ]
    if in_blender is not None:
        rows += [("Blender's surface off ours, m", f"{in_blender[0]:.1e}"), ("built in Blender, s", f"{in_blender[1]:.2f}")]
    return format_table((name, ""), rows)
