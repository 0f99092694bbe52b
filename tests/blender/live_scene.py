# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the live link need: a real server inside the test, people and frames for it, and a character that follows."""

import time
from contextlib import contextmanager

import bpy
import numpy as np
from fullbody_mocap.character import build_character
from fullbody_mocap.contract.wire import Frame, Person, Stream
from fullbody_mocap.live import session as live
from fullbody_mocap.live.link import Link
from fullbody_mocap.live.target import CharacterTarget
from synthetic_person import make_clip, make_template

from fullbody_core.contract import wire as core_wire
from fullbody_core.live.server import LiveServer

EXPRESSIONS = ("smile", "eyeBlinkLeft", "eyeBlinkRight")


def template_of_live():
    return make_template(expression_names=EXPRESSIONS, shapes=4, albedos=10)


def stream_of(template, **changes):
    """The stream of a core that has the template's models."""
    values = {
        "expression_names": EXPRESSIONS,
        "beta_count": template.shapedirs.shape[-1],
        "shape_count": len(template.face_shapedirs),
        "albedo_count": len(template.albedodirs),
        "image_size": (640, 480),
        "framerate": 30.0,
        "models": {"face": "face"},
        "software": "test",
    }
    return Stream(**(values | changes))


def on_cores_side(item):
    """The same item of the core's own `wire`, which the add-on has a copy of."""
    return getattr(core_wire, type(item).__name__)(**vars(item))


@contextmanager
def serving(template):
    """A core's server for the template's models; its `requests` are what viewers asked it for."""
    requests = []
    with LiveServer(on_cores_side(stream_of(template)), on_request=requests.append, log=lambda line: None) as server:
        server.requests = requests
        yield server


def person_of(clip, revision=1, **changes):
    values = {
        "settled": True,
        "betas": clip.betas,
        "face_shape": clip.face_shape,
        "albedo": clip.face_albedo,
        "camera_matrix": clip.camera_matrix,
        "camera_to_world": clip.camera_to_world[0],
    }
    return Person(revision=revision, **(values | changes))


def frames_of(clip, revision=1, first=0):
    """The clip's frames as they come over the link, which keeps single precision."""
    single = {name: np.float32(getattr(clip, name)).astype(float) for name in ("poses", "trans", "face_expression")}
    return [
        Frame(
            sequence=first + number,
            person=revision,
            dropped=0,
            valid=clip.valid[number],
            poses=single["poses"][number],
            trans=single["trans"][number],
            expression=single["face_expression"][number],
            timestamp=float(clip.timestamps[number]),
            arrived=time.monotonic(),
        )
        for number in range(clip.frame_count)
    ]


def make_person(template, frames=30, seed=0, **options):
    return make_clip(template, frames=frames, seed=seed, expression_names=EXPRESSIONS, **options)


def add_character(template, name="Person", betas=()):
    scene = bpy.context.scene
    return build_character(template, betas, name=name, collection=scene.collection, view_layer=bpy.context.view_layer)


def follow(character, template, server):
    """A session in which a character follows a server."""
    target = CharacterTarget(character.armature, template)
    return live.watch(target, bpy.context.scene, link=Link(server.port, server.token))


def drain_until(condition, seconds=5.0):
    """Does what Blender's timer does until `condition()`; fails where that does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s; the session says: {live.session() and live.session().state}"
        time.sleep(min(live.drain() or 0.005, 0.005))


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.002)


def send(server, item):
    """Sends a `Person` or a `Frame` of the add-on's own `wire`."""
    (server.send_person if isinstance(item, Person) else server.send_frame)(on_cores_side(item))


def show(server, session, frame):
    """Sends one frame and drains until it is shown."""
    shown = session.shown
    send(server, frame)
    drain_until(lambda: session.shown > shown)


def joints_now(armature):
    """World heads [52, 3] m of the evaluated pose bones, as they are now."""
    from fullbody_mocap.contract.skeleton import JOINT_NAMES

    evaluated = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    matrix = np.array(evaluated.matrix_world)
    heads = np.array([evaluated.pose.bones[name].head for name in JOINT_NAMES])
    return heads @ matrix[:3, :3].T + matrix[:3, 3]
