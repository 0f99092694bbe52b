"""Synthetic faces for FaceNet: drawn with OpenGL on EGL by one code on GPUs and CPUs, with exact labels.

    sampler = FaceSampler(load_face("open"))
    samples = sampler.draw(64, seed=7)

Many heads share one large picture, the atlas, which is read back at once.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix

from .face_looks import camera_and_light, dress, pack, spoil, surroundings
from .face_mesh import FaceMesh, HeadMeasures, about_the_head
from .face_parameters import FaceMaker, FaceParameters
from .face_shaders import (
    ABOUT_FRAGMENT,
    ABOUT_VERTEX,
    CLOTHES,
    EAR,
    FACE_FIELDS,
    FACE_FRAGMENT,
    FACE_VERTEX,
    FINISH_FRAGMENT,
    FINISH_VERTEX,
    FRAMES,
    HAIR,
    LENSES,
    MANE,
    NECK,
    variant,
)
from .gl_renderer import open_context

OVERSAMPLING = 2
"""Samples per pixel and axis."""

_WORN = [(FACE_FIELDS.index(name), place) for name, place in (("hair", 3), ("mane", 1), ("glasses", 3))]

BLOCK = 256 * -(-16 * len(FACE_FIELDS) // 256)
"""Bytes from one head's block of numbers to the next: every driver takes multiples of 256."""


@dataclass
class FaceSamples:
    """N crops with their labels. pictures [N, H, H, 3] uint8; points [N, 478, 2]: the face mesh in the crop, from -1 to 1;
    truth: `FaceParameters`."""

    pictures: np.ndarray
    points: np.ndarray
    truth: FaceParameters

    def __len__(self):
        return len(self.pictures)

    def take(self, index):
        """The samples that a slice or an array of indices picks, as copies."""
        return FaceSamples(self.pictures[index].copy(), self.points[index], self.truth.take(index))

    @classmethod
    def concatenate(cls, parts):
        """Several samples as one."""
        truth = FaceParameters.concatenate([part.truth for part in parts])
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("pictures", "points")), truth)


class FaceSampler:
    """Draws `FaceSamples`, in any thread but in one at a time. They depend on the arguments and the seed alone, on one machine
    and driver."""

    def __init__(self, face, size=128, columns=4, rows=4):
        """face: `MorphableModel`; size: px of a crop; columns, rows: heads drawn at once. Raises `RendererError`."""
        self.face, self.size = face, size
        self.maker, self.mesh, self.measures = FaceMaker(face), FaceMesh(face), HeadMeasures.of(face)
        self.renderer = FaceRenderer(self.mesh, self.measures, size, columns, rows)

    def draw(self, count, seed, spoilt=True):
        """`count` samples. seed: whatever numpy's default_rng takes; spoilt: as cameras spoil pictures (`face_looks.spoil`)."""
        rng = np.random.default_rng(seed)
        heads = self.maker.draw(rng, count)
        pictures = self.renderer.draw(heads, self.look(rng, heads))
        if spoilt:
            spoil(rng, pictures)
        points = heads.project(self.face.mesh_points.places(heads.shape, heads.expression))
        return FaceSamples(pictures, points.astype(np.float32), heads)

    def look(self, rng, heads):
        """The random block [N, F, 4] of how heads and pictures look beyond their parameters."""
        colour = self.maker.skin_colour(heads.albedo)
        look = camera_and_light(rng, heads) | dress(rng, colour, self.measures) | surroundings(rng, len(heads))
        return pack(look)


class FaceRenderer:
    """Draws batches of heads."""

    def __init__(self, mesh, measures, size, columns, rows):
        self.mesh, self.size = mesh, size
        self._load_geometry(mesh)
        self.context = open_context()
        # On leaving, the context is let go, so that another thread can draw.
        with self.context:
            self.name = self.context.info["GL_RENDERER"]
            largest = self.context.info["GL_MAX_TEXTURE_SIZE"] // (OVERSAMPLING * size)
            self.columns, self.rows = min(columns, largest), min(rows, largest)
            self._build(mesh, measures)

    @property
    def capacity(self):
        """Heads drawn at once."""
        return self.columns * self.rows

    def _load_geometry(self, mesh):
        def flat(basis):
            return torch.as_tensor(basis.transpose(1, 2, 0).reshape(-1, len(basis)))  # [3 M, K]

        moves = np.concatenate([mesh.shape_basis, mesh.expression_basis])
        self._mean, self._moves = torch.as_tensor(mesh.mean).flatten()[:, None], flat(moves)
        self._colour_mean, self._colours = torch.as_tensor(mesh.albedo_mean).flatten()[:, None], flat(mesh.albedo_basis)
        self._corners = [torch.as_tensor(column.astype(np.int64)) for column in mesh.triangles.T]
        faces = len(mesh.triangles)
        rows, columns = mesh.triangles.T.ravel(), np.tile(np.arange(faces), 3)
        # Which triangles meet at each vertex.
        self._meet = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (len(mesh.mean), faces))

    def _build(self, mesh, measures):
        context, floats = self.context, np.float32
        face = context.program(FACE_VERTEX, FACE_FRAGMENT)
        variants = {HAIR: ("HAIR",), MANE: ("HAIR", "MANE")}
        abouts = {kind: context.program(ABOUT_VERTEX, variant(ABOUT_FRAGMENT, *names)) for kind, names in variants.items()}
        plain = context.program(ABOUT_VERTEX, ABOUT_FRAGMENT)
        self._finish = context.program(FINISH_VERTEX, FINISH_FRAGMENT)
        for program in (face, *abouts.values(), plain):
            for name in ("ear", "brow", "chin"):
                if name in program:
                    program[name] = tuple(map(float, getattr(measures, name) - [measures.brow[0], 0, 0]))
        self._finish["drawn"] = 0
        self._blocks = context.buffer(reserve=BLOCK * self.capacity, dynamic=True)
        traits, indices = context.buffer(mesh.traits), context.buffer(np.ascontiguousarray(mesh.triangles))
        self._surfaces = [context.buffer(reserve=36 * len(mesh.mean), dynamic=True) for _ in range(self.capacity)]
        self._faces = [
            context.vertex_array(
                face,
                [(surface, "3f 3f 3f", "place", "normal", "colour"), (traits, "3f 4f 4f", "rest", "trait", "part")],
                indices,
            )
            for surface in self._surfaces
        ]
        places, normals, kinds, triangles = about_the_head(measures)
        vertices = context.buffer(np.concatenate([places, normals, kinds[:, None]], 1).astype(floats))
        content = [(vertices, "3f 3f 1f", "place", "normal", "kind")]
        self._about = {
            kind: context.vertex_array(abouts.get(kind, plain), content, context.buffer(faces))
            for kind, faces in triangles.items()
        }
        corners = context.buffer(np.array([-1, -1, 3, -1, -1, 3], floats))
        self._whole = context.vertex_array(self._finish, [(corners, "2f", "corner")])
        size = (self.columns * self.size, self.rows * self.size)
        large = tuple(OVERSAMPLING * side for side in size)
        self._drawn = context.texture(large, 4)
        self._canvas = context.framebuffer([self._drawn], context.depth_renderbuffer(large))
        self._finished = context.framebuffer([context.renderbuffer(size, 4)])

    @torch.no_grad()
    def pose(self, heads):
        """Places in the face's frame, normals of about unit length and reflectance [N, M, 9] float32."""
        count = len(heads)
        coefficients = np.concatenate([heads.shape, heads.expression], 1)
        places = self._mean + self._moves @ torch.as_tensor(coefficients.T.astype(np.float32))  # [3 M, N]
        colours = self._colour_mean + self._colours @ torch.as_tensor(heads.albedo.T.astype(np.float32))
        places, colours = places.view(-1, 3, count), colours.view(-1, 3, count)
        a, b, c = (places.index_select(0, corner) for corner in self._corners)
        across = torch.linalg.cross(b - a, c - a, dim=1)  # [F, 3, N]
        normals = torch.as_tensor(self._meet @ across.flatten(1).numpy()).view(-1, 3, count)
        normals = normals / normals.norm(dim=1, keepdim=True).clamp(min=1e-12)
        return torch.cat([places, normals, colours.clamp(0.002, 1)], 1).permute(2, 0, 1).contiguous().numpy()

    def draw(self, heads, blocks):
        """Pictures [N, H, H, 3] RGB uint8 of `FaceParameters` with blocks [N, F, 4] of looks."""
        size, pictures = self.size, np.empty((len(heads), self.size, self.size, 3), np.uint8)
        # Another renderer's context may be the current one.
        with self.context:
            for start in range(0, len(heads), self.capacity):
                part = slice(start, start + self.capacity)
                self._draw_atlas(self.pose(heads.take(part)), blocks[part])
                atlas = np.frombuffer(self._finished.read(components=4), np.uint8)
                atlas = atlas.reshape(self.rows, size, self.columns, size, 4).swapaxes(1, 2).reshape(-1, size, size, 4)
                pictures[part] = atlas[: len(pictures[part]), ..., :3]
        return pictures

    def _draw_atlas(self, surfaces, blocks):
        """Draws at most `capacity` heads; the first row is the top."""
        import moderngl

        context = self.context
        padded = np.zeros((len(blocks), BLOCK // 4), np.float32)
        padded[:, : blocks[0].size] = blocks.reshape(len(blocks), -1)
        self._blocks.write(padded)
        for buffer, surface in zip(self._surfaces, surfaces):
            buffer.write(surface)
        context.enable_only(moderngl.DEPTH_TEST | moderngl.BLEND | moderngl.CULL_FACE)
        context.front_face = "cw"  # rows count downwards here
        context.blend_func = (moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA)
        self._canvas.use()
        self._canvas.clear(0, 0, 0, 0, depth=1)
        for head in range(len(blocks)):
            self._blocks.bind_to_uniform_block(0, head * BLOCK, BLOCK)
            self._canvas.viewport = tuple(OVERSAMPLING * value for value in self._place(head))
            self._faces[head].render()
            for kind in shown_about(blocks[head]):
                # Hair is seen from inside, too, where its edge stands off.
                (context.disable if kind in (HAIR, MANE, FRAMES, LENSES) else context.enable)(moderngl.CULL_FACE)
                self._about[kind].render()
            context.enable(moderngl.CULL_FACE)
        context.enable_only(moderngl.NOTHING)
        self._drawn.use(0)
        self._finished.use()
        for head in range(len(blocks)):
            self._blocks.bind_to_uniform_block(0, head * BLOCK, BLOCK)
            self._finished.viewport = self._place(head)
            self._finish["tile"] = tuple(OVERSAMPLING * value for value in self._place(head))
            self._whole.render(vertices=3)
        self._finished.viewport = (0, 0, *self._finished.size)

    def _place(self, head):
        row, column = divmod(head, self.columns)
        return (column * self.size, row * self.size, self.size, self.size)

    def release(self):
        """Gives everything on the GPU back."""
        self.context.release()


def shown_about(block):
    """What goes about the head of one block [F, 4], in the order to draw it in."""
    haired, long, worn = (block[field, place] > 0.5 for field, place in _WORN)
    kinds = {EAR: True, NECK: True, CLOTHES: True, HAIR: haired, MANE: haired and long, FRAMES: worn, LENSES: worn}
    return [kind for kind, shown in kinds.items() if shown]


def faces_per_second(sampler, seconds=5.0, batch=64):
    """How many samples a second a sampler draws, warm, over at least that many seconds."""
    sampler.draw(batch, 0)
    start, drawn = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        drawn += len(sampler.draw(batch, drawn + 1))
    return drawn / (time.perf_counter() - start)
