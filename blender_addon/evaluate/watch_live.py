# SPDX-License-Identifier: GPL-3.0-or-later
"""How the live link does in a true Blender: connects to a core that runs, shows what it sends, and measures every frame.

    python -m fullbody_mocap.evaluate.watch_live --connection CORE.json --template CHARACTER.npz --seconds S --out F.npz [--record]
    blender --background --factory-startup --python-exit-code 1 --python watch_live.py -- --connection ...

Without a window Blender's timers never fire, so this program does what they do: it drains the link, as often as they would.
The last line on stdout is one JSON object with the errors there were and, with --record, how far a take's playback is off.
"""

import argparse
import json
import sys
import time
from pathlib import Path

if not __package__:  # run as a file by Blender: the add-on is the folder above this file's
    _addon = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(_addon.parent))
    __package__ = f"{_addon.name}.{Path(__file__).resolve().parent.name}"
    __import__(__package__)

import bpy
import numpy as np

from .. import register, unregister
from ..character import build_character
from ..contract.character import CharacterTemplate
from ..contract.npz_file import FileError, write_npz
from ..contract.skeleton import JOINT_NAMES
from ..headless import exit_code, own_arguments
from ..keyframes import Timing, scene_fps
from ..live import session as live
from ..live.link import Link
from ..live.target import CharacterTarget, TargetGone

START_SECONDS = 30.0
"""How long the core may take to send its first frame."""

TAKE_SECONDS = 20.0
"""How long the recorded take is: the end of the run, at most half of it."""

TICK_SECONDS = 0.0054
"""How often the main loop of a Blender with windows gets round to its timers, whatever they ask for: measured in 5.2."""

_OF_FRAMES = ("sequence", "person", "arrived", "waited", "network", "worked")
_COUNTS = ("sequence", "person", "received")


class WatchError(Exception):
    """A core that does not do its part. The message is one sentence for the user."""


def main(argv=None):
    """Parses `argv`, watches, prints the JSON line. Returns the exit code: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="watch_live", description="Shows what a running core sends, and measures it.")
    help_connection = "JSON with the core's port and token, in a file since all may see arguments"
    parser.add_argument("--connection", required=True, type=Path, help=help_connection)
    parser.add_argument("--template", required=True, type=Path, help="character template (.npz)")
    parser.add_argument("--seconds", required=True, type=float, help="how long to watch")
    parser.add_argument("--out", required=True, type=Path, help="measurements (.npz) to write")
    parser.add_argument(
        "--record", action="store_true", help="also record a take and compare its playback with what was shown"
    )
    args = parser.parse_args(argv)

    def work():
        core = json.loads(args.connection.read_text())
        template = CharacterTemplate.load(args.template)
        bpy.ops.wm.read_factory_settings(use_empty=True)
        register()
        try:
            link = Link(core["port"], core["token"], program="watch_live")
            made, arrays = watch(link, template, args.seconds, args.record)
            link.close(wait=2.0)
        finally:
            # Whatever of an add-on is left at the end, Blender as a module may crash on.
            unregister()
        write_npz(args.out, arrays)
        return made

    return exit_code(work, (FileError, TargetGone, WatchError, OSError))


def watch(link, template, seconds, record):
    """Shows what comes for `seconds`. Returns what goes into the JSON line, and the measurements by name."""
    scene, view_layer = bpy.context.scene, bpy.context.view_layer
    character = build_character(template, (), name="Person", collection=scene.collection, view_layer=view_layer)
    session = live.watch(CharacterTarget(character.armature, template), scene, link=link)
    meter = Meter(session, view_layer)
    meter.run(START_SECONDS, until_shown=True)
    if not session.shown:
        raise WatchError(f"The core sent no frame within {START_SECONDS:.0f} seconds: {session.state}")
    take_seconds = min(TAKE_SECONDS, seconds / 2) if record else 0.0
    meter.run(seconds - take_seconds)
    if record and live.is_running():
        session.start_recording()
        meter.notes_joints = True
        meter.run(take_seconds)
    errors = [session.state] if session.is_over else []
    live.stop()  # which finishes the take
    playback = None
    if live.last_take() is not None:
        playback = compare_playback(meter, scene, live.last_take()[1])
    elif record:
        errors.append(session.take or "No take was recorded.")
    made = {"blender": bpy.app.version_string, "received": link.received, "errors": errors, "playback": playback}
    return made, meter.arrays()


class Meter:
    """Drains a session, and notes when each frame was set.

    joints: (revision of the person, joints [J, 3] m) of each frame that was shown, by its timestamp, while `notes_joints`
    """

    def __init__(self, session, view_layer):
        self.session = session
        self.joints, self.notes_joints = {}, False
        self._view_layer = view_layer
        self._frames, self._memory = [], []

    def run(self, seconds, until_shown=False):
        """Goes on for `seconds`, or until the session has ended, or until its first frame."""
        end, next_memory = time.monotonic() + seconds, 0.0
        while (start := time.monotonic()) < end and not (until_shown and self.session.shown):
            if start >= next_memory:
                next_memory = start + 1.0
                self._memory += [(start, memory) for memory in [resident_memory()] if memory is not None]
            shown = self.session.shown
            delay = live.drain()
            if self.session.shown > shown:
                self._note(start, time.monotonic())
            if delay is None:
                return
            time.sleep(max(delay, TICK_SECONDS))

    def _note(self, start, finished):
        self._view_layer.update()
        evaluated, frame = time.monotonic(), self.session.frame
        own = [getattr(frame, name) for name in _OF_FRAMES]
        self._frames.append([*own, self.session.link.received, finished, finished - start, evaluated - finished])
        if self.notes_joints:
            self.joints[frame.timestamp] = frame.person, joints_of(self.session.target.find().armature)

    def arrays(self):
        """What was measured, by name."""
        names = (*_OF_FRAMES, "received", "shown", "writing", "evaluating")
        columns = np.array(self._frames, float).reshape(-1, len(names)).T
        arrays = {name: column.astype(np.int64 if name in _COUNTS else float) for name, column in zip(names, columns)}
        return dict(arrays, memory=np.array(self._memory, float).reshape(-1, 2))


def compare_playback(meter, scene, clip):
    """Plays the action of the take `clip`: the largest distance, m, of a joint from where it was when its frame was shown.

    Frames of before a calibration are not compared: the take is of the person it ended with. None where that leaves none.
    """
    frames = Timing(scene_fps(scene), scene.frame_current, resample=False).frames(clip, clip.timestamps)
    revision = max((person for person, _ in meter.joints.values()), default=None)
    distances = []
    for timestamp, frame in zip(clip.timestamps.tolist(), frames.tolist()):
        person, shown = meter.joints.get(timestamp, (None, None))
        if shown is not None and person == revision:
            scene.frame_set(int(frame // 1), subframe=frame % 1)
            distances.append(np.linalg.norm(joints_of(meter.session.target.find().armature) - shown, axis=1).max())
    return float(max(distances)) if distances else None


def joints_of(armature):
    """Where an armature's joints are in the scene [J, 3] m, evaluated."""
    matrix = np.array(armature.matrix_world)
    heads = np.array([armature.pose.bones[name].head for name in JOINT_NAMES])
    return heads @ matrix[:3, :3].T + matrix[:3, 3]


def resident_memory():
    """MiB that this process has in memory; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), None)


if __name__ == "__main__":
    sys.exit(main(own_arguments()))
