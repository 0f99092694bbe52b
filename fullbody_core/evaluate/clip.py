"""`fullbody evaluate clip VIDEO...`: speed, validity and reprojection of a capture, beside MediaPipe Holistic.

Both read the same file from the start and are timed with decoding, one after the other in one run, so that the ratio holds on
a noisy machine. The reprojection says how far the posed body stands from what was detected; it is not accuracy against truth.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..body.load_body import load_body
from ..camera import project
from ..contract.frames import axis_angle_to_matrix
from ..contract.skeleton import BODY_JOINTS
from ..contract.swing_twist import transpose
from ..detect.keypoints import SEEN
from ..ik.rest_skeleton import TRACKED, RestSkeleton
from ..pipeline import CaptureSettings, capture
from ..table import format_table
from ..video import open_video


@dataclass
class ClipReport:
    """Figures of one clip. Rates in frames per second; shares 0..1; errors as a share of the person box's height; jitter in
    m/s^2 over `still_count` frames."""

    name: str
    frame_count: int
    capture_rate: float
    holistic_rate: float
    body_valid: float
    hands_found: tuple
    holistic_hands_found: tuple
    reprojection_median: float
    reprojection_p90: float
    jitter: float
    still_count: int


def evaluate_clip(path, settings=CaptureSettings()):
    """Captures a video and measures it. Raises what `capture` raises."""
    start = time.perf_counter()
    clip, _ = capture(path, settings)
    capture_seconds = time.perf_counter() - start
    holistic_seconds, holistic_hands = run_holistic(path)
    errors = reprojection_errors(clip)
    jitter, still_count = still_jitter(clip)
    return ClipReport(
        name=Path(path).name,
        frame_count=clip.frame_count,
        capture_rate=clip.frame_count / capture_seconds,
        holistic_rate=clip.frame_count / holistic_seconds,
        body_valid=float(clip.valid[:, 0].mean()),
        hands_found=tuple(int(count) for count in clip.valid[:, 1:3].sum(0)),
        holistic_hands_found=holistic_hands,
        reprojection_median=float(np.median(errors)) if len(errors) else float("nan"),
        reprojection_p90=float(np.percentile(errors, 90)) if len(errors) else float("nan"),
        jitter=jitter,
        still_count=still_count,
    )


def reprojection_errors(clip):
    """Distances [N] between posed points and seen keypoints, as shares of the person box's height, over all valid frames.

    The points are the joints and surface landmarks that the body shares with the detector, posed by the clip's own `poses`.
    """
    skeleton = RestSkeleton.of_body(load_body(clip.meta["settings"]["body"]), clip.betas)
    rotations = axis_angle_to_matrix(clip.poses.reshape(clip.frame_count, -1, 3))
    rotations[:, 0] = transpose(clip.camera_to_world[:, :3, :3]) @ rotations[:, 0]
    definition = clip.body_definition
    pixels = project(skeleton.tracked_points(definition, rotations) + clip.joints_camera[:, :1], clip.camera_matrix)
    detected = clip.keypoints2d[:, list(TRACKED[definition.name])]
    height = (clip.person_box[:, 3] - clip.person_box[:, 1])[:, None]
    used = (detected[..., 2] >= SEEN) & clip.valid[:, :1]
    distance = np.linalg.norm(pixels - detected[..., :2], axis=-1)
    return distance[used] / np.broadcast_to(height, distance.shape)[used]


STILL = 0.15
"""Heights of the person box a second: slower than this, by the median of the seen keypoints, somebody stands still."""


def still_jitter(clip):
    """(mean acceleration in m/s^2 of the 22 body joints about the pelvis in still passages, number of their frames).

    Stillness is read from the detected keypoints, so that it is the same for every solver. NaN without a still passage.
    """
    joints = clip.joints_camera[:, BODY_JOINTS] - clip.joints_camera[:, :1]
    steps = np.maximum(np.diff(clip.timestamps), 1e-6)[:, None]
    velocity = np.diff(joints, axis=0) / steps[..., None]
    acceleration = np.linalg.norm(np.diff(velocity, axis=0), axis=-1) / ((steps[1:] + steps[:-1]) / 2)
    height = np.maximum(clip.person_box[1:, 3] - clip.person_box[1:, 1], 1)[:, None]
    body = clip.keypoints2d[:, : len(clip.body_definition)]
    speed = np.linalg.norm(np.diff(body[..., :2], axis=0), axis=-1) / steps / height
    seen = (body[1:, :, 2] >= SEEN) & (body[:-1, :, 2] >= SEEN)
    speed = np.array([np.median(row[shown]) if shown.any() else np.inf for row, shown in zip(speed, seen)])
    valid = clip.valid[:, 0]
    still = (speed[1:] < STILL) & (speed[:-1] < STILL) & valid[2:] & valid[1:-1] & valid[:-2]
    return float(acceleration[still].mean()) if still.any() else float("nan"), int(still.sum())


def run_holistic(path):
    """Seconds that MediaPipe's own Holistic takes for the clip, and in how many frames it finds the left and right hand."""
    import mediapipe

    start = time.perf_counter()
    left = right = 0
    with mediapipe.solutions.holistic.Holistic(model_complexity=1) as holistic:
        for _, image in open_video(path).frames():
            result = holistic.process(image)
            left += result.left_hand_landmarks is not None
            right += result.right_hand_landmarks is not None
    return time.perf_counter() - start, (left, right)


def format_reports(reports):
    """The reports as a table for the terminal."""
    header = (
        "clip",
        "frames",
        "capture fps",
        "Holistic fps",
        "body valid",
        "hands L/R",
        "Holistic L/R",
        "reproj. median",
        "p90",
        "jitter",
        "still",
    )
    rows = [
        (
            report.name,
            str(report.frame_count),
            f"{report.capture_rate:.1f}",
            f"{report.holistic_rate:.1f}",
            f"{report.body_valid:.1%}",
            "{}/{}".format(*report.hands_found),
            "{}/{}".format(*report.holistic_hands_found),
            f"{report.reprojection_median:.2%}",
            f"{report.reprojection_p90:.2%}",
            f"{report.jitter:.2f}",
            str(report.still_count),
        )
        for report in reports
    ]
    return format_table(header, rows)
