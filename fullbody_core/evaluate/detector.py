"""`fullbody evaluate detector --data FOLDER`: what the detector makes of people whose every joint is known.

Open bodies of random shape are posed by motion capture, dressed, rendered in short bursts of consecutive frames, and given to
the real detector. What it gets wrong becomes a table and a `DetectorNoise` for training and evaluating inverse kinematics.
Everything follows from the seed, scene by scene: scene 17 is the same whether sixteen were made before it or none.
"""

from dataclasses import dataclass, replace
from textwrap import indent

import numpy as np

from ..body.load_body import load_body
from ..camera import project
from ..contract.frames import MIRROR
from ..contract.skeleton import BLAZEPOSE_33, BLAZEPOSE_BONES, HAND_BONES, JOINT_INDEX, SIDES
from ..contract.swing_twist import transpose
from ..detect.keypoints import SEEN, Keypoints
from ..detect.mediapipe import MediaPipeDetector
from ..ik.rest_skeleton import BODY_PLACES, RestSkeleton, hand_places
from ..pipeline import turn_to_camera
from ..synth.detector_noise import BODY_PART, HAND_PART, DetectorNoise
from ..synth.noise_fit import (
    BODY_RANK,
    HAND_RANK,
    PartPairs,
    align,
    estimate_part,
    following,
    is_swapped,
    is_turned,
    second_differences,
)
from ..synth.scenes import FRAMERATE, render_scene, sample_scene
from ..table import format_table
from ..train.motions import load_motions

SCENE_COUNT = 440
"""The noise model that comes with the package was measured on so many, with seed 0."""

FEWEST_FRAMES = 20
"""In which a part must have been found, or nothing is said of it."""

WARM_UP = 2
"""Frames of a scene that pass before the detector's own smoothing has caught up."""

GROSS_BODY, GROSS_HAND = 0.4, 0.06
"""m of mean error over a part's points from which an answer counts as wrong altogether, not as noisy."""

HAND_ELSEWHERE = 0.5
"""Of a hand's size in the image: mean pixel error from which something else was taken for the hand."""

NEAR = 0.1, 0.02
"""m from the truth at which a point of the body, or of a hand, counts as found in the table."""


class DetectorEvaluationError(ValueError):
    """An evaluation that says nothing. The message is one sentence for the user."""


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
    seen = turn_to_camera(replace(seen, face3d=seen.face3d[:, :0]), scene.matrix)
    joints, orientations = skeleton.pose(scene.rotations)
    at_body = skeleton.place(BODY_PLACES[BLAZEPOSE_33.name], joints, orientations) + scene.pelvis[:, None]
    hands = [skeleton.place(hand_places(side), joints, orientations) + scene.pelvis[:, None] for side in SIDES]
    hand_carriers = [[JOINT_INDEX[name.replace("left", side)] for name in HAND_PART.carriers] for side in SIDES]
    kept = slice(WARM_UP, None)
    return Observation(
        seen=seen.take(kept),
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
