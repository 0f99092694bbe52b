"""The default detector on real pictures: frames of the demo, whose truth is known."""

import numpy as np
import pytest

from fullbody_core.camera import project
from fullbody_core.contract.skeleton import BLAZEPOSE_33, JOINT_INDEX, SIDES
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.detect.mediapipe import CROP_PIXELS, BodyFinder, MediaPipeDetector, Region, pixels_per_metre, square_crop
from fullbody_core.pipeline import load_body
from fullbody_core.synth.demo_clip import demo_motion
from fullbody_core.video import open_video


@pytest.fixture(scope="module")
def images(demo_video):
    return [image for _, image in open_video(demo_video).frames()][:30]


def run(images, way):
    detector = MediaPipeDetector()
    try:
        return Keypoints.stack(list(way(detector, images)))
    finally:
        detector.close()


@pytest.fixture(scope="module")
def found(images):
    return run(images, lambda detector, images: detector.detect_frames(images))


def test_frames_at_once_give_what_one_by_one_gives(images, found):
    single = run(images, lambda detector, images: [detector.detect(image) for image in images])
    np.testing.assert_allclose(found.body2d, single.body2d, atol=1e-3)
    np.testing.assert_allclose(found.body3d, single.body3d, atol=1e-5)
    np.testing.assert_array_equal(found.hand_confidence > 0, single.hand_confidence > 0)
    np.testing.assert_allclose(found.hand2d, single.hand2d, atol=1e-3)
    np.testing.assert_allclose(found.face3d, single.face3d, atol=1e-3)


def test_points_lie_on_the_body_and_left_is_left(images, found):
    truth = demo_motion(load_body("open"))
    pixels = project(truth.joints_camera[: len(images)], truth.camera_matrix)
    height = np.median(found.person_box[:, 3] - found.person_box[:, 1])
    for side in SIDES:
        for name in ("shoulder", "elbow", "wrist", "knee", "ankle"):
            true = pixels[:, JOINT_INDEX[f"{side}_{name}"]]
            error = np.linalg.norm(found.body2d[:, BLAZEPOSE_33.index(f"{side}_{name}")] - true, axis=-1)
            assert np.median(error) < 0.06 * height, f"{side} {name}"


def test_each_hand_is_at_its_own_wrist(images, found):
    truth = demo_motion(load_body("open"))
    pixels = project(truth.joints_camera[: len(images)], truth.camera_matrix)
    wrists = np.stack([pixels[:, JOINT_INDEX[f"{side}_wrist"]] for side in SIDES], 1)
    for side in range(2):
        seen = found.hand_confidence[:, side] > 0
        assert seen.mean() > 0.8
        own, other = (np.linalg.norm(found.hand2d[seen, side, 0] - wrists[seen, s], axis=-1) for s in (side, 1 - side))
        assert (own < other).all()


def test_a_region_that_is_given_finds_the_same_body_without_a_memory(images, found):
    finder, hips = BodyFinder(), [BLAZEPOSE_33.index(f"{side}_hip") for side in SIDES]
    height = np.median(found.person_box[:, 3] - found.person_box[:, 1])
    region = Region(found.body2d[5, hips].mean(0) + [0.05 * height, 0], 0.5 * height, 0.1)
    first, following = finder.look(images[5], region)
    assert np.linalg.norm(first.body2d - found.body2d[5], axis=-1)[11:].mean() < 0.03 * height
    assert np.linalg.norm(following.centre - found.body2d[5, hips].mean(0)) < 0.05 * height and abs(following.lean) < 0.1
    finder.look(images[-1], following)
    np.testing.assert_array_equal(finder.look(images[5], region)[0].body2d, first.body2d)
    assert finder.look(np.full_like(images[0], 127), region) == (None, None)
    finder.close()


def test_a_mirrored_picture_swaps_the_hands(images, found):
    mirrored = run([np.ascontiguousarray(image[:, ::-1]) for image in images], lambda d, frames: d.detect_frames(frames))
    width = images[0].shape[1]
    raised, raised_mirrored = (k.hand2d[-1, side, 0] for k, side in ((found, 1), (mirrored, 0)))
    assert np.linalg.norm(raised - [width - raised_mirrored[0], raised_mirrored[1]]) < 25


def test_nobody_is_all_zero():
    blank = [np.full((200, 300, 3), 127, np.uint8)] * 3
    keypoints = run(blank, lambda detector, images: detector.detect_frames(images))
    assert not keypoints.body_confidence.any() and not keypoints.person_box.any() and not keypoints.hand_confidence.any()


def test_no_frames_give_no_keypoints():
    detector = MediaPipeDetector()
    assert list(detector.detect_frames(iter([]))) == []
    detector.close()


def test_an_error_between_frames_reaches_the_caller(images):
    def broken():
        yield images[0]
        raise RuntimeError("the video broke")

    detector = MediaPipeDetector()
    with pytest.raises(RuntimeError, match="the video broke"):
        list(detector.detect_frames(broken()))
    detector.close()


def test_square_crop_maps_pixels_where_it_says():
    image = np.zeros((100, 160, 3), np.uint8)
    image[40, 90] = 255
    crop, image_to_crop = square_crop(image, np.array([90.0, 40.0]), 32.0)
    row, column = np.unravel_index(crop[..., 0].argmax(), crop.shape[:2])
    np.testing.assert_allclose(image_to_crop @ [90, 40, 1], [column, row], atol=CROP_PIXELS / 32)


def test_pixels_per_metre_is_the_scale_of_a_flat_person():
    points3d = np.random.default_rng(0).normal(size=(33, 3)) * [0.4, 0.8, 0.0]
    assert pixels_per_metre(points3d[:, :2] * 123, points3d, np.ones(33)) == pytest.approx(123, rel=1e-6)
