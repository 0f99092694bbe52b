"""A sheet of pictures that shows whether a capture is right: the video beside the character, and the faces of both, near."""

import cv2
import numpy as np

from .blender_process import BlenderError
from .camera import project
from .contract.frames import axis_angle_to_matrix, forward_kinematics
from .contract.npz_file import write_whole
from .contract.skeleton import JOINT_INDEX, PARENTS
from .contract.swing_twist import rotate, transpose
from .video import VideoError, read_frame

PICTURE_WIDTH, FACE_WIDTH = 640, 480
"""px, of the rendered pictures: the whole frame, and the face."""

HEAD = JOINT_INDEX["head"]
_FACE_SIZE = 0.27  # m, of the square around a face
_FACE_FROM_HEAD = (0.0, 0.05, 0.07)  # m in the rest frame, where a template does not say
_LARGE = 0.2  # of the picture's height: from here on an expression can be recognised
_SMALLEST = 12  # px, of half a square: less would be magnified to nothing but squares
_GREY = 160


class SheetRow:
    """A frame of the clip to be shown, and where Blender leaves its pictures of it: `whole` and, with a box, `face`."""

    def __init__(self, folder, clip, frame, box=None):
        """box: px (left, top, right, bottom) around the face in the video's picture, or None for no close-up."""
        self.frame, self.box, self.image_size = frame, box, [int(size) for size in clip.image_size]
        self.whole, self.face = folder / f"{frame}.png", folder / f"{frame}_face.png"

    def shots(self, scene_frame):
        """What the add-on's build_scene is to render at a frame of the scene: dicts of frame, path, width and box."""
        shots = [{"frame": scene_frame, "path": str(self.whole), "width": PICTURE_WIDTH, "box": None}]
        if self.box is not None:
            shares = [float(edge) / size for edge, size in zip(self.box, 2 * self.image_size)]
            shots.append({"frame": scene_frame, "path": str(self.face), "width": FACE_WIDTH, "box": shares})
        return shots


def face_boxes(clip, frames, template):
    """Squares [N, 4] px (left, top, right, bottom) around the face in the video, from where the capture has the head."""
    rotations = axis_angle_to_matrix(clip.poses[frames].reshape(len(frames), len(PARENTS), 3))
    turned = forward_kinematics(np.zeros((len(PARENTS), 3)), rotations, PARENTS)[1][:, HEAD]
    own = template.vertices[template.face_vertices]
    offset = own.mean(0) - template.joints[HEAD] if len(own) else np.array(_FACE_FROM_HEAD)
    centres = clip.joints_camera[frames, HEAD] + rotate(transpose(clip.camera_to_world[frames, :3, :3]), turned @ offset)
    centres[:, 2] = np.maximum(centres[:, 2], 0.05)
    half = clip.camera_matrix[0, 0] * _FACE_SIZE / 2 / centres[:, 2]
    half = np.clip(half, _SMALLEST, min(clip.image_size) / 2)
    # Kept inside the picture, so that both sides show the same.
    middle = np.clip(project(centres, clip.camera_matrix), half[:, None], np.asarray(clip.image_size) - half[:, None])
    return np.concatenate([middle - half[:, None], middle + half[:, None]], 1)


def face_is_large(clip, frames, boxes):
    """Whether faces are captured in these frames, and large enough in the video to tell an expression."""
    height = (boxes[:, 3] - boxes[:, 1]).max()
    return bool(clip.valid[frames, 3].any() and height >= _LARGE * clip.image_size[1])


def write_sheet(output, clip, rows, video):
    """Writes a PNG with a row for each of `rows` (`SheetRow`): the video's frame, the rendered character from the same
    camera over a dimmed copy of it, and for a row with a box the face in the video and the character's.

    video: its path, or None for grey. The file appears whole or not at all. Raises `FileError` or `BlenderError`.
    """
    cells = [_row(clip, row, video) for row in rows]
    width = max(row.shape[1] for row in cells)
    cells = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=_GREY) for row in cells]
    write_whole(output, cv2.imencode(".png", np.vstack(cells))[1].tobytes())


def _row(clip, row, video):
    rendered = _read_render(row.whole)
    height, width = rendered.shape[:2]
    photo = _photo(clip, row.frame, video)
    small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    pictures = [small, _over(rendered, 0.5 * small)]
    if row.box is not None:
        left, top, right, bottom = (int(round(edge)) for edge in row.box)
        face = _read_render(row.face)
        pictures += [photo[top:bottom, left:right], _over(face, np.full(3, 60.0))]
        pictures[2:] = [cv2.resize(picture, (height, height), interpolation=cv2.INTER_AREA) for picture in pictures[2:]]
    return np.hstack(pictures)


def _photo(clip, frame, video):
    """A frame of the video in full size [H, W, 3] BGR, or grey."""
    width, height = (int(size) for size in clip.image_size)
    try:
        if video is not None:
            return cv2.cvtColor(read_frame(video, clip.timestamps[frame])[1], cv2.COLOR_RGB2BGR)
    except VideoError:
        pass  # the video is a background only; the character stands over grey instead
    return np.full((height, width, 3), _GREY, np.uint8)


def _read_render(path):
    rendered = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if rendered is None:
        raise BlenderError("Blender made no picture: run it again, and report what it printed.")
    return rendered


def _over(rendered, behind):
    """A rendered picture [H, W, 4] over what is behind it."""
    opacity = rendered[..., 3:] / 255.0
    return (rendered[..., :3] * opacity + behind * (1 - opacity)).astype(np.uint8)
