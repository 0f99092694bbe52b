"""One-Euro filtering both ways: what it must leave, what it must remove, and that rotations stay rotations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullbody_core.contract.frames import (
    axis_angle_to_quaternion,
    multiply_quaternions,
    quaternion_to_axis_angle,
    quaternion_to_matrix,
)
from fullbody_core.smoothing import (
    DEPTH,
    KEYPOINTS,
    POSE_LAG,
    ROTATION,
    SIGHT,
    OneEuro,
    OnlineSmoother,
    forward_pass,
    lag_budget,
    smooth_positions,
    smooth_rotations,
    valid_runs,
)

FPS = 30
POSITION = OneEuro(min_cutoff=1.0, speed_gain=1.0)
FILTERS = {
    "positions": lambda values, timestamps, valid: smooth_positions(values, timestamps, valid, POSITION),
    "rotations": smooth_rotations,
}


def clock(count, seed=None):
    """Timestamps [count] s at 30 a second; with a seed, jittered by up to a third of a frame."""
    times = np.arange(count) / FPS
    return times if seed is None else times + np.random.default_rng(seed).uniform(-1 / 3, 1 / 3, count) / FPS


def walk(count, seed, kind="rotations", joints=2):
    """A random signal [count, joints, 3 or 4] that moves by a few hundredths a frame."""
    steps = np.random.default_rng(seed).normal(size=(count, joints, 3)) * 0.05
    if kind == "positions":
        return np.cumsum(steps, 0)
    track = [axis_angle_to_quaternion(steps[0] * 20)]
    for step in axis_angle_to_quaternion(steps[1:]):
        track.append(multiply_quaternions(step, track[-1]))
    return np.stack(track)


def everywhere(count):
    return np.ones(count, bool)


def degrees_apart(a, b):
    return np.degrees(np.linalg.norm(quaternion_to_axis_angle(multiply_quaternions(a, b * [1, -1, -1, -1])), axis=-1))


both_kinds = pytest.mark.parametrize("kind", FILTERS)


# What it leaves.


@both_kinds
def test_a_still_signal_is_unchanged(kind):
    still = np.repeat(walk(1, 0, kind), 40, 0)
    np.testing.assert_allclose(FILTERS[kind](still, clock(40, 1), everywhere(40)), still, atol=1e-14)


@both_kinds
@pytest.mark.parametrize("count", [1, 2])
def test_the_shortest_runs(kind, count):
    signal = walk(count, 0, kind)
    filtered = FILTERS[kind](signal, clock(count), everywhere(count))
    # One frame has nothing to be filtered with; two move towards each other, equally.
    if count == 1:
        np.testing.assert_allclose(filtered, signal, atol=1e-15)
    elif kind == "positions":
        np.testing.assert_allclose(filtered.sum(0), signal.sum(0), atol=1e-14)
        assert (np.abs(filtered[1] - filtered[0]) < np.abs(signal[1] - signal[0])).all()
    else:
        assert (degrees_apart(filtered[1], filtered[0]) < degrees_apart(signal[1], signal[0])).all()


@both_kinds
def test_the_argument_is_left_alone(kind):
    signal = walk(20, 0, kind)
    before = signal.copy()
    assert not np.array_equal(FILTERS[kind](signal, clock(20), everywhere(20)), before)
    assert np.array_equal(signal, before)


# What it removes.


def test_noise_around_a_still_place_is_halved_at_least():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(600, 4, 3)) * 0.01
    filtered = smooth_positions(noise, clock(600), everywhere(600), POSITION)
    assert (filtered.std(0) < 0.5 * noise.std(0)).all()
    assert np.abs(filtered.mean(0) - noise.mean(0)).max() < 0.001


def test_noise_around_a_still_pose_is_halved_at_least():
    pose = axis_angle_to_quaternion([0.4, -2.0, 1.1])
    shake = np.random.default_rng(1).normal(size=(600, 3)) * 0.02
    noisy = multiply_quaternions(axis_angle_to_quaternion(shake), pose)
    filtered = smooth_rotations(noisy, clock(600), everywhere(600))
    assert np.sqrt(np.mean(degrees_apart(filtered, pose) ** 2)) < 0.5 * np.sqrt(np.mean(degrees_apart(noisy, pose) ** 2))
    # Jitter between neighbours, which is what one sees, goes down further.
    assert np.mean(degrees_apart(filtered[1:], filtered[:-1])) < 0.25 * np.mean(degrees_apart(noisy[1:], noisy[:-1]))


def test_a_higher_gain_follows_fast_motion_closer():
    times = clock(120)
    swing = np.sin(2 * np.pi * 1.5 * times)[:, None] * [0.5, 0, 0]
    filtered = [smooth_positions(swing, times, everywhere(120), OneEuro(1.0, gain)) for gain in (0.0, 1.0, 10.0, 100.0)]
    errors = [np.abs(answer - swing)[10:-10].max() for answer in filtered]
    assert errors == sorted(errors, reverse=True)
    # Without the gain most of the swing is lost; with it next to nothing.
    assert errors[0] > 0.1 and errors[-1] < 0.02


def test_a_fast_turn_of_an_arm_is_followed():
    """A swing of 60 degrees either way, once a second: no more than a tenth of it is lost, and its peaks come on time.

    At a run's ends only one of the two directions has anything to go by, and half its lag stays: an eighth.
    """
    times = clock(150)
    angle = np.radians(60) * np.sin(2 * np.pi * times)
    filtered = smooth_rotations(axis_angle_to_quaternion(angle[:, None] * [0, 0, 1]), times, everywhere(150))
    followed = quaternion_to_axis_angle(filtered)[:, 2]
    error = np.degrees(np.abs(followed - angle))
    assert error[10:-10].max() < 6 and error.max() < 7.5
    lags = range(-5, 6)
    match = [np.sum(followed[30:120] * angle[30 + lag : 120 + lag]) for lag in lags]
    assert lags[int(np.argmax(match))] == 0


@both_kinds
@given(seed=st.integers(0, 10_000), count=st.integers(2, 40))
@settings(max_examples=15, deadline=None)
def test_a_film_run_backwards_gives_the_answer_backwards(kind, seed, count):
    """No phase: what lags forwards leads backwards, and the two are averaged."""
    signal, times = walk(count, seed, kind), clock(count, seed)
    forwards = FILTERS[kind](signal, times, everywhere(count))
    backwards = FILTERS[kind](signal[::-1], times[-1] - times[::-1], everywhere(count))[::-1]
    if kind == "rotations":
        forwards, backwards = quaternion_to_matrix(forwards), quaternion_to_matrix(backwards)
    np.testing.assert_allclose(forwards, backwards, atol=1e-12)


def test_a_step_is_smoothed_evenly_on_both_sides():
    step = np.repeat([[0.0], [1.0]], 30, 0)
    filtered = smooth_positions(step, clock(60), everywhere(60), POSITION)
    np.testing.assert_allclose(filtered + filtered[::-1], 1, atol=1e-12)
    assert (np.diff(filtered[:, 0]) >= -1e-12).all() and filtered.min() > -1e-12 and filtered.max() < 1 + 1e-12


# On the manifold.


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_rotations_stay_rotations_between_their_neighbours(seed):
    signal = walk(30, seed)
    filtered = smooth_rotations(signal, clock(30, seed), everywhere(30))
    np.testing.assert_allclose(np.linalg.norm(filtered, axis=-1), 1, atol=1e-12)
    reach = degrees_apart(signal[:, None], signal[None]).max()
    assert degrees_apart(filtered, signal).max() <= reach


@given(st.integers(0, 10_000), st.tuples(*[st.floats(-3, 3)] * 3))
@settings(max_examples=15, deadline=None)
def test_turning_the_whole_scene_turns_the_answer(seed, turn):
    """filter(R q) = R filter(q) for any R; the same from the right, which is another choice of rest pose."""
    signal, times = walk(30, seed), clock(30, seed)
    turn = axis_angle_to_quaternion(turn)
    filtered = quaternion_to_matrix(smooth_rotations(signal, times, everywhere(30)))
    from_left = smooth_rotations(multiply_quaternions(turn, signal), times, everywhere(30))
    from_right = smooth_rotations(multiply_quaternions(signal, turn), times, everywhere(30))
    np.testing.assert_allclose(quaternion_to_matrix(from_left), quaternion_to_matrix(turn) @ filtered, atol=1e-9)
    np.testing.assert_allclose(quaternion_to_matrix(from_right), filtered @ quaternion_to_matrix(turn), atol=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_signs_of_quaternions_do_not_matter(seed):
    signal, times = walk(30, seed), clock(30)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (30, 2, 1))
    plain, signed = (smooth_rotations(values, times, everywhere(30)) for values in (signal, signal * signs))
    np.testing.assert_allclose(quaternion_to_matrix(signed), quaternion_to_matrix(plain), atol=1e-12)


def test_turning_past_half_a_turn_does_not_wrap():
    """A spin of five turns: axis-angle would jump at each half turn, the filtered spin goes on evenly."""
    times = clock(150)
    spin = axis_angle_to_quaternion((2 * np.pi * times)[:, None] * [0, 1, 0])
    filtered = smooth_rotations(spin, times, everywhere(150))
    steps = degrees_apart(filtered[1:], filtered[:-1])[20:-20]
    np.testing.assert_allclose(steps, 360 / FPS, rtol=0.02)


@both_kinds
def test_joints_are_filtered_each_by_itself(kind):
    signal, times = walk(30, 4, kind, joints=3), clock(30)
    together = FILTERS[kind](signal, times, everywhere(30))
    for joint in range(3):
        np.testing.assert_allclose(FILTERS[kind](signal[:, joint], times, everywhere(30)), together[:, joint], atol=1e-14)


@given(st.integers(0, 10_000), st.tuples(*[st.floats(-100, 100)] * 3))
@settings(max_examples=15, deadline=None)
def test_moving_the_whole_scene_moves_the_answer(seed, shift):
    signal, times = walk(30, seed, "positions"), clock(30, seed)
    filtered = smooth_positions(signal, times, everywhere(30), POSITION)
    moved = smooth_positions(signal + shift, times, everywhere(30), POSITION)
    np.testing.assert_allclose(moved, filtered + shift, atol=1e-10)


# Time.


@both_kinds
def test_the_zero_of_the_clock_does_not_matter(kind):
    signal, times = walk(30, 5, kind), clock(30, 5)
    np.testing.assert_allclose(
        FILTERS[kind](signal, times + 3600, everywhere(30)), FILTERS[kind](signal, times, everywhere(30)), atol=1e-9
    )


@both_kinds
def test_half_the_frames_of_a_slow_signal_give_nearly_the_same(kind):
    times = np.arange(240) / 60
    vector = 0.2 * np.sin(2 * np.pi * 0.4 * times)[:, None] * [1, 0.5, 0]
    signal = vector if kind == "positions" else axis_angle_to_quaternion(vector)
    fine = FILTERS[kind](signal, times, everywhere(240))
    coarse = FILTERS[kind](signal[::2], times[::2], everywhere(120))
    assert np.abs(fine[::2] - coarse).max() < 0.008
    # Told the wrong time it differs far more: the timestamps are used.
    wrong = FILTERS[kind](signal[::2], times[::2] / 8, everywhere(120))
    assert np.abs(fine[::2] - wrong).max() > 0.03


@both_kinds
def test_a_dropped_frame_is_no_jolt(kind):
    """Even motion with a frame missing: on the true clock nothing stands out where it was dropped."""
    kept = np.delete(np.arange(90), 45)
    times = kept / FPS
    vector = times[:, None] * [0.5, 0, 0]
    signal = vector if kind == "positions" else axis_angle_to_quaternion(vector)
    filtered = FILTERS[kind](signal, times, everywhere(89))
    if kind == "rotations":
        filtered = quaternion_to_axis_angle(filtered)
    speed = np.diff(filtered[:, 0]) / np.diff(times)
    np.testing.assert_allclose(speed[30:60], 0.5, rtol=0.02)


# Holes.


@given(st.lists(st.booleans(), max_size=40))
def test_valid_runs_are_the_unbroken_stretches(valid):
    runs = valid_runs(np.array(valid, bool))
    covered = [frame for run in runs for frame in range(run.start, run.stop)]
    assert covered == [frame for frame, good in enumerate(valid) if good]
    assert all(run.stop > run.start for run in runs)
    assert all(before.stop < after.start for before, after in zip(runs[:-1], runs[1:])), "a hole between any two"


@both_kinds
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_holes_stay_as_they_are_and_runs_do_not_touch(kind, seed):
    signal, times = walk(40, seed, kind), clock(40, seed)
    valid = np.random.default_rng(seed).random(40) < 0.8
    signal[~valid] = np.nan
    filtered = FILTERS[kind](signal, times, valid)
    assert np.isnan(filtered[~valid]).all() and np.isfinite(filtered[valid]).all()
    for run in valid_runs(valid):
        alone = FILTERS[kind](signal[run], times[run], everywhere(run.stop - run.start))
        np.testing.assert_array_equal(filtered[run], alone)


@both_kinds
def test_with_nothing_valid_nothing_changes(kind):
    signal = walk(10, 0, kind)
    np.testing.assert_array_equal(FILTERS[kind](signal, clock(10), np.zeros(10, bool)), signal)


# Settings.


@pytest.mark.parametrize("settings_", [(0, 1, 1), (-1, 1, 1), (1, -0.1, 1), (1, 1, 0)])
def test_impossible_settings_are_refused(settings_):
    with pytest.raises(ValueError, match="should be above zero"):
        OneEuro(*settings_)


@pytest.mark.parametrize("preset", [ROTATION, SIGHT, DEPTH])
def test_presets_steady_a_still_signal_and_follow_a_ramp(preset):
    noise = np.random.default_rng(3).normal(size=(600, 1)) * 1e-3
    filtered = smooth_positions(noise, clock(600), everywhere(600), preset)
    assert filtered.std() < 0.6 * noise.std()
    ramp = clock(90)[:, None]
    np.testing.assert_allclose(smooth_positions(ramp, clock(90), everywhere(90), preset)[20:-20], ramp[20:-20], atol=0.01)


# Online: the forward pass alone, frame by frame.

AS_IT_IS = (np.sqrt(0.05**2 + 0.4 * POSE_LAG) - 0.05) / 0.2
"""The smoothing at which the filters are as they are offline: where `lag_budget` is POSE_LAG."""


def online(smoother, values, timestamps, valid=None, kind="positions", settings=POSITION):
    """What an `OnlineSmoother` gives for values [T, ...], one after another."""
    valid = everywhere(len(values)) if valid is None else valid
    extra = (settings,) if kind == "positions" else ()
    follow = getattr(smoother, kind)
    frames = range(len(values))
    return np.concatenate([follow("it", values[[i]], timestamps[[i]], valid[[i]], *extra) for i in frames])


def forwards(kind, values, timestamps):
    """The forward pass that offline averages with the backward one, seen from outside of it."""
    if kind == "positions":
        return forward_pass(values, np.diff(timestamps), POSITION, np.subtract, np.add)

    def difference(new, old):
        return quaternion_to_axis_angle(multiply_quaternions(new, old * [1.0, -1, -1, -1]))

    def turn(old, step):
        return multiply_quaternions(axis_angle_to_quaternion(step), old)

    return forward_pass(values, np.diff(timestamps), ROTATION, difference, turn)


@both_kinds
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_online_is_the_forward_pass_of_offline(kind, seed):
    signal, times = walk(40, seed, kind), clock(40, seed)
    np.testing.assert_allclose(
        online(OnlineSmoother(AS_IT_IS), signal, times, kind=kind), forwards(kind, signal, times), atol=1e-9
    )


@both_kinds
def test_online_without_smoothing_is_as_it_comes(kind):
    signal, times = walk(20, 1, kind), clock(20)
    np.testing.assert_array_equal(online(OnlineSmoother(0), signal, times, kind=kind), signal)


@pytest.mark.parametrize("smoothing", [0.2, 0.5, 1.0])
def test_a_pose_that_moves_evenly_at_ordinary_speed_lags_by_the_budget(smoothing):
    """Keypoints are filtered, then rotations: together they are late by `lag_budget`, and by less where things move faster."""

    def lag(settings_, times_ordinary):
        times = clock(300)
        speed = settings_.ordinary_speed * times_ordinary
        return (
            times[-1] - online(OnlineSmoother(smoothing), (speed * times)[:, None], times, settings=settings_)[-1, 0] / speed
        )

    assert lag(KEYPOINTS, 1) + lag(ROTATION, 1) == pytest.approx(lag_budget(smoothing), rel=0.02)
    assert lag(KEYPOINTS, 3) + lag(ROTATION, 3) < 0.7 * lag_budget(smoothing)


def test_the_budget_grows_with_smoothing_from_none_to_a_sixth_of_a_second():
    budgets = [lag_budget(smoothing) for smoothing in np.linspace(0, 1, 11)]
    assert budgets[0] == 0 and budgets[5] == pytest.approx(0.05) and budgets[10] == pytest.approx(0.15)
    assert (np.diff(budgets) > 0).all()
    assert lag_budget(-3) == 0 and lag_budget(7) == budgets[-1]


def test_online_more_smoothing_is_steadier():
    noise = np.random.default_rng(0).normal(size=(400, 3)) * 0.01
    spread = [online(OnlineSmoother(smoothing), noise, clock(400)).std() for smoothing in (0.0, 0.25, 0.5, 1.0)]
    assert spread == sorted(spread, reverse=True) and spread[-1] < 0.5 * spread[0]


@both_kinds
def test_online_starts_anew_after_a_hole(kind):
    signal, times = walk(30, 2, kind), clock(30)
    valid = everywhere(30)
    valid[12:15] = False
    filtered = online(OnlineSmoother(0.5), signal, times, valid, kind)
    np.testing.assert_array_equal(filtered[12:16], signal[12:16])
    np.testing.assert_array_equal(filtered[15:], online(OnlineSmoother(0.5), signal[15:], times[15:], kind=kind))


@both_kinds
@pytest.mark.parametrize("jump", [-0.8, -100.0, 60.0, -1 / FPS])
def test_online_starts_anew_when_the_clock_jumps(kind, jump):
    """A looping video begins again at zero, or its clock stands still: no division by nothing, no leap."""
    signal, times = walk(30, 3, kind), clock(30)
    times[15:] += jump
    filtered = online(OnlineSmoother(1.0), signal, times, kind=kind)
    np.testing.assert_array_equal(filtered[15], signal[15])
    assert np.isfinite(filtered).all()


def test_online_smoothing_may_change_between_two_frames():
    smoother, times = OnlineSmoother(1.0), clock(60)
    signal = walk(60, 4, "positions")
    first = online(smoother, signal[:30], times[:30])
    smoother.smoothing = 0.2
    second = online(smoother, signal[30:], times[30:])
    assert np.abs(second - signal[30:]).mean() < np.abs(first - signal[:30]).mean()
    steps = np.abs(np.diff(np.concatenate([first, second]), axis=0)).max(axis=(1, 2))
    assert steps[29] < 3 * np.abs(np.diff(signal, axis=0)).max()


def test_names_keep_their_own_past():
    smoother, times = OnlineSmoother(1.0), clock(30)
    a, b = walk(30, 5, "positions"), walk(30, 6, "positions")
    mixed = [
        [smoother.positions(name, values[[i]], times[[i]], everywhere(1), POSITION) for name, values in (("a", a), ("b", b))]
        for i in range(30)
    ]
    np.testing.assert_array_equal(np.concatenate([one for one, _ in mixed]), online(OnlineSmoother(1.0), a, times))
    np.testing.assert_array_equal(np.concatenate([two for _, two in mixed]), online(OnlineSmoother(1.0), b, times))


@given(st.floats(0.01, 1000))
@settings(max_examples=10, deadline=None)
def test_a_filter_for_other_units_does_the_same(size):
    signal, times = walk(30, 7, "positions"), clock(30)
    np.testing.assert_allclose(
        smooth_positions(signal * size, times, everywhere(30), POSITION.for_unit(size)),
        size * smooth_positions(signal, times, everywhere(30), POSITION),
        rtol=1e-9,
        atol=1e-12 * size,
    )
