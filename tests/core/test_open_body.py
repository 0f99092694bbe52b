"""The open body: is it a person in SMPL's T-pose, symmetric, shaped by its betas, and still Anny."""

import numpy as np
import pytest
import torch

from fullbody_core.body import open_body as baking
from fullbody_core.body.lbs import BodyModel
from fullbody_core.body.smplh_file import BodyModelError, BodyModelFile
from fullbody_core.contract.skeleton import FINGERS, JOINT_INDEX, JOINT_NAMES


@pytest.fixture(scope="session")
def file():
    return BodyModelFile.load(baking.open_body_path())


@pytest.fixture(scope="session")
def body(file):
    return BodyModel(file, torch.float64)


def joint(joints, name):
    return np.asarray(joints)[..., JOINT_INDEX[name], :]


def direction(joints, start, end):
    vector = joint(joints, end) - joint(joints, start)
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def degrees_between(vector, axis):
    return np.degrees(np.arccos(np.clip(vector @ np.asarray(axis, float), -1, 1)))


def people(body, count=20, seed=0):
    """Joints [N, 52, 3] of random shapes, the mean first."""
    betas = np.random.default_rng(seed).normal(size=(count, 16))
    betas[0] = 0
    return body.rest_joints(torch.tensor(betas)).numpy()


# The rest pose.


@pytest.mark.parametrize("side, out", [("left", [1, 0, 0]), ("right", [-1, 0, 0])])
def test_arms_are_level_lines_out_to_each_side(body, side, out):
    joints = people(body)
    for start, end in (("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "middle1")):
        angles = degrees_between(direction(joints, f"{side}_{start}", f"{side}_{end}"), out)
        assert angles[0] < 1 and angles.max() < 5
    for finger in FINGERS[:4]:
        for start, end in ((1, 2), (2, 3)):
            # The fingers fan a little within the level plane.
            bone = direction(joints, f"{side}_{finger}{start}", f"{side}_{finger}{end}")
            assert degrees_between(bone, out).max() < 15 and abs(np.degrees(np.arcsin(bone[..., 1]))).max() < 5


@pytest.mark.parametrize("side, sign", [("left", 1), ("right", -1)])
def test_palms_face_down(file, body, side, sign):
    joints = people(body)
    # Thumb and index are in front, the little finger behind, the backs of the hands on top.
    for knuckle, name in (("index_mcp", "index1"), ("pinky_mcp", "pinky1")):
        offset = file.v_template[file.landmarks[f"{side}_{knuckle}"]] - joint(file.rest_joints, f"{side}_{name}")
        assert 0.002 < offset[1] < 0.02 and np.linalg.norm(offset[[0, 2]]) < 0.008
    assert (joint(joints, f"{side}_index1")[:, 2] > joint(joints, f"{side}_middle1")[:, 2]).all()
    assert (joint(joints, f"{side}_pinky1")[:, 2] < joint(joints, f"{side}_ring1")[:, 2]).all()
    thumb = direction(joints, f"{side}_thumb1", f"{side}_thumb3")
    assert (np.abs(np.degrees(np.arctan2(thumb[:, 2], sign * thumb[:, 0])) - 45) < 15).all()
    assert (np.degrees(np.arcsin(thumb[:, 1])) > -35).all() and (thumb[:, 1] < 0).all()


def test_bending_each_elbow_brings_the_forearm_forward(body):
    rotations = torch.eye(3, dtype=torch.float64).repeat(1, 52, 1, 1)
    quarter = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]], dtype=torch.float64)  # a quarter turn about y
    rotations[0, JOINT_INDEX["left_elbow"]], rotations[0, JOINT_INDEX["right_elbow"]] = quarter.T, quarter
    joints = body.posed_joints(torch.zeros(1, 16, dtype=torch.float64), rotations, torch.zeros(1, 3, dtype=torch.float64))[0]
    for side in ("left", "right"):
        assert degrees_between(direction(joints, f"{side}_elbow", f"{side}_wrist"), [0, 0, 1]) < 2


@pytest.mark.parametrize("side, down", [("L", 1), ("R", -1)])
def test_the_elbows_hinge_stands_upright_in_the_flesh(side, down):
    """Anny rests with bent elbows: the axis they bend about must become vertical, so that the elbow's tip points back."""
    model = baking.load_anny()
    rest = model.get_rest_model(model.get_phenotype_blendshape_coefficients(age=0.8))
    bones = [model.bone_labels.index(f"{name}.{side}") for name in ("upperarm01", "lowerarm01", "wrist", "upperarm02")]
    shoulder, elbow, wrist = rest["rest_bone_heads"][0].numpy()[bones[:3]]
    hinge = np.cross(elbow - shoulder, wrist - elbow)
    turn = baking.t_pose_turns(model, rest, baking.fingertip_vertices(model))[0, bones[3]]
    assert degrees_between(turn @ hinge / np.linalg.norm(hinge), [0, 0, -down]) < 5


@pytest.mark.parametrize("side", ["left", "right"])
def test_legs_hang_straight_and_feet_point_forward(body, side):
    joints = people(body)
    for start, end in (("hip", "knee"), ("knee", "ankle")):
        assert degrees_between(direction(joints, f"{side}_{start}", f"{side}_{end}"), [0, -1, 0]).max() < 5
    assert direction(joints, f"{side}_ankle", f"{side}_foot")[:, 2].min() > 0.8


def test_the_body_stands_upright_and_faces_forward(file):
    joints, vertices = file.rest_joints, file.v_template
    upwards = ("left_foot", "left_knee", "pelvis", "spine1", "spine2", "spine3", "neck", "head")
    heights = [joint(joints, name)[1] for name in upwards]
    assert heights == sorted(heights)
    height = np.ptp(vertices[:, 1])
    assert 1.5 < height < 1.9 and 0.9 < np.ptp(vertices[:, 0]) / height < 1.15
    # The lowest vertices are the feet's, the nose is in front of the head's joint, the left hand is at +x.
    lowest = vertices[vertices[:, 1] < vertices[:, 1].min() + 0.02]
    assert (np.linalg.norm(lowest[:, None, [0, 2]] - joints[None, [10, 11]][..., [0, 2]], axis=-1).min(1) < 0.25).all()
    nose = vertices[file.landmarks["nose"]]
    assert nose[2] > joint(joints, "head")[2] + 0.07 and abs(nose[0]) < 0.005
    assert joint(joints, "left_middle1")[0] > 0.5 > -0.5 > joint(joints, "right_middle1")[0]


# Symmetry.


def test_the_body_is_its_own_mirror_image(file):
    model = baking.load_anny()
    mirror = baking.mirror_vertices(model)
    flip = np.array([-1, 1, 1])
    other_side = str.maketrans({"<": "right_", ">": "left_"})
    swap = [JOINT_INDEX[n.replace("left_", "<").replace("right_", ">").translate(other_side)] for n in JOINT_NAMES]
    assert np.abs(file.v_template[mirror] * flip - file.v_template).max() < 1e-6
    assert np.abs(file.rest_joints[swap] * flip - file.rest_joints).max() < 1e-6
    assert np.abs(file.shapedirs[mirror] * flip[:, None] - file.shapedirs).max() < 1e-6
    assert np.abs(file.weights[mirror][:, swap] - file.weights).max() < 1e-6
    assert np.abs(file.J_regressor[swap][:, mirror] - file.J_regressor).max() < 1e-6
    for name, vertex in file.landmarks.items():
        if name.startswith("left_"):
            assert mirror[vertex] == file.landmarks[name.replace("left_", "right_")]
            assert file.v_template[vertex, 0] > 0


def test_landmarks_lie_where_their_names_say(file):
    at = {name: file.v_template[vertex] for name, vertex in file.landmarks.items()}
    x = {name: point[0] for name, point in at.items()}
    assert at["head_top"][1] == file.v_template[:, 1].max()
    assert 0 < x["left_eye_inner"] < x["left_eye"] < x["left_eye_outer"] < x["left_ear"] < 0.12
    assert x["left_eye_inner"] < x["left_mouth"] < x["left_eye_outer"]
    assert at["left_heel"][1] < at["left_mouth"][1] < at["nose"][1] < at["left_eye"][1] < at["head_top"][1]
    assert at["left_heel"][2] < at["left_little_toe"][2] < at["left_big_toe"][2]
    assert x["left_big_toe"] < x["left_little_toe"]
    for finger in FINGERS:
        tip_bone = at[f"left_{finger}_tip"] - joint(file.rest_joints, f"left_{finger}3")
        assert 0.015 < np.linalg.norm(tip_bone) < 0.045 and tip_bone[0] > 0.01


# Shape.


def test_betas_change_height_and_limb_lengths(body):
    first_beta = torch.eye(16, dtype=torch.float64)[:1]
    tall, short = (body.rest_joints(value * first_beta)[0].numpy() for value in (2, -2))

    def limb(joints, start, end):
        return np.linalg.norm(joint(joints, end) - joint(joints, start))

    for start, end in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
        assert limb(tall, f"left_{start}", f"left_{end}") > 1.1 * limb(short, f"left_{start}", f"left_{end}")


def test_random_betas_are_people_and_keep_the_pelvis(body):
    betas = torch.tensor(np.random.default_rng(1).normal(size=(50, 16)))
    heights = np.ptp(body.rest_vertices(betas).numpy()[..., 1], axis=1)
    assert 1.2 < heights.min() and heights.max() < 2.2 and 0.04 < heights.std() < 0.15
    pelvis = body.rest_joints(betas)[:, 0]
    assert (pelvis - pelvis.mean(0)).norm(dim=-1).max() < 0.01


def test_shape_directions_are_ordered_and_independent(file):
    flat = file.shapedirs.reshape(-1, 16).astype(float)
    products = flat.T @ flat
    variances = np.diag(products)
    assert (np.diff(variances) < 0).all()
    assert np.abs(products - np.diag(variances)).max() < 1e-4 * variances[0]


def test_the_bake_reports_small_errors(file):
    assert file.meta["explained_variance"][-1] > 0.99
    assert file.meta["held_out_joint_error_mm"]["mean"] < 3
    assert file.meta["held_out_shape_error_mm"]["mean"] < 2
    assert "CC0" in file.meta["licence"] and "anny" in file.meta["produced_by"]


# Against Anny.


def test_every_bone_folds_into_a_joint_and_every_joint_has_one():
    model = baking.load_anny()
    assert {baking.joint_of_bone(name) for name in model.bone_labels} == set(JOINT_NAMES)
    assert baking.joint_of_bone("finger1-2.L") == "left_thumb2" and baking.joint_of_bone("finger5-3.R") == "right_pinky3"
    np.testing.assert_allclose(baking.joint_of_bone_heads(model.bone_labels).sum(1), 1)


def test_posed_body_stays_near_anny(file):
    distances = baking.compare_with_anny(file, count=10)
    print(f"open body against Anny, mean and p95 in mm: {distances}")
    assert distances["rest"][0] < 1.5 and distances["rest"][1] < 4
    assert distances["posed"][0] < 5 and distances["posed"][1] < 12
    assert distances["posed_joints"][0] < 5


# The cache.


def test_the_bake_is_cached_and_repeatable(tmp_path, monkeypatch, capsys, file):
    calls = []
    small = baking.bake_open_body(sample_count=40, held_out_count=5)
    monkeypatch.setattr(baking, "bake_open_body", lambda: calls.append(1) or small)
    monkeypatch.setenv("FULLBODY_CACHE", str(tmp_path / "cache"))
    path = baking.open_body_path()
    assert path == baking.open_body_path() and calls == [1]
    assert list(path.parent.iterdir()) == [path]
    said = capsys.readouterr()
    assert said.err.count("Baking the open body") == 1 and said.out == ""
    np.testing.assert_array_equal(BodyModelFile.load(path).shapedirs, small.shapedirs)


def test_a_cache_folder_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FULLBODY_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BodyModelError, match="Cannot make the cache folder"):
        baking.open_body_path()


def test_the_same_seed_bakes_the_same_body():
    first, second = (baking.bake_open_body(sample_count=30, held_out_count=2, seed=3) for _ in range(2))
    for name in ("v_template", "shapedirs", "J_regressor", "weights"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
