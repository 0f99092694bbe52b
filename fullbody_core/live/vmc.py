"""The stream for programs that move VRM avatars: Virtual Motion Capture's protocol, OSC over UDP, to any machine.

Source: the protocol's public description (protocol.vmc.info), the part of a sender ("Performer"), version 2.7. A frame becomes

    /VMC/Ext/OK         loaded, calibration state, calibration mode, tracking state
    /VMC/Ext/T          the frame's time, s
    /VMC/Ext/Root/Pos   "root", position, rotation: stays at the origin; the hips carry the person
    /VMC/Ext/Bone/Pos   each of Unity's humanoid bones: name, position m and rotation, both relative to its parent
    /VMC/Ext/Blend/Val  each expression: name, 0..1
    /VMC/Ext/Blend/Apply

Expressions keep ARKit's names, which avatars made for "perfect sync" have. All others have VRM's own few, which follow from them.
Bones turn away from a T-pose without rotations, which is both VRM's rest pose and the body's; their positions are the captured
person's. An avatar without an upper chest bone, which VRM leaves open, lacks that joint's bend.

Nothing is encrypted and anybody who listens at the receiver's port may be fooled by others: use it within a network you trust.
"""

import re
import socket

import numpy as np
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import build_msg

from ..contract.frames import MIRROR, MIRROR_TURN, REST_TO_WORLD, pose_to_quaternions
from ..contract.skeleton import FINGERS, JOINT_NAMES, PARENTS, SIDES
from ..contract.vrm_presets import PRESETS, has_presets, preset_values

PORT = 39539
"""Where receivers of this protocol listen unless told otherwise."""

MAX_DATAGRAM = 1400
"""bytes. What passes through common networks in one piece."""

_BODY_BONES = {
    "pelvis": "Hips", "spine1": "Spine", "spine2": "Chest", "spine3": "UpperChest", "neck": "Neck", "head": "Head",
    "hip": "UpperLeg", "knee": "LowerLeg", "ankle": "Foot", "foot": "Toes",
    "collar": "Shoulder", "shoulder": "UpperArm", "elbow": "LowerArm", "wrist": "Hand",
}  # fmt: skip
_FINGER_BONES = {
    f"{finger}{number}": f"{'Little' if finger == 'pinky' else finger.capitalize()}{part}"
    for finger in FINGERS
    for number, part in enumerate(("Proximal", "Intermediate", "Distal"), 1)
}


def _bone_name(joint):
    side, _, name = joint.partition("_")
    if side not in SIDES:
        return _BODY_BONES[joint]
    return side.capitalize() + (_BODY_BONES | _FINGER_BONES)[name]


BONE_NAMES = tuple(_bone_name(joint) for joint in JOINT_NAMES)
"""Unity's name (HumanBodyBones) of each of the 52 joints."""

_CALIBRATED, _UNCALIBRATED = 3, 0
_OFFSETS = np.array([0, *PARENTS[1:]])


class VmcError(ValueError):
    """A receiver that cannot be sent to. The message is one sentence for the user."""


def parse_address(text):
    """(host, port) of HOST or HOST:PORT, with an IPv6 address in brackets. Raises `VmcError`."""
    found = re.fullmatch(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^:\[\]\s]+))(?::(?P<port>\d{1,5}))?", text.strip())
    port = int(found["port"] or PORT) if found else 0
    if not 0 < port < 65536:
        raise VmcError(f"{text!r} is no address to send to: give HOST:PORT, such as 127.0.0.1:{PORT}.")
    return found["six"] or found["host"], port


def to_unity(rest_joints, poses, trans):
    """A pose in Unity's axes: local positions [52, 3] m and rotations [52, 4] XYZW of the bones in `BONE_NAMES`' order.

    rest_joints [52, 3] m in the rest frame, poses [156] axis-angle rad, trans [3] m: as in a capture file.

    Unity is left-handed: x right, y up, z forward, and an avatar faces z. That is the rest frame seen in a looking glass across x
    (the person's left becomes -x, and stays the left), so vectors are mirrored, and rotations on both sides: their axes, which
    are no vectors but turning senses, keep x and lose y and z. Who faces the camera in the world faces z.
    """
    rest_joints = np.asarray(rest_joints, float)
    positions = rest_joints - rest_joints[_OFFSETS]
    # The pelvis stands at trans + J0 with J0's rest-frame numbers taken as they are (AMASS).
    positions[0] = REST_TO_WORLD.T @ (np.asarray(trans, float) + rest_joints[0])
    quaternions = pose_to_quaternions(np.reshape(poses, (1, -1)))[0]
    return positions @ MIRROR, np.concatenate([quaternions[:, 1:] * MIRROR_TURN, quaternions[:, :1]], -1)


class VmcSender:
    """Sends frames to one receiver. Nothing waits for it, and whether it is there makes no difference.

    failed: how many datagrams the system refused, such as with nobody at the port or a network that is down
    """

    def __init__(self, host, port, expression_names, rest_joints):
        """expression_names [E]: the stream's; rest_joints: function of betas [B] that gives the body's joints [52, 3] m at rest.

        The host is looked up here, once. Raises `VmcError`.
        """
        try:
            family, _, _, _, self._address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise VmcError(f"There is no host {host} to send to: give HOST:PORT, such as 127.0.0.1:{PORT}.") from error
        self._socket.setblocking(False)
        self._names = tuple(expression_names)
        self._has_presets = has_presets(self._names)
        self._rest_joints, self._revision, self._joints = rest_joints, None, None
        self._datagrams = _datagrams(self._names + PRESETS * self._has_presets)
        self.failed = 0

    def send(self, frame, person):
        """Sends a `Frame` and the `Person` it is of."""
        for datagram in self.encode(frame, person):
            try:
                self._socket.sendto(datagram, self._address)
            except OSError:  # full, refused, unreachable: the next frame may get through
                self.failed += 1

    def encode(self, frame, person):
        """The datagrams, bytes each, of a `Frame` and the `Person` it is of."""
        if person.revision != self._revision:
            self._joints, self._revision = np.asarray(self._rest_joints(person.betas), float), person.revision
        positions, rotations = to_unity(self._joints, frame.poses, frame.trans)
        state = [1, _CALIBRATED if person.settled else _UNCALIBRATED, 0, int(frame.valid[0])]
        expression = [np.clip(frame.expression, 0, 1)]
        if self._has_presets:
            expression.append(preset_values(self._names, frame.expression))
        root = [frame.timestamp, 0, 0, 0, 0, 0, 0, 1]
        numbers = np.concatenate([root, np.hstack([positions, rotations]).ravel(), *expression])
        # OSC's numbers are 32 bits, big endian, and so are all places in its datagrams.
        words = np.concatenate([np.asarray(state, ">i4").view(">u4"), numbers.astype(">f4").view(">u4")])
        for datagram, places, chosen in self._datagrams:
            datagram[places] = words[chosen]
        return [datagram.tobytes() for datagram, _, _ in self._datagrams]

    def close(self):
        self._socket.close()


def _datagrams(expression_names):
    """The bundles of a frame with nothing filled in: [words, places of the numbers, which of the frame's numbers go there].

    Composing some hundred messages takes milliseconds and gives the same bytes but for the numbers, so it is done once.
    """
    messages = [("/VMC/Ext/OK", [0] * 4, 4), ("/VMC/Ext/T", [0.0], 1), ("/VMC/Ext/Root/Pos", ["root", *[0.0] * 7], 7)]
    messages += [("/VMC/Ext/Bone/Pos", [name, *[0.0] * 7], 7) for name in BONE_NAMES]
    messages += [("/VMC/Ext/Blend/Val", [name, 0.0], 1) for name in expression_names]
    messages += [("/VMC/Ext/Blend/Apply", [], 0)]
    bundles, first = [_Bundle()], 0
    for address, values, count in messages:
        message = build_msg(address, values)
        if bundles[-1].size + 4 + message.size > MAX_DATAGRAM:
            bundles.append(_Bundle())
        bundles[-1].add(message, range(first, first + count))
        first += count
    return [bundle.build() for bundle in bundles]


class _Bundle:
    """A bundle in the making; a message's numbers are its last words."""

    def __init__(self):
        self.size = 16  # "#bundle" and the time
        self._builder, self._places, self._chosen = OscBundleBuilder(IMMEDIATELY), [], []

    def add(self, message, numbers):
        self.size += 4 + message.size
        self._builder.add_content(message)
        self._places += range(self.size // 4 - len(numbers), self.size // 4)
        self._chosen += numbers

    def build(self):
        words = np.frombuffer(self._builder.build().dgram, ">u4").copy()
        return words, np.array(self._places, int), np.array(self._chosen, int)
