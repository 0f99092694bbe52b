"""Rendered samples, kept and seen several times: on two cores rendering is as dear as training, and a little repetition is not.

A batch depends on its number alone, so that a training can be stopped and resumed: what the pool holds at a step follows from the
step, and is rendered again where it is missing.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..networks.detnet_samples import DetNetSamples


class SamplePool:
    """Batches of `batch` samples from a source of synthetic people.

    Every `reuse` steps a block of `batch` new samples is rendered; the pool holds the newest `blocks` of them, and each batch is
    drawn from all of those, so that a sample is seen `reuse` times on average.
    """

    def __init__(self, source, batch, reuse=1, blocks=64, seed=0, augment=None):
        """source: anything with draw(count, seed) -> `DetNetSamples`; augment: a function (samples, rng) -> samples."""
        self.source, self.batch, self.reuse, self.blocks = source, batch, reuse, blocks
        self.seed, self.augment = seed, augment
        self._held = {}  # slot: (block number, samples)

    def draw(self, step):
        """The batch of that step."""
        rng = np.random.default_rng((self.seed, 1, step))
        newest = step // self.reuse
        held = [self._block(number) for number in range(max(0, newest - self.blocks + 1), newest + 1)]
        if self.reuse == 1:
            batch = held[-1]
        else:
            chosen = rng.choice(len(held) * self.batch, self.batch, replace=False)
            batch = DetNetSamples.stack([held[index // self.batch].take(int(index % self.batch)) for index in chosen])
        return self.augment(batch, rng) if self.augment else batch

    def _block(self, number):
        slot = number % self.blocks
        if slot not in self._held or self._held[slot][0] != number:
            self._held[slot] = (number, self.source.draw(self.batch, (self.seed, 0, number)))
        return self._held[slot][1]


class Ahead:
    """draw(step) of a source, with the next step's batch being made in a thread while this one is trained on.

    All draws happen in one and the same thread, as a graphics context asks for.
    """

    def __init__(self, source):
        self.source = source
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="samples")
        self._next = {}

    def draw(self, step):
        waiting = self._next.pop(step, None) or self._worker.submit(self.source.draw, step)
        self._next = {step + 1: self._worker.submit(self.source.draw, step + 1)}
        return waiting.result()

    def close(self):
        self._worker.shutdown(cancel_futures=True)
