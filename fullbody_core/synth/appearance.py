"""How synthetic people look: skin, hair, clothes, light, backdrop, things in the way, and the camera's faults.

Everything is drawn for N people at once, as the numbers that `shaders` reads: a dictionary of [N, 4] arrays named as FIELDS.
Garments are cut in the rest pose: a sleeve ends at a distance from the body's middle, a hem at a height.
"""

import numpy as np

from ..contract.skeleton import JOINT_INDEX
from ..contract.swing_twist import unit
from ..networks.detnet_samples import CELL, HAND_SIZE, IMAGE_SIZE
from .shaders import FIELDS, OCCLUDERS, SHAPES

SKIN_TONES = np.array(
    [[0.75, 0.50, 0.39], [0.60, 0.37, 0.27], [0.42, 0.235, 0.15], [0.22, 0.115, 0.07], [0.10, 0.05, 0.033]]
)
"""Linear RGB, from pale to dark: skin keeps to about this line."""

HAIR_TONES = np.array(
    [[0.008, 0.007, 0.006], [0.03, 0.018, 0.01], [0.10, 0.05, 0.025], [0.40, 0.27, 0.13], [0.33, 0.31, 0.30]]
)

IRIS_TONES = np.array([[0.035, 0.018, 0.008], [0.09, 0.055, 0.02], [0.07, 0.11, 0.06], [0.08, 0.14, 0.24]])

SHADOW_MARGIN = 0.15
"""m around the keypoints in which shadows fall."""

NOWHERE = 9.0
"""m: an edge that no part of a body reaches."""


class Wardrobe:
    """Knows a body's measures in the rest pose, and dresses people of it."""

    def __init__(self, body):
        rest, joints = np.asarray(body.v_template, float), body.rest_joints
        place = {name: joints[index] for name, index in JOINT_INDEX.items()}
        marks = {name: rest[vertex] for name, vertex in body.landmarks.items()}
        self.neck, self.crown, self.eye = place["neck"], marks["head_top"], marks["left_eye"]
        self.ear, self.mouth, self.nose = marks["left_ear"], marks["left_mouth"], marks["nose"]
        self.shoulder, self.elbow, self.wrist = (place[f"left_{name}"][0] for name in ("shoulder", "elbow", "wrist"))
        self.hip, self.knee, self.ankle = (place[f"left_{name}"][1] for name in ("hip", "knee", "ankle"))
        self.waist, self.sole = place["spine1"][1], rest[:, 1].min()
        self.crotch = self.hip - 0.08

    def measures(self):
        """What the programs must know of the body, by uniform."""
        lengths = {"shoulder": float(self.shoulder), "crotch": float(self.crotch), "wrist": float(self.wrist)}
        return lengths | {name: tuple(map(float, getattr(self, name))) for name in ("eye", "ear", "mouth", "crown", "neck")}

    def dress(self, rng, count):
        """Skin, hair and clothes of `count` people."""
        look = self._skin_and_hair(rng, count)
        look |= self._top(rng, count) | self._legs(rng, count) | self._coat(rng, count)
        shoes = rng.random(count) < 0.8
        look["shoes"] = _join(
            _cloth_colour(rng, count) * 0.6, np.where(shoes, self.ankle + rng.uniform(-0.02, 0.08, count), -NOWHERE)
        )
        gloves = _join(_cloth_colour(rng, count), rng.random(count) < 0.03)
        look["gloves"] = gloves
        waves = rng.uniform([10, 10, 15], [40, 40, 70], (count, 3))
        look |= self._skirt(rng, look)
        mane = (rng.random(count) < 0.3) & (look["scalp"][:, 2] > 0.002)
        end = self.ear[1] - rng.uniform(0.03, 0.24, count)
        look["mane"] = np.stack([end, rng.uniform(0, 0.015, count), np.zeros(count), mane], -1)
        look["scalp"][:, 1] = np.where(mane, self.neck[1] - 0.02, look["scalp"][:, 1])
        look["folds"] = _join(waves, rng.uniform(0.4, 1.6, count))
        return look

    def _skin_and_hair(self, rng, count):
        tone = _along(SKIN_TONES, rng.uniform(0, len(SKIN_TONES) - 1, count)) * rng.normal(1, 0.06, (count, 3))
        dark = 1 - tone[:, 1] / SKIN_TONES[0, 1]
        shade = np.where(
            rng.random(count) < 0.25 + 0.6 * dark, rng.uniform(0, 1.2, count), rng.uniform(0, len(HAIR_TONES) - 1, count)
        )
        hair = _along(HAIR_TONES, shade) * rng.normal(1, 0.1, (count, 3))
        dyed = rng.random((count, 1)) < 0.03
        hair = np.clip(np.where(dyed, rng.random((count, 3)) ** 2 * 0.6, hair), 0.003, 1)
        bald = rng.random(count) < 0.08
        hairline = self.eye[1] + rng.uniform(0.45, 0.75, count) * (self.crown[1] - self.eye[1])
        nape = self.ear[1] - np.where(rng.random(count) < 0.5, rng.uniform(0.03, 0.08, count), rng.uniform(0.08, 0.2, count))
        thickness = np.where(bald, 0, np.where(rng.random(count) < 0.25, 0.003, rng.uniform(0.006, 0.03, count)))
        lips = np.stack([rng.uniform(0.8, 1.1, count), rng.uniform(0.4, 0.75, count), rng.uniform(0.4, 0.8, count)], -1)
        beard = np.where(rng.random(count) < 0.2, rng.uniform(0.25, 0.95, count), 0)
        iris = _along(IRIS_TONES, rng.uniform(0, len(IRIS_TONES) - 1, count))
        return {
            "skin": _join(np.clip(tone, 0.01, 0.9), rng.uniform(0.05, 0.3, count)),
            "face": _join(lips, rng.uniform(0.2, 0.9, count)),
            "iris": _join(iris, rng.uniform(0, 1, count)),
            "hair": _join(hair, rng.uniform(0.02, 0.3, count)),
            "scalp": np.stack([hairline, nape, thickness, rng.uniform(0, 1, count)], -1),
            "beard": _join(hair * 0.9, beard),
        }

    def _top(self, rng, count):
        bare = rng.random(count) < 0.03
        half, inside = (self.shoulder + self.elbow) / 2, self.shoulder - 0.025
        sleeve = _pick(rng, count, [0.07, 0.33, 0.12, 0.48], [inside, half, self.elbow + 0.05, self.wrist - 0.01], 0.03)
        hem = _pick(rng, count, [0.1, 0.7, 0.2], [self.waist + 0.06, self.hip + 0.04, self.crotch - 0.06], 0.03)
        neckline = self.neck[1] + rng.uniform(-0.03, 0.035, count)
        deep = np.where(rng.random(count) < 0.4, rng.uniform(0.02, 0.14, count), 0)
        loose = rng.choice([0.003, 0.008, 0.016, 0.024], count, p=[0.2, 0.35, 0.3, 0.15]) * rng.uniform(0.8, 1.3, count)
        turtle = (rng.random(count) < 0.06) & (deep == 0)
        neckline = np.where(turtle, self.neck[1] + 0.06, neckline)
        look = _cloth(rng, count, "top")
        look["top"] = np.stack([np.zeros(count), np.zeros(count), np.zeros(count), np.where(bare, 0, loose)], -1)
        look["top_cut"] = np.stack([sleeve, np.where(bare, NOWHERE, hem), neckline, deep], -1)
        return look

    def _legs(self, rng, count):
        end = _pick(
            rng,
            count,
            [0.12, 0.18, 0.1, 0.6],
            [self.crotch - 0.06, self.knee + 0.08, self.knee - 0.2, self.ankle + 0.03],
            0.03,
        )
        waist = self.hip + rng.uniform(0.04, 0.15, count)
        snug = rng.choice([0.002, 0.006, 0.012], count, p=[0.3, 0.45, 0.25]) * rng.uniform(0.8, 1.2, count)
        wide = np.where(rng.random(count) < 0.3, rng.uniform(1, 3.5, count), 1)
        look = _cloth(rng, count, "legs", plain=0.8)
        # The belt, whether the top is tucked in, and the thickness at the ankle and at the waist.
        look["legs"] = np.stack([rng.random(count) < 0.3, rng.random(count) < 0.3, snug * wide, snug], -1)
        look["legs_cut"] = np.stack([end, waist, np.zeros(count), np.zeros(count)], -1)
        return look

    def _skirt(self, rng, look):
        """Some people wear a skirt instead of trousers; of a third of those, top and skirt are one dress."""
        count = len(look["legs"])
        worn = rng.random(count) < 0.15
        hem = rng.uniform(self.ankle + 0.05, self.crotch - 0.08, count)
        bare = rng.random(count) < 0.6
        look["legs_cut"][:, 2] = worn & bare
        dress = worn & (rng.random(count) < 0.35)
        for part in ("one", "two", "pattern"):
            look[f"legs_{part}"][dress, :3] = look[f"top_{part}"][dress, :3]
        # Over leggings, where there are some; under the top, or with the top tucked in.
        look["legs"][worn, 2:] = 0.002
        flare = np.where(rng.random(count) < 0.5, rng.uniform(0, 0.12, count), rng.uniform(0.1, 0.5, count))
        return {"skirt": np.stack([worn, hem, look["legs_cut"][:, 1] + 0.03, flare], -1)}

    def _coat(self, rng, count):
        worn = rng.random(count) < 0.22
        sleeve = _pick(rng, count, [0.15, 0.85], [self.shoulder - 0.01, self.wrist - 0.005], 0.015)
        hem = _pick(rng, count, [0.6, 0.25, 0.15], [self.hip, self.crotch - 0.12, self.knee], 0.04)
        look = _cloth(rng, count, "coat", plain=0.8)
        look["coat"] = np.stack([worn, worn, rng.uniform(0, 0.25, count), worn * rng.uniform(0.015, 0.03, count)], -1)
        look["coat_cut"] = np.stack([sleeve, hem, np.full(count, self.neck[1] + 0.02), np.zeros(count)], -1)
        look["coat_pattern"][:, 3] = np.where(rng.random(count) < 0.6, rng.uniform(0.01, 0.09, count), 0)
        return look


def light(rng, up):
    """Lamp, second lamp, sky and ground before cameras whose world's vertical is `up` [N, 3]."""
    count = len(up)
    lamp = np.stack([rng.normal(0, 0.8, count), np.zeros(count), -rng.uniform(0.0, 1.0, count)], -1)
    lamp = unit(lamp + rng.uniform(0.1, 1.4, (count, 1)) * up)
    fill = unit(rng.normal(size=(count, 3)) + 0.5 * up)
    hard = rng.uniform(0.25, 1.3, count)
    warm = 1 + rng.uniform(-0.18, 0.18, (count, 1)) * [1, 0, -1]
    second = np.where(rng.random(count) < 0.4, rng.uniform(0.1, 0.6, count), 0)
    sky = rng.uniform(0.15, 0.6, (count, 1)) * (1 + rng.uniform(-0.12, 0.12, (count, 1)) * [-1, 0, 1])
    ground = rng.uniform(0.05, 0.3, (count, 1)) * (1 + rng.uniform(-0.15, 0.15, (count, 3)))
    # How dark the lamp's shadow is; large lamps throw hardly any.
    dark = np.where(rng.random(count) < 0.4, 0, rng.uniform(0.4, 1, count))
    return {
        "lamp": _join(lamp, dark), "lamp_colour": _join(hard[:, None] * warm, 0),
        "fill": _join(fill, 0), "fill_colour": _join(second[:, None] * rng.uniform(0.6, 1.1, (count, 3)), 0),
        "up": _join(up, 0), "sky": _join(sky, 0), "ground": _join(ground, 0),
    }  # fmt: skip


def shadow_frames(people, lamp):
    """What the lamp must see [N, 3]: rows from the camera frame to a square around the keypoints that lie in I, -1 to 1.

    lamp [N, 4]: its direction first.
    """
    points = np.concatenate([people.body, people.hands.reshape(len(people), -1, 3)], 1)
    pixels = points[..., :2] / points[..., 2:] * people.matrix[:, :1, :1] + people.matrix[:, None, :2, 2]
    shown = ((pixels > -30) & (pixels < np.array(IMAGE_SIZE) + 30)).all(-1)
    shown[shown.sum(1) < 5] = True
    z = -unit(lamp[:, :3])
    x = unit(np.cross(np.where(np.abs(z[:, 1:2]) < 0.9, [[0.0, 1, 0]], [[1.0, 0, 0]]), z))
    axes = np.stack([x, np.cross(z, x), z], 1)
    seen = np.einsum("nij,nkj->nki", axes, points)
    low = np.where(shown[..., None], seen, np.inf).min(1) - SHADOW_MARGIN
    high = np.where(shown[..., None], seen, -np.inf).max(1) + SHADOW_MARGIN
    # In depth everything counts that may stand before what is seen.
    low[:, 2], high[:, 2] = seen[..., 2].min(1) - 0.5, seen[..., 2].max(1) + 0.5
    half = (high - low) / 2
    rows = np.concatenate([axes / half[..., None], -((low + high) / 2 / half)[..., None]], -1)
    return {name: rows[:, number] for number, name in enumerate(("shadow_x", "shadow_y", "shadow_z"))}


def backdrop(rng, count, horizon, pictures=0):
    """What stands behind: a wall of one kind or another with shapes on it, perhaps a floor; or one of `pictures` pictures.

    horizon [N, 2]: px of I at which level ground ends at the left-right middle, and its slope.
    """
    width, height = IMAGE_SIZE
    one, two = _wall_colour(rng, count), _wall_colour(rng, count)
    tiled = np.where(rng.random(count) < 0.25, np.exp(rng.uniform(np.log(1.5), np.log(16), count)), 0)
    floor_top = horizon[:, 0] + np.exp(rng.uniform(np.log(5), np.log(150), count))
    floor_top = np.where(rng.random(count) < 0.6, floor_top, 9999)
    # px of I that everything behind is out of focus by.
    blurred = np.where(rng.random(count) < 0.5, 0, rng.exponential(3, count))
    look = {
        "wall_one": _join(one, tiled),
        "wall_two": _join(two, rng.random(count) < 0.4),
        "wall": np.stack(
            [
                np.exp(rng.uniform(np.log(0.7), np.log(30), count)),
                rng.normal(0, 0.6, count),
                rng.random(count) ** 2,
                rng.uniform(0.02, 0.5, count),
            ],
            -1,
        ),
        "floor_one": _join(_wall_colour(rng, count), rng.random(count) < 0.4),
        "floor_two": _join(_wall_colour(rng, count), 0.6 * rng.random(count) ** 2),
        "floor_line": np.stack([floor_top, horizon[:, 1], rng.uniform(0.3, 2, count), blurred], -1),
    }
    from_picture = (rng.random(count) < 0.6) if pictures else np.zeros(count, bool)
    zoom = np.exp(rng.uniform(np.log(0.4), np.log(1.0), count))
    look["wall"][:, 0] = np.where(from_picture, zoom, look["wall"][:, 0])
    look["picture"] = np.stack(
        [
            rng.integers(max(pictures, 1), size=count),
            rng.uniform(0.3, 0.7, count),
            rng.uniform(0.3, 0.7, count),
            from_picture,
        ],
        -1,
    )
    crowd = rng.integers(0, SHAPES + 1, count)
    for number in range(SHAPES):
        size = np.exp(rng.uniform(np.log(3), np.log(110), (count, 2)))
        # A few ellipses of skin colour, upright like faces and arms, that are nobody's.
        skin = rng.random((count, 1)) < 0.15
        colour = np.where(
            skin,
            _along(SKIN_TONES, rng.uniform(0, 4, count)) ** 0.4545 * rng.uniform(0.6, 1.1, (count, 1)),
            _wall_colour(rng, count),
        )
        kind = np.where(skin[:, 0], 1, rng.choice([0, 1, 2], count, p=[0.7, 0.2, 0.1]))
        turn = np.where(rng.random(count) < 0.6, 0, rng.uniform(0, np.pi, count))
        size[number >= crowd] = 1e-4
        place = rng.uniform(-0.1, 1.1, (count, 2)) * [width, height]
        look |= _shape(f"shape{number}", place, size, turn, kind, colour)
    return look


def obstacles(rng, count):
    """Things before the person, in the way: bars, boxes, discs. Most people have none."""
    width, height = IMAGE_SIZE
    number_of = rng.choice([0, 1, 2], count, p=[0.7, 0.2, 0.1])
    look = {}
    for number in range(OCCLUDERS):
        bar = rng.random(count) < 0.3
        size = np.exp(rng.uniform(np.log(5), np.log(40), (count, 2)))
        size[bar] = np.stack([rng.uniform(1.5, 8, bar.sum()), rng.uniform(60, 200, bar.sum())], -1)
        low = rng.random(count) < 0.3  # a table or a desk
        place = rng.uniform(0, 1, (count, 2)) * [width, height]
        place[low, 1] = height
        size[low] = np.stack([rng.uniform(40, 150, low.sum()), rng.uniform(10, 60, low.sum())], -1)
        size[number >= number_of] = 1e-4
        turn = np.where(low, 0, rng.uniform(0, np.pi, count))
        kind = np.where(bar | low, 0, rng.integers(0, 3, count))
        look |= _shape(f"occluder{number}", place, size, turn, kind, _wall_colour(rng, count))
    return look


def camera_faults(rng, boxes):
    """Blur, each view's own, exposure, white balance, grain. boxes [N, 2, 3]: the squares that the hand images show, in cells."""
    count, look = len(boxes), {}
    # Pixels of the video for each of I: where there are few, hands are shown larger than they were seen.
    resolution = np.exp(rng.uniform(np.log(1.2), np.log(8), count))
    enlarged = HAND_SIZE / CELL / np.maximum(boxes[..., 2], 1) / resolution[:, None]
    enlarged = np.concatenate([1 / resolution[:, None], enlarged], 1)
    for view in range(3):
        # Standard deviations in px of the view.
        coarse = 0.45 * np.sqrt(np.maximum(enlarged[:, view] ** 2 - 1, 0))
        defocus = np.where(rng.random(count) < 0.6, 0, rng.uniform(0, 1, count))
        moved = np.where(rng.random(count) < 0.2, rng.exponential(1.0, count), 0)
        angle = rng.uniform(0, np.pi, count)
        along = np.stack([np.cos(angle), np.sin(angle)], -1)
        even = np.clip(np.hypot(coarse, defocus), 0, 3)[:, None, None] * np.eye(2)
        spread = even + np.clip(moved, 0, 3)[:, None, None] * along[:, :, None] * along[:, None, :]
        look[f"blur_{view}"] = spread.reshape(count, 4)
    darker = np.clip(rng.normal(0, 0.2, count), -0.5, 0.5)
    look["exposure"] = np.stack(
        [
            np.exp(rng.normal(0, 0.16, count)),
            darker,
            np.exp(rng.normal(0, 0.12, count)),
            np.clip(rng.normal(0.95, 0.25, count), 0, 1.6),
        ],
        -1,
    )
    look["balance"] = _join(np.exp(rng.normal(0, 0.06, (count, 3))), 0)
    noisy = rng.random(count) < 0.6
    look["grain"] = np.stack(
        [
            noisy * rng.exponential(0.025, count),
            noisy * rng.exponential(0.015, count),
            np.clip(np.round(enlarged[:, 1:].mean(1)), 1, 3),
            np.zeros(count),
        ],
        -1,
    )
    return look


def pack(look):
    """The block [N, F, 4] float32 of a look that has every one of FIELDS."""
    return np.ascontiguousarray(np.stack([look[name] for name in FIELDS], 1), np.float32)


def horizon(people):
    """Where level ground ends in I [N, 2]: px down at the left-right middle, and the slope in px per px."""
    up, focal = people.up, people.matrix[:, 0, 0]
    # Directions at a right angle to up: up . ((x - cx) / f, (y - cy) / f, 1) = 0.
    steep = np.where(np.abs(up[:, 1]) < 0.2, -0.2, up[:, 1])
    slope = -up[:, 0] / steep
    middle = people.matrix[:, 1, 2] - up[:, 2] * focal / steep + slope * (IMAGE_SIZE[0] / 2 - people.matrix[:, 0, 2])
    return np.stack([middle, slope], -1)


def camera_fields(people, seeds):
    """The camera and the picture's edges. seeds [N]: of all that is random inside a program."""
    focal = people.matrix[:, 0, 0]
    return {"camera": np.stack([focal, *people.matrix[:, :2, 2].T, seeds], -1), "frame": people.frame}


def _shape(name, place, size, turn, kind, colour):
    """A flat shape: middle [N, 2] and half sizes [N, 2] px, turn [N] rad, kind [N] (0 rectangle, 1 ellipse, 2 triangle)."""
    cosine, sine = np.cos(turn), np.sin(turn)
    axes = np.stack([cosine / size[:, 0], -sine / size[:, 1], sine / size[:, 0], cosine / size[:, 1]], -1)
    return {
        name: np.stack([*place.T, kind, size.min(1)], -1),
        f"{name}_axes": axes,
        f"{name}_colour": _join(colour, 0),
    }


def _join(colours, last):
    """[N, 3] and a number or [N] as [N, 4]."""
    last = np.broadcast_to(np.asarray(last, float), len(colours))
    return np.concatenate([colours, last[:, None]], -1)


def _along(tones, place):
    """Colours [N, 3] at places [N] along a line of tones."""
    low = np.clip(place.astype(int), 0, len(tones) - 2)
    return tones[low] + (place - low)[:, None] * (tones[low + 1] - tones[low])


def _pick(rng, count, shares, values, spread):
    """One of the values [count] each, by their shares, and a little beside it."""
    return rng.choice(values, count, p=shares) + rng.normal(0, spread, count)


def _cloth_colour(rng, count):
    """Linear RGB [count, 3]: greys, blacks and whites more often than bright colours."""
    value = rng.uniform(0.01, 0.75, (count, 1)) ** 1.5
    hue = rng.dirichlet([1, 1, 1], count) * 3
    saturation = rng.beta(1.0, 2.2, (count, 1))
    return np.clip(value * (1 + saturation * (hue - 1)), 0.005, 0.85)


def _wall_colour(rng, count):
    """Colours as in a picture [count, 3]."""
    return _cloth_colour(rng, count) ** 0.4545


def _cloth(rng, count, name, plain=0.5):
    """Colours and pattern of a garment."""
    kind = np.where(rng.random(count) < plain, 0, rng.integers(1, 6, count))
    size = np.exp(rng.uniform(np.log(0.012), np.log(0.16), count))
    turn = np.where(rng.random(count) < 0.7, rng.integers(0, 2, count) * np.pi / 2, rng.uniform(0, np.pi, count))
    one, two = _cloth_colour(rng, count), _cloth_colour(rng, count)
    return {
        f"{name}_one": _join(one, 0), f"{name}_two": _join(two, 0),
        f"{name}_pattern": np.stack([kind, np.cos(turn) / size, np.sin(turn) / size, np.zeros(count)], -1),
    }  # fmt: skip
