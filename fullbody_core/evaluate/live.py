"""`fullbody evaluate live VIDEO...`: the live path beside the offline one on the same clips.

The clip goes through the live solver frame by frame, each only when the one before is done and without waiting for a clock;
calibration is waited for, so that the figures do not depend on the machine. What is compared begins with the first guess of the
person. Offline knows what comes next, and the whole clip's person: the differences are what that is worth, not errors.
"""

import time
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from ..body.load_body import load_body
from ..contract.capture import CaptureClip
from ..contract.frames import axis_angle_to_matrix
from ..contract.skeleton import BODY_JOINTS, full_keypoint_names
from ..detect.keypoints import Keypoints
from ..face.load_face import load_face
from ..ik.rest_skeleton import RestSkeleton
from ..live.solver import LiveSolver
from ..overlay import draw_frame
from ..pipeline import CaptureSettings, all_keypoints2d, capture, make_detector
from ..read_ahead import decoded_ahead
from ..table import format_table
from ..video import VideoWriter, open_video
from .clip import still_jitter

SMOOTHINGS = (0.0, 0.5, 1.0)

LAGS = np.arange(-0.1, 0.4, 0.005)
"""s that are tried."""


@dataclass
class LiveClip:
    """A clip as the live solver gave it. clip: `CaptureClip`, the last person's; persons: `Person` by frame; stages: dicts of s;
    network [T] s; seconds [T] of the whole solve."""

    clip: CaptureClip
    persons: list
    stages: list
    network: np.ndarray
    seconds: np.ndarray

    @property
    def measured(self):
        """Frames [T] bool with a person who is more than the mean body."""
        return np.array([person.revision > 1 for person in self.persons])


@dataclass
class LiveReport:
    """Live beside offline at one smoothing, over `frame_count` frames that are valid in both.

    joints, world: mean distance of the 22 body joints, about the pelvis and in the world, m; expression: mean absolute
    difference of coefficients; jitter and offline_jitter m/s^2 as in `still_jitter`; lag s; solve, network and stages: medians in s
    """

    name: str
    smoothing: float
    frame_count: int
    joints: float
    world: float
    expression: float
    jitter: float
    offline_jitter: float
    lag: float
    solve: float
    slowest: float
    network: float
    stages: dict


def evaluate_live(
    path, settings=CaptureSettings(), smoothings=SMOOTHINGS, overlay=None, progress=lambda frames, **_: frames
):
    """A `LiveReport` for each smoothing. overlay: where to write the video with the live skeleton of the middle one drawn over it.

    Raises what `capture` raises.
    """
    # Beside the same answer a frame at a time: what refinement adds is another evaluation.
    offline, _ = capture(path, replace(settings, refine=False))
    detected = detect_one_by_one(path, settings, progress)
    body = load_body(settings.body)
    reports = []
    for smoothing in smoothings:
        live = run_live(path, detected, settings, smoothing, body)
        reports.append(compare(live, offline, smoothing, body))
        if overlay is not None and smoothing == sorted(smoothings)[len(smoothings) // 2]:
            write_live_overlay(live, path, overlay)
    return reports


def detect_one_by_one(path, settings, progress=lambda frames, **_: frames):
    """(definition, timestamps [T], `Keypoints` of T frames), each frame detected when the one before is done."""
    video, timestamps, found = open_video(path), [], []
    with closing(make_detector(settings)) as detector:
        for timestamp, image in progress(decoded_ahead(video.frames()), total=video.frame_count_estimate):
            timestamps.append(timestamp)
            found.append(detector.detect(image))
        return detector.definition, np.array(timestamps), Keypoints.stack(found)


def run_live(path, detected, settings, smoothing, body):
    """`LiveClip` of a video whose frames were detected."""
    definition, timestamps, seen = detected
    video = open_video(path)
    face = None if settings.face == "none" else load_face(settings.face)
    size = video.image_size
    solver = LiveSolver(body, face, definition, size, settings.fov, settings.ik, settings.face_solver, smoothing)
    solved, persons, seconds = [], [], []
    for frame, (timestamp, image) in enumerate(decoded_ahead(video.frames())):
        start = time.perf_counter()
        solved.append(solver.solve(seen.take(frame), image, timestamp))
        seconds.append(time.perf_counter() - start)
        persons.append(solver.person)
        solver.finish_calibration()
    names = solver.stream_sizes()["expression_names"]
    return LiveClip(
        clip=_to_clip(solved, persons, seen.without_broken_points(), timestamps, video, body, names),
        persons=persons,
        stages=[frame.stages for frame in solved],
        network=np.array([frame.network for frame in solved]),
        seconds=np.array(seconds),
    )


def _to_clip(solved, persons, seen, timestamps, video, body, expression_names):
    poses, trans = np.stack([frame.poses for frame in solved]), np.stack([frame.trans for frame in solved])
    joints = np.empty((len(poses), 52, 3))
    for frame, person in enumerate(persons):
        world = posed_joints(poses[[frame]], trans[[frame]], RestSkeleton.of_body(body, person.betas))
        to_camera = person.camera_to_world[:3, :3]
        joints[frame] = (world[0] - person.camera_to_world[:3, 3]) @ to_camera
    person = persons[-1]
    return CaptureClip(
        poses=poses,
        trans=trans,
        betas=person.betas,
        mocap_framerate=video.mean_framerate,
        timestamps=timestamps,
        joints_camera=joints,
        keypoints2d=all_keypoints2d(seen),
        keypoint_names=full_keypoint_names(seen.definition),
        valid=np.stack([frame.valid for frame in solved]),
        face_expression=np.stack([frame.expression for frame in solved]),
        expression_names=expression_names,
        camera_matrix=person.camera_matrix,
        camera_to_world=person.camera_to_world,
        image_size=np.array(video.image_size),
        person_box=seen.person_box,
    )


def posed_joints(poses, trans, skeleton):
    """Joints [T, 52, 3] m in the world of poses [T, 156] and trans [T, 3] of a capture file."""
    rotations = axis_angle_to_matrix(poses.reshape(len(poses), -1, 3))
    return skeleton.pose(rotations)[0] + (trans + skeleton.joints[0])[:, None]


def compare(live, offline, smoothing, body):
    """The `LiveReport` of a `LiveClip` beside the `CaptureClip` of the offline capture."""
    clip = live.clip
    used = live.measured & clip.valid[:, 0] & offline.valid[:, 0]
    faces = used & clip.valid[:, 3] & offline.valid[:, 3]
    own, other = (item.joints_camera[:, BODY_JOINTS] for item in (clip, offline))
    own_world = joints_in_world(clip, live.persons)[:, BODY_JOINTS]
    other_world = joints_in_world(offline)[:, BODY_JOINTS]
    relative = np.linalg.norm((own - own[:, :1]) - (other - other[:, :1]), axis=-1)
    difference = np.abs(clip.face_expression - offline.face_expression)[faces]
    return LiveReport(
        name=offline.meta["source"]["name"],
        smoothing=smoothing,
        frame_count=int(used.sum()),
        joints=_mean(relative[used]),
        world=_mean(np.linalg.norm(own_world - other_world, axis=-1)[used]),
        expression=_mean(difference),
        jitter=still_jitter(replace(clip, valid=clip.valid & live.measured[:, None]))[0],
        offline_jitter=still_jitter(replace(offline, valid=offline.valid & live.measured[:, None]))[0],
        lag=lag(own[:, 1:] - own[:, :1], other[:, 1:] - other[:, :1], clip.timestamps, used),
        solve=float(np.median(live.seconds)),
        slowest=float(np.percentile(live.seconds, 99)),
        network=float(np.median(live.network)),
        stages={name: float(np.median([stages[name] for stages in live.stages])) for name in live.stages[-1]},
    )


def joints_in_world(clip, persons=None):
    """Joints [T, 52, 3] m of a clip in the world, by each frame's own `Person` where these are given."""
    poses = clip.camera_to_world if persons is None else np.stack([person.camera_to_world for person in persons])
    return clip.joints_camera @ np.swapaxes(poses[:, :3, :3], 1, 2) + poses[:, None, :3, 3]


def lag(values, reference, timestamps, used):
    """By how many of LAGS values [T, ...] are behind a reference: where they lie nearest to it, but for a constant difference.

    Over the `used` frames [T] bool; NaN where nothing moves there, or there are too few.
    """
    values, reference = (item.reshape(len(item), -1) for item in (values, reference))
    if used.sum() < 10 or values[used].std(0).max() < 1e-3:
        return float("nan")
    times = timestamps[used]
    costs = [np.var(values[used] - _at(times - delay, times, reference[used]), axis=0).sum() for delay in LAGS]
    return float(LAGS[int(np.argmin(costs))])


def _at(wanted, times, values):
    """Values [T, N] at other times, between two by both; beyond the ends the end's."""
    after = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    share = np.clip((wanted - times[after - 1]) / (times[after] - times[after - 1]), 0, 1)[:, None]
    return (1 - share) * values[after - 1] + share * values[after]


def _mean(values):
    return float(values.mean()) if values.size else float("nan")


def write_live_overlay(live, video_path, output):
    """Writes the video with the keypoints and the live skeleton drawn over it, each frame by its own person's camera."""
    video = open_video(video_path)
    with VideoWriter(output, video.image_size, video.mean_framerate) as writer:
        for frame, ((timestamp, image), person) in enumerate(zip(video.frames(), live.persons)):
            clip = replace(live.clip, camera_matrix=person.camera_matrix)
            writer.write(timestamp, draw_frame(image, clip, frame))


def format_live_reports(reports):
    """The reports as two tables for the terminal: how near, and how fast."""
    header = ("clip", "smoothing", "frames", "joints mm", "world mm", "expression", "jitter", "offline", "lag ms")
    rows = [
        (
            report.name,
            f"{report.smoothing:g}",
            str(report.frame_count),
            f"{1000 * report.joints:.1f}",
            f"{1000 * report.world:.1f}",
            f"{report.expression:.3f}",
            f"{report.jitter:.2f}",
            f"{report.offline_jitter:.2f}",
            f"{1000 * report.lag:.0f}",
        )
        for report in reports
    ]
    stages = list(reports[0].stages)
    speed = [
        (
            report.name,
            f"{report.smoothing:g}",
            *(f"{1000 * seconds:.2f}" for seconds in (report.solve, report.slowest, report.network)),
            *(f"{1000 * report.stages[stage]:.2f}" for stage in stages),
        )
        for report in reports
    ]
    speed_header = ("clip", "smoothing", "solve ms", "p99", "networks", *stages)
    return f"{format_table(header, rows)}\n\n{format_table(speed_header, speed)}"
