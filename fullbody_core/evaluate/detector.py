"""`fullbody evaluate detector --data FOLDER`: what the detector makes of people whose every joint is known.

Open bodies of random shape are posed by motion capture, dressed, rendered in short bursts of consecutive frames, and given to
the real detector. What it gets wrong becomes a table and a `DetectorNoise` for training and evaluating inverse kinematics.
Everything follows from the seed, scene by scene: scene 17 is the same whether sixteen were made before it or none.
"""

from dataclasses import dataclass, fields, replace
from textwrap import indent

import cv2
import numpy as np
import torch

from ..body.lbs import BodyModel
from ..body.open_body import load_body
from ..camera import camera_matrix, project
from ..contract.frames import CAMERA_TO_WORLD, axis_angle_to_matrix, matrix_to_axis_angle
from ..contract.skeleton import BLAZEPOSE_33, BLAZEPOSE_BONES, FINGERS, HAND_BONES, JOINT_INDEX
from ..detect.keypoints import SEEN, SIDES, Keypoints
from ..detect.mediapipe import MediaPipeDetector
from ..ik.rest_skeleton import BODY_PLACES, RestSkeleton, hand_places
from ..pipeline import turn_to_camera
from ..swing_twist import transpose
from ..synth.detector_noise import (
    BODY_PART,
    BODY_RANK,
    HAND_PART,
    HAND_RANK,
    MIRROR,
    DetectorNoise,
    PartPairs,
    align,
    estimate_part,
    following,
    is_swapped,
    is_turned,
    second_differences,
)
from ..synth.render import dress, put_on, render, room, sample_light
from ..train.hand_poses import sample_hand_poses
from ..train.motions import load_motions
from .table import format_table

SCENE_COUNT = 440
"""With seed 0 this makes the noise model that comes with the package."""

FEWEST_FRAMES = 20
"""In which a part must have been found, or nothing is said of it."""

FRAMERATE = 30.0
BURST, WARM_UP = 9, 2
"""Frames rendered in a scene, and how many of them pass before the detector's own smoothing has caught up."""

LARGEST_BETA = 2.5
CLOSE_SHARE = 0.4
"""Scenes that show the person from about the waist up, where the hands are large."""

SIGNING_SHARE = 0.75
"""Of those, the ones with the hands before the chest, as in signing; the rest keep the motion capture's arms."""

FULL_VIEWS, CLOSE_VIEWS = (0.75, 50), (0.85, 30)
"""Share of the scenes filmed from about the front, and standard deviation in degrees of the side they are filmed from then."""

NEAREST = 0.55
"""m of depth that every joint keeps from the camera."""

IMAGE_SIZES = ((512, 640), (640, 640), (800, 600), (540, 960), (960, 540))
"""px (width, height)."""

GROSS_BODY, GROSS_HAND = 0.4, 0.06
"""m of mean error over a part's points from which an answer counts as wrong altogether, not as noisy."""

HAND_ELSEWHERE = 0.5
"""Of a hand's size in the image: mean pixel error from which something else was taken for the hand."""

NEAR = 0.1, 0.02
"""m from the truth at which a point of the body, or of a hand, counts as found in the table."""

X, Y, Z = np.eye(3)


class DetectorEvaluationError(ValueError):
    """An evaluation that says nothing. The message is one sentence for the user."""


@dataclass
class Scene:
    """A burst of T frames of one person before one camera that stands still.

    betas [16]; rotations [T, 52, 3, 3] parent-relative, the pelvis's turned to camera axes; pelvis [T, 3] m in the camera
    frame; matrix [3, 3] px; image_size (width, height) px; up [3]: the world's vertical in the camera frame; close: whether
    it shows the upper body only.
    """

    betas: np.ndarray
    rotations: np.ndarray
    pelvis: np.ndarray
    matrix: np.ndarray
    image_size: tuple
    up: np.ndarray
    close: bool


def evaluate_detector(data_folder, scene_count=SCENE_COUNT, seed=0, progress=lambda scenes, **_: scenes):
    """Measures the detector on renders of training motions of an AMASS-format folder.

    progress wraps the iterator over scenes (tqdm does). Returns (`DetectorReport`, `DetectorNoise`). Raises
    `MotionDataError` for a folder without motions, `BodyModelError` where the open body cannot be made, and
    `DetectorEvaluationError` for too few scenes to tell anything.
    """
    body, motions = load_body("open"), load_motions(data_folder, held_out=False, framerate=FRAMERATE)
    observations = [observe_scene(body, motions, seed, number) for number in progress(range(scene_count))]
    return summarize(observations, seed)


def observe_scene(body, motions, seed, number):
    """Samples, renders and detects scene `number`; returns its `Observation`."""
    rng = np.random.default_rng([seed, number])
    scene = sample_scene(rng, body, motions)
    images = render_scene(rng, scene, body)
    detector = MediaPipeDetector()
    try:
        seen = Keypoints.stack([detector.detect(image) for image in images])
    finally:
        detector.close()
    return observe(scene, body, seen)


def sample_scene(rng, body, motions):
    """A random person, burst of motion and camera. body: `BodyModelFile`; motions: list of `Motion`."""
    betas = np.clip(rng.normal(size=body.shapedirs.shape[-1]), -LARGEST_BETA, LARGEST_BETA)
    skeleton = RestSkeleton.of_body(body, betas)
    close = bool(rng.random() < CLOSE_SHARE)
    rotations = _sample_burst(rng, motions)
    if close and rng.random() < SIGNING_SHARE:
        _raise_hands(rng, rotations)
    _turn_wrists(rng, rotations)
    _move_fingers(rng, rotations, skeleton.joints)
    world_to_camera = _sample_view(rng, rotations[BURST // 2, 0], *CLOSE_VIEWS if close else FULL_VIEWS)
    rotations[:, 0] = world_to_camera @ rotations[:, 0]
    image_size = IMAGE_SIZES[rng.integers(len(IMAGE_SIZES))]
    matrix = camera_matrix(image_size, rng.uniform(35, 65))
    joints, orientations = skeleton.pose(rotations)
    points = np.concatenate([joints, skeleton.place(["head_top", "left_heel", "right_heel"], joints, orientations)], 1)
    pelvis = _place_person(rng, points, close, matrix, image_size)
    return Scene(betas, rotations, np.tile(pelvis, (BURST, 1)), matrix, image_size, world_to_camera[:, 2], close)


def _sample_burst(rng, motions):
    """BURST consecutive frames [T, 52, 3, 3] from anywhere in the motions, every frame alike."""
    starts = np.array([max(len(motion.rotations) - BURST, 0) for motion in motions])
    motion = rng.choice(len(motions), p=starts / starts.sum())
    start = rng.integers(starts[motion])
    return motions[motion].rotations[start : start + BURST].copy()


def _drift(rng, spread, speed):
    """An angle [T, 1] rad that starts anywhere within `spread` rad and moves on at up to `speed` rad/s."""
    return rng.uniform(-spread, spread) + rng.normal(0, speed / 2) * np.arange(BURST)[:, None] / FRAMERATE


def _raise_hands(rng, rotations):
    """Puts the arms, in place, before the chest: upper arms down and forward, elbows bent, forearms turned inwards."""
    for side, sign in zip(SIDES, (1, -1)):
        if rng.random() < 0.15:
            continue
        down, forward, twist = np.radians([rng.uniform(-80, -45), rng.uniform(-50, 0), rng.uniform(-50, 40)])
        shoulder = (
            axis_angle_to_matrix(Y * sign * forward)
            @ axis_angle_to_matrix(Z * sign * down)
            @ axis_angle_to_matrix(X * twist)
        )
        wobble = axis_angle_to_matrix(rng.normal(size=3) * _drift(rng, 0.2, 0.8))
        rotations[:, JOINT_INDEX[f"{side}_shoulder"]] = wobble @ shoulder
        flexion = sign * (-np.radians(rng.uniform(60, 135)) + _drift(rng, 0.1, 1.5))
        rotations[:, JOINT_INDEX[f"{side}_elbow"]] = axis_angle_to_matrix(Y * flexion)


def _turn_wrists(rng, rotations):
    """Turns both wrists, in place: pronation about the forearm, flexion and deviation."""
    for side in SIDES:
        for axis, spread in ((X, 60), (Z, 35), (Y, 15)):
            turn = axis_angle_to_matrix(axis * _drift(rng, np.radians(spread), 1.0))
            joint = JOINT_INDEX[f"{side}_wrist"]
            rotations[:, joint] = rotations[:, joint] @ turn


def _move_fingers(rng, rotations, rest_joints):
    """Gives both hands fingers, in place, that go part of the way from one pose to another."""
    for side, mirror in zip(SIDES, (np.eye(3), MIRROR)):
        start, stop = sample_hand_poses(rng, 2, rest_joints)
        change = np.swapaxes(start, -1, -2) @ stop
        share = rng.uniform(0, 0.4) * np.linspace(0, 1, BURST)
        hand = start @ axis_angle_to_matrix(matrix_to_axis_angle(change) * share[:, None, None])
        first = JOINT_INDEX[f"{side}_{FINGERS[0]}1"]
        rotations[:, first : first + hand.shape[1]] = mirror @ hand @ mirror


def _sample_view(rng, pelvis_to_world, frontal_share, spread):
    """Rotation [3, 3] from the world to a camera without roll; frontal_share and spread as in FULL_VIEWS."""
    facing = pelvis_to_world[:, 2]
    azimuth = np.radians(rng.normal(0, spread) if rng.random() < frontal_share else rng.uniform(-180, 180))
    front = np.arctan2(facing[1], facing[0])
    # A person who faces -y looks into the camera.
    turn = axis_angle_to_matrix(Z * (azimuth - np.pi / 2 - front))
    pitch = np.radians(rng.uniform(-5, 25))
    return (CAMERA_TO_WORLD @ axis_angle_to_matrix([-pitch, 0, 0])).T @ turn


def _place_person(rng, points, close, matrix, image_size):
    """Where the pelvis stands [3] m, so that the person fills a random share of the image.

    points [T, N, 3] m about the pelvis in camera axes: 52 joints and further points.
    """
    width, height = image_size
    shown = points[:, [JOINT_INDEX[f"{s}_{j}"] for s in SIDES for j in ("hip", "shoulder", "elbow", "wrist")] + [52]]
    shown = (shown if close else points).reshape(-1, 3)
    low, high = shown.min(0), shown.max(0)
    tall, wide = matrix[0, 0] * (high - low)[:2][::-1] / [height, width]
    depth = max(tall / rng.uniform(0.4 if not close else 0.6, 0.95), wide / (0.95 if not close else 1.1))
    # The share of the image is that of the nearest point.
    depth = max(depth - low[2], NEAREST - points[..., 2].min())
    slack = np.clip(1 - matrix[0, 0] * (high - low)[:2] / depth / [width, height], 0, 1)
    middle = np.array([width, height]) * (0.5 + 0.35 * slack * rng.uniform(-1, 1, 2))
    place = (middle - matrix[:2, 2]) / matrix[0, 0] * depth
    return np.array([*(place - (low + high)[:2] / 2), depth])


def render_scene(rng, scene, body):
    """The T pictures of a scene, RGB uint8 [H, W, 3] each, one after another."""
    outfit = dress(body, rng)
    vertices = pose_vertices(scene, body)
    soles = (vertices @ scene.up).min()
    background = room(rng, scene.image_size, scene.matrix, scene.up, max(-soles, 0.3))
    light, blur = sample_light(rng, scene.up), rng.uniform(0.2, 0.9)
    grain = rng.uniform(0.5, 4)
    for surface in vertices:
        image, _ = render(put_on(outfit, surface, body.f), body.f, outfit.colours, scene.matrix, background, light)
        soft = cv2.GaussianBlur(image, (0, 0), blur)
        yield np.clip(soft + rng.normal(0, grain, soft.shape), 0, 255).astype(np.uint8)


def pose_vertices(scene, body):
    """Posed surface [T, V, 3] m of a scene's person in the camera frame."""
    model = BodyModel(body, dtype=torch.float32)
    betas = torch.as_tensor(scene.betas, dtype=torch.float32)[None].expand(len(scene.pelvis), -1)
    with torch.no_grad():
        translation = torch.as_tensor(scene.pelvis, dtype=torch.float32) - model.rest_joints(betas)[:, 0]
        return model(betas, torch.as_tensor(scene.rotations, dtype=torch.float32), translation)[0].numpy().astype(float)


@dataclass
class Observation:
    """One scene, truth beside detection, for its T frames after the warm-up, everything in camera axes.

    seen: `Keypoints`, T frames; body [T, 33, 3] m: true places in the camera frame, body_carriers [T, 33, 3, 3];
    hands [T, 2, 21, 3] m and hand_carriers [T, 2, 21, 3, 3], left hand first, neither mirrored; matrix [3, 3] px; image_size
    (width, height) px; close: the upper body only.
    """

    seen: Keypoints
    body: np.ndarray
    body_carriers: np.ndarray
    hands: np.ndarray
    hand_carriers: np.ndarray
    matrix: np.ndarray
    image_size: tuple
    close: bool

    def __len__(self):
        return len(self.body)


def observe(scene, body, seen):
    """The `Observation` of a scene and of what the detector saw in all of its frames (`Keypoints`, crop axes)."""
    skeleton = RestSkeleton.of_body(body, scene.betas)
    seen = turn_to_camera(replace(seen, face3d=np.zeros((len(seen.face3d), 1, 3))), scene.matrix)
    joints, orientations = skeleton.pose(scene.rotations)
    at_body = skeleton.place(BODY_PLACES[BLAZEPOSE_33.name], joints, orientations) + scene.pelvis[:, None]
    hands = [skeleton.place(hand_places(side), joints, orientations) + scene.pelvis[:, None] for side in SIDES]
    hand_carriers = [[JOINT_INDEX[name.replace("left", side)] for name in HAND_PART.carriers] for side in SIDES]
    kept = slice(WARM_UP, None)
    return Observation(
        seen=Keypoints(*(getattr(seen, item.name)[kept] for item in fields(seen))),
        body=at_body[kept],
        body_carriers=orientations[kept, [JOINT_INDEX[name] for name in BODY_PART.carriers]],
        hands=np.stack(hands, 1)[kept],
        hand_carriers=orientations[kept][:, np.array(hand_carriers)],
        matrix=scene.matrix,
        image_size=scene.image_size,
        close=scene.close,
    )


def body_pairs(observations):
    """`PartPairs` of the body, of all frames in which somebody was found."""
    parts = []
    for burst, each in enumerate(observations):
        found = each.seen.body_confidence.any(1)
        parts.append(
            PartPairs(
                BODY_PART.rooted(each.seen.body3d),
                BODY_PART.rooted(each.body),
                each.body_carriers,
                each.seen.body_confidence >= SEEN,
                np.full(len(each), burst),
                np.arange(len(each)),
            ).take(found)
        )
    return PartPairs.join(parts)


def hand_pairs(observations):
    """`PartPairs` of all hands that were found where they are, as left ones: right hands are mirrored."""
    parts = []
    for burst, each in enumerate(observations):
        for side, mirror in enumerate((np.eye(3), MIRROR)):
            found = (each.seen.hand_confidence[:, side] > 0) & ~_elsewhere(each)[:, side]
            parts.append(
                PartPairs(
                    HAND_PART.rooted(each.seen.hand3d[:, side]) @ mirror,
                    HAND_PART.rooted(each.hands[:, side]) @ mirror,
                    mirror @ each.hand_carriers[:, side] @ mirror,
                    np.ones(each.hands[:, side].shape[:2], bool),
                    np.full(len(each), 2 * burst + side),
                    np.arange(len(each)),
                ).take(found)
            )
    return PartPairs.join(parts)


def _elsewhere(observation):
    """[T, 2] bool: hands that, if they were found, are something else in the image."""
    pixels = project(observation.hands, observation.matrix)
    size = np.ptp(pixels, axis=2).max(-1)
    return np.linalg.norm(pixels - observation.seen.hand2d, axis=-1).mean(2) > HAND_ELSEWHERE * size


@dataclass
class PointErrors:
    """How far points are from the truth, roots together; of seen points only. Lengths in m.

    mean, median, p90: of the distances; near: share within NEAR; aligned: mean distance when each frame is first turned and
    sized onto the truth as well as it can be; lateral, depth [K]: standard deviations of a point across (mean of x and y) and
    along the line of sight; bone_mean, bone_std [B]: of detected over true length; shake: root mean square of a point's error
    against the mean of the frames before and after.
    """

    mean: float
    median: float
    p90: float
    near: float
    aligned: float
    lateral: np.ndarray
    depth: np.ndarray
    bone_mean: np.ndarray
    bone_std: np.ndarray
    shake: float


def measure_errors(part, pairs, bones, near):
    """`PointErrors` of pairs. bones [B, 2]: point indices; near: m."""
    error = pairs.detected - pairs.truth
    distance = np.linalg.norm(error, axis=-1)[pairs.seen]
    scale, turn = align(pairs.detected, pairs.truth, pairs.seen.astype(float))
    aligned = scale[:, None, None] * pairs.detected @ transpose(turn) - pairs.truth
    hidden = np.broadcast_to(~pairs.seen[..., None], error.shape)
    spread = np.ma.masked_array(error, hidden).std(0).filled(np.nan)
    a, b = np.transpose(bones)
    detected, true = (np.linalg.norm(points[:, a] - points[:, b], axis=-1) for points in (pairs.detected, pairs.truth))
    ratio = np.ma.masked_array(detected / np.maximum(true, 1e-6), ~(pairs.seen[:, a] & pairs.seen[:, b]))
    start = following(pairs, 2)
    bend = (second_differences(error, start) / 2)[pairs.seen[start] & pairs.seen[start + 1] & pairs.seen[start + 2]]
    return PointErrors(
        mean=float(distance.mean()),
        median=float(np.median(distance)),
        p90=float(np.percentile(distance, 90)),
        near=float((distance < near).mean()),
        aligned=float(np.linalg.norm(aligned, axis=-1)[pairs.seen].mean()),
        lateral=np.sqrt(np.square(spread[:, :2]).mean(1)),
        depth=spread[:, 2],
        bone_mean=ratio.mean(0).filled(np.nan),
        bone_std=ratio.std(0).filled(np.nan),
        shake=float(np.sqrt(np.square(bend).sum(-1).mean())) if len(bend) else float("nan"),
    )


@dataclass
class PartReport:
    """What was measured of a part, and the same of as many frames drawn from the noise model made of it.

    frames: in which it was found; all_mean: mean error in m of all of these, gross errors among them; measured and drawn:
    `PointErrors` without gross errors.
    """

    frames: int
    all_mean: float
    measured: PointErrors
    drawn: PointErrors


@dataclass
class DetectorReport:
    """scenes and frames that were looked at; face and pixel_near: shares of frames with a face, and of seen body points within
    a tenth of the trunk's length in the image; confidence [3]: shares of body points below 0.5, from 0.5 to 0.9, and above;
    hands_close, hands_far: shares of hands inside the image that were found in close-ups and in the other scenes.
    """

    scenes: int
    frames: int
    face: float
    pixel_near: float
    confidence: np.ndarray
    hands_close: float
    hands_far: float
    body: PartReport
    hand: PartReport
    noise: DetectorNoise


def summarize(observations, seed=0):
    """(`DetectorReport`, `DetectorNoise`) of observed scenes. seed: for the draws that the model is compared with."""
    rng = np.random.default_rng([seed, len(observations)])
    frames = sum(map(len, observations))
    body, body_report = _summarize_part(
        BODY_PART, body_pairs(observations), BODY_RANK, BLAZEPOSE_BONES, GROSS_BODY, NEAR[0], rng
    )
    hand, hand_report = _summarize_part(HAND_PART, hand_pairs(observations), HAND_RANK, HAND_BONES, GROSS_HAND, NEAR[1], rng)
    close, far = (_hands_found([each for each in observations if each.close is close]) for close in (True, False))
    body.miss_rate = 1 - body_report.frames / frames
    hand.miss_rate = 1 - _hands_found(observations)
    found = sum(int((each.seen.hand_confidence > 0).sum()) for each in observations)
    hand.gross_rate = 1 - (1 - hand.gross_rate) * hand_report.frames / found
    meta = {
        "detector": MediaPipeDetector.name,
        "measured_on": "renders of the open body, posed by motion capture",
        "scenes": len(observations),
        "frames": frames,
        "body_frames": body_report.frames,
        "hand_frames": hand_report.frames,
        "seed": seed,
    }
    noise = DetectorNoise(body, hand, meta)
    confidence = np.concatenate([each.seen.body_confidence.ravel() for each in observations])
    report = DetectorReport(
        scenes=len(observations),
        frames=frames,
        face=float(np.mean(np.concatenate([each.seen.face_confidence > 0 for each in observations]))),
        pixel_near=_pixel_near(observations),
        confidence=np.array(
            [np.mean(confidence < SEEN), np.mean((confidence >= SEEN) & (confidence <= 0.9)), np.mean(confidence > 0.9)]
        ),
        hands_close=close,
        hands_far=far,
        body=body_report,
        hand=hand_report,
        noise=noise,
    )
    return report, noise


def _summarize_part(part, pairs, rank, bones, gross, near, rng):
    """`PartNoise` and `PartReport` of a part's pairs, gross errors among them."""
    distance = np.linalg.norm(pairs.detected - pairs.truth, axis=-1)
    wrong = distance.mean(1) > gross
    swapped = (
        is_swapped(part, pairs.detected, pairs.truth) if part.mirror is not None else is_turned(pairs.detected, pairs.truth)
    )
    good = pairs.take(~wrong & ~swapped)
    if len(good) < FEWEST_FRAMES:
        raise DetectorEvaluationError(f"The detector's answer was usable in {len(good)} frames only: give more scenes.")
    noise = estimate_part(part, good, rank, rng)
    noise.swap_rate, noise.gross_rate = float(swapped.mean()), float((wrong & ~swapped).mean())
    drawn = [
        replace(burst, detected=noise.draw(part, rng, burst.truth, burst.carriers, burst.seen, FRAMERATE))
        for burst in (good.take(good.burst == number) for number in np.unique(good.burst))
    ]
    measured, imitated = (measure_errors(part, each, bones, near) for each in (good, PartPairs.join(drawn)))
    return noise, PartReport(len(pairs), float(distance[pairs.seen].mean()), measured, imitated)


def _hands_found(observations):
    """Share of the hands wholly inside the image that were found; they may be hidden all the same."""
    found, inside = [], []
    for each in observations:
        pixels = project(each.hands, each.matrix)
        inside.append(((pixels > 0) & (pixels < each.image_size)).all((-1, -2)))
        found.append(each.seen.hand_confidence > 0)
    inside = np.concatenate(inside) if inside else np.zeros((0, 2), bool)
    return float(np.concatenate(found)[inside].mean()) if inside.any() else float("nan")


def _pixel_near(observations, share=0.1):
    """Share of seen body points within `share` of the trunk's length, neck to hips in 3D, of the true point in the image."""
    near = []
    for each in observations:
        middles = [
            each.body[:, [BLAZEPOSE_33.index(f"{side}_{name}") for side in SIDES]].mean(1) for name in ("shoulder", "hip")
        ]
        trunk = np.linalg.norm(middles[0] - middles[1], axis=-1) * each.matrix[0, 0] / middles[1][:, 2]
        distance = np.linalg.norm(project(each.body, each.matrix) - each.seen.body2d, axis=-1)
        near.append((distance < share * trunk[:, None])[each.seen.body_confidence >= SEEN])
    return float(np.concatenate(near).mean())


def format_report(report):
    """The report as text for the terminal: lengths in mm, angles in degrees."""
    body, hand = report.noise.body, report.noise.hand
    lines = [
        f"{report.scenes} scenes, {report.frames} frames; body found in {1 - body.miss_rate:.1%}, left for right in "
        f"{body.swap_rate:.1%} of these, otherwise wrong altogether in {body.gross_rate:.1%}; face found in {report.face:.1%}",
        f"hands inside the image found: {report.hands_close:.1%} in close-ups, {report.hands_far:.1%} in other scenes",
        f"of the hands found, something else was taken for the hand in {hand.gross_rate:.1%}; of the others, turned by more than "
        f"75 degrees: {hand.swap_rate:.1%}",
        "body points of confidence below 0.5: {:.1%}, to 0.9: {:.1%}, above: {:.1%}".format(*report.confidence),
        f"seen body points within a tenth of the trunk's length in the image: {report.pixel_near:.1%}",
    ]
    for title, part, noise, each, bones in (
        ("body", BODY_PART, body, report.body, BLAZEPOSE_BONES),
        ("hand (left; right ones mirrored)", HAND_PART, hand, report.hand, HAND_BONES),
    ):
        lines += ["", f"{title}: {each.frames} frames", *_format_terms(noise, each), "", *_format_points(noise, each)]
        lines += ["", *_format_bones(part, each, bones)]
    return "\n".join(lines)


def _format_terms(noise, report):
    tilt = np.degrees(noise.tilt_mean)
    spread = np.degrees(np.linalg.norm(noise.tilt_factor, axis=1))
    rows = [("mm, gross errors left out", "measured", "drawn from the model")]
    for label, name in (
        ("mean error, roots together", "mean"),
        ("median", "median"),
        ("90 %", "p90"),
        ("mean error, turned and sized", "aligned"),
        ("frame against its neighbours", "shake"),
    ):
        rows.append((label, *(f"{1000 * getattr(each, name):.1f}" for each in (report.measured, report.drawn))))
    rows.append(("near the truth", *(f"{each.near:.1%}" for each in (report.measured, report.drawn))))
    return [
        f"  mean error with gross errors {1000 * report.all_mean:.1f} mm",
        f"  size {np.expm1(noise.log_scale):+.1%} +- {np.linalg.norm(noise.scale_factor):.1%}",
        "  tilt about x, y, z ({:+.1f}, {:+.1f}, {:+.1f}) +- ({:.1f}, {:.1f}, {:.1f}) degrees".format(*tilt, *spread),
        f"  residual's amplitude +- {noise.amplitude:.2f} (log), slow for {noise.slow_time:.2f} s; "
        "new in every frame: {:.1%} of it, {:.1%} of the size's, {:.1%} of the tilt's variance".format(
            np.mean(noise.jitter), *noise.pose_jitter
        ),
        "",
        *_table(rows[0], rows[1:]),
    ]


def _format_points(noise, report):
    head = ("point", "offset", "mean", "lateral", "drawn", "depth", "drawn", "unsure", "then times", "new in a frame")
    rows = []
    for index, name in enumerate(noise.points):
        lengths = (
            np.linalg.norm(noise.offset[index]),
            np.linalg.norm(noise.mean[index]),
            report.measured.lateral[index],
            report.drawn.lateral[index],
            report.measured.depth[index],
            report.drawn.depth[index],
        )
        shares = (f"{noise.unseen_share[index]:.0%}", f"{noise.unseen_gain[index]:.1f}", f"{noise.jitter[index]:.1%}")
        rows.append((name, *(f"{1000 * length:.0f}" for length in lengths), *shares))
    return _table(head, rows)


def _format_bones(part, report, bones):
    rows = []
    for index, (a, b) in enumerate(bones):
        values = (report.measured.bone_mean[index] - 1, report.drawn.bone_mean[index] - 1)
        spreads = (report.measured.bone_std[index], report.drawn.bone_std[index])
        rows.append((f"{part.points[a]} - {part.points[b]}", *(f"{v:+.1%}" for v in values), *(f"{v:.1%}" for v in spreads)))
    return _table(("bone, detected against true length", "mean", "drawn", "std", "drawn"), rows)


def _table(header, rows):
    return indent(format_table(header, rows), "  ").split("\n")
