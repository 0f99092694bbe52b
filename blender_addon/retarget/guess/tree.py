# SPDX-License-Identifier: GPL-3.0-or-later
"""A skeleton's bones as a tree to be walked. Numpy only, no bpy."""

import numpy as np

SHORT = 1e-6
"""Lengths below it are none."""


class Tree:
    """The bones of a skeleton that count, with what is asked of them again and again.

    bones: indices into the skeleton; parents are the nearest ones among them. children {bone: [bone]}, -1 has the roots.
    reach {bone: m}: length of the longest chain of bones from its head; longest {bone: the child that leads along it}
    """

    def __init__(self, skeleton, bones):
        self.heads, self.tails, self.deform = skeleton.heads, skeleton.tails, skeleton.deform
        kept = set(bones)
        self.parent, self.children, self.reach, self.longest = {-1: -1}, {-1: []}, {}, {}
        order = sorted(bones, key=lambda bone: skeleton.depth[bone])
        for bone in order:
            parent = int(skeleton.parents[bone])
            while parent >= 0 and parent not in kept:
                parent = int(skeleton.parents[parent])
            self.parent[bone] = parent
            self.children[bone] = []
            self.children[parent].append(bone)
        for bone in reversed(order):
            reaches = [(self.distance(bone, child) + self.reach[child], -child) for child in self.children[bone]]
            self.reach[bone], child = max(reaches, default=(0.0, None))
            self.longest[bone] = None if child is None else -child
        # [B + 1, B + 1]: whether the first hangs from the second or is it; -1 comes last.
        self.hangs = np.eye(len(self.heads) + 1, dtype=bool)
        self.hangs[:, -1] = True
        for bone in order:
            self.hangs[bone] |= self.hangs[self.parent[bone]]
        self.order = order
        self.size = max(np.ptp(self.heads[order], axis=0).max(), SHORT) if order else SHORT

    def distance(self, a, b):
        return float(np.linalg.norm(self.heads[a] - self.heads[b]))

    def chain(self, bone):
        """The bones from one to the far end of its longest chain."""
        chain = []
        while bone is not None:
            chain.append(bone)
            bone = self.longest[bone]
        return chain

    def path(self, above, below):
        """The bones from `above` down to `below`, both included, or none if the one does not hang from the other."""
        path = [below]
        while path[-1] != above:
            if path[-1] < 0:
                return []
            path.append(self.parent[path[-1]])
        return path[::-1]

    def common(self, a, b):
        """The lowest bone that both hang from, or -1."""
        above = {a}
        while a >= 0:
            a = self.parent[a]
            above.add(a)
        while b not in above:
            b = self.parent[b]
        return b

    def below(self, bone):
        """All bones that hang from one, itself included."""
        found = [bone]
        for each in found:
            found.extend(self.children[each])
        return found


def unit(vector):
    """A vector [3] at length one; nothing stays nothing."""
    return vector / max(np.linalg.norm(vector), SHORT)
