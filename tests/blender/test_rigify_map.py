# SPDX-License-Identifier: GPL-3.0-or-later
import bpy
import numpy as np
from fullbody_mocap.retarget.guess.find import find_role_map
from fullbody_mocap.retarget.rig.reading import skeleton_of
from fullbody_mocap.retarget.role_map import PRESETS, Preset
from rigged_characters import roles_of


def test_rigify_gets_its_controls_and_switches(rigify):
    skeleton = skeleton_of(rigify)
    found = find_role_map(skeleton)
    assert (found.name, found.missing(), found.notes) == ("Rigify", (), ())
    assert found.bones["pelvis"] == ("torso",) and found.bones["left_shoulder"] == ("upper_arm_fk.L",)
    found.check(skeleton)
    for switch in found.switches:
        assert switch.property in rigify.pose.bones[switch.bone]
    # Every role but the chains' counts as in the definition of its deforming bones.
    assert set(found.bones) - {"root"} == set(roles_of(rigify))


def test_rigifys_deforming_bones_have_a_preset_of_their_own(rigify):
    assert Preset.load(PRESETS / "rigify_deform.json").fit(skeleton_of(rigify)).bones == roles_of(rigify)


def test_rigifys_controls_turn_what_hangs_from_them_and_nothing_else(rigify):
    """With the switches set each control turns the controls below it as it turns itself: the solver relies on that."""
    found = find_role_map(skeleton_of(rigify))
    for switch in found.switches:
        rigify.pose.bones[switch.bone][switch.property] = switch.value
    hangs_from = {
        "spine_fk.003": "spine_fk.002", "spine_fk.002": "torso", "neck": "spine_fk.003", "head": "neck",
        "shoulder.L": "spine_fk.003", "upper_arm_fk.L": "shoulder.L", "forearm_fk.L": "upper_arm_fk.L",
        "hand_fk.L": "forearm_fk.L", "thumb.01.L": "hand_fk.L", "thumb.03.L": "thumb.01.L", "f_ring.02.L": "hand_fk.L",
        "thigh_fk.R": "torso", "shin_fk.R": "thigh_fk.R", "foot_fk.R": "shin_fk.R", "toe_fk.R": "foot_fk.R",
    }  # fmt: skip
    assert set(hangs_from) < {bone for bones in found.bones.values() for bone in bones}
    rest = _turns(rigify, hangs_from)
    for control in (
        "torso",
        "spine_fk.002",
        "spine_fk.003",
        "neck",
        "shoulder.L",
        "forearm_fk.L",
        "thumb.01.L",
        "thigh_fk.R",
    ):
        bone = rigify.pose.bones[control]
        bone.rotation_mode, bone.rotation_quaternion = "QUATERNION", (0.9, 0.3, 0.2, np.sqrt(0.06))
        moved = _turns(rigify, {*hangs_from, control})
        own = moved[control] @ np.array(bone.bone.matrix_local.to_3x3()).T
        bone.rotation_quaternion = (1, 0, 0, 0)
        for name in hangs_from:
            above = name
            while above in hangs_from and above != control:
                above = hangs_from[above]
            turn = own if above == control else np.eye(3)
            assert np.allclose(moved[name], turn @ rest[name], atol=1e-4), (control, name)


def _turns(armature, bones):
    armature.update_tag(refresh={"DATA"})
    bpy.context.view_layer.update()
    return {name: np.array(armature.pose.bones[name].matrix.to_3x3().normalized()) for name in bones}
