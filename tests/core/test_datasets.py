"""Readers of public datasets: tiny ones in the published layouts, drawn here, have to come back with every dot in its place.

The indices of keypoints are written out from the datasets' own documentation and not taken from the readers' tables.
"""

import json
import re

import av
import cv2
import numpy as np
import pytest
import scipy.io
from synthetic_pictures import BLUE, CYAN, GREEN, MAGENTA, RED, YELLOW, dotted, find_dot

from fullbody_core.body.smplh_file import BodyModelFile
from fullbody_core.camera import project, rays
from fullbody_core.contract.frames import axis_angle_to_matrix
from fullbody_core.contract.skeleton import HAND_21, JOINT_NAMES
from fullbody_core.detect.crops import as_rgb, crop_rectangle, cut, from_crop, to_crop
from fullbody_core.networks.body_keypoints import BASIC_BODY
from fullbody_core.networks.detnet_samples import CELL, DetNetSamples, image_to_hand
from fullbody_core.train.datasets import READERS, DatasetError, open_dataset
from fullbody_core.train.datasets.cropping import Hand, Jitter, Person, visible_box
from fullbody_core.train.datasets.pictures import read_picture, read_video_picture

LEFT_WRIST, RIGHT_WRIST, RIGHT_ANKLE = (BASIC_BODY.index(name) for name in ("left_wrist", "right_wrist", "right_ankle"))
MARKED = {LEFT_WRIST: RED, RIGHT_WRIST: GREEN, RIGHT_ANKLE: BLUE}
THUMB_TIP, INDEX_TIP = HAND_21.index("thumb_tip"), HAND_21.index("index_tip")
HAND_MARKED = {(0, THUMB_TIP): YELLOW, (1, INDEX_TIP): MAGENTA, (0, INDEX_TIP): CYAN}

MATRIX = np.array([[900.0, 0, 320], [0, 905, 250], [0, 0, 1]])
"""Of a camera whose pictures are 640 x 520."""


def write_picture(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    assert cv2.imwrite(str(path), picture[..., ::-1], options if path.suffix == ".jpg" else [])


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_numbers(path, numbers):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, numbers, fmt="%.9f")


def write_video(path, pictures):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = pictures[0].shape[1::-1]
        stream.bit_rate, stream.gop_size = 8_000_000, 12
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))


def body_points(count, seed=0):
    """Points [count, 3] m before MATRIX's camera, well apart in the picture, off its middle."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(7)), -1).reshape(-1, 2)[rng.permutation(35)[:count]]
    flat = (grid - [2, 3]) * [0.17, 0.24] + rng.uniform(-0.03, 0.03, (count, 2))
    return np.concatenate([flat + [0.45, 0.1], 4 + rng.uniform(-0.4, 0.4, (count, 1))], -1)


def hand_points(seed=0, middle=(0.02, -0.05, 0.55), spread=0.02):
    """A hand's points [21, 3] m, well apart in the picture."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(5)), -1).reshape(-1, 2)[rng.permutation(25)[:21]]
    flat = (grid - 2.0) * spread
    return np.concatenate([flat, rng.uniform(-1, 1, (21, 1)) * spread], -1) + middle


def body_picture(pixels, marks, size=(640, 520), radius=7):
    """marks: {index into the dataset's own points: colour}."""
    return dotted(size, {index: (pixels[index], colour) for index, colour in marks.items()}.values(), radius)


# Each builder writes a dataset of at least one sample to a folder. It returns the truth in the picture's camera: points by
# DetNet's index, in metres, where there is 3D.


def build_coco(root, split="train", whole_body=True):
    points = project(body_points(17), MATRIX)
    hands = [np.array([470.0, 300]) + 9 * hand_points(1, (0, 0, 0), 1)[:, :2], None]
    hands[1] = np.array([330.0, 330]) + 9 * hand_points(2, (0, 0, 0), 1)[:, :2]
    dots = [(points[9], RED), (points[10], GREEN), (points[16], BLUE)]
    dots += [(hands[0][4], YELLOW), (hands[0][8], CYAN), (hands[1][8], MAGENTA)]
    write_picture(root / f"{split}2017" / "000000000009.jpg", dotted((640, 520), dots, 4))

    def listed(places):
        return (
            np.concatenate([places - 0.5, np.full((len(places), 1), 2)], 1).ravel().tolist()
        )  # the first pixel counts as 0

    low, high = points.min(0), points.max(0)
    item = {
        "image_id": 9, "iscrowd": 0, "num_keypoints": 17, "keypoints": listed(points),
        "bbox": [*low.tolist(), *(high - low).tolist()],
    }  # fmt: skip
    crowd, tiny = item | {"iscrowd": 1}, item | {"bbox": [0, 0, 20, 20]}
    if whole_body:
        item |= {"lefthand_valid": True, "lefthand_kpts": listed(hands[0]), "face_valid": True}
        item |= {
            "righthand_valid": True,
            "righthand_kpts": listed(hands[1]),
            "face_kpts": listed(np.tile(points[0], (68, 1))),
        }
    name = f"coco_wholebody_{split}_v1.0.json" if whole_body else f"person_keypoints_{split}2017.json"
    images = [{"id": 9, "file_name": "000000000009.jpg"}]
    write_json(root / "annotations" / name, {"images": images, "annotations": [crowd, tiny, item]})


def build_mpii(root):
    points = project(body_points(16), MATRIX)
    write_picture(root / "images" / "015601864.jpg", body_picture(points, {15: RED, 10: GREEN, 0: BLUE}))
    fields = [("x", "O"), ("y", "O"), ("id", "O"), ("is_visible", "O")]
    annotated = np.array([(x + 0.5, y + 0.5, k, 1) for k, (x, y) in enumerate(points)], fields)  # MATLAB counts from 1
    head = {"x1": points[:, 0].min(), "y1": points[:, 1].min(), "x2": points[8, 0], "y2": points[8, 1], "scale": 2.0}
    rectangles = np.array(
        [({"point": annotated}, *head.values()), (np.zeros((0, 0)), *head.values())],
        [("annopoints", "O"), *((name, "O") for name in head)],
    )
    pictures = np.array(
        [({"name": "absent.jpg"}, rectangles), ({"name": "015601864.jpg"}, rectangles)], [("image", "O"), ("annorect", "O")]
    )
    content = {"RELEASE": {"annolist": pictures, "img_train": np.array([0, 1])}}
    scipy.io.savemat(root / "mpii_human_pose_v1_u12_1.mat", content)


def build_human36m(root):
    points = body_points(17)
    rotation, centre = axis_angle_to_matrix([1.5, 0.3, -0.2]), np.array([700.0, -300, 1500])
    world = (points * 1000) @ rotation + centre
    folder = "s_01_act_02_subact_01_ca_03"
    pixels = project(points, MATRIX)
    write_picture(root / "images" / folder / f"{folder}_000001.jpg", body_picture(pixels, {13: RED, 16: GREEN, 3: BLUE}))
    camera = {"R": rotation.tolist(), "t": centre.tolist(), "f": [900.0, 905.0], "c": [320.0, 250.0]}
    write_json(root / "annotations" / "Human36M_subject1_camera.json", {"3": camera})
    frames = {"0": world.tolist(), "1": world.tolist()}
    write_json(root / "annotations" / "Human36M_subject1_joint_3d.json", {"2": {"1": frames}})
    return {LEFT_WRIST: points[13], RIGHT_WRIST: points[16], RIGHT_ANKLE: points[3], 0: points[0]}


def build_mpi_inf_3dhp(root):
    points = body_points(28)
    pixels = project(points, MATRIX)
    sequence = root / "S1" / "Seq1"
    picture = body_picture(pixels, {11: RED, 16: GREEN, 25: BLUE})
    write_picture(sequence / "imageFrames" / "video_4" / "frame_000001.jpg", picture)
    cells2, cells3 = (np.empty((14, 1), object) for _ in range(2))
    for camera in range(14):
        cells2[camera, 0], cells3[camera, 0] = np.tile(pixels.ravel(), (3, 1)), np.tile(1000 * points.ravel(), (3, 1))
    scipy.io.savemat(sequence / "annot.mat", {"annot2": cells2, "annot3": cells3})
    return {LEFT_WRIST: points[11], RIGHT_WRIST: points[16], RIGHT_ANKLE: points[25], 0: points[4]}


def build_panoptic(root, video=False):
    points = body_points(19)
    points[[5, 11, 14]] = [[0.2, 0.0, 4.0], [0.9, 0.1, 4.1], [0.6, 0.8, 4.2]]
    hands = [hand_points(1, points[5] + [0, 0.1, 0], 0.025), hand_points(2, points[11] + [0, 0.1, 0], 0.025)]
    rotation, translation = axis_angle_to_matrix([0.2, 2.0, 0.4]), np.array([30.0, -120, 250])
    pixels, hand_pixels = project(points, MATRIX), project(np.stack(hands), MATRIX)
    dots = [(pixels[5], RED), (pixels[11], GREEN), (pixels[14], BLUE)]
    dots += [(hand_pixels[0, 4], YELLOW), (hand_pixels[0, 8], CYAN), (hand_pixels[1, 8], MAGENTA)]
    picture = dotted((640, 520), dots, 4)
    sequence = root / "171204_pose1"
    if video:
        write_video(sequence / "hdVideos" / "hd_00_07.mp4", [np.zeros_like(picture)] * 3 + [picture] * 2)
    else:
        write_picture(sequence / "hdImgs" / "00_07" / "00_07_00000003.jpg", picture)

    def in_world(places):
        return (100 * places - translation) @ rotation

    camera = {
        "name": "00_07", "type": "hd", "resolution": [640, 520], "K": MATRIX.tolist(), "distCoef": [0.0] * 5,
        "R": rotation.tolist(), "t": translation[:, None].tolist(),
    }  # fmt: skip
    away = camera | {"name": "00_08", "t": [[0], [0], [-9000]]}
    calibration = {"cameras": [camera, away, camera | {"type": "vga", "name": "01_01"}]}
    write_json(sequence / "calibration_171204_pose1.json", calibration)
    joints = np.concatenate([in_world(points), np.full((19, 1), 0.7)], 1).ravel().tolist()
    frame = {"bodies": [{"id": 4, "joints19": joints}]}
    write_json(sequence / "hdPose3d_stage1_coco19" / "body3DScene_00000003.json", frame)
    left, right = ({"landmarks": in_world(hand).ravel().tolist(), "averageScore": [0.8] * 21} for hand in hands)
    other = {"id": 1, "left_hand": right}
    people = {"people": [other, {"id": 4, "left_hand": left, "right_hand": right}]}
    write_json(sequence / "hdHand3d" / "handRecon3D_hd00000003.json", people)
    return {LEFT_WRIST: points[5], RIGHT_WRIST: points[11], RIGHT_ANKLE: points[14], 0: points[2]}


def build_humbi(root):
    points, scale = body_points(25), 0.8
    rotation, centre = axis_angle_to_matrix([0.1, -0.9, 3.0]), np.array([1.0, 0.3, -2])
    session = root / "Body_81_140" / "subject_82" / "body"
    picture = body_picture(project(points, MATRIX), {7: RED, 4: GREEN, 11: BLUE})
    write_picture(session / "00000001" / "image" / "image0000024.jpg", picture)
    write_picture(session / "00000001" / "image" / "image0000099.jpg", picture)  # of a camera without calibration

    def rows(numbers):
        return "\n".join(" ".join(f"{number:.9f}" for number in row) for row in np.atleast_2d(numbers))

    heading = "Numcam: 107\nnumframes: 1\nnumP: 1\n"
    (session / "intrinsic.txt").write_text(f"{heading}0 24\n{rows(MATRIX)}\n")
    (session / "extrinsic.txt").write_text(f"{heading}0 24\n{rows(centre)}\n{rows(rotation)}\n")
    reconstruction = session / "00000001" / "reconstruction"
    write_numbers(reconstruction / "keypoints.txt", points @ rotation + centre)
    vertices = np.resize(points, (6890, 3))
    write_numbers(reconstruction / "smpl_vertex.txt", vertices @ rotation + centre)
    write_numbers(reconstruction / "smpl_parameter.txt", np.concatenate([[scale], np.zeros(85)]))
    return {index: points[k] / scale for index, k in {LEFT_WRIST: 7, RIGHT_WRIST: 4, RIGHT_ANKLE: 11, 0: 8}.items()}


def build_freihand(root):
    points = hand_points()
    pixels = project(points, MATRIX * [[0.3], [0.3], [1]])
    picture = dotted((224, 224), [(pixels[4], YELLOW), (pixels[8], MAGENTA)], 3)
    for number in (0, 2):  # the same two poses again
        write_picture(root / "training" / "rgb" / f"{number:08}.jpg", picture)
    write_json(root / "training_xyz.json", [points.tolist(), (points + 1).tolist()])
    write_json(root / "training_K.json", [(MATRIX * [[0.3], [0.3], [1]]).tolist()] * 2)
    return points


def build_stb(root):
    points = hand_points(3, (0.05, 0.02, 0.6))
    stb = 1000 * points[[0, 17, 18, 19, 20, 13, 14, 15, 16, 9, 10, 11, 12, 5, 6, 7, 8, 1, 2, 3, 4]]
    stb[0] = 1000 * (points[0] + points[13]) / 2  # the palm's middle
    stereo = np.array([[822.79041, 0, 318.47345], [0, 822.79041, 250.31296], [0, 0, 1]])
    left, right = project(points, stereo), project(points - [0.120054, 0, 0], stereo)
    colour_matrix = np.array([[607.92271, 0, 314.78337], [0, 607.88192, 236.42484], [0, 0, 1]])
    turned = axis_angle_to_matrix([0.00531, -0.01196, 0.00301])
    colour = project((points - np.array([-24.0381, -0.4563, -1.2326]) / 1000) @ turned, colour_matrix)
    for view, pixels in (("BB_left", left), ("BB_right", right), ("SK_color", colour)):
        picture = dotted((640, 480), [(pixels[4], YELLOW), (pixels[8], CYAN)], 4)
        for frame in range(2):
            write_picture(root / "images" / "B1Counting" / f"{view}_{frame}.png", picture)
    (root / "images" / "B1Random").mkdir()
    (root / "labels").mkdir()
    for camera in ("BB", "SK"):
        both = np.stack([stb.T, stb.T], -1)
        scipy.io.savemat(root / "labels" / f"B1Counting_{camera}.mat", {"handPara": both})
        scipy.io.savemat(root / "labels" / f"B1Random_{camera}.mat", {"handPara": both[..., :0]})
    return points


def build_cmu_hands(root):
    points = 300 + 40 * hand_points(4, (0, 0, 0), 1)[:, :2]
    listed = np.concatenate([points - 0.5, np.ones((21, 1))], 1)
    listed[20] = 0
    for stem, side, colour in (("000001_01_l", 1, YELLOW), ("000001_01_r", 0, BLUE)):
        folder = root / "hand_labels" / "manual_train"
        write_picture(folder / f"{stem}.jpg", dotted((640, 600), [(points[4], colour), (points[8], MAGENTA)], 5))
        write_json(folder / f"{stem}.json", {"hand_pts": listed.tolist(), "is_left": side})
    write_json(root / "hand_labels_synth" / "synth1" / "0001.json", {"hand_pts": listed[:16].tolist(), "is_left": 0})
    picture = dotted((640, 600), [(points[4], BLUE), (points[8], MAGENTA)], 5)
    write_picture(root / "hand143_panopticdb" / "imgs" / "00000000.jpg", picture)
    item = {"img_paths": "imgs/00000000.jpg", "joint_self": listed.tolist()}
    write_json(root / "hand143_panopticdb" / "hands_v143_14817.json", {"root": [item]})


BUILDERS = {
    "panoptic": build_panoptic, "humbi": build_humbi, "mpi_inf_3dhp": build_mpi_inf_3dhp, "human36m": build_human36m,
    "mpii": build_mpii, "coco": build_coco, "freihand": build_freihand, "stb": build_stb, "cmu_hands": build_cmu_hands,
}  # fmt: skip
BODIES_3D = ("panoptic", "humbi", "mpi_inf_3dhp", "human36m")
BODIES = (*BODIES_3D, "mpii", "coco")
OPTIONS = {"stb": {"split": "test"}, "mpi_inf_3dhp": {"stride": 3}}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """{name: (reader, truth)} of every dataset, built once."""
    built = {}
    for name, build in BUILDERS.items():
        root = tmp_path_factory.mktemp(name)
        truth = build(root)
        built[name] = open_dataset(name, root, **OPTIONS.get(name, {})), truth
    return built


def assert_on_dots(sample, tolerance=0.4):
    """Marked body points lie on their dots in I (those inside it), and hands' on theirs in the hand images."""
    found = 0
    for index, colour in MARKED.items():
        if sample.body_known2d[index] and ((sample.body2d[index] > 8) & (sample.body2d[index] < [184, 248])).all():
            np.testing.assert_allclose(sample.body2d[index], find_dot(sample.image, colour), atol=tolerance)
            found += 1
    return found


def assert_hands_on_dots(sample, marked=HAND_MARKED, tolerance=1.0):
    found = 0
    for (side, index), colour in marked.items():
        if not sample.hand_boxes[side, 2]:
            continue
        place = image_to_hand(sample.hand2d[side], sample.hand_boxes[side])[index]
        if sample.hand_known2d[side, index] and ((place > 12) & (place < 116)).all():
            np.testing.assert_allclose(place, find_dot(sample.hand_images[side], colour), atol=tolerance)
            found += 1
    return found


def test_every_reader_is_tested():
    assert set(BUILDERS) == set(READERS)


@pytest.mark.parametrize("name", BODIES)
def test_body_points_land_on_their_dots(datasets, name):
    reader, _ = datasets[name]
    sample = reader[0]
    assert assert_on_dots(sample) == 3
    assert sample.body_present and sample.extended_body().name == reader.definition
    assert (sample.body2d[~sample.body_known2d] == 0).all() and (sample.body3d[~sample.body_known3d] == 0).all()


@pytest.mark.parametrize("name", BODIES)
def test_body_points_stay_on_their_dots_in_jittered_crops(datasets, name):
    reader, _ = datasets[name]
    found = [assert_on_dots(reader.read(0, np.random.default_rng(seed)), 0.6) for seed in range(8)]
    assert sum(found) >= 16


@pytest.mark.parametrize("name", ["coco", "panoptic"])
def test_hand_points_land_on_their_dots(datasets, name):
    reader, _ = datasets[name]
    assert assert_hands_on_dots(reader[0]) == 3
    found = [assert_hands_on_dots(reader.read(0, np.random.default_rng(seed)), tolerance=1.5) for seed in range(8)]
    assert sum(found) >= 12
    assert reader[0].hand_map_known.all()


@pytest.mark.parametrize("name", BODIES_3D)
def test_bodies_are_in_metres_from_the_pelvis_seen_along_the_line_of_sight(datasets, name):
    reader, truth = datasets[name]
    for rng in (None, np.random.default_rng(3)):
        sample = reader.read(0, rng)
        assert (sample.body3d[0] == 0).all() and sample.body_known3d[list(truth)].all()
        for index in MARKED:
            length = np.linalg.norm(truth[index] - truth[0])
            assert np.linalg.norm(sample.body3d[index]) == pytest.approx(length, abs=1e-4)
    # Rotations keep lengths, so the axes are tested apart: the three points' 3D must be seen where their 2D is.
    sample = reader[0]
    index = [0, *MARKED]
    depth = np.linalg.norm(truth[0])
    scale = np.linalg.norm(sample.body2d[LEFT_WRIST] - sample.body2d[RIGHT_ANKLE])
    scale /= np.linalg.norm((sample.body3d[LEFT_WRIST] - sample.body3d[RIGHT_ANKLE])[:2])
    seen = (sample.body2d[index] - sample.body2d[0]) / scale
    np.testing.assert_allclose(seen, sample.body3d[index, :2], atol=0.15 * depth / 4)
    handed = np.linalg.det(np.stack([sample.body3d[k] for k in MARKED]))
    assert handed == pytest.approx(np.linalg.det(np.stack([truth[k] - truth[0] for k in MARKED])), abs=1e-4)


@pytest.mark.parametrize("name, side", [("freihand", 1), ("stb", 0)])
def test_hand_only_3d(datasets, name, side):
    reader, points = datasets[name]
    marked = {(1, THUMB_TIP): YELLOW, (1, INDEX_TIP): MAGENTA} if side else {(0, THUMB_TIP): YELLOW, (0, INDEX_TIP): CYAN}
    for index in range(len(reader)):
        sample = reader[index]
        assert assert_hands_on_dots(sample, marked) == 2
        distances = np.linalg.norm(sample.hand3d[side] - sample.hand3d[side, :1], axis=-1)
        np.testing.assert_allclose(distances, np.linalg.norm(points - points[0], axis=-1), atol=1e-5)
        assert_hands_on_dots(reader.read(index, np.random.default_rng(index)), marked, tolerance=1.5)
    assert not sample.image.any() and not sample.body_present and not sample.hand_map_known.any()
    assert sample.hand_known2d[side].all() and not sample.hand_known2d[1 - side].any()


def test_freihand_repeats_its_poses(datasets):
    reader, _ = datasets["freihand"]
    assert len(reader) == 2
    np.testing.assert_array_equal(reader[0].hand2d, reader[1].hand2d)  # pictures 0 and 2 of two poses


def test_stb_has_three_views_of_each_frame(datasets):
    assert len(datasets["stb"][0]) == 6


def test_cmu_hands_keep_their_side(datasets):
    reader, _ = datasets["cmu_hands"]
    assert len(reader) == 3  # two manual, none of the synthetic ones with other points, one of many views
    left, right, multi_view = reader
    for sample, side, colour in ((left, 0, YELLOW), (right, 1, BLUE), (multi_view, 1, BLUE)):
        assert assert_hands_on_dots(sample, {(side, THUMB_TIP): colour, (side, INDEX_TIP): MAGENTA}) == 2
        assert sample.hand_known2d[side].sum() == 20 and not sample.hand_known2d[side, 20]
        assert not sample.hand_known3d.any()


def test_coco_leaves_out_crowds_and_tiny_people_and_knows_no_pelvis(datasets):
    reader, _ = datasets["coco"]
    assert len(reader) == 1 and not reader[0].body_known2d[0]
    assert reader[0].face_map_known and reader[0].face_known.all()


def test_coco_without_whole_body(tmp_path):
    build_coco(tmp_path, "val", whole_body=False)
    sample = open_dataset("coco", tmp_path, split="val")[0]
    assert assert_on_dots(sample) == 3
    assert not sample.hand_known2d.any() and not sample.hand_map_known.any() and not sample.face_map_known
    assert not sample.hand_boxes.any() and not sample.hand_images.any()


def test_panoptic_reads_videos_and_counts_frames_from_zero(tmp_path):
    build_panoptic(tmp_path, video=True)
    reader = open_dataset("panoptic", tmp_path)
    assert len(reader) == 1
    assert assert_on_dots(reader[0], 0.8) == 3


def test_panoptic_distortion_is_that_of_opencv(datasets):
    camera = datasets["panoptic"][0]._samples[0][4]
    points, bent = body_points(19), np.array([0.1, -0.05, 0.002, -0.003, 0.01])
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), MATRIX, bent)[0][:, 0]
    camera.distortion, straight = bent, camera.distortion
    try:
        np.testing.assert_allclose(camera.pixels(points)[0], expected, atol=1e-9)
    finally:
        camera.distortion = straight


def test_mpi_inf_3dhp_reads_videos(tmp_path):
    build_mpi_inf_3dhp(tmp_path)
    frames = tmp_path / "S1" / "Seq1" / "imageFrames"
    picture = read_picture(frames / "video_4" / "frame_000001.jpg")
    write_video(tmp_path / "S1" / "Seq1" / "imageSequence" / "video_4.avi", [np.zeros_like(picture)] * 2 + [picture])
    (frames / "video_4" / "frame_000001.jpg").unlink()
    (frames / "video_4").rmdir()
    reader = open_dataset("mpi_inf_3dhp", tmp_path, stride=2)
    assert len(reader) == 2
    assert not reader[0].image.max() > 40 and assert_on_dots(reader[1], 0.8) == 3


def test_humbi_with_a_licensed_body_knows_all_33_keypoints(datasets):
    reader, _ = datasets["humbi"]
    assert len(reader) == 1 and reader[0].body_known3d.sum() == 16
    regressor = np.zeros((52, 6890), np.float32)
    regressor[np.arange(52), np.arange(52) % 25] = 1
    body = _body_on_smpl(regressor)
    sample = open_dataset("humbi", reader.root, body=body)[0]
    assert sample.body_known2d.all() and sample.body_known3d.all()
    names = sample.extended_body().complete
    wrist, index = names.index("left_wrist"), names.index("left_index_mcp")
    points = body_points(25)  # vertex k is point k % 25, and joint k is vertex k % 25
    expected = points[JOINT_NAMES.index("left_index1") % 25] - points[JOINT_NAMES.index("left_wrist") % 25]
    got = sample.body3d[index] - sample.body3d[wrist]
    assert np.linalg.norm(got) == pytest.approx(np.linalg.norm(expected) / 0.8, abs=1e-4)


def _body_on_smpl(regressor):
    parents = np.arange(52) - 1
    weights = np.zeros((6890, 52), np.float32)
    weights[:, 0] = 1
    return BodyModelFile(
        v_template=np.zeros((6890, 3)), f=np.zeros((1, 3), int), weights=weights, parents=parents, J_regressor=regressor,
        shapedirs=np.zeros((6890, 3, 1)), posedirs=np.zeros((6890, 3, 459), np.float16),
    )  # fmt: skip


def test_humbi_splits_by_subject_as_the_paper_does(datasets):
    root = datasets["humbi"][0].root
    assert len(open_dataset("humbi", root, split="test")) == 0


def test_humbi_refuses_a_body_on_another_mesh(datasets, body):
    with pytest.raises(DatasetError, match="6890 vertices"):
        open_dataset("humbi", datasets["humbi"][0].root, body=body)


@pytest.mark.parametrize("name", READERS)
def test_absent_datasets_say_where_to_get_them(tmp_path, name):
    with pytest.raises(DatasetError) as error:
        open_dataset(name, tmp_path)
    message = str(error.value)
    assert message.startswith(f"{READERS[name].title} was not found in {tmp_path}: ") and "(expected " in message
    assert re.search(r"\w\.(org|de|edu|net|com)|toolbox|GitHub|3DMPPE", message)


def test_unknown_names_and_splits_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="choose one of panoptic"):
        open_dataset("lsp", tmp_path)
    for name in ("coco", "human36m", "humbi", "freihand", "stb", "cmu_hands"):
        with pytest.raises(DatasetError, match="has the splits"):
            open_dataset(name, tmp_path, split="everything")


@pytest.mark.parametrize("name", BUILDERS)
def test_missing_and_broken_pictures_are_named(tmp_path, name):
    BUILDERS[name](tmp_path)
    reader = open_dataset(name, tmp_path, **OPTIONS.get(name, {}))
    pictures = [path for path in tmp_path.rglob("*") if path.suffix in (".jpg", ".png")]
    for path in pictures:
        path.write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match="is not a picture") as error:
        reader[0]
    assert any(str(path) in str(error.value) for path in pictures)
    for path in pictures:
        path.unlink()
    with pytest.raises(DatasetError, match="Cannot read the picture"):
        reader[0]


@pytest.mark.parametrize("name", BUILDERS)
def test_broken_annotations_are_named(tmp_path, name):
    BUILDERS[name](tmp_path)
    annotations = [path for path in tmp_path.rglob("*") if path.suffix in (".json", ".mat", ".txt")]
    for path in annotations:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError) as error:
        open_dataset(name, tmp_path, **OPTIONS.get(name, {}))[0]
    assert any(str(path) in str(error.value) for path in annotations)


def test_samples_of_all_datasets_stack(datasets):
    batch = DetNetSamples.stack([reader[0] for reader, _ in datasets.values()])
    assert len(batch) == len(READERS) and batch.image.dtype == np.uint8 and batch.body2d.dtype == np.float32


def test_readers_are_sequences(datasets):
    reader, _ = datasets["coco"]
    assert len(list(reader)) == 1
    np.testing.assert_array_equal(reader[-1].image, reader[0].image)
    with pytest.raises(IndexError):
        reader[1]


# Cropping.


def test_crops_of_huge_and_tiny_pictures_are_means_of_what_they_cover():
    noise = np.random.default_rng(0).integers(0, 256, (1024, 768, 3), np.uint8)
    means = noise.reshape(256, 4, 192, 4, 3).mean((1, 3))
    np.testing.assert_allclose(cut(noise, [0, 0, 768, 1024], (192, 256)), means, atol=0.51)
    # Where pixels do not fall together, means still are much calmer than single pixels, whose deviation is 74.
    assert cut(noise, [31.3, 40.7, 660, 880], (192, 256)).std() < 30
    small = np.full((3, 2, 3), 77, np.uint8)
    enlarged = cut(small, [0, 0, 2, 3], (192, 256))
    assert (enlarged[100:150, 80:110] == 77).all()


def test_a_crop_of_the_same_size_is_the_picture_and_outside_is_black():
    picture = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    np.testing.assert_array_equal(cut(picture, [0, 0, 50, 60], (50, 60)), picture)
    moved = cut(picture, [-10, 5, 50, 60], (50, 60))
    np.testing.assert_array_equal(moved[:55, 10:], picture[5:, :40])
    assert not moved[:, :10].any() and not moved[55:].any()


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2])
def test_point_maps_agree_with_pixels_and_undo_each_other(angle):
    place = np.array([300.0, 210.0])
    picture = dotted((640, 480), [(place, RED)], 9)
    rectangle, size = np.array([180.0, 90, 240, 320]), (192, 256)
    found = find_dot(cut(picture, rectangle, size, angle), RED)
    np.testing.assert_allclose(to_crop(place[None], rectangle, size, angle)[0], found, atol=0.1)
    points = np.random.default_rng(1).uniform(-900, 900, (4, 7, 2))
    np.testing.assert_allclose(from_crop(to_crop(points, rectangle, size, angle), rectangle, size, angle), points, atol=1e-9)


def test_crop_rectangles_hold_the_box_share_its_middle_and_its_aspect():
    rng = np.random.default_rng(0)
    low = rng.uniform(-100, 500, (50, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 400, (50, 2))], -1)
    left, top, width, height = crop_rectangle(boxes, margin=0.2).T
    np.testing.assert_allclose(width / height, 0.75)
    np.testing.assert_allclose(np.stack([left + width / 2, top + height / 2], -1), (boxes[:, :2] + boxes[:, 2:]) / 2)
    needed = 1.2 * np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    assert (np.stack([width, height], -1) >= needed - 1e-9).all()
    assert np.isclose(np.stack([width, height], -1), needed).any(-1).all()  # and no larger than that
    np.testing.assert_allclose(crop_rectangle(boxes[3], margin=0.2), [left[3], top[3], width[3], height[3]])


def test_useless_crops_are_refused():
    picture = np.zeros((10, 10, 3), np.uint8)
    for rectangle in ([0, 0, 0, 5], [0, 0, np.nan, 5]):
        with pytest.raises(ValueError, match="finite rectangle"):
            cut(picture, rectangle, (4, 4))
    with pytest.raises(ValueError, match="uint8"):
        cut(picture.astype(float), [0, 0, 5, 5], (4, 4))
    with pytest.raises(ValueError, match="finite"):
        crop_rectangle([0, 0, np.inf, 1])


def test_grey_deep_and_transparent_pictures_become_rgb(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), rgb[..., 0])
    np.testing.assert_array_equal(read_picture(tmp_path / "grey.png"), np.repeat(rgb[..., :1], 3, 2))
    cv2.imwrite(str(tmp_path / "deep.png"), rgb[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png"), rgb)
    alpha = np.full((20, 30, 1), 255, np.uint8)
    alpha[:5] = 0
    cv2.imwrite(str(tmp_path / "alpha.png"), np.concatenate([rgb[..., ::-1], alpha], 2))
    np.testing.assert_array_equal(read_picture(tmp_path / "alpha.png"), rgb * (alpha > 0))
    np.testing.assert_array_equal(as_rgb(rgb), rgb)
    with pytest.raises(ValueError, match="grey, RGB or RGBA"):
        as_rgb(np.zeros((4, 4, 2), np.uint8))


def test_single_frames_of_a_video(tmp_path):
    pictures = [np.full((64, 96, 3), 4 * k, np.uint8) for k in range(50)]
    write_video(tmp_path / "steps.avi", pictures)
    for index in (0, 1, 11, 12, 13, 37, 49):
        assert abs(float(read_video_picture(tmp_path / "steps.avi", index).mean()) - 4 * index) < 1.9
    with pytest.raises(DatasetError, match="frame 50"):
        read_video_picture(tmp_path / "steps.avi", 50)


def person_at(middle, hands=False):
    """A person whose pelvis is seen at pixel `middle`, the middle of its box, and whose nose is right behind the pelvis."""
    names = READERS["human36m"].definition, 17
    root = rays(np.array(middle, float), MATRIX) * 4
    points = np.tile(root, (17, 1))
    points[9 + 2] = root * 1.25  # "nose", on the same line of sight
    box = np.array([middle[0] - 60, middle[1] - 100, middle[0] + 60, middle[1] + 100])
    known = np.ones(17, bool)
    return Person(names[0], box, project(points, MATRIX), known, points, known, MATRIX), np.linalg.norm(root)


@pytest.mark.parametrize("middle", [(320, 250), (560, 300), (150, 420)])
@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_depth_is_along_the_line_of_sight_through_the_crop(middle, angle):
    person, distance = person_at(middle)
    sample = person.sample(np.zeros((520, 640, 3), np.uint8), Jitter(angle=angle))
    np.testing.assert_allclose(sample.body2d[0], [96, 128], atol=1e-3)
    np.testing.assert_allclose(sample.body3d[11], [0, 0, 0.25 * distance], atol=1e-5)


@pytest.mark.parametrize("angle", [0.0, -0.4])
def test_depth_of_a_hand_is_along_the_line_of_sight_through_its_picture(angle):
    person, _ = person_at((320, 250))
    places = np.array([[375.0, 160], [280, 300]])
    offsets = hand_points(0, (0, 0, 0), 4)[:, :2]
    person.hand2d = places[:, None] + offsets - (offsets.min(0) + offsets.max(0)) / 2
    person.hand_known2d = person.hand_known3d = np.ones((2, 21), bool)
    picture = np.zeros((520, 640, 3), np.uint8)
    boxes = person.sample(picture, Jitter(angle=angle)).hand_boxes
    rectangle = crop_rectangle(person.box)
    middles = from_crop(CELL * (boxes[:, :2] + boxes[:, 2:] / 2), rectangle, (192, 256), angle)
    person.hand3d = rays(middles, MATRIX)[:, None] * np.linspace(3, 4, 21)[:, None]
    sample = person.sample(picture, Jitter(angle=angle))
    steps = sample.hand3d[:, 1:] - sample.hand3d[:, :-1]
    np.testing.assert_allclose(steps[..., :2], 0, atol=1e-6)
    assert (steps[..., 2] > 0.04).all()


def test_depth_of_a_lone_hand_is_along_the_line_of_sight_through_its_picture():
    offsets = hand_points(0, (0, 0, 0), 4)[:, :2]
    middle = np.array([600.0, 60])
    points2d = middle + offsets - (offsets.min(0) + offsets.max(0)) / 2
    points3d = rays(middle, MATRIX) * np.linspace(3, 4, 21)[:, None]
    known = np.ones(21, bool)
    sample = Hand(1, points2d, known, points3d, known, MATRIX).sample(np.zeros((520, 640, 3), np.uint8))
    np.testing.assert_allclose(sample.hand3d[1, :, :2] - sample.hand3d[1, 0, :2], 0, atol=1e-6)
    assert sample.hand3d[1, 20, 2] - sample.hand3d[1, 0, 2] > 1


def test_turning_a_crop_turns_places_and_axes_alike():
    person, _ = person_at((320, 250))
    person.body3d[5] = person.body3d[0] + [0.4, 0, 0]
    person.body2d = project(person.body3d, MATRIX)
    picture = np.zeros((520, 640, 3), np.uint8)
    for angle in (0.0, 0.3, -0.5):
        sample = person.sample(picture, Jitter(angle=angle))
        direction = (sample.body2d[5] - sample.body2d[0]) / np.linalg.norm(sample.body2d[5] - sample.body2d[0])
        np.testing.assert_allclose(direction, [np.cos(angle), np.sin(angle)], atol=1e-5)
        np.testing.assert_allclose(sample.body3d[5, :2], 0.4 * direction, atol=1e-5)


def test_a_person_partly_outside_the_picture_fills_the_crop_with_the_rest():
    box = np.array([500.0, 100, 900, 500])
    inside = visible_box(box, (520, 640))
    assert inside[0] == 500 and 640 <= inside[2] <= 700
    far = np.array([2000.0, 0, 2100, 300])
    np.testing.assert_array_equal(visible_box(far, (520, 640)), far)
    person, _ = person_at((630, 250))
    sample = person.sample(np.full((520, 640, 3), 200, np.uint8))
    assert (sample.image == 200).any() and (sample.image == 0).any() and sample.body_known2d.any()


def test_pictures_smaller_than_the_input_are_enlarged():
    places = np.tile([[20.0, 12.5]], (17, 1))
    person = Person("h36m", np.array([5, 2, 35, 28]), places, np.ones(17, bool))
    sample = person.sample(dotted((40, 30), [(places[0], RED)], 3))
    np.testing.assert_allclose(sample.body2d[0], find_dot(sample.image, RED), atol=0.5)
    assert not sample.body_known3d.any()


def test_jittered_hand_boxes_stay_inside_the_maps():
    rng = np.random.default_rng(0)
    boxes = np.array([[40.0, 0, 8], [0, 0, 0]])
    drawn = np.stack([Jitter.draw(rng).move_hands(boxes) for _ in range(300)])
    assert (drawn[:, 0, :2] >= 0).all() and (drawn[:, 0, :2] + drawn[:, 0, 2:] <= [48, 64]).all() and not drawn[:, 1].any()
    assert 0.5 < drawn[:, 0, 2].std() < 1.3 and drawn[:, 0, 2].mean() == pytest.approx(8, abs=0.3)
    np.testing.assert_array_equal(Jitter().move_hands(boxes), boxes)


def test_hands_outside_the_crop_have_no_picture_but_are_known_to_be_away():
    person, _ = person_at((320, 250))
    person.hand2d = person.hand2d + np.array([[[600.0, 20]], [[325.0, 255]]]) + hand_points(0, (0, 0, 0), 4)[:, :2]
    person.hand_known2d = np.ones((2, 21), bool)
    sample = person.sample(np.full((520, 640, 3), 90, np.uint8))
    assert sample.hand_boxes[0, 2] == 0 and not sample.hand_images[0].any() and sample.hand_map_known.all()
    assert sample.hand_boxes[1, 2] > 0 and (sample.hand_images[1] == 90).all()


def test_hands_of_few_points_can_still_be_cut():
    known = np.zeros(21, bool)
    known[[0, 9]] = True
    hand = Hand(0, np.tile([[50.0, 60]], (21, 1)) + np.arange(21)[:, None], known)
    sample = hand.sample(np.full((100, 100, 3), 9, np.uint8))
    assert sample.hand_known2d[0].sum() == 2 and (sample.hand_images[0] == 9).any()
