"""The pigment model of skin and the albedo basis made from it."""

import numpy as np
import pytest
from synthetic_face import small_face

from fullbody_core.face.albedo import pigment_albedo, sample_albedos, sample_colours, skin_reflectance
from fullbody_core.synth.appearance import SKIN_TONES


@pytest.fixture(scope="module")
def model():
    """A small face with lips, cheeks, brows and a beard, in the project's own colours."""
    face = small_face(side=21)
    x, y = face.mean[:, 0], face.mean[:, 1]
    face.regions |= {
        "lips": ((abs(x) < 0.025) & (abs(y + 0.04) < 0.011)).astype(np.float32),
        "cheeks": np.exp(-((abs(x) - 0.05) ** 2 + (y + 0.005) ** 2) / 0.02**2).astype(np.float32),
        "brows": ((abs(abs(x) - 0.035) < 0.02) & (abs(y - 0.04) < 0.006)).astype(np.float32),
        "beard": ((y < -0.06) | ((abs(x) > 0.03) & (y < -0.03))).astype(np.float32),
    }
    face.albedo_mean, face.albedo_basis, face.explained = pigment_albedo(face.mean, face.regions, size=60, people=400)
    return face


def test_melanin_darkens_and_yellows_and_blood_reddens():
    melanin = np.linspace(0.01, 0.43, 20)
    colours = skin_reflectance(melanin, 0.004)
    assert (np.diff(colours, axis=0) < 0).all() and colours.min() > 0 and colours.max() < 1
    assert (colours[:, 0] > colours[:, 1]).all() and (colours[:, 1] > colours[:, 2]).all()
    assert (np.diff(colours[:12, 2] / colours[:12, 0]) < 0).all()
    flushed = skin_reflectance(0.05, np.linspace(0.001, 0.03, 20))
    assert (np.diff(flushed[:, 1] / flushed[:, 0]) < 0).all()


def test_skin_tones_from_pale_to_dark_are_among_its_colours():
    """Those that the synthetic people have, which were chosen by other means."""
    melanin, blood = np.meshgrid(np.geomspace(0.01, 0.43, 60), np.geomspace(0.001, 0.02, 30))
    colours = skin_reflectance(melanin, blood).reshape(-1, 3)
    for tone in SKIN_TONES[1:]:
        assert np.abs(np.log(colours / tone)).max(1).min() < 0.25


def test_the_basis_is_per_standard_deviation_and_orthogonal(model):
    flat = model.albedo_basis.reshape(60, -1).astype(float)
    gram = flat @ flat.T
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-3 * gram[0, 0]
    assert (np.diff(np.diag(gram)) <= 1e-6).all() and model.explained > 0.97
    people = sample_albedos(model, 400)  # those it was made from
    np.testing.assert_allclose(people[:, :20].mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(people[:, :20].std(0, ddof=1), 1, atol=1e-3)


def test_the_leading_component_is_light_and_dark(model):
    lighter, darker = (model.albedo(np.eye(60)[0] * side).mean(0) for side in (1, -1))
    assert (lighter > 1.5 * darker).all()
    skin = model.albedo_basis[0][model.regions["brows"] == 0]
    assert skin.min() > 0


def test_new_people_are_met_well_and_stay_within_colours(model):
    people = sample_colours(np.asarray(model.mean, float), model.regions, 60, seed=9)
    met = model.albedo(sample_albedos(model, 60, seed=9))
    assert np.sqrt(np.square(met - people).mean()) < 0.025
    assert (people > 0).all() and (people < 1).all()
    assert ((met < 0) | (met > 1)).mean() < 0.005


def test_regions_look_as_they_should(model):
    red = model.albedo_mean[:, 0] / model.albedo_mean[:, 1]
    skin = (model.regions["lips"] + model.regions["brows"] + model.regions["beard"] == 0) & (model.regions["cheeks"] < 0.05)
    assert red[model.regions["lips"] > 0.5].min() > 1.15 * red[skin].mean()
    assert red[model.regions["cheeks"] > 0.8].mean() > 1.02 * red[skin].mean()
    assert model.albedo_mean[model.regions["brows"] > 0.5].mean() < 0.7 * model.albedo_mean[skin].mean()


def test_the_same_seed_gives_the_same_colours(model):
    mean, basis, _ = pigment_albedo(model.mean, model.regions, size=10, people=60, seed=3)
    again, same, _ = pigment_albedo(model.mean, model.regions, size=10, people=60, seed=3)
    np.testing.assert_array_equal(mean, again)
    np.testing.assert_array_equal(basis, same)
    assert np.abs(mean - pigment_albedo(model.mean, model.regions, size=10, people=60, seed=4)[0]).max() > 1e-3


def test_the_open_face_has_skin_colours(face):
    skin = face.region("skin") > 0.9
    assert (face.albedo_mean[skin].min(0) > 0).all() and (face.albedo_mean <= 1).all()
    assert face.albedo_mean[face.region("eyeballs") * (1 - face.region("irises")) > 0.9].mean() > 0.5
    assert face.albedo_mean[face.region("irises") > 0.9].mean() < 0.2
