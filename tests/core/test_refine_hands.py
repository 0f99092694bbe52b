"""The refinement of hands and head on made-up clips whose truth is known."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fullbody_core.camera import camera_matrix, project
from fullbody_core.contract.frames import (
    MIRROR,
    REST_TO_CAMERA,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_to_matrix,
    slerp_quaternions,
)
from fullbody_core.contract.skeleton import BLAZEPOSE_33, JOINT_INDEX, SIDES
from fullbody_core.contract.swing_twist import about, rotate, transpose, unit
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.ik.hand_flips import LARGEST_JUMP, SUDDEN, cheapest_path, mirror_along_sight, without_flips
from fullbody_core.ik.iknet import IKNetSolver
from fullbody_core.ik.rest_skeleton import RestSkeleton, hand_places
from fullbody_core.motion import Motion
from fullbody_core.refine.fingers import ANGLES, POINT_ORDER, RANGES, RELAXED, Fingers
from fullbody_core.refine.hand_terms import (
    UNKNOWNS,
    FingerAgreement,
    FingerLimits,
    HandPose,
    HandReprojection,
    Place,
)
from fullbody_core.refine.hands import (
    HAND_TERMS,
    HandObservations,
    HandSettings,
    hang_on_forearms,
    refine_hands,
    short_holes,
    surely_found,
    trust_near,
)
from fullbody_core.refine.head import refine_head
from fullbody_core.refine.own_motion import without_spikes, without_turned_spikes
from fullbody_core.refine.solver import NormalEquations
from fullbody_core.refine.turn_terms import OwnSmoothness, TurnAgreement, steady_turns
from fullbody_core.refine.windows import OVERLAP, WINDOW, windows
from fullbody_core.synth.hand_poses import sample_hand_poses

MATRIX = camera_matrix((1280, 720))
FRAMES, RATE = 90, 30.0
WRISTS = [JOINT_INDEX[f"{side}_wrist"] for side in SIDES]


@pytest.fixture(scope="module")
def skeleton(body):
    return RestSkeleton.of_body(body, np.linspace(-1, 1, 16))


@pytest.fixture(scope="module")
def truth(skeleton):
    """A person whose arms swing and whose fingers go from pose to pose once a second and hold each for a while."""
    rng = np.random.default_rng(3)
    times = np.arange(FRAMES) / RATE
    keys = matrix_to_quaternion(sample_hand_poses(rng, 5, skeleton.joints))
    place, share = np.floor(times).astype(int), np.clip(2 * (times % 1), 0, 1)
    share = (share**2 * (3 - 2 * share))[:, None]
    fingers = quaternion_to_matrix(slerp_quaternions(keys[place], keys[place + 1], np.broadcast_to(share, (FRAMES, 15))))
    rotations = np.broadcast_to(np.eye(3), (FRAMES, 52, 3, 3)).copy()
    rotations[:, 0] = REST_TO_CAMERA
    swing = np.outer(0.6 * np.sin(2 * np.pi * 0.6 * times), [0.3, 1.0, 0.2])
    for name in ("left_shoulder", "right_shoulder", "left_wrist", "right_wrist"):
        rotations[:, JOINT_INDEX[name]] = axis_angle_to_matrix(swing)
    rotations[:, 22:37], rotations[:, 37:] = fingers, MIRROR @ fingers @ MIRROR
    return Motion(skeleton, rotations, np.tile([0.1, 0.1, 1.8], (FRAMES, 1)), np.ones((FRAMES, 4), bool))


@pytest.fixture(scope="module")
def times():
    return np.arange(FRAMES) / RATE


def camera_turns(angle):
    """A camera that pans by so much over the clip."""
    return about([0.0, 1, 0], np.linspace(0, angle, FRAMES))


def palms(motion):
    return motion.skeleton.pose(motion.rotations)[1][:, WRISTS]


def hand_points(motion):
    """[T, 2, 21, 3] m in the reference frame."""
    joints, orientations = motion.skeleton.pose(motion.rotations)
    places = [place for side in SIDES for place in hand_places(side)]
    points = motion.skeleton.place(places, joints, orientations) + motion.pelvis[:, None]
    return points.reshape(len(points), 2, 21, 3)


def observe(motion, turns, shaking=0.0, pixel=0.0, seed=0):
    """Observations of a motion with independent errors: rad of every joint and the palm, px of every point."""
    rng = np.random.default_rng(seed)
    count = len(motion.pelvis)
    seen = project(rotate(turns[:, None, None], hand_points(motion)), MATRIX)

    def shake(rotations):
        return rotations @ axis_angle_to_matrix(rng.normal(0, shaking, rotations.shape[:-1]))

    fingers = shake(motion.rotations[:, 22:].reshape(count, 2, 15, 3, 3))
    return HandObservations(seen + rng.normal(0, pixel, seen.shape), np.ones((count, 2)), fingers, shake(palms(motion)))


def without_hands(motion):
    """The motion with straight wrists and flat fingers: what a body alone says."""
    rotations = motion.rotations.copy()
    rotations[:, [*WRISTS, *range(22, 52)]] = np.eye(3)
    return replace(motion, rotations=rotations)


def angle(a, b):
    """Degrees [...] between rotations."""
    return np.degrees(np.linalg.norm(matrix_to_axis_angle(a @ transpose(b)), axis=-1))


@pytest.mark.parametrize("side", SIDES)
def test_fingers_are_the_training_poses_own_chains(skeleton, side):
    left = sample_hand_poses(np.random.default_rng(0), 50, skeleton.joints)
    rotations = left if side == "left" else MIRROR @ left @ MIRROR
    fingers = Fingers(skeleton, side)
    angles = fingers.angles(rotations)
    assert angles.shape == (50, ANGLES)
    assert np.abs(fingers.rotations(angles) - rotations).max() < 1e-9
    assert (angles > RANGES[:, 0] - 1e-6).all() and (angles < RANGES[:, 1] + 1e-6).all()
    whole = np.broadcast_to(np.eye(3), (50, 52, 3, 3)).copy()
    whole[:, 22:37] = whole[:, 37:] = rotations
    points = skeleton.place(hand_places(side), *skeleton.pose(whole))
    assert np.abs(fingers.points(angles) - (points - points[:, :1])[:, POINT_ORDER]).max() < 1e-9


def test_derivatives_are_those_of_the_points(skeleton):
    fingers, rng = Fingers(skeleton, "right"), np.random.default_rng(1)
    angles = rng.uniform(*RANGES.T, (4, ANGLES))
    points, derivatives = fingers.points_and_derivatives(angles)
    step = 1e-6 * rng.standard_normal(angles.shape)
    moved = (fingers.points(angles + step) - fingers.points(angles - step)) / 2
    assert np.abs(moved - (derivatives @ step[:, None, :, None])[..., 0]).max() < 1e-12
    assert np.array_equal(points, fingers.points(angles))


def random_pose(rng, count):
    return HandPose(
        rng.normal(0, 0.02, (count, 3)),
        axis_angle_to_matrix(rng.normal(0, 1, (count, 3))),
        rng.uniform(*RANGES.T, (count, ANGLES)) + rng.normal(0, 0.2, (count, ANGLES)),
    )


def all_terms(skeleton, pose, rng):
    """Of a pose, with what they agree with next to it."""
    count = len(pose.angles)
    times = np.cumsum(rng.uniform(0.02, 0.05, count))
    near = pose.turns @ axis_angle_to_matrix([1e-4, 0, 0])
    sight, weights = rng.normal(0, 0.05, (count, 21, 2)), rng.random(count)
    wrist, spread = np.tile([0.1, 0.0, 1.5], (count, 1)), np.full(count, 0.01)
    turns = axis_angle_to_matrix(rng.normal(0, 0.1, (count, 3)))
    fingers = Fingers(skeleton, "left")
    return [
        Place.about(unit(wrist), 0.03, np.full(count, 0.1)),
        HandReprojection(fingers, wrist, sight, weights, spread, turns, 1e3),
        TurnAgreement(near, weights, 0.2, 1e3),
        FingerAgreement(pose.angles + rng.normal(0, 0.1, pose.angles.shape), weights, 0.2, 1e3),
        FingerLimits(0.05, 0.3),
        OwnSmoothness(times, rng.uniform(5, 9, (count, UNKNOWNS))),
    ]


def test_every_term_adds_the_slope_of_its_cost(skeleton):
    """Where turns are next to each other: terms of turns take small ones for commuting."""
    rng, count = np.random.default_rng(2), 5
    pose = replace(random_pose(rng, count), turns=np.tile(axis_angle_to_matrix([0.3, 1.0, -0.2]), (count, 1, 1)))
    step = 1e-6 * rng.standard_normal((count, UNKNOWNS))
    for term in all_terms(skeleton, pose, rng):
        equations = NormalEquations.zeros(count, UNKNOWNS, 0)
        term.add(pose, equations)
        change = (term.cost(pose.stepped(step)) - term.cost(pose.stepped(-step))) / 2
        slope = (equations.gradient * step).sum()
        assert change == pytest.approx(slope, rel=1e-3, abs=1e-9), type(term).__name__


def test_what_is_seen_exactly_is_found(truth, times):
    """From a body with straight wrists, through a camera that pans."""
    turns = camera_turns(0.3)
    start = without_hands(truth)
    refined, filled = refine_hands(start, observe(truth, turns), MATRIX, turns, times)
    assert not filled.any()
    assert np.median(angle(palms(refined), palms(truth))) < 2
    assert np.median(angle(refined.rotations[:, 22:], truth.rotations[:, 22:])) < 3
    joints, before = (motion.skeleton.pose(motion.rotations)[0][:, :22] for motion in (refined, start))
    assert np.abs(joints - before).max() < 1e-9, "a hand moved the body"


def test_shaking_goes_and_motion_stays(truth, times):
    turns = camera_turns(0.0)
    seen = observe(truth, turns, shaking=0.15, pixel=1.0)
    refined, _ = refine_hands(without_hands(truth), seen, MATRIX, turns, times)
    rough = replace(truth, rotations=np.concatenate([truth.rotations[:, :22], seen.fingers.reshape(FRAMES, 30, 3, 3)], 1))

    def tips(motion):
        return (hand_points(motion) - hand_points(motion)[:, :, :1])[:, :, 4::4]

    def shaking(motion):
        return np.linalg.norm(np.diff(tips(motion) - tips(truth), 2, axis=0), axis=-1).mean()

    def off(motion):
        return np.linalg.norm(tips(motion) - tips(truth), axis=-1).mean()

    assert shaking(refined) < shaking(rough) / 8
    assert off(refined) < 0.7 * off(rough)
    speeds = [np.percentile(np.linalg.norm(np.diff(tips(motion), axis=0), axis=-1), 95) for motion in (refined, truth)]
    assert speeds[0] > 0.9 * speeds[1]


def test_short_holes_are_filled_and_long_ones_relax(truth, times):
    turns = camera_turns(0.0)
    seen = observe(truth, turns, shaking=0.02)
    seen.confidence[20:26, 0] = 0
    seen.confidence[40:, 1] = 0
    refined, filled = refine_hands(without_hands(truth), seen, MATRIX, turns, times)
    assert filled[20:26, 0].all() and filled.sum() == 6
    assert refined.valid[:, 1].all() and refined.valid[:40, 2].all() and not refined.valid[40:, 2].any()
    assert np.median(angle(refined.rotations[20:26, 22:37], truth.rotations[20:26, 22:37])) < 12
    relaxed = Fingers(truth.skeleton, "right").rotations(RELAXED[None])[0]
    assert angle(refined.rotations[-1, 37:], relaxed).max() < 1e-3
    assert angle(refined.rotations[-1, WRISTS[1]], np.eye(3)) < 1e-3, "the wrist goes back to the body's own"
    assert angle(refined.rotations[1:], refined.rotations[:-1]).max() < 25, "it eases, it does not snap"


def test_a_hand_never_seen_rests_and_a_lost_body_has_none(truth, times):
    turns = camera_turns(0.0)
    seen = observe(truth, turns)
    seen.confidence[:, 0] = 0
    valid = truth.valid.copy()
    valid[60:] = False
    pelvis = np.where(valid[:, :1], truth.pelvis, np.nan)
    refined, filled = refine_hands(replace(truth, valid=valid, pelvis=pelvis), seen, MATRIX, turns, times)
    assert not refined.valid[:, 1].any() and not refined.valid[60:].any() and not filled.any()
    assert np.isfinite(refined.rotations).all()
    assert np.array_equal(refined.rotations[:, WRISTS[0]], truth.rotations[:, WRISTS[0]])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_clip_of_a_few_frames(truth, times, count):
    turns = camera_turns(0.0)[:count]
    few = Motion(truth.skeleton, truth.rotations[:count], truth.pelvis[:count], truth.valid[:count])
    refined, filled = refine_hands(few, observe(few, turns), MATRIX, turns, times[:count])
    assert np.median(angle(refined.rotations[:, 22:], few.rotations[:, 22:])) < 5 and not filled.any()


@pytest.mark.parametrize("term", HAND_TERMS)
def test_every_term_can_be_left_out(truth, times, term):
    turns = camera_turns(0.0)
    few = slice(0, 12)
    seen = observe(truth, turns, shaking=0.1).take(few)
    motion = Motion(truth.skeleton, truth.rotations[few], truth.pelvis[few], truth.valid[few])
    whole, less = (
        refine_hands(motion, seen, MATRIX, turns[few], times[few], settings)[0].rotations
        for settings in (HandSettings(), HandSettings().without(term))
    )
    assert np.isfinite(less).all() and np.abs(whole - less).max() > 1e-6


def test_there_is_no_such_term():
    with pytest.raises(ValueError, match="choose one of reprojection, agreement"):
        HandSettings().without("magic")


def test_short_holes_and_trust():
    found = np.array([0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0], bool)
    times = np.arange(14) * 0.1
    assert np.flatnonzero(short_holes(found, times)).tolist() == [2, 3]
    trust = trust_near(found, times)
    assert (trust[found] == 1).all() and (trust[~found] < 1).all() and trust[8] < 0.2
    assert not trust_near(np.zeros(4, bool), times[:4]).any()


def test_windows_cover_a_run_once():
    for length in (1, WINDOW, WINDOW + 1, 3 * WINDOW):
        whole = np.zeros(length + 7)
        for frames, share in windows(slice(7, 7 + length)):
            whole[frames] += share * (1 - whole[frames])
        assert (whole[:7] == 0).all() and (whole[7:] == 1).all()
        assert all(frames.stop - frames.start <= WINDOW for frames, _ in windows(slice(7, 7 + length)))
    assert windows(slice(0, 2 * WINDOW))[1][0].start == WINDOW - OVERLAP


def test_a_palm_that_goes_round_does_not_snap_the_forearm_back(skeleton):
    rotations = np.broadcast_to(np.eye(3), (60, 52, 3, 3)).copy()
    orientations = skeleton.pose(rotations)[1]
    bone = unit(skeleton.joints[WRISTS[0]] - skeleton.joints[JOINT_INDEX["left_elbow"]])
    turning = np.broadcast_to(np.eye(3), (60, 2, 3, 3)).copy()
    turning[:, 0] = about(bone, np.linspace(0, np.radians(230), 60))
    hung = hang_on_forearms(rotations, orientations, turning, np.ones((60, 2)), skeleton)
    assert angle(hung[1:], hung[:-1]).max() < 5
    assert angle(skeleton.pose(hung)[1][:40, WRISTS[0]], turning[:40, 0]).max() < 1e-3


def test_spikes_go(times):
    values = np.outer(times, [1.0, -2.0])
    spiky = values.copy()
    spiky[30] += 5
    assert np.abs(without_spikes(spiky) - values).max() < 0.1
    turns = about([0.0, 1, 0], times)
    spiky = turns.copy()
    spiky[30] = about([1.0, 0, 0], 2.0)
    assert angle(without_turned_spikes(spiky), turns).max() < 6


def test_steady_turns_keep_a_fast_turn_and_lose_shaking(times):
    rng = np.random.default_rng(0)
    true = about([0.0, 1, 0], np.where(times < 1.5, 0.0, np.sin(2 * np.pi * 1.5 * (times - 1.5))))
    seen = true @ axis_angle_to_matrix(rng.normal(0, 0.03, (FRAMES, 3)))
    steady = steady_turns(seen, np.ones(FRAMES), times, spread=0.05, acceleration=4.0)

    def speeds(turns, frames):
        return np.linalg.norm(matrix_to_axis_angle(turns[1:] @ transpose(turns[:-1])), axis=-1)[frames]

    assert speeds(steady, slice(0, 40)).mean() < speeds(seen, slice(0, 40)).mean() / 5
    assert speeds(steady, slice(46, None)).max() > 0.93 * speeds(true, slice(46, None)).max()
    assert angle(steady, true).mean() < angle(seen, true).mean()


def test_the_head_turns_with_its_face_and_nothing_else_does(truth, times):
    turned = about([0.0, 1, 0], 0.3 * np.sin(times))
    face = REST_TO_CAMERA @ turned
    found = np.ones(FRAMES, bool)
    found[50:55] = False
    refined = refine_head(truth, np.where(found[:, None, None], face, 0), found, times)
    head = refined.skeleton.pose(refined.rotations)[1][:, JOINT_INDEX["head"]]
    assert angle(head, face).max() < 3
    others = [joint for joint in range(52) if joint not in (JOINT_INDEX["neck"], JOINT_INDEX["head"])]
    assert np.array_equal(refined.rotations[:, others], truth.rotations[:, others])
    nobody = refine_head(truth, np.zeros((FRAMES, 3, 3)), np.zeros(FRAMES, bool), times)
    assert angle(nobody.rotations, truth.rotations).max() < 1e-3


def test_what_is_found_in_passing_is_none():
    times = np.arange(40) / RATE
    found = np.zeros(40, bool)
    found[5], found[20:] = True, True
    sure = surely_found(found, times)
    assert not sure[:20].any() and sure[20:].all()
    assert surely_found(np.ones(1, bool), times[:1]).all()


class MirroredHands:
    """Keypoints of hands, some of whose frames are seen with nearer and farther exchanged."""

    def __init__(self, motion, mirrored, seed=0):
        rng = np.random.default_rng(seed)
        points = hand_points(motion)
        seen = project(points, MATRIX)
        keypoints = Keypoints.nobody(BLAZEPOSE_33)
        self.right = replace(
            keypoints,
            hand2d=seen,
            hand3d=points - points.mean(2, keepdims=True) + rng.normal(0, 0.002, points.shape),
            hand_confidence=np.ones(points.shape[:2]),
            hand_centre=seen.mean(2),
        )
        flipped = mirror_along_sight(self.right, MATRIX)
        self.seen = replace(self.right, hand3d=np.where(mirrored[:, None, None, None], flipped, self.right.hand3d))


def test_hands_seen_inside_out_are_turned_back(truth, body):
    """Of two seconds, half a second and some single frames are mirrored: all but a few of them come back."""
    mirrored = np.zeros(FRAMES, bool)
    mirrored[30:45], mirrored[[5, 60, 70, 71]] = True, True
    hands = MirroredHands(truth, mirrored)
    solver = IKNetSolver.load(body, BLAZEPOSE_33)
    keypoints, solved = without_flips(hands.seen, truth.skeleton, MATRIX, solver)
    back = np.abs(keypoints.hand3d - hands.right.hand3d).max((2, 3)) < 1e-9
    assert back.mean() > 0.9 and back[mirrored].mean() > 0.75
    assert np.median(angle(solved.palms, palms(truth))) < 15
    nobody = replace(hands.seen, hand_confidence=np.zeros((FRAMES, 2)))
    assert without_flips(nobody, truth.skeleton, MATRIX, solver)[0] is nobody


def test_the_cheapest_path_is_the_cheapest_of_all():
    rng = np.random.default_rng(0)
    palms = axis_angle_to_matrix(rng.normal(0, 0.5, (7, 2, 3)))
    against = rng.normal(0, 2, 7)

    def cost(path):
        turns = [angle(palms[i + 1, path[i + 1]], palms[i, path[i]]) for i in range(6)]
        jumps = LARGEST_JUMP * (1 - np.exp(-(np.radians(turns) ** 2) / (2 * SUDDEN**2 * LARGEST_JUMP)))
        return against[np.array(path, bool)].sum() + jumps.sum()

    best = min(itertools.product((0, 1), repeat=7), key=cost)
    assert cheapest_path(against, palms).tolist() == [bool(flip) for flip in best]
    assert len(cheapest_path(against[:0], palms[:0])) == 0
