"""The stream to VRM programs: poses in Unity's axes by kinematics in both systems, and what a true OSC receiver gets."""

import socket
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_message_builder import build_msg
from pythonosc.osc_server import BlockingOSCUDPServer
from scipy.spatial.transform import Rotation

from fullbody_core.contract.frames import REST_TO_WORLD, axis_angle_to_matrix, forward_kinematics, matrix_to_axis_angle
from fullbody_core.contract.skeleton import JOINT_INDEX, JOINT_NAMES, PARENTS
from fullbody_core.contract.wire import Frame, Person
from fullbody_core.live.vmc import (
    BONE_NAMES,
    MAX_DATAGRAM,
    PORT,
    PRESETS,
    VmcError,
    VmcSender,
    parse_address,
    preset_values,
    to_unity,
)

WORLD_TO_UNITY = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Who faces the camera faces -y in the world, with the left at +x and z up; in Unity z, with the left at -x and y up."""

UPRIGHT = matrix_to_axis_angle(REST_TO_WORLD)
FACE = (
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "jawOpen",
    "mouthSmileLeft",
    "mouthSmileRight",
)


def person(revision=1, settled=True, betas=np.zeros(2)):
    return Person(revision, settled, betas, np.zeros(0), np.zeros(0), np.eye(3), np.eye(4))


def frame(poses=None, trans=(0, 0, 0), expression=(), valid=(True,) * 4, timestamp=1.5, revision=1):
    poses = standing() if poses is None else poses
    return Frame(7, revision, 0, np.array(valid), poses, np.array(trans, float), np.array(expression, float), timestamp, 0.0)


def standing(**turns):
    """poses [156] of the T-pose before the camera, with the named joints turned by axis-angle."""
    poses = np.zeros((52, 3))
    poses[0] = UPRIGHT
    for name, turn in turns.items():
        poses[JOINT_INDEX[name]] = turn
    return poses.ravel()


def unity_kinematics(positions, rotations):
    """Places [52, 3] and orientations (scipy) of a hierarchy of transforms, as Unity composes them."""
    places, turns = [], []
    for joint, parent in enumerate(PARENTS):
        own = Rotation.from_quat(rotations[joint])
        places.append(positions[joint] if parent < 0 else places[parent] + turns[parent].apply(positions[joint]))
        turns.append(own if parent < 0 else turns[parent] * own)
    return np.array(places), turns


def place_of(name, rest_joints, poses, trans=(0, 0, 0)):
    return unity_kinematics(*to_unity(rest_joints, poses, trans))[0][BONE_NAMES.index(name)]


@pytest.fixture(scope="module")
def rest_joints(body):
    return np.asarray(body.rest_joints, float)


@pytest.mark.parametrize("seed", range(5))
def test_every_joint_and_orientation_agree_in_both_systems(seed):
    rng = np.random.default_rng(seed)
    rest, turns, trans = rng.normal(size=(52, 3)), rng.normal(size=(52, 3)), rng.normal(size=3)
    joints, orientations = forward_kinematics(rest, axis_angle_to_matrix(turns), PARENTS)
    places, unity_turns = unity_kinematics(*to_unity(rest, turns.ravel(), trans))
    np.testing.assert_allclose(places, (joints + trans) @ WORLD_TO_UNITY.T, atol=1e-12)
    for world, unity in zip(orientations, unity_turns):
        left, up, front = WORLD_TO_UNITY @ world.T[..., None]
        np.testing.assert_allclose(
            unity.apply([[-1, 0, 0], [0, 1, 0], [0, 0, 1]]), np.squeeze([left, up, front]), atol=1e-12
        )


def test_rotations_are_unit_and_positions_turn_with_none_of_them(rest_joints):
    poses = np.random.default_rng(0).normal(size=156)
    positions, rotations = to_unity(rest_joints, poses, (1, 2, 3))
    np.testing.assert_allclose(np.linalg.norm(rotations, axis=1), 1)
    still, identity = to_unity(rest_joints, standing(), (1, 2, 3))
    np.testing.assert_allclose(positions, still)
    np.testing.assert_allclose(np.abs(identity), np.tile([0, 0, 0, 1], (52, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(positions[1:], axis=1) > 0, True)


def test_somebody_before_the_camera_faces_z_with_the_left_hand_on_the_left(rest_joints):
    assert (
        place_of("LeftHand", rest_joints, standing())[0] < -0.4 and place_of("RightHand", rest_joints, standing())[0] > 0.4
    )
    assert place_of("Head", rest_joints, standing())[1] > place_of("Hips", rest_joints, standing())[1] + 0.3
    assert place_of("LeftToes", rest_joints, standing())[2] > place_of("LeftFoot", rest_joints, standing())[2] + 0.05


def test_an_arm_that_is_raised_rises_and_one_that_reaches_out_comes_forward(rest_joints):
    rest = place_of("LeftHand", rest_joints, standing())
    raised = place_of("LeftHand", rest_joints, standing(left_shoulder=[0, 0, np.pi / 2]))
    forward = place_of("LeftHand", rest_joints, standing(left_shoulder=[0, -np.pi / 2, 0]))
    assert raised[1] > rest[1] + 0.3 and forward[2] > rest[2] + 0.3 and forward[0] > rest[0] + 0.3


def test_a_step_to_the_left_and_towards_the_camera(rest_joints):
    step = place_of("Hips", rest_joints, standing(), (0.5, -0.25, 0.1)) - place_of("Hips", rest_joints, standing())
    np.testing.assert_allclose(step, [-0.5, 0.1, 0.25], atol=1e-12)


def test_bones_are_unitys_and_keep_their_side():
    assert len(set(BONE_NAMES)) == 52
    names = dict(zip(JOINT_NAMES, BONE_NAMES))
    expected = {
        "pelvis": "Hips", "spine1": "Spine", "spine2": "Chest", "spine3": "UpperChest", "neck": "Neck", "head": "Head",
        "left_collar": "LeftShoulder", "right_shoulder": "RightUpperArm", "left_elbow": "LeftLowerArm", "right_wrist": "RightHand",
        "left_hip": "LeftUpperLeg", "right_knee": "RightLowerLeg", "left_ankle": "LeftFoot", "right_foot": "RightToes",
        "left_thumb1": "LeftThumbProximal", "right_thumb2": "RightThumbIntermediate", "left_index3": "LeftIndexDistal",
        "right_middle1": "RightMiddleProximal", "left_ring2": "LeftRingIntermediate", "right_pinky3": "RightLittleDistal",
    }  # fmt: skip
    assert {joint: names[joint] for joint in expected} == expected
    assert all(names[joint].startswith(joint.split("_")[0].capitalize()) for joint in JOINT_NAMES if "_" in joint)


# Datagrams.


def messages(datagrams):
    """(address, values) of every message in bundles, in order, as python-osc reads them."""
    return [(message.address, tuple(message.params)) for data in datagrams for message in OscBundle(data)]


@pytest.fixture
def sender(rest_joints):
    """Returns a function that makes senders (of the face's names, to a port), which are closed at the end."""
    made = []

    def make(names=FACE, port=PORT, rest=lambda betas: rest_joints):
        made.append(VmcSender("127.0.0.1", port, names, rest))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_datagrams_are_small_bundles_of_all_there_is_to_say(sender, face):
    names = face.expression_names
    datagrams = sender(names).encode(frame(expression=np.linspace(0, 1, len(names))), person())
    assert max(map(len, datagrams)) <= MAX_DATAGRAM and len(datagrams) > 1
    found = messages(datagrams)
    assert Counter(address for address, _ in found) == {
        "/VMC/Ext/OK": 1, "/VMC/Ext/T": 1, "/VMC/Ext/Root/Pos": 1, "/VMC/Ext/Bone/Pos": 52,
        "/VMC/Ext/Blend/Val": len(names) + len(PRESETS), "/VMC/Ext/Blend/Apply": 1,
    }  # fmt: skip
    assert found[-1] == ("/VMC/Ext/Blend/Apply", ())


@pytest.mark.parametrize(
    "names", [(), FACE, tuple(f"expression_{number}" for number in range(64))], ids=["none", "arkit", "other"]
)
def test_filled_in_places_equal_messages_composed_anew(sender, rest_joints, names):
    """Also frame after frame: nothing of the last one stays."""
    rng, encoder = np.random.default_rng(1), sender(names)
    for number in range(3):
        seen = frame(
            rng.normal(size=156), rng.normal(size=3), rng.uniform(size=len(names)), rng.uniform(size=4) > 0.5, number / 3
        )
        positions, rotations = to_unity(rest_joints, seen.poses, seen.trans)
        expected = [build_msg("/VMC/Ext/OK", [1, 3, 0, int(seen.valid[0])]), build_msg("/VMC/Ext/T", seen.timestamp)]
        expected += [build_msg("/VMC/Ext/Root/Pos", ["root", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])]
        for name, place in zip(BONE_NAMES, np.hstack([positions, rotations]).tolist()):
            expected.append(build_msg("/VMC/Ext/Bone/Pos", [name, *place]))
        values = list(zip(names, seen.expression.tolist()))
        values += zip(PRESETS * (names == FACE), preset_values(names, seen.expression).tolist())
        expected += [build_msg("/VMC/Ext/Blend/Val", list(pair)) for pair in values] + [
            build_msg("/VMC/Ext/Blend/Apply", [])
        ]
        sent = [message.dgram for data in encoder.encode(seen, person()) for message in OscBundle(data)]
        assert sent == [message.dgram for message in expected]


def test_state_says_whether_somebody_is_tracked_and_calibrated(sender):
    encoder = sender()
    told = [
        messages(encoder.encode(frame(expression=np.zeros(len(FACE)), valid=(body, 1, 1, 1)), person(settled=settled)))[0]
        for body, settled in ((True, True), (False, False))
    ]
    assert told == [("/VMC/Ext/OK", (1, 3, 0, 1)), ("/VMC/Ext/OK", (1, 0, 0, 0))]


def test_bones_follow_the_person_who_changes(sender, rest_joints):
    encoder = sender((), rest=lambda betas: rest_joints * (1 + betas[0]))

    def knee(who):
        sent = messages(encoder.encode(frame(revision=who.revision), who))
        return next(np.array(values[1:4]) for _, values in sent if values[:1] == ("LeftLowerLeg",))

    grown = knee(person(2, betas=np.ones(2)))
    np.testing.assert_allclose(grown, 2 * knee(person(3)), rtol=1e-6)


# Expressions.

unit = st.floats(-0.5, 1.5)


@given(st.lists(unit, min_size=12, max_size=12))
def test_presets_share_out_what_arkit_says(values):
    names = ("eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "mouthSmileRight", "eyeSquintLeft", "eyeSquintRight", "jawOpen",
             "mouthPucker", "mouthFunnel", "browDownLeft", "browDownRight", "tongueOut")  # fmt: skip
    arkit, preset = dict(zip(names, np.clip(values, 0, 1))), dict(zip(PRESETS, preset_values(names, values)))
    assert all(0 <= value <= 1 for value in preset.values())
    assert preset["Blink"] + preset["Blink_L"] == pytest.approx(arkit["eyeBlinkLeft"])
    assert preset["Blink"] + preset["Blink_R"] == pytest.approx(arkit["eyeBlinkRight"])
    assert min(preset["Blink_L"], preset["Blink_R"]) == pytest.approx(0)
    assert preset["Joy"] + preset["Fun"] == pytest.approx((arkit["mouthSmileLeft"] + arkit["mouthSmileRight"]) / 2)
    assert sum(preset[vowel] for vowel in "AIUEO") <= 1 + 1e-9
    assert preset["A"] <= arkit["jawOpen"] + 1e-9 and preset["Sorrow"] == 0


@pytest.mark.parametrize("name, preset", [("jawOpen", "A"), ("mouthPucker", "U"), ("mouthFunnel", "O")])
def test_vowels(name, preset):
    values = dict(zip(PRESETS, preset_values((name, "eyeBlinkLeft"), (0.7, 0))))
    assert values.pop(preset) == pytest.approx(0.7) and not any(values.values())


# A true receiver.


@pytest.fixture
def receiver():
    """(port, function that waits for the next Blend/Apply and returns all that came before it): python-osc's own server."""
    got, applied, dispatcher = [], threading.Semaphore(0), Dispatcher()

    def take(address, *values):
        got.append((address, values))
        if address == "/VMC/Ext/Blend/Apply":
            applied.release()

    dispatcher.set_default_handler(take)
    server = BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def wait():
        assert applied.acquire(timeout=5), "no frame came"
        taken = list(got)
        got.clear()
        return taken

    yield server.server_address[1], wait
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_receiver_gets_the_pose_and_the_face(receiver, sender, rest_joints):
    port, wait = receiver
    seen = frame(standing(left_elbow=[0, -1.0, 0]), (0.1, 0.2, 0.3), np.linspace(0, 1, len(FACE)))
    sender(port=port).send(seen, person())
    got = wait()
    bones = {values[0]: np.array(values[1:]) for address, values in got if address == "/VMC/Ext/Bone/Pos"}
    np.testing.assert_allclose(bones["LeftLowerArm"][3:], Rotation.from_rotvec([0, 1.0, 0]).as_quat(), atol=1e-6)
    hips = [-(rest_joints[0, 0] + 0.1), rest_joints[0, 2] + 0.3, -(rest_joints[0, 1] + 0.2)]
    np.testing.assert_allclose(bones["Hips"][:3], hips, atol=1e-6)
    face = dict(values for address, values in got if address == "/VMC/Ext/Blend/Val")
    assert face["jawOpen"] == pytest.approx(5 / 7) and face["Blink"] == pytest.approx(3 / 7)
    assert ("/VMC/Ext/T", (1.5,)) in got


def test_a_receiver_may_go_and_come_back(sender):
    """Nobody at the port is refused by the system on loopback, which must not surface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind(("127.0.0.1", 0))
        port = here.getsockname()[1]
    gone = sender((), port=port)
    for _ in range(20):
        gone.send(frame(), person())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind(("127.0.0.1", port))
        here.settimeout(5)
        gone.send(frame(), person())
        assert here.recv(2000).startswith(b"#bundle")


def test_a_socket_that_fails_is_counted_and_nothing_else(sender):
    broken = sender(())
    broken.close()
    broken.send(frame(), person())
    assert broken.failed == len(broken.encode(frame(), person()))


def test_addresses():
    assert parse_address("127.0.0.1:39540") == ("127.0.0.1", 39540)
    assert parse_address("studio.local") == ("studio.local", PORT)
    assert parse_address("[::1]:5000") == ("::1", 5000)
    for wrong in ("", ":39539", "host:", "host:0", "host:65536", "host:port", "::1", "a b:1"):
        with pytest.raises(VmcError, match="HOST:PORT"):
            parse_address(wrong)


def test_an_unknown_host_is_one_sentence():
    with pytest.raises(VmcError, match="no host nowhere.invalid"):
        VmcSender("nowhere.invalid", PORT, (), None)


def test_sending_needs_no_torch():
    code = "import sys, fullbody_core.live.vmc; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
