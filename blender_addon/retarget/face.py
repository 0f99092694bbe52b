# SPDX-License-Identifier: GPL-3.0-or-later
"""From a capture's expressions to a character's shape keys, whatever those are called. Numpy only, no bpy.

A face map says what each shape key shows: a weighted sum of expressions. Expressions have ARKit's names; besides, "vrm.A" and the
like stand for what VRM's own few expressions follow from (see `contract.vrm_presets`). Where nobody gives a map, the add-on's own
are tried one after another on every mesh, the most faithful first, and none shows again what one before it has shown.
"""

import json
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from ..contract.npz_file import FileError, write_whole
from ..contract.vrm_presets import PRESET_SOURCES, PRESETS, both, has_presets, preset_values

FORMAT_NAME = "fullbody-face-map"
FORMAT_VERSION = 1
_FOLDER = Path(__file__).parent / "faces"

FACE_MAPS = ("arkit_parted", "vroid", "visemes", "vrm", "vrm0", "mmd")
"""The add-on's own maps in the order in which they are tried, after shape keys with the expressions' own names."""

PRESET_PREFIX = "vrm."

_SIDED = (
    *(
        "browDown",
        "browOuterUp",
        "cheekSquint",
        "eyeBlink",
        "eyeLookDown",
        "eyeLookIn",
        "eyeLookOut",
        "eyeLookUp",
        "eyeSquint",
    ),
    *("eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp"),
    "noseSneer",
)
_MIDDLE = (
    *("browInnerUp", "cheekPuff", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel", "mouthLeft"),
    *("mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "tongueOut"),
)
ARKIT = tuple(sorted([*_MIDDLE, *(side for name in _SIDED for side in both(name))]))
"""ARKit's 52 expressions."""

_PARTED = ("browInnerUp", "cheekPuff")
"""Expressions that some faces have for either side, and ARKit for both at once."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\dA-Za-z_]+")
_COPY = re.compile(r"\.\d{3}$")
_SIDE_WORDS = {"l": "left", "r": "right", "left": "left", "right": "right"}


class FaceMapError(FileError):
    """A face map that cannot be used. The message is one sentence for the user."""


@dataclass(frozen=True)
class FaceMap:
    """What shape keys show.

    keys       {shape key: {expression: weight}}
    gain       times which the sum of the weighted expressions is taken; offset: what is added to it
    at_least   how many of its keys a mesh must have, that it is taken for one of this kind
    """

    name: str
    keys: dict
    gain: float = 1.0
    offset: float = 0.0
    at_least: int = 1

    def save(self, path):
        """Writes the file whole or not at all. Raises `FaceMapError`."""
        content = {"format": FORMAT_NAME, "version": FORMAT_VERSION, "name": self.name}
        content |= {"gain": self.gain, "offset": self.offset, "at_least": self.at_least, "keys": self.keys}
        try:
            write_whole(path, json.dumps(content, indent=2, ensure_ascii=False).encode())
        except FileError as error:
            raise FaceMapError(str(error)) from error

    @classmethod
    def load(cls, path):
        """Reads and checks a file. Raises `FaceMapError` for anything that is not exactly a face map of this version."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise FaceMapError(f"Cannot read the face map {path}: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise FaceMapError(f"{path} is not a face map.") from error
        return cls(**_checked(content, path))


def _checked(content, path):
    """The fields of a face map that was read from `path`. Raises `FaceMapError`."""
    version = content.pop("version", None) if isinstance(content, dict) else None
    if type(version) is not int or content.pop("format", None) != FORMAT_NAME:
        raise FaceMapError(f"{path} is not a face map.")
    if version > FORMAT_VERSION:
        raise FaceMapError(
            f"{path} was written by a newer version (format {version}; this one reads {FORMAT_VERSION}): update the add-on."
        )
    if unknown := sorted(set(content) - {"name", "keys", "gain", "offset", "at_least"}):
        raise FaceMapError(f"The face map {path} has unknown {', '.join(unknown)}.")
    keys = content.get("keys")
    if not isinstance(content.get("name"), str) or not isinstance(keys, dict) or not keys:
        raise FaceMapError(f"The face map {path} should have a name, and keys with what each shows.")
    if type(content.get("at_least", 1)) is not int or not all(_is_number(content.get(n, 0)) for n in ("gain", "offset")):
        raise FaceMapError(f"In the face map {path}, gain and offset should be numbers and at_least a whole one.")
    for key, weights in keys.items():
        if not isinstance(weights, dict) or not weights or not all(map(_is_number, weights.values())):
            raise FaceMapError(f"The face map {path} should say for {key} which expressions it shows, each with a number.")
        unknown = [name for name in weights if name.startswith(PRESET_PREFIX) and name[len(PRESET_PREFIX) :] not in PRESETS]
        if unknown:
            raise FaceMapError(f"The face map {path} names {unknown[0]}, which is none of VRM's expressions.")
    return content


def _is_number(value):
    return type(value) in (int, float) and bool(np.isfinite(value))


@cache
def own_maps():
    """The add-on's own maps in the order in which they are tried."""
    return tuple(FaceMap.load(_FOLDER / f"{name}.json") for name in FACE_MAPS)


@dataclass(frozen=True)
class Expressions:
    """What a face does over T frames.

    values    {expression: [T]}: the captured ones and what follows from them
    captured  names of the captured ones, as `values` has them
    origins   {expression: names of the captured ones that it follows from}, of those that follow from others
    """

    values: dict
    captured: tuple
    origins: dict = field(default_factory=dict)

    def origin(self, name):
        return set(self.origins.get(name, (name,)))


def read_expressions(names, expression):
    """`Expressions` of a capture's expression [T, E] with names [E]: ARKit's, ICT-FaceKit's or any other."""
    names, expression = tuple(map(_plain, names)), np.asarray(expression, float)
    values, origins = dict(zip(names, expression.T)), {}
    for name in _PARTED:
        sides = both(name)
        if name not in values and all(side in values for side in sides):
            values[name], origins[name] = (values[sides[0]] + values[sides[1]]) / 2, sides
        elif name in values:
            for side in sides:
                if side not in values:
                    values[side], origins[side] = values[name], (name,)
    if has_presets(names):
        presets = preset_values(tuple(values), np.stack(list(values.values()), -1))
        for preset, column in zip(PRESETS, presets.T):
            values[PRESET_PREFIX + preset] = column
            origins[PRESET_PREFIX + preset] = tuple(
                source for name in PRESET_SOURCES[preset] for source in origins.get(name, (name,))
            )
    return Expressions(values, names, origins)


def _plain(name):
    """An expression's name as ARKit writes it: browDown_L is browDownLeft."""
    return {"_L": name[:-2] + "Left", "_R": name[:-2] + "Right"}.get(name[-2:], name)


def key_weights(key_names, expressions, face_map=None):
    """What the shape keys [K] of one mesh show of `Expressions`: {key: ({expression: weight}, gain, offset)}.

    A `face_map` counts alone; else the keys with the expressions' own names do, and then the add-on's own maps, each for what
    the ones before it did not reach.
    """
    by_name = FaceMap("same names", {name: {name: 1.0} for name in expressions.captured})
    found, reached = {}, set()
    for tried in [face_map] if face_map else [by_name, *own_maps()]:
        reached_now = set()
        for key, meant in matching_keys(key_names, tried).items():
            weights = {name: weight for name, weight in tried.keys[meant].items() if name in expressions.values}
            shown = set().union(*map(expressions.origin, weights))
            if shown and key not in found and not shown & reached:
                found[key] = weights, tried.gain, tried.offset
                reached_now |= shown
        reached |= reached_now
    return found


def found_map(key_names, name):
    """The `FaceMap` that a face with ARKit's expressions would go by on meshes with shape keys [[K]], to be saved and changed.

    Raises `FaceMapError` where no shape key shows anything.
    """
    arkit = read_expressions(ARKIT, np.zeros((0, len(ARKIT))))
    keys = {key: weights for names in key_names for key, (weights, _, _) in key_weights(names, arkit).items()}
    if not keys:
        raise FaceMapError("No shape key is known by its name: write a face map by hand (see the documentation).")
    return FaceMap(name, keys)


def matching_keys(key_names, face_map):
    """{shape key: the map's name of it} of those of a mesh's shape keys [K] that a map means.

    Names are the same whatever their case, their word breaks and the way they say left and right, and may all have one and the
    same prefix. So "Mouth_Smile.L" and "head_mouthSmileLeft" are mouthSmileLeft; that of some other prefix would be a corrective.
    """
    meant = {"".join(_words(name)): name for name in face_map.keys}
    candidates = {}
    for key in key_names:
        words = _words(key)
        first = next((start for start in range(len(words)) if "".join(words[start:]) in meant), None)
        if key in face_map.keys:
            candidates[key] = (), key
        elif first is not None:
            candidates[key] = words[:first], meant["".join(words[first:])]
    counts = Counter(prefix for prefix, _ in candidates.values())
    usual = max(counts, key=lambda prefix: (counts[prefix], -len(prefix)), default=())
    found = {}
    # One key for each name: of "jawOpen" and "jawOpen.001" or "Jaw_Open" the one that is spelt as in the map, else the first.
    for key, (prefix, name) in sorted(candidates.items(), key=lambda item: item[0] not in face_map.keys):
        if (prefix == usual or key in face_map.keys) and name not in found:
            found[name] = key
    return {key: name for name, key in found.items()} if len(found) >= face_map.at_least else {}


def _words(name):
    """A name's words in lower case, with left or right, if it is of a side, as the last."""
    words = tuple(word.casefold() for word in _WORD.findall(_COPY.sub("", unicodedata.normalize("NFKC", name))))
    return (*words[:-1], _SIDE_WORDS.get(words[-1], words[-1])) if len(words) > 1 else words


def key_values(weights, expressions, gain, offset):
    """Values [T] of a shape key that shows {expression: weight}."""
    return gain * sum(weight * expressions.values[name] for name, weight in weights.items()) + offset
