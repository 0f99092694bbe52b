"""Augmentation: a mirrored sample is a sample of the mirrored person, and nothing that is labelled moves away from its label."""

from dataclasses import fields, replace

import numpy as np
import pytest
from synthetic_pictures import BLUE, CYAN, GREEN, RED, YELLOW, dotted, find_dot

from fullbody_core.contract.skeleton import HAND_21
from fullbody_core.networks.body_keypoints import DEFINITION_NAMES, EXTENDED_BODIES
from fullbody_core.networks.detnet_samples import HAND_SIZE, IMAGE_SIZE, DetNetSamples, hand_to_image, image_to_hand
from fullbody_core.train.augmentation import MIRROR, Augmentation, augment, cut_out, draw_cut_outs, mirror

NOTHING = Augmentation(
    mirror=0, brightness=0, contrast=0, saturation=0, white_balance=0, gamma=0, grey=0, noise_chance=0, blur_chance=0,
    cut_out_chance=0, hand_cut_out_chance=0,
)  # fmt: skip


def random_samples(count=12, seed=0):
    """Samples of all definitions, every third one of a hand alone, with pictures of noise."""
    rng = np.random.default_rng(seed)
    samples = DetNetSamples.blank(count=count)
    for item in fields(samples):
        values = getattr(samples, item.name)
        if values.dtype == bool:
            values[...] = rng.random(values.shape) < 0.7
        elif values.dtype == np.uint8:
            values[...] = rng.integers(0, 256, values.shape)
        elif values.dtype == np.float32:
            values[...] = rng.normal(0, 60, values.shape)
    samples.definition[:] = np.arange(count) % len(DEFINITION_NAMES)
    samples.hand_boxes[..., :2] = rng.integers(0, 30, (count, 2, 2))
    samples.hand_boxes[..., 2] = rng.integers(5, 18, (count, 2))
    samples.body_present[:] = np.arange(count) % 3 > 0
    samples.image[~samples.body_present] = 0
    samples.hand_boxes[~samples.body_present] = [[0, 0, 0], [0, 0, 48]]
    samples.hand_images[samples.hand_boxes[..., 2] == 0] = 0
    return samples


def drawn_sample():
    """A sample of a person with dots at both wrists and at the tip of the left thumb."""
    sample = DetNetSamples.blank("coco")
    names = EXTENDED_BODIES["coco"].complete
    left, right, nose = (names.index(name) for name in ("left_wrist", "right_wrist", "nose"))
    sample.body2d[[left, right, nose]] = [[150, 90], [40, 130], [100, 50]]
    sample.body3d[[left, right]] = [[0.5, -0.1, 0.2], [-0.4, 0.1, 0.3]]
    sample.body_known2d[[left, right, nose]] = sample.body_known3d[[left, right]] = True
    sample.image[:] = dotted(IMAGE_SIZE, [((150, 90), RED), ((40, 130), GREEN), ((100, 50), BLUE)], 5)
    sample.hand_boxes[:] = [[34, 18, 9], [6, 30, 7]]
    tip = HAND_21.index("thumb_tip")
    for side, (place, colour) in enumerate((((30, 90), YELLOW), ((80, 40), CYAN))):
        sample.hand_images[side] = dotted((HAND_SIZE, HAND_SIZE), [(place, colour)], 8)
        sample.hand2d[side, tip] = hand_to_image(np.array([place], float), sample.hand_boxes[side])[0]
        sample.hand_known2d[side, tip] = True
    sample.body_present[...] = True
    return sample


def test_counterparts_are_the_definitions_own():
    for row, name in zip(MIRROR, DEFINITION_NAMES):
        names = EXTENDED_BODIES[name].complete
        for index, place in enumerate(row[: len(names)]):
            assert {names[index], names[place]} in (
                {names[index]},
                {names[index].replace("left", "right"), names[index].replace("right", "left")},
            )  # noqa: E501
        assert (row[row] == np.arange(len(row))).all() and (row[len(names) :] == np.arange(len(names), len(row))).all()


def test_mirrored_twice_is_the_same():
    samples = random_samples()
    which = np.arange(len(samples)) % 4 > 0
    twice = mirror(mirror(samples, which), which)
    for item in fields(samples):
        if item.name in ("body2d", "hand2d", "face2d"):
            np.testing.assert_allclose(getattr(twice, item.name), getattr(samples, item.name), atol=1e-4)
        else:
            np.testing.assert_array_equal(getattr(twice, item.name), getattr(samples, item.name), err_msg=item.name)
        assert getattr(twice, item.name).dtype == getattr(samples, item.name).dtype


def test_mirroring_changes_only_the_chosen_ones():
    samples = random_samples()
    which = np.arange(len(samples)) % 2 == 0
    mirrored = mirror(samples, which)
    for item in fields(samples):
        np.testing.assert_array_equal(getattr(mirrored, item.name)[~which], getattr(samples, item.name)[~which])
        if item.name not in ("definition", "face_known", "face_map_known", "body_present"):
            assert (getattr(mirrored, item.name)[which] != getattr(samples, item.name)[which]).any(), item.name


def test_mirrored_labels_lie_on_their_mirrored_dots():
    sample = drawn_sample()
    mirrored = mirror(DetNetSamples.stack([sample]), np.array([True])).take(0)
    names = EXTENDED_BODIES["coco"].complete
    # What was the left wrist's dot is seen on the right wrist.
    for name, colour in (("right_wrist", RED), ("left_wrist", GREEN), ("nose", BLUE)):
        np.testing.assert_allclose(mirrored.body2d[names.index(name)], find_dot(mirrored.image, colour), atol=0.05)
    tip = HAND_21.index("thumb_tip")
    for side, colour in ((1, YELLOW), (0, CYAN)):
        place = image_to_hand(mirrored.hand2d[side], mirrored.hand_boxes[side])[tip]
        np.testing.assert_allclose(place, find_dot(mirrored.hand_images[side], colour), atol=0.1)
    np.testing.assert_array_equal(mirrored.hand_boxes, [[35, 30, 7], [5, 18, 9]])
    np.testing.assert_allclose(mirrored.body3d[names.index("right_wrist")], [-0.5, -0.1, 0.2], atol=1e-6)
    assert mirrored.body_known2d.sum() == 3 and not mirrored.body2d[~mirrored.body_known2d].any()


def test_augmentation_of_nothing_changes_nothing():
    samples = random_samples()
    same = augment(samples, np.random.default_rng(0), NOTHING)
    for item in fields(samples):
        np.testing.assert_array_equal(getattr(same, item.name), getattr(samples, item.name), err_msg=item.name)


def test_augmentation_is_decided_by_its_generator_and_leaves_its_input_alone():
    samples = random_samples()
    kept = DetNetSamples.concatenate([samples])
    first, second = (augment(samples, np.random.default_rng(5)) for _ in range(2))
    other = augment(samples, np.random.default_rng(6))
    for item in fields(samples):
        np.testing.assert_array_equal(getattr(first, item.name), getattr(second, item.name))
        np.testing.assert_array_equal(getattr(samples, item.name), getattr(kept, item.name))
    assert (first.image != other.image).any()


def test_what_is_not_there_stays_black():
    samples = random_samples()
    for seed in range(3):
        changed = augment(samples, np.random.default_rng(seed), Augmentation(cut_out_chance=1, hand_cut_out_chance=1))
        assert not changed.image[~changed.body_present].any()
        assert not changed.hand_images[changed.hand_boxes[..., 2] == 0].any()
        assert changed.hand_images[changed.hand_boxes[..., 2] > 0].any()


@pytest.mark.parametrize(
    "setting", [{"brightness": 1.0}, {"contrast": 1.0}, {"saturation": 0.5}, {"white_balance": 0.5}, {"gamma": 1.0}]
)
def test_each_change_of_colour_is_the_same_in_all_pictures_and_keeps_black(setting):
    samples = DetNetSamples.blank(count=6)
    samples.body_present[:], samples.hand_boxes[..., 2] = True, 9
    samples.image[:, :100], samples.hand_images[:, :, :50] = [180, 90, 60], [180, 90, 60]
    changed = augment(samples, np.random.default_rng(1), replace(NOTHING, **setting))
    assert len(np.unique(changed.image[:, 0, 0], axis=0)) > 3
    np.testing.assert_array_equal(changed.image[:, 0, 0], changed.hand_images[:, 0, 0, 0])
    np.testing.assert_array_equal(changed.image[:, 0, 0], changed.hand_images[:, 1, 9, 9])
    assert not changed.image[:, 100:].any()


def test_grey_pictures_have_no_colour():
    changed = augment(random_samples(), np.random.default_rng(0), replace(NOTHING, grey=1))
    assert np.ptp(changed.image.astype(int), -1).max() <= 1


def test_blur_and_noise_keep_dots_where_they_are():
    samples = DetNetSamples.stack([drawn_sample()] * 6)
    settings = replace(NOTHING, noise_chance=1, blur_chance=1)
    changed = augment(samples, np.random.default_rng(0), settings)
    names = EXTENDED_BODIES["coco"].complete
    for image, points in zip(changed.image, changed.body2d):
        np.testing.assert_allclose(find_dot(image, RED), points[names.index("left_wrist")], atol=0.3)
    assert (changed.image != samples.image).any((1, 2, 3)).all()
    blurred = augment(samples, np.random.default_rng(0), replace(NOTHING, blur_chance=1))
    steepness = [np.abs(np.diff(batch.hand_images.astype(int), axis=3)).sum() for batch in (blurred, samples)]
    assert steepness[0] < steepness[1]


def test_cut_outs_cover_the_same_place_in_all_pictures():
    sample = DetNetSamples.stack([drawn_sample()])
    rectangles = np.array([[[144, 80, 156, 100], [0, 0, 0, 0]]], float)
    colours = np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8)
    changed = cut_out(sample, rectangles, colours)
    painted = (changed.image[0] == [1, 2, 3]).all(-1)
    y, x = np.nonzero(painted)
    assert (x.min(), x.max() + 1, y.min(), y.max() + 1) == (144, 156, 80, 100)
    assert painted.sum() == 12 * 20
    y, x = np.nonzero((changed.hand_images[0, 0] == [1, 2, 3]).all(-1))
    corners = image_to_hand(np.array([[144.0, 80], [156, 100]]), sample.hand_boxes[0, 0])
    np.testing.assert_allclose([[x.min(), y.min()], [x.max() + 1, y.max() + 1]], np.clip(corners, 0, 128), atol=0.5)
    np.testing.assert_array_equal(changed.hand_images[0, 1], sample.hand_images[0, 1])
    np.testing.assert_array_equal(changed.body_known2d, sample.body_known2d)


def test_drawn_cut_outs_come_as_often_as_asked_and_the_small_ones_lie_at_hands():
    samples = DetNetSamples.stack([drawn_sample()] * 400)
    rectangles, colours = draw_cut_outs(samples, np.random.default_rng(0))
    share = (rectangles[..., 2] > rectangles[..., 0]).mean(0)
    np.testing.assert_allclose(share, [0.3, 0.15], atol=0.06)
    assert rectangles.shape == (400, 2, 4) and colours.shape == (400, 2, 3)
    middle = (rectangles[:, 1, :2] + rectangles[:, 1, 2:])[rectangles[:, 1, 2] > 0] / 2
    boxes = 4 * samples.hand_boxes[0]
    at_hand = [((middle >= box[:2]) & (middle <= box[:2] + box[2])).all(-1) for box in boxes]
    assert (at_hand[0] | at_hand[1]).all() and at_hand[0].any() and at_hand[1].any()
