"""The squares of hands whose keypoints are known."""

import numpy as np

from fullbody_core.networks.detnet import CELL
from fullbody_core.networks.heat_maps import hand_windows


def random_hands(count, seed=0):
    rng = np.random.default_rng(seed)
    middle, size = rng.uniform(-30, 280, (count, 2, 1, 2)), rng.uniform(4, 40, (count, 2, 1, 1))
    return middle + size * rng.uniform(-1, 1, (count, 2, 21, 2))


def test_squares_lie_inside_the_maps_and_hold_the_hand():
    hands = random_hands(200)
    boxes = hand_windows(hands)
    low, high = CELL * boxes[..., None, :2], CELL * (boxes[..., None, :2] + boxes[..., None, 2:])
    inside = ((hands >= 0) & (hands < [192, 256])).all(-1)
    found = boxes[..., 2] > 0
    assert (boxes[..., :2] >= 0).all() and (boxes[..., :2] + boxes[..., 2:] <= [48, 64]).all()
    held = ((hands >= low) & (hands <= high)).all(-1)
    # Nine tenths of the heat, so that a lone finger tip may be left out.
    assert held[inside & found[..., None]].mean() > 0.98
    assert found[inside.sum(-1) > 3].all() and not found[(np.abs(hands - [96, 128]) > [110, 142]).any(-1).all(-1)].any()


def test_points_that_are_not_annotated_could_be_anywhere():
    hands = random_hands(20, 1)
    known = np.random.default_rng(2).random(hands.shape[:-1]) < 0.7
    elsewhere = np.where(known[..., None], hands, 0)
    np.testing.assert_array_equal(hand_windows(hands, known), hand_windows(elsewhere, known))
    np.testing.assert_array_equal(hand_windows(hands, np.zeros_like(known)), 0)


def test_hands_of_one_batch_do_not_meet():
    hands = random_hands(5, 3)
    for item in range(5):
        np.testing.assert_array_equal(hand_windows(hands)[item], hand_windows(hands[item : item + 1])[0])
