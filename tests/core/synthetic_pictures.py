"""Pictures of coloured dots, and where the dots are: what the tests of cropping and of datasets look at."""

import numpy as np

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
YELLOW, MAGENTA, CYAN = (255, 255, 0), (255, 0, 255), (0, 255, 255)


def dotted(size, dots, radius):
    """A black picture of `size` (width, height) with soft-edged discs; dots: (place [2] px, colour) each."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    picture = np.zeros((size[1], size[0], 3))
    for place, colour in dots:
        share = np.clip(radius + 0.5 - np.hypot(x - place[0], y - place[1]), 0, 1)[..., None]
        picture = picture * (1 - share) + share * np.array(colour)
    return np.round(picture).astype(np.uint8)


def find_dot(picture, colour):
    """The middle [2] px of the dot of that colour, weighted by how pure it is. Fails where there is none."""
    values, wanted = picture.astype(float) / 255, np.array(colour) / 255
    likeness = np.clip(1 - 2 * np.abs(values - wanted).max(-1), 0, None)
    assert likeness.max() > 0.2, f"no dot of colour {colour}"
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    return np.array([(x * likeness).sum(), (y * likeness).sum()]) / likeness.sum()
