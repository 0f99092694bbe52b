"""The main path from a video to a capture clip, top to bottom (Zhou et al. 2021, Fig. 2).

`capture` reads as the list of its passes. Detection goes frame by frame; everything after it takes the whole clip at once.
"""

from contextlib import closing
from dataclasses import asdict, dataclass, replace

import numpy as np

from . import __version__
from .body.load_body import load_body
from .camera import DEFAULT_FOV, camera_matrix, crop_to_camera_rotation
from .contract.capture import CaptureClip
from .contract.frames import matrix_to_axis_angle
from .contract.skeleton import JOINT_NAMES, full_keypoint_names
from .detect.keypoints import SEEN, Keypoints
from .face.face_motion import FaceMotion
from .face.load_face import load_face
from .face.solve_face import solve_face, without_colours
from .ground import stand_on_floor
from .ik.analytic import AnalyticSolver
from .ik.bone_lengths import fit_shape, measure_bones
from .ik.face_mesh import head_from_mesh
from .ik.rest_skeleton import TRACKED, RestSkeleton
from .motion import hold_through_holes, smooth_keypoints, smooth_motion, solve_motion, turn_head_to_face
from .read_ahead import decoded_ahead
from .video import open_video
from .weights import WeightsAbsent, WeightsError, WeightsUnsuited


class CaptureFailure(ValueError):
    """A video from which nothing can be captured. The message is one sentence for the user."""


@dataclass(frozen=True)
class CaptureSettings:
    """detector: 'auto', 'mediapipe' or 'detnet'; detector_weights: paths of DetNet's files, by default the shipped ones; ik:
    'auto', 'iknet' or 'analytic'; fov: degrees across the longer side, or None for the usual one, in a close-up for what the
    face says; body: 'open' or a body file; face: 'open', 'none' or a face file; face_solver: one of `face.solve_face.SOLVERS`;
    smooth: One-Euro."""

    detector: str = "auto"
    detector_weights: tuple = ()
    ik: str = "auto"
    fov: float | None = None
    body: str = "open"
    face: str = "open"
    face_solver: str = "auto"
    smooth: bool = True


def capture(path, settings=CaptureSettings(), progress=lambda frames, **_: frames):
    """Captures the person in a video file.

    progress wraps each iterator over frames (tqdm does). Returns (CaptureClip, list of warnings). Raises `VideoError` for an
    unusable video, `BodyModelError` or `FaceModelError` for an unusable model and `CaptureFailure` when nobody is found.
    """
    body = load_body(settings.body)
    face_model = None if settings.face == "none" else load_face(settings.face)
    video = open_video(path)
    matrix = camera_matrix(video.image_size, DEFAULT_FOV if settings.fov is None else settings.fov)
    with closing(make_detector(settings)) as detector:
        solver, notes = make_solver(settings.ik, body, detector.definition)
        timestamps, seen = detect_keypoints(video, detector, progress)
    valid = decide_valid(seen)
    if face_model is not None:
        face, face_notes = capture_face(seen, video, timestamps, matrix, face_model, settings.face_solver, progress)
        notes = notes + face_notes
        valid = valid_with_face(valid, face)
        if settings.fov is None and face.matrix is not None:
            matrix = face.matrix
    keypoints = turn_to_camera(seen, matrix)
    if face_model is not None:
        keypoints = turn_head(keypoints, face, face_model, matrix)
    betas, keypoints = estimate_shape(keypoints, body)
    skeleton = RestSkeleton.of_body(body, betas)
    if settings.smooth:
        keypoints = smooth_keypoints(keypoints, timestamps, valid)
    motion = solve_motion(keypoints, skeleton, matrix, valid, solver)
    if not motion.valid[:, 0].any():
        raise CaptureFailure(
            f"Nobody was found in {path}: use a clip that shows one person from the head to the hips or further."
        )
    motion = turn_head_to_face(motion, keypoints, matrix)
    if settings.smooth:
        motion = smooth_motion(motion, timestamps, keypoints, matrix)
    motion = hold_through_holes(motion)
    clip = to_clip(motion, seen, betas, timestamps, video, matrix)
    clip.meta = {
        "software": {"fullbody": __version__},
        "source": {"path": str(video.path.resolve()), "name": video.path.name},
        "detector": {"name": detector.name, "keypoints": detector.definition.name},
        "ik": {"name": solver.name},
        "models": {**detector.models, **solver.sha256, "body": body.sha256},
        "body": {"name": body.meta.get("name", ""), "licence": body.meta.get("licence", ""), "file": settings.body},
        "settings": asdict(settings) | {"detector_weights": [*map(str, settings.detector_weights)]},
        "warnings": notes + list(video.warnings),
    }
    if face_model is not None:
        add_face(clip, face, face_model, settings.face)
    return clip, notes + list(video.warnings)


DETECTORS = ("auto", "mediapipe", "detnet")


def make_detector(settings):
    """The detector that `CaptureSettings` ask for; 'auto' is the one that measures best. Raises `WeightsError`."""
    if settings.detector not in DETECTORS:
        raise ValueError(f"There is no detector {settings.detector!r}: choose one of {', '.join(DETECTORS)}.")
    if settings.detector == "detnet":
        from .detect.detnet import DetNetDetector, find_weights

        return DetNetDetector(find_weights(settings.detector_weights))
    if settings.detector_weights:
        raise WeightsError("Weights for DetNet were given, but another detector is asked for: add --detector detnet.")
    from .detect.mediapipe import MediaPipeDetector

    return MediaPipeDetector()


def make_solver(name, body, definition):
    """The inverse kinematics of a name for a body and a detector's `KeypointDefinition`, and notes for the user.

    'auto' takes IKNet and falls back to the closed form where its weights are absent or were trained on another body.
    """
    if name not in ("auto", "iknet", "analytic"):
        raise ValueError(f"There is no inverse kinematics {name!r}: choose auto, iknet or analytic.")
    if name == "analytic":
        return AnalyticSolver(), []
    from .ik.iknet import IKNetSolver

    try:
        return IKNetSolver.load(body, definition), []
    except (WeightsAbsent, WeightsUnsuited) as error:
        if name == "iknet":
            raise
        return AnalyticSolver(), [f"{error} The closed form solves the pose instead."]


def detect_keypoints(video, detector, progress):
    """Timestamps [T] s and keypoints of all T frames."""
    timestamps = []

    def images():
        for timestamp, image in decoded_ahead(video.frames()):
            timestamps.append(timestamp)
            yield image

    frames = detector.detect_frames(images())
    try:
        found = list(progress(frames, total=video.frame_count_estimate))
    finally:
        frames.close()
    return np.array(timestamps), Keypoints.stack(found).without_broken_points()


def decide_valid(keypoints):
    """[T, 4] bool: body, left hand, right hand, face. A body needs three points that are seen, or it cannot be placed."""
    body = (keypoints.body_confidence[:, list(TRACKED[keypoints.definition.name])] >= SEEN).sum(1) >= 3
    hands = (keypoints.hand_confidence > 0) & body[:, None]
    face = (keypoints.face_confidence > 0) & body
    return np.column_stack([body, hands, face])


def turn_to_camera(keypoints, matrix):
    """Turns each part's 3D points from the axes of the crop it was seen in to the camera's.

    A face mesh, which is in pixels, says how the head is turned.
    """
    body3d = _turn(keypoints.body3d, crop_to_camera_rotation(keypoints.body_centre, matrix))
    hand3d = _turn(keypoints.hand3d, crop_to_camera_rotation(keypoints.hand_centre, matrix))
    keypoints = replace(keypoints, body3d=body3d, hand3d=hand3d)
    if not keypoints.face3d.size:
        return keypoints
    to_camera = crop_to_camera_rotation(keypoints.face3d.mean(1)[:, :2], matrix)
    head = to_camera @ head_from_mesh(keypoints.face3d)
    return replace(keypoints, head_rotation=np.where((keypoints.face_confidence > 0)[:, None, None], head, 0.0))


def _turn(points, rotation):
    return points @ np.swapaxes(rotation, -1, -2)


def capture_face(seen, video, timestamps, matrix, model, solver, progress):
    """The clip's `FaceMotion`, and notes for the user; the video is opened once more for its colours."""

    def images():
        frames = (image for _, image in decoded_ahead(video.frames()))
        return progress(frames, total=len(timestamps), what="Colours of the face")

    try:
        return solve_face(seen, images, video.image_size, timestamps, matrix, model, solver), []
    except (WeightsAbsent, WeightsUnsuited) as error:
        if solver != "auto":
            raise
        face = without_colours(FaceMotion.nobody(model, len(timestamps)), model)
        return face, [f"{error} The face is not captured: this detector has no face landmarks."]


def valid_with_face(valid, face):
    """`valid` [T, 4], the face only where its `FaceMotion` is."""
    return np.column_stack([valid[:, :3], valid[:, 3] & face.valid])


def turn_head(keypoints, face, model, matrix):
    """The keypoints with the head turned as the fitted face is: all of its points say more than the mesh's outline."""
    known, rotation = face.valid[:, None, None], face.rotation_in(matrix, model)
    return replace(keypoints, head_rotation=np.where(known, rotation, keypoints.head_rotation))


def add_face(clip, face, model, file):
    """Adds a `FaceMotion` to the clip: nothing in a frame where the face is not valid, not even the last good value."""
    shown = clip.valid[:, 3]
    clip.face_shape, clip.face_albedo, clip.expression_names = face.shape, face.albedo, tuple(model.expression_names)
    clip.face_expression = np.where(shown[:, None], face.expression, 0.0)
    clip.face_illumination = np.where(shown[:, None, None], face.illumination, 0.0)
    clip.meta["models"]["face"] = model.sha256
    clip.meta["face"] = {"name": model.meta.get("name", ""), "licence": model.meta.get("licence", ""), "file": file}


def estimate_shape(keypoints, body):
    """Betas [B] of the person, one for the clip, and the keypoints in the size of that body."""
    shape = measure_person(keypoints, body)
    return shape.betas, in_size_of(shape.scale, keypoints)


def measure_person(keypoints, body):
    """The `BodyShape` of the person whom T frames of keypoints show."""
    return fit_shape(*measure_bones(keypoints), body.rest_joints, body.joint_shapedirs)


def in_size_of(scale, keypoints):
    """The keypoints in the size of the body; scale: metres of the body for one of theirs."""
    return replace(keypoints, body3d=keypoints.body3d * scale)


def to_clip(motion, seen, betas, timestamps, video, matrix):
    """The capture clip: motion turned into the world, the floor at z = 0 under the person's first place."""
    joints, _ = motion.skeleton.pose(motion.rotations)
    camera_to_world = stand_on_floor(motion, seen)
    poses, trans = in_world(motion, camera_to_world)
    frame_count = len(timestamps)
    mean_framerate = (frame_count - 1) / (timestamps[-1] - timestamps[0]) if frame_count > 1 else video.mean_framerate
    return CaptureClip(
        poses=poses,
        trans=trans,
        betas=np.asarray(betas, float),
        mocap_framerate=float(mean_framerate),
        timestamps=timestamps,
        joints_camera=joints + motion.pelvis[:, None],
        keypoints2d=all_keypoints2d(seen),
        keypoint_names=full_keypoint_names(seen.definition),
        valid=motion.valid,
        camera_matrix=matrix,
        camera_to_world=camera_to_world,
        image_size=np.array(video.image_size),
        person_box=seen.person_box,
    )


def in_world(motion, camera_to_world):
    """poses [T, 156] axis-angle rad and trans [T, 3] m of a `Motion`, as in a capture file. camera_to_world [4, 4]."""
    rotations = motion.rotations.copy()
    rotations[:, 0] = camera_to_world[:3, :3] @ motion.rotations[:, 0]
    pelvis = motion.pelvis @ camera_to_world[:3, :3].T + camera_to_world[:3, 3]
    poses = matrix_to_axis_angle(rotations).reshape(len(rotations), 3 * len(JOINT_NAMES))
    return poses, pelvis - motion.skeleton.joints[0]


def all_keypoints2d(seen):
    """The body's and then both hands' keypoints [T, K, 3]: px and confidence, as in a capture file."""
    body = np.concatenate([seen.body2d, seen.body_confidence[..., None]], -1)
    confidence = np.broadcast_to(seen.hand_confidence[..., None, None], seen.hand2d.shape[:-1] + (1,))
    hands = np.concatenate([seen.hand2d, confidence], -1)
    return np.concatenate([body, hands.reshape(len(body), -1, 3)], 1)
