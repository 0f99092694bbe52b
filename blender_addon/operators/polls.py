# SPDX-License-Identifier: GPL-3.0-or-later
"""When the operators on a bridge kit's pair can run; where they cannot, Blender shows what to do."""

from .. import pair as pairs


def in_mode(cls, context, mode, message):
    if context.mode != mode:
        cls.poll_message_set(message)
    return context.mode == mode


def is_of_pair(cls, context):
    pair = pairs.pair_of(context.object)
    if pair is None:
        cls.poll_message_set("Open a bridge kit, and select its body or its face")
    return pair is not None


def is_model(cls, context):
    """Whether the active object is the body or the face of a pair."""
    is_model = context.object is not None and pairs.ROLE_PROPERTY in context.object and context.object.type == "MESH"
    if not is_model:
        cls.poll_message_set("Select the body or the face of a bridge kit")
    return is_model and is_of_pair(cls, context)


def is_bridged(cls, context):
    """Whether the active object's pair has a character."""
    pair = pairs.pair_of(context.object)
    bridged = pair is not None and pairs.bridged_character(pair) is not None
    if not bridged:
        cls.poll_message_set("Bridge a body and a face first, and select the character")
    return bridged
