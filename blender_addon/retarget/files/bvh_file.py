# SPDX-License-Identifier: GPL-3.0-or-later
"""BVH files from bones in the world. Numpy only, no bpy.

Blender's own exporter writes bones as their armature's data hold them: without the object's scale, turn and place, with z up
where other programs expect y, and with whatever bones there are. Here the file holds the world: metres, y up, and every
joint's offset and turn in those axes, so that the rest pose is the character's own, whatever the rolls of its bones.
"""

import numpy as np

from ...contract.frames import REST_TO_WORLD

_WORLD_TO_FILE = REST_TO_WORLD.T
"""From z up, facing -y, to y up, facing z, as other programs expect it. Blender's importer, left as it is, turns it back."""


def bvh_text(names, parents, rest, tails, matrices, fps):
    """A BVH file of B joints over T frames, as text.

    names [B] without spaces; parents [B], -1 for the one root, parents first; rest [B, 4, 4] world matrices of the unposed bones,
    m, and tails [B, 3] of them; matrices [T, B, 4, 4] of the posed ones (scale in any matrix does not matter).
    """
    parents = np.asarray(parents)
    below, carrier = parents >= 0, np.maximum(parents, 0)
    heads = rest[:, :3, 3] @ _WORLD_TO_FILE.T
    offsets = heads - np.where(below[:, None], heads[carrier], 0)
    ends = np.asarray(tails, float) @ _WORLD_TO_FILE.T - heads
    turns = _WORLD_TO_FILE @ _turns(matrices) @ np.swapaxes(_turns(rest), -1, -2) @ _WORLD_TO_FILE.T
    places = matrices[..., :3, 3] @ _WORLD_TO_FILE.T
    # Each joint as its parent sees it; the root as the world does.
    back = np.where(below[:, None, None], np.swapaxes(turns[:, carrier], -1, -2), np.eye(3))
    places = (back @ (places - np.where(below[:, None], places[:, carrier], 0))[..., None])[..., 0]
    channels = np.concatenate([places, np.degrees(_euler_zxy(back @ turns))], -1)

    lines, order = ["HIERARCHY"], []
    _write_joint(int(np.flatnonzero(~below)[0]), 0, lines, order, names, parents, offsets, ends)
    lines += ["MOTION", f"Frames: {len(channels)}", f"Frame Time: {1 / fps:.10f}"]
    lines += [" ".join(f"{value:.6f}" for value in row) for row in channels[:, order].reshape(len(channels), -1).tolist()]
    return "\n".join(lines) + "\n"


def _turns(matrices):
    """The nearest rotations [..., 3, 3] of matrices [..., 4, 4]: scale and shear taken out."""
    left, _, right = np.linalg.svd(np.asarray(matrices, float)[..., :3, :3])
    return left @ right


def _euler_zxy(turns):
    """Angles [T, B, 3] rad about z, x and y of R = Rz Rx Ry, every frame's as near to the frame before as they can be."""
    angles = np.zeros(turns.shape[:2] + (3,))
    before = angles[0]
    for frame, turn in enumerate(turns):
        # Where x is a right angle, z and y turn about one axis: z then stays, and y takes what is left.
        free = np.hypot(turn[:, 0, 1], turn[:, 1, 1]) > 1e-6
        z = np.where(free, np.arctan2(-turn[:, 0, 1], turn[:, 1, 1]), before[:, 0])
        cosine, sine = np.cos(z), np.sin(z)
        x = np.arctan2(turn[:, 2, 1], cosine * turn[:, 1, 1] - sine * turn[:, 0, 1])
        y = np.arctan2(cosine * turn[:, 0, 2] + sine * turn[:, 1, 2], cosine * turn[:, 0, 0] + sine * turn[:, 1, 0])
        one, other = np.stack([z, x, y], -1), np.stack([z + np.pi, np.pi - x, y + np.pi], -1)  # the same turn
        one, other = (triple + _whole_turns(before - triple) for triple in (one, other))
        nearer = np.abs(other - before).sum(-1, keepdims=True) < np.abs(one - before).sum(-1, keepdims=True)
        angles[frame] = before = np.where(nearer, other, one)
    return angles


def _whole_turns(angles):
    return 2 * np.pi * np.round(angles / (2 * np.pi))


def _write_joint(joint, depth, lines, order, names, parents, offsets, ends):
    """Adds a joint and all below it to `lines` of HIERARCHY, and to `order`, in which their channels follow one another."""
    indent = "\t" * depth
    order.append(joint)
    lines += [f"{indent}{'JOINT' if depth else 'ROOT'} {names[joint]}", f"{indent}{{"]
    lines.append(f"{indent}\tOFFSET {_numbers(offsets[joint])}")
    lines.append(f"{indent}\tCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation")
    children = np.flatnonzero(parents == joint).tolist()
    for child in children:
        _write_joint(child, depth + 1, lines, order, names, parents, offsets, ends)
    if not children:
        lines.extend(f"{indent}\t{line}" for line in ("End Site", "{", f"\tOFFSET {_numbers(ends[joint])}", "}"))
    lines.append(f"{indent}}}")


def _numbers(vector):
    return " ".join(f"{value:.6f}" for value in vector.tolist())
