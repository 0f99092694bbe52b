"""What a motion is once its shaking is taken out: single frames that stick out, and how much it accelerates of itself."""

import numpy as np

MEASURED_OVER = 0.05
"""s: deviation of the bell over which a motion's own acceleration is measured. Wider loses gestures, narrower finds shaking."""


def without_spikes(values, reach=2):
    """Values [T, N] with each replaced by the median of its neighbours within `reach` frames."""
    padded = np.pad(values, ((reach, reach), (0, 0)), "edge")
    return np.median(np.stack([padded[start : start + len(values)] for start in range(2 * reach + 1)]), 0)


def without_turned_spikes(rotations, reach=2):
    """Rotations [T, 3, 3], each replaced by that one of its neighbours within `reach` frames which is nearest to all of them."""
    frames = np.clip(np.arange(len(rotations))[:, None] + np.arange(-reach, reach + 1), 0, len(rotations) - 1)
    near = rotations[frames]  # [T, n, 3, 3]
    apart = np.arccos(np.clip((np.einsum("tiab,tjab->tij", near, near) - 1) / 2, -1, 1))
    return near[np.arange(len(rotations)), apart.sum(2).argmin(1)]


def own_acceleration(values, timestamps):
    """How much values [T, N] accelerate, in their units a second squared, [T, N]. timestamps [T] s."""
    if len(values) < 3:
        return np.zeros_like(values)
    apart = (timestamps[:, None] - timestamps) / MEASURED_OVER
    bell = np.exp(-(apart**2) / 2)
    smooth = bell @ values / bell.sum(1, keepdims=True)
    acceleration = np.gradient(np.gradient(smooth, timestamps, axis=0), timestamps, axis=0)
    # A turn of the motion is as sharp before and after it as at its peak.
    wide = np.exp(-(apart**2) / 8)
    return np.sqrt(wide @ acceleration**2 / wide.sum(1, keepdims=True))
