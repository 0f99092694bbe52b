"""Light on a face: second-order spherical harmonics (Zhou et al. 2021, Eq. 5; Ramamoorthi and Hanrahan 2001), and sRGB.

A surface of reflectance r and unit outward normal n shows, in each channel c, t = r * sum_b mu[c, b] H_b(n). Colours are linear
RGB; normals are in camera axes. H holds nine real harmonics, orthonormal over the sphere, in the order 1, y, z, x, xy, yz,
3z^2 - 1, xz, x^2 - y^2. White ambient light that leaves the reflectance as it is has mu[:, 0] = 1 / H_0 and zeros elsewhere.
"""

import numpy as np

SH_COUNT = 9
SH_CONSTANTS = (
    0.5 / np.pi**0.5,
    *(3**0.5 / (2 * np.pi**0.5),) * 3,
    *(15**0.5 / (2 * np.pi**0.5),) * 2,
    5**0.5 / (4 * np.pi**0.5),
    15**0.5 / (2 * np.pi**0.5),
    15**0.5 / (4 * np.pi**0.5),
)


def srgb_to_linear(values):
    """sRGB 0..1 to linear RGB 0..1 (IEC 61966-2-1). Numpy arrays or torch tensors, any shape."""
    curve = ((values + 0.055) / 1.055).clip(0) ** 2.4
    return _where(values <= 0.04045, values / 12.92, curve)


def linear_to_srgb(values):
    """Linear RGB to sRGB 0..1; what lies outside 0..1 is cut off first. Numpy arrays or torch tensors, any shape."""
    values = values.clip(0, 1)
    # The power has no finite slope at zero, where the straight piece holds anyway.
    curve = 1.055 * values.clip(0.0031308) ** (1 / 2.4) - 0.055
    return _where(values <= 0.0031308, 12.92 * values, curve)


def sh_basis(normals):
    """Harmonics [..., 9] of unit normals [..., 3] in camera axes. Numpy arrays or torch tensors."""
    x, y, z = normals[..., 0], normals[..., 1], normals[..., 2]
    terms = (x * 0 + 1, y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y)
    terms = [constant * term for constant, term in zip(SH_CONSTANTS, terms)]
    if isinstance(normals, np.ndarray):
        return np.stack(terms, -1)
    import torch

    return torch.stack(terms, -1)


def shading(illumination, normals):
    """What light [..., 3, 9] makes of a white surface: linear RGB [..., P, 3] at normals [..., P, 3]."""
    return sh_basis(normals) @ illumination.swapaxes(-1, -2)


def shade(albedo, illumination, normals):
    """Eq. 5: linear RGB [..., P, 3] of reflectances [..., P, 3] with normals [..., P, 3] in light [..., 3, 9]."""
    return albedo * shading(illumination, normals)


def ambient(level=1.0):
    """White light [3, 9] from everywhere that shows a reflectance times `level`."""
    light = np.zeros((3, SH_COUNT))
    light[:, 0] = level / SH_CONSTANTS[0]
    return light


def solve_illumination(pixels, albedo, normals, weights, ridge=1e-3):
    """The light [T, 3, 9] of each frame by weighted least squares, in closed form.

    pixels [T, P, 3] linear RGB; albedo [P, 3] or [T, P, 3]; normals [T, P, 3]; weights [T, P], or [T, P, 3] by channel, >= 0.
    ridge holds all but the ambient term towards zero, in shares of how much the frame's pixels say about the ambient one: half
    a sphere of normals, and less, hardly tells some of them apart. A frame without weight gives zeros.
    """
    basis = sh_basis(normals)
    albedo = np.broadcast_to(albedo, pixels.shape)
    weights = np.broadcast_to(weights[..., None] if weights.ndim == pixels.ndim - 1 else weights, pixels.shape)
    hold = np.diag(np.r_[1e-9, np.full(SH_COUNT - 1, ridge)])
    light = np.empty((len(pixels), 3, SH_COUNT))
    for channel in range(3):
        design = albedo[..., channel, None] * basis
        weighted = (weights[..., channel, None] * design).swapaxes(-1, -2)
        normal = weighted @ design
        known = normal[:, :1, :1]
        right = weighted @ pixels[..., channel, None]
        light[:, channel] = np.linalg.solve(normal + np.where(known > 0, known, 1) * hold, right)[..., 0]
    return light


def solve_albedo(pixels, light, weights, mean, basis, prior):
    """Albedo coefficients [A], one set for all frames: weighted least squares with the prior that they are standard normal.

    pixels [T, P, 3] linear RGB; light [T, P, 3]: `shading` of the frames; weights [T, P] or [T, P, 3], >= 0; mean [P, 3] and
    basis [A, P, 3] of the reflectance; prior: the weight of a squared coefficient beside a pixel's weighted squared error.
    """
    weights = weights[..., None] if weights.ndim == pixels.ndim - 1 else weights
    # The frames come together before the coefficients do: both sums are per point and channel.
    strength = (weights * light**2).sum(0)
    pull = (weights * light * (pixels - light * mean)).sum(0)
    flat = basis.reshape(len(basis), -1).astype(float)
    normal = (flat * strength.ravel()) @ flat.T + prior * np.eye(len(flat))
    return np.linalg.solve(normal, flat @ pull.ravel())


def _where(condition, values, others):
    if isinstance(values, np.ndarray | np.generic | float):
        return np.where(condition, values, others)
    import torch

    return torch.where(condition, values, others)
