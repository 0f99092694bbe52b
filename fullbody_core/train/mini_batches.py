"""The mini-batches that DetNet is trained on: so many samples from every dataset, as in the supplementary's Sec. 3.

A step's batch depends on the seed and the step's number alone, so that a training that was interrupted goes on as if it had not
been.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..networks.detnet_samples import DetNetSamples
from .augmentation import Augmentation, augment

COMPOSITION = {"body_hands": 2, "body3d": 2, "body2d": 1, "hand": 1}
"""Samples from each dataset of a kind: two from MTC and from each 3D body dataset, one from each 2D body and hand dataset."""

PAPER_SIZE = 15
"""Samples in the paper's mini-batch: MTC, four 3D body, two 2D body and three hand datasets."""


class MiniBatches:
    """Draws one batch of `DetNetSamples` a step.

    sources: readers (`kind`, a length, and `read(index, rng)`), and at most one that makes its samples itself, which has
    `draw(count, seed)` instead (from any thread: see `OwnThread`); multiple: of COMPOSITION; synthetic_share: of the batch, for
    the source that makes them. Alone it makes batches of PAPER_SIZE samples. augmentation: the `Augmentation`, or None for plain
    samples. Raises ValueError for sources that give no batch.
    """

    def __init__(self, sources, seed=0, multiple=1, synthetic_share=0.25, augmentation=Augmentation()):
        self.readers = [source for source in sources if not hasattr(source, "draw")]
        makers = [source for source in sources if hasattr(source, "draw")]
        if not sources or len(makers) > 1:
            raise ValueError(
                f"Mini-batches need a source, and one synthetic one at most, got {len(makers)} of {len(sources)}."
            )
        unknown = sorted({reader.kind for reader in self.readers} - set(COMPOSITION))
        if unknown or not all(len(reader) for reader in self.readers):
            raise ValueError(
                f"Mini-batches need datasets that are not empty and of a known kind, got {unknown or 'an empty one'}."
            )
        if not 0 <= synthetic_share < 1 or multiple < 1:
            raise ValueError(
                f"The synthetic share should be in 0..1 and the multiple at least 1, got {synthetic_share}, {multiple}."
            )
        self.seed, self.augmentation = seed, augmentation
        self.maker = makers[0] if makers else None
        self.counts = [multiple * COMPOSITION[reader.kind] for reader in self.readers]
        real = sum(self.counts)
        made = round(real * synthetic_share / (1 - synthetic_share)) if self.readers else multiple * PAPER_SIZE
        self.made = made if self.maker else 0
        self._orders = {}

    def __len__(self):
        """Samples in a batch."""
        return sum(self.counts) + self.made

    def draw(self, step):
        """The batch of step `step`. Each dataset is gone through in a new random order every time it comes to its end."""
        rng = np.random.default_rng([self.seed, step])
        batches = []
        for place, (reader, count) in enumerate(zip(self.readers, self.counts)):
            indices = [self._index(place, step * count + k) for k in range(count)]
            jitter = rng if self.augmentation else None
            batches.append(DetNetSamples.stack([reader.read(index, jitter) for index in indices]))
        if self.made:
            batches.append(self.maker.draw(self.made, int(rng.integers(2**63))))
        batch = DetNetSamples.concatenate(batches)
        return augment(batch, rng, self.augmentation) if self.augmentation else batch

    def _index(self, place, position):
        """The sample at `position` of a reader's endless sequence of shuffled rounds."""
        size = len(self.readers[place])
        turn, position = divmod(position, size)
        known_turn, order = self._orders.get(place, (None, None))
        if known_turn != turn:
            order = np.random.default_rng([self.seed, place, turn, 1]).permutation(size)
            self._orders[place] = turn, order
        return int(order[position])


class OwnThread:
    """A source that makes samples, made and used in one thread of its own: a renderer's context belongs to a thread.

    MiniBatches([*readers, OwnThread(lambda: PeopleSampler(body, motions))])
    """

    def __init__(self, make):
        self._pool = ThreadPoolExecutor(1, "own_thread", self._begin, (make,))

    def _begin(self, make):
        try:
            self._source, self._error = make(), None
        except Exception as error:  # raised where the samples are asked for
            self._source, self._error = None, error

    def draw(self, count, seed):
        """As the source's own; raises what the making of the source raised."""
        return self._pool.submit(self._draw, count, seed).result()

    def _draw(self, count, seed):
        if self._error is not None:
            raise self._error
        return self._source.draw(count, seed)

    def close(self):
        """Ends the thread."""
        self._pool.shutdown()
