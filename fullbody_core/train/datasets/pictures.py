"""Pictures of a dataset, from image files and from single frames of its videos, always RGB in uint8."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from ...detect.crops import as_rgb
from .reader import DatasetError


def read_picture(path):
    """An image file as RGB [H, W, 3] uint8; grey, 16-bit and transparent ones are converted. Raises `DatasetError`.

    A camera's note on how to turn the picture is ignored: annotations are in the pixels as they are stored.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DatasetError(f"Cannot read the picture {path}: unpack the dataset's pictures again.") from error
    image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise DatasetError(f"{path} is not a picture, or it was cut short: unpack the dataset's pictures again.")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 3 and image.shape[2] >= 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return as_rgb(image)


def read_video_picture(path, index):
    """Frame `index` (from 0) of a video with a constant frame rate as RGB [H, W, 3] uint8. Raises `DatasetError`.

    Decodes from the key frame before it. For steady work on a large dataset unpack the videos to pictures once.
    """
    try:
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            return _frame(container, container.streams.video[0], index)
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        raise DatasetError(f"Cannot read frame {index} of {Path(path)}: download the video again.") from error


def _frame(container, stream, index):
    rate = Fraction(stream.average_rate or stream.guessed_rate)
    start = (stream.start_time or 0) * stream.time_base
    wanted = start + index / rate
    if index:
        container.seek(int(wanted / stream.time_base), stream=stream, backward=True)
    for frame in container.decode(stream):
        time = (frame.pts if frame.pts is not None else frame.dts) * stream.time_base
        if time >= wanted - Fraction(1, 2) / rate:
            if time > wanted + Fraction(1, 2) / rate:
                raise ValueError("the frame is missing")
            return frame.to_ndarray(format="rgb24")
    raise ValueError("the video is shorter")
