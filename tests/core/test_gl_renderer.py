"""The OpenGL renderer against the ray-caster, against itself at other scales, and against the labels of what it draws."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from synthetic_people import made_up_motion

from fullbody_core.body.lbs import BodyModel
from fullbody_core.networks.body_keypoints import EXTENDED_BODIES
from fullbody_core.networks.detnet_samples import HAND_SIZE, IMAGE_SIZE
from fullbody_core.networks.heat_maps import hand_windows
from fullbody_core.synth.gl_renderer import RendererError
from fullbody_core.synth.people_samples import PeopleSampler, label, load_pictures, samples_per_second
from fullbody_core.synth.render import Light, render
from fullbody_core.synth.shaders import FIELDS, OCCLUDERS, SHAPES

NAMES = EXTENDED_BODIES["smpl"].complete
ON_THE_BODY = [
    NAMES.index(name) for name in NAMES if name.endswith(("elbow", "knee", "ankle", "hip", "spine2", "neck", "pelvis"))
]


@pytest.fixture(scope="module")
def motions():
    return [made_up_motion()]


@pytest.fixture(scope="module")
def sampler(body, motions):
    return PeopleSampler(body, motions)


def plainly(sampler, people, boxes, **changes):
    """Blocks of a naked white body in even light before black, photographed without fault; `changes` by field."""
    blocks = sampler.look(np.random.default_rng(0), people, boxes)
    white, black, outside = [1, 1, 1, 0], [0, 0, 0, 0], [-9999, -9999, 0, 1]
    names = "lamp lamp_colour fill_colour gloves coat top legs folds scalp beard skirt mane"
    names += " wall_one wall_two wall picture blur_0 blur_1 blur_2"
    plain = dict.fromkeys(names.split(), black)
    plain |= {name: [0.9, 0.9, 0.9, 0] for name in ("sky", "ground", "skin", "iris", "hair")}
    plain |= {"top_cut": [0, 9, 0, 0], "legs_cut": [9, -9, 0, 0], "coat_cut": [0, 9, 0, 0], "shoes": [0, 0, 0, -9]}
    plain |= {"balance": white, "exposure": [1, 0, 1, 1], "grain": [0, 0, 1, 0]}
    plain |= {"floor_line": [9999, 0, 1, 0], "frame": [-9999, -9999, 9999, 9999]}
    for name in [f"shape{number}" for number in range(SHAPES)] + [f"occluder{number}" for number in range(OCCLUDERS)]:
        plain |= {name: outside, f"{name}_axes": [1, 0, 0, 1]}
    for name, value in (plain | changes).items():
        blocks[:, FIELDS.index(name)] = value
    return blocks


def draw_plainly(sampler, people, boxes, **changes):
    blocks = plainly(sampler, people, boxes, **changes)
    return sampler.renderer.draw(lambda part: sampler.pose(people, part), blocks, boxes)


@pytest.fixture(scope="module")
def people(sampler):
    return sampler.maker.draw(np.random.default_rng(4), 16)


def test_silhouettes_are_those_of_the_ray_caster(body, sampler, people):
    boxes = np.zeros((len(people), 2, 3))
    images, _ = draw_plainly(sampler, people, boxes)
    width, height = IMAGE_SIZE
    even = Light(np.array([0.0, 0, -1]), np.array([0.0, -1, 0]), np.zeros(3), np.ones(3), np.ones(3))
    for person in range(6):
        vertices = whole_surface(body, people, person)
        if vertices[:, 2].min() < 0.15:
            continue
        black = np.zeros((height, width, 3), np.uint8)
        mask = render(vertices, body.f, np.ones_like(vertices), people.matrix[person], black, even)[1] > 0.4
        drawn = images[person].min(-1) > 0.4 * 255 * 0.9
        assert (mask & drawn).sum() / (mask | drawn).sum() > 0.98


def whole_surface(body, people, person):
    betas, rotations = (
        torch.as_tensor(array[person : person + 1], dtype=torch.float32) for array in (people.betas, people.rotations)
    )
    vertices, joints = BodyModel(body)(betas, rotations, torch.zeros(1, 3))
    return (vertices - joints[:, :1])[0].numpy() + people.pelvis[person]


def test_keypoints_lie_on_the_body(sampler, people):
    images, _ = draw_plainly(sampler, people, np.zeros((len(people), 2, 3)))
    places = label(people).body2d[:, ON_THE_BODY]
    inside = ((places >= 0) & (places < IMAGE_SIZE)).all(-1)
    person, keypoint = np.nonzero(inside)
    columns, rows = places[person, keypoint].astype(int).T
    assert (images[person, rows, columns].max(-1) > 60).mean() > 0.98


def test_a_hand_image_shows_its_square_of_the_same_scene(sampler, people):
    """The same scene in one large square and in small ones: averaged down, the small are parts of the large."""
    large = np.tile(np.array([0.0, 8, 48]), (len(people), 2, 1))
    small = np.stack(
        [np.tile(np.array([12.0, 20, 12]), (len(people), 1)), np.tile(np.array([24.0, 32, 12]), (len(people), 1))], 1
    )
    light = {
        "lamp": [0.5, -0.5, -0.7, 0],
        "lamp_colour": [0.7, 0.6, 0.5, 0],
        "skin": [0.5, 0.3, 0.2, 0],
        "sky": [0.2, 0.2, 0.3, 0],
    }
    light |= {"wall_one": [0.2, 0.4, 0.1, 0], "wall_two": [0.2, 0.4, 0.1, 0]}
    images, wholes = draw_plainly(sampler, people, large, **light)
    _, parts = draw_plainly(sampler, people, small, **light)
    for hand, (left, top) in enumerate(((12, 12), (24, 24))):
        scale = HAND_SIZE / 48
        window = wholes[:, hand, int(top * scale) : int((top + 12) * scale), int(left * scale) : int((left + 12) * scale)]
        reduced = parts[:, hand].reshape(len(people), 32, 4, 32, 4, 3).mean((2, 4))
        assert np.abs(window - reduced).mean() < 2
        assert window.std() > 10
    # And the large square is a part of I.
    for image, whole in zip(images, wholes[:, 0]):
        reduced = cv2.resize(image[32:224], (HAND_SIZE, HAND_SIZE), interpolation=cv2.INTER_AREA)
        assert np.abs(reduced.astype(float) - whole).mean() < 2.5


def test_the_same_seed_gives_the_same_pixels(sampler, body, motions):
    one, same, other = sampler.draw(10, 5), sampler.draw(10, 5), sampler.draw(10, 6)
    assert (one.image == same.image).all() and (one.hand_images == same.hand_images).all()
    assert (one.image != other.image).mean() > 0.5
    # However many people are drawn at once; rounding may differ in a few places.
    alone = PeopleSampler(body, motions, columns=1, rows=1)
    again = alone.draw(10, 5)
    assert (np.abs(one.image.astype(int) - again.image) > 8).mean() < 0.01
    assert (np.abs(one.hand_images.astype(int) - again.hand_images) > 8).mean() < 0.01
    np.testing.assert_array_equal(one.body3d, again.body3d)


def test_another_thread_draws_the_same(sampler, body, motions):
    """Of a sampler that has drawn already, and of one that has not."""
    expected = sampler.draw(3, 2).image
    with ThreadPoolExecutor(1) as threads:
        for each in (sampler, PeopleSampler(body, motions)):
            assert (threads.submit(each.draw, 3, 2).result().image == expected).all()
            assert (each.draw(3, 2).image == expected).all()


def test_samples_are_complete(sampler):
    samples = sampler.draw(24, 1)
    assert samples.image.shape == (24, 256, 192, 3) and samples.hand_images.shape == (24, 2, 128, 128, 3)
    assert samples.image.dtype == np.uint8 and samples.image.std((1, 2, 3)).min() > 3
    there = samples.hand_boxes[..., 2] > 0
    assert 0.5 < there.mean() < 1
    assert (samples.hand_images[~there] == 0).all()
    assert samples.hand_images[there].reshape(there.sum(), -1).std(1).mean() > 15
    assert np.isfinite(samples.hand3d).all() and np.abs(samples.hand3d).max() < 0.35


def test_the_left_hand_image_shows_the_left_hand(sampler, people):
    """With the right half of the body, x < 0 at rest, taken away."""
    samples = label(people)
    boxes = hand_windows(samples.hand2d)
    together = np.linalg.norm(samples.hand2d[:, 0].mean(1) - samples.hand2d[:, 1].mean(1), axis=-1) < 60
    mesh_sides = sampler.mesh.traits[:, 0] > 0
    keep = np.flatnonzero(~together & (boxes[..., 2] > 0).all(-1))
    assert len(keep) >= 2
    blocks = plainly(sampler, people, boxes)

    def without_right_half(part):
        surfaces = sampler.pose(people, part).copy()
        surfaces[:, ~mesh_sides, :3] = [0, 0, 50]  # behind the far plane
        return surfaces

    _, hands = sampler.renderer.draw(without_right_half, blocks, boxes)
    bright = (hands.min(-1) > 60).mean((-1, -2))
    assert (bright[keep, 0] > 0.05).all()
    assert (bright[keep, 0] > bright[keep, 1]).mean() > 0.8


def test_a_custom_search_of_hands_is_asked(body, motions):
    asked = []

    def search(hand2d):
        asked.append(hand2d.shape)
        return np.tile(np.array([4.0, 5, 10], np.float32), (len(hand2d), 2, 1))

    samples = PeopleSampler(body, motions, hand_boxes=search, jitter=0, columns=1, rows=1).draw(2, 0)
    assert asked == [(2, 2, 21, 2)]
    np.testing.assert_allclose(samples.hand_boxes, [[[4, 5, 10]] * 2] * 2, atol=1e-5)


def test_pictures_of_a_folder_stand_behind_the_people(body, motions, tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((40, 60, 3), (0, 0, 255), np.uint8))
    assert load_pictures(tmp_path).shape[1:] == (256, 256, 3)
    assert (load_pictures(tmp_path)[0, 5, 5] == [255, 0, 0]).all()
    with_red = PeopleSampler(body, motions, backgrounds=tmp_path).draw(16, 0)
    corner = with_red.image[:, 40:216, 5:10].reshape(16, -1, 3).astype(int)
    red = (corner[..., 0] > 2 * corner[..., 1] + 60) & (corner[..., 0] > 2 * corner[..., 2] + 60)
    assert (red.mean(1) > 0.4).sum() >= 3
    with pytest.raises(RendererError, match="holds no pictures"):
        load_pictures(tmp_path / "nothing")


def test_the_rate_is_measured(sampler):
    assert samples_per_second(sampler, seconds=0.1, batch=2) > 0.5


def test_without_egl_one_sentence_says_what_to_do():
    code = "from fullbody_core.synth.gl_renderer import open_context\nopen_context()"
    environment = os.environ | {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere.json", "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ended.returncode != 0
    last = ended.stderr.strip().splitlines()[-1]
    assert "RendererError" in last and "libegl1" in last


def test_any_number_of_people_is_drawn(sampler):
    assert sampler.renderer.capacity == 8
    assert len(sampler.draw(9, 0)) == 9 and len(sampler.draw(1, 0)) == 1
