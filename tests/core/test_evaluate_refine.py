"""The benchmark of refined clips: measures on made-up motions, truths whose feet stand, clips, films, sheets."""

import argparse
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fullbody_core.camera import camera_matrix, project
from fullbody_core.cli_evaluate_refine import add_evaluate_refine, run_evaluate_refine
from fullbody_core.contract.frames import axis_angle_to_matrix
from fullbody_core.contract.skeleton import JOINT_INDEX
from fullbody_core.contract.swing_twist import transpose
from fullbody_core.evaluate import motion_metrics as metrics
from fullbody_core.evaluate.against_truth import Moved, moved_of_solved, moved_of_truth, score
from fullbody_core.evaluate.refine import AFTER, BEFORE, RAW, Evaluation, format_made, terms_to_leave_out
from fullbody_core.evaluate.refine_sheet import write_refine_sheet
from fullbody_core.ik.rest_skeleton import RestSkeleton
from fullbody_core.motion import Motion as CameraMotion
from fullbody_core.motion import Solved
from fullbody_core.refine.whole_clip import UnknownPartError
from fullbody_core.synth.backgrounds import BackgroundError, read_backgrounds
from fullbody_core.synth.clips import ClipError, load_truth, make_clip, render_clip, save_truth
from fullbody_core.synth.planted_motion import plant, posed_soles
from fullbody_core.train.motions import Motion
from fullbody_core.usage import UsageError
from fullbody_core.video import VideoWriter

FPS, FRAMES = 30.0, 100
TIMES = np.arange(FRAMES) / FPS


def random_turn(rng):
    return axis_angle_to_matrix(rng.normal(size=3) * 2)


def waving(phase=0.0, size=1.0):
    """Three points [T, 3, 3] m that swing at up to about 2 m/s."""
    swing = size * 0.3 * np.sin(2 * np.pi * (TIMES[:, None] - phase) + np.arange(3))
    return np.stack([swing, 0.2 * swing, np.zeros_like(swing)], -1) + np.arange(3)[:, None]


ALL = np.ones((FRAMES, 3), bool)


def test_procrustes_finds_what_was_done_and_never_mirrors():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 8, 3))
    turns, shift = np.stack([random_turn(rng) for _ in points]), rng.normal(size=(5, 3))
    target = metrics.moved(points, np.full(5, 1.7), turns, shift)
    weights = np.ones((5, 8))
    points[:, 3], weights[:, 3] = 50, 0  # what has no weight has no say
    scale, found, moved = metrics.procrustes(points, target, weights)
    np.testing.assert_allclose(scale, 1.7)
    np.testing.assert_allclose(found, turns, atol=1e-9)
    np.testing.assert_allclose(moved, shift, atol=1e-9)
    mirrored = metrics.procrustes(points, target * [-1, 1, 1], weights)[1]
    np.testing.assert_allclose(np.linalg.det(mirrored), 1)


def test_aligned_error_forgives_place_turn_and_size_only():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(FRAMES, 6, 3))
    shown = np.ones((FRAMES, 6), bool)
    points = 0.8 * truth @ random_turn(rng).T + 3
    assert metrics.aligned_error(points, truth, shown) < 1e-9 < metrics.mean_error(points, truth, shown)
    assert metrics.aligned_error(points + rng.normal(size=points.shape), truth, shown) > 0.1


def test_path_errors_tell_a_drift_from_another_world():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(1, 6, 3)) + np.linspace(0, 3, FRAMES)[:, None, None] * [1, 0, 0]
    shown = np.ones((FRAMES, 6), bool)
    elsewhere = truth @ random_turn(rng).T + 7
    np.testing.assert_allclose(metrics.path_errors(elsewhere, truth, shown), 0, atol=1e-9)
    drifting = elsewhere + np.linspace(0, 1, FRAMES)[:, None, None] * [0, 0, 1]
    first, whole = metrics.path_errors(drifting, truth, shown)
    assert first == pytest.approx(0.5, abs=0.01) and 0 < whole < 0.3


@pytest.mark.parametrize("frames_late", [-2.0, 0.0, 1.4, 3.0])
def test_lag_is_found_to_a_fraction_of_a_frame(frames_late):
    found = metrics.lag(waving(frames_late / FPS), waving(), ALL, TIMES)
    assert found == pytest.approx(frames_late / FPS, abs=0.15 / FPS)


def test_peak_speeds_fall_with_smoothing_and_only_the_velocity_with_lag():
    assert metrics.peak_speeds_kept(waving(), waving(), ALL, TIMES) == pytest.approx((1, 1))
    assert metrics.peak_speeds_kept(waving(size=0.5), waving(), ALL, TIMES) == pytest.approx((0.5, 0.5))
    speed, velocity = metrics.peak_speeds_kept(waving(phase=0.1), waving(), ALL, TIMES)
    assert speed == pytest.approx(1, abs=0.02) and velocity == pytest.approx(np.cos(0.2 * np.pi), abs=0.03)
    slow = metrics.peak_speeds_kept(waving(size=0.1), waving(size=0.1), ALL, TIMES)
    assert np.isnan(slow).all()


def test_shaking_counts_where_the_truth_is_still():
    truth = waving()
    truth[:, 0] = truth[0, 0]
    noise = np.random.default_rng(3).normal(0, 0.001, truth.shape)
    only_moving = truth + noise * [[0], [1], [1]]
    at_rest = np.ones(FRAMES, bool)
    assert metrics.still_shaking(only_moving, truth, ALL, TIMES, at_rest) == 0
    assert metrics.still_shaking(truth + noise, truth, ALL, TIMES, at_rest) > 1
    assert metrics.acceleration_error(only_moving, truth, ALL, TIMES) > 1
    assert np.isnan(metrics.still_shaking(truth + noise, truth, ALL, TIMES, ~at_rest))
    assert np.isnan(metrics.still_shaking(waving(), waving(), ALL, TIMES, at_rest))


def test_somebody_rests_who_is_slow_for_long_enough():
    world = np.zeros((FRAMES, 3, 3))
    world[20:24] += 0.1 * np.arange(4)[:, None, None]
    world[24:] += 0.3
    world[50:, 0] += TIMES[50:, None]  # one of three points goes on
    rests = metrics.resting(world, TIMES)
    assert not rests[20:24].any() and rests[:20].all() and rests[24:].all()
    world[30:40] += 0.01 * np.arange(10)[:, None, None]
    assert not metrics.resting(world, TIMES)[24:40].any()


def test_feet_are_measured_as_told():
    soles = np.zeros((FRAMES, 2, 3, 3))
    soles[:, 0, :, 0] = 0.02 * TIMES[:, None]
    soles[:, 1, 0, 2] = -0.03
    standing = np.ones(soles.shape[:3], bool)
    assert metrics.sliding_speeds(soles, standing, TIMES).mean() == pytest.approx(0.01)
    np.testing.assert_allclose(metrics.penetrations(soles, np.ones((FRAMES, 2), bool))[:2], [0, 0.03])
    half = standing.copy()
    half[: FRAMES // 2] = False
    shown = np.ones((FRAMES, 2), bool)
    assert metrics.contact_scores(standing, half, shown) == pytest.approx((0.5, 1, 2 / 3))
    assert metrics.contact_scores(half, half, shown) == (1, 1, 1)


def marching(framerate=FPS, frames=110, speed=1.0):
    """A `Motion` of somebody who marches on, with feet that slide as retargeted ones do, after a first frame in a T-pose."""
    times = np.arange(frames) / framerate
    rotations = np.tile(np.eye(3), (frames, 52, 1, 1))
    rotations[:, 0] = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    for side, phase in (("left", 0.0), ("right", np.pi)):
        lift = np.maximum(-np.sin(2 * np.pi * times + phase), 0) ** 2
        step = 0.3 * speed * np.cos(2 * np.pi * times + phase)
        for joint, axis, angle in (("hip", 0, -step - 0.7 * lift), ("knee", 0, 1.2 * lift), ("shoulder", 2, 0 * lift)):
            sign = -1 if side == "left" else 1
            angle = angle + (sign * 1.2 if joint == "shoulder" else 0)
            rotations[:, JOINT_INDEX[f"{side}_{joint}"]] = axis_angle_to_matrix(angle[:, None] * np.eye(3)[axis])
    rotations[0, 1:] = np.eye(3)
    trans = np.stack([0 * times, -speed * times, 0.02 * np.sin(7 * times)], -1)
    return Motion(f"march {speed}", rotations, framerate, trans)


@pytest.fixture(scope="module")
def skeleton(body):
    return RestSkeleton.of_body(body, np.zeros(16))


@pytest.fixture(scope="module")
def planted(skeleton):
    motion = marching(speed=0.6)
    return plant(skeleton, motion.rotations[1:], motion.trans[1:], FPS)


def test_planted_feet_stand_on_the_floor(skeleton, planted):
    rotations, pelvis, contacts = planted
    soles = posed_soles(skeleton, rotations, pelvis)
    assert contacts.any((1, 2)).mean() > 0.6 and not contacts.all()
    assert metrics.sliding_speeds(soles, contacts, np.arange(len(soles)) / FPS).mean() < 0.01
    assert np.abs(soles[contacts][:, 2]).max() < 0.026 and soles[..., 2].min() > -0.03
    np.testing.assert_allclose(rotations @ transpose(rotations), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-9)


def test_what_is_planted_stays_as_it_is(skeleton, planted):
    rotations, pelvis, _ = planted
    again, way, _ = plant(skeleton, rotations, pelvis, FPS)
    soles, before = (posed_soles(skeleton, *motion) for motion in ((again, way - way[0]), (rotations, pelvis - pelvis[0])))
    assert np.linalg.norm(soles - before, axis=-1).mean() < 0.04


@pytest.fixture(scope="module")
def clips(body):
    """Clips by kind; everything of the second motion goes too far for a close-up."""
    motions = [marching(speed=0.05), marching(speed=0.9)]
    return {kind: make_clip(body, motions, 3, number) for kind, number in (("whole", 0), ("turning", 3), ("waist", 5))}


def test_clips_are_seen_as_their_kind_says(body, clips):
    for kind, clip in clips.items():
        assert clip.kind == kind and len(clip) >= 75
        truth = moved_of_truth(clip, body)
        pixels = project(truth.camera, clip.matrix)
        inside = ((pixels >= 0) & (pixels <= clip.image_size)).all(-1)
        assert inside[:, 0].mean() > 0.95  # the nose
        assert (inside[:, -4:].mean() < 0.3) if kind == "waist" else (inside.mean() > 0.95)
        np.testing.assert_allclose(clip.camera_turns[0], np.eye(3), atol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(clip.up), 1)
        standing = truth.soles[clip.contacts]
        assert len(standing) and np.abs(standing[:, 2]).max() < 0.026
        turned = np.degrees(np.linalg.norm(clip.camera_turns[-1] - np.eye(3)))
        assert turned > 10 if kind == "turning" else turned < 1e-9


def test_a_clip_is_the_same_whatever_was_made_before_it_and_after_a_file(body, clips, tmp_path):
    clip = make_clip(body, [marching(speed=0.05), marching(speed=0.9)], 3, 5)
    save_truth(tmp_path / "clip.npz", clip)
    again, known = load_truth(tmp_path / "clip.npz"), clips["waist"]
    for name in ("rotations", "pelvis", "matrix", "up", "floor", "camera_turns", "contacts", "betas"):
        np.testing.assert_array_equal(getattr(again, name), getattr(known, name), name)
    assert (again.name, again.kind, tuple(again.image_size)) == (known.name, known.kind, tuple(known.image_size))
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(ClipError, match="is not a clip with known truth"):
        load_truth(tmp_path / "other.npz")
    with pytest.raises(ClipError, match="lasts 75 frames"):
        make_clip(body, [marching(frames=40)], 0, 0)


def small(clip, count):
    """The first frames of a clip, in a fifth of its size."""
    size = tuple(side // 5 for side in clip.image_size)
    clip = replace(clip, image_size=size, matrix=np.diag([0.2, 0.2, 1]) @ clip.matrix)
    part = {name: getattr(clip, name)[:count] for name in ("rotations", "pelvis", "camera_turns", "contacts")}
    return replace(clip, **part)


def test_films_show_the_body_where_the_truth_has_it_and_nothing_while_covered(body, clips):
    clip = small(clips["whole"], 2)
    width, height = clip.image_size
    clip.cover = np.array([1, 2, -5, -5, width + 5, height + 5])
    shown, covered = render_clip(clip, body, [np.full((300, 400, 3), (0, 255, 0), np.uint8)])
    assert shown.shape == (height, width, 3) and covered.std((0, 1)).max() < 15
    x, y = project(clip.pelvis[0], clip.matrix).astype(int)
    empty, person = shown[:20, :20].reshape(-1, 3).mean(0), shown[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(0)
    assert np.abs(person - empty).max() > 30


def test_backgrounds_are_read_from_pictures_and_videos(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8, 3), (255, 0, 0), np.uint8))
    with VideoWriter(tmp_path / "b.mp4", (16, 16), 30) as writer:
        for frame in range(5):
            writer.write(frame / 30, np.full((16, 16, 3), 200 if frame == 2 else 90, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    blue, median = read_backgrounds([tmp_path])
    assert tuple(blue[0, 0]) == (0, 0, 255) and abs(int(median.mean()) - 90) < 5
    with pytest.raises(BackgroundError, match="--backgrounds"):
        read_backgrounds([tmp_path / "nowhere"])


def solved_truth(clip, body):
    """The truth as if it had been captured."""
    truth = moved_of_truth(clip, body)
    motion = CameraMotion(RestSkeleton.of_body(body, clip.betas), clip.rotations, clip.pelvis, np.ones((len(clip), 4), bool))
    return Solved(motion, clip.betas, clip.matrix, truth.poses, contacts=clip.contacts)


def test_the_truth_scores_perfectly_and_faults_show_where_they_are(body, clips):
    clip = clips["turning"]
    truth, solved, found = moved_of_truth(clip, body), solved_truth(clip, body), np.ones(len(clip), bool)
    perfect = score(moved_of_solved(solved, clip.timestamps), truth, clip, clip.timestamps, found, 0.1)
    for name in ("mpjpe", "pa_mpjpe", "acceleration", "drift", "path", "hands", "up", "focal"):
        assert getattr(perfect, name) < 1e-5, name
    assert perfect.f1 == 1 and perfect.sliding < 0.01 and perfect.seconds == 0.1
    assert perfect.peak_speed == pytest.approx(1) and perfect.peak_velocity == pytest.approx(1) and abs(perfect.lag) < 1e-3
    sunk = np.array(solved.camera_to_world)
    sunk[:, 2, 3] -= 0.1
    sunk[:, 0, 3] += 0.3 * clip.timestamps
    faulty = replace(solved, camera_to_world=sunk, matrix=camera_matrix(clip.image_size, 90), contacts=~clip.contacts)
    result = score(moved_of_solved(faulty, clip.timestamps), truth, clip, clip.timestamps, found)
    assert result.sliding == pytest.approx(0.3, abs=0.01) and result.penetration > 0.09 and result.f1 == 0
    assert result.mpjpe < 1e-9 < 0.1 < result.drift and result.focal > 0.1
    bare = Moved(0.9 * truth.about_hips, truth.hands, truth.valid)
    result = score(bare, truth, clip, clip.timestamps, found)
    assert result.pa_mpjpe < 1e-9 < 0.01 < result.mpjpe and np.isnan(result.sliding)
    text = format_made(Evaluation(["clip"], {RAW: [result], BEFORE: [faulty_scores(result)], AFTER: [perfect]}, 10))
    assert "median of 1 clips" in text and "100.0% lower than MediaPipe" in text


def faulty_scores(scores):
    return replace(scores, mpjpe=0.2, pa_mpjpe=0.1)


def test_contacts_are_found_where_an_answer_has_none(body, clips):
    clip = clips["whole"]
    solved = replace(solved_truth(clip, body), contacts=None)
    truth, found = moved_of_truth(clip, body), np.ones(len(clip), bool)
    assert score(moved_of_solved(solved, clip.timestamps), truth, clip, clip.timestamps, found).f1 > 0.7


def test_the_sheet_has_a_row_a_frame_and_every_body_in_it(body, clips, tmp_path):
    clip = small(clips["whole"], 3)
    solved = solved_truth(clip, body)
    with VideoWriter(tmp_path / "clip.mp4", clip.image_size, FPS) as writer:
        for time in clip.timestamps:
            writer.write(time, np.full((clip.image_size[1], clip.image_size[0], 3), 90, np.uint8))
    write_refine_sheet(tmp_path / "sheet.png", tmp_path / "clip.mp4", solved, solved, clip.timestamps, body, clip, 1)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    width = round(clip.image_size[0] * 300 / clip.image_size[1])
    assert sheet.shape == (300, 3 * width + 3 * 300, 3)
    before, after, truth = (sheet[20:, start : start + 300].astype(int) for start in 3 * width + 300 * np.arange(3))
    for cell, strongest in ((before, 2), (after, 0), (truth, 1)):  # red, blue, green
        drawn = cell[np.ptp(cell, axis=-1) > 40]
        assert len(drawn) > 1000 and drawn.mean(0).argmax() == strongest


def test_the_command_says_what_it_lacks(tmp_path):
    parser = argparse.ArgumentParser()
    add_evaluate_refine(parser.add_subparsers())
    with pytest.raises(UsageError, match="--data"):
        run_evaluate_refine(parser.parse_args(["refine"]))
    with pytest.raises(UsageError, match="--clips"):
        run_evaluate_refine(parser.parse_args(["refine", "--data", str(tmp_path), "--clips", "0"]))
    with pytest.raises(UnknownPartError):
        terms_to_leave_out(["nothing"])
    assert set(terms_to_leave_out(["all"])) > {"reprojection", "contact"} and terms_to_leave_out([]) == ()
