"""Linear blend skinning and body model files: against smplx, against the plain kinematics, and as properties."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fullbody_core.body.lbs import BodyModel, KinematicTree, to_character_template
from fullbody_core.body.open_body import open_body_path
from fullbody_core.body.smplh_file import BodyModelError, BodyModelFile
from fullbody_core.contract.character import CharacterTemplate
from fullbody_core.contract.frames import axis_angle_to_matrix, forward_kinematics
from fullbody_core.contract.npz_file import read_npz, write_npz
from fullbody_core.contract.skeleton import JOINT_NAMES, PARENTS


def random_rotations(rng, *shape):
    return torch.tensor(axis_angle_to_matrix(rng.normal(size=shape + (3,))))


def small_body(seed=0, vertices=40, pose_blend=True):
    """A body of random numbers with every part of the schema in use."""
    rng = np.random.default_rng(seed)
    weights, regressor = rng.random((vertices, 52)) ** 8, rng.random((52, vertices)) ** 8
    posedirs = rng.normal(size=(vertices, 3, 459)) * 0.01 if pose_blend else np.zeros((vertices, 3, 459))
    return BodyModelFile(
        v_template=rng.normal(size=(vertices, 3)).astype(np.float32),
        f=rng.integers(0, vertices, (30, 3)).astype(np.int32),
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        parents=np.array(PARENTS),
        J_regressor=(regressor / regressor.sum(1, keepdims=True)).astype(np.float32),
        shapedirs=rng.normal(size=(vertices, 3, 16)).astype(np.float32),
        posedirs=posedirs.astype(np.float32),
        landmarks={"head_top": 3},
        meta={"name": "small", "licence": "none"},
    )


def pose_of(rng, batch):
    return (
        torch.tensor(rng.normal(size=(batch, 16))),
        random_rotations(rng, batch, 52),
        torch.tensor(rng.normal(size=(batch, 3))),
    )


@pytest.fixture(scope="session")
def open_body():
    return BodyModelFile.load(open_body_path())


# Against smplx, the reference implementation.


@pytest.mark.parametrize("pose_blend", [False, True])
def test_agrees_with_smplx_on_the_same_file(open_body, tmp_path, monkeypatch, pose_blend):
    smplx = pytest.importorskip("smplx")
    # smplx takes a file of fewer than 300 shape directions for one of 10, whatever num_betas says.
    monkeypatch.setattr(smplx.SMPL, "SHAPE_SPACE_DIM", 16)
    path = tmp_path / "body.npz"
    rng = np.random.default_rng(7)
    if pose_blend:
        posedirs = np.zeros(open_body.posedirs.shape, np.float32)
        posedirs[..., ::60] = rng.normal(size=posedirs[..., ::60].shape) * 0.01
        open_body = dataclasses.replace(open_body, posedirs=posedirs)
    open_body.save(path)
    batch = 3
    axis_angle = rng.normal(size=(batch, 52, 3)) * 0.6
    betas, translation = rng.normal(size=(batch, 16)), rng.normal(size=(batch, 3))
    options = dict(ext="npz", use_pca=False, flat_hand_mean=True, num_betas=16, dtype=torch.float64)
    reference = smplx.SMPLH(model_path=str(path), batch_size=batch, **options)
    theirs = reference(
        betas=torch.tensor(betas),
        global_orient=torch.tensor(axis_angle[:, 0]),
        body_pose=torch.tensor(axis_angle[:, 1:22].reshape(batch, -1)),
        left_hand_pose=torch.tensor(axis_angle[:, 22:37].reshape(batch, -1)),
        right_hand_pose=torch.tensor(axis_angle[:, 37:].reshape(batch, -1)),
        transl=torch.tensor(translation),
    )
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-5)):
        body = BodyModel.load(path, dtype)
        inputs = [torch.tensor(a).to(dtype) for a in (betas, axis_angle_to_matrix(axis_angle), translation)]
        vertices, joints = body(*inputs)
        assert vertices.dtype == dtype
        assert (vertices - theirs.vertices).abs().max() < tolerance
        assert (joints - theirs.joints[:, :52]).abs().max() < tolerance


# Kinematics: the fast form against the plain one.


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_level_wise_kinematics_equal_the_plain_loop_on_any_tree(seed, size):
    rng = np.random.default_rng(seed)
    parents = [-1] + [int(rng.integers(0, joint)) for joint in range(1, size)]
    rest, rotations = rng.normal(size=(2, size, 3)), random_rotations(rng, 2, size)
    joints, orientations = KinematicTree(parents)(torch.tensor(rest), rotations)
    plain_joints, plain_orientations = forward_kinematics(rest, rotations.numpy(), parents)
    np.testing.assert_allclose(joints, plain_joints, atol=1e-12)
    np.testing.assert_allclose(orientations, plain_orientations, atol=1e-12)


def test_one_rest_skeleton_serves_a_batch_of_poses():
    rng = np.random.default_rng(0)
    rest, rotations = torch.tensor(rng.normal(size=(52, 3))), random_rotations(rng, 4, 52)
    tree = KinematicTree(PARENTS)
    shared, repeated = tree(rest, rotations), tree(rest.expand(4, 52, 3), rotations)
    assert torch.equal(shared[0], repeated[0]) and torch.equal(shared[1], repeated[1])


def test_a_tree_with_a_child_before_its_parent_is_refused():
    with pytest.raises(ValueError, match="parents first"):
        KinematicTree([-1, 2, 0])


# Properties of the skinned body.


def test_identity_pose_is_the_rest_body():
    body = BodyModel(small_body(), torch.float64)
    betas = torch.tensor(np.random.default_rng(1).normal(size=(2, 16)))
    identity = torch.eye(3, dtype=torch.float64).expand(2, 52, 3, 3)
    vertices, joints = body(betas, identity, torch.zeros(2, 3, dtype=torch.float64))
    torch.testing.assert_close(vertices, body.rest_vertices(betas), atol=1e-6, rtol=0)
    torch.testing.assert_close(joints, body.rest_joints(betas))


def test_joints_follow_from_the_shaped_surface():
    file = small_body()
    body = BodyModel(file, torch.float64)
    betas = torch.tensor(np.random.default_rng(2).normal(size=(3, 16)))
    regressed = np.asarray(file.J_regressor, float) @ body.rest_vertices(betas).numpy()
    np.testing.assert_allclose(body.rest_joints(betas), regressed, atol=1e-10)


def test_a_global_turn_is_rigid_about_the_rest_pelvis():
    """SMPL's `trans`: the pelvis stays at its rest place plus the translation, however the body is turned."""
    body = BodyModel(small_body(), torch.float64)
    rng = np.random.default_rng(3)
    betas, rotations, translation = pose_of(rng, 2)
    turn = random_rotations(rng, 2)
    turned = rotations.clone()
    turned[:, 0] = turn @ rotations[:, 0]
    (before, _), (after, joints) = body(betas, rotations, translation), body(betas, turned, translation)
    pelvis = body.rest_joints(betas)[:, :1]
    torch.testing.assert_close(joints[:, :1], pelvis + translation[:, None])
    centre = pelvis + translation[:, None]
    torch.testing.assert_close(after - centre, (before - centre) @ turn.mT)


def test_batched_equals_single():
    body = BodyModel(small_body(), torch.float64)
    betas, rotations, translation = pose_of(np.random.default_rng(4), 5)
    vertices, joints = body(betas, rotations, translation)
    for row in range(5):
        one = slice(row, row + 1)
        single = body(betas[one], rotations[one], translation[one])
        torch.testing.assert_close(vertices[one], single[0])
        torch.testing.assert_close(joints[one], single[1])


def test_short_paths_equal_the_full_one():
    body = BodyModel(small_body(), torch.float64)
    inputs = pose_of(np.random.default_rng(5), 3)
    vertices, joints = body(*inputs)
    torch.testing.assert_close(body.posed_joints(*inputs), joints)
    points, same_joints = body.posed_points(*inputs, [7, 0, 33])
    torch.testing.assert_close(points, vertices[:, [7, 0, 33]])
    torch.testing.assert_close(same_joints, joints)


@pytest.mark.parametrize("pose_blend", [False, True])
def test_gradients_are_finite_and_right_at_rest(pose_blend):
    body = BodyModel(small_body(vertices=6, pose_blend=pose_blend), torch.float64)
    betas = torch.zeros(1, 16, dtype=torch.float64, requires_grad=True)
    rotations = torch.eye(3, dtype=torch.float64).repeat(1, 52, 1, 1).requires_grad_()
    translation = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    sum(part.square().sum() for part in body(betas, rotations, translation)).backward()
    for tensor in (betas, rotations, translation):
        assert torch.isfinite(tensor.grad).all() and tensor.grad.abs().max() > 0
    fixed = rotations.detach()
    assert torch.autograd.gradcheck(lambda b, t: body(b, fixed, t), (betas, translation))


# Files: round trips and strict loading.


def test_file_round_trip(tmp_path):
    file = small_body()
    file.save(tmp_path / "body.npz")
    again = BodyModelFile.load(tmp_path / "body.npz")
    for name in ("v_template", "f", "weights", "parents", "J_regressor", "shapedirs", "posedirs"):
        np.testing.assert_array_equal(getattr(again, name), getattr(file, name))
    assert again.joint_names == JOINT_NAMES and again.landmarks == {"head_top": 3}
    assert again.meta["name"] == "small" and len(again.sha256) == 64


def saved_arrays(tmp_path):
    small_body().save(tmp_path / "body.npz")
    return read_npz(tmp_path / "body.npz", "body model")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: a.pop("weights"), "lacks weights"),
        (lambda a: a.update(extra=np.zeros(3)), "unknown extra"),
        (lambda a: a.update(weights=a["weights"][:, :51]), "kintree_table should have shape"),
        (lambda a: a.update(shapedirs=a["shapedirs"][:-1]), "shapedirs should have shape"),
        (lambda a: a.update(posedirs=a["posedirs"][..., :207]), "459 columns"),
        (lambda a: a.update(weights=a["weights"] * 2), "sum to one"),
        (lambda a: a.update(f=a["f"] + 1000), "outside its 40 vertices"),
        (lambda a: a.update(f=a["f"].astype(float)), "kind 'i'"),
        (lambda a: a.update(v_template=a["v_template"] * np.nan), "not finite"),
        (lambda a: a.update(joint_names=a["joint_names"][::-1].copy()), "SMPL-H's 52 joints"),
        (lambda a: a.update(kintree_table=a["kintree_table"][:, ::-1].copy()), "parents first"),
        (lambda a: a.update(meta=np.array("{}")), "not a body model of this project"),
        (lambda a: a.update(meta=np.array("{")), "meta is not JSON"),
    ],
)
def test_a_misfit_file_is_refused_in_one_sentence(tmp_path, change, message):
    arrays = saved_arrays(tmp_path)
    change(arrays)
    write_npz(tmp_path / "bad.npz", arrays)
    with pytest.raises(BodyModelError, match=message) as caught:
        BodyModelFile.load(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_a_truncated_a_missing_and_a_foreign_file_are_refused(tmp_path):
    small_body().save(tmp_path / "body.npz")
    data = (tmp_path / "body.npz").read_bytes()
    for name, content in (("cut.npz", data[: len(data) // 2]), ("text.npz", b"hello"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BodyModelError):
            BodyModelFile.load(tmp_path / name)
    with pytest.raises(BodyModelError, match="There is no body model"):
        BodyModelFile.load(tmp_path / "nowhere.npz")


def test_pickled_arrays_are_never_opened(tmp_path):
    np.savez(tmp_path / "pickled.npz", v_template=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BodyModelError):
        BodyModelFile.load(tmp_path / "pickled.npz")


# The character template.


def test_template_round_trip_and_joints(open_body, tmp_path):
    template = to_character_template(open_body)
    template.save(tmp_path / "character.npz")
    again = CharacterTemplate.load(tmp_path / "character.npz")
    for name in ("vertices", "faces", "uv", "parents", "joints", "weights", "joint_shapedirs"):
        np.testing.assert_array_equal(getattr(again, name), getattr(template, name))
    np.testing.assert_allclose(again.shapedirs, template.shapedirs, atol=2e-6)
    assert again.faces.shape[1] == 4 and again.meta["body_sha256"] == open_body.sha256
    betas = np.random.default_rng(6).normal(size=16)
    body = BodyModel(open_body, torch.float64)
    np.testing.assert_allclose(again.rest_joints(betas), body.rest_joints(torch.tensor(betas)[None])[0], atol=1e-6)


def test_template_of_a_body_without_texture_or_quads_is_made_of_triangles():
    template = to_character_template(small_body())
    assert template.faces.shape == (30, 3) and template.uv.shape == (30, 3, 2)
