"""Who is who: choosing somebody, finding everybody, and following people who pass each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullbody_core.contract.skeleton import BLAZEPOSE_33, SIDES
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.detect.mediapipe import Region
from fullbody_core.overlay import IDENTITY_COLOURS, draw_frame, draw_people
from fullbody_core.tracking.appearance import VIEWS, Gallery, likeness, look_of
from fullbody_core.tracking.people import LASTING, PeopleTracker, lasting
from fullbody_core.tracking.person_choice import PersonChoice, PersonChoiceError
from fullbody_core.tracking.person_detection import (
    People,
    box_overlaps,
    circle_boxes,
    parts_of,
    without_doubles,
)
from fullbody_core.tracking.track import UNLIKE, Find, fits, new_track, same_body
from fullbody_core.video import open_video

SIZE = (720, 400)
"""(width, height) px of the made-up pictures."""

PEOPLE = np.array([[10, 10, 60, 110], [150, 100, 250, 300], [300, 150, 340, 250]])
"""Boxes in a picture of 400 x 400 px: upper left, large in the middle, small on the right."""


@pytest.mark.parametrize(
    "text, index",
    [("largest", 1), ("centre", 1), (" Largest ", 1), ("20,100", 0), ("0.8,0.5", 2), ("399,399", 2), ("0.01,0.01", 0)],
)
def test_a_choice_picks(text, index):
    assert PersonChoice.parse(text).pick(PEOPLE, (400, 400)) == index


def test_inside_two_boxes_the_nearer_middle_counts():
    boxes = np.array([[0, 0, 400, 400], [100, 100, 160, 220]])
    assert PersonChoice.parse("130,150").pick(boxes, (400, 400)) == 1
    assert PersonChoice.parse("200,210").pick(boxes, (400, 400)) == 0


def test_the_largest_is_so_inside_the_picture():
    boxes = np.array([[-900, 0, 60, 400], [100, 100, 250, 300]])
    assert PersonChoice.parse("largest").pick(boxes, (400, 400)) == 1


@pytest.mark.parametrize("text", ["", "biggest", "1", "1,2,3", "a,b", "nan,1", "-1,5", "inf,0"])
def test_another_choice_is_refused(text):
    with pytest.raises(PersonChoiceError, match="There is no person .* to choose: give largest, centre, all, or x,y"):
        PersonChoice.parse(text)


@pytest.mark.parametrize("text", ["largest", "centre", "all", "12,34.5"])
def test_a_choice_is_written_as_it_is_read(text):
    assert str(PersonChoice.parse(text)) == text and PersonChoice.parse(str(PersonChoice.parse(text))) == PersonChoice.parse(
        text
    )


boxes = st.lists(st.tuples(*[st.floats(-50, 300)] * 2, *[st.floats(0, 200)] * 2), min_size=1, max_size=6).map(
    lambda rows: np.array([[x, y, x + width, y + height] for x, y, width, height in rows])
)


@given(boxes)
@settings(max_examples=50, deadline=None)
def test_overlaps_are_symmetric_shares(some):
    overlap, covered = box_overlaps(some, some), box_overlaps(some, some, of_smaller=True)
    np.testing.assert_allclose(overlap, overlap.T)
    assert (overlap >= 0).all() and (overlap <= 1 + 1e-9).all() and (covered >= overlap - 1e-9).all()
    large = (some[:, 2:] - some[:, :2]).prod(1) > 1e-3
    np.testing.assert_allclose(np.diag(overlap)[large], 1)


def test_an_overlap_is_what_counting_pixels_gives():
    a, b = np.array([2, 3, 12, 9]), np.array([5, 1, 9, 30])
    y, x = np.mgrid[:40, :40]
    inside = [(x >= left) & (x < right) & (y >= top) & (y < bottom) for left, top, right, bottom in (a, b)]
    assert box_overlaps(a, b)[0, 0] == pytest.approx((inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum())


@pytest.mark.parametrize("width, height", [(1280, 720), (500, 900), (300, 300), (1, 7)])
def test_the_parts_of_a_picture_cover_it_and_lie_in_it(width, height):
    places = np.array(parts_of(width, height))
    assert (places[:, :2] >= 0).all() and (places[:, 2:] <= (width, height)).all() and (places[:, 2:] > places[:, :2]).all()
    half = places[places[:, 2] - places[:, 0] == (places[1:, 2] - places[1:, 0]).min()]
    for x, y in ([0, 0], [width - 1, height - 1], [width // 2, height // 3]):
        assert ((half[:, :2] <= (x, y)) & (half[:, 2:] > (x, y))).all(1).any()


def test_who_is_found_twice_is_kept_once_and_the_surer_find():
    centres = np.array([[100.0, 100], [104, 98], [300, 100]])
    found = without_doubles(People.of_circles([0.6, 0.9, 0.7], centres, centres - [0, 60]))
    np.testing.assert_array_equal(found.scores, [0.9, 0.7])
    assert len(without_doubles(People.nobody())) == 0


def test_a_lying_person_has_a_wide_box():
    upright, lying = circle_boxes(np.zeros((2, 2)), np.full(2, 50.0), np.array([0.0, np.pi / 2]))
    assert upright[3] == pytest.approx(50) and upright[2] < 25
    np.testing.assert_allclose(lying, upright[[1, 0, 3, 2]], atol=1e-9)
    region = Region.of_points([0.0, 0.0], [50.0, 0.0])
    assert region.lean == pytest.approx(np.pi / 2) and region.radius == 50 and region.side == 125


def standing(middle, height):
    """BlazePose's points [33, 2] px of somebody who stands upright around a point."""
    places = {
        "shoulder": (0.11, -0.3),
        "elbow": (0.16, -0.12),
        "wrist": (0.17, 0.02),
        "hip": (0.07, 0.0),
        "knee": (0.07, 0.23),
    }
    places |= {"ankle": (0.07, 0.45), "ear": (0.04, -0.42)}
    points = np.tile([0.0, -0.42], (33, 1))
    for name, (x, y) in places.items():
        for side, sign in (("left", 1), ("right", -1)):
            points[BLAZEPOSE_33.index(f"{side}_{name}")] = sign * x, y
    return np.asarray(middle) + height * points


def painted(people):
    """A grey picture in which each of (middle, height, shirt, trousers) stands in those colours."""
    picture = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    for (x, y), height, shirt, trousers in people:
        for colour, top, bottom in (((200, 160, 140), -0.5, -0.36), (shirt, -0.36, 0.0), (trousers, 0.0, 0.5)):
            rows = slice(max(0, round(y + top * height)), round(y + bottom * height))
            picture[rows, max(0, round(x - 0.2 * height)) : round(x + 0.2 * height)] = colour
    return picture


RED, BLUE = ((200, 30, 30), (40, 40, 40)), ((40, 60, 190), (120, 110, 90))
SURE = np.ones(33)


def look_at(middle, height, colours, light=1.0):
    picture = (light * painted([(middle, height, *colours)])).astype(np.uint8)
    return look_of(picture, standing(middle, height), SURE)


def test_a_look_is_of_the_person_and_not_of_the_place():
    here, elsewhere, other = look_at((200, 200), 300, RED), look_at((500, 220), 180, RED), look_at((200, 200), 300, BLUE)
    assert likeness(here, here) == pytest.approx(1)
    assert likeness(here, elsewhere) > 0.9
    assert likeness(here, other) < UNLIKE
    assert likeness(here, other) == likeness(other, here)


def test_parts_that_are_not_seen_do_not_count():
    whole, hidden = look_at((200, 200), 300, RED), SURE.copy()
    hidden[25:] = 0  # from the knees down
    picture = painted([((200, 200), 300, RED[0], BLUE[1])])
    assert likeness(whole, look_of(picture, standing((200, 200), 300), hidden)) > 0.95
    assert likeness(whole, look_of(picture, standing((200, 200), 300), SURE)) < 0.9
    assert likeness(whole, look_of(picture, standing((200, 200), 300), np.zeros(33))) is None


def test_a_gallery_keeps_the_first_view_and_few_others():
    gallery = Gallery()
    colours = np.random.default_rng(0).integers(0, 255, (3 * VIEWS, 2, 3))
    looks = [look_at((200, 200), 300, pair) for pair in colours.tolist()]
    for look in looks:
        gallery.learn(look)
        assert gallery.likeness(look) > 0.85
    assert len(gallery.views) == VIEWS and gallery.views[0] is looks[0]


def find(middle, height, colours):
    keypoints = Keypoints.nobody(BLAZEPOSE_33)
    keypoints.body2d, keypoints.body_confidence = standing(middle, height), SURE
    return Find(keypoints, Region(np.array(middle, float), height / 2, 0.0), look_at(middle, height, colours))


def test_a_body_belongs_to_whom_it_looks_like_near_where_they_were():
    track = new_track(find((200, 200), 200, RED), 1)
    assert fits(track, find((215, 200), 205, RED))
    assert not fits(track, find((215, 200), 205, BLUE)), "somebody else at that place"
    assert fits(track, find((480, 200), 200, RED)), "a leap of somebody who looks the same"
    for _ in range(3):
        track.miss()
    assert fits(track, find((210, 200), 200, RED)) and not fits(track, find((480, 200), 200, RED))


def test_somebody_who_is_not_seen_goes_on_ever_slower():
    track = new_track(find((200, 200), 200, RED), 1)
    for x in (210, 220, 230, 240):
        track.accept(find((x, 200), 200, RED))
    places = []
    for _ in range(30):
        track.miss()
        places.append(track.region.centre[0])
    steps = np.diff([240, *places])
    assert steps[0] == pytest.approx(10, abs=1) and (np.diff(steps) < 0).all() and steps[-1] < 0.1


def test_bodies_are_the_same_by_their_points():
    assert same_body(find((200, 200), 200, RED), find((206, 203), 190, BLUE))
    assert not same_body(find((200, 200), 200, RED), find((260, 200), 200, RED))


def test_who_is_seen_for_moments_does_not_count():
    times = np.arange(60) / 30

    def seen(frames):
        keypoints = Keypoints.stack([Keypoints.nobody(BLAZEPOSE_33)] * len(times))
        keypoints.body_confidence[frames] = 1
        return keypoints

    people = {1: seen(slice(0, 60)), 2: seen(slice(3, 9)), 5: seen(slice(10, 60))}
    assert LASTING == 1 and {
        key: item is people[old] for (key, item), old in zip(lasting(people, times).items(), (1, 5))
    } == {
        1: True,
        2: True,
    }
    assert list(lasting({7: people[2]}, times)) == [1], "somebody rather than nobody"
    assert lasting({}, times) == {}


@pytest.fixture(scope="module")
def actor(demo_video):
    """The demo's person cut out: RGBA pictures [h, w, 4] of some frames, half as large, in blue and in red clothes."""
    pictures = [image[80::2, ::2] for _, image in open_video(demo_video).frames()][20:60]
    cut = []
    for image in pictures:
        backdrop = np.median(np.concatenate([image[:, :20], image[:, -20:]], 1), axis=1, keepdims=True)
        shown = (np.abs(image - backdrop).max(-1) > 22)[..., None]
        cut.append([np.concatenate([colours, 255 * shown], -1).astype(np.uint8) for colours in (image, image[..., ::-1])])
    return cut


COUNT = 18


def placed(actor, frame, xs):
    """A picture in which the blue and then the red person stand with their left edges at xs px."""
    picture = np.full((SIZE[1], SIZE[0], 3), (150, 165, 170), np.uint8)
    for x, colours in zip(xs, actor[frame % len(actor)]):
        area = picture[40 : 40 + len(colours), x : x + colours.shape[1]]
        colours = colours[: len(area), : area.shape[1]]
        area[:] = np.where(colours[..., 3:] > 0, colours[..., :3], area)
    return picture


def hips(keypoints):
    return keypoints.body2d[[BLAZEPOSE_33.index(f"{side}_hip") for side in SIDES], 0].mean()


def test_people_who_pass_each_other_do_not_change_places(actor):
    """The blue person goes to the left, and the red one to the right in front of them and hides them for a moment."""
    tracker, own = PeopleTracker(PersonChoice("all"), parts=False), None
    for frame in range(COUNT):
        xs = [360 - 14 * frame, 60 + 16 * frame]
        found = {key: hips(item) for key, item in tracker.look(placed(actor, frame, xs)).items()}
        middles = [x + actor[0][0].shape[1] / 2 for x in xs]
        own = own or [min(found, key=lambda key: abs(found[key] - x)) for x in middles]
        assert set(own) == {1, 2} and set(found) <= {1, 2}
        assert all(abs(found[key] - x) < 30 for key, x in zip(own, middles) if key in found)
    assert set(found) == {1, 2}, "both are there after it"
    assert len(tracker.boxes) == 2 and (tracker.boxes[:, 2:] > tracker.boxes[:, :2]).all()
    tracker.close()


def test_the_chosen_person_is_found_again_after_a_cut(actor):
    tracker = PeopleTracker(PersonChoice.parse("0.2,0.5"), parts=False)
    shots = [[(380, 60)] * 3, [(40, 400)] * 2]  # the red person is at the left, and then at the right
    pictures = [
        (placed(actor, 0, xs), number > 0 and i == 0) for number, shot in enumerate(shots) for i, xs in enumerate(shot)
    ]
    answers = list(tracker.follow(pictures))
    half = actor[0][0].shape[1] / 2
    assert [list(people) for people, _ in answers] == [[1]] * 5
    np.testing.assert_allclose([hips(people[1]) for people, _ in answers], [60 + half] * 3 + [400 + half] * 2, atol=25)
    assert tracker.look(np.full((100, 100, 3), 127, np.uint8)) == {}, "nobody is there"
    tracker.close()


def test_several_people_have_labels_in_the_overlay(demo_capture):
    clip, image = demo_capture[0], np.full((800, 600, 3), 127, np.uint8)
    corner = clip.person_box[5, :2].astype(int)
    alone, two = draw_frame(image, clip, 5), draw_people(image, {1: clip, 4: clip}, 5)
    near = slice(max(0, corner[1] - 14), corner[1] + 14), slice(corner[0], corner[0] + 14)
    colours = [(picture[near] == IDENTITY_COLOURS[3]).all(-1).any() for picture in (alone, two)]
    assert colours == [False, True]
