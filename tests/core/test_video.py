"""Video in and out, on small films made here with PyAV. Frame numbers are written into the pictures as grey levels."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullbody_core.video import VideoError, VideoWriter, _Clock, open_video, read_frame

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
MILLISECOND = Fraction(1, 1000)
TS_PACKET, STARTS_A_UNIT = 188, 0x40  # bytes, and a bit in a packet's second byte


def corners_image(width=64, height=48):
    """Red top left, green top right, blue bottom left, white bottom right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, WHITE
    return image


def corner_colours(image):
    """Colours a few pixels inside the corners, by rows: each as the name of the nearest of the four."""
    names = {"red": RED, "green": GREEN, "blue": BLUE, "white": WHITE}
    height, width = image.shape[:2]
    places = [(height // 6, width // 6), (height // 6, -width // 6), (-height // 6, width // 6), (-height // 6, -width // 6)]
    return [min(names, key=lambda n: np.abs(np.subtract(image[place].astype(int), names[n])).sum()) for place in places]


def numbered_image(number, width=64, height=48):
    """A grey level that says which frame it is, and noise below so that every frame takes its share of the file."""
    image = np.full((height, width, 3), 20 + 5 * number, np.uint8)
    image[height // 2 :] = np.random.default_rng(number).integers(0, 256, (height - height // 2, width, 3))
    return image


def frame_number(image):
    return round((float(image[: image.shape[0] // 3].mean()) - 20) / 5)


def make_video(path, images, pts=None, time_base=MILLISECOND, codec="libx264", pix_fmt="yuv420p", prepare=None, **opening):
    """Writes RGB images with the given times in units of the time base (25 frames per second without)."""
    with av.open(str(path), "w", **opening) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.gop_size = 10
        stream.time_base = stream.codec_context.time_base = time_base
        if codec == "mpeg4":
            stream.codec_context.bit_rate = 20_000_000  # otherwise grey levels drift by more than one frame's step
        if prepare:
            prepare(stream)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = pts[number] if pts is not None else round(number / 25 / time_base)
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_numbered(path, count=40, **options):
    return make_video(path, [numbered_image(number) for number in range(count)], **options)


def make_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac" if path.suffix == ".mp4" else "pcm_s16le", rate=16000)
        stream.layout = "mono"
        silence = np.zeros((1, 16000), np.float32 if path.suffix == ".mp4" else np.int16)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp" if path.suffix == ".mp4" else "s16", layout="mono")
        frame.sample_rate = 16000
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut(path, fraction):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    return path


def cut_in_a_picture(path, fraction):
    """Cuts a transport stream within a picture, at about this part of it: between two pictures nothing tells that it goes on."""
    content, packet = path.read_bytes(), int(path.stat().st_size * fraction) // TS_PACKET
    while content[packet * TS_PACKET + 1] & STARTS_A_UNIT or content[(packet + 1) * TS_PACKET + 1] & STARTS_A_UNIT:
        packet += 1
    path.write_bytes(content[: packet * TS_PACKET + TS_PACKET // 2])
    return path


def read_all(path):
    video = open_video(path)
    frames = list(video.frames())
    return video, [timestamp for timestamp, _ in frames], [image for _, image in frames]


# Times


@pytest.mark.parametrize("name, ticks", [("a.mp4", 12800), ("a.mkv", 1000), ("a.ts", 90000)])
def test_constant_frame_rate(tmp_path, name, ticks):
    video, timestamps, images = read_all(make_numbered(tmp_path / name, time_base=Fraction(1, ticks)))
    assert timestamps == [float(Fraction(number, 25)) for number in range(40)]
    assert [frame_number(image) for image in images] == list(range(40))
    assert video.image_size == (64, 48) and video.mean_framerate == 25 and video.frame_count_estimate == 40
    assert video.warnings == []


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_variable_frame_rate_is_exact(tmp_path, name):
    pts = np.cumsum(np.random.default_rng(1).integers(5, 200, 30)).tolist()
    _, timestamps, images = read_all(make_numbered(tmp_path / name, 30, pts=pts))
    assert timestamps == [float((p - pts[0]) * MILLISECOND) for p in pts]
    assert [frame_number(image) for image in images] == list(range(30))


def test_avi_without_presentation_times(tmp_path):
    path = make_numbered(tmp_path / "a.avi", codec="mpeg4", time_base=Fraction(1, 25))
    _, timestamps, images = read_all(path)
    assert timestamps == [float(Fraction(number, 25)) for number in range(40)]


def test_frames_can_be_read_again(tmp_path):
    video = open_video(make_numbered(tmp_path / "a.mp4", 5))
    next(video.frames())
    assert len(list(video.frames())) == len(list(video.frames())) == 5


def test_one_frame(tmp_path):
    video, timestamps, images = read_all(make_numbered(tmp_path / "one.mp4", 1))
    assert timestamps == [0.0] and len(images) == 1 and 0 < video.mean_framerate <= 1000 and video.frame_count_estimate == 1


class TestClock:
    """Repair of times. Ticks are milliseconds, the mean frame 40 of them."""

    @staticmethod
    def place(pts):
        clock = _Clock(MILLISECOND, Fraction(40, 1000))
        return [round(float(clock.place(p)) * 1000) for p in pts], clock

    def test_good_times_are_kept(self):
        assert self.place([500, 540, 541, 900])[0] == [0, 40, 41, 400]

    def test_missing_times_follow_at_the_mean_rate(self):
        times, clock = self.place([None, None, 100, None, 180])
        assert times == [0, 40, 80, 120, 160] and clock.missing == 3

    def test_a_double_time_is_moved_and_the_clock_met_again(self):
        times, clock = self.place([0, 40, 40, 80, 120])
        assert times == [0, 40, 60, 80, 120] and clock.disordered == 1

    def test_a_clock_that_starts_again_follows_on(self):
        times, clock = self.place([5000, 5040, 9000, 0, 40, 80])
        assert times == [0, 40, 4000, 4040, 4080, 4120] and clock.restarts == 1

    @given(st.lists(st.none() | st.integers(-(10**6), 10**6), min_size=2, max_size=50))
    @settings(deadline=None)
    def test_always_increases(self, pts):
        clock = _Clock(MILLISECOND, Fraction(1, 25))
        times = [float(clock.place(p)) for p in pts]
        assert times[0] == 0 and (np.diff(times) > 0).all()


def test_double_times_in_a_file_are_repaired_and_said(tmp_path, monkeypatch):
    path = make_numbered(tmp_path / "a.mkv", 6)
    monkeypatch.setattr("fullbody_core.video._frame_pts", lambda frame: min(frame.pts, 120))
    video, timestamps, _ = read_all(path)
    assert np.allclose(timestamps, [0, 0.04, 0.08, 0.12, 0.14, 0.16])
    assert len(video.warnings) == 1 and "2 of its 6" in video.warnings[0]


# Upright pictures

TURNS = {  # degrees counter-clockwise that the player turns, and the corners then seen
    0: ["red", "green", "blue", "white"],
    90: ["green", "white", "red", "blue"],
    -90: ["blue", "red", "white", "green"],
    180: ["white", "blue", "green", "red"],
}


@pytest.mark.parametrize("degrees", TURNS)
def test_orientation_flag_of_phones(tmp_path, degrees):
    path = make_video(tmp_path / "r.mp4", [corners_image()] * 3, prepare=lambda s: s.set_display_rotation(degrees))
    video, _, images = read_all(path)
    assert corner_colours(images[0]) == TURNS[degrees]
    assert video.image_size == ((48, 64) if degrees in (90, -90) else (64, 48))
    assert all(image.shape == (*video.image_size[::-1], 3) and image.flags.c_contiguous for image in images)


@pytest.mark.parametrize("degrees", TURNS)
def test_mirrored_front_camera(tmp_path, degrees):
    def prepare(stream):
        stream.set_display_rotation(degrees, hflip=True)

    _, _, (image,) = read_all(make_video(tmp_path / "m.mp4", [corners_image()], prepare=prepare))
    left_top, right_top, left_bottom, right_bottom = TURNS[degrees]
    assert corner_colours(image) == [right_top, left_top, right_bottom, left_bottom]


def test_slanted_flag_is_said(tmp_path):
    path = make_video(tmp_path / "s.mp4", [corners_image()], prepare=lambda s: s.set_display_rotation(100))
    video, _, (image,) = read_all(path)
    assert corner_colours(image) == TURNS[90] and "slant" in video.warnings[0]


def test_anamorphic_pixels_become_square(tmp_path):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    video, _, (image,) = read_all(make_video(tmp_path / "a.mkv", [corners_image(60, 48)], prepare=prepare))
    assert video.image_size == (80, 48) and image.shape == (48, 80, 3) and corner_colours(image) == TURNS[0]


@pytest.mark.parametrize("width, height", [(63, 47), (1, 1), (65, 48)])
def test_odd_sizes(tmp_path, width, height):
    images = [np.full((height, width, 3), 40 * number, np.uint8) for number in range(3)]
    video, _, read = read_all(make_video(tmp_path / "odd.mkv", images, codec="ffv1", pix_fmt="bgr0"))
    assert video.image_size == (width, height)
    assert np.array_equal(read, images)


GREY_ALPHA_AND_DEEP = [
    ("ffv1", "gray"), ("png", "rgba"), ("ffv1", "yuva420p"), ("ffv1", "gray16le"), ("ffv1", "yuv444p10le"),
]  # fmt: skip


@pytest.mark.parametrize("codec, pix_fmt", GREY_ALPHA_AND_DEEP)
def test_grey_alpha_and_deep_formats(tmp_path, codec, pix_fmt):
    images = [np.full((32, 48, 3), level, np.uint8) for level in (0, 100, 255)]
    path = tmp_path / ("p.mov" if codec == "png" else "p.mkv")
    _, _, read = read_all(make_video(path, images, codec=codec, pix_fmt=pix_fmt))
    assert np.abs(np.subtract(read, images, dtype=int)).max() <= 2


# Damage


def assert_cut_keeps(path, at_least):
    video, timestamps, images = read_all(path)
    assert at_least <= len(images) < 40
    assert (np.diff(timestamps) > 0).all()
    assert [frame_number(image) for image in images[:-2]] == list(range(len(images) - 2))
    assert any("cut short" in warning for warning in video.warnings)


@pytest.mark.parametrize("name, codec", [("a.ts", "libx264"), ("a.avi", "mpeg4"), ("a.mkv", "libx264"), ("b.mkv", "ffv1")])
def test_cut_files_give_what_is_left(tmp_path, name, codec):
    time_base = Fraction(1, 25) if name == "a.avi" else Fraction(1, 1000)
    shortened = cut_in_a_picture if name == "a.ts" else cut
    assert_cut_keeps(shortened(make_numbered(tmp_path / name, codec=codec, time_base=time_base), 0.6), at_least=14)


@pytest.mark.parametrize("flags", ["+faststart", "+frag_keyframe+empty_moov"])
def test_cut_mp4_with_its_index_first(tmp_path, flags):
    assert_cut_keeps(cut(make_numbered(tmp_path / "a.mp4", options={"movflags": flags}), 0.6), at_least=14)


def test_cut_mp4_without_its_index(tmp_path):
    path = cut(make_numbered(tmp_path / "a.mp4"), 0.6)
    with pytest.raises(VideoError, match="cut short before its index was written"):
        open_video(path)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "ffv1"])
def test_damage_in_the_middle(tmp_path, codec):
    """The format is free to lose all up to its next point of return, but not without a word."""
    path = make_numbered(tmp_path / "a.mkv", codec=codec)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    video, timestamps, images = read_all(path)
    assert (np.diff(timestamps) > 0).all()
    assert 10 <= len(images) < 40 and [frame_number(image) for image in images[:10]] == list(range(10))
    assert video.warnings


def test_packets_that_do_not_decode_are_counted(tmp_path):
    """Every third packet of a film without references is spoilt; the others still come, and at their own times."""
    good = make_numbered(tmp_path / "good.mov", codec="png", pix_fmt="rgb24")
    bad = tmp_path / "bad.mov"
    with av.open(str(good)) as source, av.open(str(bad), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            new = av.Packet(b"spoilt" if number % 3 == 1 else bytes(packet))
            new.pts, new.dts, new.time_base, new.duration = packet.pts, packet.dts, packet.time_base, packet.duration
            new.is_keyframe, new.stream = True, stream
            target.mux(new)
    video, timestamps, images = read_all(bad)
    kept = [number for number in range(40) if number % 3 != 1]
    assert [frame_number(image) for image in images] == kept
    assert timestamps == [float(Fraction(number, 25)) for number in kept]
    assert len(video.warnings) == 1 and "13 of its packets" in video.warnings[0]


# Not a video


def one_sentence(error):
    text = str(error.value)
    return text.endswith(".") and "\n" not in text and len(text) < 400


def test_missing(tmp_path):
    with pytest.raises(VideoError, match="There is no video at") as error:
        open_video(tmp_path / "missing.mp4")
    assert one_sentence(error)


def test_folder(tmp_path):
    with pytest.raises(VideoError, match="is a folder") as error:
        open_video(tmp_path)
    assert one_sentence(error)


def test_empty_file(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match="is empty") as error:
        open_video(tmp_path / "empty.mp4")
    assert one_sentence(error)


@pytest.mark.parametrize("name", ["text.mp4", "text.txt", "text.mkv"])
def test_text(tmp_path, name):
    (tmp_path / name).write_text("This is not a video.\n" * 200)
    with pytest.raises(VideoError, match="is not a video") as error:
        open_video(tmp_path / name)
    assert one_sentence(error)


def test_playlist_that_points_elsewhere(tmp_path):
    make_numbered(tmp_path / "a.ts", 5)
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    with pytest.raises(VideoError):
        open_video(tmp_path / "list.m3u8")


@pytest.mark.parametrize("name", ["sound.mp4", "sound.wav"])
def test_sound_only(tmp_path, name):
    with pytest.raises(VideoError, match="no pictures") as error:
        open_video(make_sound(tmp_path / name))
    assert one_sentence(error)


def test_no_frames(tmp_path):
    path = make_numbered(tmp_path / "a.avi", 3, codec="mpeg4", time_base=Fraction(1, 25))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(VideoError) as error:
        open_video(path)
    assert one_sentence(error)


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_forbidden(tmp_path):
    path = make_numbered(tmp_path / "a.mp4", 2)
    path.chmod(0)
    with pytest.raises(VideoError, match="permission"):
        open_video(path)


def test_a_pipe_does_not_hang(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="is not a file"):
        open_video(tmp_path / "pipe.mp4")


@pytest.mark.parametrize("name", ["take:1.mp4", "100%d é 人.mp4", "http:x.mp4"])
def test_unusual_names(tmp_path, name):
    if os.name == "nt":
        pytest.skip("not a name on Windows")
    made = make_numbered(tmp_path / "a.mp4", 2)
    made.rename(tmp_path / name)
    assert len(read_all(tmp_path / name)[1]) == 2


# One picture by time


def test_read_frame(tmp_path):
    path = make_numbered(tmp_path / "a.mp4", 10)
    for time_s, expected in [(-1, 0), (0, 0), (0.039, 0), (0.04, 1), (0.35, 8), (0.36, 9), (99, 9)]:
        timestamp, image = read_frame(path, time_s)
        assert timestamp == float(Fraction(expected, 25)) and frame_number(image) == expected


# Writing


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writer_round_trip(tmp_path):
    timestamps = [0.0, 0.04, 0.1, 0.11, 0.5, 1.75]
    images = [numbered_image(number, 65, 47) for number in range(6)]
    with VideoWriter(tmp_path / "out.mp4", (65, 47), 25) as writer:
        for timestamp, image in zip(timestamps, images):
            writer.write(timestamp, image)
        assert not (tmp_path / "out.mp4").exists()
    assert leftovers(tmp_path) == ["out.mp4"]
    video, read_times, read_images = read_all(tmp_path / "out.mp4")
    assert np.allclose(read_times, timestamps, atol=0.5 / 90000) and video.warnings == []
    assert video.image_size == (66, 48)
    assert [frame_number(image) for image in read_images] == list(range(6))


@pytest.mark.parametrize("width, height", [(72, 48), (1284, 720)])
def test_writer_keeps_colours(tmp_path, width, height):
    palette = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    image = np.kron(palette, np.ones((height // 4, width // 6, 1), np.uint8))
    with VideoWriter(tmp_path / "c.mp4", (width, height)) as writer:
        writer.write(0, image)
    _, (read,) = read_frame(tmp_path / "c.mp4", 0)[0], read_all(tmp_path / "c.mp4")[2]
    centres = np.s_[height // 8 :: height // 4, width // 12 :: width // 6]
    error = np.abs(np.subtract(read[centres], image[centres], dtype=int))
    assert error.max() <= 16 and error.mean() <= 4  # the wrong one of BT.601 and BT.709 is off by about 7 on average


@pytest.mark.parametrize("error_type", [ValueError, KeyboardInterrupt])
def test_writer_leaves_nothing_after_an_interruption(tmp_path, error_type):
    with pytest.raises(error_type):
        with VideoWriter(tmp_path / "out.mp4", (64, 48)) as writer:
            writer.write(0, numbered_image(0))
            raise error_type
    assert leftovers(tmp_path) == []


def test_writer_keeps_the_old_file_after_an_error(tmp_path):
    (tmp_path / "out.mp4").write_text("old")
    with pytest.raises(VideoError, match="increase"):
        with VideoWriter(tmp_path / "out.mp4", (64, 48)) as writer:
            writer.write(1, numbered_image(0))
            writer.write(1, numbered_image(1))
    assert leftovers(tmp_path) == ["out.mp4"] and (tmp_path / "out.mp4").read_text() == "old"


def test_writer_without_frames(tmp_path):
    with pytest.raises(VideoError, match="No frame"):
        with VideoWriter(tmp_path / "out.mp4", (64, 48)):
            pass
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("timestamp", [-0.1, float("nan"), float("inf")])
def test_writer_refuses_impossible_times(tmp_path, timestamp):
    with pytest.raises(VideoError, match="Timestamps"):
        with VideoWriter(tmp_path / "out.mp4", (64, 48)) as writer:
            writer.write(timestamp, numbered_image(0))


def test_writer_refuses_wrong_images(tmp_path):
    for image in (np.zeros((48, 65, 3), np.uint8), np.zeros((48, 64, 3)), np.zeros((48, 64), np.uint8)):
        with pytest.raises(VideoError, match="should be uint8"):
            with VideoWriter(tmp_path / "out.mp4", (64, 48)) as writer:
                writer.write(0, image)
    assert leftovers(tmp_path) == []


def test_writer_refuses_impossible_places(tmp_path):
    for path in (tmp_path, tmp_path / "no" / "such" / "folder.mp4"):
        with pytest.raises(VideoError, match="Cannot write"):
            VideoWriter(path, (64, 48))
    with pytest.raises(VideoError, match="above zero"):
        VideoWriter(tmp_path / "a.mp4", (0, 48))
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="limits on file size are POSIX's")
def test_writer_on_a_full_disk(tmp_path):
    """A limit on the size of files stands for a full disk: one sentence, and nothing left."""
    code = f"""
import resource, signal, sys
import numpy as np
from fullbody_core.video import VideoError, VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    with VideoWriter({str(tmp_path / "out.mp4")!r}, (320, 240)) as writer:
        for number in range(60):
            writer.write(number / 30, np.random.default_rng(number).integers(0, 256, (240, 320, 3), dtype=np.uint8))
except VideoError as error:
    print("VideoError:", error)
    sys.exit(7)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(sys.modules[VideoWriter.__module__].__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 7 and "Cannot write" in result.stdout, result.stderr
    assert leftovers(tmp_path) == []
