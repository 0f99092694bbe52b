"""The shipped IKNets in the pipeline: what they recover, what they must survive, and what happens without them."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from synthetic_keypoints import keypoints_of, upright

from fullbody_core import weights
from fullbody_core.cli import main
from fullbody_core.contract.capture import CaptureClip
from fullbody_core.contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from fullbody_core.contract.skeleton import (
    BLAZEPOSE_33,
    BODY_JOINTS,
    JOINT_INDEX,
    LEFT_HAND_JOINTS,
    RIGHT_HAND_JOINTS,
    SMPL_33,
)
from fullbody_core.ik.analytic import AnalyticSolver
from fullbody_core.ik.holes import HELD_FRAMES, bridge_holes
from fullbody_core.ik.iknet import BODY_WEIGHTS, HAND_WEIGHTS, IKNetSolver, blend_orientations, body_points, joint_trust
from fullbody_core.ik.rest_skeleton import RestSkeleton, keypoint_places
from fullbody_core.motion import solve_motion
from fullbody_core.networks.iknet import LAYOUTS, IKNet
from fullbody_core.pipeline import decide_valid, make_solver
from fullbody_core.synth.demo_clip import demo_motion
from fullbody_core.weights import WeightsAbsent, WeightsError, WeightsUnsuited, load_shipped

CAMERA = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
MIRROR = np.diag([-1.0, 1, 1])


@pytest.fixture(scope="module")
def skeleton(body):
    return RestSkeleton.of_body(body, np.zeros(16))


@pytest.fixture(scope="module", params=[BLAZEPOSE_33, SMPL_33], ids=lambda definition: definition.name)
def definition(request):
    """What the detector speaks."""
    return request.param


@pytest.fixture(scope="module")
def solver(body, definition):
    return IKNetSolver.load(body, definition)


@pytest.fixture(scope="module")
def demo_rotations(body):
    """The demo's true motion [T, 52, 3, 3] in camera axes; it was made by formula and is in no training data."""
    clip = demo_motion(body)
    rotations = axis_angle_to_matrix(clip.poses.reshape(clip.frame_count, -1, 3))
    rotations[:, 0] = np.swapaxes(clip.camera_to_world[:, :3, :3], 1, 2) @ rotations[:, 0]
    return rotations


def degrees_apart(a, b):
    return np.degrees(np.linalg.norm(matrix_to_axis_angle(np.swapaxes(a, -1, -2) @ b), axis=-1))


def joint_errors(skeleton, solved, true):
    """mm, [T, 52], about the pelvis."""
    return 1000 * np.linalg.norm(skeleton.pose(solved)[0] - skeleton.pose(true)[0], axis=-1)


# What they recover.


def test_a_motion_by_formula_comes_back(solver, skeleton, demo_rotations, definition):
    solved = solver.solve_pose(keypoints_of(skeleton, demo_rotations, definition), skeleton)
    errors, turns = joint_errors(skeleton, solved, demo_rotations), degrees_apart(solved, demo_rotations)
    print(f"demo, exact keypoints: {errors[:, BODY_JOINTS].mean():.1f} mm, {turns[:, BODY_JOINTS].mean():.1f} degrees")
    assert errors[:, BODY_JOINTS].mean() < 20
    assert turns[:, BODY_JOINTS].mean() < 8
    assert turns[:, LEFT_HAND_JOINTS].mean() < 8 and turns[:, RIGHT_HAND_JOINTS].mean() < 8


def test_noise_is_taken_out(solver, skeleton, demo_rotations, definition):
    """Errors of 4 cm on every point: less of them is left in the joints than in the keypoints, or after the closed form."""
    keypoints = keypoints_of(skeleton, demo_rotations, definition)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.04 / np.sqrt(3), keypoints.body3d.shape)
    noisy = dataclasses.replace(keypoints, body3d=keypoints.body3d + noise)
    limbs = [JOINT_INDEX[f"{s}_{n}"] for s in ("left", "right") for n in ("shoulder", "elbow", "wrist", "knee", "ankle")]

    def left(solver):
        return joint_errors(skeleton, solver.solve_pose(noisy, skeleton), demo_rotations)[:, limbs].mean()

    before = 1000 * np.linalg.norm(noise, axis=-1).mean()
    print(f"keypoints {before:.1f} mm, IKNet {left(solver):.1f} mm, closed form {left(AnalyticSolver()):.1f} mm")
    assert left(solver) < left(AnalyticSolver())


def test_a_right_hand_is_a_left_one_in_the_mirror(solver, skeleton, definition):
    rotations = upright(20)
    turns = np.random.default_rng(0).uniform(0, 1, (20, 15, 1)) * [0, 0, -1.0]
    rotations[:, LEFT_HAND_JOINTS] = axis_angle_to_matrix(turns)
    keypoints = keypoints_of(skeleton, rotations, definition)
    keypoints.hand3d[:, 1] = keypoints.hand3d[:, 0] @ MIRROR
    solved = solver.solve_pose(keypoints, skeleton)
    mirrored = MIRROR @ solved[:, LEFT_HAND_JOINTS] @ MIRROR
    assert degrees_apart(mirrored, solved[:, RIGHT_HAND_JOINTS]).max() < 2  # the body's two hands differ by a hair


def test_a_clip_is_solved_as_its_frames_are(solver, skeleton, demo_rotations, definition):
    """All parts found, so that no frame needs its neighbours."""
    keypoints = keypoints_of(skeleton, demo_rotations[:6], definition)
    together = solver.solve_pose(keypoints, skeleton)
    for frame in range(6):
        alone = solver.solve_pose(keypoints.take([frame]), skeleton)[0]
        np.testing.assert_allclose(alone, together[frame], atol=1e-4)


def test_hands_that_are_solved_already_are_not_solved_again(solver, skeleton, demo_rotations, definition):
    keypoints = keypoints_of(skeleton, demo_rotations[:3], definition)
    hands = solver.solve_hands(keypoints, skeleton)
    before = solver.network_seconds
    given = solver.solve_pose(keypoints, skeleton, hands)
    once = solver.network_seconds - before
    np.testing.assert_array_equal(given, solver.solve_pose(keypoints, skeleton))
    assert once > 0 and solver.network_seconds > before + once, "the networks' own time adds up"
    keypoints.hand_confidence[:] = 0
    before = solver.network_seconds
    assert not solver.solve_hands(keypoints, skeleton).found.any() and solver.network_seconds == before


# What they must survive.


def broken(keypoints, part):
    if part == "one hand":
        keypoints.hand3d[:, 0], keypoints.hand_confidence[:, 0] = 0, 0
    elif part == "no confidence":
        keypoints.body_confidence[:], keypoints.hand_confidence[:] = 0, 0
    elif part == "nothing but NaN":
        for values in keypoints.arrays():
            values[...] = np.nan
    elif part == "a NaN wrist":
        keypoints.body3d[:, keypoints.definition.index("left_wrist")] = np.nan
    elif part == "infinite hands":
        keypoints.hand3d[:] = np.inf
    elif part == "only a hand":
        keypoints.body_confidence[:], keypoints.hand_confidence[:, 0] = 0, 0
    return keypoints


@pytest.mark.parametrize(
    "part", ["one hand", "no confidence", "nothing but NaN", "a NaN wrist", "infinite hands", "only a hand"]
)
def test_bad_input_is_finite_and_says_what_is_valid(solver, skeleton, part, definition):
    keypoints = keypoints_of(skeleton, upright(4), definition)
    keypoints.body2d = 300 * keypoints.body3d[..., :2] / (keypoints.body3d[..., 2:] + 3) + 320
    keypoints = broken(keypoints, part).without_broken_points()
    valid = decide_valid(keypoints)
    motion = solve_motion(keypoints, skeleton, CAMERA, valid, solver)
    assert np.isfinite(motion.rotations).all()
    assert np.isfinite(solver.solve_pose(keypoints, skeleton)).all()
    body, left, right, _ = motion.valid.any(0)
    expected = {
        "one hand": (True, False, True),
        "no confidence": (False, False, False),
        "nothing but NaN": (False, False, False),
        "a NaN wrist": (True, True, True),
        "infinite hands": (True, False, False),
        "only a hand": (False, False, False),
    }
    assert (body, left, right) == expected[part]


def test_a_hand_that_is_not_found_stays_flat(solver, skeleton, definition):
    keypoints = broken(keypoints_of(skeleton, upright(3), definition), "one hand")
    solved = solver.solve_pose(keypoints, skeleton)
    np.testing.assert_array_equal(solved[:, LEFT_HAND_JOINTS], np.broadcast_to(np.eye(3), (3, 15, 3, 3)))


def test_legs_that_nobody_sees_hang_still(solver, skeleton, definition):
    """In a picture that ends at the chest the detector's legs shake; the character's do not."""
    keypoints = keypoints_of(skeleton, upright(30), definition)
    parts = ("hip", "knee", "ankle", "heel", "foot", "toe") + ("pelvis", "spine1", "spine2") * (definition is SMPL_33)
    below = [index for index, name in enumerate(definition.names) if any(part in name for part in parts)]
    keypoints.body_confidence[:, below] = 0
    keypoints.body3d[:, below] += np.random.default_rng(0).normal(0, 0.1, (30, len(below), 3))
    solved = solver.solve_pose(keypoints, skeleton)
    legs = [JOINT_INDEX[f"{side}_{name}"] for side in ("left", "right") for name in ("knee", "ankle")]
    joints = skeleton.pose(solved)[0][:, legs]
    assert np.abs(joints - joints[0]).max() < 1e-6
    assert (joints[..., 1] > 0.3).all(), "down is the camera's y"


# Parts of the solver.


def test_the_hand_detectors_knuckles_are_taken_where_it_found_the_hand(skeleton, demo_rotations, definition):
    """In the network's own definition they are where the body has them; where no hand was found they come bit by bit."""
    layout = LAYOUTS[{"blazepose_33": "blazepose_33_knuckles"}.get(definition.name, definition.name)].definition
    keypoints = keypoints_of(skeleton, demo_rotations, definition)
    exact = skeleton.place(keypoint_places(layout), *skeleton.pose(demo_rotations))
    keypoints.hand3d *= 3  # a hand detector's size is its own
    points, confidence = body_points(keypoints, skeleton, layout)
    np.testing.assert_allclose(points, exact, atol=1e-9)
    assert (confidence == 1).all()
    frames = len(demo_rotations)
    keypoints.hand_confidence[frames // 2 :] = 0
    keypoints.hand3d[frames // 2 :] = 0
    points, confidence = body_points(keypoints, skeleton, layout)
    np.testing.assert_allclose(points[: frames // 2], exact[: frames // 2], atol=1e-9)
    last = [frames - 1]  # long after the hands were lost
    expected = 1.0 if definition is SMPL_33 else 0.0
    knuckles = [index for index, name in enumerate(layout.names) if name.endswith("mcp")]
    np.testing.assert_array_equal(confidence[last][:, knuckles], expected)
    if definition is SMPL_33:
        np.testing.assert_allclose(points[last], exact[last], atol=1e-9)


def test_trust_is_whole_for_what_is_seen_and_none_for_what_is_not(skeleton, definition):
    keypoints = keypoints_of(skeleton, upright(2), definition)
    assert (joint_trust(keypoints) == 1).all()
    keypoints.body_confidence[:] = 0
    assert (joint_trust(keypoints) == 0).all()


def test_orientations_are_blended_from_one_to_the_other(skeleton, demo_rotations):
    resting, solved = demo_rotations[:4], demo_rotations[40:44]
    ends = (np.zeros((4, 22)), np.ones((4, 22)))
    for trust, expected in zip(ends, (resting, solved)):
        blended = blend_orientations(resting, solved, trust, skeleton)
        np.testing.assert_allclose(blended[:, BODY_JOINTS], expected[:, BODY_JOINTS], atol=1e-9)
    half = np.ones((4, 22))
    half[:, JOINT_INDEX["left_shoulder"]] = 0
    elbow = skeleton.pose(blend_orientations(resting, solved, half, skeleton))[1][:, JOINT_INDEX["left_elbow"]]
    np.testing.assert_allclose(elbow, skeleton.pose(solved)[1][:, JOINT_INDEX["left_elbow"]], atol=1e-9)


def test_holes_are_bridged_by_their_neighbours():
    found = np.zeros(60, bool)
    found[[5, 6, 10, 40]] = True
    values = np.arange(60.0)[:, None] * found[:, None]
    bridge = bridge_holes(found)
    bridged = bridge.vectors(values)[:, 0]
    np.testing.assert_array_equal(bridged[found], np.arange(60.0)[found])
    np.testing.assert_allclose(bridged[7:10], [7, 8, 9])
    assert (bridged[:5] == 5).all() and (bridged[41:] == 40).all()
    assert (bridge.trust[found] == 1).all() and bridge.trust[25] == 0
    assert bridge.trust[5 - HELD_FRAMES // 4] == 1 - (HELD_FRAMES // 4) / HELD_FRAMES
    assert (bridge_holes(np.zeros(3, bool)).trust == 0).all()


def test_turns_over_a_hole_are_even():
    found = np.array([True, False, False, True])
    turns = axis_angle_to_matrix(np.array([[0, 0, 0], [9, 9, 9], [9, 9, 9], [0, 0, 0.9]]))
    angles = matrix_to_axis_angle(bridge_holes(found).rotations(turns))[:, 2]
    np.testing.assert_allclose(angles, [0, 0.3, 0.6, 0.9], atol=1e-9)


# Which solver the pipeline takes.


def test_captures_use_iknet_by_default(demo_capture):
    clip, warnings = demo_capture
    assert clip.meta["ik"] == {"name": "iknet"} and not warnings
    for name in (BODY_WEIGHTS["blazepose_33"], HAND_WEIGHTS):
        assert clip.meta["models"][name] == weights.find_entry(name)["files"][0]["sha256"]


@pytest.mark.parametrize("name", [*BODY_WEIGHTS.values(), HAND_WEIGHTS])
def test_shipped_weights_are_small_and_open(name):
    tensors, metadata, sha256 = load_shipped(name)
    network, reference = IKNet.from_tensors(tensors, metadata)
    (file,) = weights.find_entry(name)["files"]
    assert file["sha256"] == sha256 and file["bytes"] < 16e6
    assert reference.shape == (len(network.layout.definition), 3)


@pytest.fixture
def own_copy(tmp_path, monkeypatch):
    """The manifest and the weights as files of their own, to be damaged."""
    copy = tmp_path / "fullbody_core"
    source = Path(weights.__file__).parent
    shutil.copytree(source / "weights", copy / "weights")
    shutil.copy(weights.manifest_path(), tmp_path / weights.MANIFEST_NAME)
    monkeypatch.setattr(weights, "__file__", str(copy / "weights.py"))
    return tmp_path


def test_without_weights_the_closed_form_stands_in_with_a_note(body, own_copy):
    assert make_solver("auto", body, SMPL_33)[0].name == "iknet"
    shutil.rmtree(own_copy / "fullbody_core" / "weights")
    solver, (note,) = make_solver("auto", body, SMPL_33)
    assert solver.name == "analytic" and "missing" in note and "closed form" in note
    with pytest.raises(WeightsAbsent):
        make_solver("iknet", body, SMPL_33)


def test_weights_that_the_manifest_does_not_list_are_absent(own_copy):
    manifest = own_copy / weights.MANIFEST_NAME
    manifest.write_text(json.dumps({"version": 1, "entries": []}))
    with pytest.raises(WeightsAbsent, match="lists no weights"):
        load_shipped(HAND_WEIGHTS)


def test_damaged_weights_are_an_error_not_a_fallback(body, own_copy):
    (file,) = weights.find_entry(HAND_WEIGHTS)["files"]
    path = own_copy / "fullbody_core" / file["path"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="sha256"):
        make_solver("auto", body, SMPL_33)


def test_another_body_is_solved_in_closed_form(body):
    taller = dataclasses.replace(body, v_template=body.v_template * np.array([1, 1.1, 1]))
    solver, (note,) = make_solver("auto", taller, BLAZEPOSE_33)
    assert solver.name == "analytic" and "trained on the open body" in note
    with pytest.raises(WeightsUnsuited):
        make_solver("iknet", taller, SMPL_33)


def test_the_closed_form_can_be_asked_for(demo_video, tmp_path):
    assert main(["capture", str(demo_video), "-o", str(tmp_path / "clip.npz"), "--ik", "analytic", "--no-refine"]) == 0
    assert CaptureClip.load(tmp_path / "clip.npz").meta["ik"] == {"name": "analytic"}
