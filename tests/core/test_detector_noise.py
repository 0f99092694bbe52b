"""The noise model: what it draws is as its formula says, and its file is strict."""

import importlib.resources
from dataclasses import fields

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fullbody_core.contract.npz_file import read_npz, write_npz
from fullbody_core.contract.skeleton import BLAZEPOSE_33
from fullbody_core.synth.detector_noise import (
    BODY_PART,
    DetectorNoise,
    DetectorNoiseError,
    PartNoise,
    bone_lengths,
    smooth_process,
)


@pytest.fixture(scope="module")
def shipped():
    return DetectorNoise.load(importlib.resources.files("fullbody_core") / "assets" / "mediapipe_noise.npz")


def test_bones_of_a_draw_have_the_lengths_of_the_model(shipped):
    rng = np.random.default_rng(5)
    carriers = Rotation.random(4000 * 33, random_state=int(rng.integers(1000))).as_matrix().reshape(4000, 33, 3, 3)
    truth = BODY_PART.rooted(rng.normal(0, 0.4, (4000, 33, 3)))
    drawn = shipped.body.draw(BODY_PART, rng, truth, carriers)
    ratio = bone_lengths(drawn, BODY_PART.bones) / bone_lengths(truth, BODY_PART.bones)
    np.testing.assert_allclose(ratio.mean(0), shipped.body.bone_mean, atol=0.02)


def test_a_smooth_process_has_its_correlation():
    start = np.random.default_rng(6).standard_normal((60, 4000))
    values = smooth_process(np.random.default_rng(7), start, 0.2)
    np.testing.assert_allclose(values.std(1), 1, atol=0.06)
    for lag in (1, 5, 15):
        assert (values[lag:] * values[:-lag]).mean() == pytest.approx((1 + 0.2 * lag) * np.exp(-0.2 * lag), abs=0.03)


def test_the_file_keeps_everything(shipped, tmp_path):
    shipped.save(tmp_path / "noise.npz")
    again = DetectorNoise.load(tmp_path / "noise.npz")
    assert again.meta == shipped.meta
    for part in ("body", "hand"):
        for item in fields(PartNoise):
            np.testing.assert_array_equal(
                getattr(getattr(again, part), item.name), getattr(getattr(shipped, part), item.name)
            )


def test_the_shipped_model_is_of_this_version_and_of_the_size_one_expects(shipped):
    assert shipped.body.points == BLAZEPOSE_33.names
    assert 0.01 < np.linalg.norm(shipped.body.scale_factor) < 0.2
    deviation = np.sqrt(np.square(shipped.body.factor).reshape(33, -1).sum(1))
    assert 0.01 < deviation.min() and deviation.max() < 0.3


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("body_mean", lambda array: None, "lacks body_mean"),
        ("hand_factor", lambda array: array[:-3], "three rows"),
        ("body_offset", lambda array: array * np.nan, "not finite"),
        ("body_points", lambda array: array[::-1], "other points"),
        ("hand_jitter", lambda array: array[:-1], "shape"),
        ("meta", lambda array: np.array("{}"), "not a detector noise model"),
    ],
)
def test_a_malformed_file_is_refused(shipped, tmp_path, name, change, message):
    shipped.save(tmp_path / "noise.npz")
    arrays = read_npz(tmp_path / "noise.npz", "detector noise model")
    changed = change(arrays.pop(name))
    write_npz(tmp_path / "noise.npz", arrays if changed is None else {**arrays, name: changed})
    with pytest.raises(DetectorNoiseError, match=message):
        DetectorNoise.load(tmp_path / "noise.npz")
