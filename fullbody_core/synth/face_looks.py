"""How synthetic heads look beyond their 3DMM: hair, neck, clothes, glasses, backdrop, hands and things before the face.

Everything is drawn for N heads at once, as the numbers that `face_shaders` reads: a dictionary of [N, 4] arrays named as
FACE_FIELDS. `spoil` is what cameras, networks and codecs do to pictures.
"""

import cv2
import numpy as np

from ..face.illumination import SH_CONSTANTS
from .appearance import HAIR_TONES, SKIN_TONES
from .face_shaders import FACE_FIELDS, OCCLUDERS, SHAPES

_HARMONICS = np.array(SH_CONSTANTS)


def pack(look):
    """The block [N, F, 4] float32 of a look that has every one of FACE_FIELDS."""
    return np.ascontiguousarray(np.stack([look[name] for name in FACE_FIELDS], 1), np.float32)


def camera_and_light(rng, heads):
    """The fields that follow from `FaceParameters`."""
    count = len(heads)
    pose = np.concatenate([heads.rotation, heads.translation[..., None]], -1)
    light = heads.illumination * _HARMONICS  # [N, 3, 9]
    look = {name: pose[:, row] for row, name in enumerate(("pose_x", "pose_y", "pose_z"))}
    look |= {f"light{number}": _join(light[..., number], 0) for number in range(light.shape[-1])}
    look["camera"] = np.stack([1 / heads.half_view, rng.uniform(0, 50, count), *np.zeros((2, count))], -1)
    towards = light[:, :, [3, 1, 2]].mean(1)
    towards /= np.maximum(np.linalg.norm(towards, axis=-1, keepdims=True), 1e-9)
    look["lamp"] = _join(towards, rng.uniform(0.2, 1.2, count))
    return look


def dress(rng, skin, measures):
    """Hair, clothes, glasses and the skin's finish. skin [N, 3]: linear RGB of each face; measures: `HeadMeasures`."""
    count = len(skin)
    dark = np.clip(1 - skin[:, 1] / SKIN_TONES[0, 1], 0, 1)
    shade = np.where(
        rng.random(count) < 0.25 + 0.6 * dark, rng.uniform(0, 1.2, count), rng.uniform(0, len(HAIR_TONES) - 1, count)
    )
    low = shade.astype(int).clip(0, len(HAIR_TONES) - 2)
    hair = HAIR_TONES[low] + (shade - low)[:, None] * (HAIR_TONES[low + 1] - HAIR_TONES[low])
    hair = np.where(rng.random((count, 1)) < 0.03, rng.random((count, 3)) ** 2 * 0.6, hair * rng.normal(1, 0.1, (count, 3)))
    haired = rng.random(count) > 0.1
    fringe = rng.random(count) < 0.2
    forehead = measures.crown[1] - measures.brow[1]
    line = measures.brow[1] + forehead * np.where(fringe, rng.uniform(0.05, 0.5, count), rng.uniform(0.5, 0.75, count))
    side = np.where(
        rng.random(count) < 0.6, measures.ear[1] + rng.uniform(0, 0.03, count), line - rng.uniform(0, 0.1, count)
    )
    long = rng.random(count) < 0.4
    worn = rng.random(count) < 0.2
    tinted = rng.random((count, 1)) < 0.25
    lips = np.where(tinted, rng.uniform([0.7, 0.4, 0.45], [1.2, 1.0, 1.05], (count, 3)), 1.0)
    edges = np.where(rng.random(count) < 0.4, rng.uniform(0, 0.8, count), 0)
    clear = rng.random(count) < 0.8
    return {
        "skin": _join(np.clip(skin, 0.01, 1), np.where(rng.random(count) < 0.5, 0, rng.uniform(0, 1, count))),
        "surface": np.stack(
            [
                rng.uniform(0, 0.18, count),
                np.exp(rng.uniform(np.log(40), np.log(400), count)),
                rng.uniform(0.2, 1.0, count),
                np.where(rng.random(count) < 0.1, rng.uniform(0, 0.4, count), 0),
            ],
            -1,
        ),
        "lips": _join(lips, edges),
        "hair": _join(np.clip(hair, 0.003, 1), haired),
        "hairline": np.stack([line, side, rng.uniform(0, 0.016, count), rng.uniform(-0.01, 0.03, count)], -1),
        "mane": np.stack(
            [rng.uniform(0, 0.03, count), long, rng.uniform(-0.05, 0.12, count), rng.uniform(0.8, 1.1, count)], -1
        ),
        "cloth": _join(_colours(rng, count), 0),
        "collar": np.stack([rng.uniform(-0.03, 0.05, count), *np.zeros((3, count))], -1),
        "glasses": _join(np.where(rng.random((count, 1)) < 0.6, 0.02, _colours(rng, count)), worn),
        "lenses": _join(
            np.where(clear[:, None], rng.uniform(0.3, 1.5, (count, 1)), np.full(3, 0.02)),
            np.where(clear, rng.uniform(0, 0.25, count), rng.uniform(0.6, 1, count)),
        ),
    }


def surroundings(rng, count):
    """Backdrop, and things and hands before the face. Two thirds of the faces have nothing before them."""
    soft = rng.choice([1.0, 4.0, 14.0], count, p=[0.4, 0.3, 0.3])
    look = {
        "wall_one": _join(_seen_colours(rng, count), 0),
        "wall_two": _join(_seen_colours(rng, count), 0),
        "wall": np.stack(
            [
                np.exp(rng.uniform(np.log(0.5), np.log(10), count)),
                rng.normal(0, 0.2, count),
                rng.uniform(0, 1.5, count) * (rng.random(count) < 0.75),
                np.where(rng.random(count) < 0.15, rng.uniform(1, 6, count), 0),
            ],
            -1,
        ),
    }
    crowd = rng.integers(0, SHAPES + 1, count)
    for number in range(SHAPES):
        size = np.exp(rng.uniform(np.log(0.1), np.log(1.5), (count, 2)))
        size[number >= crowd] = 1e-4
        kind, place = rng.integers(0, 2, count), rng.uniform(-1.2, 1.2, (count, 2))
        turn = np.where(rng.random(count) < 0.6, 0, rng.uniform(0, np.pi, count))
        look |= _shape(f"shape{number}", place, size, turn, kind, _seen_colours(rng, count), soft)
    before = rng.choice(OCCLUDERS + 1, count, p=[0.65, 0.25, 0.07, 0.03])
    for number in range(OCCLUDERS):
        look |= _obstacle(rng, count, f"occluder{number}", number < before)
    return look


def _obstacle(rng, count, name, there):
    """A hand, a strand or bar, a box or a disc in the way, mostly at the face's edge."""
    kind = rng.choice([0, 1, 2], count, p=[0.3, 0.25, 0.45])
    bar = (kind == 0) & (rng.random(count) < 0.6)
    size = np.exp(rng.uniform(np.log(0.15), np.log(0.6), (count, 2)))
    size[bar] = np.stack([rng.uniform(0.015, 0.08, bar.sum()), rng.uniform(1, 3, bar.sum())], -1)
    hands = kind == 2
    size[hands] = rng.uniform(0.3, 0.55, (hands.sum(), 1))
    size[~there] = 1e-4
    angle, away = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.4, 1.3, count)
    place = np.stack([np.cos(angle), np.sin(angle)], -1) * away[:, None]
    pale = rng.uniform(0, len(SKIN_TONES) - 1, count)
    low = pale.astype(int).clip(0, len(SKIN_TONES) - 2)
    skin = SKIN_TONES[low] + (pale - low)[:, None] * (SKIN_TONES[low + 1] - SKIN_TONES[low])
    skin = np.clip(skin, 0, 1) ** 0.4545 * rng.uniform(0.7, 1.1, (count, 1))
    colour = np.where(hands[:, None], skin, _seen_colours(rng, count))
    return _shape(name, place, size, rng.uniform(0, 2 * np.pi, count), kind, colour, np.full(count, 1.0))


def _shape(name, place, size, turn, kind, colour, soft):
    """A flat shape: middle [N, 2] and half sizes [N, 2] in half-widths of the crop, turn [N] rad, colours as in a picture."""
    cosine, sine = np.cos(turn), np.sin(turn)
    axes = np.stack([cosine / size[:, 0], -sine / size[:, 1], sine / size[:, 0], cosine / size[:, 1]], -1)
    return {
        name: np.stack([*place.T, kind, size.min(1)], -1),
        f"{name}_axes": axes,
        f"{name}_colour": _join(colour, soft),
    }


def spoil(rng, pictures):
    """What cameras and codecs do to crops [N, H, H, 3] uint8, in place: few pixels, blur, contrast, colour, noise, JPEG."""
    count, side = len(pictures), pictures.shape[1]
    few = np.where(rng.random(count) < 0.3, np.exp(rng.uniform(np.log(0.3), 0, count)), 1.0)
    blur = np.where(rng.random(count) < 0.35, rng.exponential(0.7, count), 0)
    smear = np.where(rng.random(count) < 0.12, rng.uniform(1, 4, count), 0)
    contrast, bright = np.exp(rng.normal(0, 0.1, count)), rng.normal(0, 0.03, count)
    vivid = np.clip(rng.normal(1, 0.15, count), 0, 1.6)
    vivid[rng.random(count) < 0.03] = 0
    noisy = np.where(rng.random(count) < 0.5, rng.exponential(4.0, count), 0)
    coded = np.where(rng.random(count) < 0.3, rng.integers(15, 80, count), 0)
    angle = rng.uniform(0, np.pi, count)
    for index in range(count):
        picture = pictures[index]
        if few[index] < 0.97:
            small = max(8, round(side * few[index]))
            picture = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
            picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR)
        if blur[index] > 0.25:
            picture = cv2.GaussianBlur(picture, (0, 0), min(blur[index], 2.5))
        if smear[index]:
            picture = cv2.filter2D(picture, -1, _streak(smear[index], angle[index]))
        picture = cv2.transform(picture, _colour_change(vivid[index], contrast[index], bright[index]))
        if noisy[index] > 0.5:
            noise = np.empty(picture.shape, np.int16)
            cv2.setRNGSeed(int(rng.integers(2**31)))
            cv2.randn(noise, 0, min(noisy[index], 14))
            picture = cv2.add(picture, noise, dtype=cv2.CV_8U)
        if coded[index]:
            packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(coded[index])])[1]
            picture = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        pictures[index] = picture


def _colour_change(vivid, contrast, bright):
    """The 3 x 4 matrix that changes an 8-bit picture's saturation, contrast and brightness."""
    grey = np.array([0.3, 0.59, 0.11])
    matrix = contrast * (vivid * np.eye(3) + (1 - vivid) * grey)
    return np.concatenate([matrix, np.full((3, 1), 127.5 * (1 - contrast) + 255 * bright)], 1)


def _streak(length, angle):
    """A kernel that smears along one direction by about so many px."""
    side = 2 * int(np.ceil(length)) + 1
    y, x = np.mgrid[:side, :side] - side // 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.clip(length / 2 + 0.5 - abs(along), 0, 1) * np.clip(1 - abs(across), 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def _join(colours, last):
    """[N, 3] and a number or [N] as [N, 4]."""
    last = np.broadcast_to(np.asarray(last, float), len(colours))
    return np.concatenate([colours, last[:, None]], -1)


def _colours(rng, count):
    """Linear RGB [count, 3]: greys, blacks and whites more often than bright colours."""
    value = rng.uniform(0.01, 0.8, (count, 1)) ** 1.5
    hue = rng.dirichlet([1, 1, 1], count) * 3
    return np.clip(value * (1 + rng.beta(1.0, 2.0, (count, 1)) * (hue - 1)), 0.005, 0.9)


def _seen_colours(rng, count):
    """Colours as in a picture [count, 3]."""
    return _colours(rng, count) ** 0.4545
