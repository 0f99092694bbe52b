# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VRM file says of its humanoid bones: it is a glTF binary whose JSON names the node of each. No bpy, no VRM add-on.

VRM 0 has a list, extensions.VRM.humanoid.humanBones: [{bone, node}]; VRM 1 an object,
extensions.VRMC_vrm.humanoid.humanBones: {bone: {node}}.
"""

import json
import struct

from ...contract.npz_file import FileError
from ...contract.skeleton import FINGERS, SIDES
from ..role_map import RoleMap

_MAGIC, _JSON_CHUNK = b"glTF", 0x4E4F534A
_LONGEST_NAME = 63
"""Bytes of a bone's name in Blender."""

_LIMBS = {
    "collar": "Shoulder", "shoulder": "UpperArm", "elbow": "LowerArm", "wrist": "Hand",
    "hip": "UpperLeg", "knee": "LowerLeg", "ankle": "Foot", "foot": "Toes",
}  # fmt: skip
_SEGMENTS = ("Proximal", "Intermediate", "Distal")


class VrmError(FileError):
    """A VRM file that cannot be used. The message is one sentence for the user."""


def humanoid_roles(version):
    """{role: VRM's names of its bones} of VRM 0 or 1, which name the thumb's bones differently."""
    roles = {"pelvis": ("hips",), "spine": ("spine", "chest", "upperChest"), "neck": ("neck",), "head": ("head",)}
    for side in SIDES:
        roles |= {f"{side}_{limb}": (side + name,) for limb, name in _LIMBS.items()}
        for finger in FINGERS:
            segments = ("Metacarpal", *_SEGMENTS[::2]) if finger == "thumb" and version else _SEGMENTS
            name = side + ("Little" if finger == "pinky" else finger.title())
            roles |= {f"{side}_{finger}{number}": (name + segment,) for number, segment in enumerate(segments, 1)}
    return roles


def read_glb(path):
    """A glTF binary's JSON as a dict, and the bytes of its further chunks with their headers. Raises `VrmError`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VrmError(f"Cannot read {path}: {error.strerror}.") from error
    try:
        magic, version, size = struct.unpack_from("<4sII", content)
        length, kind = struct.unpack_from("<II", content, 12)
        document = json.loads(content[20 : 20 + length])
        whole = len(content) >= size and (magic, version, kind) == (_MAGIC, 2, _JSON_CHUNK) and isinstance(document, dict)
    except (struct.error, ValueError):
        whole = False
    if not whole:
        raise VrmError(f"{path} is not a glTF binary (.glb, .vrm), or it was cut short.")
    return document, content[20 + length : size]


def glb_bytes(document, further):
    """A glTF binary with this JSON and these further chunks."""
    text = json.dumps(document, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 4)
    header = struct.pack("<4sIIII", _MAGIC, 2, 20 + len(text) + len(further), len(text), _JSON_CHUNK)
    return header + text + further


def humanoid_map(document, path):
    """The `RoleMap` of a VRM file's JSON by the names of its nodes, or None where it names no humanoid bones.

    Nodes whose names Blender could not keep as they are get names of their own in `document`. Raises `VrmError`.
    """
    version, nodes = _humanoid(document, path)
    if not nodes:
        return None
    _name_nodes(document["nodes"], nodes.values())
    roles = {
        role: tuple(document["nodes"][nodes[bone]]["name"] for bone in bones if bone in nodes)
        for role, bones in humanoid_roles(version).items()
    }
    return RoleMap(f"VRM {version}", {role: names for role, names in roles.items() if names})


def _humanoid(document, path):
    """The version, 0 or 1, and {humanoid bone: node}."""
    try:
        extensions = document.get("extensions", {})
        if "VRMC_vrm" in extensions:
            version, bones = 1, extensions["VRMC_vrm"]["humanoid"]["humanBones"]
            nodes = {str(bone): entry["node"] for bone, entry in bones.items()}
        elif "VRM" in extensions:
            version, bones = 0, extensions["VRM"]["humanoid"]["humanBones"]
            nodes = {str(entry["bone"]): entry["node"] for entry in bones}
        else:
            return 0, {}
        # VRM 0 writes -1 where a bone is left out.
        nodes = {bone: node for bone, node in nodes.items() if node != -1}
        if all(isinstance(node, int) and 0 <= node < len(document["nodes"]) for node in nodes.values()):
            return version, nodes
    except (AttributeError, KeyError, TypeError):
        pass
    raise VrmError(f"{path} does not say which nodes are its humanoid bones: export it again from a VRM program.")


def _name_nodes(nodes, wanted):
    """Gives each wanted node a name that no other has and that is short enough."""
    names = [node.get("name") for node in nodes]
    for number in wanted:
        name = names[number]
        if not name or names.count(name) > 1 or len(name.encode()) > _LONGEST_NAME:
            names[number] = nodes[number]["name"] = f"humanoid node {number}"
