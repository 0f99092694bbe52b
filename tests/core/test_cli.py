"""The command line as a user meets it: what it makes, and one sentence and exit code 2 for what it cannot use."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fullbody_core.cli import main
from fullbody_core.contract.capture import FORMAT_VERSION, CaptureClip
from fullbody_core.contract.skeleton import JOINT_INDEX
from fullbody_core.video import VideoWriter, open_video


def run(capsys, *arguments):
    """(exit code, stdout, stderr) of one command."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def assert_refused(capsys, tmp_path, *arguments, says):
    """Asserts exit code 2, one sentence that contains `says`, and that no new file is left in tmp_path."""
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run(capsys, *arguments)
    message = [line for line in err.splitlines() if line.startswith("fullbody: ")]
    assert code == 2, err
    assert len(message) == 1 and says in message[0], err
    assert sorted(tmp_path.rglob("*")) == before, "nothing half-written"


@pytest.fixture
def short_video(demo_video, tmp_path):
    """The demo's first ten frames."""
    path = tmp_path / "short.mp4"
    with VideoWriter(path, open_video(demo_video).image_size, 24) as writer:
        for _, (timestamp, image) in zip(range(10), open_video(demo_video).frames()):
            writer.write(timestamp, image)
    return path


def test_capture_writes_the_clip_and_the_overlay(capsys, short_video, tmp_path):
    code, out, err = run(capsys, "capture", short_video, "-o", tmp_path / "c.npz", "--overlay", tmp_path / "o.mp4")
    assert code == 0, err
    clip = CaptureClip.load(tmp_path / "c.npz")
    assert clip.frame_count == 10 and clip.valid[:, 0].all()
    assert clip.meta["detector"]["name"] == "mediapipe" and len(clip.meta["models"]["body"]) == 64
    assert "10 frames" in out
    overlay = open_video(tmp_path / "o.mp4")
    assert overlay.image_size == open_video(short_video).image_size
    drawn = [image for _, image in overlay.frames()]
    plain = [image for _, image in open_video(short_video).frames()]
    assert len(drawn) == 10
    changed = (np.abs(drawn[5].astype(int) - plain[5]).max(-1) > 60).mean()
    assert 0.002 < changed < 0.2, "a skeleton is drawn, and the picture is still there"


def test_one_frame_is_a_clip(capsys, short_video, tmp_path):
    path = tmp_path / "one.mp4"
    with VideoWriter(path, open_video(short_video).image_size, 24) as writer:
        writer.write(0.0, next(open_video(short_video).frames())[1])
    code, _, err = run(capsys, "capture", path, "-o", tmp_path / "c.npz")
    assert code == 0, err
    clip = CaptureClip.load(tmp_path / "c.npz")
    assert clip.frame_count == 1 and clip.duration == pytest.approx(1 / clip.mocap_framerate)


def test_truncated_video_keeps_what_decodes_and_says_so(capsys, demo_video, tmp_path):
    import av

    whole, path = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    with av.open(str(demo_video)) as source, av.open(str(whole), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    code, _, err = run(capsys, "capture", path, "-o", tmp_path / "c.npz")
    assert code == 0, err
    assert "Note:" in err and "cut short" in err
    assert 0 < CaptureClip.load(tmp_path / "c.npz").frame_count < 96


def test_bad_videos(capsys, tmp_path):
    output = tmp_path / "c.npz"
    assert_refused(capsys, tmp_path, "capture", tmp_path / "absent.mp4", "-o", output, says="absent.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n" * 100)
    assert_refused(capsys, tmp_path, "capture", text, "-o", output, says="text.mp4")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert_refused(capsys, tmp_path, "capture", empty, "-o", output, says="empty.mp4")
    assert_refused(capsys, tmp_path, "capture", tmp_path, "-o", output, says=tmp_path.name)


def test_nobody(capsys, tmp_path):
    path = tmp_path / "room.mp4"
    with VideoWriter(path, (160, 120), 25) as writer:
        for frame in range(3):
            writer.write(frame / 25, np.full((120, 160, 3), 90, np.uint8))
    assert_refused(capsys, tmp_path, "capture", path, "-o", tmp_path / "c.npz", says="Nobody was found")


def test_bad_outputs_are_refused_before_the_work(capsys, short_video, tmp_path):
    start = time.perf_counter()
    assert_refused(capsys, tmp_path, "capture", short_video, "-o", tmp_path / "no" / "c.npz", says="does not exist")
    assert_refused(capsys, tmp_path, "capture", short_video, "-o", tmp_path, says="choose a file name")
    assert time.perf_counter() - start < 2


def test_bad_options(capsys, short_video, tmp_path):
    assert_refused(capsys, tmp_path, "capture", short_video, "-o", tmp_path / "c.npz", "--fov", "400", says="field of view")
    assert_refused(capsys, tmp_path, "capture", short_video, "-o", tmp_path / "c.npz", "--body", tmp_path / "b.npz", says="b.npz")


@pytest.mark.parametrize("damage", ["absent", "cut short", "not a capture", "newer"])
def test_bad_captures_are_refused_by_blend(capsys, demo_capture, tmp_path, damage):
    path = tmp_path / "c.npz"
    demo_capture[0].save(path)
    says = "capture file"
    if damage == "absent":
        path.unlink()
    elif damage == "cut short":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "not a capture":
        np.savez(path, a=np.zeros(3))
    else:
        with np.load(path) as file:
            arrays = dict(file)
        arrays["meta"] = np.array(str(arrays["meta"]).replace(f'"version": {FORMAT_VERSION}', '"version": 99'))
        np.savez(path, **arrays)
        says = "newer version"
    assert_refused(capsys, tmp_path, "blend", path, "-o", tmp_path / "o.blend", "--blender", sys.executable, says=says)


def test_unknown_blender_is_refused(capsys, demo_capture, tmp_path):
    path = tmp_path / "c.npz"
    demo_capture[0].save(path)
    assert_refused(
        capsys, tmp_path, "blend", path, "-o", tmp_path / "o.blend", "--blender", "no-such-blender", says="no-such-blender"
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on a file's size")
def test_full_disk_is_one_sentence_and_leaves_nothing(short_video, tmp_path):
    """A limit of 20 kB on any file stands for the full disk: the writing fails in the middle."""
    import resource

    command = [sys.executable, "-m", "fullbody_core.cli", "capture", str(short_video), "-o", str(tmp_path / "c.npz")]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # noqa: E731
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 2
    assert "Cannot write" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["short.mp4"]


def test_phone_portrait_is_captured_upright(capsys, demo_video, tmp_path):
    """The demo lying on its side, with the flag that says how to turn it: the same person is found, standing."""
    import av

    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        images = [np.rot90(image).copy() for _, (_, image) in zip(range(5), open_video(demo_video).frames())]
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(-90)
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    code, _, err = run(capsys, "capture", path, "-o", tmp_path / "c.npz")
    assert code == 0, err
    clip = CaptureClip.load(tmp_path / "c.npz")
    assert tuple(clip.image_size) == open_video(demo_video).image_size
    head, feet = clip.joints_camera[:, JOINT_INDEX["head"], 1], clip.joints_camera[:, JOINT_INDEX["left_foot"], 1]
    assert clip.valid[:, 0].all() and (head < feet - 1).all(), "the head is a metre or more above the feet (y is down)"


@pytest.mark.skipif(os.name == "nt", reason="signals differ on Windows")
def test_interrupt_leaves_nothing(demo_video, tmp_path):
    video = tmp_path / "long.mp4"
    images = [image for _, image in open_video(demo_video).frames()] * 5  # long enough to be in the middle of it after a while
    with VideoWriter(video, open_video(demo_video).image_size, 24) as writer:
        for frame, image in enumerate(images):
            writer.write(frame / 24, image)
    command = [sys.executable, "-m", "fullbody_core.cli", "capture", str(video), "-o", str(tmp_path / "c.npz")]
    command += ["--overlay", str(tmp_path / "o.mp4")]
    # Tests that run in the background of a shell inherit that Ctrl-C is ignored.
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=heed)
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Stopped" in err and "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["long.mp4"]


def test_logs_of_the_libraries_stay_out_of_sight(short_video, tmp_path):
    command = [sys.executable, "-m", "fullbody_core.cli", "capture", str(short_video), "-o", str(tmp_path / "c.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "" or done.stderr.startswith("Capturing"), done.stderr


def test_evaluate_prints_one_row_a_clip(capsys, short_video):
    code, out, err = run(capsys, "evaluate", "clip", short_video)
    assert code == 0, err
    header, row = out.strip().splitlines()
    assert "Holistic fps" in header and "short.mp4" in row and "100.0%" in row
