"""Synthetic people and their labels: against plain forward kinematics, plain projection, and what a mirror shows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_people import made_up_motion

from fullbody_core.body.lbs import BodyModel
from fullbody_core.camera import crop_to_camera_rotation, project
from fullbody_core.contract.frames import MIRROR, axis_angle_to_matrix, forward_kinematics
from fullbody_core.contract.skeleton import BODY_JOINTS, JOINT_INDEX, JOINT_NAMES, PARENTS, mirror_names
from fullbody_core.ik.rest_skeleton import hand_places
from fullbody_core.networks.body_keypoints import EXTENDED_BODIES
from fullbody_core.networks.detnet_samples import FACE_POINTS, IMAGE_SIZE
from fullbody_core.networks.heat_maps import BODY_MAP, hand_windows
from fullbody_core.synth.people import (
    NEAREST,
    PeopleMaker,
    crop_axes,
    face_vertices,
    mirror_turns,
    project_to,
)
from fullbody_core.synth.people_samples import (
    jitter_boxes,
    label,
)
from fullbody_core.synth.person_mesh import PersonMesh

NAMES = EXTENDED_BODIES["smpl"].complete


@pytest.fixture(scope="module")
def maker(body):
    return PeopleMaker(body, [made_up_motion()])


@pytest.fixture(scope="module")
def people(maker):
    return maker.draw(np.random.default_rng(1), 200)


def test_people_are_drawn_by_the_seed_alone(maker):
    one, same, other = (maker.draw(np.random.default_rng(seed), 5) for seed in (3, 3, 4))
    for name in ("betas", "rotations", "pelvis", "matrix", "frame", "body", "hands", "face"):
        assert (getattr(one, name) == getattr(same, name)).all()
        assert (getattr(one, name) != getattr(other, name)).any()


def test_keypoints_are_those_of_plain_forward_kinematics(body, people):
    for person in range(10):
        rest = body.rest_joints + body.joint_shapedirs @ people.betas[person]
        joints, orientations = forward_kinematics(rest, people.rotations[person], PARENTS)
        joints = joints - joints[0] + people.pelvis[person]
        for name in ("pelvis", "left_elbow", "right_wrist", "left_ankle", "head", "right_shoulder", "spine3"):
            np.testing.assert_allclose(people.body[person, NAMES.index(name)], joints[JOINT_INDEX[name]], atol=1e-4)
        for side, number in (("left", 0), ("right", 1)):
            for keypoint, place in enumerate(hand_places(side)):
                if place in JOINT_INDEX:
                    seen = people.hands[person, number, keypoint]
                    np.testing.assert_allclose(seen, joints[JOINT_INDEX[place]], atol=1e-4)
        # A landmark rides on its joint but for what other joints hold of it.
        vertex = body.landmarks["head_top"]
        arm = body.v_template[vertex] + body.shapedirs[vertex] @ people.betas[person] - rest[JOINT_INDEX["head"]]
        carried = joints[JOINT_INDEX["head"]] + orientations[JOINT_INDEX["head"]] @ arm
        np.testing.assert_allclose(people.body[person, NAMES.index("head_top")], carried, atol=5e-3)


def test_people_stand_before_their_cameras(people):
    for points in (people.body, people.hands, people.face):
        assert np.isfinite(points).all() and points[..., 2].min() > 0.5 * NEAREST
    assert people.body[..., 2].min() > NEAREST - 1e-6
    identity = people.rotations @ np.swapaxes(people.rotations, -1, -2)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(people.rotations), 1, atol=1e-9)


def test_crops_show_the_person_most_of_the_time_and_cut_parts_off_sometimes(people):
    inside = ((project_to(people.body, people.matrix) > 0) & (project_to(people.body, people.matrix) < IMAGE_SIZE)).all(-1)
    share = inside.mean(1)
    assert (inside.sum(1) >= 3).mean() > 0.97
    assert 0.2 < (share == 1).mean() < 0.8
    assert (share < 0.7).mean() > 0.1


def test_most_people_are_seen_from_the_front(people):
    """A person who faces the camera has the left hip to the right in the picture."""
    left, right = (people.body[:, NAMES.index(f"{side}_hip"), 0] for side in ("left", "right"))
    assert 0.6 < (left > right).mean() < 0.9


def test_a_mirrored_pose_is_what_the_mirror_shows(body, maker):
    rng = np.random.default_rng(2)
    turns = rng.normal(0, 0.5, (4, len(JOINT_NAMES[BODY_JOINTS]), 3))
    both = []
    for each in (turns, mirror_turns(turns)):
        rotations = np.broadcast_to(np.eye(3), (4, len(JOINT_NAMES), 3, 3)).copy()
        rotations[:, BODY_JOINTS] = axis_angle_to_matrix(each)
        both.append(maker.keypoints(np.zeros((4, 16)), rotations)[:, : len(NAMES)])
    np.testing.assert_allclose(both[1], both[0][:, mirror_names(NAMES)] @ MIRROR, atol=2e-3)


def test_labels_lie_along_the_line_of_sight(people):
    """3D labels, put back to their depth and turned back to the camera, project onto the 2D labels."""
    samples = label(people)
    for person in range(8):
        matrix = people.matrix[person]
        turn = crop_to_camera_rotation(np.array(IMAGE_SIZE) / 2, matrix)
        places = samples.body3d[person].astype(float) @ turn.T + people.pelvis[person]
        np.testing.assert_allclose(project(places, matrix), samples.body2d[person], atol=0.02)
        np.testing.assert_allclose(project(people.hands[person], matrix), samples.hand2d[person], atol=0.02)
    assert (samples.body3d[:, 0] == 0).all()
    known = "body_known2d body_known3d hand_known2d hand_known3d face_known face_map_known"
    assert all(getattr(samples, name).all() for name in known.split())
    # Hands that only the black beyond the picture's edge would show.
    unknown = ~samples.hand_map_known
    beyond = ((samples.hand2d < people.frame[:, None, None, :2]) | (samples.hand2d > people.frame[:, None, None, 2:])).any(
        -1
    )
    assert 0 < unknown.mean() < 0.15 and beyond[unknown].all()


def test_crop_axes_are_those_of_the_camera_module(people):
    centres = np.random.default_rng(0).uniform(0, 256, (len(people), 2, 2))
    axes = crop_axes(centres, people.matrix)
    for person in range(5):
        for hand in range(2):
            expected = crop_to_camera_rotation(centres[person, hand], people.matrix[person])
            np.testing.assert_allclose(axes[person, hand], expected, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 0.3))
def test_shaken_hand_squares_stay_inside_the_maps_and_near(seed, amount):
    rng = np.random.default_rng(seed)
    middle, size = rng.uniform(-60, 300, (6, 2, 1, 2)), rng.uniform(1, 60, (6, 2, 1, 1))
    boxes = hand_windows(middle + size * rng.uniform(-1, 1, (6, 2, 21, 2)))
    shaken = jitter_boxes(rng, boxes, amount)
    assert (shaken[..., :2] >= 0).all() and (shaken[..., :2] + shaken[..., 2:] <= np.array(BODY_MAP) + 1e-4).all()
    assert ((shaken[..., 2] > 0) == (boxes[..., 2] > 0)).all()
    assert (np.abs(shaken[..., 2] - boxes[..., 2]) <= (3 * amount + 1e-4) * boxes[..., 2] + 1e-3).all()


def test_face_points_are_spread_over_the_front_of_the_face(body):
    vertices = face_vertices(body)
    assert len(set(vertices.tolist())) == FACE_POINTS
    assert (body.weights[vertices].argmax(1) == JOINT_INDEX["head"]).all()
    rest, eye = body.v_template[vertices], body.v_template[body.landmarks["left_eye"]]
    ear = body.v_template[body.landmarks["left_ear"]]
    assert (rest[:, 2] > ear[2]).all()
    assert (rest[:, 1] < eye[1] - 0.08).any() and (rest[:, 1] > eye[1] + 0.02).any()
    assert 20 < (rest[:, 0] > 0.005).sum() < 48 and 20 < (rest[:, 0] < -0.005).sum() < 48


def test_the_drawn_mesh_is_posed_as_the_body_is(body, people):
    mesh = PersonMesh(body)
    betas, rotations, pelvis = (
        torch.as_tensor(array[:3], dtype=torch.float32) for array in (people.betas, people.rotations, people.pelvis)
    )
    model = BodyModel(body)
    expected, joints = model.posed_points(betas, rotations, torch.zeros(3, 3), mesh.vertices)
    drawn = mesh(betas, rotations, pelvis)[:, : len(mesh.vertices), :3]
    np.testing.assert_allclose(drawn, expected + (pelvis - joints[:, 0])[:, None], atol=1e-5)
    sizes = [len(faces) for faces, _ in mesh.levels]
    assert len(mesh.vertices) < 0.75 * len(body.v_template) and sizes[0] < 0.55 * len(body.f) and sizes[0] < sizes[1]
    assert all(faces.max() < len(mesh.traits) for faces, _ in mesh.levels)
