"""The face in a capture: of the demo, whose truth is known, and of clips with little or nothing of a face in them."""

import numpy as np
import pytest

from fullbody_core.contract.capture import CaptureClip
from fullbody_core.contract.frames import axis_angle_to_matrix, matrix_to_axis_angle
from fullbody_core.contract.skeleton import BLAZEPOSE_33, JOINT_INDEX, PARENTS, SMPL_33
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.face.face_motion import FaceMotion
from fullbody_core.face.solve_face import solve_face
from fullbody_core.pipeline import CaptureSettings, add_face, capture, turn_head, valid_with_face
from fullbody_core.synth.demo_clip import add_demo_face, demo_motion

SIZE, MATRIX = (320, 240), np.array([[400.0, 0, 160], [0, 400, 120], [0, 0, 1]])


@pytest.fixture(scope="module")
def clip(demo_capture):
    return demo_capture[0]


@pytest.fixture(scope="module")
def truth(body, face):
    clip = demo_motion(body)
    add_demo_face(clip, face)
    return clip


def coefficient(clip, *names):
    """Mean [T] of some expressions of a clip."""
    return clip.face_expression[:, [clip.expression_names.index(name) for name in names]].mean(1)


def test_the_demos_face_is_captured_and_stays_in_its_limits(clip, face):
    assert clip.valid[:, 3].mean() > 0.9
    assert clip.expression_names == tuple(face.expression_names)
    assert (clip.face_shape.shape, clip.face_albedo.shape) == ((80,), (80,))
    assert (clip.face_expression >= face.expression_limits[:, 0] - 1e-6).all()
    assert (clip.face_expression <= face.expression_limits[:, 1] + 1e-6).all()
    assert not clip.face_expression[~clip.valid[:, 3]].any(), "nothing is repeated where nothing is seen"
    assert clip.meta["models"]["face"] == face.sha256 and clip.meta["face"]["file"] == "open"


def test_the_demo_says_and_smiles_what_it_should(clip, truth):
    shown = clip.valid[:, 3]
    smiles, blinks = ("mouthSmileLeft", "mouthSmileRight"), ("eyeBlinkLeft", "eyeBlinkRight")
    for names, least in ((("jawOpen",), 0.9), (smiles, 0.85), (blinks, 0.8)):
        found, true = coefficient(clip, *names)[shown], coefficient(truth, *names)[shown]
        correlation = np.corrcoef(found, true)[0, 1]
        print(f"{names[0]} correlates {correlation:.2f} with the truth")
        assert correlation > least


def head_in_camera(clip):
    """The head's orientation [T, 3, 3] in the camera frame."""
    rotations = axis_angle_to_matrix(clip.poses.reshape(clip.frame_count, -1, 3))
    joint, turn = JOINT_INDEX["head"], np.eye(3)
    while joint >= 0:
        turn, joint = rotations[:, joint] @ turn, PARENTS[joint]
    return np.swapaxes(clip.camera_to_world[:, :3, :3], 1, 2) @ turn


def test_the_demos_head_is_turned_as_it_was(clip, truth):
    apart = np.swapaxes(head_in_camera(clip), 1, 2) @ head_in_camera(truth)
    degrees = np.degrees(np.linalg.norm(matrix_to_axis_angle(apart), axis=-1))
    print(f"the head is {degrees.mean():.1f} degrees off")
    assert degrees.mean() < 8


def test_a_capture_with_a_face_is_read_back(clip, tmp_path):
    clip.save(tmp_path / "clip.npz")
    again = CaptureClip.load(tmp_path / "clip.npz")
    assert again.expression_names == clip.expression_names
    np.testing.assert_allclose(again.face_expression, clip.face_expression, atol=1e-6)
    np.testing.assert_allclose(again.face_illumination, clip.face_illumination, rtol=1e-5, atol=1e-6)


def test_without_a_face_model_there_is_no_face_and_the_body_hardly_changes(demo_video, demo_by_frames):
    clip, bare = demo_by_frames[0], capture(demo_video, CaptureSettings(refine=False, face="none"))[0]
    assert bare.face_shape.size == bare.face_expression.size == 0 and bare.expression_names == ()
    assert "face" not in bare.meta["models"]
    trunk = [JOINT_INDEX[name] for name in ("pelvis", "left_hip", "right_knee", "left_wrist")]
    assert np.abs(bare.joints_camera - clip.joints_camera)[:, trunk].max() < 0.02


def test_a_head_turns_as_its_face_does(face):
    keypoints = Keypoints.stack([Keypoints.nobody(BLAZEPOSE_33, 478)] * 3)
    motion = FaceMotion.nobody(face, 3)
    motion.valid[1] = True
    motion.rotation[1] = np.diag([1.0, -1, -1])
    turned = turn_head(keypoints, motion, face, MATRIX)
    np.testing.assert_array_equal(turned.head_rotation[1], np.diag([1.0, -1, -1]))
    assert not turned.head_rotation[[0, 2]].any()
    assert valid_with_face(np.ones((3, 4), bool), motion).tolist() == [[True] * 3 + [known] for known in motion.valid]


def pictures(count):
    return lambda: iter(np.full((count, SIZE[1], SIZE[0], 3), 128, np.uint8))


@pytest.mark.parametrize("solver", ["auto", "landmarks", "facenet", "facenet-tight"])
def test_no_face_is_no_face(face, solver):
    seen = Keypoints.stack([Keypoints.nobody(BLAZEPOSE_33, 478)] * 4)
    motion = solve_face(seen, pictures(4), SIZE, np.arange(4) / 30, MATRIX, face, solver)
    assert not motion.valid.any() and not motion.expression.any() and not motion.shape.any()
    assert motion.albedo.shape == (80,) and motion.illumination.shape == (4, 3, 9)


def test_a_face_without_a_mesh_is_facenets(face):
    seen = Keypoints.stack([Keypoints.nobody(SMPL_33)] * 5)
    seen.face_box[1:4] = [100, 60, 220, 180]
    motion = solve_face(seen, pictures(5), SIZE, np.arange(5) / 30, MATRIX, face)
    assert motion.valid.tolist() == [False, True, True, True, False]
    assert np.isfinite(motion.rotation).all() and (motion.translation[1:4, 2] > 0.1).all()
    assert not motion.expression[[0, 4]].any()
    assert (motion.expression <= face.expression_limits[:, 1]).all()


def test_an_unknown_solver_is_refused(face):
    seen = Keypoints.stack([Keypoints.nobody(BLAZEPOSE_33, 478)])
    with pytest.raises(ValueError, match="no face solver 'magic'"):
        solve_face(seen, pictures(1), SIZE, np.zeros(1), MATRIX, face, "magic")


def test_what_is_not_valid_is_not_in_the_file(clip, face):
    copy = CaptureClip(**{**vars(clip), "meta": {"models": {}}, "valid": clip.valid & ([True] * 3 + [False])})
    motion = FaceMotion.nobody(face, clip.frame_count)
    motion.expression += 0.5
    motion.albedo, motion.illumination = np.zeros(80), np.ones((clip.frame_count, 3, 9))
    add_face(copy, motion, face, "open")
    assert not copy.face_expression.any() and not copy.face_illumination.any()
