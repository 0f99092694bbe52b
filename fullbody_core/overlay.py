"""Pictures over the video: what was detected and where the solved skeleton stands."""

import cv2
import numpy as np

from .camera import project
from .contract.skeleton import BODY_BONES, HAND_BONES, JOINT_NAMES, PARENTS, PART_JOINTS, VALID_PARTS
from .detect.keypoints import SEEN
from .video import VideoWriter, open_video

LEFT_COLOUR, RIGHT_COLOUR, MIDDLE_COLOUR = (255, 140, 40), (60, 160, 255), (240, 240, 240)
"""RGB of the person's left, right and middle. The detector's points are small and dark, the skeleton is bright."""


IDENTITY_COLOURS = ((255, 214, 64), (96, 224, 120), (224, 112, 255), (64, 208, 224), (255, 120, 120), (176, 176, 255))
"""RGB of the boxes and labels of several people, in turns."""


def write_overlay(clips, video_path, output, progress=lambda frames, **_: frames):
    """Writes the video with the detected keypoints and the re-projected skeletons of its people drawn over it.

    clips: a `CaptureClip`, or {identity: `CaptureClip`} of several people in the same frames. The file appears whole or not at
    all. Raises `VideoError`.
    """
    clips = clips if isinstance(clips, dict) else {1: clips}
    first = next(iter(clips.values()))
    video = open_video(video_path)
    with VideoWriter(output, video.image_size, first.mocap_framerate) as writer:
        frames = progress(video.frames(), total=first.frame_count)
        for frame, (timestamp, image) in zip(range(first.frame_count), frames):
            writer.write(timestamp, draw_people(image, clips, frame))


def draw_frame(image, clip, frame):
    """A copy of an image [H, W, 3] with one frame of the clip drawn over it."""
    return draw_people(image, {1: clip}, frame)


def draw_people(image, clips, frame):
    """A copy of an image [H, W, 3] with one frame of {identity: `CaptureClip`} drawn over it; with a label each if several."""
    image = np.array(image, order="C")
    unit = max(1, round(max(image.shape[:2]) / 640))
    for identity, clip in clips.items():
        _draw_box(image, clip.person_box[frame], unit, identity if len(clips) > 1 else None)
        _draw_keypoints(image, clip.keypoints2d[frame], clip.body_definition, unit)
        if clip.valid[frame, 0]:
            _draw_skeleton(image, clip, frame, unit)
    _draw_status(image, clips, frame, unit)
    return image


def _draw_box(image, box, unit, identity=None):
    if not box.any():
        return
    left, top, right, bottom = (int(value) for value in box)
    if identity is None:
        cv2.rectangle(image, (left, top), (right, bottom), (120, 120, 120), unit)
        return
    colour, scale = IDENTITY_COLOURS[(identity - 1) % len(IDENTITY_COLOURS)], 0.45 * unit
    cv2.rectangle(image, (left, top), (right, bottom), colour, unit)
    (width, height), _ = cv2.getTextSize(str(identity), cv2.FONT_HERSHEY_SIMPLEX, scale, unit)
    top = max(top, height + 4 * unit)  # a label above the picture would not be seen
    cv2.rectangle(image, (left, top - height - 4 * unit), (left + width + 4 * unit, top), colour, -1)
    at = (left + 2 * unit, top - 2 * unit)
    cv2.putText(image, str(identity), at, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), unit, cv2.LINE_AA)


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


def _draw_status(image, clips, frame, unit):
    seen = {identity: clip for identity, clip in clips.items() if clip.valid[frame].any()}
    if len(clips) > 1:
        said = "people " + ", ".join(map(str, seen)) if seen else ""
    else:
        said = ", ".join(_valid_parts(clip, frame) for clip in seen.values())
    text = f"{next(iter(clips.values())).timestamps[frame]:6.2f} s   {said or 'nobody'}"
    scale = 0.45 * unit
    for colour, thickness in (((0, 0, 0), 3 * unit), ((255, 255, 255), unit)):
        cv2.putText(image, text, (8 * unit, 16 * unit), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)


def _valid_parts(clip, frame):
    return ", ".join(
        part.replace("_", " ") + (" (filled in)" if filled else "")
        for part, valid, filled in zip(VALID_PARTS, clip.valid[frame], clip.filled[frame])
        if valid
    )


def _line(image, points, colour, thickness):
    if (points[:, 2] >= SEEN).all():
        a, b = (tuple(int(value) for value in point[:2]) for point in points)
        cv2.line(image, a, b, colour, thickness, cv2.LINE_AA)


def _dot(image, point, colour, radius):
    if point[2] >= SEEN:
        cv2.circle(image, (int(point[0]), int(point[1])), radius, colour, -1, cv2.LINE_AA)
