"""Eq. 6: the smallest sufficient window, by integral images against the plain loop."""

import time

import numpy as np
import pytest
import torch

from fullbody_core.networks.localization import LEVELS, SUFFICIENT, _smallest_windows_batched, smallest_windows


def plain_loop(heat, share):
    """Eq. 6 as it is written, one window after another. heat [H, W] of whole numbers."""
    height, width = heat.shape
    rows = heat.tolist()
    total = sum(map(sum, rows))
    for w in range(1, min(height, width) + 1):
        best = (-1, 0, 0)
        for v in range(height - w + 1):
            for u in range(width - w + 1):
                inside = sum(sum(row[u : u + w]) for row in rows[v : v + w])
                if inside > best[0]:
                    best = (inside, u, v)
        if best[0] > share * total:
            break
    return best[1], best[2], w


def random_maps(count, size=(16, 12), seed=0):
    """Heat-maps of a few Gaussian bumps, noise, single peaks and nothing at all."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    maps = []
    for index in range(count):
        middle = torch.rand(3, 2, generator=generator) * torch.tensor(size)
        spread = 0.3 + 2 * torch.rand(3, 1, 1, generator=generator)
        bumps = torch.exp(-((y - middle[:, 0, None, None]) ** 2 + (x - middle[:, 1, None, None]) ** 2) / spread**2).amax(0)
        noise = torch.rand(size, generator=generator) * [0, 0, 0.05, 1][index % 4]
        maps.append(bumps * (index % 5 > 0) + noise)
    return torch.stack(maps).clamp(0, 1)


def counts(maps):
    return (maps * LEVELS).round()


def test_boxes_are_those_of_the_plain_loop_on_a_thousand_maps():
    maps = random_maps(1000)
    expected = [plain_loop(heat.to(torch.int64), SUFFICIENT) for heat in counts(maps)]
    assert smallest_windows(maps).tolist() == [list(box) for box in expected]


def test_recordable_form_gives_the_same_boxes():
    for maps in (random_maps(300, seed=1), random_maps(40, size=(64, 48), seed=2), random_maps(40, size=(9, 31), seed=3)):
        for share in (0.3, SUFFICIENT, 1.0):
            assert torch.equal(_smallest_windows_batched(counts(maps), share), smallest_windows(maps, share))


def test_at_least_a_hundred_times_faster_than_the_loop_at_the_networks_size():
    maps = random_maps(2, size=(64, 48), seed=4)
    start = time.perf_counter()
    for heat in counts(maps):
        plain_loop(heat.to(torch.int64), SUFFICIENT)
    loop = time.perf_counter() - start
    durations = []
    for _ in range(20):
        start = time.perf_counter()
        smallest_windows(maps)
        durations.append(time.perf_counter() - start)
    assert loop > 100 * np.median(durations)


@pytest.mark.parametrize("fill", [0.0, 1.0, -1.0, 7.0])
def test_flat_maps_still_give_a_window_inside(fill):
    u, v, w = smallest_windows(torch.full((1, 64, 48), fill))[0].tolist()
    assert 1 <= w <= 48 and 0 <= u <= 48 - w and 0 <= v <= 64 - w


def test_a_single_peak_is_one_cell():
    heat = torch.zeros(1, 64, 48)
    heat[0, 10, 20] = 0.7
    assert smallest_windows(heat).tolist() == [[20, 10, 1]]
