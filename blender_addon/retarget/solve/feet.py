# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a character's planted feet planted (see `contract.planting`). Numpy only."""

import numpy as np

from ...contract.contacts import sole_points
from ...contract.planting import StandingLegs, plant
from ...contract.skeleton import SIDES
from ...contract.swing_twist import unit
from ...contract.two_bone_ik import make_legs
from ..pose import place_bones

_BALL_WITHOUT_TOES = 0.7
"""Where the ball of a foot without toes lies, as a share of the foot from its ankle to its end."""


def plant_feet(world, controls, motion, contacts, ratio):
    """The `WorldPose` with planted feet, from one whose limbs point as the source's and whose hips go where the source's do.

    controls: of a character that stands upright and faces -y; motion: the `SourceMotion` in the same world, and its `Contacts`;
    ratio: m of the character per m of the source. Feet keep their turns in the world but for a degree or two about the vertical.
    """
    if len(world.heads) < 3:
        return world
    # In units of `ratio`, so that characters of any size cost the same.
    bones = np.array([[controls.first(f"{side}_{limb}") for limb in ("hip", "knee", "ankle")] for side in SIDES])
    hips, knees, ankles = np.moveaxis(world.heads[:, bones] / ratio, 2, 0)
    legs = make_legs(hips, knees, ankles, _hinges(world, controls, bones[:, 0]))
    soles = _soles(world, controls) / ratio - ankles[:, :, None]
    planted = plant(StandingLegs(hips, legs, soles, controls.sole / ratio), contacts, motion.times)
    return _posed(world, controls, planted.turns(legs), planted.offset * ratio)


def _hinges(world, controls, thighs):
    """Where the knees' hinges point [T, 2, 3]: to the person's left at rest, carried by the thighs."""
    left = unit((controls.heads[thighs[0]] - controls.heads[thighs[1]]) * (1, 1, 0))
    return world.axes[:, thighs] @ controls.axes[thighs].swapaxes(-1, -2) @ left


def _soles(world, controls):
    """The character's sole points [T, 2, 3, 3] m in the world. The toes' is carried by the first of the toe bones, if any."""
    soles = np.empty((len(world.heads), len(SIDES), 3, 3))
    for number, side in enumerate(SIDES):
        ankle, toes = controls.first(f"{side}_ankle"), controls.of_role(f"{side}_foot")
        start, end = controls.heads[ankle], controls.tails[ankle]
        ball = controls.heads[toes].mean(0) if toes else start + _BALL_WITHOUT_TOES * (end - start)
        points = sole_points(start, ball, controls.sole)
        for point, bone in enumerate((ankle, ankle, toes[0] if toes else ankle)):
            turn = world.axes[:, bone] @ controls.axes[bone].T
            soles[:, number, point] = world.heads[:, bone] + turn @ (points[point] - controls.heads[bone])
    return soles


def _posed(world, controls, turns, offset):
    """The pose with the hips moved by offset [T, 3] m, and the thighs, shins and feet turned by turns, each [T, 2, 3, 3]."""
    axes = world.axes.copy()
    thighs, shins, feet = turns
    roles = (("hip", thighs), ("hip_twist", thighs), ("knee", shins), ("knee_twist", shins), ("ankle", feet), ("foot", feet))
    for number, side in enumerate(SIDES):
        for limb, turns in roles:
            if bones := controls.of_role(f"{side}_{limb}"):
                axes[:, bones] = turns[:, None, number] @ axes[:, bones]
    return place_bones(controls, axes, world.heads[:, controls.first("pelvis")] + offset)
