"""What of a clip is refined as one, and what stands in for the moments in which nobody is seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullbody_core.contract.frames import axis_angle_to_matrix
from fullbody_core.motion import Motion
from fullbody_core.refine.spans import LONGEST_GAP, bridge, spans

FRAMERATE = 30
LONGEST = round(LONGEST_GAP * FRAMERATE)


def times(frames):
    return np.arange(frames) / FRAMERATE


def runs(text):
    """[T] bool of 'x' for frames in which somebody is seen."""
    return np.array([letter == "x" for letter in text])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80))
@settings(max_examples=30, deadline=None)
def test_spans_hold_all_frames_that_are_valid_once_and_no_cut(frames):
    valid, cuts = np.array(frames, bool).reshape(-1, 2).T
    found = spans(valid, times(len(valid)), cuts)
    count = np.zeros(len(valid), int)
    for span in found:
        count[span.frames] += 1
        np.testing.assert_array_equal(span.filled, ~valid[span.frames])
        assert not span.filled[[0, -1]].any()
        assert not cuts[span.frames][1:].any()
    assert (count[valid] == 1).all() and count.max(initial=0) <= 1
    assert [span.frames.start for span in found] == sorted(span.frames.start for span in found)


def test_a_gap_of_half_a_second_is_filled_and_a_longer_one_is_not():
    for gap, pieces in ((LONGEST - 1, 1), (LONGEST, 2)):
        valid = runs("xxx" + gap * "." + "xx")
        found = spans(valid, times(len(valid)))
        assert len(found) == pieces
        assert sum(span.filled.sum() for span in found) == (gap if pieces == 1 else 0)


def test_a_leap_of_the_clock_is_a_gap_too():
    assert [span.frames for span in spans([True] * 4, [0, 0.03, 0.03 + 2 * LONGEST_GAP, 1.1])] == [slice(0, 2), slice(2, 4)]


def test_before_the_first_sight_and_after_the_last_there_is_nothing():
    found = spans(runs("..xx.xx..."), times(10))
    assert [span.frames for span in found] == [slice(2, 7)] and found[0].filled.tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert spans(runs("...."), times(4)) == [] and spans([], []) == []


def test_a_cut_within_a_gap_ends_a_span():
    valid, cuts = runs("xx..xx"), np.zeros(6, bool)
    assert len(spans(valid, times(6), cuts)) == 1
    cuts[3] = True
    assert [span.frames for span in spans(valid, times(6), cuts)] == [slice(0, 2), slice(4, 6)]


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="One entry a frame"):
        spans([True] * 3, times(4))


def even_motion(frames):
    """Everything turns and goes on evenly."""
    angles = np.arange(frames)[:, None, None] * np.random.default_rng(0).normal(0, 0.05, (52, 3))
    pelvis = np.arange(frames)[:, None] * np.array([0.02, 0, 0.01]) + [0, 0, 3]
    return Motion(None, axis_angle_to_matrix(angles), pelvis, np.ones((frames, 4), bool))


@given(st.lists(st.booleans(), min_size=3, max_size=12).filter(lambda filled: not all(filled)))
@settings(max_examples=20, deadline=None)
def test_an_even_motion_is_bridged_by_itself(filled):
    filled = np.array(filled)
    truth = even_motion(len(filled))
    broken = even_motion(len(filled))
    broken.rotations[filled], broken.pelvis[filled] = np.eye(3), np.nan
    bridged = bridge(broken, filled)
    inside = np.ones(len(filled), bool)
    first, last = np.flatnonzero(~filled)[[0, -1]]
    inside[:first], inside[last + 1 :] = False, False
    np.testing.assert_allclose(bridged.rotations[inside], truth.rotations[inside], atol=1e-9)
    np.testing.assert_allclose(bridged.pelvis[inside], truth.pelvis[inside], atol=1e-9)
    np.testing.assert_array_equal(bridged.pelvis[:first], np.tile(truth.pelvis[first], (first, 1)))
    assert np.isfinite(bridged.pelvis).all()
    assert np.isnan(broken.pelvis[filled]).all(), "what was given stays as it is"
