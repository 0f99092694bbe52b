"""What FaceNet is trained on, its loss, and the training loop: properties, and short real runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_face import small_face

from fullbody_core.cli import main
from fullbody_core.contract.skeleton import BLAZEPOSE_33
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.face.facenet import FaceNetPredictor
from fullbody_core.networks.facenet import INPUT_SIZE, FaceNetPose
from fullbody_core.synth.face import FaceSampler, FaceSamples
from fullbody_core.synth.face_shaders import FACE_FIELDS
from fullbody_core.train.face_samples import (
    GROUP,
    KEPT_SIZE,
    ClipFaces,
    ClipPart,
    FacePool,
    as_pictures,
    draw_warps,
    keep_face,
    mirror_points,
    unwarp,
    warp,
)
from fullbody_core.train.facenet import PRESETS, FaceBatches, FaceNetTrainer, FaceNetTraining, make_trainer, write_weights
from fullbody_core.train.facenet_loss import REAL_WEIGHTS, WEIGHTS, FaceNetLoss, FaceTruth, total
from fullbody_core.train.facenet_metrics import true_pose
from fullbody_core.train.training_run import TrainingError


@pytest.fixture(scope="module")
def face():
    return small_face()


@pytest.fixture(scope="module")
def sampler(face):
    return FaceSampler(face)


@pytest.fixture(scope="module")
def samples(sampler):
    return sampler.draw(12, 0)


def clip_faces(count=7, seed=0, people=2):
    """`ClipFaces` whose pictures are black but for a bright spot at the first 40 mesh points, taken in turns."""
    rng = np.random.default_rng(seed)
    points = KEPT_SIZE / 2 + rng.uniform(-70, 70, (count, 478, 2))
    pictures = np.zeros((count, KEPT_SIZE, KEPT_SIZE, 3), np.uint8)
    rows, columns = np.mgrid[:KEPT_SIZE, :KEPT_SIZE] + 0.5
    for picture, places in zip(pictures, points):
        # The spot is the first point.
        picture[:] = (255 * np.exp(-((columns - places[0, 0]) ** 2 + (rows - places[0, 1]) ** 2) / 50))[..., None]
    mirror = np.arange(478)
    mirror[[1, 2]] = 2, 1
    return ClipFaces(pictures, points, np.arange(count) % people, mirror)


# Samples.


def test_a_pool_gives_the_same_batch_at_a_step_whatever_came_before(sampler):
    one, other = (FacePool(sampler, 4, reuse=2, blocks=3, seed=5) for _ in range(2))
    for step in range(9):
        before = one.draw(step)
    after = other.draw(8)
    assert (before.pictures == after.pictures).all() and (before.truth.shape == after.truth.shape).all()
    assert len(before) == 4 and (before.pictures != one.draw(9).pictures).any()


def test_a_pool_shows_faces_as_often_as_it_should(sampler):
    pool = FacePool(sampler, 4, reuse=2, blocks=4, seed=1)
    shown = np.concatenate([pool.draw(step).truth.albedo[:, 0] for step in range(30)])
    assert 0.35 < len(np.unique(shown)) / len(shown) < 0.65
    fresh = FacePool(sampler, 4, reuse=1, seed=1)
    assert len(np.unique(np.concatenate([fresh.draw(step).truth.albedo[:, 0] for step in range(3)]))) == 12


def test_warps_are_undone_and_do_not_fold():
    rng = np.random.default_rng(0)
    warps = draw_warps(rng, 200)
    points = rng.uniform(-1.3, 1.3, (200, 50, 2))
    np.testing.assert_allclose(unwarp(warp(points, warps), warps), points, atol=0.01)
    assert np.abs(warp(points, warps) - points).max() < 0.5
    line = np.linspace(-1.3, 1.3, 100)
    for axis in (0, 1):
        grid = np.zeros((200, 100, 2))
        grid[..., axis] = line
        assert (np.diff(warp(grid, warps)[..., axis], axis=1) > 0).all()


def test_real_faces_keep_their_landmarks_through_warps_turns_and_mirrors():
    faces, rng = clip_faces(), np.random.default_rng(3)
    pictures, points, person = faces.draw(60, rng)
    assert pictures.shape == (60, INPUT_SIZE, INPUT_SIZE, 3) and points.shape == (60, 478, 2)
    assert (person == np.arange(60) // GROUP).all()
    spots, places = [], (points[:, 0] + 1) / 2 * INPUT_SIZE
    for picture in pictures:
        weight = np.clip(picture.astype(float).mean(-1) - 0.7 * picture.max(), 0, None)
        rows, columns = np.mgrid[:INPUT_SIZE, :INPUT_SIZE] + 0.5
        spots.append([(weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()])
    inside = ((places > 6) & (places < INPUT_SIZE - 6)).all(-1)
    off = np.linalg.norm(np.array(spots) - places, axis=-1)[inside]
    assert inside.sum() > 40 and np.quantile(off, 0.9) < 1.5


def test_mirrored_faces_swap_their_sides():
    faces = clip_faces()
    faces.points[:, 1], faces.points[:, 2] = [KEPT_SIZE / 2 - 60, KEPT_SIZE / 2], [KEPT_SIZE / 2 + 60, KEPT_SIZE / 2]
    _, points, _ = faces.draw(60, np.random.default_rng(0))
    assert (points[:, 1, 0] < points[:, 2, 0]).all()


def test_mirror_points_of_a_symmetric_face_swap_back(face):
    points = face.mesh_points.mean.copy()
    half = np.arange(468) % 2 == 0
    # Every odd point of the skin becomes the mirror image of the even one before it.
    points[:468][~half] = points[:468][half] * [-1, 1, 1]
    points[473:478] = points[468:473] * [-1, 1, 1]
    shifted = replace(face, mesh_vertices=np.tile(np.arange(478)[:, None], 3).astype(np.int32))
    shifted = replace(shifted, mean=points, mesh_weights=np.tile([1.0, 0, 0], (478, 1)))
    for name in ("shape_basis", "expression_basis", "albedo_basis"):
        setattr(shifted, name, np.zeros((1, 478, 3), np.float32))
    table = mirror_points(shifted)
    np.testing.assert_allclose(points[table], points * [-1, 1, 1], atol=1e-3)
    assert (table[table] == np.arange(478)).all() and (table[:468] < 468).all()


def test_faces_are_kept_with_room_around_them_and_tiny_ones_are_not():
    keypoints = Keypoints.nobody(BLAZEPOSE_33, 478)
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert keep_face(image, keypoints) is None
    keypoints.face_confidence = np.array(1.0)
    keypoints.face3d[:, :2] = np.random.default_rng(0).uniform([100, 80], [180, 170], (478, 2))
    picture, points = keep_face(image, keypoints)
    assert picture.shape == (KEPT_SIZE, KEPT_SIZE, 3)
    spread = np.ptp(points[:468], axis=0).max()
    np.testing.assert_allclose(spread, KEPT_SIZE / 2, rtol=0.01)
    keypoints.face3d[:, :2] = 100 + (keypoints.face3d[:, :2] - 100) / 10
    assert keep_face(image, keypoints) is None


@pytest.mark.parametrize(
    "text, path, start, end",
    [("a/b.mp4", "a/b.mp4", 0, None), ("a/b.mp4:3-50", "a/b.mp4", 3, 50), ("C:/clips/b.mp4", "C:/clips/b.mp4", 0, None)],
)
def test_clips_are_named_with_their_frames(text, path, start, end):
    part = ClipPart.parse(text)
    assert (str(part.path), part.start, part.end) == (path, start, end)


def test_clips_without_frames_are_refused():
    with pytest.raises(TrainingError, match="are none"):
        ClipPart.parse("b.mp4:50-50")


# The loss.


def test_the_truth_costs_nothing_but_what_pictures_hide(face, samples):
    loss, pictures = FaceNetLoss(face), as_pictures(samples.pictures)
    losses = loss.synthetic(true_pose(samples, face), FaceTruth.of(samples, face), pictures)
    assert set(losses) == set(WEIGHTS)
    for name, value in losses.items():
        assert name == "pixels" or value < 1e-4, name
    wrong = true_pose(samples.take(np.arange(12)[::-1]), face)
    worse = loss.synthetic(wrong, FaceTruth.of(samples, face), pictures)
    assert all(worse[name] > 2 * losses[name] and worse[name] > 1e-4 for name in WEIGHTS if name != "pixels")
    assert worse["pixels"] > losses["pixels"]


def test_clean_pictures_agree_with_their_labels_in_colour(face):
    # Hardly any relief: the loss takes the mean face's normals.
    calm = replace(face, expression_basis=0.05 * face.expression_basis, shape_basis=0.1 * face.shape_basis)
    clean, rng = FaceSampler(calm), np.random.default_rng(9)
    heads = clean.maker.draw(rng, 24)
    blocks = clean.look(rng, heads)
    for name in ("hair", "glasses", "occluder0", "occluder1", "occluder2"):
        blocks[:, FACE_FIELDS.index(name), 3] = 0
    clean = FaceSamples(
        clean.renderer.draw(heads, blocks), heads.project(calm.mesh_points.places(heads.shape, heads.expression)), heads
    )
    loss, pictures, right = FaceNetLoss(calm), as_pictures(clean.pictures), true_pose(clean, calm)
    least = loss.pixels(right, pictures)
    assert least < 0.06
    for other in (0.7, 1.4):
        assert least < 0.8 * loss.pixels(right._replace(illumination=other * right.illumination), pictures)
    assert least < 0.8 * loss.pixels(right._replace(albedo=-right.albedo), pictures)
    assert least < 0.8 * loss.pixels(right._replace(place=right.place + torch.tensor([0.5, 0, 0, 0])), pictures)


def test_real_faces_cost_nothing_where_landmarks_fit_and_one_person_is_one(face, samples):
    loss, pictures = FaceNetLoss(face), as_pictures(samples.pictures)
    pose, points = true_pose(samples, face), torch.as_tensor(samples.points)
    alone = loss.real(pose, points, torch.arange(12), pictures)
    assert set(alone) == set(REAL_WEIGHTS)
    assert alone["landmarks"] < 1e-4 and alone["openings"] < 1e-4 and alone["steady"] < 1e-9 and alone["plain"] > 0.1
    together = loss.real(pose, points, torch.zeros(12), pictures)
    assert together["steady"] > 0.1
    moved = loss.real(pose, points + 0.1, torch.arange(12), pictures)
    np.testing.assert_allclose(moved["landmarks"], 0.1 * 2**0.5, rtol=1e-3)
    assert moved["openings"] < 1e-4


def test_points_that_a_model_lacks_do_not_count(face, samples):
    weights = face.mesh_weights.copy()
    weights[:100] = 0
    lacking = replace(face, mesh_weights=weights)
    points = torch.as_tensor(samples.points.copy())
    points[:, :100] += 5
    pose, pictures = true_pose(samples, lacking), as_pictures(samples.pictures)
    losses = FaceNetLoss(lacking).real(pose, points, torch.arange(12), pictures)
    assert losses["landmarks"] < 1e-4 and torch.isfinite(losses["openings"])


def test_gradients_are_finite_however_wrong_the_answer(face, samples):
    loss, pictures, truth = FaceNetLoss(face), as_pictures(samples.pictures), FaceTruth.of(samples, face)
    generator = torch.Generator().manual_seed(0)
    for size in (0.0, 1.0, 30.0):
        pose = FaceNetPose(
            *(
                (value + size * torch.randn(value.shape, generator=generator)).requires_grad_()
                for value in true_pose(samples, face)
            )
        )
        whole = total(loss.synthetic(pose, truth, pictures), WEIGHTS)
        whole = whole + total(loss.real(pose, truth.points, torch.arange(12), pictures), REAL_WEIGHTS)
        whole.backward()
        assert all(torch.isfinite(value.grad).all() for value in pose)


# Training.


def batches(sampler, face, settings, clips=None):
    return FaceBatches(settings, face, FacePool(sampler, settings.batch, settings.reuse, seed=settings.seed), clips)


class Once:
    """Always the batch of the first step."""

    def __init__(self, source):
        self.batch = source.draw(0)

    def draw(self, step):
        return self.batch


def test_a_few_steps_learn_a_batch(face, sampler, samples, tmp_path):
    settings = FaceNetTraining(steps=24, batch=8, real=3, learning_rate=2e-3, warm_up=5, evaluate_every=12, held_out=4)
    source = Once(batches(sampler, face, settings, clip_faces()))
    trainer = FaceNetTrainer(settings, face, source, samples.take(slice(0, 4)), tmp_path)
    before, log = trainer.train_step(), []
    trainer.run(log.append)
    after = trainer.train_step()
    assert after["total"] < 0.7 * before["total"] and after["landmarks"] < 0.7 * before["landmarks"]
    assert after["real_landmarks"] < before["real_landmarks"]
    assert sum("held out" in line for line in log) == 2 and "mean answer" in trainer.final_table()


def test_a_stopped_run_ends_like_one_that_was_not(face, sampler, samples, tmp_path):
    settings = FaceNetTraining(steps=4, batch=4, real=3, warm_up=2, evaluate_every=100, held_out=4)

    def trainer(folder):
        source = batches(sampler, face, settings, clip_faces())
        return FaceNetTrainer(settings, face, source, samples.take(slice(0, 4)), folder)

    whole = trainer(tmp_path / "whole").run(log=lambda line: None)
    stopped = trainer(tmp_path / "stopped")
    for _ in range(2):
        stopped.train_step()
    stopped.save_checkpoint()
    resumed = trainer(tmp_path / "stopped")
    assert resumed.step == 2
    ended = resumed.run(log=lambda line: None).state_dict()
    for name, value in whole.state_dict().items():
        assert (value == ended[name]).all(), name
    with pytest.raises(TrainingError, match="other settings"):
        other = replace(settings, seed=1)
        FaceNetTrainer(other, face, None, samples, tmp_path / "stopped")


def test_a_training_from_start_to_weights(face, tmp_path):
    settings = replace(PRESETS["tiny"], steps=2, batch=4, held_out=4, evaluate_every=2)
    trainer = make_trainer(settings, face, tmp_path)
    assert trainer.settings.real == 0
    trainer.run(log=lambda line: None)
    write_weights(trainer, tmp_path / "facenet.safetensors")
    predictor = FaceNetPredictor.load(face, tmp_path / "facenet.safetensors")
    answer = predictor.predict(trainer.held_out.pictures[:2], [[0, 0, INPUT_SIZE, INPUT_SIZE]] * 2)
    assert answer.shape.shape == (2, face.shape_size) and np.isfinite(answer.mesh).all()


@pytest.mark.parametrize("change", [{"steps": 0}, {"reuse": 0}, {"real": -1}, {"final_rate": 1.0}, {"held_out": 0}])
def test_settings_that_cannot_be_are_refused(change):
    with pytest.raises(TrainingError):
        replace(FaceNetTraining(), **change)


def test_a_face_without_mesh_points_is_refused(face, tmp_path):
    with pytest.raises(TrainingError, match="no points of the face mesh"):
        make_trainer(PRESETS["tiny"], replace(face, mesh_vertices=None), tmp_path)


def test_the_commands_train_measure_and_time(face, tmp_path, capsys):
    face.save(tmp_path / "face.npz")
    model = ["--face", str(tmp_path / "face.npz")]
    train = ["train", "facenet", "--preset", "tiny", "--steps", "1", "--batch", "4", *model, "-o", str(tmp_path / "run")]
    assert main(train + ["--device", "cpu"]) == 0
    weights = tmp_path / "run" / "facenet.safetensors"
    assert weights.is_file() and "mean answer" in (tmp_path / "run" / "train.log").read_text()
    assert main(["evaluate", "facenet", "--weights", str(weights), "--samples", "6", *model, "--device", "cpu"]) == 0
    assert main(["bench", "facenet", "--seconds", "0.1", "--batch", "2", *model, "--device", "cpu"]) == 0
    assert main(["bench", "faces", "--seconds", "0.1", *model]) == 0
    shown = capsys.readouterr().out
    assert "held-out synthetic faces" in shown and "ms a face" in shown and "faces a second" in shown
    assert main(train + ["--clips", "clip.mp4:9-9"]) != 0
    assert "are none" in capsys.readouterr().err
