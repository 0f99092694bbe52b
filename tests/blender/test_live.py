# SPDX-License-Identifier: GPL-3.0-or-later
"""The live session, ticked as Blender's timer does, against the core's real server: following, takes, and all that may go wrong."""

import gc
import os
import signal
import sys
import time
from pathlib import Path

import bpy
import numpy as np
import pytest
from fullbody_mocap.contract.capture import CaptureClip
from fullbody_mocap.contract.mirror import mirror_pose
from fullbody_mocap.keyframes import scene_fps
from fullbody_mocap.live import session as live
from fullbody_mocap.live.core_process import PROGRAM_VARIABLE
from fullbody_mocap.live.storage import takes_folder
from fullbody_mocap.live.take import unfinished_takes
from fullbody_mocap.live.target import Found
from live_scene import (
    add_character,
    drain_until,
    follow,
    frames_of,
    joints_now,
    make_person,
    person_of,
    send,
    serving,
    show,
    template_of_live,
    wait_until,
)
from scene_reading import contents, joints_over
from synthetic_person import posed_joints

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_takes(tmp_path, monkeypatch):
    """Journals of these tests lie in a folder of their own."""
    for module in ("live.session", "operators.live", "live.panel"):
        monkeypatch.setattr(f"fullbody_mocap.{module}.takes_folder", lambda: tmp_path / "takes")
    return tmp_path / "takes"


@pytest.fixture
def template():
    return template_of_live()


@pytest.fixture
def server(template):
    with serving(template) as server:
        yield server


@pytest.fixture
def character(addon, scene, template):
    scene.render.fps = 30
    return add_character(template)


@pytest.fixture
def session(character, template, server):
    session = follow(character, template, server)
    drain_until(lambda: session.is_live)
    yield session
    live.stop()


def joints_shown(server, session, character, clip, **options):
    """Sends a clip frame by frame: the joints [T, 52, 3] m as they were shown."""
    shown = []
    for frame in frames_of(clip, **options):
        show(server, session, frame)
        shown.append(joints_now(character.armature))
    return np.array(shown)


def test_character_follows(session, server, character, template):
    clip = make_person(template, frames=10)
    send(server, person_of(clip))
    shown = joints_shown(server, session, character, clip)
    assert np.abs(shown - posed_joints(template, clip)).max() < 1e-4
    assert len(session.latencies.total) == session.shown == 10 and max(session.latencies.beyond) < 1
    server.send_status({"state": "running", "message": "", "progress": 1.0})
    drain_until(lambda: session.state == "Live.")
    assert not session.problem and session.latency()[0] < 1
    server.send_status({"state": "running", "source": {"state": "silent", "message": "The camera sends nothing."}})
    drain_until(lambda: session.state == "The camera sends nothing.")


def test_newest_frame_is_shown_and_older_ones_dropped(session, server, template):
    clip = make_person(template, frames=20)
    send(server, person_of(clip))
    for number, frame in enumerate(frames_of(clip), 1):
        send(server, frame)
        wait_until(lambda: session.link.received == number)  # noqa: B023
    drain_until(lambda: session.shown)
    assert (session.shown, session.frame.sequence, session.link.dropped) == (1, 19, 19)


def test_settings_reach_the_core_and_the_picture(session, server, scene, template):
    drain_until(lambda: {"smoothing": 0.5} in server.requests)
    scene.fullbody_live.smoothing = 0.75
    drain_until(lambda: server.requests[-1] == {"smoothing": 0.75})
    bpy.ops.fullbody.live_calibrate()
    drain_until(lambda: server.requests[-1] == {"calibrate": True})
    scene.fullbody_live.mirror = True
    drain_until(lambda: session.link.mirror)


@pytest.mark.parametrize("mirror", [False, True])
def test_take_plays_back_what_was_shown(session, server, scene, character, template, own_takes, mirror):
    """Issue 8: the recorded action plays the same motion, joints within 1 mm at recorded frames; here within 0.1 mm."""
    clip = make_person(template, frames=45, seed=3)
    clip.valid[10:20, 1] = clip.valid[15:25, 3] = False
    send(server, person_of(clip))
    scene.fullbody_live.mirror = mirror
    scene.frame_set(11)
    drain_until(lambda: session.link.mirror == mirror and session.link.person is not None)
    assert bpy.ops.fullbody.live_record() == {"FINISHED"}
    shown = joints_shown(server, session, character, clip)
    expressions = frames_of(clip)[12].expression[[0, 2, 1] if mirror else [0, 1, 2]]
    assert bpy.ops.fullbody.live_stop_recording() == {"FINISHED"}
    show(server, session, frames_of(make_person(template, frames=1, seed=9), first=45)[0])
    assert bpy.ops.fullbody.live_stop() == {"FINISHED"}

    action = bpy.data.actions["Take 001"]
    assert action.use_fake_user and character.armature.animation_data.action == action
    assert scene.frame_end >= 55 and scene.fullbody_live.take_number == 2 and list(own_takes.iterdir()) == []
    played = joints_over(scene, character.armature, 11 + np.arange(45))
    print(f"played back within {np.abs(played - shown).max():.1e} m")
    assert np.abs(played - shown).max() < 1e-4
    scene.frame_set(11 + 12)
    keys = character.shape_keys.key_blocks
    assert np.allclose([keys[name].value for name in clip.expression_names], expressions, atol=1e-4)
    if mirror:
        poses, trans, _ = mirror_pose(clip.poses, clip.trans, clip.valid)
        assert np.abs(live.last_take()[1].poses - poses).max() < 1e-5 and np.abs(trans - clip.trans).max() > 1e-3


def test_animation_is_back_after_the_end(session, server, scene, character, template):
    """Stopping shows what the character plays, without anybody changing the frame."""
    clip = make_person(template, frames=20)
    send(server, person_of(clip))
    bpy.ops.fullbody.live_record()
    shown = joints_shown(server, session, character, clip)
    bpy.ops.fullbody.live_stop_recording()
    show(server, session, frames_of(make_person(template, frames=1, seed=7), first=20)[0])
    live.stop()
    assert np.abs(joints_now(character.armature) - shown[0]).max() < 1e-4


def test_changing_the_frame_does_not_end_what_is_live(session, server, scene, character, template):
    clip = make_person(template, frames=20)
    send(server, person_of(clip))
    bpy.ops.fullbody.live_record()
    shown = joints_shown(server, session, character, clip)
    bpy.ops.fullbody.live_stop_recording()
    scene.frame_set(5)
    assert np.abs(joints_now(character.armature) - shown[-1]).max() < 1e-4


def test_takes_are_counted_and_saved(session, server, scene, character, template, tmp_path):
    assert not bpy.ops.fullbody.live_save_take.poll() or live.last_take()
    bpy.data.actions.new("Take 002")
    send(server, person_of(make_person(template)))
    for number in range(2):
        bpy.ops.fullbody.live_record()
        assert not bpy.ops.fullbody.live_record.poll()
        joints_shown(server, session, character, make_person(template, frames=6, seed=number), first=10 * number)
        bpy.ops.fullbody.live_stop_recording()
    assert {"Take 001", "Take 002", "Take 003"} == {action.name for action in bpy.data.actions}
    assert bpy.ops.fullbody.live_save_take(filepath=str(tmp_path / "take.npz")) == {"FINISHED"}
    assert CaptureClip.load(tmp_path / "take.npz").frame_count == 6 and live.last_take()[0] == "Take 003"


def test_take_without_frames_is_no_take(session, own_takes):
    bpy.ops.fullbody.live_record()
    with pytest.raises(RuntimeError, match="no frames"):
        bpy.ops.fullbody.live_stop_recording()
    assert not bpy.data.actions and session.recording is None and list(own_takes.iterdir()) == []


def test_link_that_breaks_off_leaves_the_take(session, server, character, template, own_takes):
    """Issue 8: nothing is lost if the link dies in the middle."""
    clip = make_person(template, frames=15)
    send(server, person_of(clip))
    bpy.ops.fullbody.live_record()
    joints_shown(server, session, character, clip)
    server.close("The camera is gone.", failed=True)
    drain_until(lambda: session.is_over)
    assert session.problem and session.state == "The camera is gone."
    assert "Take 001: 15 frames" in session.take and list(own_takes.iterdir()) == []
    assert character.armature.animation_data.action.name == "Take 001"
    assert live.drain() is None


def test_orderly_end_is_no_problem(session, server):
    server.close("The source has ended.")
    drain_until(lambda: session.is_over)
    assert session.state == "The source has ended." and not session.problem


def test_second_start_takes_the_place_of_the_first(session, server, character, template):
    second = follow(character, template, server)
    assert session.is_over and not second.is_over and live.session() is second
    drain_until(lambda: second.is_live)
    wait_until(lambda: len(server.viewers) == 1)


def test_two_blenders_watch_one_core(session, server, character, template):
    """A second viewer, and one with a wrong token, change nothing for the first."""
    from fullbody_mocap.live.link import Link

    others = Link(server.port, server.token), Link(server.port, "wrong")
    wait_until(lambda: others[0].stream is not None and others[1].closed)
    clip = make_person(template, frames=5)
    send(server, person_of(clip))
    joints_shown(server, session, character, clip)
    wait_until(lambda: others[0].received)
    others[0].close(wait=2.0)
    assert not session.problem


@pytest.mark.parametrize("way", ["armature", "mesh", "operator", "collection"])
def test_deleting_the_character_ends_it(session, server, scene, character, template, own_takes, way):
    clip = make_person(template, frames=5)
    send(server, person_of(clip))
    scene.fullbody_live.target = character.armature
    bpy.ops.fullbody.live_record()
    joints_shown(server, session, character, clip)
    if way in ("armature", "mesh"):
        bpy.data.objects.remove(getattr(character, way))
    elif way == "operator":
        for item in (character.armature, character.mesh):
            item.select_set(True)
        bpy.ops.object.delete()
    else:
        collection = bpy.data.collections.new("Live")
        scene.collection.children.link(collection)
        for item in (character.armature, character.mesh):
            collection.objects.link(item)
            scene.collection.objects.unlink(item)
        bpy.data.collections.remove(collection)
    del character
    gc.collect()
    send(server, frames_of(clip, first=5)[0])
    drain_until(lambda: session.is_over)
    assert session.problem and "was deleted" in session.state
    # What was recorded is offered, for another character.
    if way in ("armature", "mesh"):
        assert "was deleted" in session.take and len(unfinished_takes(own_takes)) == 1
        other = add_character(template, name="Other")
        scene.fullbody_live.target = other.armature
        template.save(own_takes / "template.npz")
        scene.fullbody_live.template_path = str(own_takes / "template.npz")
        assert bpy.ops.fullbody.live_recover_take() == {"FINISHED"}
        assert other.armature.animation_data.action.name == "Take 001" and unfinished_takes(own_takes) == []
        assert np.abs(joints_over(scene, other.armature, 1 + np.arange(5)) - posed_joints(template, clip)).max() < 1e-4


def test_renaming_moving_and_another_scene_do_not_matter(session, server, scene, character, template):
    clip = make_person(template, frames=4)
    send(server, person_of(clip))
    show(server, session, frames_of(clip)[0])
    character.armature.name, scene.name = "Actor", "Stage"
    collection = bpy.data.collections.new("People")
    scene.collection.children.link(collection)
    collection.objects.link(character.armature)
    scene.collection.objects.unlink(character.armature)
    other = bpy.data.scenes.new("Other")
    bpy.context.window.scene = other
    bpy.ops.fullbody.live_record()
    for frame in frames_of(clip)[1:]:
        show(server, session, frame)
    bpy.ops.fullbody.live_stop_recording()
    bpy.context.window.scene = scene
    assert np.abs(joints_now(character.armature) - posed_joints(template, clip)[3]).max() < 1e-4
    assert scene.fullbody_live.take_number == 2 and other.fullbody_live.take_number == 1
    bpy.data.scenes.remove(scene)
    drain_until(lambda: session.is_over)
    assert "scene" in session.state or "deleted" in session.state


def test_person_waits_while_something_is_edited(session, server, character, template):
    clip = make_person(template, frames=2)
    bpy.context.view_layer.objects.active = character.armature
    bpy.ops.object.mode_set(mode="EDIT")
    send(server, person_of(clip))
    for frame in frames_of(clip):
        show(server, session, frame)
    assert "Object Mode" in session.notes[0] and not session.problem
    bpy.ops.object.mode_set(mode="OBJECT")
    drain_until(lambda: session.notes == [])
    show(server, session, frames_of(clip, first=2)[0])
    assert np.abs(joints_now(character.armature) - posed_joints(template, clip)[0]).max() < 1e-4


def test_undo_while_something_else_is_edited(session, server, character, template):
    """The character is the person already: nothing has to be edited, so nobody is asked to leave Edit Mode."""
    send(server, person_of(make_person(template)))
    drain_until(lambda: session.link.person is not None)
    show(server, session, frames_of(make_person(template))[0])
    bpy.ops.mesh.primitive_cube_add(enter_editmode=True)
    session.forget()
    show(server, session, frames_of(make_person(template))[1])
    assert session.notes == [] and bpy.context.mode == "EDIT_MESH"
    bpy.ops.object.mode_set(mode="OBJECT")


def test_undo_while_live(session, server, character, template):
    """Undo brings back an older character, whose objects are others in memory: it becomes the person again, and follows."""
    clip = make_person(template, frames=6)
    bpy.ops.ed.undo_push(message="before")
    bpy.context.scene.frame_end = 77
    bpy.ops.ed.undo_push(message="changed")
    send(server, person_of(clip))
    for frame in frames_of(clip)[:3]:
        show(server, session, frame)
    for operator, frame in ((bpy.ops.ed.undo, 3), (bpy.ops.ed.redo, 4)):
        operator()
        show(server, session, frames_of(clip)[frame])
        armature = bpy.data.objects["Person"]
        assert np.abs(joints_now(armature) - posed_joints(template, clip)[frame]).max() < 1e-4
        assert abs(bpy.data.objects["Person body"].data.shape_keys.key_blocks["beta_00"].value - clip.betas[0]) < 1e-5


def test_undo_of_a_take_is_one_step(session, server, scene, template, character):
    clip = make_person(template, frames=6)
    send(server, person_of(clip))
    show(server, session, frames_of(clip)[0])
    bpy.ops.ed.undo_push(message="before")
    before = contents()
    bpy.ops.fullbody.live_record()
    for frame in frames_of(clip)[1:]:
        show(server, session, frame)
    bpy.ops.fullbody.live_stop_recording()
    bpy.ops.ed.undo_push(message="Stop Recording")  # what the operator's flag does where there is a window
    assert "Take 001" in bpy.data.actions
    bpy.ops.ed.undo()
    assert {**contents(), "camera": None} == {**before, "camera": None} and not session.is_over
    bpy.ops.ed.redo()
    assert bpy.data.objects["Person"].animation_data.action.name == "Take 001"


def test_undo_that_takes_the_character_away(addon, scene, template, server):
    bpy.ops.ed.undo_push(message="before")
    character = add_character(template)
    bpy.ops.ed.undo_push(message="built")
    session = follow(character, template, server)
    drain_until(lambda: session.is_live)
    del character
    bpy.ops.ed.undo()
    drain_until(lambda: session.is_over)
    assert "was deleted" in session.state


def test_loading_a_file_ends_it_and_keeps_the_take(session, server, character, template, own_takes):
    clip = make_person(template, frames=8)
    send(server, person_of(clip))
    bpy.ops.fullbody.live_record()
    joints_shown(server, session, character, clip)
    bpy.ops.wm.read_homefile(use_empty=True)
    assert session.is_over and not live.is_running() and not bpy.data.actions
    wait_until(lambda: not server.viewers)
    assert len(unfinished_takes(own_takes)) == 1

    template.save(own_takes / "template.npz")
    settings = bpy.context.scene.fullbody_live
    settings.template_path = str(own_takes / "template.npz")
    assert bpy.ops.fullbody.live_recover_take() == {"FINISHED"}
    assert settings.target.name == "Live Person" and unfinished_takes(own_takes) == []
    played = joints_over(bpy.context.scene, settings.target, 1 + np.arange(8) * scene_fps(bpy.context.scene) / 30)
    assert np.abs(played - posed_joints(template, clip)).max() < 1e-4
    with pytest.raises(RuntimeError, match="no unfinished take"):
        bpy.ops.fullbody.live_recover_take()


def test_journal_with_nothing_in_it_is_removed(addon, scene, own_takes):
    own_takes.mkdir()
    (own_takes / "broken.fbtake").write_bytes(b"\0" * 100)
    with pytest.raises(RuntimeError, match="not a connection|not a recorded take"):
        bpy.ops.fullbody.live_recover_take()
    assert list(own_takes.iterdir()) == []


def test_switching_the_addon_off_ends_it(scene, template, server):
    import fullbody_mocap

    handlers = {name: len(getattr(bpy.app.handlers, name)) for name in ("load_pre", "undo_post", "frame_change_post")}
    fullbody_mocap.register()
    try:
        character = add_character(template)
        session = follow(character, template, server)
        drain_until(lambda: session.is_live)
        assert bpy.app.timers.is_registered(live.drain)
        send(server, person_of(make_person(template)))
        bpy.ops.fullbody.live_record()
        joints_shown(server, session, character, make_person(template, frames=4))
    finally:
        fullbody_mocap.unregister()
    assert session.is_over and not bpy.app.timers.is_registered(live.drain) and "Take 001" in bpy.data.actions
    assert handlers == {name: len(getattr(bpy.app.handlers, name)) for name in handlers}
    wait_until(lambda: not server.viewers)
    assert live.drain() is None


def test_drain_never_raises(session, monkeypatch, capsys):
    def fail():
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(session, "tick", fail)
    assert live.drain() is None
    assert session.is_over and session.problem and "ZeroDivisionError: by nothing" in session.state
    assert live.drain() is None


def test_found_again_after_undo(scene):
    item = bpy.data.objects.new("A", None)
    scene.collection.objects.link(item)
    found = Found(item)
    bpy.ops.ed.undo_push(message="built")
    item.name = "B"
    bpy.ops.ed.undo_push(message="renamed")
    assert found.find().name == found.name == "B"
    bpy.ops.ed.undo()
    assert found.find().name == "A"


# A core of one's own: a program that speaks as the core does, with the core's real server.

CORE = """if True:
    import json, os, sys, threading, time
    sys.path[:0] = {folders!r}
    from live_scene import frames_of, make_person, on_cores_side, person_of, send, stream_of, template_of_live
    from fullbody_core.live.server import LiveServer
    if "--list-cameras" in sys.argv:
        print(json.dumps([{{"number": 1, "name": "Webcam"}}]), flush=True)
        os._exit(0)
    print("loading models", sys.argv[1:], file=sys.stderr, flush=True)
    template = template_of_live()
    server = LiveServer(on_cores_side(stream_of(template)))
    server.start()
    clip = make_person(template, frames=40)
    server.send_person(on_cores_side(person_of(clip)))
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    ready = dict(port=server.port, token=server.token, process=os.getpid(), protocol=1)
    sys.__stdout__.write(json.dumps(ready) + "\\n")
    sys.__stdout__.flush()
    number = 0
    while True:
        for frame in frames_of(clip, first=number):
            send(server, frame)
            time.sleep(0.01)
        number += 40
"""


@pytest.fixture
def core(tmp_path, monkeypatch, addon, scene, template):
    """The scene's settings for a core that is a real child process."""
    here = Path(__file__).parent
    folders = [str(Path(sys.modules["fullbody_mocap"].__file__).parent.parent), str(here), str(ROOT)]
    script, program = tmp_path / "core.py", tmp_path / "fullbody"
    script.write_text(CORE.format(folders=folders))
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv(PROGRAM_VARIABLE, str(program))
    template.save(tmp_path / "template.npz")
    video = tmp_path / "video.mp4"
    video.write_bytes(b"")
    settings = scene.fullbody_live
    settings.template_path, settings.source, settings.video = str(tmp_path / "template.npz"), "VIDEO", str(video)
    yield settings
    live.stop()
    if live.session().process:
        live.session().process.stop(wait=5.0)


needs_a_shell = pytest.mark.skipif(os.name == "nt", reason="the core's stand-in is a shell script")


@needs_a_shell
def test_start_builds_a_character_that_follows_and_stop_ends_the_core(core, scene, tmp_path):
    assert bpy.ops.fullbody.live_start() == {"FINISHED"}
    session = live.session()
    assert not bpy.ops.fullbody.live_start.poll() and core.target.name == "Live Person" and bpy.context.object == core.target
    drain_until(lambda: session.shown > 3, 20)
    line = session.process.last_lines[0]
    options = ["live", "--video", core.video, "--loop", "--smoothing", "0.500", "--end-with-stdin"]
    assert line == f"loading models {options}"
    assert bpy.ops.fullbody.live_show_log() == {"FINISHED"}
    assert line in bpy.data.texts["Fullbody Core Log"].as_string()
    began = time.monotonic()
    assert bpy.ops.fullbody.live_stop() == {"FINISHED"}
    assert time.monotonic() - began < 0.5 and session.state == "Stopped."
    wait_until(lambda: session.process.exit_code == 0)
    # And once more, with the same character.
    assert bpy.ops.fullbody.live_start() == {"FINISHED"}
    drain_until(lambda: live.session().shown, 20)
    assert len(bpy.data.armatures) == 1


@needs_a_shell
def test_kill_of_the_core_keeps_the_take_and_shows_its_last_words(core, own_takes):
    bpy.ops.fullbody.live_start()
    session = live.session()
    drain_until(lambda: session.shown > 2, 20)
    bpy.ops.fullbody.live_record()
    shown = session.shown
    drain_until(lambda: session.shown > shown + 10)
    os.kill(session.process.ready["process"], signal.SIGKILL)
    drain_until(lambda: session.is_over, 10)
    assert session.problem and session.state == "The core ended unexpectedly (exit code -9)."
    assert "Take 001" in session.take and "Take 001" in bpy.data.actions and list(own_takes.iterdir()) == []
    assert "loading models" in session.last_lines[0]


@needs_a_shell
def test_core_that_ends_before_it_is_ready(core, tmp_path):
    (tmp_path / "core.py").write_text("import sys\nsys.exit('No models.')\n")
    bpy.ops.fullbody.live_start()
    drain_until(lambda: live.session().is_over, 10)
    assert "before it was ready (exit code 1)" in live.session().state and live.session().last_lines == ["No models."]
    (tmp_path / "core.py").write_text(
        "import sys\nprint('fullbody: Camera 0 is not there.', file=sys.stderr)\nsys.exit(2)\n"
    )
    bpy.ops.fullbody.live_start()
    drain_until(lambda: live.session().is_over, 10)
    assert live.session().problem and live.session().state == "Camera 0 is not there."


@needs_a_shell
def test_find_cameras(core):
    assert bpy.ops.fullbody.live_find_cameras() == {"FINISHED"}
    assert not bpy.ops.fullbody.live_find_cameras.poll()
    drain_until(lambda: live.camera_search().is_done, 20)
    assert live.camera_search().cameras == [{"number": 1, "name": "Webcam"}] and live.camera_search().error is None
    assert bpy.ops.fullbody.live_choose_camera(number=1) == {"FINISHED"} and core.camera == 1


def test_start_without_a_core_or_a_video(addon, scene, monkeypatch, tmp_path, template):
    before = contents()
    monkeypatch.setenv(PROGRAM_VARIABLE, "/nowhere/fullbody")
    for operator in (bpy.ops.fullbody.live_start, bpy.ops.fullbody.live_find_cameras):
        with pytest.raises(RuntimeError, match="preferences"):
            operator()
    monkeypatch.setenv(PROGRAM_VARIABLE, sys.executable)
    scene.fullbody_live.source = "VIDEO"
    with pytest.raises(RuntimeError, match="Choose a video"):
        bpy.ops.fullbody.live_start()
    scene.fullbody_live.source = "CAMERA"
    scene.fullbody_live.template_path = str(tmp_path / "nothing.npz")
    with pytest.raises(RuntimeError, match="no character template"):
        bpy.ops.fullbody.live_start()
    assert contents() == before and not live.is_running()


def test_preferences_say_where_the_core_is(tmp_path):
    """As an extension, where the add-on has preferences, in a Blender of its own."""
    import subprocess

    code = f"""if True:
        import os, sys
        sys.path[:0] = [{str(Path(sys.modules["fullbody_mocap"].__file__).parent.parent)!r}]
        import bpy, addon_utils
        module = addon_utils.enable("fullbody_mocap", default_set=True)
        preferences = bpy.context.preferences.addons["fullbody_mocap"].preferences
        preferences.core_program, preferences.core_options = {sys.executable!r}, "--face none"
        from fullbody_mocap.preferences import chosen_core
        print(chosen_core(), flush=True)
        addon_utils.disable("fullbody_mocap")
        os._exit(0)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    expected = ([sys.executable, "-m", "fullbody_core.cli"], ["--face", "none"])
    assert str(expected) in done.stdout, done.stdout + done.stderr


def test_takes_lie_among_the_users_data():
    assert takes_folder().name == "takes" and takes_folder().is_absolute()
