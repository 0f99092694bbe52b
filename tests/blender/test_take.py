# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes: what is recorded comes out again, whatever cuts it off, and as a capture file that any reader takes."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fullbody_mocap.contract import wire
from fullbody_mocap.contract.capture import CaptureClip
from fullbody_mocap.live.take import Recording, TakeError, make_take, read_journal, unfinished_takes
from live_scene import frames_of, make_person, person_of, stream_of, template_of_live
from synthetic_person import posed_joints


@pytest.fixture(scope="module")
def template():
    return template_of_live()


def record(folder, template, clip, **options):
    recording = Recording(folder)
    recording.begin(stream_of(template), person_of(clip))
    for frame in frames_of(clip, **options):
        recording.add(frame)
    return recording


def test_take_is_the_clip_again(tmp_path, template):
    clip = make_person(template, frames=40)
    stream, items = record(tmp_path, template, clip).items()
    take = make_take(stream, items, template, same_body=True)
    take.clip.save(tmp_path / "take.npz")
    loaded = CaptureClip.load(tmp_path / "take.npz")
    for name in ("poses", "trans", "betas", "timestamps", "face_expression", "face_shape", "face_albedo", "camera_to_world"):
        assert np.abs(getattr(loaded, name) - getattr(clip, name)).max() < 1e-5, name
    assert abs(loaded.mocap_framerate - 30) < 1e-6 and loaded.image_size.tolist() == [640, 480]
    assert np.abs(loaded.joints_camera - clip.joints_camera).max() < 1e-5
    assert loaded.keypoints2d.shape == (40, 0, 3) and loaded.meta["models"] == {"face": "face"}


def test_parts_that_were_not_captured_are_kept_as_shown_and_saved_as_missing(tmp_path, template):
    clip = make_person(template, frames=20)
    clip.valid[5:9, 3] = clip.valid[5:9, 1] = False
    stream, items = record(tmp_path, template, clip).items()
    take = make_take(stream, items, template, same_body=True)
    assert np.array_equal(take.clip.valid, clip.valid) and take.shown.valid.all()
    assert (take.clip.face_expression[5:9] == 0).all() and (take.shown.face_expression[5:9] != 0).any()


def test_calibration_in_a_take_keeps_the_pelvis_where_it_was(tmp_path, template):
    """Issue 8: beta settles with calibration. What was shown before must not jump to another place."""
    first, second = make_person(template, frames=10, seed=1), make_person(template, frames=10, seed=2)
    recording = record(tmp_path, template, first)
    recording.add(person_of(second, revision=2))
    for frame in frames_of(second, revision=2, first=10):
        recording.add(replace(frame, timestamp=frame.timestamp + 1))
    take = make_take(*recording.items(), template, same_body=True)
    assert np.abs(first.betas - second.betas).max() > 1 and np.allclose(take.clip.betas, second.betas)
    pelvis = posed_joints(template, take.clip)[:, 0]
    assert np.abs(pelvis[:10] - posed_joints(template, first)[:, 0]).max() < 1e-5
    assert np.abs(pelvis[10:] - posed_joints(template, second)[:, 0]).max() < 1e-5


def test_source_that_starts_again_goes_on_in_time(tmp_path, template):
    clip = make_person(template, frames=6)
    frames = [replace(frame, arrived=100 + 0.04 * number) for number, frame in enumerate(frames_of(clip))]
    again = [replace(frame, sequence=6 + number, arrived=100.24 + 0.04 * number) for number, frame in enumerate(frames)]
    items = [person_of(clip), *frames, *again]
    timestamps = make_take(stream_of(template), items, template, same_body=True).clip.timestamps
    assert (np.diff(timestamps) > 0).all() and abs(np.diff(timestamps)[5] - 0.04) < 1e-9


def test_one_frame_is_a_take_and_none_is_not(tmp_path, template):
    clip = make_person(template, frames=1)
    take = make_take(*record(tmp_path, template, clip).items(), template, same_body=True)
    take.clip.save(tmp_path / "one.npz")
    recording = Recording(tmp_path)
    recording.begin(stream_of(template), None)
    with pytest.raises(TakeError, match="no frames"):
        recording.items()


def test_journal_is_there_until_the_take_is_kept(tmp_path, template):
    folder = tmp_path / "takes"
    clip = make_person(template, frames=10)
    recording = record(folder, template, clip)
    assert unfinished_takes(folder) == []  # somebody writes it
    recording.close()
    assert unfinished_takes(folder) == [recording.path]
    stream, items = read_journal(recording.path)
    assert stream == stream_of(template) and len(items) == 11
    recording.discard_journal()
    assert unfinished_takes(folder) == [] and list(folder.iterdir()) == []


def test_journal_survives_a_kill(tmp_path, template):
    """Issue 8: kill -9 of Blender leaves the take. A process in its place records and is killed in the middle."""
    clip = make_person(template, frames=30)
    here = Path(__file__).parent
    folders = [str(Path(sys.modules["fullbody_mocap"].__file__).parent.parent), str(here), str(here.parent.parent)]
    code = f"""if True:
        import sys
        sys.path[:0] = {folders!r}
        import time
        from fullbody_mocap.live.take import Recording
        from live_scene import frames_of, make_person, person_of, stream_of, template_of_live
        template = template_of_live()
        recording = Recording({str(tmp_path)!r})
        clip = make_person(template, frames=30)
        recording.begin(stream_of(template), person_of(clip))
        for frame in frames_of(clip):
            recording.add(frame)
        print("recorded", flush=True)
        time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with process:
        said = any(line == "recorded\n" for line in process.stdout)  # up to there: it does not end by itself
        left = unfinished_takes(tmp_path)
        process.kill()
    assert said and left == []  # another process was writing it
    (journal,) = unfinished_takes(tmp_path)
    take = make_take(*read_journal(journal), template, same_body=True)
    assert np.abs(take.clip.poses - clip.poses).max() < 1e-6


def test_journal_that_was_cut_anywhere_gives_what_is_whole(tmp_path, template):
    clip = make_person(template, frames=5)
    recording = record(tmp_path, template, clip)
    recording.close()
    whole = recording.path.read_bytes()
    rng = np.random.default_rng(0)
    counts = set()
    for length in rng.integers(0, len(whole), 40).tolist():
        recording.path.write_bytes(whole[:length])
        try:
            _, items = read_journal(recording.path)
        except TakeError:
            continue
        counts.add(sum(isinstance(item, wire.Frame) for item in items))
    assert max(counts) == 4
    recording.path.write_bytes(os.urandom(1000))
    with pytest.raises(TakeError):
        read_journal(recording.path)


@pytest.mark.skipif(os.name == "nt" or not Path("/dev/full").exists(), reason="needs a full disk to write to")
def test_full_disk_keeps_the_take_in_memory(tmp_path, template):
    clip = make_person(template, frames=10)
    recording = Recording(tmp_path)
    recording._journal.close()
    recording._journal = open("/dev/full", "wb")
    recording.begin(stream_of(template), person_of(clip))
    for frame in frames_of(clip):
        recording.add(frame)
    assert "in memory only" in recording.error and len(recording.items()[1]) == 11


def test_folder_that_cannot_be_written_keeps_the_take_in_memory(tmp_path, template):
    (tmp_path / "file").write_text("")
    recording = record(tmp_path / "file", template, make_person(template, frames=3))
    assert "in memory only" in recording.error and len(recording.items()[1]) == 4
    recording.discard_journal()


def test_old_journals_give_way(tmp_path, template):
    for _ in range(12):
        record(tmp_path, template, make_person(template, frames=2)).close()
    assert len(unfinished_takes(tmp_path)) == 8
