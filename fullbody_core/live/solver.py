"""From one picture's keypoints to the pose of that moment: the offline path's pieces, one frame at a time.

`LiveSolver` gives each frame to the functions that offline get a whole clip, with T = 1. Where a hand or the face was lost a
moment ago they get the last few frames, which is all that a frame's answer depends on but for the future. What a clip says about
its person comes from calibration.py, in a thread beside the stream.
"""

import copy
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from ..contract.frames import REST_TO_WORLD
from ..contract.skeleton import JOINT_NAMES, PART_JOINTS, SMPL_33
from ..detect.keypoints import Keypoints
from ..face.face_motion import FaceMotion
from ..face.face_tracker import FaceTracker
from ..face.facenet import FaceNetPredictor
from ..face.solve_face import located_boxes, mesh_boxes
from ..ik.face_mesh import found_heads
from ..ik.holes import HELD_FRAMES
from ..motion import Motion, middle_of_hips, smooth_keypoints, smooth_motion, solve_motion, turn_head_to_face
from ..pipeline import decide_valid, in_size_of, in_world, make_solver, turn_head, turn_to_camera, valid_with_face
from ..smoothing import EXPRESSION, OnlineSmoother
from ..weights import WeightsAbsent, WeightsUnsuited
from .calibration import Collection, Equipment, first_look, joined, measure, nobody_yet

FACE_SOLVERS = ("auto", "landmarks", "facenet")

FARTHEST_PIXEL, FARTHEST_POINT = 1e5, 1e2
"""px and m: a keypoint beyond is no place but a detector's fault."""


@dataclass(frozen=True)
class Solved:
    """The person in one picture.

    poses [156] axis-angle rad, trans [3] m, expression [E], valid [4] bool: as in a capture file; a part that is not valid holds
    its last good value
    revision: of the `Person` it was made with; network: s in the networks; stages: s by stage, networks included
    """

    poses: np.ndarray
    trans: np.ndarray
    expression: np.ndarray
    valid: np.ndarray
    revision: int
    network: float
    stages: dict = field(default_factory=dict)


class LiveSolver:
    """Solves a stream of frames, one `solve` at a time.

    `smoothing` in 0..1 may be set at any time and from any thread, as `calibrate` may be called. `person` changes inside of
    `solve` alone: after it returns, the person is the one that the frame was solved with. notes: sentences for the user;
    models: sha256 of the networks by name; message: one sentence about the last calibration that failed, else empty.
    """

    def __init__(self, body, face_model, definition, image_size, fov=None, ik="auto", face_solver="auto", smoothing=0.5):
        """As `CaptureSettings` say; definition: the detector's `KeypointDefinition`. Raises `WeightsError`, `CameraError`."""
        if face_solver not in FACE_SOLVERS:
            raise ValueError(f"There is no live face solver {face_solver!r}: choose one of {', '.join(FACE_SOLVERS)}.")
        solver, self.notes = make_solver(ik, body, definition)
        self.models = dict(solver.sha256)
        self._equipment = Equipment(body, face_model, solver, tuple(image_size), fov, face_solver)
        self._facenet = self._load_facenet(definition)
        self._smoother = OnlineSmoother(smoothing)
        self._calibrator = _Calibrator(self._equipment, self._face_capture)
        self._measured = nobody_yet(self._equipment)
        self._face = self._face_capture(self._measured)
        self._expression = np.zeros(0 if face_model is None else face_model.expression_size)
        self._held = self._standing()
        self._window, self._near = deque(maxlen=HELD_FRAMES), None

    def _load_facenet(self, definition):
        """A `FaceNetPredictor` where faces are to be solved by it: asked for, or the detector, DetNet, has no face mesh."""
        model, solver = self._equipment.face_model, self._equipment.face_solver
        if model is None or solver == "landmarks" or (solver == "auto" and definition.name != SMPL_33.name):
            return None
        try:
            facenet = FaceNetPredictor.load(model)
        except (WeightsAbsent, WeightsUnsuited) as error:
            if solver != "auto":
                raise
            self.notes.append(f"{error} The face is not captured: this detector has no face landmarks.")
            return None
        self.models["facenet"] = facenet.sha256
        return facenet

    @property
    def smoothing(self):
        """0, as it comes, to 1, steady; see `smoothing.lag_budget`."""
        return self._smoother.smoothing

    @smoothing.setter
    def smoothing(self, value):
        self._smoother.smoothing = min(max(float(value), 0.0), 1.0)

    @property
    def person(self):
        """The `Person` of the last frame."""
        return self._measured.person

    @property
    def state(self):
        """'looking': nobody seen yet; 'settling': a first guess is being made; 'running'; 'calibrating'."""
        return self._calibrator.state

    @property
    def progress(self):
        """Of what `state` says, 0..1."""
        return self._calibrator.progress

    @property
    def message(self):
        return self._calibrator.message

    def stream_sizes(self):
        """The fields of `contract.wire.Stream` that say how large its arrays are."""
        model, person = self._equipment.face_model, self.person
        return {
            "expression_names": () if model is None else tuple(model.expression_names),
            "beta_count": len(person.betas),
            "shape_count": len(person.face_shape),
            "albedo_count": len(person.albedo),
        }

    def calibrate(self):
        """Asks for the person to be measured anew from the second that follows."""
        self._calibrator.ask()

    def finish_calibration(self, timeout=None):
        """Waits until what is being measured is ready for the next frame: for whoever has no stream to keep up with."""
        self._calibrator.wait(timeout)

    def solve(self, keypoints, image, timestamp):
        """The `Solved` person of one frame: its `Keypoints`, its RGB uint8 picture [H, W, 3] and its time in s.

        Never raises for keypoints, whatever they hold: what cannot be solved counts as not found.
        """
        timestamp = float(timestamp) if np.isfinite(timestamp) else 0.0
        seen = without_impossible_points(keypoints)
        try:
            return self._solve(seen, image, timestamp)
        except (ArithmeticError, np.linalg.LinAlgError):
            # Finite numbers that are still no person, such as all points in one place.
            self._forget()
            return self._solve(_nobody(seen), image, timestamp)

    def _solve(self, seen, image, timestamp):
        clock = _StageClock()
        valid = decide_valid(seen)
        self._use(self._calibrator.follow(self._measured, seen, valid[0], image, timestamp))
        clock.stage("person")
        measured, matrix = self._measured, self._measured.person.camera_matrix
        face = self._face.look(seen, image, timestamp)
        valid = valid_with_face(valid, face)
        clock.stage("face", self._face.network_seconds)
        keypoints = turn_to_camera(seen, matrix)
        if self._equipment.face_model is not None:
            keypoints = turn_head(keypoints, face, self._equipment.face_model, matrix)
        keypoints = in_size_of(measured.scale, keypoints)
        now = np.array([timestamp])
        keypoints = smooth_keypoints(keypoints, now, valid, self._smoother)
        clock.stage("smoothing")
        in_networks = self._equipment.ik.network_seconds
        motion = self._solve_motion(keypoints, valid)
        clock.stage("pose", self._equipment.ik.network_seconds - in_networks)
        motion = smooth_motion(motion, now, keypoints, matrix, self._smoother)
        shown = motion.valid[:, 3]
        expression = self._smoother.positions("expression", face.expression[..., None], now, shown, EXPRESSION)
        if shown[0]:
            self._expression = expression[0, :, 0]
        clock.stage("smoothing")
        self._held = _hold(self._held, motion)
        poses, trans = in_world(self._held, measured.person.camera_to_world)
        clock.stage("world")
        return Solved(
            poses[0],
            trans[0],
            self._expression.copy(),
            motion.valid[0].copy(),
            measured.person.revision,
            clock.network,
            clock.stages,
        )

    def _solve_motion(self, keypoints, valid):
        """`Motion` of this frame, with T = 1. valid [1, 4]."""
        measured = self._measured
        self._window.append((keypoints, valid))
        frames = list(self._window)[-frames_needed([frame[0] for frame in self._window]) :]
        keypoints, valid = (joined([frame[0] for frame in frames]), np.concatenate([frame[1] for frame in frames]))
        matrix = measured.person.camera_matrix
        motion = solve_motion(keypoints, measured.skeleton, matrix, valid, self._equipment.ik, near=self._near)
        motion = turn_head_to_face(motion, keypoints, matrix)
        good = motion.valid[-1:] & np.isfinite(motion.pelvis[-1]).all() & np.isfinite(motion.rotations[-1]).all()
        motion = Motion(measured.skeleton, motion.rotations[-1:], motion.pelvis[-1:], good)
        self._near = middle_of_hips(motion)[0] if good[0, 0] else None
        return motion

    def _use(self, ready):
        """Goes over to a newly `Measured` person, if there is one: nothing of the one before lasts but the pose held."""
        if ready is None:
            return
        first = self._measured.person.revision == 0
        self._measured, self._face = ready
        self._forget()
        self._held = self._standing() if first else replace(self._held, skeleton=self._measured.skeleton)

    def _forget(self):
        """Lets the next frame stand by itself, as if nothing had been seen before."""
        self._smoother.forget()
        self._window.clear()
        self._near = None

    def _standing(self):
        """The `Motion` of somebody at rest on the floor, who faces the camera."""
        measured = self._measured
        to_camera = measured.person.camera_to_world[:3, :3].T
        rotations = np.tile(np.eye(3), (1, len(JOINT_NAMES), 1, 1))
        rotations[0, 0] = to_camera @ REST_TO_WORLD
        hips = [0.0, 0.0, measured.person.camera_to_world[2, 3]]
        pelvis = to_camera @ (np.array(hips) - measured.person.camera_to_world[:3, 3])
        return Motion(measured.skeleton, rotations, pelvis[None], np.zeros((1, 4), bool))

    def _face_capture(self, measured):
        """What captures the face of a `Measured` person, frame by frame."""
        equipment = self._equipment
        if equipment.face_model is None:
            return _NoFace()
        if self._facenet is not None:
            return _FaceByNetwork(self._facenet, measured, equipment)
        return _FaceByLandmarks(measured, equipment)


def without_impossible_points(keypoints):
    """`Keypoints` of one frame as a sequence with T = 1, in which broken parts and places that cannot be count as not found."""
    seen = Keypoints.stack([keypoints])
    limits = {
        **dict.fromkeys(
            ("body2d", "hand2d", "face3d", "body_centre", "hand_centre", "person_box", "face_box"), FARTHEST_PIXEL
        ),
        **dict.fromkeys(("body3d", "hand3d"), FARTHEST_POINT),
    }
    with np.errstate(invalid="ignore"):
        possible = {
            name: np.where(np.abs(getattr(seen, name)) <= limit, getattr(seen, name), np.nan)
            for name, limit in limits.items()
        }
    seen = replace(seen, **possible).without_broken_points()
    confidences = ("body_confidence", "hand_confidence", "face_confidence")
    return replace(seen, **{name: np.clip(getattr(seen, name), 0, 1) for name in confidences})


def frames_needed(keypoints):
    """How many of the last frames, a list of `Keypoints` with T = 1, the newest one's pose depends on.

    A hand or a face that was lost a moment ago is bridged from where it was last found. Beyond HELD_FRAMES nothing is left of that;
    the closed form, which offline holds a wrist for longer, lets go of it then, too.
    """
    found = np.array([[*(frame.hand_confidence[0] > 0), found_heads(frame)[0]] for frame in keypoints])[::-1]
    ages = np.where(found.any(0), np.argmax(found, 0), 0)
    return 1 + int(ages.max())


def _nobody(seen):
    return Keypoints.stack([Keypoints.nobody(seen.definition, seen.face3d.shape[1])])


def _hold(held, motion):
    """`Motion` with T = 1 in which parts that are not valid now are as they were held."""
    rotations, pelvis = held.rotations.copy(), held.pelvis
    for part, joints in enumerate(PART_JOINTS.values()):
        if motion.valid[0, part]:
            rotations[:, joints] = motion.rotations[:, joints]
    if motion.valid[0, 0]:
        pelvis = motion.pelvis
    return Motion(motion.skeleton, rotations, pelvis, motion.valid)


class _StageClock:
    """Seconds by stage, and those of them in networks."""

    def __init__(self):
        self.stages, self.network, self._last = {}, 0.0, time.perf_counter()

    def stage(self, name, network=0.0):
        now = time.perf_counter()
        self.stages[name] = self.stages.get(name, 0.0) + now - self._last
        self.network += network
        self._last = now


class _NoFace:
    """Stands where no face model is asked for."""

    network_seconds = 0.0

    def look(self, seen, image, timestamp):
        return FaceMotion(np.zeros(0), np.zeros((1, 0)), np.eye(3)[None], np.zeros((1, 3)), np.zeros(1, bool))


class _FaceByLandmarks:
    """`FaceTracker` from the detector's face mesh."""

    network_seconds = 0.0

    def __init__(self, measured, equipment):
        self._model, self._matrix, self._size = equipment.face_model, measured.face_matrix, equipment.image_size
        self._tracker = FaceTracker(self._model, measured.person.face_shape, self._matrix)

    def look(self, seen, image, timestamp):
        """`FaceMotion` with T = 1."""
        face = replace(FaceMotion.nobody(self._model, 1), matrix=self._matrix)
        if not seen.face3d.shape[1]:
            return face
        tracked = self._tracker.track(seen.face3d[0], float(seen.face_confidence[0]), self._size, timestamp)
        return face if tracked is None else _filled(face, tracked.expression, tracked.rotation, tracked.translation)


class _FaceByNetwork:
    """FaceNet's answer for each frame by itself."""

    def __init__(self, predictor, measured, equipment):
        self._predictor, self._matrix = predictor, measured.face_matrix
        self._model, self._size = equipment.face_model, equipment.image_size
        self.network_seconds = 0.0

    def look(self, seen, image, timestamp):
        """`FaceMotion` with T = 1."""
        self.network_seconds = 0.0
        face = replace(FaceMotion.nobody(self._model, 1), matrix=self._matrix)
        if seen.face3d.shape[1]:
            box = mesh_boxes(seen.face3d, seen.face_confidence, self._size)
        else:
            box = located_boxes(seen)
        if not np.isfinite(box).all() or (box[0, 2:] <= box[0, :2]).any():
            return face
        start = time.perf_counter()
        estimate = self._predictor.predict([image], box, self._matrix)
        self.network_seconds = time.perf_counter() - start
        expression = np.clip(estimate.expression[0], *self._model.expression_limits.T)
        return _filled(face, expression, estimate.rotation[0], estimate.translation[0])


def _filled(face, expression, rotation, translation):
    """The `FaceMotion` with T = 1 of a face that was found; not valid after all where a number is not finite."""
    valid = np.isfinite(expression).all() and np.isfinite(rotation).all() and np.isfinite(translation).all()
    if not valid:
        return face
    return replace(
        face, expression=expression[None], rotation=rotation[None], translation=translation[None], valid=np.ones(1, bool)
    )


class _Calibrator:
    """When the person is measured: at the first sight, after the first second, and whenever it is asked for.

    Frames are collected in the stream's thread and measured in one beside it; the stream takes the answer over with the first
    frame after it is ready.
    """

    def __init__(self, equipment, face_capture):
        # A copy: a solver notes how long its last call took.
        self._equipment = replace(equipment, ik=copy.copy(equipment.ik))
        self._face_capture = face_capture
        self._asked = threading.Event()
        self._collection = Collection(settled=False)
        self._guessed = False
        self._worker = None
        self.message = ""

    @property
    def state(self):
        collection, worker = self._collection, self._worker
        if self._asked.is_set() or (collection is not None and collection.settled):
            return "calibrating"
        if worker is not None:
            return "calibrating" if worker.settled else "settling"
        if collection is None:
            return "running"
        return "settling" if collection.times else "looking"

    @property
    def progress(self):
        """Collecting is most of it; how far measuring is nobody knows."""
        collection = self._collection
        if collection is not None:
            return 0.7 * collection.progress
        return 0.7 if self._worker is not None else 1.0

    def ask(self):
        self._asked.set()

    def wait(self, timeout):
        if self._worker is not None:
            self._worker.join(timeout)

    def follow(self, measured, seen, valid, image, timestamp):
        """Takes a frame (T = 1; valid [4]) into account; the newly (`Measured`, face capture) if there is one, else None.

        measured: who the frames are solved for so far.
        """
        ready = self._answer()
        measured = measured if ready is None else ready[0]
        if self._worker is None and self._asked.is_set():
            self._asked.clear()
            self.message = ""
            self._collection = Collection(settled=True)
        if self._collection is None or (not valid[0] and not self._collection.times and not self._collection.settled):
            return ready
        self._collection.add(seen, valid, image, timestamp)
        if measured.person.revision == 0 and valid[0]:
            ready = self._look_first(measured, seen, valid, image, timestamp) or ready
        elif self._collection.progress >= 1:
            self._measure(measured)
        return ready

    def _look_first(self, measured, seen, valid, image, timestamp):
        collection = Collection(settled=False)
        collection.add(seen, valid, image, timestamp)
        try:
            measured = first_look(collection, self._equipment, measured)
        except Exception:  # the next frame may do better, and the stream must go on
            return None
        return measured, self._face_capture(measured)

    def _measure(self, measured):
        collection, self._collection = self._collection, None
        self._worker = _Worker(collection, self._equipment, measured, self._face_capture)
        self._worker.start()

    def _answer(self):
        """What the worker found, once; after a failure the next thing to do is decided."""
        if self._worker is None or self._worker.is_alive():
            return None
        worker, self._worker = self._worker, None
        if worker.answer is not None:
            self._guessed = True
            return worker.answer
        if worker.settled:
            self.message = worker.message
        # Without a first guess the next second may give one.
        self._collection = None if self._guessed else Collection(settled=False)
        return None


class _Worker(threading.Thread):
    """Measures a `Collection` beside the stream. answer: (`Measured`, face capture) or None, and then message says why."""

    def __init__(self, collection, equipment, before, face_capture):
        super().__init__(name="calibrate", daemon=True)
        self.settled = collection.settled
        self.answer, self.message = None, ""
        self._task = collection, equipment, before, face_capture

    def run(self):
        collection, equipment, before, face_capture = self._task
        self._task = None
        try:
            measured = measure(collection, equipment, before, self.settled)
            self.answer = measured, face_capture(measured)
        except ValueError as error:
            self.message = str(error)
        except Exception as error:  # nothing that goes wrong here may end the stream
            self.message = f"Calibration failed and the person stays as before: {error!r}."
