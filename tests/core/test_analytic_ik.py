"""Closed-form inverse kinematics on keypoints of a body in known poses: what it must recover, and what it must not need."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_keypoints import keypoints_of, upright

from fullbody_core.body.open_body import open_body_path
from fullbody_core.body.smplh_file import BodyModelFile
from fullbody_core.contract.frames import REST_TO_CAMERA, axis_angle_to_matrix, forward_kinematics, matrix_to_axis_angle
from fullbody_core.contract.skeleton import (
    BLAZEPOSE_33,
    BODY_JOINTS,
    FINGERS,
    JOINT_INDEX,
    JOINT_NAMES,
    PARENTS,
    SIDES,
    SMPL_33,
)
from fullbody_core.contract.swing_twist import about, reject, rotate, transpose, unit
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.ik.analytic import AnalyticSolver, solve_body, solve_pose
from fullbody_core.ik.analytic_blazepose import FOOT_SLOPE
from fullbody_core.ik.analytic_limbs import ARM_JOINTS, FOREARM_TWIST_LIMIT, HEAD_JOINTS, LEG_JOINTS
from fullbody_core.ik.bone_lengths import MEASURED_BONES, fit_shape, measure_bones
from fullbody_core.ik.face_mesh import head_from_mesh
from fullbody_core.ik.rest_skeleton import TRACKED, RestSkeleton

UP, LEFT, FORWARD = np.array([0.0, 1, 0]), np.array([1.0, 0, 0]), np.array([0.0, 0, 1])
MIRROR = np.diag([-1.0, 1, 1])
LIMB_BONES = [
    (f"{side}_{a}", f"{side}_{b}")
    for side in SIDES
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
]


# Ranges of a finger's joints in degrees, the knuckle's spread, and the largest swings of the thumb's joints.
FLEXION, SPREAD, THUMB_SWING = ((-30, 95), (-5, 110), (-5, 85)), (-25, 25), (60, 60, 85)


@pytest.fixture(scope="session")
def body():
    return BodyModelFile.load(open_body_path())


@pytest.fixture(scope="module", params=[BLAZEPOSE_33, SMPL_33], ids=lambda definition: definition.name)
def definition(request):
    """What the detector speaks."""
    return request.param


@pytest.fixture(scope="session")
def skeleton(body):
    return RestSkeleton.of_body(body, np.zeros(16))


# Poses and their keypoints.


def identity(frames):
    return np.tile(np.eye(3), (frames, 52, 1, 1))


def turns(rng, frames, largest):
    """Rotations [T, 3, 3] about random axes by up to `largest` degrees."""
    axes = unit(rng.normal(size=(frames, 3)))
    return axis_angle_to_matrix(axes * np.radians(rng.uniform(0, largest, (frames, 1))))


def random_pose(rng, frames, bend=(0, 130)):
    """Rotations [T, 52, 3, 3] of someone who moves anyhow, turned anyhow to the camera; elbows and knees bent by `bend` degrees."""
    rotations = identity(frames)

    def put(name, rotation):
        rotations[:, JOINT_INDEX[name]] = rotation

    def angles(low, high):
        return np.radians(rng.uniform(low, high, frames))

    put("pelvis", turns(rng, frames, 180))
    for name in ("spine1", "spine2", "spine3", "neck", "head", "left_collar", "right_collar"):
        put(name, turns(rng, frames, 12))
    for side, sign in (("left", 1), ("right", -1)):
        put(f"{side}_shoulder", turns(rng, frames, 80))
        put(f"{side}_elbow", about(-sign * UP, angles(*bend)))
        sideways, twist = about(sign * FORWARD, angles(0, 45)), about(UP, angles(-35, 35))
        put(f"{side}_hip", about(-LEFT, angles(-20, 95)) @ sideways @ twist)
        put(f"{side}_knee", about(LEFT, angles(*bend)))
        put(f"{side}_ankle", turns(rng, frames, 20))
        put(f"{side}_wrist", turns(rng, frames, 60))
        for finger in FINGERS:
            for segment in (1, 2, 3):
                put(f"{side}_{finger}{segment}", turns(rng, frames, 20))
    return rotations


def finger_pose(skeleton, rng, frames, share=0.95):
    """Rotations [T, 52, 3, 3] with both hands in random poses within `share` of the fingers' limits, all else at rest.

    Written from the anatomy, not from the solver: at rest the palms face down, and flexion carries a finger's bone towards the
    palm about an axis in the palm's plane; only the knuckle spreads as well. The thumb's bones swing without twist.
    """
    rotations = identity(frames)
    for side in SIDES:
        joint = {name: skeleton.joints[JOINT_INDEX[f"{side}_{name}"]] for name in ("wrist", "middle1", "index1", "pinky1")}
        down = unit(np.cross(joint["middle1"] - joint["wrist"], joint["index1"] - joint["pinky1"]))
        down = down * -np.sign(down @ UP)
        for finger in FINGERS:
            indices = [JOINT_INDEX[f"{side}_{finger}{segment}"] for segment in (1, 2, 3)]
            bone = unit(skeleton.joints[indices[1]] - skeleton.joints[indices[0]])
            hinge = unit(np.cross(bone, down))
            for index, limits in zip(indices, FLEXION):
                rotations[:, index] = about(hinge, share * np.radians(rng.uniform(*limits, frames)))
            if finger == "thumb":
                for segment, limit in enumerate(THUMB_SWING):
                    start = skeleton.joints[indices[min(segment, 1)]]
                    bone = unit(skeleton.joints[indices[min(segment, 1) + 1]] - start)
                    axes = unit(reject(rng.normal(size=(frames, 3)), bone))
                    rotations[:, indices[segment]] = about(axes, share * np.radians(rng.uniform(0, limit, frames)))
            else:
                spread = share * np.radians(rng.uniform(*SPREAD, frames))
                rotations[:, indices[0]] = rotations[:, indices[0]] @ about(np.cross(hinge, bone), spread)
    return rotations


def degrees_between(a, b):
    """Angle between vectors [..., 3], exact for small ones too."""
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, -1)))


def degrees_apart(a, b):
    """Angle of the rotation from a to b, [..., 3, 3]."""
    return np.degrees(np.linalg.norm(matrix_to_axis_angle(transpose(a) @ b), axis=-1))


def solved(skeleton, keypoints):
    """(rotations, joints, orientations) of the solver's answer."""
    rotations = solve_pose(keypoints, skeleton)
    return rotations, *skeleton.pose(rotations)


def assert_rotations(matrices):
    assert np.isfinite(matrices).all()
    assert np.abs(matrices @ transpose(matrices) - np.eye(3)).max() < 1e-9
    assert np.abs(np.linalg.det(matrices) - 1).max() < 1e-9


# What it recovers.


@pytest.mark.parametrize("bend", [(0, 130), (0, 2), (130, 150)], ids=["any", "straight", "folded"])
def test_limbs_point_where_the_keypoints_do(skeleton, definition, bend):
    rotations = random_pose(np.random.default_rng(0), 300, bend)
    keypoints = keypoints_of(skeleton, rotations, definition)
    answer, joints, _ = solved(skeleton, keypoints)
    assert_rotations(answer)
    truth, _ = skeleton.pose(rotations)
    for parent, child in LIMB_BONES:
        start, end = JOINT_INDEX[parent], JOINT_INDEX[child]
        assert degrees_between(joints[:, end] - joints[:, start], truth[:, end] - truth[:, start]).max() < 1e-6


def test_a_still_trunk_gives_the_pelvis_exactly(skeleton, definition):
    """With the spine at rest, hips and shoulders say how the body is turned, whichever way that is."""
    rotations = random_pose(np.random.default_rng(1), 200)
    for name in ("spine1", "spine2", "spine3", "left_collar", "right_collar"):
        rotations[:, JOINT_INDEX[name]] = np.eye(3)
    answer = solve_pose(keypoints_of(skeleton, rotations, definition), skeleton)
    for name in ("pelvis", "spine1", "spine2", "spine3", "left_collar", "right_collar"):
        assert degrees_apart(answer[:, JOINT_INDEX[name]], rotations[:, JOINT_INDEX[name]]).max() < 0.01


def test_a_turning_spine_is_shared_evenly(skeleton, definition):
    """Chest turned against the hips: each of the three joints takes a third, which is how the pose was made."""
    rotations = upright(9)
    for name in ("spine1", "spine2", "spine3"):
        rotations[:, JOINT_INDEX[name]] = about(UP, np.radians(np.linspace(-20, 20, 9)))
    answer = solve_pose(keypoints_of(skeleton, rotations, definition), skeleton)
    for name in ("pelvis", "spine1", "spine2", "spine3"):
        assert degrees_apart(answer[:, JOINT_INDEX[name]], rotations[:, JOINT_INDEX[name]]).max() < 3.5


@pytest.mark.parametrize("hips_seen, chest_lean", [(1, 5), (0, 10)])
def test_a_slanting_shoulder_line_is_half_chest_and_half_collars(skeleton, hips_seen, chest_lean):
    """With the hips in the picture the spine says that it stands upright; without them the chest leans with the shoulders."""
    keypoints = keypoints_of(skeleton, upright())
    shoulders = [BLAZEPOSE_33.index(f"{side}_shoulder") for side in SIDES]
    middle = keypoints.body3d[:, shoulders].mean(1)
    keypoints.body3d[:, shoulders] = middle + (keypoints.body3d[:, shoulders] - middle) @ about(FORWARD, np.radians(10)).T
    keypoints.body_confidence[:, [BLAZEPOSE_33.index(f"{side}_hip") for side in SIDES]] = hips_seen
    _, _, orientations = solved(skeleton, keypoints)
    expected = {"spine3": chest_lean, "left_collar": 10, "right_collar": 10}
    for name, degrees in expected.items():
        left = orientations[0, JOINT_INDEX[name]] @ LEFT
        assert np.degrees(np.arctan2(left[1], left[0])) == pytest.approx(degrees, abs=0.5)


def test_a_bent_elbow_tells_the_upper_arms_twist(skeleton, definition):
    rotations = random_pose(np.random.default_rng(2), 500, bend=(40, 130))
    _, truth = skeleton.pose(rotations)
    _, _, orientations = solved(skeleton, keypoints_of(skeleton, rotations, definition))
    for side in SIDES:
        shoulder = JOINT_INDEX[f"{side}_shoulder"]
        assert degrees_apart(orientations[:, shoulder], truth[:, shoulder]).max() < 6


@pytest.mark.parametrize("bend", [(30, 60), (60, 90), (90, 110), (110, 140)], ids=str)
def test_a_bent_knee_tells_the_thighs_twist(skeleton, definition, bend):
    """From a walk's knee to heels at the seat."""
    rotations = random_pose(np.random.default_rng(3), 500, bend)
    _, truth = skeleton.pose(rotations)
    _, _, orientations = solved(skeleton, keypoints_of(skeleton, rotations, definition))
    for side in SIDES:
        hip = JOINT_INDEX[f"{side}_hip"]
        error = degrees_apart(orientations[:, hip], truth[:, hip])
        assert np.median(error) < 5 and error.max() < 12


def test_the_rest_pose_is_nearly_the_rest_pose(skeleton, definition):
    """What is left: eyes, toes and finger tips lie not exactly where the solver's average ones do.

    BlazePose's feet slope, which the solver takes back, and these keypoints' feet do not.
    """
    answer = solve_pose(keypoints_of(skeleton, upright(), definition), skeleton)
    error = dict(zip(JOINT_NAMES, degrees_apart(answer, upright())[0]))
    loose = {"hip": 6, "ankle": np.degrees(FOOT_SLOPE) + 8, "neck": 4, "head": 4, "thumb3": 16}
    loose.update({f"{finger}3": 3 for finger in FINGERS if finger != "thumb"})
    for name, degrees in error.items():
        assert degrees < loose.get(name.removeprefix("left_").removeprefix("right_"), 0.01), name


def test_fingers_within_their_limits_come_back(skeleton, definition):
    rng = np.random.default_rng(4)
    rotations = finger_pose(skeleton, rng, 300)
    rotations[:, 0] = turns(rng, 300, 180)
    rotations[:, [20, 21]] = turns(rng, 600, 60).reshape(300, 2, 3, 3)
    truth, turned = skeleton.pose(rotations)
    answer, joints, orientations = solved(skeleton, keypoints_of(skeleton, rotations, definition))
    for wrist, hand in ((20, slice(22, 37)), (21, slice(37, 52))):
        assert degrees_apart(orientations[:, wrist], turned[:, wrist]).max() < 0.01
        offset = (joints[:, hand] - joints[:, [wrist]]) - (truth[:, hand] - truth[:, [wrist]])
        assert np.linalg.norm(offset, axis=-1).max() < 0.001
        # The first two joints of each finger have both bone ends to go by, so their rotations are right too.
        for first in (0, 1):
            error = degrees_apart(answer[:, hand][:, first:12:3], rotations[:, hand][:, first:12:3])
            assert error.max() < 3, "the proximal and the middle bone of a finger are not quite in line at rest"


def test_half_of_the_palms_turn_is_the_forearms(skeleton, definition):
    frames = 41
    rotations = upright(frames)
    for side, sign in (("left", 1), ("right", -1)):
        axis = unit(skeleton.joints[JOINT_INDEX[f"{side}_wrist"]] - skeleton.joints[JOINT_INDEX[f"{side}_elbow"]])
        half = about(axis, np.radians(np.linspace(-45, 45, frames)))
        rotations[:, JOINT_INDEX[f"{side}_elbow"]] = about(-sign * UP, np.radians(90)) @ half
        rotations[:, JOINT_INDEX[f"{side}_wrist"]] = half
    answer = solve_pose(keypoints_of(skeleton, rotations, definition), skeleton)
    for name in ("elbow", "wrist"):
        for side in SIDES:
            joint = JOINT_INDEX[f"{side}_{name}"]
            assert degrees_apart(answer[:, joint], rotations[:, joint]).max() < 3


def test_joint_centres_leave_nothing_open(skeleton):
    """The paper's keypoints hold every joint of the body, so that all of them come back; only a shrug turns the chest a little."""
    rotations = random_pose(np.random.default_rng(17), 300)
    _, joints, orientations = solved(skeleton, keypoints_of(skeleton, rotations, SMPL_33))
    truth, turned = skeleton.pose(rotations)
    errors = np.linalg.norm(joints - truth, axis=-1)
    assert errors[:, :13].max() < 1e-6, "legs, spine and neck"
    assert errors[:, :22].max() < 0.006
    for name in ("pelvis", "head", "left_ankle", "right_ankle"):
        assert degrees_apart(orientations[:, JOINT_INDEX[name]], turned[:, JOINT_INDEX[name]]).max() < 0.01, name


def test_the_bodys_own_knuckles_turn_the_wrist_where_no_hand_is_found(skeleton):
    rotations = random_pose(np.random.default_rng(18), 100, bend=(40, 130))
    keypoints = keypoints_of(skeleton, rotations, SMPL_33)
    keypoints.hand_confidence[:, 0], keypoints.hand3d[:, 0] = 0, 0
    answer, _, orientations = solved(skeleton, keypoints)
    truth = skeleton.pose(rotations)[1]
    wrist = JOINT_INDEX["left_wrist"]
    assert np.median(degrees_apart(orientations[:, wrist], truth[:, wrist])) < 5
    np.testing.assert_array_equal(answer[:, 22:37], np.broadcast_to(np.eye(3), (100, 15, 3, 3)))


def test_the_face_mesh_turns_the_head(skeleton, definition):
    rng = np.random.default_rng(5)
    rotations = upright(50)
    rotations[:, JOINT_INDEX["head"]] = turns(rng, 50, 80)
    keypoints = keypoints_of(skeleton, rotations, definition)
    head = skeleton.pose(rotations)[1][:, JOINT_INDEX["head"]]
    face3d = np.zeros((50, 478, 3))
    # MediaPipe's chart: 263 and 33 are the outer corners of the left and the right eye, 10 the top of the forehead, 152 the chin.
    for first, second, axis in ((263, 33, LEFT), (10, 152, UP)):
        half = 60 * rotate(head, axis)
        face3d[:, first], face3d[:, second] = 400 + half, 400 - half
    keypoints.head_rotation = head_from_mesh(face3d)
    answer, _, orientations = solved(skeleton, keypoints)
    assert degrees_apart(orientations[:, JOINT_INDEX["head"]], head).max() < 0.01
    if definition is BLAZEPOSE_33:  # neck and head take half each; SMPL_33 says where the neck points
        np.testing.assert_allclose(answer[:, JOINT_INDEX["neck"]], answer[:, JOINT_INDEX["head"]], atol=1e-9)


def test_without_a_mesh_eyes_ears_and_mouth_turn_the_head(skeleton, definition):
    rotations = upright(200)
    rotations[:, JOINT_INDEX["head"]] = turns(np.random.default_rng(6), 200, 70)
    truth = skeleton.pose(rotations)[1]
    _, _, orientations = solved(skeleton, keypoints_of(skeleton, rotations, definition))
    head = JOINT_INDEX["head"]
    assert degrees_apart(orientations[:, head], truth[:, head]).max() < 7


# What it does not depend on.


def same_but_for_the_root(answer, expected, turn):
    np.testing.assert_allclose(answer[:, 0], turn @ expected[:, 0], atol=1e-8)
    np.testing.assert_allclose(answer[:, 1:], expected[:, 1:], atol=1e-8)


@given(st.integers(0, 10_000), st.floats(-np.pi, np.pi))
@settings(max_examples=15, deadline=None)
def test_turning_the_scene_turns_the_pelvis_only(skeleton, definition, seed, angle):
    """About the camera's axis, and, as all of it is seen, about any other."""
    rng = np.random.default_rng(seed)
    keypoints = keypoints_of(skeleton, random_pose(rng, 4), definition)
    keypoints.body3d = keypoints.body3d + rng.normal(size=keypoints.body3d.shape) * 0.02
    expected = solve_pose(keypoints, skeleton)
    for axis in (FORWARD, unit(rng.normal(size=3))):
        turn = about(axis, angle)
        moved = dataclasses.replace(keypoints, body3d=keypoints.body3d @ turn.T, hand3d=keypoints.hand3d @ turn.T)
        same_but_for_the_root(solve_pose(moved, skeleton), expected, turn)


@given(st.integers(0, 10_000), st.floats(0.2, 5))
@settings(max_examples=15, deadline=None)
def test_place_and_size_do_not_matter(skeleton, definition, seed, scale):
    rng = np.random.default_rng(seed)
    keypoints = keypoints_of(skeleton, random_pose(rng, 4), definition)
    expected = solve_pose(keypoints, skeleton)
    moved = dataclasses.replace(
        keypoints, body3d=scale * keypoints.body3d + rng.normal(size=3), hand3d=scale * keypoints.hand3d + rng.normal(size=3)
    )
    np.testing.assert_allclose(solve_pose(moved, skeleton), expected, atol=1e-8)


def other_side(names):
    swap = {"left": "right", "right": "left"}
    mirrored = [
        f"{swap[side]}_{rest}" if side in swap else name for name in names for side, _, rest in [name.partition("_")]
    ]
    return [names.index(name) for name in mirrored]


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.02, 0.06, 1.0]))
@settings(max_examples=20, deadline=None)
def test_a_mirror_image_gives_the_mirrored_pose(skeleton, definition, seed, confidence):
    """M R M with left and right exchanged; through every way of believing and not believing what is seen."""
    rng = np.random.default_rng(seed)
    keypoints = keypoints_of(skeleton, random_pose(rng, 3), definition)
    keypoints.body3d = keypoints.body3d + rng.normal(size=keypoints.body3d.shape) * 0.02
    keypoints.body_confidence = np.maximum(confidence, rng.integers(0, 2, keypoints.body_confidence.shape).astype(float))
    keypoints.hand_confidence = np.ones((3, 2)) * [confidence > 0, 1]
    swap = other_side(list(definition.names))
    mirrored = dataclasses.replace(
        keypoints,
        body3d=keypoints.body3d[:, swap] @ MIRROR,
        body_confidence=keypoints.body_confidence[:, swap],
        hand3d=keypoints.hand3d[:, ::-1] @ MIRROR,
        hand_confidence=keypoints.hand_confidence[:, ::-1],
    )
    expected = MIRROR @ solve_pose(keypoints, skeleton)[:, other_side(list(JOINT_NAMES))] @ MIRROR
    np.testing.assert_allclose(solve_pose(mirrored, skeleton), expected, atol=1e-4)


def test_hands_that_are_solved_already_are_taken_as_they_are(skeleton, definition):
    keypoints, solver = keypoints_of(skeleton, random_pose(np.random.default_rng(9), 4), definition), AnalyticSolver()
    hands = solver.solve_hands(keypoints, skeleton)
    np.testing.assert_array_equal(solver.solve_pose(keypoints, skeleton, hands), solver.solve_pose(keypoints, skeleton))
    fingers = hands.fingers.reshape(4, -1, 3, 3)
    np.testing.assert_array_equal(fingers, solve_pose(keypoints, skeleton)[:, BODY_JOINTS.stop :])


@pytest.mark.parametrize("joints", [HEAD_JOINTS, LEG_JOINTS, ARM_JOINTS], ids=["head", "legs", "arms"])
def test_wanted_joints_are_turned_as_if_all_were(skeleton, definition, joints):
    keypoints = keypoints_of(skeleton, random_pose(np.random.default_rng(10), 4), definition)
    wanted = np.zeros(22, bool)
    wanted[joints[-1]] = True
    part, whole = (skeleton.pose(solve_body(keypoints, skeleton, *some))[1] for some in ((wanted,), ()))
    np.testing.assert_allclose(part[:, joints], whole[:, joints], atol=1e-12)
    trunk = [JOINT_INDEX[name] for name in ("pelvis", "spine3", "left_collar")]
    np.testing.assert_allclose(part[:, trunk], whole[:, trunk], atol=1e-12)


def test_a_skeleton_poses_as_plain_forward_kinematics_does(skeleton):
    rotations = random_pose(np.random.default_rng(11), 5)
    joints, orientations = forward_kinematics(skeleton.joints, rotations, PARENTS)
    posed = skeleton.pose(rotations)
    np.testing.assert_allclose(posed[0], joints - joints[:, :1], atol=1e-13)
    np.testing.assert_allclose(posed[1], orientations, atol=1e-13)
    joint, place = skeleton.landmarks["nose"]
    expected = posed[0][:, joint] + posed[1][:, joint] @ (place - skeleton.joints[joint])
    for _ in range(2):  # the second time it is looked up no more
        found = skeleton.place(("nose", "left_wrist"), *posed)
        np.testing.assert_allclose(found[:, 0], expected, atol=1e-13)
        np.testing.assert_array_equal(found[:, 1], posed[0][:, JOINT_INDEX["left_wrist"]])
    skeleton.at_rest(("nose",))[:] = 0
    np.testing.assert_array_equal(skeleton.at_rest(("nose",))[0], place, "what is handed out is the caller's own")


def test_frames_together_are_frames_alone(skeleton, definition):
    """With all of it seen, a clip is so many single pictures."""
    keypoints = keypoints_of(skeleton, random_pose(np.random.default_rng(8), 12), definition)
    together = solve_pose(keypoints, skeleton)
    for frame in range(12):
        one = keypoints.take([frame])
        np.testing.assert_allclose(solve_pose(one, skeleton)[0], together[frame], atol=1e-10)


@pytest.mark.parametrize("part", ["left_knee", "right_elbow", "head", "left_toe"])
def test_what_nobody_sees_says_nothing(skeleton, definition, part):
    """A point of no confidence may lie anywhere: the bones at it take their resting pose, the others do not change."""
    rng = np.random.default_rng(9)
    keypoints = keypoints_of(skeleton, random_pose(rng, 20), definition)
    own_names = {"head": ("nose", "head_top"), "left_toe": ("left_foot_index", "left_big_toe")}
    index = definition.index(own_names[part][definition is SMPL_33] if part in own_names else part)
    keypoints.body_confidence[:, index] = 0
    expected = solve_pose(keypoints, skeleton)
    keypoints.body3d[:, index] += rng.normal(size=(20, 3))
    np.testing.assert_allclose(solve_pose(keypoints, skeleton), expected, atol=1e-12)


# Nobody, and nonsense.


def test_nobody_stands_before_the_camera_with_hanging_arms(skeleton, definition):
    nobody = Keypoints.stack([Keypoints.nobody(definition, 478)] * 3)
    answer, joints, _ = solved(skeleton, nobody)
    assert_rotations(answer)
    assert degrees_apart(answer[:, 0], REST_TO_CAMERA).max() < 3, "at rest the shoulders are not quite above the hips"
    down = np.array([0, 1.0, 0])
    for parent, child in LIMB_BONES:
        bone = joints[:, JOINT_INDEX[child]] - joints[:, JOINT_INDEX[parent]]
        assert degrees_between(bone, down).max() < 15, (parent, child)
    np.testing.assert_allclose(answer[:, 20:], np.broadcast_to(np.eye(3), (3, 32, 3, 3)), atol=1e-9)
    # The same without confidence as without keypoints.
    unseen = keypoints_of(skeleton, random_pose(np.random.default_rng(10), 3), definition)
    unseen.body_confidence[:], unseen.hand_confidence[:] = 0, 0
    np.testing.assert_allclose(solve_pose(unseen, skeleton), answer, atol=1e-12)


def finger_limits():
    """Largest angle in degrees of each hand joint, by name without its side."""
    hinges = [max(limits) for limits in FLEXION]
    hinges[0] = np.hypot(hinges[0], max(SPREAD))
    return {
        f"{finger}{segment}": limit
        for finger in FINGERS
        for segment, limit in enumerate(THUMB_SWING if finger == "thumb" else hinges, 1)
    }


NONSENSE = {
    "zeros": lambda rng, shape: np.zeros(shape),
    "one point": lambda rng, shape: np.ones(shape),
    "one line": lambda rng, shape: rng.normal(size=shape[:-1] + (1,)) * np.ones(3),
    "one plane": lambda rng, shape: rng.normal(size=shape) * [1, 1, 0],
    "a few places": lambda rng, shape: rng.integers(-1, 2, shape).astype(float),
    "noise": lambda rng, shape: rng.normal(size=shape),
    "vast noise": lambda rng, shape: rng.normal(size=shape) * 1e8,
    "tiny noise": lambda rng, shape: rng.normal(size=shape) * 1e-12,
}


@pytest.mark.parametrize("kind", NONSENSE)
@pytest.mark.parametrize("confidence", [0.0, 0.03, 1.0, "mixed"])
def test_nonsense_gives_rotations_within_the_limits_of_a_body(skeleton, definition, kind, confidence):
    rng = np.random.default_rng(11)
    keypoints = Keypoints.stack([Keypoints.nobody(definition, 478)] * 40)
    for name in ("body3d", "hand3d"):
        setattr(keypoints, name, NONSENSE[kind](rng, getattr(keypoints, name).shape))
    for name in ("body_confidence", "hand_confidence", "face_confidence"):
        values = getattr(keypoints, name)
        setattr(keypoints, name, rng.choice([0, 0.03, 1], values.shape) if confidence == "mixed" else values + confidence)
    answer = solve_pose(keypoints, skeleton)
    assert answer.shape == (40, 52, 3, 3)
    assert_rotations(answer)
    angles = np.degrees(np.linalg.norm(matrix_to_axis_angle(answer), axis=-1)).max(0)
    head = 42.5 if definition is BLAZEPOSE_33 else 85
    limits = {"neck": 42.5, "head": head, "ankle": 60, "foot": 0, **finger_limits()}
    for name, angle in zip(JOINT_NAMES, angles):
        assert angle < limits.get(name.removeprefix("left_").removeprefix("right_"), 180) + 1e-3, name


@pytest.mark.parametrize("name", ["one frame", "no hands at all"])
def test_short_and_handless_clips(skeleton, definition, name):
    keypoints = keypoints_of(skeleton, upright(1 if name == "one frame" else 5), definition)
    if name == "no hands at all":
        keypoints.hand3d[:], keypoints.hand_confidence[:] = 0, 0
    answer = solve_pose(keypoints, skeleton)
    assert_rotations(answer)
    assert degrees_apart(answer[:, [20, 21]], np.eye(3)).max() < 0.01


# A hand that comes and goes.


def waving_hand(skeleton, first, last, bend=90, frames=30):
    """Keypoints of a still person whose left wrist goes evenly from one rotation vector to another (degrees)."""
    rotations = upright(frames)
    rotations[:, JOINT_INDEX["left_elbow"]] = about(-UP, np.radians(bend))
    share = np.linspace(0, 1, frames)[:, None]
    rotations[:, JOINT_INDEX["left_wrist"]] = axis_angle_to_matrix(np.radians((1 - share) * first + share * np.array(last)))
    return keypoints_of(skeleton, rotations)


def steps_of(skeleton, answer):
    """Degrees by which left upper arm, forearm and hand turn from each frame to the next, [3, T - 1]."""
    _, orientations = skeleton.pose(answer)
    return np.stack([degrees_apart(orientations[:-1, joint], orientations[1:, joint]) for joint in (16, 18, 20)])


@pytest.mark.parametrize("bend", [0, 15, 90])
@pytest.mark.parametrize("last", [(0, 40, 0), (60, 0, 0), (50, 30, -20)], ids=str)
def test_a_hand_lost_for_a_while_does_not_snap(skeleton, last, bend):
    """Over the gap the wrist goes evenly from where it was last seen to where it is seen next, whether the elbow is bent or not."""
    keypoints = waving_hand(skeleton, np.zeros(3), last, bend)
    seen = solve_pose(keypoints, skeleton)
    keypoints.hand_confidence[10:20, 0] = 0
    keypoints.hand3d[10:20, 0] = 0
    answer = solve_pose(keypoints, skeleton)
    assert_rotations(answer)
    np.testing.assert_allclose(answer[:10, :22], seen[:10, :22], atol=1e-9)
    np.testing.assert_allclose(answer[20:, :22], seen[20:, :22], atol=1e-9)
    # The motion is even, so that no step over the gap need be much larger than the others.
    assert (steps_of(skeleton, answer).max(1) < 1.3 * steps_of(skeleton, seen).max(1) + 0.1).all()
    # What was never seen is not made up: the fingers of those frames are straight.
    np.testing.assert_array_equal(answer[10:20, 22:37], np.broadcast_to(np.eye(3), (10, 15, 3, 3)))


@pytest.mark.parametrize("bend", [0, 15, 90])
def test_a_gap_between_two_turns_is_bridged_in_even_steps(skeleton, bend):
    """Nothing in the keypoints says how the hand came from the one to the other."""
    keypoints = waving_hand(skeleton, np.zeros(3), (0, 0, 0), bend)
    turned = waving_hand(skeleton, np.array([70.0, 30, 0]), (70, 30, 0), bend)
    keypoints.hand3d[20:] = turned.hand3d[20:]
    keypoints.hand_confidence[10:20, 0] = 0
    answer = solve_pose(keypoints, skeleton)
    steps = steps_of(skeleton, answer)
    np.testing.assert_allclose(steps[:, :9], 0, atol=1e-4)
    np.testing.assert_allclose(steps[:, 20:], 0, atol=1e-4)
    _, orientations = skeleton.pose(answer)
    whole = np.array([degrees_apart(orientations[9, joint], orientations[20, joint]) for joint in (16, 18, 20)])
    assert (steps.max(1) < 1.5 * whole / 11 + 0.1).all()


@pytest.mark.parametrize("bend", [0, 90])
def test_before_and_after_it_is_seen_the_wrist_rests_where_it_was(skeleton, bend):
    keypoints = waving_hand(skeleton, np.zeros(3), (40, 20, 10), bend)
    keypoints.hand_confidence[:8, 0], keypoints.hand_confidence[22:, 0] = 0, 0
    answer = solve_pose(keypoints, skeleton)
    for joint in (16, 18, 20):
        np.testing.assert_allclose(answer[:8, joint], np.broadcast_to(answer[8, joint], (8, 3, 3)), atol=1e-9)
        np.testing.assert_allclose(answer[22:, joint], np.broadcast_to(answer[21, joint], (8, 3, 3)), atol=1e-9)


def test_a_palm_that_turns_all_round_never_jumps(skeleton):
    """No forearm turns that far: within its range it follows, beyond it comes back evenly, and meets itself at half a turn."""
    frames = 361
    rotations = upright(frames)
    axis = unit(skeleton.joints[JOINT_INDEX["left_wrist"]] - skeleton.joints[JOINT_INDEX["left_elbow"]])
    rotations[:, JOINT_INDEX["left_elbow"]] = about(-UP, np.radians(90))
    rotations[:, JOINT_INDEX["left_wrist"]] = about(axis, np.radians(np.arange(frames)))
    answer = solve_pose(keypoints_of(skeleton, rotations), skeleton)
    steps = steps_of(skeleton, answer)
    assert steps.max() < 2
    np.testing.assert_allclose(steps[2, 5:85], 1, atol=0.05)
    np.testing.assert_allclose(steps[1, 5:85], 0.5, atol=0.05)
    turned = np.degrees(np.linalg.norm(matrix_to_axis_angle(answer[:, [18, 20]]), axis=-1))
    assert turned[:, 1].max() < np.degrees(FOREARM_TWIST_LIMIT) / 2 + 1
    np.testing.assert_allclose(answer[0], answer[-1], atol=1e-9)


# Shape from bone lengths.


@pytest.fixture(scope="session")
def shape_space(body):
    """(joints [52, 3], their directions [52, 3, 16]), which the file works out anew at each call."""
    return body.rest_joints, body.joint_shapedirs


def bones_at(shape_space, betas):
    joints, directions = shape_space
    return bones_of(joints + directions @ betas)


def bones_of(joints):
    return np.array([np.linalg.norm(joints[JOINT_INDEX[a]] - joints[JOINT_INDEX[b]]) for a, b in MEASURED_BONES])


def test_measured_bones_are_the_bodys_in_any_pose(body, definition):
    """But for those over the trunk, which the spine changes."""
    rigid = [i for i, (a, b) in enumerate(MEASURED_BONES) if "shoulder" not in a or "elbow" in b]
    assert len(rigid) == 8
    rng = np.random.default_rng(12)
    for betas in rng.normal(size=(4, 16)):
        skeleton = RestSkeleton.of_body(body, betas)
        lengths, shown = measure_bones(keypoints_of(skeleton, random_pose(rng, 30), definition))
        np.testing.assert_allclose(lengths[rigid], bones_of(skeleton.joints)[rigid], rtol=1e-9)
        np.testing.assert_array_equal(shown, 1)
        still, _ = measure_bones(keypoints_of(skeleton, upright(), definition))
        np.testing.assert_allclose(still, bones_of(skeleton.joints), rtol=1e-9)


def test_bones_are_measured_where_they_are_seen(skeleton, definition):
    keypoints = keypoints_of(skeleton, upright(10), definition)
    true = bones_of(skeleton.joints)
    wrist = definition.index("left_wrist")
    keypoints.body3d[:6, wrist] += 0.3
    keypoints.body_confidence[:6, wrist] = 0.4
    keypoints.body_confidence[:, definition.index("right_ankle")] = 0.5  # not more than half: never seen
    lengths, shown = measure_bones(keypoints)
    forearm, shin = (MEASURED_BONES.index(bone) for bone in (("left_elbow", "left_wrist"), ("right_knee", "right_ankle")))
    assert shown[forearm] == 0.4 and shown[shin] == 0 and lengths[shin] == 0
    others = np.delete(np.arange(len(true)), shin)
    np.testing.assert_allclose(lengths[others], true[others], rtol=1e-9)
    np.testing.assert_array_equal(np.delete(shown, [forearm, shin]), 1)


def test_a_few_wild_frames_do_not_change_a_length(skeleton, definition):
    keypoints = keypoints_of(skeleton, upright(20), definition)
    keypoints.body3d[:8] *= 3
    np.testing.assert_allclose(measure_bones(keypoints)[0], bones_of(skeleton.joints), rtol=1e-9)


def shapes(shape_space, count):
    """Bone lengths [N] m of random people."""
    for betas in np.clip(np.random.default_rng(16).normal(size=(count, 16)), -2, 2):
        yield bones_at(shape_space, betas)


def test_the_shape_has_the_measured_bones(shape_space):
    """Up to the scale, which one camera does not know, and but for the pull towards the mean body."""
    mean, worst, better = bones_of(shape_space[0]), [], []
    for true in shapes(shape_space, 100):
        shape = fit_shape(true, np.ones(len(true)), *shape_space)
        found = bones_at(shape_space, shape.betas)
        worst.append(np.abs(found - shape.scale * true).max())
        better.append(np.linalg.norm(found - shape.scale * true) / np.linalg.norm(mean - shape.scale * true))
        assert np.abs(shape.betas).max() < 3
    assert np.median(worst) < 0.01 and max(worst) < 0.025
    assert np.median(better) < 0.6 and max(better) < 1


def test_without_the_pull_the_bones_are_exact(shape_space):
    for true in shapes(shape_space, 20):
        shape = fit_shape(true, np.ones(len(true)), *shape_space, shape_weight=1e-8)
        found = bones_at(shape_space, shape.betas)
        np.testing.assert_allclose(found, shape.scale * true, atol=5e-4)


@given(st.integers(0, 10_000), st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_the_unit_of_the_keypoints_does_not_matter(shape_space, seed, factor):
    rng = np.random.default_rng(seed)
    lengths = bones_at(shape_space, rng.normal(size=16))
    weights = rng.uniform(0, 1, len(lengths))
    expected = fit_shape(lengths, weights, *shape_space)
    scaled = fit_shape(factor * lengths, weights, *shape_space)
    assert scaled.scale == pytest.approx(expected.scale / factor, rel=1e-9)
    np.testing.assert_allclose(scaled.betas, expected.betas, atol=1e-7)


def test_the_mean_bodys_bones_give_the_mean_body(shape_space):
    shape = fit_shape(bones_of(shape_space[0]), np.ones(len(MEASURED_BONES)), *shape_space)
    assert shape.scale == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(shape.betas, 0, atol=1e-9)


@pytest.mark.parametrize("what", ["no weight", "no length"])
def test_without_measurements_it_is_the_mean_body(shape_space, what):
    count = len(MEASURED_BONES)
    lengths, weights = (np.full(count, 0.3), np.zeros(count)) if what == "no weight" else (np.zeros(count), np.ones(count))
    shape = fit_shape(lengths, weights, *shape_space)
    assert shape.scale == 1
    np.testing.assert_array_equal(shape.betas, np.zeros(16))


def test_bones_never_measured_do_not_count(shape_space):
    true = bones_at(shape_space, np.linspace(-1, 1, 16))
    weights = np.ones(len(true))
    weights[3], weights[7] = 0, 0
    wrong = true.copy()
    wrong[3], wrong[7] = 5, 0
    expected, found = (fit_shape(lengths, weights, *shape_space) for lengths in (true, wrong))
    assert found.scale == pytest.approx(expected.scale)
    np.testing.assert_allclose(found.betas, expected.betas, atol=1e-12)


def test_short_legs_and_long_arms_are_told_from_their_opposites(shape_space):
    """The answer's proportions go the way the measurements do."""
    mean = bones_of(shape_space[0])
    legs = np.array(["knee" in b or "ankle" in b for _, b in MEASURED_BONES])
    ratios = []
    for factor in (0.93, 1.0, 1.07):
        shape = fit_shape(np.where(legs, factor * mean, mean), np.ones(len(mean)), *shape_space)
        found = bones_at(shape_space, shape.betas)
        ratios.append(found[legs].mean() / found[~legs].mean())
    assert ratios[0] < 0.985 * ratios[1] and ratios[2] > 1.015 * ratios[1]


# The rest skeleton.


def test_tracked_points_are_the_places_of_their_names(body, skeleton, definition):
    rotations = random_pose(np.random.default_rng(13), 5)
    points, tracked = skeleton.tracked_points(definition, rotations), list(TRACKED[definition.name])
    assert points.shape == (5, len(tracked), 3) and len(set(tracked)) == len(tracked)
    keypoints = keypoints_of(skeleton, rotations, definition).body3d[:, tracked]
    np.testing.assert_allclose(points, keypoints, atol=1e-12)


def test_posing_puts_the_pelvis_at_the_origin_and_keeps_bones(skeleton):
    joints, _ = skeleton.pose(random_pose(np.random.default_rng(14), 5))
    np.testing.assert_array_equal(joints[:, 0], 0)
    parents = list(PARENTS[1:])
    lengths = np.linalg.norm(joints[:, 1:] - joints[:, parents], axis=-1)
    rest = np.linalg.norm(skeleton.joints[1:] - skeleton.joints[parents], axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(rest, lengths.shape), rtol=1e-9)


def test_landmarks_at_rest_lie_on_the_surface(body):
    betas = np.random.default_rng(15).normal(size=16)
    skeleton = RestSkeleton.of_body(body, betas)
    joints, orientations = skeleton.pose(identity(1))
    surface = body.v_template + body.shapedirs @ betas
    for name, vertex in body.landmarks.items():
        place = skeleton.place([name], joints, orientations)[0, 0] + skeleton.joints[0]
        np.testing.assert_allclose(place, surface[vertex], atol=1e-6)
