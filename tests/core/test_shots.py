"""Where a new shot begins, and what looks like it and is none."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_scenery import scenery, view

from fullbody_core.contract.frames import axis_angle_to_matrix
from fullbody_core.tracking.shots import FLASH_PICTURES, ShotDetector

PLACES = [scenery(seed, tint=tint) for seed, tint in ((1, (60, 90, 140)), (2, (190, 180, 160)), (3, (40, 110, 50)))]


def shot(place, frames, speed=0.3):
    """Pictures of a camera that turns by so many degrees from each to the next."""
    turns = axis_angle_to_matrix(np.radians(speed) * np.arange(frames)[:, None] * [0.0, 1, 0])
    return [view(PLACES[place], turn, seed=index) for index, turn in enumerate(turns)]


def begins(pictures):
    detector = ShotDetector()
    return np.flatnonzero([detector.look(picture) for picture in pictures]).tolist()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=1, max_size=4))
@settings(max_examples=6, deadline=None)
def test_every_change_of_place_is_a_cut_and_nothing_else(parts):
    pictures = [picture for place, frames in parts for picture in shot(place, frames)]
    places = np.repeat(*zip(*parts))
    # From a dark place to one that is brighter everywhere it may be a flash; these places are not such.
    assert begins(pictures) == (np.flatnonzero(np.diff(places)) + 1).tolist()


@pytest.mark.parametrize(
    "gain, offset", [(1.6, 40), (3.0, 120), (1.0, 255), (0.0, 0)], ids=["lamp", "flash", "white", "black"]
)
@pytest.mark.parametrize("frames", [1, 2])
def test_a_flash_is_no_cut(gain, offset, frames):
    pictures = shot(0, 6)
    for index in range(2, 2 + frames):
        pictures[index] = np.clip(gain * pictures[index].astype(float) + offset, 0, 255).astype(np.uint8)
    assert begins(pictures) == []


def test_a_cut_into_a_bright_place_is_found_though_it_might_be_a_flash():
    dark, bright = [picture // 8 for picture in shot(0, 3)], [155 + picture // 3 for picture in shot(1, FLASH_PICTURES + 4)]
    found = begins(dark + bright)
    assert len(found) == 1 and 3 <= found[0] <= 3 + FLASH_PICTURES


@pytest.mark.parametrize("between", [0, 255])
def test_through_a_moment_of_nothing_the_shot_begins_after_it(between):
    nothing = [np.full_like(shot(0, 1)[0], between)] * 2
    assert begins(shot(0, 3) + nothing + shot(2, 3)) == [5]
    assert begins(shot(0, 3) + nothing + shot(0, 3)) == []
    assert begins(nothing + shot(0, 3)) == []


def test_a_whip_pan_is_no_cut():
    """10 degrees a picture, a fifth of the width, as blurred as that makes it."""
    assert begins([cv2.blur(picture, (30, 1)) for picture in shot(0, 4, speed=10)]) == []


def test_somebody_who_walks_past_the_lens_is_no_cut():
    pictures = shot(1, 10, speed=0)
    for index, picture in enumerate(pictures):
        left = -224 + 60 * index
        picture[10:, max(left, 0) : max(left + 224, 0)] = (40, 35, 60)
    assert begins(pictures) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 300, 3), (300, 8, 3), (5, 5, 3)])
def test_the_smallest_pictures_are_looked_at_too(shape):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, shape, np.uint8)
    assert begins([picture] * 3) == []
