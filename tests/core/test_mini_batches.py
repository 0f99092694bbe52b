"""Mini-batches: the paper's composition, the same again for the same seed and step, and every sample once a round."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fullbody_core.networks.detnet_samples import DetNetSamples
from fullbody_core.train.mini_batches import MiniBatches, OwnThread


class Numbered:
    """A dataset whose sample k is known by its face: k in the first landmark, the dataset in the second."""

    def __init__(self, kind, size, number):
        self.kind, self.size, self.number = kind, size, number

    def __len__(self):
        return self.size

    def read(self, index, rng=None):
        sample = DetNetSamples.blank()
        sample.face2d[0], sample.face2d[1] = index, self.number
        sample.hand3d[0, 0, 1] = rng.random() if rng is not None else 0
        sample.image[:] = 100
        sample.body_present[...] = True
        return sample


class Made:
    """A source that makes its samples."""

    kind = "synthetic"

    def draw(self, count, seed):
        samples = DetNetSamples.blank(count=count)
        samples.face2d[:, 1] = -1
        samples.hand3d[:, 0, 0, 1] = np.random.default_rng(seed).random(count)
        return samples


PAPER = [Numbered("body_hands", 7, 0), *(Numbered("body3d", 11, k) for k in range(1, 5))]
PAPER += [Numbered("body2d", 5, 5), Numbered("body2d", 50, 6), *(Numbered("hand", 9, k) for k in range(7, 10))]


def datasets_of(batch):
    return np.bincount(batch.face2d[:, 1, 0].astype(int), minlength=10)


def test_composition_of_the_supplementary():
    batches = MiniBatches(PAPER)
    np.testing.assert_array_equal(datasets_of(batches.draw(0)), [2, 2, 2, 2, 2, 1, 1, 1, 1, 1])
    assert len(batches) == len(batches.draw(3)) == 15
    np.testing.assert_array_equal(datasets_of(MiniBatches(PAPER, multiple=4).draw(0)), [8, 8, 8, 8, 8, 4, 4, 4, 4, 4])


def test_datasets_that_are_absent_are_left_out():
    np.testing.assert_array_equal(datasets_of(MiniBatches([PAPER[2], PAPER[8]]).draw(0))[[2, 8]], [2, 1])


@pytest.mark.parametrize("share, made", [(0.25, 5), (0.5, 15), (0.0, 0)])
def test_synthetic_samples_have_their_share(share, made):
    batch = MiniBatches([*PAPER, Made()], synthetic_share=share).draw(0)
    assert (batch.face2d[:, 1, 0] == -1).sum() == made and len(batch) == 15 + made


def test_synthetic_samples_alone():
    batch = MiniBatches([Made()], multiple=2).draw(0)
    assert len(batch) == 30


def test_a_batch_depends_on_seed_and_step_alone():
    sources = [*PAPER, Made()]
    first, again = MiniBatches(sources, seed=3), MiniBatches(sources, seed=3)
    for step in (0, 1, 40):
        first.draw(step)
    for step in (40, 7, 0):  # in another order, as after an interruption
        one, two = first.draw(step), again.draw(step)
        np.testing.assert_array_equal(one.face2d, two.face2d)
        np.testing.assert_array_equal(one.hand3d, two.hand3d)
        np.testing.assert_array_equal(one.image, two.image)
    for other in (MiniBatches(sources, seed=4).draw(7), first.draw(8)):
        assert (other.hand3d != first.draw(7).hand3d).any() and (other.image != first.draw(7).image).any()


def test_every_sample_comes_once_a_round_and_rounds_differ():
    batches = MiniBatches([PAPER[1]], augmentation=None)
    drawn = np.concatenate([batches.draw(step).face2d[:, 0, 0] for step in range(11)]).astype(int)
    rounds = drawn.reshape(2, 11)
    np.testing.assert_array_equal(np.sort(rounds, 1), np.tile(np.arange(11), (2, 1)))
    assert (rounds[0] != rounds[1]).any() and (rounds[0] != np.arange(11)).any()


def test_without_augmentation_samples_are_as_they_are_read():
    batch = MiniBatches(PAPER, augmentation=None).draw(0)
    assert (batch.image == 100).all() and not batch.hand3d.any()
    assert (MiniBatches(PAPER).draw(0).image != 100).any()


def test_a_source_in_a_thread_of_its_own_is_made_and_used_there():
    threads = set()

    class Bound(Made):
        def __init__(self):
            threads.add(threading.get_ident())

        def draw(self, count, seed):
            threads.add(threading.get_ident())
            return super().draw(count, seed)

    source = OwnThread(Bound)
    batches = MiniBatches([*PAPER, source])
    with ThreadPoolExecutor(3) as pool:
        ahead = list(pool.map(batches.draw, range(4)))
    np.testing.assert_array_equal(ahead[2].hand3d, MiniBatches([*PAPER, Made()]).draw(2).hand3d)
    assert len(threads) == 1 and threading.get_ident() not in threads
    source.close()

    def refuse():
        raise ValueError("no OpenGL here")

    with pytest.raises(ValueError, match="no OpenGL here"):
        OwnThread(refuse).draw(1, 0)


@pytest.mark.parametrize(
    "sources, options, message",
    [
        ([], {}, "need a source"),
        ([Made(), Made()], {}, "one synthetic one at most"),
        ([Numbered("feet", 3, 0)], {}, "feet"),
        ([Numbered("hand", 0, 0)], {}, "empty"),
        ([Made()], {"synthetic_share": 1.0}, "share"),
        ([Made()], {"multiple": 0}, "multiple"),
    ],
)
def test_sources_that_give_no_batch_are_refused(sources, options, message):
    with pytest.raises(ValueError, match=message):
        MiniBatches(sources, **options)
