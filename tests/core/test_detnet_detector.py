"""DetNet as a detector: networks that read the answer off a drawn picture or know it, and a real one with random weights."""

import numpy as np
import pytest
import torch
from synthetic_keypoints import keypoints_of

from fullbody_core.camera import camera_matrix, crop_to_camera_rotation, project
from fullbody_core.cli import main
from fullbody_core.contract.skeleton import JOINT_INDEX, SIDES, SMPL_33
from fullbody_core.detect.crops import rectangle_middle, to_crop
from fullbody_core.detect.detnet import PALM_LENGTH, DetNetDetector, DetNetKeypoints, find_weights
from fullbody_core.detect.keypoints import Keypoints
from fullbody_core.detect.mediapipe import PersonFinder
from fullbody_core.ik.rest_skeleton import RestSkeleton, hand_places
from fullbody_core.motion import solve_motion
from fullbody_core.networks.body_keypoints import EXTENDED_BODIES
from fullbody_core.networks.detnet import DetNet, to_tensors
from fullbody_core.networks.detnet_predictor import CROP_SIZE, DetNetPrediction
from fullbody_core.pipeline import (
    CaptureFailure,
    CaptureSettings,
    capture,
    decide_valid,
    estimate_shape,
    make_detector,
    make_solver,
    turn_to_camera,
)
from fullbody_core.synth.demo_clip import demo_motion
from fullbody_core.tensor_shards import write_shards
from fullbody_core.video import VideoWriter, open_video
from fullbody_core.weights import WeightsAbsent, WeightsError

COMPLETE = EXTENDED_BODIES["smpl"].complete
PLACES = np.random.default_rng(0).uniform(0, 1, (len(COMPLETE), 2))
PLACES[:4] = [[0, 0], [1, 1], [0, 1], [1, 0]]  # the points span the box
HAND_PLACES = np.random.default_rng(1).uniform(0, 1, (21, 2))
RED, GREEN, BLUE = range(3)


def blank(count):
    """A `DetNetPrediction` of B crops without anybody, to be filled in."""
    body, hands = (count, len(COMPLETE)), (count, 2, 21)
    return DetNetPrediction(
        body2d=torch.zeros(*body, 2),
        body3d=torch.zeros(*body, 3),
        body_confidence=torch.zeros(body),
        hand2d=torch.zeros(*hands, 2),
        hand3d=torch.zeros(*hands, 3),
        hand_confidence=torch.zeros(hands),
        hand_box=torch.zeros(count, 2, 4),
        hand_found=torch.zeros(count, 2),
        face_box=torch.zeros(count, 4),
        face_found=torch.zeros(count),
    )


def coloured_box(picture, channel):
    """Box [4] px around what is bright in one channel of a picture [H, W, 3], or None."""
    bright = picture[..., channel] > 100
    if not bright.any():
        return None
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


class DrawnPeople:
    """A network for people drawn as a red rectangle, with a green left and a blue right hand, which it finds by their colours."""

    definition = EXTENDED_BODIES["smpl"]

    def __init__(self):
        self.batches = []

    def predict(self, images):
        assert images.dtype == torch.uint8 and tuple(images.shape[1:]) == (1024, 768, 3)
        self.batches.append(len(images))
        answer = blank(len(images))
        for index, crop in enumerate(images.numpy()):
            box = coloured_box(crop, RED)
            if box is None:
                continue
            answer.body2d[index] = torch.tensor(box[:2] + PLACES * (box[2:] - box[:2]))
            answer.body3d[index, :, :2] = torch.tensor(PLACES)
            answer.body_confidence[index] = 0.9
            for side, channel in enumerate((GREEN, BLUE)):
                box = coloured_box(crop, channel)
                if box is not None:
                    answer.hand2d[index, side] = torch.tensor(box[:2] + HAND_PLACES * (box[2:] - box[:2]))
                    answer.hand3d[index, side, :, :2] = torch.tensor(HAND_PLACES)
                    answer.hand_box[index, side] = torch.tensor(box)
                    answer.hand_found[index, side], answer.hand_confidence[index, side] = 0.8, 0.5
        return answer


def draw(box, size=(640, 480), hands=()):
    """A picture of a person; hands: boxes of the left and the right one, or None."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for channel, each in zip((RED, GREEN, BLUE), (box, *hands)):
        if each is not None:
            left, top, right, bottom = np.clip(np.round(each).astype(int), 0, [*size, *size])
            image[top:bottom, left:right, channel] = 255
    return image


def find_drawn(image):
    return coloured_box(image, RED)


def keypoints_in(images, batch=1):
    """(`Keypoints` of all frames, the network)."""
    network = DrawnPeople()
    return Keypoints.stack(list(DetNetKeypoints(network, find_drawn, batch).find_all(iter(images)))), network


# Where the answers lie.


@pytest.mark.parametrize(
    "box, size",
    [
        ((200, 80, 320, 420), (640, 480)),
        ((4, 6, 16, 38), (40, 48)),
        ((500, 300, 1500, 2000), (4000, 2200)),
        ((0, 100, 90, 480), (640, 480)),
        ((100, 200, 600, 300), (640, 480)),
    ],
    ids=["usual", "tiny picture", "large picture", "at the edge", "lying"],
)
def test_points_lie_on_the_person(box, size):
    box = np.array(box, float)
    found, _ = keypoints_in([draw(box, size)])
    expected = box[:2] + PLACES * (box[2:] - box[:2])
    places = [COMPLETE.index(name) for name in SMPL_33.names]
    np.testing.assert_allclose(found.body2d[0], expected[places], atol=0.012 * (box[2:] - box[:2]).max())
    np.testing.assert_allclose(found.body3d[0, :, :2], PLACES[places], atol=1e-6)
    assert found.definition is SMPL_33 and found.face3d.shape == (1, 0, 3) and found.face_confidence == 0
    margin = 0.05 * (box[2:] - box[:2])
    around = np.concatenate([np.maximum(box[:2] - margin, 0), np.minimum(box[2:] + margin, size)])
    np.testing.assert_allclose(found.person_box[0], around, atol=0.02 * (box[2:] - box[:2]).max())
    np.testing.assert_allclose(found.body_centre[0], (box[:2] + box[2:]) / 2, atol=1)


@pytest.mark.parametrize("kind", ["grey", "grey with an axis", "RGBA"])
def test_pictures_of_other_kinds(kind):
    image = draw((200, 80, 320, 420))
    grey = image[..., 0]
    image = {"grey": grey, "grey with an axis": grey[..., None], "RGBA": np.dstack([image, np.full_like(grey, 255)])}[kind]
    finder = lambda image: coloured_box(image.reshape(*image.shape[:2], -1), RED)  # noqa: E731
    found = DetNetKeypoints(DrawnPeople(), finder, 1).find([image])[0]
    assert (found.body_confidence > 0.5).all()
    np.testing.assert_allclose(found.person_box, [194, 63, 326, 437], atol=3)


HANDS = (np.array([290.0, 200, 330, 250]), np.array([190.0, 200, 230, 250]))


def at_wrists(image_boxes):
    """Bodies whose wrists are where the hands are: the drawn ones' may lie anywhere."""
    network = DrawnPeople()
    predict = network.predict

    def attached(images):
        answer = predict(images)
        for side, name in enumerate(SIDES):
            answer.body2d[:, COMPLETE.index(f"{name}_wrist")] = answer.hand2d[:, side, 0]
        return answer

    network.predict = attached
    return DetNetKeypoints(network, find_drawn, 1).find([draw((200, 80, 320, 420), hands=image_boxes)])[0]


def test_left_is_green_and_right_is_blue():
    found = at_wrists(HANDS)
    for side, box in enumerate(HANDS):
        np.testing.assert_allclose(found.hand2d[side], box[:2] + HAND_PLACES * (box[2:] - box[:2]), atol=1)
        np.testing.assert_allclose(found.hand_centre[side], (box[:2] + box[2:]) / 2, atol=1)
        np.testing.assert_allclose(found.hand3d[side, :, :2], PALM_LENGTH * HAND_PLACES, atol=1e-6)
    np.testing.assert_allclose(found.hand_confidence, 0.8 * 0.5, atol=1e-6)


@pytest.mark.parametrize("side", [0, 1], ids=SIDES)
def test_a_hand_that_is_not_there_is_zero_and_changes_nothing_else(side):
    both, hands = at_wrists(HANDS), list(HANDS)
    hands[side] = None
    found = at_wrists(hands)
    assert found.hand_confidence[side] == 0 and not found.hand2d[side].any() and not found.hand3d[side].any()
    np.testing.assert_array_equal(found.hand2d[1 - side], both.hand2d[1 - side])
    assert found.hand_confidence[1 - side] > 0


def told(**changes):
    """Keypoints of a drawn person with two hands at its wrists, of which the network says something else."""
    network = DrawnPeople()
    predict = network.predict

    def changed(images):
        answer = predict(images)
        for side, name in enumerate(SIDES):
            answer.body2d[:, COMPLETE.index(f"{name}_wrist")] = answer.hand2d[:, side, 0]
        for name, change in changes.items():
            change(getattr(answer, name))
        return answer

    network.predict = changed
    return DetNetKeypoints(network, find_drawn, 1).find([draw((200, 80, 320, 420), hands=HANDS)])[0]


def test_a_hand_outside_the_picture_or_far_from_its_wrist_is_not_found():
    def away(boxes):
        boxes[:, 0] += torch.tensor([-3000.0, 0, -3000, 0])

    assert (told().hand_confidence > 0).all()
    assert list(told(hand_box=away).hand_confidence > 0) == [False, True]

    def elsewhere(points):
        points[:, 1] += 500

    assert list(told(hand2d=elsewhere).hand_confidence > 0) == [True, False]

    def unsure(found):
        found[:, 0] = 0.3

    assert list(told(hand_found=unsure).hand_confidence > 0) == [False, True]

    def no_size(boxes):
        boxes[:, 1] = 0

    assert told(hand_box=no_size).hand_confidence[1] == 0


def test_points_outside_the_picture_are_doubted():
    def outside(points):
        points[:, COMPLETE.index("left_ankle")] = torch.tensor([-5000.0, 0])

    found = told(body2d=outside)
    assert found.body_confidence[SMPL_33.index("left_ankle")] <= 0.25
    assert (np.delete(found.body_confidence, SMPL_33.index("left_ankle")) > 0.5).all()


def test_answers_that_are_not_finite_are_not_found():
    def broken(points):
        points[:, COMPLETE.index("left_knee")] = float("nan")

    found = told(body3d=broken).without_broken_points()
    assert found.body_confidence[SMPL_33.index("left_knee")] == 0 and (found.body_confidence > 0.5).sum() == 32


# A frame at a time, and many.


def sequences():
    start, share = np.array([100.0, 80, 220, 420]), np.linspace(0, 1, 40)[:, None]
    jump = np.where(share < 0.5, 0.0, 350) * [1, 0, 1, 0]
    gone = [
        None if 15 <= frame < 20 else start + (200 if frame >= 20 else 0) * np.array([1, 0, 1, 0]) for frame in range(40)
    ]
    return {
        "still": [start] * 40,
        "walks by": list(start + share * [350, 0, 350, 0]),
        "runs": list(start + 60 * share * [40, 0, 40, 0] % [330, 1, 330, 1]),
        "jumps": list(start + jump),
        "comes nearer": list(start + share * [-80, -60, 120, 50]),
        "leaves and comes back": gone,
        "nobody": [None] * 5,
        "one frame": [start],
    }


@pytest.mark.parametrize("name", sequences())
@pytest.mark.parametrize("batch", [4, 16])
def test_frames_tried_together_give_what_one_by_one_gives(name, batch):
    """Exactly: this network, unlike a convolution's sums, does not know how many pictures it is given."""
    images = [draw(box) for box in sequences()[name]]
    single, alone = keypoints_in(images)
    together, network = keypoints_in(images, batch)
    for one, many in zip(single.arrays(), together.arrays()):
        np.testing.assert_array_equal(one, many)
    assert len(together.body2d) == len(images)
    assert set(alone.batches) <= {1} and all(size in (1, 2, 4, 8, 16) for size in network.batches)
    seen = sum(box is not None for box in sequences()[name])
    assert sum(network.batches) <= 3 * seen + batch, "little is done twice"
    if name == "still":
        assert sum(network.batches) == len(images) and len(network.batches) <= len(images) / batch + 4


def test_a_moving_person_moves_the_rectangle():
    """Else the comparison above would say nothing."""
    for name, least in (("walks by", 3), ("runs", 8), ("jumps", 1), ("comes nearer", 1), ("still", 0)):
        centres = keypoints_in([draw(box) for box in sequences()[name]])[0].body_centre
        changes = (np.diff(centres, axis=0) != 0).any(1).sum()
        assert changes >= least and (changes == 0) == (name == "still"), name


def test_somebody_who_comes_back_is_found_again():
    found, _ = keypoints_in([draw(box) for box in sequences()["leaves and comes back"]], 16)
    seen = found.body_confidence.any(1)
    assert seen[:15].all() and not seen[15:20].any() and seen[20:].all()
    np.testing.assert_allclose(found.person_box[20, 0] - found.person_box[0, 0], 200, atol=2)


def test_frames_are_given_back_before_the_video_ends():
    """No more frames are waited for than one batch, and an error in the video comes out where it is."""
    taken = []

    def video():
        for frame in range(8):
            taken.append(frame)
            yield draw((200, 80, 320, 420))
        raise RuntimeError("the video broke")

    frames = DetNetKeypoints(DrawnPeople(), find_drawn, 4).find_all(video())
    next(frames)
    assert len(taken) == 4
    with pytest.raises(RuntimeError, match="the video broke"):
        list(frames)


# The whole path, with a network that knows the truth.


class Truth:
    """Knows a motion's exact keypoints; the picture's grey is the frame's number. `keypoints`: the `DetNetKeypoints` it serves."""

    definition = EXTENDED_BODIES["smpl"]

    def __init__(self, skeleton, rotations, pelvis, matrix):
        exact = keypoints_of(skeleton, rotations, SMPL_33)
        posed = skeleton.pose(rotations)
        hands = np.stack([skeleton.place(hand_places(side), *posed) for side in SIDES], 1)
        self.matrix = matrix
        self.body3d, self.body2d = exact.body3d, project(exact.body3d + pelvis[:, None], matrix)
        self.hand3d, self.hand2d = hands, project(hands + pelvis[:, None, None], matrix)

    def predict(self, images):
        frames, rectangle = images[:, 512, 384, 0].numpy(), self.keypoints.tracker.rectangle
        answer, order = blank(len(images)), [SMPL_33.names.index(name) for name in COMPLETE]
        answer.body2d[:] = torch.tensor(to_crop(self.body2d[frames][:, order], rectangle, CROP_SIZE))
        turn = crop_to_camera_rotation(rectangle_middle(rectangle), self.matrix)
        answer.body3d[:] = torch.tensor(self.body3d[frames][:, order] @ turn)
        hand2d = self.hand2d[frames]
        low, high = hand2d.min(2), hand2d.max(2)
        turns = crop_to_camera_rotation((low + high) / 2, self.matrix)  # [B, 2, 3, 3]
        hand3d = self.hand3d[frames]
        unit = np.linalg.norm(hand3d[:, :, [9]] - hand3d[:, :, [0]], axis=-1, keepdims=True)
        answer.hand3d[:] = torch.tensor((hand3d - hand3d[:, :, [9]]) / unit @ turns)
        answer.hand2d[:] = torch.tensor(to_crop(hand2d, rectangle, CROP_SIZE))
        box = to_crop(np.stack([low, high], 2), rectangle, CROP_SIZE)
        answer.hand_box[:] = torch.tensor(box.reshape(-1, 2, 4))
        for item in (answer.body_confidence, answer.hand_confidence, answer.hand_found):
            item[:] = 1
        return answer


@pytest.mark.parametrize("solver_name", ["iknet", "analytic"])
def test_exact_answers_become_the_exact_motion(body, solver_name):
    from fullbody_core.contract.frames import axis_angle_to_matrix

    clip = demo_motion(body)
    rotations = axis_angle_to_matrix(clip.poses.reshape(clip.frame_count, -1, 3))
    rotations[:, 0] = np.swapaxes(clip.camera_to_world[:, :3, :3], 1, 2) @ rotations[:, 0]
    size, frames = (1280, 720), clip.frame_count
    skeleton = RestSkeleton.of_body(body, np.zeros(16))
    matrix = camera_matrix(size)
    pelvis = np.column_stack([np.linspace(-1, 1, frames), np.zeros(frames), np.full(frames, 4.0)])
    network = Truth(skeleton, rotations, pelvis, matrix)
    first = network.body2d[0]
    finder = lambda image: np.concatenate([first.min(0), first.max(0)])  # noqa: E731
    network.keypoints = DetNetKeypoints(network, finder, 16)
    images = (np.full((size[1], size[0], 3), frame, np.uint8) for frame in range(frames))
    seen = Keypoints.stack(list(network.keypoints.find_all(images))).without_broken_points()
    assert len(np.unique(seen.body_centre, axis=0)) > 3, "the rectangle follows"
    np.testing.assert_allclose(seen.body2d, network.body2d, atol=1e-3)

    valid = decide_valid(seen)
    betas, keypoints = estimate_shape(turn_to_camera(seen, matrix), body)
    motion = solve_motion(
        keypoints, RestSkeleton.of_body(body, betas), matrix, valid, make_solver(solver_name, body, SMPL_33)[0]
    )
    assert motion.valid[:, :3].all() and not motion.valid[:, 3].any()
    errors = 1000 * np.linalg.norm(motion.skeleton.pose(motion.rotations)[0] - skeleton.pose(rotations)[0], axis=-1)
    print(f"{solver_name}: MPJPE {errors[:, :22].mean():.1f} mm, hands {errors[:, 22:].mean():.1f} mm")
    assert errors[:, :22].mean() < 20
    wrist = motion.skeleton.pose(motion.rotations)[0][:, [JOINT_INDEX[f"{side}_wrist"] for side in SIDES]]
    true = skeleton.pose(rotations)[0][:, [JOINT_INDEX[f"{side}_wrist"] for side in SIDES]]
    assert np.linalg.norm(wrist - true, axis=-1).mean() < np.linalg.norm(wrist - true[:, ::-1], axis=-1).mean() / 5


# The real network, with random weights: it understands nothing, and everything must hold.


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    return write_shards(tmp_path_factory.mktemp("run"), "detnet_tiny", *to_tensors(DetNet("tiny")))


@pytest.fixture(scope="module")
def pictures(demo_video):
    return [image for _, image in open_video(demo_video).frames()][:6]


def test_a_network_without_a_clue_gives_whole_answers(weights, pictures):
    detector = make_detector(CaptureSettings(detector="detnet", detector_weights=tuple(map(str, weights))))
    assert (detector.name, detector.definition) == ("detnet", SMPL_33)
    assert {path.name for path in weights} < set(detector.models) and all(
        len(hash) == 64 for hash in detector.models.values()
    )
    found = Keypoints.stack(list(detector.detect_frames(iter(pictures))))
    detector.close()
    for values in found.without_broken_points().arrays():
        assert np.isfinite(values).all() and len(values) == len(pictures)
    assert ((found.body_confidence >= 0) & (found.body_confidence <= 1)).all()
    assert not found.hand2d[found.hand_confidence == 0].any()


def test_a_batch_is_its_frames_but_for_rounding(weights, pictures):
    """A convolution's sums depend on the batch in their last digits. The rectangle is held, so that no decision hangs on them."""
    answers = []
    for batch in (1, 4):
        detector = DetNetDetector(weights, device="cpu", batch=batch)
        reader = detector._keypoints
        reader.tracker.follow = lambda points, confidence: True  # stays, whatever it sees
        answers.append(Keypoints.stack(list(detector.detect_frames(iter(pictures[:4])))))
        detector.close()
    single, together = answers
    np.testing.assert_array_equal(single.body_centre, together.body_centre)
    np.testing.assert_allclose(together.body_confidence, single.body_confidence, atol=1e-4)
    np.testing.assert_allclose(together.body2d, single.body2d, atol=0.05)
    np.testing.assert_allclose(together.body3d, single.body3d, atol=1e-3)


def test_a_capture_with_a_network_without_a_clue_ends_in_a_sentence_or_a_clip(weights, pictures, tmp_path):
    path = tmp_path / "short.mp4"
    with VideoWriter(path, pictures[0].shape[1::-1], 24) as writer:
        for frame, image in enumerate(pictures[:3]):
            writer.write(frame / 24, image)
    settings = CaptureSettings(detector="detnet", detector_weights=(str(weights[0].parent),))
    try:
        clip, _ = capture(path, settings)
    except CaptureFailure as error:
        assert "Nobody was found" in str(error)
    else:
        assert clip.meta["detector"] == {"name": "detnet", "keypoints": "smpl_33"}


# Which weights.


def test_weights_are_named_by_files_by_one_of_them_or_by_their_folder(weights, tmp_path):
    several = write_shards(tmp_path, "detnet_small", {f"part{n}": torch.zeros(100) for n in range(3)}, {}, limit=500)
    write_shards(tmp_path, "checkpoint-100", {"state": torch.zeros(10)}, {})
    assert len(several) == 3
    assert find_weights(map(str, several)) == several
    assert find_weights([several[1]]) == several
    assert find_weights([tmp_path]) == several
    assert find_weights(weights) == weights


def test_weights_that_are_not_there_are_told_in_one_sentence(tmp_path, capsys, demo_video):
    with pytest.raises(WeightsError, match="no weights at"):
        find_weights([tmp_path / "absent.safetensors"])
    with pytest.raises(WeightsError, match="There are 0 DetNets"):
        find_weights([tmp_path])
    text = tmp_path / "text.safetensors"
    text.write_text("not weights")
    for arguments, says in (
        (["--detector", "detnet", "--detector-weights", str(text)], "text.safetensors"),
        (["--detector-weights", str(text)], "add --detector detnet"),
    ):
        assert main(["capture", str(demo_video), "-o", str(tmp_path / "clip.npz"), *arguments]) == 2
        message = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fullbody: ")]
        assert len(message) == 1 and says in message[0]
    assert not (tmp_path / "clip.npz").exists()


def test_without_shipped_weights_the_sentence_says_what_to_do(tmp_path, monkeypatch):
    from fullbody_core import weights as shipped

    (tmp_path / shipped.MANIFEST_NAME).write_text('{"version": 1, "entries": []}')
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "fullbody_core" / "weights.py"))
    with pytest.raises(WeightsAbsent, match="fullbody train detnet.*--detector mediapipe"):
        make_detector(CaptureSettings(detector="detnet"))


def test_a_detector_that_does_not_exist():
    with pytest.raises(ValueError, match="auto, mediapipe, detnet"):
        make_detector(CaptureSettings(detector="openpose"))


# Where the first rectangle comes from.


def test_the_finder_finds_the_person_in_any_order_of_pictures(pictures):
    finder = PersonFinder()
    height, width = pictures[0].shape[:2]
    forwards = [finder.find(image) for image in pictures[:3]]
    assert finder.find(np.full((200, 300, 3), 127, np.uint8)) is None
    backwards = [finder.find(image) for image in pictures[2::-1]][::-1]
    finder.close()
    np.testing.assert_array_equal(forwards, backwards)
    for box in forwards:
        assert (box >= 0).all() and (box <= [width, height, width, height]).all()
        assert box[3] - box[1] > 0.3 * height
