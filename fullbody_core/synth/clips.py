"""Clips with known truth: an open body of random shape that moves as somebody once did, filmed as people film.

Whole motions with feet that stand (`planted_motion`), hands that move, cameras that stand still or pan, real backgrounds where
there are some, people cut at the waist, things that get in the way. Everything follows from the seed, clip by clip.
"""

from collections import namedtuple
from dataclasses import dataclass, fields

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..camera import camera_matrix, project, rays
from ..contract.easing import smoothstep
from ..contract.frames import CAMERA_TO_WORLD, MIRROR, axis_angle_to_matrix, matrix_to_axis_angle
from ..contract.npz_file import FileError, read_npz, write_npz
from ..contract.skeleton import BODY_JOINTS, FINGERS, JOINT_INDEX, SIDES
from ..contract.swing_twist import shortest_arc, transpose
from ..ik.rest_skeleton import RestSkeleton
from ..video import VideoWriter
from .hand_poses import sample_hand_poses
from .planted_motion import plant, posed_soles
from .render import dress, put_on, render, room, sample_light
from .scenes import LARGEST_BETA, pose_vertices

SECONDS, FEWEST_FRAMES = 4.0, 75
"""How long a clip is where the motion lasts, and the shortest."""

FASTEST_TURN = np.radians(2000)
"""rad/s of a joint; more is a flaw of the recording."""

KINDS = {3: "turning", 13: "turning", 5: "waist", 11: "waist", 17: "waist", 7: "covered", 15: "covered"}
"""What is special about clip number N of twenty: the camera turns after the person, shows them from the waist up, or something
comes between for a while. The others are shown whole, by a camera that stands still."""

ROOM_TO_MOVE = {"waist": (0.0, 0.8), "turning": (1.5, np.inf)}
"""m that the hips go during clips of these kinds."""

LANDSCAPE, PORTRAIT, WIDE_WAY = ((960, 540), (800, 600)), ((540, 960), (600, 800), (640, 640)), 1.2
"""px (width, height) of pictures; m that the hips go from where on nobody films upright."""

FIELD_OF_VIEW, PITCH, ROLL = (40, 65), (-3, 20), 1.0
"""Degrees: of the longer side; down; standard deviation."""

FILL = {"whole": (0.55, 0.92), "covered": (0.6, 0.92), "waist": (0.7, 1.0), "turning": (0.5, 0.8)}
"""Share of the picture, in its narrower direction, that is taken by what is shown of the person, over all frames."""

NEAREST = 0.6
"""m of depth that every joint keeps from the camera."""

COVERED_FOR = (0.3, 0.6)
"""s that something is in the way."""

TRIES, POSED_AT_ONCE = 8, 32


class ClipError(FileError):
    """A clip with known truth that cannot be made or read. The message is one sentence for the user."""


@dataclass
class Clip:
    """The truth of T frames. The reference camera has the axes of the first frame's.

    name, kind; framerate Hz; betas [16]; rotations [T, 52, 3, 3] parent-relative, the pelvis's turned to the camera of its frame;
    pelvis [T, 3] m in the camera of its frame; matrix [3, 3] px; image_size (width, height) px; up [3] and floor m in the reference
    camera: up @ x = floor for x on the floor; camera_turns [T, 3, 3] from the reference camera to each frame's; contacts
    [T, 2, 3] bool: left and right foot; heel, ball, toe; cover [6]: first frame, end, and the box (left, top, right, bottom)
    px that something covers then, zeros for nothing; seed [2]: of its looks.
    """

    name: str
    kind: str
    framerate: float
    betas: np.ndarray
    rotations: np.ndarray
    pelvis: np.ndarray
    matrix: np.ndarray
    image_size: tuple
    up: np.ndarray
    floor: float
    camera_turns: np.ndarray
    contacts: np.ndarray
    cover: np.ndarray
    seed: np.ndarray

    def __len__(self):
        return len(self.pelvis)

    @property
    def timestamps(self):
        """[T] s."""
        return np.arange(len(self)) / self.framerate

    @property
    def camera_to_world(self):
        """Poses [T, 4, 4] of the camera in a world with z up and its floor at z = 0."""
        poses = np.tile(np.eye(4), (len(self), 1, 1))
        poses[:, :3, :3] = shortest_arc(self.up, np.array([0.0, 0, 1])) @ transpose(self.camera_turns)
        poses[:, 2, 3] = -self.floor
        return poses


def make_clip(body, motions, seed, number):
    """The truth of clip `number`. body: `BodyModelFile`; motions: list of `Motion` with `trans`. Raises `ClipError`."""
    rng = np.random.default_rng([seed, number])
    kind = KINDS.get(number % 20, "whole")
    betas = np.clip(rng.normal(size=body.shapedirs.shape[-1]), -LARGEST_BETA, LARGEST_BETA)
    skeleton = RestSkeleton.of_body(body, betas)
    name, framerate, rotations, pelvis, contacts = _sample_motion(rng, motions, skeleton, kind, seed, number)
    _turn_wrists(rng, rotations, framerate)
    _move_fingers(rng, rotations, framerate, skeleton.joints)
    joints = skeleton.pose(rotations)[0] + pelvis[:, None]
    points = np.concatenate([joints, posed_soles(skeleton, rotations, pelvis).reshape(len(joints), -1, 3)], 1)
    wide = np.ptp(pelvis[:, :2], axis=0).max() > WIDE_WAY or rng.random() < 0.5
    image_size = LANDSCAPE[rng.integers(len(LANDSCAPE))] if wide else PORTRAIT[rng.integers(len(PORTRAIT))]
    matrix = camera_matrix(image_size, rng.uniform(*FIELD_OF_VIEW))
    turns, centre = _place_camera(rng, points, rotations[:, 0], kind, matrix, image_size, framerate)
    rotations[:, 0] = turns @ rotations[:, 0]
    clip = Clip(
        name=f"{name} {kind}",
        kind=kind,
        framerate=framerate,
        betas=betas,
        rotations=rotations,
        pelvis=(turns @ (pelvis - centre)[..., None])[..., 0],
        matrix=matrix,
        image_size=image_size,
        up=turns[0][:, 2],
        floor=-float(centre[2]),
        camera_turns=turns @ turns[0].T,
        contacts=contacts,
        cover=np.zeros(6),
        seed=np.array([seed, number]),
    )
    if kind == "covered":
        clip.cover = _sample_cover(rng, clip, skeleton)
    return clip


def _sample_motion(rng, motions, skeleton, kind, seed, number):
    """(name, framerate Hz, rotations, pelvis [T, 3] m, contacts): a stretch of a motion on this skeleton, on a floor at z = 0.

    Every clip has a motion of its own while there are enough, or the next one that suits its kind.
    """
    usable = [stretches for motion in motions if motion.trans is not None and (stretches := _sound_stretches(motion))]
    if not usable:
        raise ClipError(f"No motion with `trans` lasts {FEWEST_FRAMES} frames: give a folder with longer ones with --data.")
    order = np.random.default_rng(seed).permutation(len(usable))
    for attempt in range(TRIES * len(usable)):
        stretches = usable[order[(number + attempt // TRIES) % len(usable)]]
        lengths = np.array([end - first for _, first, end in stretches])
        motion, first, end = stretches[rng.choice(len(stretches), p=lengths / lengths.sum())]
        length = min(round(SECONDS * motion.framerate), end - first)
        start = int(rng.integers(first, end - length + 1))
        part = slice(start, start + length)
        rotations, pelvis, contacts = plant(skeleton, motion.rotations[part], motion.trans[part], motion.framerate)
        if _suits(kind, skeleton, rotations, pelvis) and _is_sound(skeleton, rotations, pelvis, contacts, motion):
            return f"{motion.name}:{start}", float(motion.framerate), rotations, pelvis, contacts
    raise ClipError(f"No stretch of the motions suits a clip of kind {kind}: give a folder with more of them with --data.")


def _suits(kind, skeleton, rotations, pelvis):
    """Whether somebody goes about as far as a camera of this kind can follow, and is upright where it shows the upper body only."""
    low, high = ROOM_TO_MOVE.get(kind, (0, np.inf))
    joints = skeleton.pose(rotations)[0] + pelvis[:, None]
    upright = (joints[:, JOINT_INDEX["head"], 2] - pelvis[:, 2]).min() > 0.35 and pelvis[:, 2].min() > 0.65
    return low <= np.ptp(pelvis[:, :2], axis=0).max() <= high and (upright or kind != "waist")


def _sound_stretches(motion):
    """(motion, first frame, end) of the stretches in which no joint flips.

    Files begin with a pose that nobody was in, and some flicker.
    """
    turned = matrix_to_axis_angle(motion.rotations[:-1, 1:22].swapaxes(-1, -2) @ motion.rotations[1:, 1:22])
    torn = np.flatnonzero(np.linalg.norm(turned, axis=-1).max(1) * motion.framerate > FASTEST_TURN) + 1
    edges = [0, *torn, len(motion.rotations)]
    return [(motion, first, end) for first, end in zip(edges[:-1], edges[1:]) if end - first >= FEWEST_FRAMES]


def _is_sound(skeleton, rotations, pelvis, contacts, motion):
    """Whether somebody moves on a floor: stands in most frames, does not climb, goes through nothing, and is not torn about."""
    soles = posed_soles(skeleton, rotations, pelvis)[..., 2]
    joints = skeleton.pose(rotations)[0][:, BODY_JOINTS, 2] + pelvis[:, None, 2]
    pull = np.linalg.norm(np.diff(pelvis, 2, axis=0), axis=-1).max() * motion.framerate**2
    stands = contacts.any((1, 2)).mean() > 0.4
    return stands and soles.min((1, 2)).max() < 0.4 and soles.min() > -0.04 and joints.min() > 0 and pull < 40


def _wander(rng, count, framerate, pace=0.3):
    """A curve [T] of mean square one that changes within about `pace` s."""
    sigma = pace * framerate
    noise = gaussian_filter1d(rng.normal(size=count + 2 * int(3 * sigma)), sigma, mode="nearest")
    return noise[int(3 * sigma) :][:count] * np.sqrt(2 * np.sqrt(np.pi) * sigma)


def _turn_wrists(rng, rotations, framerate):
    """Turns both wrists, in place: pronation about the forearm, deviation, flexion, within what wrists can do."""
    for side in SIDES:
        joint = JOINT_INDEX[f"{side}_wrist"]
        for axis, spread, largest in zip(np.eye(3), (30, 8, 18), (80, 20, 50)):
            degrees = np.clip(rng.normal(0, spread) + spread * _wander(rng, len(rotations), framerate), -largest, largest)
            rotations[:, joint] = rotations[:, joint] @ axis_angle_to_matrix(np.radians(degrees)[:, None] * axis)


def _move_fingers(rng, rotations, framerate, rest_joints):
    """Gives both hands fingers, in place, that go from pose to pose and hold each for a while."""
    times = np.arange(len(rotations)) / framerate
    for side, mirror in zip(SIDES, (np.eye(3), MIRROR)):
        keys = np.cumsum(rng.uniform(0.5, 1.5, int(times[-1] / 0.5) + 2)) - 0.5
        poses = sample_hand_poses(rng, len(keys), rest_joints)
        before = np.clip(np.searchsorted(keys, times, side="right") - 1, 0, len(keys) - 2)
        share = smoothstep(times - keys[before], 0.2 * np.diff(keys)[before], np.diff(keys)[before])
        change = matrix_to_axis_angle(poses[before].swapaxes(-1, -2) @ poses[before + 1])
        hand = poses[before] @ axis_angle_to_matrix(change * share[:, None, None])
        first = JOINT_INDEX[f"{side}_{FINGERS[0]}1"]
        rotations[:, first : first + hand.shape[1]] = mirror @ hand @ mirror


def _place_camera(rng, points, pelvis_turns, kind, matrix, image_size, framerate):
    """Turns [T, 3, 3] from the world to the cameras, and where these stand [3] m, for points [T, N, 3] m: 52 joints and soles."""
    pitch, roll = np.radians([rng.uniform(*PITCH), rng.normal(0, ROLL)])
    front = np.arctan2(*pelvis_turns[len(points) // 2, [1, 0], 2])
    aside = rng.normal(0, 50) if rng.random() < 0.7 else rng.uniform(-180, 180)
    # A person who faces -y looks into a camera that looks along +y.
    heading = front + np.pi + np.radians(aside)
    if kind == "turning":
        # Nobody pans after a person who comes straight on.
        across = np.arctan2(*(points[-1, 0] - points[0, 0])[[1, 0]]) + np.pi / 2
        heading = across + np.pi * rng.integers(2) + np.radians(rng.normal(0, 25))
    fill = rng.uniform(*FILL[kind])
    shown = [JOINT_INDEX[f"{s}_{j}"] for s in SIDES for j in ("hip", "shoulder", "elbow", "wrist")] + [JOINT_INDEX["head"]]
    shown = points[:, shown] if kind == "waist" else points
    middle = (shown.min((0, 1)) + shown.max((0, 1))) / 2
    for distance in np.arange(1.0, 14, 0.1):
        centre = middle - distance * np.cos(pitch) * _level_direction(heading) + [0, 0, distance * np.sin(pitch)]
        turns = _look(rng, points, centre, heading, pitch, roll, kind, framerate)
        seen = ((points - centre) @ turns.swapaxes(-1, -2))[..., 2]
        if centre[2] < 0.15 or seen.min() < NEAREST:
            continue
        pixels = project((shown - centre) @ turns.swapaxes(-1, -2), matrix)
        low, high = pixels.min((0, 1)), pixels.max((0, 1))
        if kind == "turning":
            low, high = np.percentile(pixels.min(1), 10, axis=0), np.percentile(pixels.max(1), 90, axis=0)
        size = (high - low) / image_size
        if size.max() < fill:
            break
    # The lens is turned to where the person is in the middle, which cameras without a roll do by their pitch and heading.
    if kind != "turning":
        turns = _centred(turns, (low + high) / 2, matrix)
    return turns, centre


def _level_direction(heading):
    return np.array([np.cos(heading), np.sin(heading), 0])


def _look(rng, points, centre, heading, pitch, roll, kind, framerate):
    """Turns [T, 3, 3] from the world to a camera at `centre` [3] m that looks along `heading`, or after the person."""
    headings = np.full(len(points), heading)
    if kind == "turning":
        way = points[:, 0] - centre
        headings = gaussian_filter1d(np.unwrap(np.arctan2(way[:, 1], way[:, 0])), 0.4 * framerate, mode="nearest")
    # A level camera that looks along +y is turned by its heading from there.
    level = axis_angle_to_matrix(np.array([0, 0, 1.0]) * (np.pi / 2 - headings)[:, None])
    return axis_angle_to_matrix([0, 0, roll]) @ axis_angle_to_matrix([pitch, 0, 0]) @ CAMERA_TO_WORLD.T @ level


def _centred(turns, pixel, matrix):
    """The turns [T, 3, 3] of a camera with its lens turned towards what it sees at a pixel [2], about its own axes."""
    right, down, _ = rays(pixel, matrix)
    aside, below = np.arctan(right), np.arctan(down / np.hypot(1, right))
    return axis_angle_to_matrix([below, 0, 0]) @ axis_angle_to_matrix([0, -aside, 0]) @ turns


def _sample_cover(rng, clip, skeleton):
    """The `cover` of a clip: the whole person, or their lower or upper half, somewhere in the middle of it."""
    length = round(rng.uniform(*COVERED_FOR) * clip.framerate)
    first = int(rng.integers(len(clip) // 4, max(3 * len(clip) // 4 - length, len(clip) // 4 + 1)))
    frames = slice(first, first + length)
    joints = skeleton.pose(clip.rotations[frames])[0] + clip.pelvis[frames, None]
    pixels = project(joints, clip.matrix).reshape(-1, 2)
    low, high = pixels.min(0), pixels.max(0)
    margin = 0.1 * (high - low).max()
    low, high, middle = low - margin, high + margin, (low + high)[1] / 2
    part = rng.integers(3)
    top, bottom = [(low[1], high[1]), (middle, high[1]), (low[1], middle)][part]
    return np.array([first, first + length, low[0], top, high[0], bottom])


def render_clip(clip, body, backgrounds=()):
    """The T pictures of a clip, RGB uint8 [H, W, 3] each, one after another. backgrounds: pictures [H, W, 3], or none."""
    rng = np.random.default_rng([*clip.seed, 1])
    outfit = dress(body, rng)
    plate, plate_matrix = _sample_plate(rng, clip, backgrounds)
    lamp, blur = sample_light(rng, clip.up), rng.uniform(0.5, 1.0)
    grains = rng.normal(0, rng.uniform(0.5, 3), (8, clip.image_size[1], clip.image_size[0], 3)).astype(np.float32)
    cover = rng.uniform(20, 220, 3) + rng.normal(0, 6, (clip.image_size[1], clip.image_size[0], 1))
    shown = [None, None]
    for frame, (turn, vertices) in enumerate(zip(clip.camera_turns, _surfaces(clip, body))):
        if shown[0] is None or (turn != shown[0]).any():
            shown = [turn, _seen_through(plate, plate_matrix, clip, turn)]
        light = type(lamp)(turn @ lamp.direction, turn @ lamp.up, lamp.lamp, lamp.sky, lamp.ground)
        surface = put_on(outfit, vertices, body.f)
        image, _ = render(surface, body.f, outfit.colours, clip.matrix, shown[1], light, samples=1)
        if clip.cover[0] <= frame < clip.cover[1]:
            left, top, right, bottom = np.maximum(clip.cover[2:], 0).astype(int)
            image[top:bottom, left:right] = np.clip(cover[top:bottom, left:right], 0, 255)
        soft = cv2.GaussianBlur(image, (0, 0), blur) + grains[rng.integers(len(grains))]
        yield np.clip(soft, 0, 255).astype(np.uint8)


def _surfaces(clip, body):
    """The posed surface [V, 3] m of each frame, a few frames at a time."""
    for first in range(0, len(clip), POSED_AT_ONCE):
        frames = slice(first, first + POSED_AT_ONCE)
        yield from pose_vertices(_Posed(clip.betas, clip.rotations[frames], clip.pelvis[frames]), body)


_Posed = namedtuple("_Posed", "betas rotations pelvis")
"""A few frames of a clip, as `scenes.pose_vertices` reads them."""


def _sample_plate(rng, clip, backgrounds):
    """A background, larger than the picture where the camera turns, and the matrix with which the reference camera sees it."""
    width, height = clip.image_size
    matrix = clip.matrix.copy()
    if len(backgrounds) and rng.random() < (1 if clip.kind == "turning" else 0.75):
        plate = backgrounds[rng.integers(len(backgrounds))]
        share = max(width / plate.shape[1], height / plate.shape[0])
        matrix[:2] /= share
        matrix[:2, 2] = np.array(plate.shape[1::-1]) / 2
        return plate, matrix
    wide = (3 * width, 2 * height) if clip.kind == "turning" else clip.image_size
    matrix[:2, 2] = np.array(wide) / 2
    return room(rng, wide, matrix, clip.up, -clip.floor), matrix


def _seen_through(plate, plate_matrix, clip, turn):
    """The background [H, W, 3] uint8 in the picture of a camera turned by `turn` [3, 3] from the reference camera."""
    width, height = clip.image_size
    to_plate = plate_matrix @ turn.T @ np.linalg.inv(clip.matrix)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(plate, to_plate, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def write_clip(clip, body, path, backgrounds=()):
    """Renders a clip into a video file. Raises `VideoError`."""
    with VideoWriter(path, clip.image_size, clip.framerate) as writer:
        for timestamp, image in zip(clip.timestamps, render_clip(clip, body, backgrounds)):
            writer.write(timestamp, image)


def save_truth(path, clip):
    """Writes a `Clip` to an .npz file. Raises `FileError`."""
    write_npz(path, {f"clip_{item.name}": np.asarray(getattr(clip, item.name)) for item in fields(Clip)})


def load_truth(path):
    """The `Clip` in a file of `save_truth`. Raises `FileError`."""
    arrays = read_npz(path, "clip with known truth")
    try:
        return Clip(**{item.name: _plain(arrays[f"clip_{item.name}"]) for item in fields(Clip)})
    except KeyError as error:
        raise ClipError(f"{path} is not a clip with known truth: {error} is missing in it.") from error


def _plain(value):
    """An array, or the number or text in one without axes."""
    return value if value.ndim else value.item()
