"""The core's side of the way into Blender: which character, which frames, and the sheet of pictures. Blender has its own tests."""

import cv2
import numpy as np
import pytest

from fullbody_core.blend import character_of, representative_frame, scene_frame
from fullbody_core.blender_process import BlenderError
from fullbody_core.camera import project
from fullbody_core.contract.capture import CaptureClip
from fullbody_core.contract.skeleton import JOINT_INDEX
from fullbody_core.picture_sheet import PICTURE_WIDTH, SheetRow, face_boxes, face_is_large, write_sheet
from fullbody_core.video import VideoWriter

FRAMES, SIZE = 5, (320, 200)


@pytest.fixture
def clip():
    """Somebody who stands upright, 1.5 m in front of a level camera at head height, and turns the head from frame to frame."""
    poses, joints = np.zeros((FRAMES, 156)), np.zeros((FRAMES, 52, 3))
    poses[:, 0] = np.pi / 2  # upright in a world whose z points up
    poses[:, 3 * JOINT_INDEX["head"] + 1] = np.linspace(0, np.pi / 2, FRAMES)
    joints[:, JOINT_INDEX["head"]] = (0.1, 0.0, 1.5)
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    return CaptureClip(
        poses=poses,
        trans=np.zeros((FRAMES, 3)),
        betas=np.zeros(16),
        mocap_framerate=10.0,
        timestamps=np.arange(FRAMES) / 10,
        joints_camera=joints,
        keypoints2d=np.zeros((FRAMES, 0, 3)),
        keypoint_names=(),
        valid=np.ones((FRAMES, 4), bool),
        camera_matrix=np.array([[300.0, 0, 160], [0, 300, 100], [0, 0, 1]]),
        camera_to_world=camera_to_world,
        image_size=np.array(SIZE),
        person_box=np.zeros((FRAMES, 4)),
    )


@pytest.fixture
def character(clip, body):
    return character_of(clip)


def test_the_character_is_the_one_that_the_settings_name(clip, body, face):
    assert len(character_of(clip).face_vertices) == 0, "a capture that names no face had none"
    clip.meta = {"settings": {"body": "open", "face": "open"}}
    whole = character_of(clip)
    assert len(whole.face_vertices) == len(face.mean) and whole.meta["face_sha256"] == face.sha256
    assert whole.meta["body_sha256"] == body.sha256
    assert len(character_of(clip, face="none").face_vertices) == 0


def test_the_middle_frame_that_is_valid_is_taken(clip):
    assert representative_frame(clip) in (2, 3)
    clip.valid[1:4, 0] = False
    assert representative_frame(clip) in (0, 4)
    clip.valid[:] = False
    assert representative_frame(clip) == 2
    assert [scene_frame(clip, frame) for frame in range(FRAMES)] == [0, 1, 2, 3, 4]


def test_the_box_holds_the_face_wherever_the_head_turns(clip, character):
    boxes = face_boxes(clip, list(range(FRAMES)), character)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    np.testing.assert_allclose(width, height)
    # 27 cm at about 1.5 m; nearer to the camera while the face looks at it.
    assert ((width > 50) & (width < 60)).all() and width[0] > width[-1]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    head = project(clip.joints_camera[0, JOINT_INDEX["head"]], clip.camera_matrix)
    assert (centres[:, 1] < head[1] - 5).all(), "the face is above the head's joint"
    # A face that turns to its left goes to the picture's right, by the seven centimetres it stands before the joint.
    assert (np.diff(centres[:, 0]) > 0).all() and 10 < centres[-1, 0] - head[0] < 20


def test_boxes_stay_inside_the_picture(clip, character):
    head = JOINT_INDEX["head"]
    for place in ((-5.0, 0, 1.5), (0, 3.0, 1.5), (0, 0, 0.1), (0, 0, -2.0), (0, 0, 50.0)):
        clip.joints_camera[:, head] = place
        boxes = face_boxes(clip, [0, 4], character)
        assert np.isfinite(boxes).all() and (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= SIZE).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 20).all()


def test_faces_are_large_enough_or_not(clip, character):
    boxes = face_boxes(clip, [0], character)
    assert face_is_large(clip, [0], boxes)
    clip.joints_camera[:, JOINT_INDEX["head"], 2] = 4.0
    assert not face_is_large(clip, [0], face_boxes(clip, [0], character))
    clip.valid[:, 3] = False
    assert not face_is_large(clip, [0], boxes)


def render(path, width, height, colour):
    """A rendered picture: clear on the left, solid on the right."""
    picture = np.zeros((height, width, 4), np.uint8)
    picture[:, width // 2 :] = (*colour, 255)
    cv2.imwrite(str(path), picture)


@pytest.mark.parametrize("close_up", [False, True])
def test_a_sheet_has_a_row_for_each_frame(clip, character, tmp_path, close_up):
    with VideoWriter(tmp_path / "film.mp4", SIZE, 10) as writer:
        for frame in range(FRAMES):
            writer.write(frame / 10, np.full((SIZE[1], SIZE[0], 3), 40 * frame + 40, np.uint8))
    boxes = face_boxes(clip, [1, 3], character)
    rows = [SheetRow(tmp_path, clip, frame, box if close_up else None) for frame, box in zip([1, 3], boxes)]
    height = PICTURE_WIDTH * SIZE[1] // SIZE[0]
    for row in rows:
        for shot in row.shots(7):
            side = height if shot["box"] is None else shot["width"]
            assert shot["frame"] == 7 and (shot["box"] is None or (np.array(shot["box"]) <= 1).all())
            render(shot["path"], shot["width"], side, (10, 20, 250))
    write_sheet(tmp_path / "sheet.png", clip, rows, tmp_path / "film.mp4")
    sheet = cv2.imread(str(tmp_path / "sheet.png")).astype(int)
    assert sheet.shape == (2 * height, 2 * PICTURE_WIDTH + 2 * height * close_up, 3)
    for number, level in enumerate((80, 160)):
        line = sheet[number * height + height // 2]
        assert np.abs(line[10] - level).max() < 12, "the video as it is"
        assert np.abs(line[PICTURE_WIDTH + 10] - level / 2).max() < 8, "dimmed behind the character"
        assert np.abs(line[2 * PICTURE_WIDTH - 10] - (10, 20, 250)).max() < 4
        if close_up:
            assert np.abs(line[2 * PICTURE_WIDTH + 10] - level).max() < 12
            assert np.abs(line[-10] - (10, 20, 250)).max() < 4


def test_a_video_that_is_gone_leaves_grey_and_a_missing_render_is_an_error(clip, tmp_path):
    row = SheetRow(tmp_path, clip, 0)
    with pytest.raises(BlenderError, match="no picture"):
        write_sheet(tmp_path / "sheet.png", clip, [row], None)
    render(row.whole, 64, 40, (0, 0, 0))
    (tmp_path / "broken.mp4").write_text("not a video")
    for video in (None, tmp_path / "broken.mp4"):
        write_sheet(tmp_path / "sheet.png", clip, [row], video)
        assert (cv2.imread(str(tmp_path / "sheet.png"))[:, :64] == 160).all()
