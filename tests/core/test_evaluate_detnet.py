"""The metrics that DetNet is judged by, on answers whose errors are known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from synthetic_samples import dotted_samples

from fullbody_core.evaluate.detnet import only_basic
from fullbody_core.networks.heat_maps import hand_windows
from fullbody_core.train.detnet_metrics import (
    SamplePredictions,
    constant_predictions,
    format_detnet_reports,
    in_hand_units,
    procrustes,
    report_part,
    report_samples,
    window_overlaps,
)


def true_predictions(samples, count=33):
    """What a network answers that is never wrong."""
    faces = np.zeros((len(samples), 1, 3))
    return SamplePredictions(
        body2d=samples.body2d[:, :count].copy(),
        body3d=samples.body3d[:, :count].copy(),
        hand2d=samples.hand2d.copy(),
        hand3d=in_hand_units(samples)[0],
        windows=np.concatenate([hand_windows(samples.hand2d), faces], 1),
    )


def test_the_truth_has_no_error():
    samples = dotted_samples(6)
    report = report_samples(samples, true_predictions(samples))
    for part in report.parts.values():
        assert part.mpjpe < 1e-3 and part.pa < 1e-3 and part.pck == part.auc == 1
    assert report.pck2d == 1 and report.hand_pixels == 0 and report.hand_iou == pytest.approx(1) and report.face_iou < 0.01


def test_mpjpe_is_the_mean_distance_in_millimetres():
    truth = np.random.default_rng(0).normal(size=(4, 10, 3))
    shift = np.array([0.03, 0, 0.04])
    report = report_part(truth + shift, truth, np.ones((4, 10), bool))
    assert report.mpjpe == pytest.approx(50) and report.pa < 1e-6 and report.count == 40


def test_alignment_takes_out_turn_size_and_place_but_no_mirror():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(5, 12, 3))
    turned = 1.7 * truth @ Rotation.random(random_state=0).as_matrix().T + rng.normal(size=3)
    known = rng.random((5, 12)) < 0.7
    wild = np.where(known[..., None], turned, 99)
    aligned = procrustes(wild, truth, known)
    np.testing.assert_allclose(aligned[known], truth[known], atol=1e-9)
    assert np.linalg.norm(procrustes(truth * [-1, 1, 1], truth, known) - truth, axis=-1).mean() > 0.3


def test_pck_and_auc_count_shares():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(50, 14, 3))
    predicted = truth + rng.normal(0, 0.1, truth.shape)
    known = np.ones(truth.shape[:2], bool)
    report = report_part(predicted, truth, known)
    left = 1000 * np.linalg.norm(procrustes(predicted, truth, known) - truth, axis=-1)
    assert 0.2 < report.pck < 0.9 and report.pck == pytest.approx((left <= 150).mean())
    shares = [(left <= distance).mean() for distance in range(5, 151, 5)]
    assert len(shares) == 30 and report.auc == pytest.approx(np.mean(shares))


def test_what_is_unknown_or_outside_the_picture_does_not_count():
    samples = dotted_samples(4)
    predicted = true_predictions(samples)
    samples.body2d[:, 7] = [-20, 100]
    predicted.body3d[:, 7] += 5
    known = samples.body_known3d.copy()
    known[:, 9] = False
    predicted.body3d[:, 9] += 5
    report = report_samples(replace(samples, body_known3d=known), predicted)
    assert report.parts["body"].mpjpe < 1e-3 and report.parts["body"].count == 4 * 31


def test_hands_are_in_millimetres_of_the_true_hand():
    samples = dotted_samples(3)
    predicted = true_predictions(samples)
    predicted.hand3d[:] *= 1.1
    points = samples.hand3d - samples.hand3d[:, :, [9]]
    expected = 100 * np.linalg.norm(points, axis=-1).mean()
    report = report_samples(samples, predicted)
    assert report.parts["hands"].mpjpe == pytest.approx(expected, rel=1e-3) and report.parts["hands"].pa < 1e-3
    half = replace(samples, hand_boxes=samples.hand_boxes * [[[1], [0]]])
    assert report_samples(half, predicted).parts["hands"].count == 3 * 21


def test_a_window_beside_the_hand_overlaps_by_its_share():
    samples = dotted_samples(3)
    windows = true_predictions(samples).windows
    windows[:, 0, 0] += windows[:, 0, 2] / 2
    hands, _ = window_overlaps(samples, windows)
    np.testing.assert_allclose(np.sort(hands), [1 / 3] * 3 + [1] * 3, atol=1e-6)


def test_constant_pose_is_the_mean_and_beats_nothing_else_constant():
    samples = dotted_samples(40)
    constant = constant_predictions(samples, samples)
    assert (constant.body3d == constant.body3d[:1]).all()
    np.testing.assert_allclose(constant.body3d[0, 4], samples.body3d[:, 4].mean(0), atol=1e-6)
    mean_square = ((constant.body3d - samples.body3d) ** 2).mean()
    assert mean_square < ((samples.body3d[3] - samples.body3d) ** 2).mean()


def test_a_network_without_the_definition_is_judged_by_basic_keypoints():
    samples = only_basic(dotted_samples(2))
    assert samples.body_known2d[:, :9].all() and not samples.body_known3d[:, 9:].any()
    report = report_samples(samples, true_predictions(samples))
    assert report.parts["body"].count == 18


def test_nothing_known_gives_no_figures_and_still_a_table():
    samples = dotted_samples(2)
    nothing = replace(
        samples,
        body_known2d=samples.body_known2d & False,
        body_known3d=samples.body_known3d & False,
        hand_known3d=samples.hand_known3d & False,
    )
    report = report_samples(nothing, true_predictions(samples))
    assert np.isnan(report.parts["body"].mpjpe) and np.isnan(report.pck2d)
    assert "nan" in format_detnet_reports({"nothing": report})
