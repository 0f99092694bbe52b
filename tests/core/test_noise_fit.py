"""Estimating the noise model: what is drawn from a known one is measured back."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fullbody_core.contract.frames import MIRROR
from fullbody_core.synth.detector_noise import BODY_PART, HAND_PART, PartNoise
from fullbody_core.synth.noise_fit import PartPairs, estimate_part, fit_part, is_swapped, is_turned

RANK = 6

LOOSE_HAND = replace(HAND_PART, stiffness=0.0)
"""What is drawn here keeps to the formula exactly, so size and tilt may take all that they explain."""


def random_truth(part, rng, bursts, burst_length, radius):
    """Poses without meaning but with limbs that turn: (truth [N, K, 3] m, carriers [N, K, 3, 3]), constant within a burst."""
    carriers = Rotation.random(bursts * len(part.points), random_state=int(rng.integers(1000))).as_matrix()
    truth = rng.normal(0, radius, (bursts, len(part.points), 3))
    truth, carriers = (np.repeat(each, burst_length, 0) for each in (truth, carriers.reshape(bursts, -1, 3, 3)))
    return part.rooted(truth), carriers


def simple_noise(part, rng, size):
    """A `PartNoise` without jitter, amplitude or bone errors; `size` m: of its offsets and residuals."""
    count, bones = len(part.points), len(part.bones)
    return PartNoise(
        points=part.points,
        carriers=part.carriers,
        offset=rng.normal(0, size, (count, 3)),
        log_scale=-0.05,
        scale_factor=np.array([0.06, *np.zeros(RANK - 1)]),
        tilt_mean=np.array([0.1, 0, 0]),
        tilt_factor=np.pad(0.08 * np.eye(3), ((0, 0), (1, RANK - 4))),
        mean=np.zeros((count, 3)),
        factor=np.pad(rng.normal(0, size / 3, (3 * count, RANK - 4)), ((0, 0), (4, 0))),
        bone_mean=np.ones(bones),
        bone_slope=np.zeros(bones),
        bone_std=np.zeros(bones),
        amplitude=0.0,
        unseen_gain=np.ones(count),
        unseen_share=np.zeros(count),
        jitter=np.zeros(count),
        pose_jitter=np.zeros(2),
        slow_time=0.2,
    )


def as_pairs(part, noise, rng, bursts=300, burst_length=1, radius=0.4, framerate=None):
    truth, carriers = random_truth(part, rng, bursts, burst_length, radius)
    # Bones are left out, or they would take back what the residuals do to them.
    boneless = replace(part, bones=())
    noise = replace(noise, bone_mean=np.ones(0), bone_slope=np.zeros(0), bone_std=np.zeros(0))
    drawn = [
        noise.draw(
            boneless, rng, truth[first : first + burst_length], carriers[first : first + burst_length], framerate=framerate
        )
        for first in range(0, len(truth), burst_length)
    ]
    seen = np.ones(truth.shape[:2], bool)
    return PartPairs(
        np.concatenate(drawn),
        truth,
        carriers,
        seen,
        np.repeat(np.arange(bursts), burst_length),
        np.tile(np.arange(burst_length), bursts),
    )


def test_size_tilt_and_offset_of_a_known_detector_come_back():
    rng = np.random.default_rng(0)
    noise = simple_noise(HAND_PART, rng, 0.02)
    pairs = as_pairs(LOOSE_HAND, noise, rng, bursts=1500)
    fit = fit_part(LOOSE_HAND, pairs)
    assert fit.log_scale.mean() == pytest.approx(-0.05, abs=0.01) and fit.log_scale.std() == pytest.approx(0.06, rel=0.1)
    np.testing.assert_allclose(fit.tilt.mean(0), noise.tilt_mean, atol=0.01)
    np.testing.assert_allclose(fit.tilt.std(0), 0.08, rtol=0.15)
    np.testing.assert_allclose(fit.mean, 0, atol=2e-3)
    # An offset common to all carriers moves the root too, which nobody can see; the rest must be there.
    assert np.corrcoef(fit.offset.ravel(), noise.offset.ravel())[0, 1] > 0.98


def test_draws_from_an_estimate_have_the_spread_of_what_it_was_made_from():
    rng = np.random.default_rng(1)
    pairs = as_pairs(HAND_PART, simple_noise(HAND_PART, rng, 0.02), rng, bursts=1500)
    estimate = replace(
        estimate_part(LOOSE_HAND, pairs, 12, rng), bone_mean=np.ones(0), bone_slope=np.zeros(0), bone_std=np.zeros(0)
    )
    drawn = estimate.draw(replace(HAND_PART, bones=()), rng, pairs.truth, pairs.carriers)
    measured, imitated = (np.linalg.norm(points - pairs.truth, axis=-1) for points in (pairs.detected, drawn))
    assert imitated.mean() == pytest.approx(measured.mean(), rel=0.05)
    np.testing.assert_allclose(imitated.std(0), measured.std(0), rtol=0.25)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_jitter_and_slow_time_come_back(share):
    rng = np.random.default_rng(2)
    noise = replace(
        simple_noise(HAND_PART, rng, 0.02), jitter=np.full(21, share), pose_jitter=np.full(2, share), slow_time=0.15
    )
    pairs = as_pairs(HAND_PART, noise, rng, bursts=500, burst_length=9, framerate=30.0)
    estimate = estimate_part(LOOSE_HAND, pairs, 12, rng)
    np.testing.assert_allclose(estimate.jitter, share, atol=0.08)
    assert estimate.slow_time == pytest.approx(0.15, rel=0.4)


def test_a_looking_glass_changes_nothing_but_the_side():
    """Left and right of the body get the same noise, whichever of them was measured."""
    rng = np.random.default_rng(3)
    estimate = estimate_part(BODY_PART, as_pairs(BODY_PART, simple_noise(BODY_PART, rng, 0.04), rng), RANK, rng)
    np.testing.assert_allclose(estimate.offset[BODY_PART.mirror], estimate.offset @ MIRROR, atol=1e-6)
    np.testing.assert_allclose(estimate.mean[BODY_PART.mirror], estimate.mean @ MIRROR, atol=1e-6)
    np.testing.assert_allclose(estimate.tilt_mean[1:], 0, atol=1e-6)


def test_unsure_points_are_measured_apart():
    rng = np.random.default_rng(4)
    pairs = as_pairs(HAND_PART, simple_noise(HAND_PART, rng, 0.01), rng, bursts=800)
    pairs.seen[::2, 8] = False
    pairs.detected[::2, 8] += rng.normal(0, 0.2, (400, 3))
    estimate = estimate_part(LOOSE_HAND, pairs, 12, rng)
    assert estimate.unseen_share[8] == pytest.approx(0.5) and not estimate.unseen_share[:8].any()
    assert estimate.unseen_gain[8] > 5
    assert np.square(estimate.factor).reshape(21, -1).sum(1)[8] < 0.02**2 * 9


def test_gross_errors_are_recognized():
    rng = np.random.default_rng(8)
    truth, _ = random_truth(BODY_PART, rng, 20, 1, 0.4)
    noisy = truth + rng.normal(0, 0.02, truth.shape)
    assert not is_swapped(BODY_PART, noisy, truth).any()
    assert is_swapped(BODY_PART, noisy[:, BODY_PART.mirror], truth).all()
    assert not is_turned(noisy, truth).any()
    assert is_turned(noisy @ np.diag([-1.0, 1, -1]), truth).all()
