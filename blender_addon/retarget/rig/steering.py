# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bones of an armature mapped ones depend on, and whether the hierarchy alone says how they move."""


def steering_bones(armature, bones):
    """Names of all bones that `bones` depend on, themselves included: their parents, what their constraints and drivers look at."""
    pose = armature.pose.bones
    watched = _watched_by_drivers(armature)
    found, waiting = set(), list(bones)
    while waiting:
        name = waiting.pop()
        if name in found or name not in pose:
            continue
        found.add(name)
        bone = pose[name]
        if bone.parent:
            waiting.append(bone.parent.name)
        for constraint in bone.constraints:
            if not constraint.mute:
                waiting += _targets(constraint, armature)
        waiting += watched.get(name, ())
    return found


def _targets(constraint, armature):
    """Names of the bones of the armature that a constraint looks at."""
    if constraint.type == "ARMATURE":
        return [target.subtarget for target in constraint.targets if target.target == armature]
    names = [getattr(constraint, "subtarget", "")] if getattr(constraint, "target", None) == armature else []
    if getattr(constraint, "pole_target", None) == armature:
        names.append(constraint.pole_subtarget)
    return names


def _watched_by_drivers(armature):
    """{bone: bones whose transforms or properties its drivers read}."""
    watched = {}
    for driver in active_drivers(armature):
        if bone := bone_of_path(driver.data_path):
            for variable in driver.driver.variables:
                for target in variable.targets:
                    other = target.bone_target or bone_of_path(target.data_path)
                    if target.id == armature and other:
                        watched.setdefault(bone, []).append(other)
    return watched


def active_drivers(armature):
    """The armature object's drivers that are not muted."""
    return [driver for driver in armature.animation_data.drivers if not driver.mute] if armature.animation_data else []


def bone_of_path(path):
    """The bone that an RNA path such as `pose.bones["Hand.L"].location` is about, or None."""
    start, quote, rest = path.partition('pose.bones["')
    if start or not quote:
        return None
    name, escaped = "", False
    for letter in rest:
        if not escaped and letter == '"':
            return name
        escaped = not escaped and letter == "\\"
        name += "" if escaped else letter
    return None


def off_rest(armature, names):
    """Those of the named bones that are moved or turned now; scale is the user's own and stays."""
    return {name for name in names if not _is_at_rest(armature.pose.bones[name])}


def _is_at_rest(bone):
    turn = bone.matrix_basis.to_3x3().normalized()
    return bone.location.length < 1e-6 and max(abs(turn[r][c] - (r == c)) for r in range(3) for c in range(3)) < 1e-5


def is_plain(armature, steering, bones):
    """Whether the hierarchy alone says how the mapped bones move."""
    pose, mapped = armature.pose.bones, set(bones)
    if any(bone_of_path(driver.data_path) in steering for driver in active_drivers(armature)):
        return False
    for name in steering:
        bone = pose[name]
        if any(not constraint.mute for constraint in bone.constraints) or max(abs(value - 1) for value in bone.scale) > 1e-6:
            return False
        # A helper that does not turn with its parent is still carried by it: no one bone does what it does.
        if name not in mapped and bone.parent and not bone.bone.use_inherit_rotation:
            return False
    return True
