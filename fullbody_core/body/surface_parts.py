"""The connected pieces of a body's surface: skin, eyeballs, what is inside the mouth."""

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..contract.skeleton import SIDES


def separate_parts(faces, count):
    """For each of `count` vertices the number [V] of the connected piece of the surface it belongs to."""
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_matrix((np.ones(len(edges)), edges.T), (count, count))
    return connected_components(graph, directed=False)[1]


def eye_parts(body, part):
    """The pieces of the surface that are eyeballs."""
    pieces = {int(part[body.landmarks[f"{side}_eye"]]) for side in SIDES}
    return sorted(pieces - {int(np.bincount(part).argmax())})


def hidden_parts(body, part):
    """The pieces of the surface inside the mouth."""
    shown = {int(np.bincount(part).argmax()), *eye_parts(body, part)}
    return sorted(set(part.tolist()) - shown)
