"""`fullbody evaluate face CLIP...`: how well a captured face agrees with what was seen of it (Zhou et al. 2021, Table 5).

The detector's points and the clip's own pixels are the reference, so no truth is needed. The landmark error is that of the 68
points of landmarks.LANDMARKS_68 in a crop of 224 px around the face. As in the paper, a solver's 3D points are first posed by
PnP with RANSAC and then aligned in the picture by a similarity, so that only the form of the face is measured; beside it
stands the error of the solver's own pose. The photometric error is the mean difference of a channel, in sRGB 0..1, over the
visible skin.
"""

import itertools
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..camera import DEFAULT_FOV, camera_matrix, project
from ..face.landmark_fit import fit_landmarks, refine, solve_pose
from ..face.landmarks import LANDMARKS_68, eye_opening, lip_distance
from ..face.photometric_fit import photometric_error, sample_colours, solve_from_samples
from ..face.predict_face import predict_face
from ..face.solve_face import mesh_boxes
from ..table import format_table
from ..video import open_video

CROP = 224
"""px: the side of the picture that a face is measured in, as in Table 5."""

CROP_MARGIN = 1.25
"""Side of that picture in larger sides of the box around the 68 points."""

SOLVERS = ("landmarks", "facenet", "facenet-tight")


@dataclass(frozen=True)
class FaceClip:
    """A clip's face meshes: points [T, 478, 3] px, confidence [T], timestamps [T] s, size (width, height)
    px, matrix [3, 3]; first: the frame of the video that is the clip's first."""

    path: Path
    points: np.ndarray
    confidence: np.ndarray
    timestamps: np.ndarray
    size: tuple
    matrix: np.ndarray
    first: int = 0

    def images(self):
        """The clip's RGB images from its first frame."""
        frames = itertools.islice(open_video(self.path).frames(), self.first, self.first + len(self.points))
        return (image for _, image in frames)


@dataclass
class FaceReport:
    """Figures of one solver on one clip.

    valid: share of frames; landmarks and reprojection: px in the crop, after PnP and alignment, and by the solver's own pose
    photometric [3]: by channel; blink: correlations of both eyes' mean, the left and the right; jaw: of jawOpen
    """

    clip: str
    solver: str
    frame_count: int
    valid: float
    landmarks: float
    reprojection: float
    photometric: np.ndarray
    blink: tuple
    jaw: float


def detect_face(path, fov=DEFAULT_FOV, progress=lambda frames, **_: frames):
    """The face meshes of a video: `FaceClip`. Raises `VideoError`."""
    from ..detect.mediapipe import MediaPipeDetector
    from ..pipeline import detect_keypoints

    video = open_video(path)
    with closing(MediaPipeDetector()) as detector:
        timestamps, seen = detect_keypoints(video, detector, progress)
    matrix = camera_matrix(video.image_size, fov)
    return FaceClip(Path(path), seen.face3d, seen.face_confidence, timestamps, video.image_size, matrix)


def evaluate_face(clips, model, solvers=("landmarks",)):
    """Solves and measures `FaceClip`s: list of `FaceReport`, and the identity ratios by solver (None for a single clip)."""
    reports, ratios = [], {}
    for solver in solvers:
        for clip in clips:
            reports.append(report_face(clip, solve(clip, model, solver), model, solver))
        # Who it is takes two clips to tell, and a third and fourth fit of each.
        shapes = [[solve(half, model, solver).shape for half in halves(clip)] for clip in clips] if len(clips) > 1 else []
        ratios[solver] = identity_ratio(shapes)
    return reports, ratios


def solve(clip, model, solver):
    """The `FaceMotion` of a clip, without colours unless the solver has its own."""
    given = (clip.points, clip.confidence, clip.size, clip.matrix, clip.timestamps, model)
    if solver == "landmarks":
        return fit_landmarks(*given)
    motion = predict_face(clip.images(), mesh_boxes(clip.points, clip.confidence, clip.size), clip.size, model)
    if solver == "facenet":
        return motion
    # Whoever moves the points has the colours solved anew for their new places.
    return refine(replace(motion, albedo=None, illumination=None), *given)


def report_face(clip, motion, model, solver, images=None):
    """Measures one `FaceMotion` of a clip; colours that it lacks are solved from the clip's images."""
    samples = sample_colours(clip.images() if images is None else images, motion, model, clip.matrix)
    if motion.albedo is None:
        motion = solve_from_samples(samples, motion, model)
    aligned, own = landmark_errors(clip, motion, model)
    return FaceReport(
        clip=clip.path.name,
        solver=solver,
        frame_count=len(clip.points),
        valid=float(motion.valid.mean()),
        landmarks=_mean(aligned),
        reprojection=_mean(own),
        photometric=photometric_error(samples, motion, model),
        blink=blink_correlations(clip, motion, model),
        jaw=_correlation(coefficient(motion, model, "jawOpen"), lip_distance(clip.points[motion.valid, :, :2])),
    )


def landmark_errors(clip, motion, model):
    """Mean distances [T'] over the 68 points, px in the crop, of the valid frames: (after PnP and alignment, by own pose)."""
    present = model.has_mesh_points[list(LANDMARKS_68)]
    chosen = np.array(LANDMARKS_68)[present]
    places = model.mesh_points.places(motion.shape, motion.expression)[motion.valid][:, chosen]
    seen = clip.points[motion.valid][:, chosen, :2]
    side = CROP_MARGIN * np.ptp(clip.points[motion.valid][:, list(LANDMARKS_68), :2], axis=1).max(1)
    scale = (CROP / np.maximum(side, 1))[:, None]
    posed, lens = np.empty_like(seen), clip.matrix if motion.matrix is None else motion.matrix
    for frame, (points, pixels) in enumerate(zip(places, seen)):
        rotation, translation = solve_pose(points, pixels, lens)
        posed[frame] = project(points @ rotation.T + translation, lens)
    aligned = align_in_picture(posed, seen)
    camera = places @ np.swapaxes(motion.rotation[motion.valid], -1, -2) + motion.translation[motion.valid, None]
    own = project(camera, lens)
    return tuple((np.linalg.norm(points - seen, axis=-1) * scale).mean(1) for points in (aligned, own))


def align_in_picture(points, target):
    """Points [T, P, 2] turned, scaled and shifted onto target [T, P, 2], by least squares in each frame."""
    middle = target.mean(1, keepdims=True)
    flat, wanted = points - points.mean(1, keepdims=True), target - middle
    # In the plane a turn with a scale is a product of complex numbers.
    flat, wanted = flat[..., 0] + 1j * flat[..., 1], wanted[..., 0] + 1j * wanted[..., 1]
    factor = (flat.conj() * wanted).sum(1) / np.maximum((np.abs(flat) ** 2).sum(1), 1e-12)
    moved = factor[:, None] * flat
    return np.stack([moved.real, moved.imag], -1) + middle


def coefficient(motion, model, name):
    """An expression's coefficient [T'] in the valid frames; zeros where the model has none of that name."""
    if name not in model.expression_names:
        return np.zeros(motion.valid.sum())
    return motion.expression[motion.valid, list(model.expression_names).index(name)]


def blink_correlations(clip, motion, model):
    """Correlation of eyeBlink with how closed the eye is: of both eyes' mean, the left and the right."""
    seen = clip.points[motion.valid, :, :2]
    closed = [1 - eye_opening(seen, side) for side in ("left", "right")]
    blink = [coefficient(motion, model, f"eyeBlink{side}") for side in ("Left", "Right")]
    return tuple(_correlation(*pair) for pair in ((blink[0] + blink[1], closed[0] + closed[1]), *zip(blink, closed)))


def halves(clip):
    """The first and the second half of a clip."""
    middle = len(clip.points) // 2
    return [
        replace(
            clip,
            points=clip.points[part],
            confidence=clip.confidence[part],
            timestamps=clip.timestamps[part],
            first=clip.first + part.start,
        )
        for part in (slice(0, middle), slice(middle, len(clip.points)))
    ]


def identity_ratio(shapes):
    """How much farther apart different clips' shapes are than those of two halves of one clip.

    shapes: for each clip the shapes [S] of its halves. The median distance between halves of different clips over the largest
    distance between halves of one. None for a single clip.
    """
    if len(shapes) < 2:
        return None
    within = max(np.linalg.norm(first - second) for first, second in shapes)
    pairs = itertools.combinations(shapes, 2)
    across = [np.linalg.norm(a - b) for one, other in pairs for a in one for b in other]
    return float(np.median(across) / max(within, 1e-9))


def format_face_reports(reports, ratios):
    """The reports as one table a clip, and the identity ratios, for the terminal."""
    header = (
        "solver",
        "frames",
        "valid",
        "landmarks px",
        "own pose px",
        "photometric",
        "R",
        "G",
        "B",
        "blink",
        "L",
        "R",
        "jawOpen",
    )
    parts = []
    for clip in dict.fromkeys(report.clip for report in reports):
        rows = [
            (
                report.solver,
                str(report.frame_count),
                f"{report.valid:.1%}",
                f"{report.landmarks:.2f}",
                f"{report.reprojection:.2f}",
                *(f"{value:.4f}" for value in (report.photometric.mean(), *report.photometric)),
                *(f"{value:.3f}" for value in (*report.blink, report.jaw)),
            )
            for report in reports
            if report.clip == clip
        ]
        parts.append(f"{clip}\n{format_table(header, rows)}")
    lines = [f"{solver}: {ratio:.1f}" for solver, ratio in ratios.items() if ratio is not None]
    if lines:
        parts.append("identity, distance between clips over that between halves of one\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _mean(values):
    return float(values.mean()) if len(values) else float("nan")


def _correlation(values, others):
    """Pearson's correlation of [N] with [N]; NaN where one of them never changes."""
    if len(values) < 2 or np.ptp(values) == 0 or np.ptp(others) == 0:
        return float("nan")
    return float(np.corrcoef(values, others)[0, 1])
