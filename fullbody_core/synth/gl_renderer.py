"""Draws people with OpenGL on EGL: on a GPU, or on Mesa's software renderer, by the same code.

Many people share one large picture, the atlas. Each has in it the low-resolution image I and both hand images, drawn at twice
their size and then averaged down, so that a batch is read back at once and nothing of 768 x 1024 pixels is ever drawn.
"""

import sys
from itertools import product

import numpy as np

from ..networks.detnet_samples import CELL, HAND_SIZE, IMAGE_SIZE
from .person_mesh import HANDS, PARTS, WHOLE
from .shaders import (
    BODY_FRAGMENT,
    FIELDS,
    FINISH_FRAGMENT,
    FINISH_VERTEX,
    HEAD_FRAGMENT,
    OCCLUDERS,
    PERSON_VERTEX,
    SHADOW_FRAGMENT,
    SHADOW_VERTEX,
    SHELL_FRAGMENT,
)

OVERSAMPLING = 2
"""Samples per pixel and axis. With 2, I shows what bilinear scaling by a quarter takes from 768 x 1024: four points a pixel."""

TILE = (IMAGE_SIZE[0] + HAND_SIZE, IMAGE_SIZE[1])
"""px (width, height) of a person in the finished atlas: I, and beside it the left hand image over the right one."""

VIEWS = ((0, 0, *IMAGE_SIZE), (IMAGE_SIZE[0], 0, HAND_SIZE, HAND_SIZE), (IMAGE_SIZE[0], HAND_SIZE, HAND_SIZE, HAND_SIZE))
"""(left, top, width, height) px of I, left hand and right hand in a tile."""

SHADOW_SIZE = 256
"""px of the square in which a person is seen from the lamp."""

PICTURE_SIZE = 256
"""px of the backdrop pictures, which are square."""

BLOCK = 256 * -(-16 * len(FIELDS) // 256)
"""Bytes from one person's block of numbers to the next: every driver takes multiples of 256."""


_VARIANTS = tuple(product(("", "SHARP"), ("", "PICTURE"), ("", "CLEAR")))
"""Of FINISH: without blur, with a picture for a backdrop, with nothing in the way."""

_BLURS, _PICTURE, _LAMP = [FIELDS.index(f"blur_{view}") for view in range(3)], FIELDS.index("picture"), FIELDS.index("lamp")

_OCCLUDERS = [FIELDS.index(f"occluder{number}") for number in range(OCCLUDERS)]

_FIRST_SHELL, _WORN = PARTS.index("hair"), {"hair": (FIELDS.index("mane"), 3), "skirt": (FIELDS.index("skirt"), 0)}

SHARPEST = 0.2
"""px: less blur than this is none."""


class RendererError(RuntimeError):
    """People cannot be drawn here. The message is one sentence for the user."""


def open_context():
    """A moderngl context on EGL without a window. Raises `RendererError`."""
    try:
        import moderngl
    except ImportError as error:
        raise RendererError("Drawing people needs the package moderngl: install it with 'pip install moderngl'.") from error
    try:
        # Without a window: through EGL where there is one, else by the system's own way.
        return moderngl.create_standalone_context(require=330, **({"backend": "egl"} if sys.platform == "linux" else {}))
    except Exception as error:
        raise RendererError(
            f"No OpenGL 3.3 could be opened through EGL ({error}): install a GPU driver with EGL, or Mesa's software renderer "
            "(on Debian: apt install libegl1 libgl1-mesa-dri)."
        ) from error


class GLRenderer:
    """Draws batches of posed people, in any thread, but in one at a time."""

    def __init__(self, mesh, measures, pictures=None, columns=4, rows=2):
        """mesh: `PersonMesh`; measures: `Wardrobe.measures()`; pictures [B, 256, 256, 3] uint8 for backdrops, or None.

        columns, rows: people in the atlas. Small atlases stay in a processor's cache, large ones keep a GPU busy.
        """
        self.context = open_context()
        # On leaving, the context is let go, so that another thread can draw.
        with self.context:
            self._build(mesh, measures, pictures, columns, rows)

    def _build(self, mesh, measures, pictures, columns, rows):
        context = self.context
        self.name = context.info["GL_RENDERER"]
        largest = context.info["GL_MAX_TEXTURE_SIZE"] // OVERSAMPLING
        self.columns, self.rows = min(columns, largest // TILE[0]), min(rows, largest // TILE[1])
        self._blocks = context.buffer(reserve=BLOCK * self.capacity, dynamic=True)
        self._compile(measures)
        self._build_canvases()
        self._build_arrays(mesh)
        self._load_pictures(pictures)

    def _compile(self, measures):
        """The programs. Texture units: 0 what was drawn, 1 pictures, 2 shadows."""
        context = self.context
        shaders = {
            "head": HEAD_FRAGMENT,
            "left_hand": _define(BODY_FRAGMENT, "BARE"),
            "right_hand": _define(BODY_FRAGMENT, "BARE"),
            "hair": _define(SHELL_FRAGMENT, "SHELL"),
            "skirt": _define(SHELL_FRAGMENT, "SHELL", "CLOTH"),
        }
        self._parts = [context.program(PERSON_VERTEX, shaders.get(part, BODY_FRAGMENT)) for part in PARTS]
        self._shadow = context.program(SHADOW_VERTEX, SHADOW_FRAGMENT)
        # Software renderers compute both branches of every condition, so what is seldom needed is a program of its own.
        self._finishes = {wanted: context.program(FINISH_VERTEX, _define(FINISH_FRAGMENT, *wanted)) for wanted in _VARIANTS}
        constants = measures | {"drawn": 0, "pictures": 1, "shadows": 2, "oversampling": OVERSAMPLING}
        for program in (*self._parts, *self._finishes.values()):
            for name, value in constants.items():
                if name in program:
                    program[name] = value

    def _build_canvases(self):
        import moderngl

        context = self.context
        size, square = ((self.columns * width, self.rows * height) for width, height in (TILE, (SHADOW_SIZE, SHADOW_SIZE)))
        large = (OVERSAMPLING * size[0], OVERSAMPLING * size[1])
        self._drawn = context.texture(large, 4)
        self._drawn.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self._canvas = context.framebuffer([self._drawn], context.depth_renderbuffer(large))
        self._shadows = context.depth_texture(square)
        self._shadows.compare_func, self._shadows.filter = "<=", (moderngl.LINEAR, moderngl.LINEAR)
        self._shadow_canvas = context.framebuffer([], self._shadows)
        # Two to take turns: one is drawn to while the other is still being finished or read.
        self._finished = [context.framebuffer([context.renderbuffer(size, 4)]) for _ in range(2)]

    @property
    def capacity(self):
        """People drawn at once."""
        return self.columns * self.rows

    def _build_arrays(self, mesh):
        """A place for the surface of each person in the atlas, with arrays for both finenesses; and an array for a whole view."""
        context = self.context
        traits = context.buffer(np.ascontiguousarray(mesh.traits))
        self._part_vertices = mesh.part_vertices
        self._surfaces = [context.buffer(reserve=24 * len(mesh.traits), dynamic=True) for _ in range(self.capacity)]
        self._people = [[[] for _ in mesh.levels] for _ in self._surfaces]
        for level, (faces, parts) in enumerate(mesh.levels):
            for number, program in enumerate(self._parts):
                indices = context.buffer(np.ascontiguousarray(faces[parts == number]))
                for surface, arrays in zip(self._surfaces, self._people):
                    content = [(surface, "3f 3f", "place", "normal"), (traits, "4f 4f", "rest", "trait")]
                    arrays[level].append(context.vertex_array(program, content, indices))
        faces, parts = mesh.levels[WHOLE]
        indices = context.buffer(np.ascontiguousarray(faces[parts < _FIRST_SHELL]))
        self._shades = [
            context.vertex_array(self._shadow, [(surface, "3f 12x", "place")], indices) for surface in self._surfaces
        ]
        corners = context.buffer(np.array([-1, -1, 3, -1, -1, 3], np.float32))
        self._whole = {
            wanted: context.vertex_array(program, [(corners, "2f", "corner")]) for wanted, program in self._finishes.items()
        }

    def _load_pictures(self, pictures):
        if pictures is None:
            pictures = np.zeros((1, 1, 1, 3), np.uint8)
        count, height, width, _ = pictures.shape
        self._pictures = self.context.texture_array(
            (width, height, count), 3, np.ascontiguousarray(pictures).tobytes(), alignment=1
        )
        self._pictures.build_mipmaps()

    def draw(self, pose, blocks, boxes):
        """Pictures of N people: I [N, 256, 192, 3] and hand images [N, 2, 128, 128, 3], RGB uint8.

        pose: function from a slice of the people to their surfaces [n, M, 6] float32, posed places, m in the camera frame, and
        normals, as `PersonMesh` gives: the next are posed while the last are still being drawn; blocks [N, F, 4]
        float32, as `appearance.pack` gives; boxes [N, 2, 3]: the squares (u, v, w in cells) that the hand images show, black
        where w is 0.
        """
        count = len(blocks)
        images = np.empty((count, IMAGE_SIZE[1], IMAGE_SIZE[0], 3), np.uint8)
        hands = np.empty((count, 2, HAND_SIZE, HAND_SIZE, 3), np.uint8)
        rects = view_rects(boxes)
        # Another renderer's context may be the current one.
        with self.context:
            pending = None
            for number, start in enumerate(range(0, count, self.capacity)):
                part = slice(start, start + self.capacity)
                self._draw_atlas(self._finished[number % 2], pose(part), blocks[part], rects[part])
                if pending is not None:
                    self._read_atlas(*pending, images, hands)
                pending = (self._finished[number % 2], start)
            if pending is not None:
                self._read_atlas(*pending, images, hands)
        return images, hands

    def _read_atlas(self, finished, start, images, hands):
        """Cuts a finished atlas into the images and hand images from number `start` on."""
        atlas = np.frombuffer(finished.read(components=4), np.uint8).reshape(finished.height, finished.width, 4)
        for person in range(min(self.capacity, len(images) - start)):
            row, column = divmod(person, self.columns)
            tile = atlas[row * TILE[1] : (row + 1) * TILE[1], column * TILE[0] : (column + 1) * TILE[0], :3]
            images[start + person] = tile[:, : IMAGE_SIZE[0]]
            hands[start + person] = tile[:, IMAGE_SIZE[0] :].reshape(2, HAND_SIZE, HAND_SIZE, 3)

    def _draw_atlas(self, finished, surfaces, blocks, rects):
        """Draws at most `capacity` people into the framebuffer `finished`; its first row is the top."""
        import moderngl

        context, count = self.context, len(surfaces)
        padded = np.zeros((count, BLOCK // 4), np.float32)
        padded[:, : blocks[0].size] = blocks.reshape(count, -1)
        self._blocks.write(padded)
        for buffer, surface in zip(self._surfaces, surfaces):
            buffer.write(np.ascontiguousarray(surface, np.float32))
        context.enable_only(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        context.front_face = "cw"  # rows count downwards here
        self._draw_shadows(blocks)
        shown = self._shown(surfaces, blocks, rects)
        for place, texture in enumerate((self._drawn, self._pictures, self._shadows)):
            texture.use(place)
        self._canvas.use()
        self._canvas.clear(0, 0, 0, 0, depth=1)
        for person, view, place in self._views(rects):
            self._canvas.viewport = tuple(OVERSAMPLING * value for value in place)
            for part in np.flatnonzero(shown[person, view]):
                # Sheets have two sides; they come last.
                (context.disable if part >= _FIRST_SHELL else context.enable)(moderngl.CULL_FACE)
                self._parts[part]["rect"] = tuple(rects[person, view])
                self._parts[part]["shadow_tile"] = self._shadow_tile(person)
                self._people[person][HANDS if view else WHOLE][part].render()
        context.enable_only(moderngl.NOTHING)
        finished.viewport = (0, 0, *finished.size)
        finished.use()
        finished.clear(0, 0, 0, 1)
        for person, view, place in self._views(rects):
            wanted = (
                "SHARP" if np.linalg.norm(blocks[person, _BLURS[view]]) < SHARPEST else "",
                "PICTURE" if blocks[person, _PICTURE, 3] else "",
                "CLEAR" if (blocks[person, _OCCLUDERS, 3] < 0.01).all() else "",
            )
            program = self._finishes[wanted]
            finished.viewport = place
            program["rect"] = tuple(rects[person, view])
            program["tile"] = tuple(OVERSAMPLING * value for value in place)
            program["view"] = view
            self._whole[wanted].render(vertices=3)
        finished.viewport = (0, 0, *finished.size)

    def _draw_shadows(self, blocks):
        """Sees the people from their lamps, those that throw a shadow."""
        self._shadow_canvas.use()
        self._shadow_canvas.clear(depth=1)
        for person in np.flatnonzero(blocks[:, _LAMP, 3]):
            row, column = divmod(int(person), self.columns)
            self._shadow_canvas.viewport = (SHADOW_SIZE * column, SHADOW_SIZE * row, SHADOW_SIZE, SHADOW_SIZE)
            self._blocks.bind_to_uniform_block(0, int(person) * BLOCK, BLOCK)
            self._shades[person].render()

    def _shadow_tile(self, person):
        """Left, top, width and height of a person's part of the shadows, as shares of the whole."""
        row, column = divmod(person, self.columns)
        return (column / self.columns, row / self.rows, 1 / self.columns, 1 / self.rows)

    def _shown(self, surfaces, blocks, rects):
        """Which parts of each person [N, parts] each view [N, 3, parts] may show."""
        focal, centre = blocks[:, 0, None, :1], blocks[:, 0, None, 1:3]
        shown = np.empty((len(surfaces), len(VIEWS), len(PARTS)), bool)
        for part, vertices in enumerate(self._part_vertices):
            places = surfaces[:, vertices[::3], :3]
            pixels = places[..., :2] / np.maximum(places[..., 2:], 0.05) * focal + centre
            # Clothes and hair stand off the skin, and only every third vertex was asked.
            slack = (0.06 * focal / np.maximum(places[..., 2:].min(1, keepdims=True), 0.05))[:, 0]
            low, high = pixels.min(1) - slack, pixels.max(1) + slack
            start, stop = rects[..., :2], rects[..., :2] + rects[..., 2:]
            worn = (
                blocks[:, _WORN[PARTS[part]][0], _WORN[PARTS[part]][1]] > 0.5 if PARTS[part] in _WORN else np.array([True])
            )
            shown[..., part] = worn[:, None] & ((low[:, None] < stop) & (high[:, None] > start)).all(-1)
        return shown

    def _views(self, rects):
        """(person, view, place in the finished atlas), each with the person's block bound; views of nothing are left out."""
        for person in range(len(rects)):
            left, top = TILE[0] * (person % self.columns), TILE[1] * (person // self.columns)
            self._blocks.bind_to_uniform_block(0, person * BLOCK, BLOCK)
            for view, (x, y, width, height) in enumerate(VIEWS):
                if rects[person, view, 2] > 0:
                    yield person, view, (left + x, top + y, width, height)

    def release(self):
        """Gives everything on the GPU back."""
        self.context.release()


def _define(shader, *names):
    """A program's text with some of its variants chosen; an empty name chooses none."""
    return shader.replace("#version 330\n", "#version 330\n" + "".join(f"#define {name}\n" for name in names if name), 1)


def view_rects(boxes):
    """The part of I each view shows [N, 3, 4], px: left, top, width, height. boxes [N, 2, 3] in cells."""
    count = len(boxes)
    whole = np.broadcast_to(np.array([0.0, 0, *IMAGE_SIZE]), (count, 1, 4))
    return np.concatenate([whole, CELL * np.asarray(boxes, float)[..., [0, 1, 2, 2]]], 1)
