"""Light by spherical harmonics: their orthonormality, the closed-form solves, and sRGB."""

import numpy as np
import pytest
import torch

from fullbody_core.face.illumination import (
    SH_CONSTANTS,
    ambient,
    linear_to_srgb,
    sh_basis,
    shade,
    shading,
    solve_albedo,
    solve_illumination,
    srgb_to_linear,
)


def directions(*shape, seed=0):
    normals = np.random.default_rng(seed).normal(size=(*shape, 3))
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def towards_camera(*shape, seed=0):
    normals = directions(*shape, seed=seed)
    return normals * np.array([1, 1, -1]) * np.where(normals[..., 2:] < 0, np.array([1, 1, -1]), 1)


def some_light(count, seed=0):
    return ambient(0.8) + 0.2 * np.random.default_rng(seed).normal(size=(count, 3, 9))


def test_harmonics_are_orthonormal_over_the_sphere():
    basis = sh_basis(directions(400_000))
    np.testing.assert_allclose(4 * np.pi * basis.T @ basis / len(basis), np.eye(9), atol=0.02)


def test_the_order_of_the_harmonics():
    x, y, z = sh_basis(np.eye(3))
    assert x[3] == y[1] == z[2] == SH_CONSTANTS[1]
    assert z[6] == pytest.approx(2 * SH_CONSTANTS[6]) and x[8] == -y[8] == SH_CONSTANTS[8]


def test_ambient_light_shows_the_reflectance():
    albedo = np.random.default_rng(0).random((20, 3))
    np.testing.assert_allclose(shade(albedo, ambient(), directions(20)), albedo)


def test_torch_agrees_with_numpy():
    normals, light, albedo = directions(3, 50), some_light(3), np.random.default_rng(1).random((3, 50, 3))
    tensors = [torch.from_numpy(values) for values in (albedo, light, normals)]
    np.testing.assert_allclose(sh_basis(tensors[2]).numpy(), sh_basis(normals))
    np.testing.assert_allclose(shade(*tensors).numpy(), shade(albedo, light, normals))
    np.testing.assert_allclose(srgb_to_linear(tensors[0]).numpy(), srgb_to_linear(albedo))
    np.testing.assert_allclose(linear_to_srgb(tensors[0]).numpy(), linear_to_srgb(albedo))


def test_srgb_round_trip_and_known_values():
    values = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-7)
    assert srgb_to_linear(np.array(0.5)) == pytest.approx(0.21404, abs=1e-5)
    np.testing.assert_allclose(linear_to_srgb(np.array([-1.0, 2.0])), [0, 1], atol=1e-12)


def test_srgb_has_finite_gradients():
    values = torch.tensor([-0.1, 0.0, 1e-6, 0.5, 1.0], requires_grad=True)
    (linear_to_srgb(values).sum() + srgb_to_linear(values).sum()).backward()
    assert torch.isfinite(values.grad).all()


def test_illumination_is_recovered_and_each_frame_by_itself():
    rng = np.random.default_rng(2)
    normals, light, albedo = towards_camera(4, 300), some_light(4), rng.uniform(0.2, 0.6, (300, 3))
    pixels = shade(albedo, light, normals)
    weights = rng.random((4, 300))
    solved = solve_illumination(pixels, albedo, normals, weights, ridge=1e-9)
    np.testing.assert_allclose(solved, light, atol=1e-3)
    one = solve_illumination(pixels[2:3], albedo, normals[2:3], weights[2:3])
    np.testing.assert_allclose(one[0], solve_illumination(pixels, albedo, normals, weights)[2])


def test_pixels_without_weight_count_for_nothing():
    normals, light, albedo = towards_camera(2, 200), some_light(2), np.full((200, 3), 0.4)
    pixels = shade(albedo, light, normals)
    pixels[:, ::3] = 9
    weights = np.ones((2, 200))
    weights[:, ::3] = 0
    solved = solve_illumination(pixels, albedo, normals, weights, ridge=1e-9)
    np.testing.assert_allclose(solved, light, atol=1e-3)
    assert not solve_illumination(pixels, albedo, normals, 0 * weights).any()


def test_the_ridge_keeps_a_few_normals_from_wild_light():
    normals = np.tile([[0.0, 0, -1], [0.05, 0, -1]], (1, 20, 1))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    pixels = 0.4 + 0.02 * np.random.default_rng(3).normal(size=(1, 40, 3))
    light = solve_illumination(pixels, np.full((40, 3), 0.4), normals, np.ones((1, 40)))
    assert np.abs(light[..., 1:]).max() < 3 and np.isfinite(light).all()


def test_albedo_is_recovered_from_many_frames_and_held_by_its_prior():
    rng = np.random.default_rng(4)
    normals, light = towards_camera(5, 150), some_light(5)
    mean, basis, truth = np.full((150, 3), 0.4), 0.05 * rng.normal(size=(6, 150, 3)), rng.normal(size=6)
    pixels = shade(mean + np.tensordot(truth, basis, 1), light, normals)
    white, weights = shading(light, normals), np.ones((5, 150))
    np.testing.assert_allclose(solve_albedo(pixels, white, weights, mean, basis, 1e-9), truth, atol=1e-6)
    held = solve_albedo(pixels, white, weights, mean, basis, 1e6)
    assert np.abs(held).max() < 1e-2
