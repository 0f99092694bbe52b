"""`fullbody evaluate clip VIDEO...`: speed, validity and reprojection of a capture, beside MediaPipe Holistic.

Both read the same file from the start and are timed with decoding, one after the other in one run, so that the ratio holds on
a noisy machine. The reprojection says how far the posed body stands from what was detected; it is not accuracy against truth.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..body.open_body import load_body
from ..camera import project
from ..contract.frames import axis_angle_to_matrix
from ..detect.keypoints import SEEN
from ..ik.rest_skeleton import TRACKED_KEYPOINTS, RestSkeleton
from ..pipeline import CaptureSettings, capture
from ..video import open_video
from .table import format_table


@dataclass
class ClipReport:
    """Figures of one clip. Rates in frames per second; shares 0..1; errors as a share of the person box's height."""

    name: str
    frame_count: int
    capture_rate: float
    holistic_rate: float
    body_valid: float
    hands_found: tuple
    holistic_hands_found: tuple
    reprojection_median: float
    reprojection_p90: float


def evaluate_clip(path, settings=CaptureSettings()):
    """Captures a video and measures it. Raises what `capture` raises."""
    start = time.perf_counter()
    clip, _ = capture(path, settings)
    capture_seconds = time.perf_counter() - start
    holistic_seconds, holistic_hands = run_holistic(path)
    errors = reprojection_errors(clip)
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
    )


def reprojection_errors(clip):
    """Distances [N] between posed points and seen keypoints, as shares of the person box's height, over all valid frames.

    The points are the joints and surface landmarks that the body shares with BlazePose, posed by the clip's own `poses`.
    """
    skeleton = RestSkeleton.of_body(load_body(clip.meta["settings"]["body"]), clip.betas)
    rotations = axis_angle_to_matrix(clip.poses.reshape(clip.frame_count, -1, 3))
    rotations[:, 0] = clip.camera_to_world[:3, :3].T @ rotations[:, 0]
    pixels = project(skeleton.tracked_points(rotations) + clip.joints_camera[:, :1], clip.camera_matrix)
    detected = clip.keypoints2d[:, list(TRACKED_KEYPOINTS)]
    height = (clip.person_box[:, 3] - clip.person_box[:, 1])[:, None]
    used = (detected[..., 2] >= SEEN) & clip.valid[:, :1]
    distance = np.linalg.norm(pixels - detected[..., :2], axis=-1)
    return distance[used] / np.broadcast_to(height, distance.shape)[used]


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
        )
        for report in reports
    ]
    return format_table(header, rows)
