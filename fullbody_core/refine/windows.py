"""A long clip in lots that are solved one after another, so that memory does not grow with it."""

import numpy as np

from ..contract.easing import smoothstep

WINDOW, OVERLAP = 300, 40
"""Frames that are solved at once, and how many of them the next such lot has, too: there one is faded into the other."""


def windows(run):
    """(slice, share [n] in 0..1) of lots of at most WINDOW frames that cover the slice `run`; shares fade each into the next."""
    parts, start = [], run.start
    while True:
        stop = min(start + WINDOW, run.stop)
        share = np.ones(stop - start)
        if parts:
            share[:OVERLAP] = smoothstep(np.arange(OVERLAP), 0, OVERLAP - 1)[: len(share)]
        parts.append((slice(start, stop), share))
        if stop == run.stop:
            return parts
        start = stop - OVERLAP
