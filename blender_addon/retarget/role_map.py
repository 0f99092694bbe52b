# SPDX-License-Identifier: GPL-3.0-or-later
"""Role maps: which bones of a character stand for which roles, kept as JSON. Presets find them by name. Numpy only, no bpy."""

import json
import re
import unicodedata
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from ..contract.npz_file import FileError, write_whole
from ..contract.skeleton import FINGERS, SIDES
from .roles import REQUIRED, ROLES

MAP_FORMAT, MAP_VERSION = "fullbody role map", 1

PRESETS = Path(__file__).parent / "maps"
"""The presets that ship, one JSON file each."""

_PREFIX_ANCHORS = ("pelvis", "head", "left_knee", "right_elbow", "left_hip", "left_shoulder")
"""Roles by whose names the prefix is found that a file's bones share."""


_DIVIDERS = str.maketrans(" .-", "___")


class RoleMapError(FileError):
    """A role map that cannot be used. The message is one sentence for the user."""


@dataclass(frozen=True)
class Switch:
    """A custom property of a bone that must hold a value while the motion plays, such as the one from IK to FK."""

    bone: str
    property: str
    value: float


@dataclass(frozen=True)
class RoleMap:
    """The bones of one character by role.

    bones      {role: names of its bones, from the upper to the lower end}; every bone has one role at most
    switches   to be set while the motion plays
    notes      one sentence for each doubt about the map
    """

    name: str
    bones: dict
    switches: tuple = ()
    notes: tuple = ()

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name:
            raise RoleMapError("A role map needs a name.")
        roles_of = {}
        for role, names in self.bones.items():
            if role not in ROLES:
                raise RoleMapError(f"There is no role {role!r}: see the table of roles.")
            if not names or isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
                raise RoleMapError(f"The role {role} needs at least one bone's name: add one, or leave the role out.")
            for name in names:
                if name in roles_of:
                    raise RoleMapError(
                        f"The bone {name} stands for both {roles_of[name]} and {role}: take it out of one of them."
                    )
                roles_of[name] = role
        ordered = {role: tuple(self.bones[role]) for role in ROLES if role in self.bones}
        object.__setattr__(self, "bones", ordered)
        object.__setattr__(self, "switches", tuple(self.switches))
        object.__setattr__(self, "notes", tuple(self.notes))

    def missing(self):
        """The required roles without a bone."""
        return tuple(role for role in REQUIRED if role not in self.bones)

    def with_bones(self, role, names):
        """The map with other bones for a role, or none; they are taken from whichever roles had them.

        Raises `RoleMapError`.
        """
        left = {
            other: tuple(name for name in had if name not in names) for other, had in self.bones.items() if other != role
        }
        return replace(
            self, bones={**{other: had for other, had in left.items() if had}, **({role: names} if names else {})}
        )

    def check(self, skeleton):
        """Raises `RoleMapError` unless the skeleton (whatever has `.names`) has every bone, and every required role has one."""
        there = set(skeleton.names)
        for role, names in self.bones.items():
            if lost := [name for name in names if name not in there]:
                raise RoleMapError(f"The character has no bone {lost[0]}, which the role map gives the role {role}.")
        if missing := self.missing():
            raise RoleMapError(f"No bone has the role {', '.join(missing)}: name the bones in a role map of your own.")

    def save(self, path):
        """Writes the map (.json) whole or not at all; notes are about one character and are left out. Raises `RoleMapError`."""
        lines = [f'"{name}": {json.dumps(value)}' for name, value in _head_of(self.name).items()]
        bones = [f"    {json.dumps(role)}: {json.dumps(names, ensure_ascii=False)}" for role, names in self.bones.items()]
        switches = [f"    {json.dumps(vars(switch), ensure_ascii=False)}" for switch in self.switches]
        lines.append('"bones": {\n' + ",\n".join(bones) + "\n  }")
        lines.append('"switches": [\n' + ",\n".join(switches) + "\n  ]" if switches else '"switches": []')
        try:
            write_whole(path, ("{\n  " + ",\n  ".join(lines) + "\n}\n").encode())
        except FileError as error:
            raise RoleMapError(str(error)) from error

    @classmethod
    def load(cls, path):
        """Reads and checks a map that was saved. Raises `RoleMapError`."""
        values = _read(path)
        if "patterns" in values:
            raise RoleMapError(f"{path} is a preset with patterns for names, not one character's role map.")
        _check_keys(values, {"bones", "switches"}, path)
        return _named(path, lambda: cls(values["name"], _name_lists(values["bones"]), _switches(values["switches"])))


@dataclass(frozen=True)
class Preset:
    """Names of bones by role, for any character that uses them.

    patterns   {role: patterns of names}: `#` stands for any digits or none; case, and which of `. _ -` or a space divides a
               name, make no difference
    """

    name: str
    patterns: dict
    switches: tuple = ()

    @classmethod
    def load(cls, path):
        """Reads a preset, or a saved map, whose names are then looked for in other characters. Raises `RoleMapError`."""
        values = _read(path)
        if "bones" in values:
            saved = RoleMap.load(path)
            # A saved name means itself, whatever signs are in it.
            return cls(
                saved.name, {role: tuple(map(_Literal, names)) for role, names in saved.bones.items()}, saved.switches
            )
        _check_keys(values, {"sides", "fingers", "patterns", "switches"}, path)
        return _named(path, lambda: _expanded(values))

    def fit(self, skeleton):
        """The `RoleMap` of the bones that the preset finds in a skeleton; roles that it does not find are left out."""
        maps = [self._fit_names(skeleton, readable) for readable in _readings(tuple(skeleton.names))]
        return max(maps, key=lambda found: sum(map(len, found.bones.values())))

    def _fit_names(self, skeleton, readable):
        """The map by names [B] as they were read; the longer of those that different prefixes give."""
        found = [self._fit_prefix(skeleton, readable, prefix) for prefix in self._prefixes(readable)]
        return max(found, key=lambda role_map: sum(map(len, role_map.bones.values())))

    def _prefixes(self, readable):
        """What may stand before all names: none, or what stands before those of the pelvis, the head and others."""
        prefixes = {""}
        for role in _PREFIX_ANCHORS:
            for pattern in self.patterns.get(role, ()):
                ending = re.compile(f"{_regex(pattern)}$").search
                prefixes |= {name[: match.start()] for name in readable if (match := ending(name))}
        return sorted(prefixes, key=len)

    def _fit_prefix(self, skeleton, readable, prefix):
        places = {}
        for place, name in enumerate(readable):
            if name.startswith(prefix):
                places.setdefault(name[len(prefix) :], []).append(place)
        taken, found = set(), {}
        for role, patterns in self.patterns.items():
            limb = found.get(role.removesuffix("_twist"), [None])[0]
            for pattern in patterns:
                fitting = [place for place in _places(pattern, places) if place not in taken]
                taken.update(fitting)
                if fitting:
                    found.setdefault(role, []).extend(_order(skeleton, fitting, limb))
        bones = {role: tuple(skeleton.names[place] for place in chosen) for role, chosen in found.items()}
        switches = tuple(
            replace(switch, bone=skeleton.names[places[_plain(switch.bone)][0]])
            for switch in self.switches
            if _plain(switch.bone) in places
        )
        return RoleMap(self.name, bones, switches)


def _order(skeleton, chosen, limb):
    """Bones of one role from the upper to the lower end; those beside a limb by how far from its first bone they start."""
    if limb is None:
        return sorted(chosen, key=lambda bone: skeleton.depth[bone])
    start = skeleton.heads[limb]
    return sorted(chosen, key=lambda bone: float(np.linalg.norm(skeleton.heads[bone] - start)))


class _Literal(str):
    """A name in which `#` means itself."""


def presets(folders=()):
    """All presets: those in `folders` (the user's own, which need not exist) first, then those that ship.

    Raises `RoleMapError` for a file that is not sound.
    """
    own = [path for folder in folders for path in sorted(Path(folder).glob("*.json"))]
    return tuple(map(Preset.load, own)) + _shipped()


@cache
def _shipped():
    return tuple(map(Preset.load, sorted(PRESETS.glob("*.json"))))


def _plain(name):
    """A bone's name as patterns see it: no namespace, small letters, one kind of divider, full-width signs as plain ones."""
    return unicodedata.normalize("NFKC", re.split(r"[:|]", name)[-1]).casefold().translate(_DIVIDERS)


@lru_cache(4)
def _readings(names):
    """Names [B] as patterns see them; a second time without the number that some exporters give every bone."""
    plain = [_plain(name) for name in names]
    numbered = [re.fullmatch(r"(.+?)_\d+", name) for name in plain]
    if sum(map(bool, numbered)) <= 0.8 * len(names):
        return (plain,)
    return plain, [match[1] if match else name for match, name in zip(numbered, plain)]


def _regex(pattern):
    return re.escape(_plain(pattern)) if isinstance(pattern, _Literal) else re.escape(_plain(pattern)).replace(r"\#", r"\d*")


def _places(pattern, places):
    """Where the names are that a pattern fits. places: {name: [place]}."""
    if "#" not in pattern or isinstance(pattern, _Literal):
        return places.get(_plain(pattern), [])
    fits = re.compile(_regex(pattern)).fullmatch
    return [place for name, all_of_it in places.items() if fits(name) for place in all_of_it]


def _expanded(values):
    """The preset of a file's values: {side} and {finger} filled in."""
    patterns, switches = {}, []
    for side, finger in [("", "")] + [(side, finger) for side in SIDES for finger in ("", *FINGERS)]:
        words = {"side": values["sides"].get(side, ""), "finger": values["fingers"].get(finger, "")}
        for role, names in _name_lists(values["patterns"]).items():
            if ("{side}" in role, "{finger}" in role) == (bool(side), bool(finger)) and (words["finger"] or not finger):
                patterns[role.format(side=side, finger=finger)] = tuple(name.format(**words) for name in names)
        switches += [
            replace(switch, bone=switch.bone.format(**words))
            for switch in _switches(values["switches"])
            if ("{side}" in switch.bone) == bool(side) and not finger
        ]
    if unknown := sorted(set(patterns) - set(ROLES)):
        raise ValueError(f"{unknown[0]!r} is no role")
    return Preset(values["name"], {role: patterns[role] for role in ROLES if role in patterns}, tuple(switches))


def _head_of(name):
    return {"format": MAP_FORMAT, "version": MAP_VERSION, "name": name}


def _read(path):
    """The values of a map's or preset's file without its format and version. Raises `RoleMapError`."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RoleMapError(f"There is no role map at {path}.") from error
    except (OSError, ValueError) as error:
        raise RoleMapError(f"{path} is not a role map, or it was cut short.") from error
    if not isinstance(values, dict) or values.pop("format", None) != MAP_FORMAT:
        raise RoleMapError(f"{path} is not a role map.")
    if (version := values.pop("version", None)) != MAP_VERSION:
        raise RoleMapError(f"{path} is a role map of version {version}; this version of the add-on reads {MAP_VERSION}.")
    return values


def _check_keys(values, names, path):
    if misfit := sorted((names | {"name"}) ^ set(values)):
        raise RoleMapError(f"{path} lacks or has an unknown {misfit[0]}.")


def _named(path, make):
    """What `make` gives; its errors name the file."""
    try:
        return make()
    except RoleMapError as error:
        raise RoleMapError(f"{path}: {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise RoleMapError(f"{path} is not a sound role map: {error}.") from error


def _name_lists(bones):
    if not isinstance(bones, dict) or not all(isinstance(names, list) for names in bones.values()):
        raise ValueError("each role needs a list of names")
    return {role: tuple(names) for role, names in bones.items()}


def _switches(values):
    switches = tuple(Switch(**value) for value in values)
    for switch in switches:
        if not isinstance(switch.bone, str) or not isinstance(switch.property, str):
            raise ValueError("a switch needs a bone's and a property's name")
        if isinstance(switch.value, bool) or not isinstance(switch.value, (int, float)):
            raise ValueError(f"the switch {switch.property} needs a number")
    return switches
