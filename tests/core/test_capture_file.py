"""Capture files and character templates: what is written is read, anything else is refused in one sentence."""

import dataclasses
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from fullbody_core.contract import capture
from fullbody_core.contract.capture import CaptureClip, CaptureError
from fullbody_core.contract.character import CharacterError, CharacterTemplate
from fullbody_core.contract.frames import axis_angle_to_matrix
from fullbody_core.contract.npz_file import FileError, read_npz, write_npz

FRAMES, POINTS, EXPRESSIONS = 5, 7, 3


def make_clip(**changes):
    """A clip of random numbers in which every field says something."""
    rng = np.random.default_rng(0)
    values = dict(
        poses=rng.normal(size=(FRAMES, 156)),
        trans=rng.normal(size=(FRAMES, 3)),
        betas=rng.normal(size=16),
        mocap_framerate=29.97,
        timestamps=3600 + np.cumsum(rng.uniform(0.02, 0.04, FRAMES)),
        joints_camera=rng.normal(size=(FRAMES, 52, 3)),
        keypoints2d=rng.normal(size=(FRAMES, POINTS, 3)),
        keypoint_names=tuple(f"point_{i}" for i in range(POINTS)),
        valid=rng.random((FRAMES, 4)) < 0.5,
        filled=rng.random((FRAMES, 4)) < 0.5,
        camera_matrix=np.array([[1000.1, 0, 640], [0, 1000.1, 360], [0, 0, 1]]),
        camera_to_world=rng.normal(size=(FRAMES, 4, 4)),
        image_size=np.array([1280, 720]),
        person_box=rng.normal(size=(FRAMES, 4)),
        gender="female",
        face_shape=rng.normal(size=4),
        face_expression=rng.normal(size=(FRAMES, EXPRESSIONS)),
        expression_names=("jawOpen", "mouthSmile_L", "überraschung"),
        face_albedo=rng.normal(size=6),
        face_illumination=rng.normal(size=(FRAMES, 3, 9)),
        meta={"source": "clip.mp4", "models": {"body": "abc"}, "settings": {"fov": 55.0, "refine": False, "note": "größer"}},
    )
    return CaptureClip(**{**values, **changes})


def make_template(**changes):
    """Two triangles and a quad over two joints, three vertices the face's, in which every field says something.

    Numbers that the file keeps in steps are whole steps.
    """
    rng = np.random.default_rng(1)
    weights = rng.random((5, 2))

    def steps(of, *shape):
        return of * rng.integers(-1000, 1000, shape)

    values = dict(
        vertices=rng.normal(size=(5, 3)),
        faces=np.array([[0, 1, 2, -1], [0, 2, 3, -1], [1, 2, 3, 4]]),
        uv=rng.random((3, 4, 2)),
        joint_names=("root", "tip"),
        parents=np.array([-1, 0]),
        joints=rng.normal(size=(2, 3)),
        weights=weights / weights.sum(1, keepdims=True),
        shapedirs=steps(2.0**-18, 5, 3, 4),
        joint_shapedirs=rng.normal(size=(2, 3, 4)),
        posedirs=steps(2.0**-18, 5, 3, 9),
        face_vertices=np.array([4, 0]),
        carried_vertices=np.array([2]),
        face_shapedirs=steps(2.0**-17, 2, 3, 3),
        expression_names=("jawOpen",),
        expression_limits=np.array([[-0.5, 1.5]]),
        expressiondirs=steps(2.0**-17, 1, 3, 3),
        albedo_mean=rng.random((5, 3)),
        albedodirs=steps(2.0**-13, 6, 5, 3),
        body_skin=rng.integers(0, 9, 5) / 8,
        eyeballs=rng.integers(0, 9, 5) / 8,
        meta={"name": "thing", "licence": "CC0-1.0"},
    )
    return CharacterTemplate(**{**values, **changes})


KINDS = {"capture": (make_clip, CaptureError), "template": (make_template, CharacterError)}
both_kinds = pytest.mark.parametrize("make, error_type", KINDS.values(), ids=KINDS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.npz"


def arrays_of(thing, path):
    """What `thing` writes, to be changed and written again without its checks."""
    thing.save(path)
    return read_npz(path, "file")


def assert_refused(make, error_type, path, match=None):
    """Loading raises the kind's own error with one sentence that matches."""
    with pytest.raises(error_type, match=match) as caught:
        type(make()).load(path)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


def edited_meta(arrays, **changes):
    meta = {**json.loads(str(arrays["meta"])), **changes}
    return {**arrays, "meta": np.array(json.dumps(meta))}


# Round trips.


@both_kinds
def test_what_is_written_is_read(make, error_type, path):
    thing = make()
    thing.save(path)
    read = type(thing).load(path)
    for item in dataclasses.fields(thing):
        wrote, got = getattr(thing, item.name), getattr(read, item.name)
        if item.name == "meta":
            assert {name: got[name] for name in wrote} == wrote
            assert set(got) - set(wrote) == {"format", "version"}
        elif isinstance(wrote, np.ndarray):
            assert got.shape == wrote.shape and got.dtype.kind == wrote.dtype.kind
            np.testing.assert_allclose(got, wrote, rtol=1e-6, err_msg=item.name)
        else:
            assert got == wrote and type(got) is type(wrote)


@both_kinds
def test_a_second_round_changes_nothing(make, error_type, path):
    once = arrays_of(make(), path)
    twice = arrays_of(type(make()).load(path), path)
    assert once.keys() == twice.keys()
    for name, array in once.items():
        assert array.dtype == twice[name].dtype
        np.testing.assert_array_equal(array, twice[name], err_msg=name)


def test_times_and_intrinsics_keep_all_their_digits(path):
    """An hour into a film a float32 knows the time to a quarter of a millisecond only."""
    clip = make_clip()
    clip.save(path)
    read = CaptureClip.load(path)
    for name in ("timestamps", "camera_matrix", "camera_to_world"):
        np.testing.assert_array_equal(getattr(read, name), getattr(clip, name))
    assert read.mocap_framerate == 29.97


def test_one_pose_of_the_camera_stands_for_all_frames():
    pose = np.random.default_rng(3).normal(size=(4, 4))
    np.testing.assert_array_equal(make_clip(camera_to_world=pose).camera_to_world, np.tile(pose, (FRAMES, 1, 1)))


def test_a_file_of_version_1_is_read(path):
    """It had one camera pose for the clip, and nothing in it was filled in."""
    clip = make_clip()
    arrays = edited_meta(arrays_of(clip, path), version=1)
    del arrays["filled"]
    write_npz(path, {**arrays, "camera_to_world": arrays["camera_to_world"][2]})
    read = CaptureClip.load(path)
    np.testing.assert_array_equal(read.camera_to_world, np.tile(clip.camera_to_world[2], (FRAMES, 1, 1)))
    assert not read.filled.any() and read.filled.shape == (FRAMES, 4)
    read.save(path)
    assert CaptureClip.load(path).meta["version"] == capture.FORMAT_VERSION


def test_a_clip_without_a_face(path):
    empty = dict.fromkeys(("face_expression", "face_illumination"))
    make_clip(face_shape=np.zeros(0), face_albedo=np.zeros(0), expression_names=(), **empty).save(path)
    read = CaptureClip.load(path)
    assert read.expression_names == () and read.face_expression.shape == (FRAMES, 0)
    assert read.face_shape.shape == read.face_albedo.shape == (0,)
    assert read.face_illumination.shape == (FRAMES, 3, 9)


def test_amass_tools_find_what_they_look_for(path):
    clip = make_clip()
    clip.save(path)
    with np.load(path, allow_pickle=False) as amass:
        assert (
            amass["poses"].shape == (FRAMES, 156) and amass["trans"].shape == (FRAMES, 3) and amass["betas"].shape == (16,)
        )
        np.testing.assert_allclose(amass["poses"], clip.poses, rtol=1e-6)
        np.testing.assert_allclose(amass["trans"], clip.trans, rtol=1e-6)
        assert str(amass["gender"]) == "female" and float(amass["mocap_framerate"]) == 29.97


def test_frame_count_and_duration():
    clip = make_clip(timestamps=np.array([10.0, 10.5, 11, 11.5, 12]), mocap_framerate=2.0)
    assert clip.frame_count == FRAMES and clip.duration == pytest.approx(2.5)


def test_meta_cannot_pretend_to_be_another_version(path):
    make_clip(meta={"version": 99, "format": "other"}).save(path)
    assert CaptureClip.load(path).meta == {"version": capture.FORMAT_VERSION, "format": capture.FORMAT_NAME}


def test_rest_joints_of_a_template():
    template = make_template()
    np.testing.assert_array_equal(template.rest_joints(np.zeros(4)), template.joints)
    moved = template.rest_joints([2.0, -1])
    np.testing.assert_allclose(
        moved, template.joints + 2 * template.joint_shapedirs[..., 0] - template.joint_shapedirs[..., 1]
    )


# Versions.


@both_kinds
def test_a_newer_version_is_refused_with_what_to_do(make, error_type, path):
    write_npz(path, edited_meta(arrays_of(make(), path), version=99))
    message = assert_refused(make, error_type, path, "format 99")
    assert "update the add-on" in message


def test_a_newer_version_is_told_before_its_unknown_keys(path):
    """A newer file has new keys: the user must hear 'update', not 'unknown'."""
    arrays = edited_meta(arrays_of(make_clip(), path), version=capture.FORMAT_VERSION + 1)
    write_npz(path, {**arrays, "soul": np.zeros(3)})
    assert_refused(make_clip, CaptureError, path, "update the add-on")


@both_kinds
@pytest.mark.parametrize(
    "meta",
    ["", "{", "{}{}", "null", "[]", "3", '"text"', "{}", '{"format": "other", "version": 1}', '{"version": 1}'],
    ids=repr,
)
def test_a_file_of_another_kind_is_refused(make, error_type, path, meta):
    write_npz(path, {**arrays_of(make(), path), "meta": np.array(meta)})
    assert_refused(make, error_type, path)


@both_kinds
@pytest.mark.parametrize("version", ["1", None, 1.5, [1]])
def test_a_version_that_is_no_number_is_refused(make, error_type, path, version):
    write_npz(path, edited_meta(arrays_of(make(), path), version=version))
    assert_refused(make, error_type, path)


# Damaged and foreign files.


@both_kinds
def test_a_file_cut_short_anywhere_is_refused(make, error_type, path):
    make().save(path)
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 25).astype(int):
        path.write_bytes(whole[:length])
        assert_refused(make, error_type, path, "cut short")


@both_kinds
def test_a_flipped_byte_is_refused_or_harmless(make, error_type, path):
    """The zip's checksums find it, or it lies where nothing is read from: no other error than ours, no other numbers."""
    expected = arrays_of(make(), path)
    whole = bytearray(path.read_bytes())
    refusals = 0
    for place in np.linspace(0, len(whole) - 1, 300).astype(int):
        damaged = whole.copy()
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            got = type(make()).load(path)
        except error_type:
            refusals += 1
        else:
            for name, array in expected.items():
                if name != "meta":
                    np.testing.assert_array_equal(np.asarray(getattr(got, name)), array, err_msg=f"byte {place}")
    assert refusals > 150


@both_kinds
def test_what_is_no_npz_is_refused(make, error_type, path, tmp_path):
    path.write_text("a text")
    assert_refused(make, error_type, path, "is not a")
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    assert_refused(make, error_type, path, "one bare array")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "a text in a zip")
    assert_refused(make, error_type, path)
    with zipfile.ZipFile(path, "w"):
        pass
    assert_refused(make, error_type, path)
    arrays = arrays_of(make(), path)
    del arrays["betas" if error_type is CaptureError else "joints"]
    write_npz(path, arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("betas" if error_type is CaptureError else "joints", "a text among arrays")
    assert_refused(make, error_type, path, "more than arrays")


@both_kinds
def test_a_missing_file_and_a_folder(make, error_type, path, tmp_path):
    message = assert_refused(make, error_type, path, "There is no")
    assert str(path) in message
    assert_refused(make, error_type, tmp_path, "There is no")


class Burglar:
    """Unpickling one makes a folder."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@both_kinds
@pytest.mark.parametrize("name", ["meta", "betas", "weights"])
def test_a_pickle_is_refused_and_not_run(make, error_type, path, tmp_path, name):
    marker = tmp_path / "marker"
    arrays = arrays_of(make(), path)
    trap = np.empty((), object)
    trap[()] = Burglar(marker)
    np.savez(path, **{**arrays, name: trap})
    assert_refused(make, error_type, path)
    assert not marker.exists()
    # The trap is a real one: whoever allows pickles springs it.
    with np.load(path, allow_pickle=True) as file:
        file[name]
    assert marker.is_dir()


@both_kinds
def test_a_bare_pickle_is_refused_and_not_run(make, error_type, path, tmp_path):
    path.write_bytes(pickle.dumps(Burglar(tmp_path / "marker")))
    assert_refused(make, error_type, path, "is not a")
    assert not (tmp_path / "marker").exists()


# Keys, kinds and shapes.

CAPTURE_KEYS = [
    "poses", "trans", "betas", "gender", "mocap_framerate", "timestamps", "joints_camera", "keypoints2d", "keypoint_names",
    "valid", "filled", "face_shape", "face_expression", "expression_names", "face_albedo", "face_illumination", "camera_matrix",
    "camera_to_world", "image_size", "person_box", "meta",
]  # fmt: skip
TEMPLATE_KEYS = [
    "vertices", "faces", "uv", "joint_names", "parents", "joints", "weights", "shapedirs", "joint_shapedirs",
    "posedirs", "face_vertices", "carried_vertices", "face_shapedirs", "expression_names", "expression_limits",
    "expressiondirs", "albedo_mean", "albedodirs", "body_skin", "eyeballs", "meta",
]  # fmt: skip
each_key = pytest.mark.parametrize(
    "make, error_type, name",
    [(*KINDS["capture"], name) for name in CAPTURE_KEYS] + [(*KINDS["template"], name) for name in TEMPLATE_KEYS],
    ids=[f"capture-{name}" for name in CAPTURE_KEYS] + [f"template-{name}" for name in TEMPLATE_KEYS],
)


def test_the_lists_above_are_the_files_keys(path):
    assert sorted(arrays_of(make_clip(), path)) == sorted(CAPTURE_KEYS)
    assert sorted(arrays_of(make_template(), path)) == sorted(TEMPLATE_KEYS)


@each_key
def test_a_missing_key_is_named(make, error_type, path, name):
    arrays = arrays_of(make(), path)
    del arrays[name]
    write_npz(path, arrays)
    assert_refused(make, error_type, path, "is not a" if name == "meta" else f"lacks {name}")


@both_kinds
def test_an_unknown_key_is_named(make, error_type, path):
    write_npz(path, {**arrays_of(make(), path), "soul": np.zeros(3)})
    assert_refused(make, error_type, path, "has unknown soul")


@each_key
def test_a_wrong_shape_is_refused(make, error_type, path, name):
    good = arrays_of(make(), path)
    array = good[name]
    wrong = {"one axis more": array[..., None]}
    if array.ndim:
        wrong["one axis less"] = array[0]
        if name not in ("face_shape", "face_albedo", "face_shapedirs", "albedodirs"):  # of these any length is good
            wrong["one entry more"] = np.concatenate([array, array[:1]])
            wrong["one entry less"] = array[:-1]
    for array in wrong.values():
        write_npz(path, {**good, name: array})
        # Where two arrays count the same thing, the later one in the file's order is the one that does not fit.
        assert_refused(make, error_type, path, "is not a" if name == "meta" else "should have shape")


@pytest.mark.parametrize("name", ["poses", "trans", "betas", "joints_camera", "camera_matrix", "image_size"])
def test_the_message_about_a_shape_says_what_is_and_what_should_be(path, name):
    array = np.array(getattr(make_clip(), name))
    with pytest.raises(
        CaptureError, match=rf"{name} should have shape \[.*\], got \[{', '.join(map(str, array.shape))}, 1\]"
    ):
        make_clip(**{name: array[..., None]}).save(path)


@each_key
def test_a_wrong_kind_of_number_is_named(make, error_type, path, name):
    arrays = arrays_of(make(), path)
    arrays[name] = np.zeros(arrays[name].shape, complex)
    write_npz(path, arrays)
    assert_refused(make, error_type, path, "is not a" if name == "meta" else f"{name} should be of kind")


FLOATS = [
    (kind, name)
    for kind, keys in (("capture", CAPTURE_KEYS), ("template", TEMPLATE_KEYS))
    for name in keys
    if name
    not in (
        "gender",
        "keypoint_names",
        "valid",
        "filled",
        "expression_names",
        "image_size",
        "meta",
        "faces",
        "joint_names",
        "parents",
    )
    and name not in ("face_vertices", "carried_vertices")
]


@pytest.mark.parametrize("kind, name", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(path, kind, name, value):
    make, error_type = KINDS[kind]
    arrays = arrays_of(make(), path)
    array = np.array(arrays[name])
    array[(-1,) * array.ndim] = value
    write_npz(path, {**arrays, name: array})
    assert_refused(make, error_type, path, f"{name} holds numbers that are not finite")
    bad = make()
    setattr(bad, name, array)
    with pytest.raises(error_type, match="not finite"):
        bad.save(path)


# What the numbers mean.


def assert_save_and_load_refuse(path, make, error_type, match, **changes):
    """Neither can it be written, nor is it read when something else wrote it."""
    good = arrays_of(make(), path)
    with pytest.raises(error_type, match=match):
        make(**changes).save(path)
    write_npz(path, {**good, **{name: np.asarray(value) for name, value in changes.items()}})
    assert_refused(make, error_type, path, match)


@pytest.mark.parametrize("times", [[0, 1, 1, 2, 3], [0, 1, 0.5, 2, 3], [4, 3, 2, 1, 0]])
def test_timestamps_must_increase(path, times):
    assert_save_and_load_refuse(
        path, make_clip, CaptureError, "timestamps do not increase", timestamps=np.array(times, float)
    )


def test_a_clip_of_no_frames_is_refused(path):
    arrays = arrays_of(make_clip(), path)
    per_frame = [name for name in CAPTURE_KEYS if arrays[name].ndim and name not in ("betas", "face_shape", "face_albedo")]
    per_frame = [name for name in per_frame if len(arrays[name]) == FRAMES]
    assert len(per_frame) == 11
    empty = {name: arrays[name][:0] for name in per_frame}
    assert_save_and_load_refuse(path, make_clip, CaptureError, "holds no frames", **empty)


@pytest.mark.parametrize("rate", [0.0, -30.0])
def test_a_frame_rate_must_be_above_zero(path, rate):
    assert_save_and_load_refuse(path, make_clip, CaptureError, "mocap_framerate should be above zero", mocap_framerate=rate)


def test_one_frame_is_a_clip(path):
    clip = make_clip()
    for name in (
        "poses",
        "trans",
        "timestamps",
        "joints_camera",
        "keypoints2d",
        "valid",
        "filled",
        "camera_to_world",
        "face_expression",
        "face_illumination",
    ):
        setattr(clip, name, getattr(clip, name)[:1])
    clip.person_box = clip.person_box[:1]
    clip.save(path)
    assert CaptureClip.load(path).frame_count == 1


@pytest.mark.parametrize(
    "faces",
    [
        [[0, 1, 2, 5], [0, 2, 3, -1], [1, 2, 3, 4]],
        [[0, 1, 2, -2], [0, 2, 3, -1], [1, 2, 3, 4]],
        [[0, 1, -1, 2], [0, 2, 3, -1], [1, 2, 3, 4]],
        [[-1, -1, -1, -1], [0, 2, 3, -1], [1, 2, 3, 4]],
    ],
    ids=["beyond the last vertex", "below -1", "padding in the middle", "nothing but padding"],
)
def test_faces_must_point_at_vertices(path, faces):
    assert_save_and_load_refuse(path, make_template, CharacterError, "faces point outside", faces=np.array(faces, np.int32))


@pytest.mark.parametrize("nothing", [("faces", "uv"), ("joint_names", "parents", "joints", "joint_shapedirs")])
def test_a_template_without_faces_or_joints_is_refused(path, nothing):
    changes = {name: np.array(getattr(make_template(), name))[:0] for name in nothing}
    changes = {
        name: array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))
        for name, array in changes.items()
    }
    if "joints" in nothing:
        changes["weights"] = np.zeros((5, 0), np.float32)
    assert_save_and_load_refuse(path, make_template, CharacterError, "no faces or no joints", **changes)


@pytest.mark.parametrize("corners", [2, 5])
def test_faces_have_three_or_four_corners(path, corners):
    changes = dict(faces=np.zeros((3, corners), np.int32), uv=np.zeros((3, corners, 2), np.float32))
    assert_save_and_load_refuse(path, make_template, CharacterError, "faces", **changes)


def test_weights_must_sum_to_one(path):
    weights = np.array(make_template().weights, np.float32)
    weights[3] *= 1.01
    assert_save_and_load_refuse(path, make_template, CharacterError, "weights do not sum to one", weights=weights)


@pytest.mark.parametrize(
    "own", [[4, 5], [4, -1], [4, 4], [4, 2]], ids=["beyond the last", "below the first", "twice", "carried, too"]
)
def test_face_vertices_are_some_of_the_vertices_each_once(path, own):
    assert_save_and_load_refuse(path, make_template, CharacterError, "face_vertices", face_vertices=np.array(own, np.int32))


def test_the_face_moves_its_own_vertices_and_those_it_carries(path):
    assert_save_and_load_refuse(
        path, make_template, CharacterError, "face_shapedirs should have shape", carried_vertices=np.array([2, 1], np.int32)
    )
    template = make_template()
    np.testing.assert_array_equal(template.moved_vertices, [4, 0, 2])
    moved = template.rest_surface(np.zeros(4), [1.0, 0.0]) - template.vertices
    np.testing.assert_allclose(moved[[4, 0, 2]], template.face_shapedirs[0], atol=1e-12)
    assert not moved[[1, 3]].any()


def test_a_part_of_a_template_moves_as_it_does_in_the_whole():
    template, chosen = make_template(), np.array([3, 2, 4])
    rotations = axis_angle_to_matrix(np.random.default_rng(5).normal(size=(2, 3)))
    parameters = rotations, [0.5, -1.0, 2.0, 0.1], [1.0, -2.0], [0.7]
    whole = template.posed_surface(*parameters)
    np.testing.assert_allclose(template.part(chosen).posed_surface(*parameters), whole[chosen], atol=1e-12)
    still = np.tile(np.eye(3), (2, 1, 1))
    np.testing.assert_allclose(
        template.posed_surface(still, *parameters[1:]), template.rest_surface(*parameters[1:]), atol=1e-12
    )


def test_posedirs_are_for_every_joint_but_the_root(path):
    few = np.zeros((5, 3, 8), np.float32)
    assert_save_and_load_refuse(path, make_template, CharacterError, "posedirs should have 9 columns or none", posedirs=few)


@pytest.mark.parametrize(
    "name, values, words",
    [
        ("expression_limits", [[0.1, 1.0]], "leave out the face at rest"),
        ("expression_limits", [[0.0, -0.1]], "leave out the face at rest"),
        ("body_skin", [0, 0, 0, 0, 1.1], "body_skin should be shares"),
        ("eyeballs", [0, -0.1, 0, 0, 0], "eyeballs should be shares"),
    ],
)
def test_limits_and_shares_make_sense(path, name, values, words):
    kind = np.float16 if name != "expression_limits" else np.float32
    assert_save_and_load_refuse(path, make_template, CharacterError, words, **{name: np.array(values, kind)})


def test_an_expression_is_there_once(path):
    changes = {
        "expression_names": ("jawOpen", "jawOpen"),
        "expression_limits": np.zeros((2, 2), np.float32),
        "expressiondirs": np.zeros((2, 3, 3), np.float16),
    }
    assert_save_and_load_refuse(path, make_template, CharacterError, "an expression twice", **changes)


def test_a_template_of_the_first_version_says_what_to_do(path):
    arrays = edited_meta(arrays_of(make_template(), path), version=1)
    write_npz(path, arrays)
    message = assert_refused(make_template, CharacterError, path, "older format")
    assert "make it again" in message


def test_directions_are_kept_to_a_few_micrometres(path):
    """And colours to a fraction of a grey level: it is what makes the file of a full head a third of the size."""
    rng = np.random.default_rng(2)
    template = make_template(shapedirs=rng.normal(0, 0.02, (5, 3, 4)), face_shapedirs=rng.normal(0, 0.001, (2, 3, 3)))
    template.albedodirs = rng.normal(0, 0.02, (6, 5, 3))
    template.save(path)
    read = CharacterTemplate.load(path)
    for name, error in (("shapedirs", 2e-6), ("face_shapedirs", 4e-6), ("albedodirs", 1 / 255 / 40)):
        difference = np.abs(getattr(read, name) - getattr(template, name)).max()
        assert 0 < difference < error, name


def test_surface_and_colour_are_linear_in_their_coefficients():
    template = make_template()
    betas, shape, albedo = [1.0, -2.0], [0.5, 2.0], [1.0, 0, 0, 0, 0, -3.0]
    surface = template.rest_surface(betas, shape, [0.7])
    expected = template.vertices + template.shapedirs[..., 0] - 2 * template.shapedirs[..., 1]
    for number, vertex in enumerate([4, 0, 2]):
        expected[vertex] += 0.5 * template.face_shapedirs[0, number] + 2 * template.face_shapedirs[1, number]
        expected[vertex] += 0.7 * template.expressiondirs[0, number]
    np.testing.assert_allclose(surface, expected, atol=1e-12)
    expected = template.albedo_mean + template.albedodirs[0] - 3 * template.albedodirs[5]
    np.testing.assert_allclose(template.albedo(albedo), expected, atol=1e-12)
    np.testing.assert_array_equal(template.rest_surface([]), template.vertices)


@pytest.mark.parametrize("parents", [[0, 0], [-1, -1], [-1, 1], [-1, 2], [1, -1]])
def test_parents_must_be_one_tree_with_parents_first(path, parents):
    assert_save_and_load_refuse(path, make_template, CharacterError, "one tree", parents=np.array(parents, np.int32))


# Written whole or not at all.


@both_kinds
def test_a_save_that_fails_leaves_the_old_file(make, error_type, path, tmp_path, monkeypatch):
    make().save(path)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)  # a disk that fills up while writing: see the command line's tests
    with pytest.raises(error_type, match="Cannot write .*No space left on device"):
        make().save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@both_kinds
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_save_leaves_the_old_file(make, error_type, path, tmp_path, monkeypatch, interruption):
    make().save(path)
    before = path.read_bytes()

    def interrupted(*_):
        raise interruption

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(interruption):
        make().save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@both_kinds
def test_wrong_contents_leave_the_old_file(make, error_type, path, tmp_path):
    make().save(path)
    before = path.read_bytes()
    bad = make()
    bad.meta, name = {}, "betas" if error_type is CaptureError else "joints"
    setattr(bad, name, getattr(bad, name)[:1])
    with pytest.raises(error_type, match=name):
        bad.save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@both_kinds
def test_places_that_cannot_be_written(make, error_type, path, tmp_path):
    (tmp_path / "text").write_text("")
    for place in (tmp_path / "no" / "such" / "folder.npz", tmp_path / "text" / "under_a_file.npz", tmp_path):
        with pytest.raises(error_type, match="Cannot write") as caught:
            make().save(place)
        assert str(place) in str(caught.value) and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["text"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="folders refuse nothing to this user")
@both_kinds
def test_a_folder_without_permission(make, error_type, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    with pytest.raises(error_type, match="Cannot write"):
        make().save(folder / "file.npz")


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_others_may_read_the_file_as_any_other(path, tmp_path):
    """A temporary file is its owner's alone; the finished one follows the umask."""
    make_clip().save(path)
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@both_kinds
def test_errors_are_file_errors(make, error_type):
    """One except clause serves both sides of the contract."""
    assert issubclass(error_type, FileError) and issubclass(FileError, ValueError)
