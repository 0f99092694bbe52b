"""Pictures over the video: what was detected and where the solved skeleton stands."""

import cv2
import numpy as np

from .camera import project
from .contract.skeleton import BODY_BONES, HAND_BONES, JOINT_NAMES, PARENTS, PART_JOINTS, VALID_PARTS
from .detect.keypoints import SEEN
from .video import VideoWriter, open_video

LEFT_COLOUR, RIGHT_COLOUR, MIDDLE_COLOUR = (255, 140, 40), (60, 160, 255), (240, 240, 240)
"""RGB of the person's left, right and middle. The detector's points are small and dark, the skeleton is bright."""


def write_overlay(clip, video_path, output, progress=lambda frames, **_: frames):
    """Writes the video with the detected keypoints and the re-projected skeleton of `clip` drawn over it.

    The file appears whole or not at all. Raises `VideoError`.
    """
    video = open_video(video_path)
    with VideoWriter(output, video.image_size, clip.mocap_framerate) as writer:
        frames = progress(video.frames(), total=clip.frame_count)
        for frame, (timestamp, image) in zip(range(clip.frame_count), frames):
            writer.write(timestamp, draw_frame(image, clip, frame))


def draw_frame(image, clip, frame):
    """A copy of an image [H, W, 3] with one frame of the clip drawn over it."""
    image = np.array(image, order="C")
    unit = max(1, round(max(image.shape[:2]) / 640))
    _draw_box(image, clip.person_box[frame], unit)
    _draw_keypoints(image, clip.keypoints2d[frame], clip.body_definition, unit)
    if clip.valid[frame, 0]:
        _draw_skeleton(image, clip, frame, unit)
    _draw_status(image, clip, frame, unit)
    return image


def _draw_box(image, box, unit):
    if box.any():
        left, top, right, bottom = (int(value) for value in box)
        cv2.rectangle(image, (left, top), (right, bottom), (120, 120, 120), unit)


def _draw_keypoints(image, keypoints, definition, unit):
    body_count = len(definition)
    for parent, child in BODY_BONES[definition.name]:
        _line(image, keypoints[[parent, child]], (30, 30, 30), unit)
    for side in range(2):
        hand = keypoints[body_count + 21 * side : body_count + 21 * (side + 1)]
        for parent, child in HAND_BONES:
            _line(image, hand[[parent, child]], (30, 30, 30), unit)
        for point in hand:
            _dot(image, point, (LEFT_COLOUR, RIGHT_COLOUR)[side], unit)
    for point in keypoints[:body_count]:
        _dot(image, point, (30, 30, 30), 2 * unit)


def _draw_skeleton(image, clip, frame, unit):
    pixels = project(clip.joints_camera[frame], clip.camera_matrix)
    for part, valid in zip(PART_JOINTS, clip.valid[frame]):
        for joint in range(len(PARENTS))[PART_JOINTS[part]] if valid else ():
            parent = PARENTS[joint]
            if parent >= 0 and np.isfinite(pixels[[joint, parent]]).all():
                a, b = (tuple(int(value) for value in np.clip(pixels[index], -1e4, 1e4)) for index in (parent, joint))
                cv2.line(image, a, b, _side_colour(joint), 2 * unit if part == "body" else unit, cv2.LINE_AA)


def _side_colour(joint):
    name = JOINT_NAMES[joint]
    return LEFT_COLOUR if name.startswith("left") else RIGHT_COLOUR if name.startswith("right") else MIDDLE_COLOUR


def _draw_status(image, clip, frame, unit):
    parts = [part.replace("_", " ") for part, valid in zip(VALID_PARTS, clip.valid[frame]) if valid]
    text = f"{clip.timestamps[frame]:6.2f} s   {', '.join(parts) or 'nobody'}"
    scale = 0.45 * unit
    for colour, thickness in (((0, 0, 0), 3 * unit), ((255, 255, 255), unit)):
        cv2.putText(image, text, (8 * unit, 16 * unit), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)


def _line(image, points, colour, thickness):
    if (points[:, 2] >= SEEN).all():
        a, b = (tuple(int(value) for value in point[:2]) for point in points)
        cv2.line(image, a, b, colour, thickness, cv2.LINE_AA)


def _dot(image, point, colour, radius):
    if point[2] >= SEEN:
        cv2.circle(image, (int(point[0]), int(point[1])), radius, colour, -1, cv2.LINE_AA)
