# SPDX-License-Identifier: GPL-3.0-or-later
"""Twist along a limb, spread over as many bones as it has. Numpy only, no bpy."""

import numpy as np

from ...contract.skeleton import SIDES
from ...contract.swing_twist import about, transpose, twist_angle, unit
from .rest_match import limb

_UPPER = {"hip": "pelvis", "shoulder": "{side}_collar"}
"""Segments that twist against the one before: none of it at their upper end, all at their lower end."""

_LOWER = {"elbow": "wrist", "knee": "ankle"}
"""Segments that hand the twist of the one after on to it: none of it at their upper end, all at their lower end."""

_MOST = 1.5 * np.pi
"""rad; more than any limb twists. A twist beyond it has gone round where the limb pointed against its own rest direction."""

_UNWINDING = np.hanning(27)[1:-1] / np.hanning(27).sum()
"""Weights of the frames over which such a round is taken back."""


def spread_twist(controls, turns):
    """Spreads the twist of arms and legs over the in-line and twist bones of their roles.

    turns [T, N, 3, 3]: each bone's turn from its rest, still the whole role's for each of a role's bones; changed in place.
    """
    for side in SIDES:
        for part, before in _UPPER.items():
            _spread_upper(controls, turns, f"{side}_{part}", before.format(side=side))
        for part, after in _LOWER.items():
            _spread_lower(controls, turns, f"{side}_{part}", f"{side}_{after}")


def twist_over_time(turns, axis):
    """Angle [T] rad of turns [T, 3, 3] about `axis` [3], which does not jump when it passes half a round."""
    angle = np.unwrap(twist_angle(turns, axis))
    rounds = round(float(np.median(angle)) / (2 * np.pi))
    if np.abs(angle - 2 * np.pi * rounds).max() <= _MOST:
        return angle - 2 * np.pi * rounds
    taken_back = []
    for value in angle.tolist():
        if abs(value - 2 * np.pi * rounds) > _MOST:
            rounds = round(value / (2 * np.pi))
        taken_back.append(rounds)
    margin = len(_UNWINDING) // 2
    smooth = np.convolve(np.pad(taken_back, margin, mode="edge"), _UNWINDING, mode="valid")
    return angle - 2 * np.pi * smooth


def _spread_upper(controls, turns, role, before):
    pieces, branches = controls.of_role(role), controls.of_role(f"{role}_twist")
    if len(pieces) < 2 and not branches:
        return
    parent = next(bone for bone in (_last(controls, name) for name in (before, "spine", "pelvis")) if bone is not None)
    whole, axis, places = turns[:, pieces[-1]], *_along(controls, role)
    angle = twist_over_time(transpose(turns[:, parent]) @ whole, axis)
    # A piece ends where the next begins, and carries what has been gathered there; the last carries all.
    for piece, after in zip(pieces[:-1], pieces[1:]):
        turns[:, piece] = whole @ about(_between(controls, piece, after), (places[after] - 1) * angle)
    for branch in branches:
        turns[:, branch] = whole @ about(axis, (places[branch] - 1) * angle)


def _spread_lower(controls, turns, role, after):
    pieces, branches = controls.of_role(role), controls.of_role(f"{role}_twist")
    if len(pieces) < 2 and not branches:
        return
    whole, axis, places = turns[:, pieces[0]], *_along(controls, role)
    angle = twist_over_time(transpose(whole) @ turns[:, controls.first(after)], axis)
    for piece, end in zip(pieces[1:], pieces[2:] + [controls.first(after)]):
        turns[:, piece] = whole @ about(_between(controls, piece, end), places[piece] * angle)
    for branch in branches:
        turns[:, branch] = whole @ about(axis, places[branch] * angle)


def _last(controls, role):
    return next(reversed(controls.of_role(role)), None)


def _between(controls, bone, after):
    """Unit direction [3] of one piece of a limb, about which it may twist without moving the next."""
    return unit(controls.heads[after] - controls.heads[bone])


def _along(controls, role):
    """(Unit direction of a limb at rest [3], how far along it each bone begins [N], from 0 to 1)."""
    whole = limb(controls, role)
    start = controls.heads[controls.first(role)]
    return unit(whole), np.clip((controls.heads - start) @ whole / (whole @ whole), 0, 1)
