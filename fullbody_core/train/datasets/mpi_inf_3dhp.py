"""The training set of MPI-INF-3DHP (Mehta et al. 2017), which the paper calls MPII3D.

    ROOT/S1/Seq1/annot.mat
    ROOT/S1/Seq1/imageSequence/video_0.avi                       or, much faster to read, unpacked:
    ROOT/S1/Seq1/imageFrames/video_0/frame_000001.jpg

Places are pixels and millimetres in each camera's frame. The cameras' matrices are fitted to the two.
The test set is in MATLAB 7.3 files, which are HDF5 and need a library of their own; it is not read.
"""

import numpy as np

from .cropping import Person, arranged, box_of_points, fit_camera_matrix
from .pictures import read_picture, read_video_picture
from .reader import DatasetError, Reader, load_mat, parsing

NAMES = (
    "spine3", "spine4", "spine2", "spine", "pelvis", "neck", "head", "head_top",
    *(f"left_{part}" for part in ("clavicle", "shoulder", "elbow", "wrist", "hand")),
    *(f"right_{part}" for part in ("clavicle", "shoulder", "elbow", "wrist", "hand")),
    *(f"left_{part}" for part in ("hip", "knee", "ankle", "foot", "toe")),
    *(f"right_{part}" for part in ("hip", "knee", "ankle", "foot", "toe")),
)  # fmt: skip
"""The 28 joints in their order; left and right are the person's."""

CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
"""Those about as high as a person, which the dataset's own script downloads; the others look down from the ceiling."""


class MpiInf3dhp(Reader):
    """Every `stride`-th frame of the training sequences from the cameras whose pictures are there."""

    name, title, kind, definition = "mpi_inf_3dhp", "MPI-INF-3DHP", "body3d", "mpi_inf_3dhp"
    source = "download it with the script from vcai.mpi-inf.mpg.de/3dhp-dataset"

    def __init__(self, root, stride=5):
        super().__init__(root)
        self._samples, self._matrices = [], {}
        sequences = sorted(self.root.glob("S*/Seq*/annot.mat"))
        if not sequences:
            raise self.absent(self.root / "S1" / "Seq1" / "annot.mat")
        for path in sequences:
            pixels, metres = _annotations(path)
            for camera in CAMERAS:
                if any(place.exists() for place in _picture_places(path.parent, camera)):
                    self._add(path.parent, camera, pixels[camera], metres[camera], stride)
        if not self._samples:
            raise self.absent(_picture_places(sequences[0].parent, CAMERAS[0])[1])

    def _add(self, folder, camera, pixels, metres, stride):
        self._matrices[folder, camera] = fit_camera_matrix(metres.reshape(-1, 3), pixels.reshape(-1, 2))
        pairs = zip(pixels[::stride].astype(np.float32), metres[::stride].astype(np.float32))
        self._samples += [(folder, camera, place * stride, *pair) for place, pair in enumerate(pairs)]

    def __len__(self):
        return len(self._samples)

    def annotated(self, index):
        folder, camera, frame, pixels, metres = self._samples[index]
        body2d, known = arranged("mpi_inf_3dhp", NAMES, pixels, np.ones(len(NAMES)))
        body3d, _ = arranged("mpi_inf_3dhp", NAMES, metres, np.ones(len(NAMES)))
        matrix = self._matrices[folder, camera]
        person = Person("mpi_inf_3dhp", box_of_points(body2d, known), body2d, known, body3d, known, matrix)
        unpacked, video = _picture_places(folder, camera)
        if unpacked.exists():
            return read_picture(unpacked / f"frame_{frame + 1:06}.jpg"), person
        return read_video_picture(video, frame), person


def _annotations(path):
    """Pixels and metres of a sequence: for each of 14 cameras [T, 28, 2] and [T, 28, 3]."""
    content = load_mat(path, variable_names=["annot2", "annot3"])
    with parsing(path, "an annotation of MPI-INF-3DHP"):
        pixels = [cell.reshape(len(cell), len(NAMES), 2) for cell in content["annot2"].ravel()]
        metres = [cell.reshape(len(cell), len(NAMES), 3) / 1000 for cell in content["annot3"].ravel()]
    if min(len(pixels), len(metres)) <= max(CAMERAS):
        raise DatasetError(f"{path} should annotate 14 cameras, got {len(pixels)}: download it again.")
    return pixels, metres


def _picture_places(folder, camera):
    """Where a camera's pictures may be: unpacked, or in the video."""
    return folder / "imageFrames" / f"video_{camera}", folder / "imageSequence" / f"video_{camera}.avi"
