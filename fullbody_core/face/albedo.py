"""The open albedo basis: what colours skin can have, from its pigments, as mean and principal components in linear RGB.

Light passes the epidermis twice, where melanin takes its share (Beer-Lambert), and is scattered back by the dermis, where blood
takes its. For each of three wavelengths that stand for sRGB's primaries the figures are Jacques' ("Optical properties of
biological tissues: a review", Phys. Med. Biol. 58, 2013, and his "Skin optics", 1998): absorption of melanosomes 6.6e11 w^-3.33,
of bloodless tissue 0.244 + 85.3 exp(-(w - 154) / 66.2), scattering of the dermis 2e5 w^-1.5 + 2e12 w^-4, each per cm with w in
nm; whole blood of three quarters' oxygenation; reflectance of a deep layer exp(-A / sqrt(3 (1 + scattering / absorption))).
The horny layer adds a little that went through no pigment. Melanin's path, A, that share and the yellow of carotene are chosen
by eye, so that the range from pale to dark is that of people.

A person has an amount of both pigments, drawn from pale to dark. Regions differ from it: lips and cheeks hold more blood,
lids and forehead another share of melanin; brows, lashes and beards mix in a hair colour, lipstick another. Fields that wander
smoothly over the face, at scales from freckles to whole cheeks, unsettle both pigments. The basis is the PCA of such people.
"""

import numpy as np
from scipy.spatial import cKDTree

WAVELENGTHS = np.array([610.0, 545.0, 478.0])
"""nm, where sRGB's red, green and blue have the middles of what skin sends back."""

MELANOSOME = 6.6e11 * WAVELENGTHS**-3.33
BLOODLESS = 0.244 + 85.3 * np.exp(-(WAVELENGTHS - 154) / 66.2)
SCATTERING = 2e5 * WAVELENGTHS**-1.5 + 2e12 * WAVELENGTHS**-4
BLOOD = np.array([18.0, 284.0, 130.0])
"""Absorption and reduced scattering, per cm."""

EPIDERMIS_PATH = 0.015
"""cm that light goes through the epidermis, in and out."""

SURFACE = 0.02
"""Share of the light that the horny layer scatters back before any pigment: without it dark skin would be orange."""

DEPTH_FACTOR = 7.8
"""A in the reflectance of a deep layer, for skin's refractive index."""

YELLOW = np.array([1.0, 1.0, 0.75])
"""What carotene and bilirubin leave of each colour."""

PALE, DARK = np.log(0.02), np.log(0.35)
"""Logarithms of the share of the epidermis that melanosomes fill."""

USUAL_BLOOD = np.log(0.004)
"""Logarithm of the share of the dermis that blood fills."""

HAIR_TONES = np.array(
    [[0.012, 0.009, 0.008], [0.03, 0.018, 0.012], [0.09, 0.05, 0.028], [0.30, 0.21, 0.12], [0.28, 0.27, 0.26]]
)
IRIS_TONES = np.array(
    [[0.03, 0.016, 0.009], [0.08, 0.045, 0.02], [0.07, 0.10, 0.06], [0.08, 0.13, 0.20], [0.14, 0.16, 0.17]]
)
"""Linear RGB: black, brown, light brown, fair and grey hair; dark and light brown, green, blue and grey eyes."""

FIELD_SCALES = (0.004, 0.012, 0.035)
"""m: wavelengths, about, of freckles and pores, of blotches, and of whole parts of the face."""

LASH_WIDTH = 0.0012
"""m beside the opening of the eyes that lashes and their shadow darken."""


def skin_reflectance(melanin, blood):
    """Reflectance [..., 3] in linear RGB of skin.

    melanin [...]: share of the epidermis that melanosomes fill, 0.01 to 0.4; blood [...]: share of the dermis, 0.001 to 0.05.
    """
    melanin, blood = np.asarray(melanin)[..., None], np.asarray(blood)[..., None]
    passed = np.exp(-EPIDERMIS_PATH * MELANOSOME * melanin)
    absorption = BLOODLESS + BLOOD * blood
    deep = np.exp(-DEPTH_FACTOR / np.sqrt(3 * (1 + SCATTERING / absorption)))
    return SURFACE + (1 - SURFACE) * YELLOW * passed * deep


def pigment_albedo(vertices, regions, size=80, people=800, seed=0):
    """Mean [V, 3] and basis [size, V, 3] of people's colours in linear RGB, per standard deviation, and the share explained.

    vertices [V, 3] m: the mean face; regions: shares [V] by name, of `morphable.REGIONS`; what a face lacks is left out.
    """
    colours = sample_colours(np.asarray(vertices, float), regions, people, seed)
    mean = colours.mean(0)
    centred = (colours - mean).reshape(people, -1)
    # There are fewer people than coordinates: the small Gram matrix has the same eigenvectors.
    values, vectors = np.linalg.eigh((centred @ centred.T).astype(float))
    chosen = vectors[:, ::-1][:, :size]
    basis = (chosen.T.astype(np.float32) @ centred / np.sqrt(people - 1)).reshape(size, *mean.shape)
    # The brighter side of each component is the positive one.
    basis *= np.where(basis.sum((1, 2)) < 0, -1, 1)[:, None, None]
    return mean, basis.astype(np.float32), float(values[::-1][:size].sum() / values.sum())


def sample_albedos(model, count, seed=0):
    """Coefficients [count, A] of random people on a `MorphableModel` whose basis `pigment_albedo` made.

    Their spread is that of a standard normal distribution, but they keep together what goes together in people: no single
    coefficient knows that dark skin varies less than pale skin.
    """
    colours = sample_colours(np.asarray(model.mean, float), model.regions, count, seed)
    basis = model.albedo_basis.reshape(model.albedo_size, -1)
    offsets = (colours - model.albedo_mean).reshape(count, -1)
    return np.linalg.solve((basis @ basis.T).astype(float), (basis @ offsets.T).astype(float)).T


def sample_colours(vertices, regions, people, seed):
    """Colours [N, V, 3] float32 in linear RGB of random people."""
    rng = np.random.default_rng(seed)
    lashes = lash_line(vertices, regions)
    fields = _Fields(rng, vertices)
    colours = np.empty((people, len(vertices), 3), np.float32)
    for person in range(people):
        colours[person] = _person(rng, regions, lashes, fields)
    return colours


def _person(rng, regions, lashes, fields):
    """Colours [V, 3] of one person."""

    def region(name):
        return regions.get(name, np.zeros(len(lashes)))

    melanin = rng.uniform(PALE, DARK) + 0.25 * rng.normal()
    # Freckles show on pale skin.
    paleness = np.clip((DARK - melanin) / (DARK - PALE), 0, 1)
    spots = rng.exponential(0.12) * paleness * np.maximum(fields.draw(rng, 0), 0)
    # The same share more melanin shows more, the more there is.
    evenness = min(1.0, 0.05 / np.exp(melanin))
    melanin = melanin + spots + evenness * (0.06 * fields.draw(rng, 1) + 0.10 * fields.draw(rng, 2))
    melanin = melanin + 0.15 * rng.normal() * region("forehead") + rng.normal(0.15, 0.15) * region("lids")
    melanin = melanin - 0.2 * region("lips") + 0.1 * rng.normal() * region("cheeks")
    blood = USUAL_BLOOD + 0.22 * rng.normal() + 0.10 * fields.draw(rng, 1) + 0.15 * fields.draw(rng, 2)
    flush = rng.normal(0.35, 0.35)
    blood = blood + flush * region("cheeks") + (0.6 * flush + 0.2 * rng.normal()) * region("nose")
    blood = blood + rng.normal(0.15, 0.2) * region("lids") + rng.normal(1.15, 0.35) * region("lips")
    colour = skin_reflectance(np.exp(np.clip(melanin, PALE - 1, DARK + 0.3)), np.exp(np.clip(blood, -8, -2.8)))

    # Dark skin seldom has fair hair.
    hair = _between(HAIR_TONES, min(rng.exponential(0.3 + 1.2 * paleness), 4.0)) * np.exp(0.2 * rng.normal())
    bearded = rng.random() < 0.4
    colour = _mix(colour, hair, rng.uniform(0.5, 1.1) * region("brows"))
    colour = _mix(colour, hair, bearded * rng.beta(1, 2) * 0.8 * region("beard"))
    colour = _mix(colour, 0.5 * hair, rng.uniform(0.3, 0.9) * lashes)
    painted = rng.random() < 0.25
    lipstick = np.array([rng.uniform(0.2, 0.5), rng.uniform(0.01, 0.12), rng.uniform(0.02, 0.12)])
    colour = _mix(colour, lipstick, painted * rng.uniform(0.2, 0.8) * region("lips"))
    white = rng.uniform(0.5, 0.75) * np.array([1.0, 0.95, 0.92]) + [0.02 * abs(rng.normal()), 0, 0]
    colour = _mix(colour, white, region("eyeballs"))
    iris = _between(IRIS_TONES, 4 * rng.beta(0.3 + 0.5 * paleness, 1.6)) * np.exp(0.2 * rng.normal())
    colour = _mix(colour, iris, region("irises"))
    return _mix(colour, rng.uniform(0.3, 1.3) * np.array([0.22, 0.06, 0.055]), region("mouth"))


def lash_line(vertices, regions):
    """The share [V] of the skin beside the openings of the eyes."""
    eyes = regions.get("eyeballs", np.zeros(len(vertices))) > 0.5
    if not eyes.any():
        return np.zeros(len(vertices))
    front = vertices[eyes]
    distance = cKDTree(front).query(vertices)[0]
    return np.where(eyes, 0, np.exp(-((distance / LASH_WIDTH) ** 2))) * regions.get("lids", np.ones(len(vertices)))


class _Fields:
    """Smooth random fields over a face: sums of waves in space, of FIELD_SCALES, with standard deviation one."""

    WAVES = 160

    def __init__(self, rng, vertices):
        self.parts = []
        for scale in FIELD_SCALES:
            waves = rng.normal(size=(3, self.WAVES)) * (2 * np.pi / scale / np.sqrt(3))
            phases = vertices @ waves + rng.uniform(0, 2 * np.pi, self.WAVES)
            self.parts.append((np.cos(phases) * np.sqrt(2 / self.WAVES)).astype(np.float32))

    def draw(self, rng, scale):
        """A field [V] of one of the scales."""
        return self.parts[scale] @ rng.normal(size=self.WAVES).astype(np.float32)


def _mix(colour, other, share):
    """Colours [V, 3] with a share [V] of another colour [3]."""
    return colour + np.clip(share, 0, 1)[:, None] * (other - colour)


def _between(tones, place):
    """The colour [3] at a place along a row of tones [N, 3]."""
    low = min(int(place), len(tones) - 2)
    return tones[low] + (place - low) * (tones[low + 1] - tones[low])
