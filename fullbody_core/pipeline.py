"""The main path from a video to a capture clip, top to bottom (Zhou et al. 2021, Fig. 2).

`capture_people` and `capture_person` read as the list of the passes. Detection goes frame by frame; everything after it takes the
whole clip at once.
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
from .contract.swing_twist import rotate
from .detect.keypoints import SEEN
from .face.face_motion import FaceMotion
from .face.load_face import load_face
from .face.solve_face import solve_face, without_colours
from .ground import stand_on_floor
from .ik.analytic import AnalyticSolver
from .ik.bone_lengths import fit_shape, measure_bones
from .ik.face_mesh import head_from_mesh
from .ik.rest_skeleton import TRACKED, RestSkeleton
from .motion import Solved, hold_through_holes, smooth_keypoints, smooth_motion, solve_motion, turn_head_to_face
from .read_ahead import decoded_ahead
from .refine.whole_clip import solve_whole_clip
from .tracking.one_person import OnePersonTracker
from .tracking.people import ChosenPersonFinder, PeopleTracker, lasting
from .tracking.person_choice import PersonChoice, PersonChoiceError
from .tracking.watch import watch
from .video import open_video
from .weights import WeightsAbsent, WeightsError, WeightsUnsuited


class CaptureFailure(ValueError):
    """A video from which nothing can be captured. The message is one sentence for the user."""


@dataclass(frozen=True)
class CaptureSettings:
    """detector: 'auto', 'mediapipe' or 'detnet'; detector_weights: paths of DetNet's files, by default the shipped ones; ik:
    'auto', 'iknet' or 'analytic'; fov: degrees across the longer side, or None to find it (in a close-up what the face says, else
    what the refinement finds); body: 'open' or a body file; face: 'open', 'none' or a face file; face_solver: one of
    `face.solve_face.SOLVERS`; smooth: One-Euro, for what is not refined; refine: one optimisation over the whole clip; without:
    names of the refinement's terms to leave out, to see what each is worth; person: whom to capture, as `PersonChoice.parse` has
    it."""

    detector: str = "auto"
    detector_weights: tuple = ()
    ik: str = "auto"
    fov: float | None = None
    body: str = "open"
    face: str = "open"
    face_solver: str = "auto"
    smooth: bool = True
    refine: bool = True
    without: tuple = ()
    person: str = "largest"


@dataclass(frozen=True)
class Equipment:
    """What all people of a video are captured with. detector: the tracker's `DetectorInfo`; face_model: None for no face."""

    settings: CaptureSettings
    video: object
    body: object
    face_model: object
    solver: object
    detector: object
    progress: object

    def first_matrix(self):
        """Intrinsics [3, 3] px: of the lens that was given, or of the usual one."""
        fov = self.settings.fov
        return camera_matrix(self.video.image_size, DEFAULT_FOV if fov is None else fov)


def capture(path, settings=CaptureSettings(), progress=lambda frames, **_: frames):
    """Captures one person in a video file.

    progress wraps each iterator over frames (tqdm does). Returns (CaptureClip, list of warnings). Raises `VideoError` for an
    unusable video, `BodyModelError` or `FaceModelError` for an unusable model and `CaptureFailure` when nobody is found.
    """
    clips, notes = capture_people(path, settings, progress)
    return next(iter(clips.values())), notes


def capture_people(path, settings=CaptureSettings(), progress=lambda frames, **_: frames):
    """Captures whom `settings.person` says: ({identity: CaptureClip}, list of warnings). Raises what `capture` raises."""
    body = load_body(settings.body)
    face_model = None if settings.face == "none" else load_face(settings.face)
    video = open_video(path)
    with closing(make_tracker(settings)) as tracker:
        solver, notes = make_solver(settings.ik, body, tracker.definition)
        watched = watch(video, tracker, progress)
        equipment = Equipment(settings, video, body, face_model, solver, tracker, progress)
    people = lasting(watched.people, watched.timestamps) if settings.person == "all" else watched.people
    clips = {}
    for identity, seen in people.items():
        clip, own = capture_person(seen, watched, equipment)
        if clip is not None:
            clips[identity] = clip
        notes = notes + [note for note in own if note not in notes]
    if not clips:
        raise CaptureFailure(
            f"Nobody was found in {path}: use a clip that shows one person from the head to the hips or further."
        )
    for clip in clips.values():
        clip.meta["warnings"] = notes + list(video.warnings)
    return clips, notes + list(video.warnings)


def capture_person(seen, watched, equipment):
    """The `CaptureClip` of one person, None where their body is never to be placed, and notes for the user.

    seen: their `Keypoints` over the T frames of `Watched` watched.
    """
    settings, face_model = equipment.settings, equipment.face_model
    timestamps, valid, notes, matrix = watched.timestamps, decide_valid(seen), [], equipment.first_matrix()
    if face_model is not None:
        face, notes = capture_face(seen, equipment, timestamps, matrix)
        valid = valid_with_face(valid, face)
        if settings.fov is None and face.matrix is not None:
            matrix = face.matrix
    keypoints = turn_to_camera(seen, matrix)
    if face_model is not None:
        keypoints = turn_head(keypoints, face, face_model, matrix)
    betas, keypoints = estimate_shape(keypoints, equipment.body)
    solve = solve_whole_clip if settings.refine else solve_by_frames
    solved = solve(keypoints, seen, betas, valid, matrix, watched, equipment)
    if not solved.motion.valid[:, 0].any():
        return None, notes
    clip = to_clip(solved, seen, timestamps, equipment.video)
    clip.meta = describe_capture(equipment)
    clip.meta["models"] |= solved.models
    if face_model is not None:
        add_face(clip, face, face_model, settings.face)
    return clip, notes + solved.notes


def solve_by_frames(keypoints, seen, betas, valid, matrix, watched, equipment):
    """The `Solved` clip of a frame's answer after the other, steadied by One-Euro."""
    smooth, timestamps = equipment.settings.smooth, watched.timestamps
    skeleton = RestSkeleton.of_body(equipment.body, betas)
    if smooth:
        keypoints = smooth_keypoints(keypoints, timestamps, valid)
    motion = solve_motion(keypoints, skeleton, matrix, valid, equipment.solver)
    if not motion.valid[:, 0].any():
        return Solved(motion, betas, matrix, np.eye(4))
    motion = turn_head_to_face(motion, keypoints, matrix)
    if smooth:
        motion = smooth_motion(motion, timestamps, keypoints, matrix)
    motion = hold_through_holes(motion)
    return Solved(motion, betas, matrix, stand_on_floor(motion, seen))


def describe_capture(equipment):
    """A capture file's `meta`, without the face."""
    settings, video, body = equipment.settings, equipment.video, equipment.body
    detector, solver = equipment.detector, equipment.solver
    return {
        "software": {"fullbody": __version__},
        "source": {"path": str(video.path.resolve()), "name": video.path.name},
        "detector": {"name": detector.name, "keypoints": detector.definition.name},
        "ik": {"name": solver.name},
        "models": {**detector.models, **solver.sha256, "body": body.sha256},
        "body": {"name": body.meta.get("name", ""), "licence": body.meta.get("licence", ""), "file": settings.body},
        "settings": asdict(settings) | {"detector_weights": [*map(str, settings.detector_weights)]},
    }


DETECTORS = ("auto", "mediapipe", "detnet")


def make_tracker(settings):
    """What follows the people whom `CaptureSettings` ask for. Raises `WeightsError`, or `PersonChoiceError`."""
    check_detector(settings)
    choice = PersonChoice.parse(settings.person)
    if settings.detector != "detnet":
        return PeopleTracker(choice)
    if choice.kind == "all":
        raise PersonChoiceError("DetNet follows one person: choose another than all, or --detector mediapipe.")
    return OnePersonTracker(make_detector(settings))


def make_detector(settings):
    """The detector of one person that `CaptureSettings` ask for; 'auto' is the one that measures best. Raises `WeightsError`."""
    check_detector(settings)
    if settings.detector == "detnet":
        from .detect.detnet import DetNetDetector, find_weights

        finder = ChosenPersonFinder(PersonChoice.parse(settings.person))
        return DetNetDetector(find_weights(settings.detector_weights), finder=finder)
    from .detect.mediapipe import MediaPipeDetector

    return MediaPipeDetector()


def check_detector(settings):
    """Raises ValueError for a detector that there is not, and `WeightsError` where DetNet's weights are given for another."""
    if settings.detector not in DETECTORS:
        raise ValueError(f"There is no detector {settings.detector!r}: choose one of {', '.join(DETECTORS)}.")
    if settings.detector_weights and settings.detector != "detnet":
        raise WeightsError("Weights for DetNet were given, but another detector is asked for: add --detector detnet.")


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


def capture_face(seen, equipment, timestamps, matrix):
    """The clip's `FaceMotion`, and notes for the user; the video is opened once more for its colours."""
    video, model, solver = equipment.video, equipment.face_model, equipment.settings.face_solver

    def images():
        frames = (image for _, image in decoded_ahead(video.frames()))
        return equipment.progress(frames, total=len(timestamps), what="Colours of the face")

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


def to_clip(solved, seen, timestamps, video):
    """The capture clip of a `Solved`: motion turned into the world; seen: the `Keypoints` as detected."""
    motion = solved.motion
    joints, _ = motion.skeleton.pose(motion.rotations)
    poses, trans = in_world(motion, solved.camera_to_world)
    frame_count = len(timestamps)
    mean_framerate = (frame_count - 1) / (timestamps[-1] - timestamps[0]) if frame_count > 1 else video.mean_framerate
    return CaptureClip(
        poses=poses,
        trans=trans,
        betas=np.asarray(solved.betas, float),
        mocap_framerate=float(mean_framerate),
        timestamps=timestamps,
        joints_camera=joints + motion.pelvis[:, None],
        keypoints2d=all_keypoints2d(seen),
        keypoint_names=full_keypoint_names(seen.definition),
        valid=motion.valid,
        filled=solved.filled,
        camera_matrix=solved.matrix,
        camera_to_world=solved.camera_to_world,
        image_size=np.array(video.image_size),
        person_box=seen.person_box,
    )


def in_world(motion, camera_to_world):
    """poses [T, 156] axis-angle rad and trans [T, 3] m of a `Motion`, as in a capture file.

    camera_to_world [T, 4, 4] m, or [4, 4] for a camera that does not move.
    """
    turn, place = camera_to_world[..., :3, :3], camera_to_world[..., :3, 3]
    rotations = motion.rotations.copy()
    rotations[:, 0] = turn @ motion.rotations[:, 0]
    pelvis = rotate(turn, motion.pelvis) + place
    poses = matrix_to_axis_angle(rotations).reshape(len(rotations), 3 * len(JOINT_NAMES))
    return poses, pelvis - motion.skeleton.joints[0]


def all_keypoints2d(seen):
    """The body's and then both hands' keypoints [T, K, 3]: px and confidence, as in a capture file."""
    body = np.concatenate([seen.body2d, seen.body_confidence[..., None]], -1)
    confidence = np.broadcast_to(seen.hand_confidence[..., None, None], seen.hand2d.shape[:-1] + (1,))
    hands = np.concatenate([seen.hand2d, confidence], -1)
    return np.concatenate([body, hands.reshape(len(body), -1, 3)], 1)
