"""The default detector: BlazePose for the body, MediaPipe's hand and face-mesh models on high-resolution crops.

As in Zhou et al. 2021 (Sec. 3.2.3), the hands are cut from the full-resolution frame where the body says they are, not from
the small image that the body network sees. A crop follows its hand from frame to frame, so inside the crop the hand hardly
moves and MediaPipe's own tracking keeps it. Which hand is which comes from the body alone.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..contract.skeleton import BLAZEPOSE_33, MESH_POINTS, SIDES
from .keypoints import SEEN, Keypoints, doubt_outside, points_box

os.environ.setdefault("GLOG_minloglevel", "2")

HAND_LENGTH = 0.19
"""m, wrist to middle finger tip of an adult (mean of men and women); only sizes crops and tells left from right."""

HAND_CROP = 2.2
"""Side of a hand crop in hand lengths: a hand about as large as palm detection likes it, with room to move."""

FACE_CROP = 3.0
"""Side of the head crop in ear-to-ear widths, from BlazePose's points, which lie inside the head's outline."""

CROP_PIXELS = 256

REGION_MARGIN = 1.25
"""Side of the square that BlazePose is shown in diameters of the circle around the body, as MediaPipe cuts it."""

MODELS = (
    "pose_detection/pose_detection.tflite",
    "pose_landmark/pose_landmark_full.tflite",
    "palm_detection/palm_detection_full.tflite",
    "hand_landmark/hand_landmark_full.tflite",
    "face_detection/face_detection_short_range.tflite",
    "face_landmark/face_landmark_with_attention.tflite",
)

_BODY_GRAPH = """
input_stream: "image"
input_stream: "region"
input_side_packet: "model_complexity"
output_stream: "landmarks"
output_stream: "world_landmarks"
output_stream: "auxiliary_landmarks"
node {
  calculator: "PoseLandmarkByRoiCpu"
  input_side_packet: "MODEL_COMPLEXITY:model_complexity"
  input_stream: "IMAGE:image"
  input_stream: "ROI:region"
  output_stream: "LANDMARKS:landmarks"
  output_stream: "WORLD_LANDMARKS:world_landmarks"
  output_stream: "AUXILIARY_LANDMARKS:auxiliary_landmarks"
}
"""

_MESH_POINTS = {
    "nose": [1],
    "left_eye_inner": [362],
    "left_eye_centre": [263, 362],
    "left_eye_outer": [263],
    "right_eye_inner": [133],
    "right_eye_centre": [33, 133],
    "right_eye_outer": [33],
    "left_mouth": [291],
    "right_mouth": [61],
}
"""Face-mesh points (averaged) at the same place as a BlazePose point."""

_SCALE_BONES = np.array(
    [
        [BLAZEPOSE_33.index(f"{side_a}_{a}"), BLAZEPOSE_33.index(f"{side_b}_{b}")]
        for side_a, a, side_b, b in [("left", "shoulder", "right", "shoulder"), ("left", "hip", "right", "hip")]
        + [
            (side, a, side, b)
            for side in SIDES
            for a, b in [("shoulder", "hip"), ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")]
        ]
    ]
)


class MediaPipeDetector:
    """BlazePose-33 body, 21 points a hand, 478-point face mesh, from the models inside the mediapipe package."""

    name = "mediapipe"
    definition = BLAZEPOSE_33
    face_count = MESH_POINTS

    def __init__(self):
        import mediapipe

        self._pose = mediapipe.solutions.pose.Pose(model_complexity=1)
        self._parts = PersonParts()
        self.models = hash_models(MODELS)

    def detect(self, image):
        """Keypoints in an RGB uint8 image [H, W, 3] of any size. Frames are to be given in order."""
        return self._parts.find(image, self._find_body(image))

    def detect_frames(self, images):
        """Yields the keypoints of each image. While a frame's hands and face are looked for, so is the next frame's body."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="parts") as following:
            waiting = None
            for image in images:
                keypoints = self._find_body(image)
                if waiting is not None:
                    yield waiting.result()
                waiting = following.submit(self._parts.find, image, keypoints)
            if waiting is not None:
                yield waiting.result()

    def _find_body(self, image):
        """Keypoints with the body alone."""
        result = self._pose.process(image)
        return _read_body(result.pose_landmarks, result.pose_world_landmarks, image, self.face_count)

    def close(self):
        self._parts.close()
        self._pose.close()


class PersonParts:
    """Hands and face of one person, whose body is known in every frame: their models follow them from frame to frame."""

    def __init__(self):
        import mediapipe

        solutions = mediapipe.solutions
        self._hands = [_HandDetector(solutions, side) for side in SIDES]
        self._face = _FaceDetector(solutions)
        # One worker a part: the parts of a frame run beside each other, and each sees its frames in order.
        self._workers = ThreadPoolExecutor(max_workers=3, thread_name_prefix="detect")

    def find(self, image, keypoints):
        """Adds hands and face to a frame's body, and returns it. Frames are to be given in order."""
        if not keypoints.body_confidence.any():
            self.forget()
            return keypoints
        scale = pixels_per_metre(keypoints.body2d, keypoints.body3d, keypoints.body_confidence)
        face = self._workers.submit(self._face.detect, image, keypoints)
        hands = [self._workers.submit(hand.detect, image, keypoints, scale) for hand in self._hands]
        for side, found in enumerate(hand.result() for hand in hands):
            if found is not None:
                keypoints.hand2d[side], keypoints.hand3d[side], keypoints.hand_confidence[side] = found
        self._keep_hands_apart(keypoints, scale)
        mesh = face.result()
        if mesh is not None:
            keypoints.face3d, keypoints.face_confidence = mesh, np.array(1.0)
        _take_finer_points(keypoints)
        _guess_centres(keypoints)
        return keypoints

    def _keep_hands_apart(self, keypoints, scale):
        """Both crops may have found the same hand: it belongs to the side whose body wrist is nearer."""
        gap = np.linalg.norm(keypoints.hand2d[0] - keypoints.hand2d[1], axis=-1).mean()
        if keypoints.hand_confidence.min() > 0 and gap < 0.25 * HAND_LENGTH * scale:
            loser = int(np.argmin(keypoints.hand_confidence))
            keypoints.hand2d[loser], keypoints.hand3d[loser], keypoints.hand_confidence[loser] = 0, 0, 0
            self._hands[loser].forget()

    def forget(self):
        """Starts anew with the next frame, as after a cut or with another person."""
        for hand in self._hands:
            hand.forget()

    def close(self):
        self._workers.shutdown()
        for part in (self._face, *self._hands):
            part.close()


@dataclass(frozen=True)
class Region:
    """The square of a picture that BlazePose is shown: around a circle that holds the body, turned as the body leans.

    centre [2] px, the middle of the hips; radius px of the circle; lean rad, 0 for a body that is upright, clockwise
    """

    centre: np.ndarray
    radius: float
    lean: float

    @property
    def side(self):
        """Side of the square in px."""
        return 2 * REGION_MARGIN * self.radius

    @classmethod
    def of_points(cls, centre, top):
        """From the middle of the hips [2] px and the circle's point [2] px in the direction of the head."""
        along = np.asarray(top, float) - centre
        return cls(np.asarray(centre, float), float(np.linalg.norm(along)), float(np.arctan2(along[0], -along[1])))


class BodyFinder:
    """BlazePose on a region that is given: no tracking and no smoothing of its own, so that an answer is that of one picture.

    The package's own pose solution follows whoever it likes and smooths over time, which lags behind fast motion.
    """

    definition = BLAZEPOSE_33
    face_count = MESH_POINTS

    def __init__(self):
        import mediapipe.python.solutions.pose  # noqa: F401 (registers the graphs that the one below is made of)
        from mediapipe.framework.formats.rect_pb2 import NormalizedRect
        from mediapipe.python.solution_base import SolutionBase

        self._rectangle = NormalizedRect
        self._graph = SolutionBase(graph_config=_BODY_GRAPH, side_inputs={"model_complexity": 1})

    def look(self, image, region):
        """(keypoints with the body alone, the next frame's `Region`) in an RGB uint8 image [H, W, 3]; (None, None) for nobody."""
        height, width = image.shape[:2]
        rectangle = self._rectangle(
            x_center=region.centre[0] / width,
            y_center=region.centre[1] / height,
            width=region.side / width,
            height=region.side / height,
            rotation=region.lean,
        )
        found = self._graph.process({"image": image, "region": rectangle})
        if found.landmarks is None:
            return None, None
        keypoints = _read_body(found.landmarks, found.world_landmarks, image, self.face_count)
        centre, top = ((point.x * width, point.y * height) for point in found.auxiliary_landmarks.landmark[:2])
        return keypoints, Region.of_points(centre, top)

    def close(self):
        self._graph.close()


class PersonFinder:
    """Where somebody is in a picture, by BlazePose: pictures need have nothing to do with each other."""

    def __init__(self):
        import mediapipe

        self._pose = mediapipe.solutions.pose.Pose(static_image_mode=True, model_complexity=1)
        self.models = hash_models(MODELS[:2])

    def find(self, image):
        """Box [4] px around the person in an RGB uint8 image [H, W, 3], or None."""
        result = self._pose.process(image)
        found = _read_body(result.pose_landmarks, result.pose_world_landmarks, image, 0)
        return found.person_box if found.body_confidence.any() else None

    def close(self):
        self._pose.close()


class _HandDetector:
    """One hand of the person, found in a crop around the wrist and forearm of that side."""

    def __init__(self, solutions, side):
        # Low thresholds find more; a false find is told by its distance to the body's wrist.
        self._hands = solutions.hands.Hands(
            max_num_hands=1, model_complexity=1, min_detection_confidence=0.3, min_tracking_confidence=0.3
        )
        other = SIDES[1 - SIDES.index(side)]
        self._palm = [BLAZEPOSE_33.index(f"{side}_{name}") for name in ("wrist", "index", "pinky")]
        self._wrist, self._other_wrist = self._palm[0], BLAZEPOSE_33.index(f"{other}_wrist")
        self._tracking = False

    def detect(self, image, keypoints, scale):
        """(points [21, 2] px, points [21, 3] m, confidence) or None. `scale` is the body's pixels per metre."""
        centre = keypoints.body2d[self._palm].mean(0)
        side = HAND_CROP * HAND_LENGTH * scale
        height, width = image.shape[:2]
        reach = HAND_LENGTH * scale
        inside = (centre > -reach / 2).all() and (centre < np.array([width, height]) + reach / 2).all()
        if not inside or side < 8:
            self.forget()
            return None
        crop, image_to_crop = square_crop(image, centre, side)
        result = self._hands.process(crop)
        if not result.multi_hand_landmarks:
            self._tracking = False
            return None
        self._tracking = True
        points = _landmark_array(result.multi_hand_landmarks[0])[:, :2] * CROP_PIXELS
        points = (points - image_to_crop[:, 2]) / image_to_crop[0, 0]
        distance = np.linalg.norm(points[0] - keypoints.body2d[self._wrist])
        other_distance = np.linalg.norm(points[0] - keypoints.body2d[self._other_wrist])
        other_seen = keypoints.body_confidence[self._other_wrist] > SEEN
        if distance > 0.8 * reach or (other_seen and other_distance < distance):
            self.forget()
            return None
        return points, _landmark_array(result.multi_hand_world_landmarks[0]), 1 - 0.5 * distance / (0.8 * reach)

    def forget(self):
        """Starts anew with palm detection in the next frame: a black picture loses the track in half the time of a reset."""
        if self._tracking:
            self._hands.process(np.zeros((CROP_PIXELS, CROP_PIXELS, 3), np.uint8))
            self._tracking = False

    def close(self):
        self._hands.close()


class _FaceDetector:
    """The face mesh, found in a crop around the head."""

    _EARS = [BLAZEPOSE_33.index("left_ear"), BLAZEPOSE_33.index("right_ear")]
    _HEAD = list(range(11))

    def __init__(self, solutions):
        self._mesh = solutions.face_mesh.FaceMesh(
            refine_landmarks=True, min_detection_confidence=0.4, min_tracking_confidence=0.4
        )

    def detect(self, image, keypoints):
        """Mesh points [478, 3] in px of the whole image, or None."""
        if keypoints.body_confidence[0] < SEEN:
            return None
        head = keypoints.body2d[self._HEAD]
        width = np.linalg.norm(keypoints.body3d[self._EARS[0]] - keypoints.body3d[self._EARS[1]])
        spread = np.ptp(keypoints.body3d[self._HEAD, :2], axis=0).max()
        # Seen from the side the ears coincide in the image, so the width is measured in 3D and brought to pixels.
        scale = np.ptp(head, axis=0).max() / max(spread, 1e-6)
        side = FACE_CROP * width * scale
        if side < 16:
            return None
        crop, image_to_crop = square_crop(image, head.mean(0), side)
        result = self._mesh.process(crop)
        if not result.multi_face_landmarks:
            return None
        points = _landmark_array(result.multi_face_landmarks[0]) * CROP_PIXELS
        points[:, :2] -= image_to_crop[:, 2]
        return points / image_to_crop[0, 0]

    def close(self):
        self._mesh.close()


def _read_body(points, world_points, image, face_count):
    """Keypoints with the body alone from BlazePose's landmarks in an image, or None, and those in metres."""
    keypoints = Keypoints.nobody(BLAZEPOSE_33, face_count)
    if points is None:
        return keypoints
    height, width = image.shape[:2]
    keypoints.body2d = _landmark_array(points)[:, :2] * (width, height)
    visible = np.clip([point.visibility for point in points.landmark], 0, 1)
    keypoints.body_confidence = doubt_outside(keypoints.body2d, visible, (width, height))
    keypoints.body3d = _landmark_array(world_points)
    keypoints.person_box = points_box(keypoints.body2d, keypoints.body_confidence, (width, height))
    return keypoints


def hash_models(names):
    """sha256 by file name of models inside the mediapipe package."""
    import mediapipe

    root = Path(mediapipe.__file__).parent / "modules"
    return {Path(name).name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names}


def square_crop(image, centre, side):
    """Cuts a square of `side` px around `centre` and brings it to 256 x 256; black outside the image.

    Returns the crop and the affine map [2, 3] from image to crop pixels.
    """
    zoom = CROP_PIXELS / side
    image_to_crop = np.array([[zoom, 0, CROP_PIXELS / 2 - centre[0] * zoom], [0, zoom, CROP_PIXELS / 2 - centre[1] * zoom]])
    interpolation = cv2.INTER_AREA if zoom < 0.5 else cv2.INTER_LINEAR
    return cv2.warpAffine(image, image_to_crop, (CROP_PIXELS, CROP_PIXELS), flags=interpolation), image_to_crop


def pixels_per_metre(points2d, points3d, confidence):
    """Scale of the body in the image by least squares over its bones, each weighted by how surely both ends are seen.

    points2d [33, 2] px, points3d [33, 3] m with x and y parallel to the image, confidence [33].
    """
    a, b = _SCALE_BONES.T
    lengths2d = np.linalg.norm(points2d[a] - points2d[b], axis=-1)
    lengths3d = np.linalg.norm((points3d[a] - points3d[b])[:, :2], axis=-1)
    weight = np.minimum(confidence[a], confidence[b]) + 1e-3
    return float((weight * lengths2d * lengths3d).sum() / ((weight * lengths3d**2).sum() + 1e-9))


def _take_finer_points(keypoints):
    """Where the face mesh or a hand model, which see more pixels, have a body point too, the body takes theirs."""
    if keypoints.face_confidence > 0:
        for name, mesh_points in _MESH_POINTS.items():
            keypoints.body2d[BLAZEPOSE_33.index(name)] = keypoints.face3d[mesh_points, :2].mean(0)
    for index, side in enumerate(SIDES):
        if keypoints.hand_confidence[index] > 0:
            wrist = BLAZEPOSE_33.index(f"{side}_wrist")
            keypoints.body2d[wrist] = keypoints.hand2d[index, 0]
            # A blurred wrist that the body model doubts is sure where the hand model has found its hand.
            keypoints.body_confidence[wrist] = max(keypoints.body_confidence[wrist], keypoints.hand_confidence[index])


def _guess_centres(keypoints):
    """MediaPipe does not tell its crops: their middles are about those of the points in them."""
    weight = keypoints.body_confidence + 1e-6
    keypoints.body_centre = (keypoints.body2d * weight[:, None]).sum(0) / weight.sum()
    keypoints.hand_centre = keypoints.hand2d.mean(1)


def _landmark_array(landmarks):
    return np.array([[point.x, point.y, point.z] for point in landmarks.landmark])
