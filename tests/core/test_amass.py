"""AMASS files as clips, and what they turn into beside captures."""

import numpy as np
import pytest

from fullbody_core.contract.amass import AmassError, is_amass, read_amass, read_clip
from fullbody_core.contract.capture import CaptureClip, CaptureError
from fullbody_core.contract.npz_file import FileError
from fullbody_core.contract.skeleton import JOINT_INDEX, LEFT_HAND_JOINTS

FRAMES = 7


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "poses": rng.normal(size=(FRAMES, 156)).astype(np.float32),
        "trans": rng.normal(size=(FRAMES, 3)).astype(np.float32),
        "betas": rng.normal(size=16).astype(np.float32),
        "gender": np.array("female"),
        "mocap_framerate": np.array(120.0),
    }


def write(folder, arrays):
    np.savez(folder / "motion.npz", **arrays)
    return folder / "motion.npz"


def test_what_the_file_says_is_what_the_clip_has(tmp_path, arrays):
    clip = read_amass(write(tmp_path, arrays))
    for name in ("poses", "trans", "betas"):
        np.testing.assert_array_equal(getattr(clip, name), arrays[name])
    assert (clip.gender, clip.mocap_framerate, clip.frame_count) == ("female", 120.0, FRAMES)
    assert clip.duration == pytest.approx(FRAMES / 120) and is_amass(clip)
    assert clip.valid[:, :3].all() and not clip.valid[:, 3].any()


def test_it_keeps_as_a_capture_file(tmp_path, arrays):
    clip = read_amass(write(tmp_path, arrays))
    clip.save(tmp_path / "clip.npz")
    again = read_clip(tmp_path / "clip.npz")
    np.testing.assert_array_equal(again.poses, clip.poses)
    assert is_amass(again) and CaptureClip.load(tmp_path / "clip.npz").frame_count == FRAMES


@pytest.mark.parametrize("count", [0, 8, 10, 16, 300])
def test_betas_of_any_length(tmp_path, arrays, count):
    betas = np.arange(1.0, count + 1)
    clip = read_amass(write(tmp_path, {**arrays, "betas": betas}))
    kept = min(count, 16)
    np.testing.assert_array_equal(clip.betas[:kept], betas[:kept])
    assert clip.betas.shape == (16,) and not clip.betas[kept:].any()
    del arrays["betas"]
    assert not read_amass(write(tmp_path, arrays)).betas.any()


@pytest.mark.parametrize("name", ["mocap_frame_rate", "mocap_fps"])
def test_other_names_of_the_rate(tmp_path, arrays, name):
    arrays[name] = arrays.pop("mocap_framerate").astype(int)[None]
    assert read_amass(write(tmp_path, arrays)).mocap_framerate == 120.0


def test_hands_that_are_zero_were_not_captured(tmp_path, arrays):
    arrays["poses"].reshape(FRAMES, 52, 3)[:, LEFT_HAND_JOINTS] = 0
    assert read_amass(write(tmp_path, arrays)).valid[0].tolist() == [True, False, True, False]


def test_poses_of_other_models(tmp_path, arrays):
    """SMPL's have two hand joints that SMPL-H lacks; SMPL-X's have jaw and eyes between body and hands."""
    body, hands = arrays["poses"][:, :66], arrays["poses"][:, 66:]
    smpl = read_amass(write(tmp_path, {**arrays, "poses": np.pad(body, ((0, 0), (0, 6)), constant_values=1)}))
    np.testing.assert_array_equal(smpl.poses[:, :66], body)
    assert not smpl.poses[:, 66:].any() and not smpl.valid[:, 1:].any()
    smplx = np.concatenate([body, np.full((FRAMES, 9), 9.0), hands], 1)
    np.testing.assert_array_equal(read_amass(write(tmp_path, {**arrays, "poses": smplx})).poses, arrays["poses"])
    assert 3 * JOINT_INDEX["left_index1"] == 66


@pytest.mark.parametrize(
    "change, words",
    [
        ({"poses": None}, "has no poses"),
        ({"trans": None}, "has no trans"),
        ({"mocap_framerate": None}, "frames per second"),
        ({"mocap_framerate": np.array(0.0)}, "frames per second"),
        ({"mocap_framerate": np.array("30")}, "frames per second"),
        ({"poses": np.zeros((FRAMES, 63))}, "too few for a body"),
        ({"poses": np.zeros((0, 156)), "trans": np.zeros((0, 3))}, "no frames"),
        ({"poses": np.full((FRAMES, 156), np.nan)}, "finite numbers"),
        ({"poses": np.full((FRAMES, 156), "x")}, "finite numbers"),
        ({"trans": np.zeros((FRAMES + 1, 3))}, r"shape \[7, 3\] as trans, got \[8, 3\]"),
        ({"betas": np.full(10, np.inf)}, "betas"),
    ],
)
def test_mistakes_are_told(tmp_path, arrays, change, words):
    arrays.update(change)
    path = write(tmp_path, {name: array for name, array in arrays.items() if array is not None})
    for read in (read_amass, read_clip):
        with pytest.raises(AmassError, match=words) as error:
            read(path)
        assert "\n" not in str(error.value)


def test_what_is_no_npz_or_pickled_or_a_broken_capture(tmp_path, arrays):
    (tmp_path / "text.npz").write_text("not a file of arrays")
    with pytest.raises(FileError, match="cut short"):
        read_clip(tmp_path / "text.npz")
    with pytest.raises(FileError, match="There is no"):
        read_clip(tmp_path / "none.npz")
    with pytest.raises(AmassError, match="cut short"):
        read_amass(write(tmp_path, {**arrays, "poses": np.array([{"a": 1}], object)}))
    with pytest.raises(CaptureError):
        read_clip(write(tmp_path, {**arrays, "meta": np.array("{}")}))
