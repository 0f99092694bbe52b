"""Who is before the camera, and where it stands: measured from about a second of pictures while the stream goes on.

What a whole clip says offline, proportions, face, lens, up and floor, is asked here of a short collection of frames, by the same
functions. Between two calibrations none of it changes.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from ..camera import DEFAULT_FOV, camera_matrix, level_camera_to_world
from ..contract.wire import Person
from ..detect.keypoints import Keypoints
from ..face.solve_face import solve_face
from ..ground import SOLES, stand_on_floor
from ..ik.rest_skeleton import RestSkeleton
from ..motion import smooth_keypoints, solve_motion
from ..pipeline import in_size_of, measure_person, turn_to_camera

SECONDS = 1.0
"""How long frames are collected, by their own clock."""

FEWEST_FRAMES = 8

MOSTLY = 0.6
"""Share of the collected frames that must show the person."""

PICTURES = 10
"""Frames whose picture is kept, for the face's shape and colours."""

LONGEST_STEP = 0.2
"""s: a pause of the stream counts as no more."""

FIRST_DISTANCE = 3.0
"""m from the camera at which the mean body stands while nobody has been seen."""


class CalibrationFailure(ValueError):
    """Frames that do not say who is there. The message is one sentence for the user."""


@dataclass(frozen=True)
class Equipment:
    """What people are measured with: nothing of it changes while a stream lasts.

    body: `BodyModelFile`; face_model: `MorphableModel` or None; ik: an inverse kinematics; image_size (width, height) px; fov:
    degrees across the longer side, or None for the usual one, in a close-up what the face says; face_solver: see `solve_face`
    """

    body: object
    face_model: object
    ik: object
    image_size: tuple
    fov: float | None = None
    face_solver: str = "auto"

    @property
    def matrix(self):
        """Intrinsics [3, 3] px of the camera before a face has said otherwise."""
        return camera_matrix(self.image_size, DEFAULT_FOV if self.fov is None else self.fov)


@dataclass(frozen=True)
class Measured:
    """A `Person` with what its frames are solved with.

    scale: metres of the body for one of the keypoints'; face_matrix [3, 3] px: the camera that the face's shape is for
    """

    person: Person
    skeleton: RestSkeleton
    scale: float
    face_matrix: np.ndarray


@dataclass
class Collection:
    """Frames for one calibration. settled: whether somebody asked for it, or it is a first guess."""

    settled: bool
    seen: list = field(default_factory=list)
    valid: list = field(default_factory=list)
    times: list = field(default_factory=list)
    pictures: dict = field(default_factory=dict)
    _last: float | None = None

    def add(self, seen, valid, image, timestamp):
        """One frame more. seen: `Keypoints` with T = 1; valid [4] bool; its RGB picture; its time in s, of any clock."""
        step = 0.0 if self._last is None else float(np.clip(timestamp - self._last, 1e-3, LONGEST_STEP))
        self._last = timestamp
        self.times.append(self.seconds + step)
        self.seen.append(seen)
        self.valid.append(valid)
        due = len(self.pictures) * SECONDS / PICTURES
        if valid[3] and len(self.pictures) < PICTURES and self.seconds >= due - 1e-6:
            self.pictures[len(self.times) - 1] = FacePicture.of(image, seen)

    @property
    def seconds(self):
        return self.times[-1] if self.times else 0.0

    @property
    def progress(self):
        """How much of it is there, 0..1."""
        return min(1.0, self.seconds / SECONDS, len(self.times) / FEWEST_FRAMES)

    @property
    def found(self):
        """In what share of the frames there is somebody, 0..1."""
        return float(np.mean([valid[0] for valid in self.valid])) if self.valid else 0.0


@dataclass(frozen=True)
class FacePicture:
    """A picture of which only the face is kept: a whole one is some megabytes, and a calibration looks at faces alone."""

    crop: np.ndarray
    corner: tuple
    shape: tuple

    @classmethod
    def of(cls, image, seen):
        """seen: `Keypoints` with T = 1 in which there is a face."""
        if seen.face3d.shape[1]:
            low, high = seen.face3d[0, :, :2].min(0), seen.face3d[0, :, :2].max(0)
        else:
            low, high = seen.face_box[0, :2], seen.face_box[0, 2:]
        # Fits and FaceNet look beyond the outline, by less than half of the face's size.
        margin = 0.5 * (high - low).max()
        height, width = image.shape[:2]
        left, top = np.clip(low - margin, 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(high + margin), 0, (width, height)).astype(int)
        return cls(image[top:bottom, left:right].copy(), (left, top), image.shape)

    def whole(self):
        """The picture in its full size, black but for the face."""
        image = np.zeros(self.shape, np.uint8)
        (left, top), (height, width) = self.corner, self.crop.shape[:2]
        image[top : top + height, left : left + width] = self.crop
        return image


def nobody_yet(equipment):
    """The mean person, upright on the floor before the camera: revision 0."""
    model, betas = equipment.face_model, np.zeros(equipment.body.shapedirs.shape[-1])
    skeleton = RestSkeleton.of_body(equipment.body, betas)
    hip_height = skeleton.joints[0, 1] - skeleton.at_rest(SOLES)[:, 1].min()
    person = Person(
        revision=0,
        settled=False,
        betas=betas,
        face_shape=np.zeros(0 if model is None else model.shape_size),
        albedo=np.zeros(0 if model is None else model.albedo_size),
        camera_matrix=equipment.matrix,
        camera_to_world=level_camera_to_world([0.0, 0.0, FIRST_DISTANCE], hip_height),
    )
    return Measured(person, skeleton, 1.0, equipment.matrix)


def measure(collection, equipment, before, settled):
    """`Measured` of the person in a `Collection`, the next after `before`.

    Raises `CalibrationFailure` where the frames do not show anybody well enough.
    """
    if collection.found < MOSTLY:
        raise CalibrationFailure(
            f"Calibration saw somebody in only {collection.found:.0%} of its pictures: stay in view for a second and try again."
        )
    seen = joined(collection.seen)
    before = _with_face(before, _measure_face(collection, seen, equipment), equipment)
    shape = measure_person(turn_to_camera(seen, before.person.camera_matrix), equipment.body)
    person = replace(before.person, revision=before.person.revision + 1, settled=settled, betas=shape.betas)
    skeleton = RestSkeleton.of_body(equipment.body, shape.betas)
    return _with_place(replace(before, person=person, skeleton=skeleton, scale=shape.scale), collection, seen, equipment)


def first_look(collection, equipment, before):
    """`Measured` of somebody of whom there is one frame: the mean person in that place. Raises `CalibrationFailure`."""
    seen = joined(collection.seen)
    scale = measure_person(turn_to_camera(seen, before.person.camera_matrix), equipment.body).scale
    person = replace(before.person, revision=before.person.revision + 1)
    return _with_place(replace(before, person=person, scale=scale), collection, seen, equipment)


def joined(sequences):
    """Several `Keypoints` sequences as one."""
    arrays = zip(*(sequence.arrays() for sequence in sequences))
    return Keypoints(sequences[0].definition, *(np.concatenate(values) for values in arrays))


def _measure_face(collection, seen, equipment):
    """`FaceMotion` of the frames with a picture, or None where none of them can be believed."""
    if equipment.face_model is None or not collection.pictures:
        return None
    frames = np.array(list(collection.pictures))
    face = solve_face(
        seen.take(frames),
        lambda: (picture.whole() for picture in collection.pictures.values()),
        equipment.image_size,
        np.array(collection.times)[frames],
        equipment.matrix,
        equipment.face_model,
        equipment.face_solver,
    )
    return face if face.valid.any() else None


def _with_face(measured, face, equipment):
    """The `Measured` with a `FaceMotion`'s face and lens; as they were where no face was seen."""
    if face is None:
        return measured
    face_matrix = equipment.matrix if face.matrix is None else face.matrix
    matrix = face_matrix if equipment.fov is None else equipment.matrix
    person = replace(measured.person, face_shape=face.shape, albedo=face.albedo, camera_matrix=matrix)
    return replace(measured, person=person, face_matrix=face_matrix)


def _with_place(measured, collection, seen, equipment):
    """The `Measured` with the place of the camera, from how the person stands before it."""
    times, valid, matrix = np.array(collection.times), np.array(collection.valid), measured.person.camera_matrix
    keypoints = in_size_of(measured.scale, turn_to_camera(seen, matrix))
    keypoints = smooth_keypoints(keypoints, times, valid)
    motion = solve_motion(keypoints, measured.skeleton, matrix, valid, equipment.ik)
    if not motion.valid[:, 0].any():
        raise CalibrationFailure(
            "Calibration could not place the person before the camera: step back a little and try again."
        )
    camera_to_world = stand_on_floor(motion, seen)
    if not np.isfinite(camera_to_world).all():
        raise CalibrationFailure("Calibration did not find the floor: show yourself from head to feet and try again.")
    return replace(measured, person=replace(measured.person, camera_to_world=camera_to_world))
