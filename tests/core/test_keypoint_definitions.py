"""From keypoints to a clip, for every definition that a detector may speak: exact keypoints of a known motion, and worse ones."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from synthetic_keypoints import keypoints_of, upright

from fullbody_core.camera import camera_matrix, crop_to_camera_rotation, project
from fullbody_core.contract.capture import CaptureClip, CaptureError
from fullbody_core.contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from fullbody_core.contract.skeleton import (
    BLAZEPOSE_33,
    BODY_BONES,
    BODY_DEFINITIONS,
    BODY_JOINTS,
    JOINT_INDEX,
    PARENTS,
    SIDES,
    SMPL_33,
    full_keypoint_names,
)
from fullbody_core.contract.swing_twist import unit
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.evaluate.clip import reprojection_errors
from fullbody_core.ground import stand_on_floor
from fullbody_core.ik.bone_lengths import MEASURED_BONES
from fullbody_core.ik.face_mesh import with_found_head
from fullbody_core.ik.iknet import joint_trust
from fullbody_core.ik.rest_skeleton import RestSkeleton
from fullbody_core.motion import Solved, hold_through_holes, smooth_keypoints, smooth_motion, solve_motion
from fullbody_core.overlay import draw_frame
from fullbody_core.pipeline import decide_valid, estimate_shape, make_solver, to_clip, turn_to_camera

IMAGE_SIZE = (1280, 720)
MATRIX = camera_matrix(IMAGE_SIZE)
FRAMES, FRAMERATE = 40, 30.0
TIMES = np.arange(FRAMES) / FRAMERATE
BETAS = np.random.default_rng(3).normal(0, 0.7, 16)


@pytest.fixture(scope="module", params=[BLAZEPOSE_33, SMPL_33], ids=lambda definition: definition.name)
def definition(request):
    """What the detector speaks."""
    return request.param


@pytest.fixture(scope="module", params=["iknet", "analytic"])
def solver(request, body, definition):
    return make_solver(request.param, body, definition)[0]


@pytest.fixture(scope="module")
def skeleton(body):
    """Somebody who is not the mean body."""
    return RestSkeleton.of_body(body, BETAS)


def random_motion(seed=0):
    """Rotations [T, 52, 3, 3] of somebody who faces the camera more or less and moves each joint to and fro at its own pace."""
    rng = np.random.default_rng(seed)
    turns = np.zeros((FRAMES, 52, 3))

    def swing(name, axis, low, high):
        phase, pace = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.8)
        share = 0.5 + 0.5 * np.sin(2 * np.pi * pace * TIMES + phase)
        turns[:, JOINT_INDEX[name]] += np.radians(low + (high - low) * share)[:, None] * np.array(axis, float)

    for name in ("spine1", "spine2", "spine3", "neck", "head"):
        for axis in np.eye(3):
            swing(name, axis, -8, 8)
    for side, sign in zip(SIDES, (1, -1)):
        swing(f"{side}_shoulder", (0, 0, -sign), 20, 80)
        swing(f"{side}_shoulder", (0, -sign, 0), 0, 50)
        swing(f"{side}_elbow", (0, -sign, 0), 20, 110)
        swing(f"{side}_wrist", (0, 0, 1), -25, 25)
        swing(f"{side}_hip", (-1, 0, 0), -10, 50)
        swing(f"{side}_knee", (1, 0, 0), 5, 70)
        swing(f"{side}_ankle", (1, 0, 0), -15, 15)
        for finger in ("index", "middle", "ring", "pinky"):
            for segment in (1, 2, 3):
                swing(f"{side}_{finger}{segment}", (0, 0, -sign), 0, 60)
    rotations = axis_angle_to_matrix(turns)
    heading = axis_angle_to_matrix(np.radians(60 * np.sin(TIMES))[:, None] * [0.0, 1, 0])
    rotations[:, 0] = upright()[0, 0] @ heading @ rotations[:, 0]
    return rotations


def detected(skeleton, rotations, definition, size=1.1):
    """(Keypoints as a faultless detector gives them, the pelvis's true places [T, 3] m).

    The person crosses the picture. 3D points are about the root, in the axes of the crop, and in metres of the detector's own.
    """
    pelvis = np.column_stack([0.6 * np.sin(TIMES * 2), 0.1 * np.cos(TIMES), 3.5 + 0.3 * np.sin(TIMES)])
    keypoints = keypoints_of(skeleton, rotations, definition)
    posed = skeleton.pose(rotations)
    hands = [skeleton.place([f"{side}_wrist"], *posed) for side in SIDES]
    keypoints.body2d = project(keypoints.body3d + pelvis[:, None], MATRIX)
    keypoints.hand2d = project(keypoints.hand3d + np.stack(hands, 1) + pelvis[:, None, None], MATRIX)
    keypoints.body_centre, keypoints.hand_centre = keypoints.body2d.mean(1) + [7, -11], keypoints.hand2d.mean(2)
    keypoints.body3d = size * keypoints.body3d @ crop_to_camera_rotation(keypoints.body_centre, MATRIX)
    keypoints.hand3d = keypoints.hand3d @ crop_to_camera_rotation(keypoints.hand_centre, MATRIX)
    keypoints.person_box = np.concatenate([keypoints.body2d.min(1), keypoints.body2d.max(1)], -1)
    return keypoints, pelvis


def passes(seen, body, solver, smooth=False):
    """What `pipeline.capture` does with keypoints: (Motion with its holes, betas)."""
    seen = seen.without_broken_points()
    valid = decide_valid(seen)
    keypoints = turn_to_camera(seen, MATRIX)
    betas, keypoints = estimate_shape(keypoints, body)
    if smooth:
        keypoints = smooth_keypoints(keypoints, TIMES, valid)
    motion = solve_motion(keypoints, RestSkeleton.of_body(body, betas), MATRIX, valid, solver)
    return (smooth_motion(motion, TIMES, keypoints, MATRIX) if smooth else motion), betas


def true_size(motion, skeleton, rotations):
    """Metres of the person for one of the solved body: one camera takes everybody to be about as large as the mean body."""
    solved, true = (each.pose(turns)[0] for each, turns in ((motion.skeleton, motion.rotations), (skeleton, rotations)))
    return (solved * true).sum() / (solved**2).sum()


def joint_errors(motion, skeleton, rotations):
    """mm, [T, 22], about the pelvis, up to size."""
    solved, true = motion.skeleton.pose(motion.rotations)[0], skeleton.pose(rotations)[0]
    errors = np.linalg.norm(true_size(motion, skeleton, rotations) * solved - true, axis=-1)
    return 1000 * errors[:, BODY_JOINTS]


def degrees_apart(a, b):
    return np.degrees(np.linalg.norm(matrix_to_axis_angle(np.swapaxes(a, -1, -2) @ b), axis=-1))


def test_a_motion_comes_back(body, skeleton, definition, solver):
    rotations = random_motion()
    seen, pelvis = detected(skeleton, rotations, definition)
    motion, _ = passes(seen, body, solver)
    errors = joint_errors(motion, skeleton, rotations)
    turned = degrees_apart(motion.rotations, rotations)
    place = 1000 * np.linalg.norm(true_size(motion, skeleton, rotations) * motion.pelvis - pelvis, axis=-1)
    print(
        f"{definition.name}, {solver.name}: MPJPE {errors.mean():.1f} mm, body {turned[:, BODY_JOINTS].mean():.1f} degrees, "
        f"fingers {turned[:, 22:].mean():.1f} degrees, place {np.median(place):.0f} mm"
    )
    assert motion.valid[:, :3].all() and not motion.valid[:, 3].any()
    assert errors.mean() < (30 if solver.name == "analytic" else 18) and errors.max() < 100
    assert turned[:, BODY_JOINTS].mean() < 8 and turned[:, 22:].mean() < 5
    assert np.median(place) < 60


def test_proportions_come_back(body, skeleton, definition):
    seen, _ = detected(skeleton, random_motion(), definition)
    betas, sized = estimate_shape(turn_to_camera(seen, MATRIX), body)
    found = RestSkeleton.of_body(body, betas)
    mean = RestSkeleton.of_body(body, np.zeros(16))
    lengths = [
        np.array([np.linalg.norm(np.subtract(*each.at_rest(bone))) for bone in MEASURED_BONES])
        for each in (skeleton, found, mean)
    ]
    true, found, mean = (length / length.mean() for length in lengths)
    assert np.abs(found - true).mean() < 0.6 * np.abs(mean - true).mean()
    elbow, wrist = (definition.index(f"left_{name}") for name in ("elbow", "wrist"))
    forearm = np.linalg.norm(sized.body3d[:, elbow] - sized.body3d[:, wrist], axis=-1)
    np.testing.assert_allclose(forearm, lengths[1][MEASURED_BONES.index(("left_elbow", "left_wrist"))], rtol=0.05)


def test_left_is_left(body, definition, solver):
    """One arm up, the other knee up: told apart by name, not by where they are in the picture."""
    skeleton = RestSkeleton.of_body(body, np.zeros(16))
    rotations = upright(FRAMES)
    rotations[:, JOINT_INDEX["left_shoulder"]] = axis_angle_to_matrix(np.radians([0.0, 0, 70]))
    rotations[:, JOINT_INDEX["right_shoulder"]] = axis_angle_to_matrix(np.radians([0.0, 0, 70]))
    rotations[:, JOINT_INDEX["right_hip"]] = axis_angle_to_matrix(np.radians([-70.0, 0, 0]))
    rotations[:, JOINT_INDEX["right_knee"]] = axis_angle_to_matrix(np.radians([80.0, 0, 0]))
    motion, _ = passes(detected(skeleton, rotations, definition)[0], body, solver)
    joints = motion.skeleton.pose(motion.rotations)[0]
    height = {name: -joints[:, JOINT_INDEX[name], 1] for name in ("left_wrist", "right_wrist", "left_knee", "right_knee")}
    assert (height["left_wrist"] > height["right_wrist"] + 0.5).all()
    assert (height["right_knee"] > height["left_knee"] + 0.15).all()
    assert (joints[:, JOINT_INDEX["left_hip"], 0] > joints[:, JOINT_INDEX["right_hip"], 0]).all()


def test_holes_are_marked_and_do_not_spread(body, skeleton, definition, solver):
    rotations = random_motion(1)
    whole, _ = detected(skeleton, rotations, definition)
    expected, betas = passes(whole, body, solver, smooth=True)
    seen = dataclasses.replace(whole)
    nobody, hole = Keypoints.nobody(definition, whole.face3d.shape[1]), slice(20, 26)
    for item in dataclasses.fields(Keypoints)[1:]:
        values = getattr(seen, item.name).copy()
        values[hole] = getattr(nobody, item.name)
        setattr(seen, item.name, values)
    motion, found = passes(seen, body, solver, smooth=True)
    gap = np.zeros(FRAMES, bool)
    gap[hole] = True
    np.testing.assert_array_equal(motion.valid[:, 0], ~gap)
    np.testing.assert_allclose(found, betas, atol=0.15)
    assert degrees_apart(motion.rotations[~gap], expected.rotations[~gap]).max() < 12
    held = hold_through_holes(motion)
    np.testing.assert_array_equal(held.rotations[hole], np.broadcast_to(held.rotations[19], (6, 52, 3, 3)))
    assert np.isfinite(held.rotations).all() and np.isfinite(held.pelvis).all()


BROKEN = {
    "a NaN wrist": lambda seen: seen.body3d[:, seen.definition.index("left_wrist")],
    "a NaN pixel": lambda seen: seen.body2d[:, seen.definition.index("right_knee")],
    "NaN hands": lambda seen: seen.hand3d,
    "a NaN centre": lambda seen: seen.body_centre[10:20],
    "a NaN hand's centre": lambda seen: seen.hand_centre[:, 0],
    "NaN confidences": lambda seen: seen.body_confidence[5:9],
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_numbers_are_not_found_and_nothing_more(body, skeleton, definition, solver, what):
    rotations = random_motion(2)
    seen, _ = detected(skeleton, rotations, definition)
    BROKEN[what](seen)[...] = np.nan
    motion, betas = passes(seen, body, solver)
    assert np.isfinite(motion.rotations).all() and np.isfinite(betas).all()
    lost = {"a NaN centre": slice(10, 20), "NaN confidences": slice(5, 9)}.get(what, slice(0, 0))
    body_found = np.ones(FRAMES, bool)
    body_found[lost] = False
    np.testing.assert_array_equal(motion.valid[:, 0], body_found)
    np.testing.assert_array_equal(motion.valid[:, 1], body_found & (what not in ("NaN hands", "a NaN hand's centre")))
    np.testing.assert_array_equal(motion.valid[:, 2], body_found & (what != "NaN hands"))
    limbs = [JOINT_INDEX[name] for name in ("right_elbow", "right_wrist", "left_knee", "left_ankle", "left_elbow")]
    assert joint_errors(motion, skeleton, rotations)[body_found][:, limbs].mean() < 50


def test_nobody_is_finite_and_invalid(body, definition, solver):
    seen = Keypoints.stack([Keypoints.nobody(definition)] * FRAMES)
    motion, betas = passes(seen, body, solver)
    assert np.isfinite(motion.rotations).all() and not motion.valid.any() and not betas.any()


def test_a_limb_that_is_given_up_rests(body, skeleton, definition, solver):
    rotations = random_motion()
    seen, _ = detected(skeleton, rotations, definition)
    for name in ("elbow", "wrist", *{"blazepose_33": ("index", "pinky")}.get(definition.name, ("index_mcp", "pinky_mcp"))):
        seen.body_confidence[:, definition.index(f"left_{name}")] = 0
    seen.hand_confidence[:, 0] = 0
    assert (joint_trust(seen)[:, [JOINT_INDEX["left_shoulder"], JOINT_INDEX["left_elbow"]]] == 0).all()
    motion, _ = passes(seen, body, solver)
    joints, orientations = motion.skeleton.pose(motion.rotations)
    bone = joints[:, JOINT_INDEX["left_wrist"]] - joints[:, JOINT_INDEX["left_shoulder"]]
    hanging = np.swapaxes(orientations[:, JOINT_INDEX["spine3"]], -1, -2) @ bone[..., None]
    assert (hanging[:, 1, 0] < -0.9 * np.linalg.norm(bone, axis=-1)).all()
    true = skeleton.pose(rotations)[0]
    for parent, child in (("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"), ("left_hip", "left_knee")):
        start, end = JOINT_INDEX[parent], JOINT_INDEX[child]
        lines = [unit(points[:, end] - points[:, start]) for points in (joints, true)]
        assert np.degrees(np.arccos(np.clip(np.sum(np.multiply(*lines), -1), -1, 1))).mean() < 8, child


def test_turning_to_the_camera_undoes_the_crops_axes(skeleton, definition):
    rotations = random_motion()
    seen, _ = detected(skeleton, rotations, definition, size=1)
    exact = keypoints_of(skeleton, rotations, definition)
    turned = turn_to_camera(seen, MATRIX)
    np.testing.assert_allclose(turned.body3d, exact.body3d, atol=1e-12)
    np.testing.assert_allclose(turned.hand3d, exact.hand3d, atol=1e-12)
    assert turned.face3d.shape == seen.face3d.shape


def test_a_found_head_turns_the_heads_points(skeleton, definition):
    rotations = upright(20)
    rotations[:, JOINT_INDEX["head"]] = axis_angle_to_matrix(np.linspace(0, 0.6, 20)[:, None] * [0.2, 1, 0])
    keypoints = keypoints_of(skeleton, rotations, definition)
    assert with_found_head(keypoints, skeleton) is keypoints, "no face, no change"
    head = skeleton.pose(rotations)[1][:, JOINT_INDEX["head"]]
    keypoints.head_rotation = head
    same = with_found_head(keypoints, skeleton)
    np.testing.assert_allclose(same.body3d, keypoints.body3d, atol=1e-9)
    shaken = dataclasses.replace(
        keypoints, body3d=keypoints.body3d + np.random.default_rng(0).normal(0, 0.02, keypoints.body3d.shape)
    )
    steadied = with_found_head(shaken, skeleton)
    eyes = [index for index, name in enumerate(definition.names) if "eye" in name]
    lines = [points.body3d[:, eyes[0]] - points.body3d[:, eyes[-1]] for points in (keypoints, steadied)]
    np.testing.assert_allclose(*lines, atol=1e-9)


@pytest.fixture(scope="module")
def clip(body, skeleton, definition):
    seen, _ = detected(skeleton, random_motion(), definition)
    motion, betas = passes(seen, body, make_solver("analytic", body, definition)[0])
    video = SimpleNamespace(image_size=IMAGE_SIZE, mean_framerate=FRAMERATE)
    made = to_clip(Solved(motion, betas, MATRIX, stand_on_floor(motion, seen)), seen, TIMES, video)
    made.meta = {"settings": {"body": "open"}}
    return made


def test_a_clip_says_which_keypoints_it_holds(clip, definition, tmp_path):
    assert clip.keypoint_names == full_keypoint_names(definition)
    clip.save(tmp_path / "clip.npz")
    assert CaptureClip.load(tmp_path / "clip.npz").body_definition is definition
    with pytest.raises(CaptureError, match="update fullbody"):
        print(dataclasses.replace(clip, keypoint_names=("elbow",) * len(clip.keypoint_names)).body_definition)


def test_the_reprojection_is_over_the_definitions_own_points(clip, definition):
    errors = reprojection_errors(clip)
    assert len(errors) == FRAMES * {"blazepose_33": 19, "smpl_33": 33}[definition.name]
    assert np.median(errors) < 0.01
    swapped = dataclasses.replace(clip, keypoints2d=clip.keypoints2d.copy())
    ankles = [definition.index(f"{side}_ankle") for side in SIDES]
    swapped.keypoints2d[:, ankles] = clip.keypoints2d[:, ankles[::-1]]
    assert reprojection_errors(swapped).max() > 0.05


def test_the_overlay_draws_the_definitions_bones(clip, definition):
    blank = np.full((IMAGE_SIZE[1], IMAGE_SIZE[0], 3), 200, np.uint8)
    hidden = dataclasses.replace(clip, valid=np.zeros_like(clip.valid))
    picture = draw_frame(blank, hidden, 30)
    for parent, child in BODY_BONES[definition.name]:
        column, row = clip.keypoints2d[30, [parent, child], :2].mean(0).astype(int)
        assert picture[row - 1 : row + 2, column - 1 : column + 2].min() < 120, (
            definition.names[parent],
            definition.names[child],
        )


def test_bones_join_neighbours_and_are_symmetric(definition):
    names = {(definition.names[a], definition.names[b]) for a, b in BODY_BONES[definition.name]}
    swap = {"left": "right", "right": "left"}

    def mirrored(name):
        side, _, rest = name.partition("_")
        return f"{swap[side]}_{rest}" if side in swap else name

    assert len(names) == len(BODY_BONES[definition.name])
    for a, b in names:
        assert {(mirrored(a), mirrored(b)), (mirrored(b), mirrored(a))} & names
    if definition is SMPL_33:
        assert {(PARENTS[joint], joint) for joint in range(1, 22)} < set(BODY_BONES[definition.name])


def test_definitions_are_found_by_their_names():
    assert BODY_DEFINITIONS == {"blazepose_33": BLAZEPOSE_33, "smpl_33": SMPL_33}
