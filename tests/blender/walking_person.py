# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up person who walks, and characters of other proportions: feet of which it is known when each point stands. Numpy only."""

from dataclasses import dataclass, replace

import numpy as np
from fullbody_mocap.contract.contacts import sole_points
from fullbody_mocap.contract.frames import REST_TO_WORLD, axis_angle_to_matrix
from fullbody_mocap.contract.skeleton import BODY_JOINT_NAMES, JOINT_INDEX, JOINT_NAMES, PARENTS, SIDES
from fullbody_mocap.contract.swing_twist import axes_rotation, unit
from fullbody_mocap.retarget.pose import Controls
from fullbody_mocap.retarget.solve.source import SourceMotion
from synthetic_person import rest_joints

SOLE = -0.95
STEP, CYCLE = 0.5, 1.1
"""m from one foot's place to the other's next one; s from a foot's landing to its next."""

STANCE, FLAT, HEEL_OFF = 0.6, 0.1, 0.4
"""Shares of a cycle: until a foot lifts off, from when it is flat, from when its heel rises."""

_LANDING, _LEAVING = np.radians(-14.0), np.radians(32.0)
"""Pitch of a foot that lands on its heel, and leaves over its ball."""


@dataclass(frozen=True)
class Walk:
    """motion: a `SourceMotion`; truth [T, 2, 3]: whether heel, ball and toes stand still on the ground (the toes within 1 cm)."""

    motion: SourceMotion
    truth: np.ndarray


def make_walk(seconds=4.0, fps=30.0, climb=0.0):
    """A `Walk` along -y at which no planted point slides. climb: m that each step is higher than the last, as on stairs."""
    times = np.arange(round(seconds * fps)) / fps
    rest = rest_joints() @ REST_TO_WORLD.T
    hips = np.stack([0.02 * np.sin(2 * np.pi * times / CYCLE), -2 * STEP * times / CYCLE, np.zeros(len(times))], -1)
    hips[:, 2] = 0.015 * np.cos(4 * np.pi * times / CYCLE) - 0.08 - max(-climb, 0) + climb * (2 * times / CYCLE - 1.2)
    joints, turns = rest + hips[:, None], np.tile(np.eye(3), (len(times), len(JOINT_NAMES), 1, 1))
    truth = np.zeros((len(times), 2, 3), bool)
    for number, side in enumerate(SIDES):
        ankles, feet, toes, truth[:, number] = _foot(times - 0.5 * CYCLE * number, rest, side, climb, number)
        _leg(joints, turns, rest, side, ankles, feet, toes)
    valid = np.ones((len(times), 4), bool)
    motion = SourceMotion("walk", times, turns, joints, rest, SOLE, SOLE, valid, np.zeros((len(times), 0)), ())
    return Walk(motion, truth)


def moved(motion, displacement):
    """The motion with every joint moved by displacement [T, 3] or [3] m."""
    return replace(motion, joints=motion.joints + np.broadcast_to(displacement, (len(motion.times), 3))[:, None])


def _foot(times, rest, side, climb, number):
    """(ankle [T, 3], turns of the foot and of its toes [T, 3, 3], which points stand [T, 3]) of one foot's steps."""
    ankle, ball = (rest[JOINT_INDEX[f"{side}_{name}"]] for name in ("ankle", "foot"))
    heel, ball_point, _ = sole_points(ankle, ball, SOLE)
    count, phase = np.floor(times / CYCLE), np.mod(times / CYCLE, 1)
    place = np.stack([np.zeros(len(times)), -2 * STEP * count, climb * (2 * count + number)], -1)
    place[:, 1] -= STEP * (number + 0.6)
    onward = place + (0, -2 * STEP, 2 * climb)

    def stand(pitch, point, place):
        return point + place - _pitched(pitch) @ (point - ankle)

    rolling_on = _LANDING * (1 - _smooth(phase / FLAT))
    rolling_off = _LEAVING * _smooth((phase - HEEL_OFF) / (STANCE - HEEL_OFF)) ** 1.5
    swing = np.clip((phase - STANCE) / (1 - STANCE), 0, 1)
    pitch = np.where(phase < FLAT, rolling_on, np.where(phase < STANCE, rolling_off, _LEAVING))
    pitch = np.where(phase >= STANCE, _LEAVING + (_LANDING - _LEAVING) * _smooth(swing), pitch)
    standing = np.where(
        (phase < FLAT)[:, None], stand(rolling_on, heel, place), stand(np.where(phase < STANCE, pitch, 0), ball_point, place)
    )
    share = _smooth(swing)[:, None]
    left, landed = (
        stand(np.full(len(times), _LEAVING), ball_point, place),
        stand(np.full(len(times), _LANDING), heel, onward),
    )
    flying = left * (1 - share) + landed * share + np.outer(np.sin(np.pi * swing) ** 2, (0, 0, 0.09 + abs(climb)))
    ankles = np.where((phase < STANCE)[:, None], standing, flying)
    toes = np.where(phase < FLAT, rolling_on, np.where(phase < STANCE, 0, _LANDING * _smooth(swing)))
    stands = np.stack([phase < HEEL_OFF, (phase >= FLAT) & (phase < STANCE), (phase >= FLAT) & (phase < STANCE)], -1)
    return ankles, _pitched(pitch), _pitched(toes), stands


def _leg(joints, turns, rest, side, ankles, feet, toes):
    """Puts one leg's joints and turns, the knee bent to the front as far as the hip and the ankle want it."""
    hip, knee, ankle, foot = (JOINT_INDEX[f"{side}_{name}"] for name in ("hip", "knee", "ankle", "foot"))
    upper, lower = (np.linalg.norm(rest[b] - rest[a]) for a, b in ((hip, knee), (knee, ankle)))
    way = ankles - joints[:, hip]
    length = np.linalg.norm(way, axis=-1, keepdims=True)
    assert (length < upper + lower).all(), "the made-up walk takes steps that its legs are too short for"
    along = (upper**2 - lower**2 + length**2) / (2 * length)
    front = unit(np.cross((-1.0, 0, 0), way))
    joints[:, knee] = joints[:, hip] + unit(way) * along + front * np.sqrt(upper**2 - along**2)
    joints[:, ankle] = ankles
    for upper_end, lower_end in ((hip, knee), (knee, ankle)):
        bone = joints[:, lower_end] - joints[:, upper_end]
        turns[:, upper_end] = axes_rotation(rest[lower_end] - rest[upper_end], (1.0, 0, 0), bone, (1.0, 0, 0))
    turns[:, ankle], turns[:, foot] = feet, toes
    joints[:, foot] = ankles + feet @ (rest[foot] - rest[ankle])


def _pitched(angle):
    return axis_angle_to_matrix(angle[:, None] * np.array([1.0, 0, 0]))


def _smooth(share):
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


def make_character(legs=1.0, thigh=1.0, hips=1.0, ankle=1.0, foot=1.0, toes=1, scale=1.0, twist=False, seed=1):
    """`Controls` with the source's skeleton (body only), whose bones have any roll, with parts of other lengths.

    legs: how long thighs and shins are; thigh: how much longer thighs are for shins as long together; hips: their width; ankle:
    their height; foot: its length; toes: bones side by side in each foot, 0 for none; twist: whether thighs have a twist bone
    """
    rest = rest_joints() @ REST_TO_WORLD.T
    names = [name for name in BODY_JOINT_NAMES if toes or not name.endswith("_foot")]
    parents = {name: JOINT_NAMES[PARENTS[JOINT_INDEX[name]]] for name in BODY_JOINT_NAMES[1:]}
    heads = {"pelvis": rest[0]}
    for name in BODY_JOINT_NAMES[1:]:
        offset = rest[JOINT_INDEX[name]] - rest[JOINT_INDEX[parents[name]]]
        part = name.partition("_")[2]
        if part in ("knee", "ankle"):
            share = 2 * thigh / (1 + thigh)
            offset = offset * legs * (share if part == "knee" else 2 - share)
        heads[name] = heads[parents[name]] + offset * {"hip": (hips, 1, 1), "foot": (foot, foot, 1)}.get(part, (1, 1, 1))
    sole = heads["left_ankle"][2] - ankle * (rest[JOINT_INDEX["left_ankle"], 2] - SOLE)
    for side in SIDES:
        heads[f"{side}_foot"][2] = sole + rest[JOINT_INDEX[f"{side}_foot"], 2] - SOLE
    bones = [(name, "spine" if name.startswith("spine") else name, parents.get(name), heads[name]) for name in names]
    for side in SIDES:
        aside = np.array([0.02, 0, 0])
        bones += [
            (f"{side}_toe{k}", f"{side}_foot", f"{side}_ankle", heads[f"{side}_foot"] + k * aside) for k in range(1, toes)
        ]
        if twist:
            bones.append((f"{side}_thigh_twist", f"{side}_hip_twist", f"{side}_hip", heads[f"{side}_hip"] + (0, 0, -0.2)))
    places = {bone[0]: number for number, bone in enumerate(bones)}
    starts = np.array([bone[3] for bone in bones])
    tails = starts + (0, -0.05, 0)
    if not toes:
        for side in SIDES:
            ankle_head = heads[f"{side}_ankle"]
            tails[places[f"{side}_ankle"]] = ankle_head + (heads[f"{side}_foot"] - ankle_head) / 0.7
    links = np.array([places.get(bone[2], -1) for bone in bones])
    axes = axis_angle_to_matrix(np.random.default_rng(seed).normal(0, 1, (len(bones), 3)))
    roles = tuple(bone[1] for bone in bones)
    return Controls(tuple(places), roles, scale * starts, scale * tails, axes, links, links, 1.0, np.zeros(3), scale * sole)
