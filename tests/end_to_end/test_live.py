"""The live link as a user has it: the add-on's operators start a true `fullbody live` on the demo's clip, in a true Blender.

Blender runs in a process of its own, since some of it is killed here. Without a window its timers never fire, so the program that
is run in it does what they do, and in between what the test asks for.
"""

import importlib.resources
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pythonosc.osc_bundle import OscBundle

import fullbody_core
from fullbody_core.addon_package import stage_addon
from fullbody_core.body.lbs import to_character_template
from fullbody_core.body.load_body import load_body
from fullbody_core.contract import wire
from fullbody_core.contract.capture import CaptureClip
from fullbody_core.contract.full_body import full_body_template
from fullbody_core.face.load_face import load_face
from fullbody_core.full_body.bridges import recipe_for
from fullbody_core.video import open_video

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills processes by POSIX signals")

DEMO = importlib.resources.files("fullbody_core") / "assets" / "demo.mp4"

IN_BLENDER = """
import json, os, signal, sys, time, traceback
import bpy
import numpy as np
import fullbody_mocap
from fullbody_mocap.contract.skeleton import JOINT_NAMES
from fullbody_mocap.live import session as live

fullbody_mocap.register()
scene, view_layer = bpy.context.scene, bpy.context.view_layer

def drain(seconds, until=lambda: False, seen=lambda frame: None):
    '''Does what the timer does; `seen` gets every frame that was shown. Returns whether `until` came.'''
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        shown = live.session().shown
        delay = live.drain()
        if live.session().shown > shown:
            view_layer.update()
            seen(live.session().frame)
        time.sleep(delay or 0.05)
    return bool(until())

def joints():
    armature = scene.fullbody_live.target
    return np.array([armature.matrix_world @ armature.pose.bones[name].head for name in JOINT_NAMES])

def start(video):
    settings = scene.fullbody_live
    settings.source, settings.video, settings.loop = "VIDEO", video, True
    bpy.ops.fullbody.live_start()
    session = live.session()
    is_known = lambda: session.shown > 0 and session.link.status.get("state") == "running"
    drain(90, until=lambda: session.is_over or is_known())
    return session.process.ready | {"state": session.state, "is_live": session.is_live}

def record(first_frame, seconds):
    '''Begins a take there; returns where the joints were with each frame shown, by its timestamp, of the last person alone.'''
    scene.frame_current = first_frame
    bpy.ops.fullbody.live_record()
    shown = {}
    drain(seconds, seen=lambda frame: shown.update({frame.timestamp: (frame.person, joints())}))
    return {time: places for time, (person, places) in shown.items() if person == live.session().frame.person}

def playback(name, clip, first_frame, shown):
    '''Largest distance, m, of a joint in the action from where it was shown, of how many frames, and the wrist's way.'''
    animation = scene.fullbody_live.target.animation_data
    animation.action = bpy.data.actions[name]
    animation.action_slot = next(slot for slot in animation.action.slots if slot.target_id_type == "OBJECT")
    off, wrist = [], []
    for time, frame in zip(clip.timestamps, first_frame + (clip.timestamps - clip.timestamps[0]) * scene.render.fps):
        if time in shown:
            scene.frame_set(int(frame // 1), subframe=float(frame % 1))
            off.append(np.linalg.norm(joints() - shown[time], axis=1).max())
            wrist.append(joints()[JOINT_NAMES.index("right_wrist")])
    return {"off": float(max(off)), "count": len(off), "way": float(np.ptp(wrist, axis=0).max())}

print("{}", flush=True)
for line in sys.stdin:
    answer = {}
    try:
        exec(json.loads(line), globals())
    except BaseException:
        answer = {"failed": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
"""


class Blender:
    """A Blender with the add-on, that does what it is told. `answer` in the code it is given is what it answers."""

    def __init__(self, staged, user_files, program):
        environment = dict(os.environ, FULLBODY_CORE=str(program), BLENDER_USER_RESOURCES=str(user_files))
        environment["PYTHONPATH"] = os.pathsep.join([str(staged), *filter(None, [environment.get("PYTHONPATH")])])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-P", "-c", IN_BLENDER], env=environment, **pipes)
        self._answer()

    def do(self, code):
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def _answer(self):
        watchdog = threading.Timer(120, self.process.kill)
        watchdog.start()
        try:
            line = next((line for line in self.process.stdout if line.startswith("{")), None)
        finally:
            watchdog.cancel()
        assert line is not None, "Blender has ended, or did not answer for two minutes"
        answer = json.loads(line)
        assert "failed" not in answer, answer["failed"]
        return answer


class Viewer:
    """A second viewer, that speaks the wire's format and nothing else."""

    def __init__(self, port, token):
        self.handle = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._messages, self._stream = wire.MessageReader(wire.FROM_CORE), wire.StreamReader()
        self.handle.sendall(wire.encode_json(wire.HELLO, {"protocol": wire.PROTOCOL, "token": token, "program": "test"}))

    def read(self, until):
        """[(kind, item)] up to the first for which `until(kind, item)`, or the end of the connection."""
        got = []
        while data := self.handle.recv(1 << 16):
            for kind, payload in self._messages.feed(data):
                got.append((kind, self._stream.take(kind, payload)))
                if until(*got[-1]):
                    return got
        return got

    def close(self):
        self.handle.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def staged(folder):
    """The add-on with the character that comes with it."""
    body, face = load_body("open"), load_face("open")
    full_body_template(to_character_template(body), face, recipe_for(body, face)).save(folder / "character.npz")
    (folder / "staged").mkdir()
    stage_addon(folder / "staged", folder / "character.npz")
    return folder / "staged"


@pytest.fixture(scope="module")
def avatar():
    """A socket in the place of a program with a VRM avatar."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        yield receiver


@pytest.fixture(scope="module")
def start_blender(folder, staged, avatar):
    """Returns a function that starts a `Blender`; all have the same user's files. Whatever is left at the end is killed."""
    program, started = folder / "fullbody", []
    source, port = Path(fullbody_core.__file__).parents[1], avatar.getsockname()[1]
    command = f'PYTHONPATH="{source}" exec "{sys.executable}" -m fullbody_core.cli "$@" --vmc 127.0.0.1:{port}'
    program.write_text(f"#!/bin/sh\n{command}\n")
    program.chmod(0o755)

    def start():
        started.append(Blender(staged, folder / "user", program))
        return started[-1]

    yield start
    for blender in started:
        blender.kill()


@pytest.fixture(scope="module")
def blender(start_blender):
    return start_blender()


@pytest.fixture(scope="module")
def core(blender):
    """What the core printed (port, token, process) that the add-on has started; the character follows the demo."""
    return blender.do(f"answer = start({str(DEMO)!r})")


@pytest.fixture(scope="module")
def take(blender, core, folder):
    """A take of three seconds, by the operators: its name, frames and the file it was saved as."""
    path = str(folder / "take.npz")
    code = f"""
first = record(11, 3.0)
bpy.ops.fullbody.live_stop_recording()
first_name, first_clip = live.last_take()
bpy.ops.fullbody.live_save_take(filepath={path!r})
answer = {{"name": first_name, "frames": first_clip.frame_count, "shown": len(first), "path": {path!r}}}
"""
    return blender.do(code)


@pytest.fixture(scope="module")
def crash(blender, take):
    """The core is killed in the middle of another take: what the session says, and how both takes play."""
    code = """
second = record(1, 2.0)
os.kill(live.session().process.pid, signal.SIGKILL)
drain(10, until=lambda: live.session().is_over)
session = live.session()
name, clip = live.last_take()
answer = {"state": session.state, "problem": session.problem, "take": session.take, "name": name, "frames": clip.frame_count,
          "first": playback(first_name, first_clip, 11, first), "second": playback(name, clip, 1, second)}
"""
    return blender.do(code)


def read_all(handle):
    """Bytes until the other side closes."""
    data = b""
    while more := handle.recv(1 << 16):
        data += more
    return data


def still_shows(blender):
    """Whether new frames reach the character."""
    code = "before = live.session().shown; answer = {'more': drain(5, until=lambda: live.session().shown > before + 3)}"
    return blender.do(code)["more"]


def has_ended(pid):
    """Whether a process is gone, or only its exit code waits to be read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until(is_so, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not is_so():
        time.sleep(0.05)
    return is_so()


# Read from the top: the first tests watch one core, then it is killed, then Blender.


def test_the_character_moves(blender, core):
    assert core["is_live"] and core["protocol"] == wire.PROTOCOL
    code = "seen = []; drain(2.5, seen=lambda frame: seen.append(joints())); answer = {'way': np.ptp(seen, axis=0).tolist()}"
    way = np.array(blender.do(code)["way"])
    assert np.isfinite(way).all() and way.max() > 0.1, "the demo waves"


def test_a_second_viewer_sees_a_looping_video_go_on(core):
    """Times and numbers increase, also where the clip starts again."""
    viewer = Viewer(core["port"], core["token"])
    kind, first = viewer.read(lambda kind, item: kind == wire.FRAME)[-1]
    length = open_video(DEMO).frame_count_estimate / open_video(DEMO).mean_framerate
    got = viewer.read(lambda kind, item: kind == wire.FRAME and item.timestamp > first.timestamp + 1.1 * length)
    viewer.close()
    frames = [item for kind, item in got if kind == wire.FRAME]
    for name in ("timestamp", "sequence", "arrived"):
        assert np.all(np.diff([getattr(frame, name) for frame in frames]) > 0), name
    assert len(frames) > 20 and sum(kind == wire.STATUS for kind, _ in got) >= 3
    # The clip was played at its own pace.
    assert frames[-1].arrived - frames[0].arrived == pytest.approx(frames[-1].timestamp - frames[0].timestamp, abs=0.5)


GARBAGE = {"http": b"GET / HTTP/1.1\r\n\r\n", "noise": bytes(range(256)) * 16, "huge": b"FBMC\x01\0\0\0\xff\xff\xff\xff"}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_ends_its_own_connection_alone(blender, core, garbage):
    with socket.create_connection(("127.0.0.1", core["port"]), timeout=10) as stranger:
        stranger.sendall(garbage)
        stranger.shutdown(socket.SHUT_WR)
        kinds = [kind for kind, _ in wire.MessageReader(wire.FROM_CORE).feed(read_all(stranger))]
    assert kinds == [wire.ERROR] and still_shows(blender)


def test_a_wrong_token_is_refused(blender, core):
    stranger = Viewer(core["port"], "0" * len(core["token"]))
    kinds = [(kind, item) for kind, item in stranger.read(lambda kind, item: False)]
    stranger.close()
    assert [kind for kind, _ in kinds] == [wire.ERROR] and "token" in kinds[0][1]["message"]
    assert still_shows(blender)


def test_an_avatar_moves_along(core, avatar):
    said = [message for data in newest(avatar, 40) for message in OscBundle(data)]
    bones = {message.params[0] for message in said if message.address == "/VMC/Ext/Bone/Pos"}
    hands = {tuple(message.params[4:]) for message in said if message.params[:1] == ["LeftLowerArm"]}
    assert len(bones) == 52 and len(hands) > 3
    assert all(message.params == [1, message.params[1], 0, 1] for message in said if message.address == "/VMC/Ext/OK")


def newest(receiver, count):
    """The next datagrams from now on."""
    receiver.setblocking(False)
    try:
        while receiver.recv(1 << 16):
            pass
    except BlockingIOError:
        receiver.settimeout(5)
    return [receiver.recv(1 << 16) for _ in range(count)]


def test_a_take_becomes_an_action_and_a_capture_file(take):
    clip = CaptureClip.load(take["path"])
    # The first frame that was shown may have come just before recording began.
    assert take["name"] == "Take 001" and clip.frame_count == take["frames"] >= take["shown"] - 1 > 10
    assert 2 < clip.duration < 4 and clip.valid[:, 0].mean() > 0.9


def test_a_core_that_dies_is_told_and_its_take_kept(crash):
    assert crash["problem"] and "ended unexpectedly" in crash["state"]
    assert crash["name"] == "Take 002" and "Take 002" in crash["take"] and crash["frames"] > 10


def test_takes_play_what_was_shown(crash):
    for played in (crash["first"], crash["second"]):
        assert played["off"] < 1e-3 and played["count"] > 10
    assert crash["first"]["way"] > 0.05, "the wrist has moved"


def test_when_blender_dies_the_core_ends_and_the_take_can_be_recovered(blender, crash, start_blender):
    code = f"answer = start({str(DEMO)!r}); record(1, 2.0); answer['recorded'] = live.session().recording.frame_count"
    core = blender.do(code)
    assert core["is_live"] and core["recorded"] > 10
    blender.kill()
    assert wait_until(lambda: has_ended(core["process"]), 8), "the core goes on without Blender"
    code = """
bpy.ops.fullbody.live_recover_take()
name, clip = live.last_take()
action = scene.fullbody_live.target.animation_data.action.name
answer = {"frames": clip.frame_count, "action": action, "body": clip.valid[:, 0].mean()}
"""
    recovered = start_blender().do(code)
    assert recovered["frames"] >= core["recorded"] and recovered["action"] == "Take 001" and recovered["body"] > 0.9
