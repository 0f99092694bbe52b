"""The refined capture of films that are not as they should be, put together from the demo's own pictures."""

from dataclasses import replace

import numpy as np
import pytest

from fullbody_core.contract.skeleton import JOINT_INDEX
from fullbody_core.evaluate.clip import reprojection_errors
from fullbody_core.pipeline import CaptureSettings, capture
from fullbody_core.refine.whole_clip import PARTS, UnknownPartError, check_parts
from fullbody_core.video import VideoWriter, open_video

PLAIN = CaptureSettings(face="none")
RATE = 24


@pytest.fixture(scope="module")
def pictures(demo_video):
    return [image for _, image in open_video(demo_video).frames()]


def film(path, pictures):
    height, width = pictures[0].shape[:2]
    with VideoWriter(path, (width, height), RATE) as writer:
        for number, picture in enumerate(pictures):
            writer.write(number / RATE, picture)
    return path


def check(clip, frames):
    """What holds of any capture."""
    assert clip.frame_count == frames and clip.valid.shape == clip.filled.shape == (frames, 4)
    assert not (clip.filled & ~clip.valid).any()
    for values in (clip.poses, clip.trans, clip.joints_camera, clip.camera_to_world):
        assert np.isfinite(values).all()
    # Each frame's own camera says of the joints what the world does.
    world = np.einsum("tij,tj->ti", clip.camera_to_world[:, :3, :3], clip.joints_camera[:, 0])
    moved = world + clip.camera_to_world[:, :3, 3] - clip.trans
    valid = clip.valid[:, 0]
    np.testing.assert_allclose(moved[valid], np.broadcast_to(moved[valid][0], moved[valid].shape), atol=1e-4)


def test_the_demo_stands_under_its_pixels(demo_capture):
    clip = demo_capture[0]
    check(clip, 96)
    assert np.median(reprojection_errors(clip)) < 0.0075
    ankles = [JOINT_INDEX[f"{side}_ankle"] for side in ("left", "right")]
    assert np.ptp(clip.joints_camera[:, ankles], axis=0).max() < 0.02, "m that feet move which stand all the time"


def test_a_person_who_is_hidden_and_a_cut(tmp_path, pictures):
    """Hidden for a quarter of a second: filled in and marked. Then a cut to the looking glass's side: a shot of its own."""
    nobody = np.full_like(pictures[0], 128)
    whole, hidden, cut = 30, slice(12, 18), 30
    shown = pictures[20 : 20 + whole]
    shown[hidden] = [nobody] * 6
    other = [np.roll(picture[:, ::-1], 40, axis=1) for picture in pictures[70:86]]
    clip, _ = capture(film(tmp_path / "cut.mp4", shown + other), PLAIN)
    check(clip, whole + 16)
    assert clip.valid[:, 0].all()
    assert clip.filled[hidden, 0].sum() >= 4 and not clip.filled[:10, 0].any() and not clip.filled[22:, 0].any()
    # No smoothing goes over the cut: both sides lie on their own pixels.
    joints = clip.joints_camera[:, 0]
    assert np.linalg.norm(np.diff(joints, axis=0), axis=-1).argmax() == cut - 1
    assert np.median(reprojection_errors(clip)) < 0.03


@pytest.mark.parametrize("count, ik", [(1, "auto"), (2, "auto"), (2, "analytic")])
def test_a_film_of_next_to_no_frames(tmp_path, pictures, count, ik):
    clip, _ = capture(film(tmp_path / "short.mp4", pictures[40 : 40 + count]), replace(PLAIN, ik=ik))
    check(clip, count)
    assert clip.valid[:, 0].all()


def test_a_still_picture_stays_still(tmp_path, pictures):
    clip, _ = capture(film(tmp_path / "still.mp4", [pictures[40]] * 12), PLAIN)
    check(clip, 12)
    assert np.ptp(clip.joints_camera[:, :22], axis=0).max() < 0.02
    assert np.ptp(clip.camera_to_world, axis=0).max() == 0


def test_what_may_be_left_out_is_named(demo_video):
    with pytest.raises(UnknownPartError, match="no part 'gravity'.*reprojection"):
        check_parts(("contact", "gravity"))
    assert {"reprojection", "contact", "floor", "smoothness", "lifter", "settle", "hands", "camera"} <= set(PARTS)
