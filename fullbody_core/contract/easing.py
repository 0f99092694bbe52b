"""Going smoothly from one thing to another. numpy only."""

import numpy as np


def smoothstep(value, low, high):
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((np.asarray(value, float) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
