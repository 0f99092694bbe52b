"""The rectangle that follows the person: where it goes, when it stays, and what happens after a loss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullbody_core.detect.crops import ASPECT, crop_rectangle
from fullbody_core.detect.tracking import EDGE, PersonTracker, seen_box, still_good


def corners(box):
    """Three keypoints that span a box."""
    left, top, right, bottom = box
    return np.array([[left, top], [right, bottom], [(left + right) / 2, top]], float)


def following(boxes):
    """The rectangles [T, 4] that frames with these boxes are cut by."""
    tracker = PersonTracker(lambda image: boxes[0])
    rectangles = []
    for box in boxes:
        rectangles.append(tracker.look(None))
        tracker.follow(corners(box), np.ones(3))
    return np.array(rectangles)


boxes = st.tuples(st.floats(-500, 2000), st.floats(-500, 2000), st.floats(8, 1500), st.floats(8, 1500)).map(
    lambda item: np.array([item[0], item[1], item[0] + item[2], item[1] + item[3]])
)


@given(boxes)
@settings(max_examples=100, deadline=None)
def test_a_fresh_rectangle_is_a_good_one(box):
    """Else it would be cut anew in every frame."""
    rectangle = crop_rectangle(box)
    assert still_good(rectangle, box)
    assert rectangle[2] / rectangle[3] == pytest.approx(ASPECT)


def test_the_rectangle_stays_while_somebody_sways():
    sway = 12 * np.sin(np.linspace(0, 20, 200))[:, None]
    rectangles = following(np.array([300.0, 100, 500, 700]) + sway)
    assert (rectangles == rectangles[0]).all()


@pytest.mark.parametrize("how", ["walks by", "comes nearer", "goes away", "shakes"])
def test_the_rectangle_holds_the_person_and_moves_seldom(how):
    start, share = np.array([300.0, 100, 500, 700]), np.linspace(0, 1, 200)[:, None]
    boxes = {
        "walks by": start + share * [900, 0, 900, 0],
        "comes nearer": start + share * [-300, -100, 300, 1100],
        "goes away": start + share * [90, 200, -90, -300],
        "shakes": start + np.random.default_rng(0).normal(0, 8, (200, 4)),
    }[how]
    rectangles = following(boxes)
    changes = (rectangles[1:] != rectangles[:-1]).any(1).sum()
    assert changes < 200 / 8
    assert changes > 0 or how == "shakes"
    # Boxes are those of the frame before, so that somebody may come a frame's way nearer to the edge.
    low = (boxes[:, :2] - rectangles[:, :2]) / rectangles[:, 2:]
    high = (boxes[:, 2:] - rectangles[:, :2]) / rectangles[:, 2:]
    step = np.abs(np.diff(boxes, axis=0)).max() / rectangles[:, 2:].min()
    assert low.min() > EDGE - step and high.max() < 1 - EDGE + step


@pytest.mark.parametrize(
    "points, confidence",
    [
        (np.zeros((33, 2)), np.zeros(33)),
        (corners([0, 0, 50, 90]), np.array([1, 1, 0.2])),
        (corners([40, 40, 42, 43]), np.ones(3)),
    ],
    ids=["nothing is sure", "two points", "a dot"],
)
def test_somebody_who_is_lost_is_looked_for_again(points, confidence):
    found = iter([np.array([300.0, 100, 500, 700]), None, np.array([10.0, 10, 50, 90])])
    tracker = PersonTracker(lambda image: next(found))
    first = tracker.look(None)
    assert not tracker.follow(points, confidence) and seen_box(points, confidence) is None
    assert tracker.look(None) is None, "nobody is there"
    np.testing.assert_array_equal(tracker.look(None), crop_rectangle([10.0, 10, 50, 90]))
    assert (tracker.look(None) != first).any()


def test_points_that_are_not_seen_do_not_pull():
    points = np.vstack([corners([300, 100, 500, 700]), [[5000.0, 5000]]])
    np.testing.assert_array_equal(seen_box(points, np.array([1, 1, 1, 0.3])), [300, 100, 500, 700])
