"""FaceNet and its predictor: properties of the answers, and strictness about weights and boxes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from synthetic_face import small_face

from fullbody_core.camera import camera_matrix, crop_to_camera_rotation, project
from fullbody_core.contract.npz_file import FileError
from fullbody_core.contract.skeleton import BLAZEPOSE_33
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.evaluate.facenet import bench_facenet, evaluate_facenet, format_timing
from fullbody_core.face.facenet import FaceNetPredictor, coarse_face_box, face_box, square_boxes, turn_light
from fullbody_core.face.illumination import shading
from fullbody_core.networks.facenet import BOX_MARGIN, INPUT_SIZE, FaceNet, FacePoints, face_reference, same_face
from fullbody_core.synth.face import FaceSampler
from fullbody_core.synth.face_parameters import draw_lights, draw_rotations
from fullbody_core.train.facenet_metrics import mean_answer, pose_errors, true_pose
from fullbody_core.weights import WeightsError, WeightsUnsuited


@pytest.fixture(scope="module")
def face():
    return small_face()


def make_network(face, seed=0, liveliness=0.3):
    """A FaceNet that answers differently to different pictures."""
    torch.manual_seed(seed)
    network = FaceNet(face.shape_size, face.expression_limits, face.albedo_size).eval()
    torch.nn.init.normal_(network.leave.weight, std=liveliness)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def predictor(face):
    return FaceNetPredictor(make_network(face), face)


def pictures(count, seed=0):
    return torch.rand(count, 3, INPUT_SIZE, INPUT_SIZE, generator=torch.Generator().manual_seed(seed))


# The network.


def test_a_fresh_network_answers_with_the_mean_face_from_the_front(face):
    pose = FaceNet(face.shape_size, face.expression_limits, face.albedo_size).eval()(pictures(2))
    assert pose.shape.abs().max() < 0.3 and pose.albedo.abs().max() < 0.3 and pose.expression.abs().max() < 0.1
    np.testing.assert_allclose(pose.rotation.detach().numpy(), np.tile(np.diag([1.0, -1, -1]), (2, 1, 1)), atol=0.2)
    assert (pose.illumination[..., 0] > 2).all() and (pose.illumination[..., 0] < 6).all()


@pytest.mark.parametrize("kind", ["noise", "black", "white", "huge"])
def test_answers_are_finite_and_within_bounds(face, kind):
    picture = {"noise": pictures(3), "black": 0 * pictures(3), "white": 0 * pictures(3) + 1, "huge": 1e3 * pictures(3)}[kind]
    pose = make_network(face, liveliness=3.0)(picture)
    assert all(torch.isfinite(value).all() for value in pose)
    low, high = torch.as_tensor(face.expression_limits).T
    assert (pose.expression >= low).all() and (pose.expression <= high).all()
    turned = pose.rotation @ pose.rotation.transpose(1, 2)
    np.testing.assert_allclose(turned.numpy(), np.tile(np.eye(3), (3, 1, 1)), atol=1e-4)
    assert (pose.illumination[..., 0] > 0).all() and (pose.place[:, 3] >= 0).all()


def test_a_batch_is_answered_like_single_pictures(face):
    network, batch = make_network(face), pictures(4)
    together = network(batch)
    for index in range(4):
        for one, all_ in zip(network(batch[index : index + 1]), together):
            np.testing.assert_allclose(one[0].numpy(), all_[index].numpy(), atol=2e-4, rtol=1e-4)


def test_an_expression_at_its_limit_still_has_a_gradient(face):
    network = make_network(face)
    raw = torch.full((1, face.expression_size), 4.0, requires_grad=True)
    bounded = network.bounded(raw)
    assert (bounded == 1).all()
    bounded.sum().backward()
    assert (raw.grad == 1).all()


def test_points_in_the_crop_are_in_perspective(face):
    points, rng = FacePoints(face), np.random.default_rng(0)
    distance, half_view = 0.4, 0.3
    rotation = draw_rotations(rng, 1)
    places = points.mean[None].numpy()
    seen = (places[0] - points.middle.numpy()) @ rotation[0].T + [0.02, -0.01, distance]
    expected = seen[:, :2] / seen[:, 2:] / half_view
    size = 1 / (distance * half_view)
    place = [[0.02 * size, -0.01 * size, np.log(size), 1 / distance]]
    shown = points.in_crop(*(torch.tensor(np.asarray(value), dtype=torch.float32) for value in (places, rotation, place)))
    np.testing.assert_allclose(shown[0].numpy(), expected, atol=1e-5)


def test_the_weights_of_the_paper_s_sizes_are_small_enough_to_ship():
    network = FaceNet(80, np.tile([0.0, 1.0], (52, 1)), 80)
    assert 2 * sum(value.numel() for value in network.state_dict().values()) < 16e6


# Weights.


def write(path, network, face):
    tensors, metadata = network.to_tensors(face)
    save_file(tensors, path, metadata)
    return tensors, metadata


def test_weights_come_back_as_they_were_up_to_half_precision(face, tmp_path):
    network = make_network(face)
    write(tmp_path / "facenet.safetensors", network, face)
    loaded = FaceNetPredictor.load(face, tmp_path / "facenet.safetensors").network
    before, after = network(pictures(2)), loaded(pictures(2))
    for one, other in zip(before, after):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=0.03)


def test_weights_with_anything_missing_odd_or_broken_are_refused(face, tmp_path):
    path = tmp_path / "facenet.safetensors"
    tensors, metadata = make_network(face).to_tensors(face)
    first = next(iter(tensors))
    broken = {
        "missing": ({name: value for name, value in tensors.items() if name != first}, metadata),
        "another shape": (tensors | {"leave.bias": tensors["leave.bias"][1:].clone()}, metadata),
        "unknown": (tensors | {"more": torch.zeros(1)}, metadata),
        "not finite": (tensors | {"leave.bias": tensors["leave.bias"] * float("nan")}, metadata),
        "another format": (tensors, metadata | {"format": "fullbody-iknet"}),
        "no sizes": (tensors, {name: text for name, text in metadata.items() if name != "shape"}),
        "odd sizes": (tensors, metadata | {"albedo": "-3"}),
    }
    for what, (values, text) in broken.items():
        save_file(values, path, text)
        with pytest.raises(FileError):
            FaceNetPredictor.load(face, path)
            pytest.fail(what)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError):
        FaceNetPredictor.load(face, path)


def test_weights_for_another_face_are_unsuited(face, tmp_path):
    path = tmp_path / "facenet.safetensors"
    write(path, make_network(face), face)
    turned = replace(face, shape_basis=face.shape_basis * np.where(np.arange(face.shape_size) == 0, -1, 1)[:, None, None])
    for other in (small_face(seed=1), small_face(shapes=5), turned):
        with pytest.raises(WeightsUnsuited, match="another face model, small face"):
            FaceNetPredictor.load(other, path)


def test_a_face_is_known_again_after_rounding(face):
    rounded = replace(face, shape_basis=face.shape_basis.astype(np.float16).astype(np.float32))
    assert same_face(face_reference(face), face_reference(rounded))
    assert not same_face(face_reference(face), face_reference(replace(face, albedo_basis=face.albedo_basis[::-1].copy())))


# The predictor.


def frame(seed=0, size=(200, 260)):
    coarse = np.random.default_rng(seed).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, size[0] // 13 + 1, 0), size[1] // 17 + 1, 1)[: size[0], : size[1]]


def test_many_faces_are_estimated_like_single_ones(predictor):
    frames, boxes = [frame(seed) for seed in range(5)], np.array([[20.0 + k, 30, 120 + 3 * k, 140] for k in range(5)])
    together = predictor.predict(frames, boxes)
    assert len(together) == 5 and together.illumination.shape == (5, 3, 9) and together.mesh.shape == (5, 478, 2)
    for index in range(5):
        alone = predictor.predict(frames[index : index + 1], boxes[index : index + 1])
        for name, value in vars(alone).items():
            if name == "centre":
                continue
            np.testing.assert_allclose(value[0], vars(together)[name][index], atol=2e-3, rtol=2e-4, err_msg=name)
    assert np.abs(together.shape[0] - together.shape[1]).max() > 1e-3


def test_a_face_that_moves_in_the_picture_moves_its_mesh_and_nothing_else(predictor):
    picture = frame()
    moved = np.zeros((300, 400, 3), np.uint8)
    moved[60:260, 90:350] = picture
    box = np.array([[20.0, 30, 148, 158]])
    one, other = predictor.predict([picture], box), predictor.predict([moved], box + [90, 60, 90, 60])
    np.testing.assert_allclose(other.shape, one.shape, atol=1e-4)
    np.testing.assert_allclose(other.mesh, one.mesh + [90, 60], atol=1e-2)


def test_a_camera_turns_faces_at_the_edge_of_the_picture(predictor):
    picture, matrix = frame(), camera_matrix((260, 200), 80)
    box = np.array([[150.0, 40, 250, 140]])
    plain, seen = predictor.predict([picture], box), predictor.predict([picture], box, matrix)
    turn = crop_to_camera_rotation(np.array([200.0, 90]), matrix)
    np.testing.assert_allclose(seen.rotation[0], turn @ plain.rotation[0], atol=1e-9)
    normals = -plain.rotation[0, :, 2] * np.ones((1, 1, 3))
    np.testing.assert_allclose(shading(seen.illumination, normals @ turn.T), shading(plain.illumination, normals), atol=1e-9)


def test_a_face_in_the_middle_is_where_its_own_lens_shows_it(predictor):
    estimate = predictor.predict([frame()], [[80.0, 50, 180, 150]])
    matrix = np.array([[estimate.focal[0], 0, 130], [0, estimate.focal[0], 100], [0, 0, 1]])
    seen = estimate.seen_by(matrix)
    np.testing.assert_allclose(seen.translation, estimate.translation, atol=1e-9)
    places = seen.mesh3d[0] @ seen.rotation[0].T + seen.translation[0]
    np.testing.assert_allclose(project(places, matrix), seen.mesh[0], atol=1e-3)


def test_a_longer_lens_sees_faces_from_farther_away(predictor):
    estimate = predictor.predict([frame()] * 3, [[20.0, 30, 120, 130], [40, 30, 150, 140], [30, 20, 130, 120]])
    near, far = (estimate.seen_by(camera_matrix((260, 200), fov)).translation[:, 2] for fov in (80, 20))
    assert (far > 3 * near).all() and (near > 0).all()
    lens = estimate.lens((260, 200))
    assert 130 <= lens[0, 0] <= 8 * 260 and (lens[:2, 2] == [130, 100]).all()
    assert predictor.predict([], np.zeros((0, 4))).lens((260, 200))[0, 0] == 260


def test_turned_light_shines_on_turned_normals():
    rng = np.random.default_rng(0)
    light, rotations = draw_lights(rng, 6), draw_rotations(rng, 6)
    normals = rng.normal(size=(6, 40, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    turned = turn_light(light, rotations)
    np.testing.assert_allclose(shading(turned, normals @ np.swapaxes(rotations, 1, 2)), shading(light, normals), atol=1e-9)


def test_no_faces_give_no_estimates(predictor):
    nothing = predictor.predict([], np.zeros((0, 4)), camera_matrix((260, 200)))
    assert len(nothing) == 0 and nothing.mesh.shape == (0, 478, 2)


@pytest.mark.parametrize("boxes", [[[0, 0, np.nan, 5]], [[10, 10, 10, 10]], [[0, 0, 5, 5], [0, 0, 5, 5]]])
def test_impossible_boxes_are_refused(predictor, boxes):
    with pytest.raises(ValueError, match="box"):
        predictor.predict([frame()], boxes)


def test_boxes_reach_around_the_mesh_and_may_leave_the_picture(predictor):
    mesh = np.random.default_rng(0).uniform([40, 60, 0], [140, 190, 5], (3, 478, 3))
    boxes = face_box(mesh)
    sides = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1])
    spread = mesh[:, :468, :2].max(1) - mesh[:, :468, :2].min(1)
    np.testing.assert_allclose(sides[:, 0], BOX_MARGIN * spread.max(1))
    np.testing.assert_allclose(square_boxes(boxes), boxes)
    assert np.isfinite(predictor.predict([frame()], [[-80, -90, 60, 50]]).mesh).all()


def test_coarse_boxes_follow_the_head_and_nobody_has_none():
    keypoints = Keypoints.nobody(BLAZEPOSE_33)
    assert np.isnan(coarse_face_box(keypoints)).all()
    head = {
        "nose": (100, 110),
        "left_ear": (130, 100),
        "right_ear": (70, 100),
        "left_mouth": (110, 125),
        "right_mouth": (90, 125),
    }
    head |= {f"{side}_eye_{part}": (100 + sign * out, 95) for side, sign in (("left", 1), ("right", -1))
             for part, out in (("inner", 8), ("centre", 15), ("outer", 22))}  # fmt: skip
    for name, place in head.items():
        keypoints.body2d[BLAZEPOSE_33.index(name)] = place
    keypoints.body_confidence[:] = 1
    box = coarse_face_box(keypoints)
    assert box[0] < 70 and box[2] > 130 and box[1] < 80 and box[3] > 130
    keypoints.body2d = 2 * keypoints.body2d + 7
    np.testing.assert_allclose(coarse_face_box(keypoints), 2 * box + 7)


# Measures.


def test_the_truth_has_no_errors_and_the_mean_answer_has(face):
    samples = FaceSampler(face).draw(20, 0)
    truth = true_pose(samples, face)
    perfect, mean = pose_errors(truth, truth, face), pose_errors(mean_answer(truth), truth, face)
    assert max(perfect.values()) < 0.06  # an arc cosine near one is no better in single precision
    assert all(mean[name] > 10 * perfect[name] and mean[name] > 0.01 for name in mean)


def test_the_commands_tables_have_all_rows(face, tmp_path):
    write(tmp_path / "facenet.safetensors", make_network(face), face)
    table = evaluate_facenet(face, tmp_path / "facenet.safetensors", 8)
    assert table.startswith("8 held-out synthetic faces") and "landmarks" in table and "mean answer" in table
    timing = format_timing(bench_facenet(face, batch=4, seconds=0.1))
    assert "batch 1:" in timing and "batch 4:" in timing and "million parameters" in timing
