"""A live stream's pictures: a video at its own pace, and a camera that may go away.

No camera is needed: OpenCV opens a video file by the same calls, and a file that is moved away is a camera that was pulled out.
"""

import sys
import threading
import time

import numpy as np
import pytest

from fullbody_core.live import sources
from fullbody_core.live.sources import CameraSource, SourceError, VideoSource, list_cameras
from fullbody_core.video import VideoError, VideoWriter

SIZE = (64, 48)


def write_video(path, times, size=SIZE):
    """A video whose pictures tell their number by their grey."""
    with VideoWriter(path, size, 30) as writer:
        for number, timestamp in enumerate(times):
            writer.write(float(timestamp), np.full((*size[::-1], 3), 20 + 10 * number, np.uint8))
    return path


def number_of(picture):
    return round((picture.image.mean() - 20) / 10)


@pytest.fixture
def stop():
    return threading.Event()


@pytest.fixture
def uneven(tmp_path):
    """Eight pictures over 0.6 s, not at one rate."""
    times = np.array([0, 0.03, 0.06, 0.2, 0.3, 0.31, 0.5, 0.6])
    return write_video(tmp_path / "uneven.mp4", times), times


class TestVideo:
    def test_it_plays_at_its_own_pace(self, uneven, stop):
        path, times = uneven
        source = VideoSource(path)
        assert source.image_size == SIZE and source.description["name"] == "uneven.mp4"
        pictures = list(source.pictures(stop))
        assert [picture.sequence for picture in pictures] == list(range(8))
        assert [number_of(picture) for picture in pictures] == list(range(8))
        assert [picture.timestamp for picture in pictures] == pytest.approx(times, abs=1e-3)
        arrived = np.array([picture.arrived for picture in pictures]) - pictures[0].arrived
        assert arrived == pytest.approx(times, abs=0.08)
        assert (arrived - times > -0.01).all(), "none comes before its time"
        assert pictures[0].image.shape == (48, 64, 3) and pictures[0].image.dtype == np.uint8

    def test_looping_goes_on_counting(self, uneven, stop):
        path, times = uneven
        pictures = []
        for picture in VideoSource(path, loop=True).pictures(stop):
            pictures.append(picture)
            if len(pictures) == 20:
                stop.set()
        assert [picture.sequence for picture in pictures] == list(range(20))
        assert [number_of(picture) for picture in pictures] == [index % 8 for index in range(20)]
        steps = np.diff([picture.timestamp for picture in pictures])
        assert (steps > 0).all()
        assert steps[7] == pytest.approx(steps[15]) and 0.01 < steps[7] < 0.2, (
            "between the last and the first lies about a frame"
        )
        assert steps[8:15] == pytest.approx(np.diff(times), abs=1e-3)

    def test_after_a_halt_it_goes_on_and_does_not_hurry(self, tmp_path, stop):
        path = write_video(tmp_path / "even.mp4", np.arange(12) / 20)
        arrived = []
        for picture in VideoSource(path).pictures(stop):
            arrived.append(picture.arrived)
            if picture.sequence == 2:
                time.sleep(1.2)
        assert np.diff(arrived)[4:] == pytest.approx(0.05, abs=0.04)

    def test_late_pictures_catch_up(self, tmp_path, stop):
        path = write_video(tmp_path / "even.mp4", np.arange(20) / 20)
        start = time.monotonic()
        for picture in VideoSource(path).pictures(stop):
            if picture.sequence == 2:
                time.sleep(0.3)
        assert time.monotonic() - start < 0.95 + 0.25

    def test_stopping_does_not_wait_for_the_next_picture(self, tmp_path, stop):
        path = write_video(tmp_path / "slow.mp4", [0, 20])
        threading.Timer(0.2, stop.set).start()
        start = time.monotonic()
        assert len(list(VideoSource(path).pictures(stop))) == 1
        assert time.monotonic() - start < 2

    def test_a_video_that_is_not_there(self, tmp_path):
        with pytest.raises(VideoError, match="no video at"):
            VideoSource(tmp_path / "missing.mp4")

    def test_a_video_that_goes_away_while_it_loops(self, uneven, stop):
        path, _ = uneven
        source = VideoSource(path, loop=True)
        with pytest.raises(VideoError):
            for picture in source.pictures(stop):
                if picture.sequence == 3:
                    path.unlink()
                assert picture.sequence < 30

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the process's size from Linux")
    def test_looping_holds_no_memory(self, tmp_path, stop):
        path = write_video(tmp_path / "fast.mp4", np.arange(10) / 1000, (640, 480))
        sizes = []
        for picture in VideoSource(path, loop=True).pictures(stop):
            if picture.sequence % 100 == 0:
                with open("/proc/self/statm") as file:
                    sizes.append(int(file.read().split()[1]) * 4096)
            if picture.sequence == 300:
                stop.set()
        assert len(sizes) == 4 and sizes[-1] - sizes[1] < 20e6


class TestCamera:
    """OpenCV reads the file as fast as it can, and opened again it starts anew."""

    @pytest.fixture
    def camera_file(self, tmp_path):
        return write_video(tmp_path / "camera.mp4", np.arange(10) / 30, (320, 240))

    def test_what_it_gives_is_told(self, camera_file):
        source = CameraSource(str(camera_file), (1280, 720), 60)
        assert source.image_size == (320, 240), "what it gives, and not what it was asked for"
        assert source.framerate == pytest.approx(30, abs=0.5)
        assert source.description["asked"] == "1280x720 at 60"
        assert source.description["given"].startswith("320x240 at 3")
        assert source.message == ""

    def test_its_pictures_are_rgb_and_in_order(self, tmp_path, stop):
        path = tmp_path / "red.mp4"
        with VideoWriter(path, SIZE, 30) as writer:
            for number in range(5):
                writer.write(number / 30, np.full((48, 64, 3), (220, 40, 30), np.uint8))
        pictures = []
        for picture in CameraSource(str(path), patience=0.3).pictures(stop):
            pictures.append(picture)
            if len(pictures) == 4:
                stop.set()
        assert [picture.sequence for picture in pictures] == [0, 1, 2, 3]
        assert (np.diff([picture.timestamp for picture in pictures]) > 0).all() and pictures[0].timestamp == 0
        assert np.abs(pictures[0].image.mean((0, 1)) - (220, 40, 30)).max() < 30
        assert all(abs(picture.arrived - time.monotonic()) < 5 for picture in pictures)

    def test_one_that_is_not_there(self):
        start = time.monotonic()
        with pytest.raises(SourceError, match="Camera 87 cannot be opened"):
            CameraSource(87)
        assert time.monotonic() - start < 8

    def test_one_that_gives_nothing(self, tmp_path):
        path = tmp_path / "nothing.mp4"
        path.write_bytes(b"no video")
        with pytest.raises(SourceError, match="cannot be opened|gives no picture"):
            CameraSource(str(path), patience=0.5)

    def test_one_that_is_pulled_out(self, camera_file, stop):
        source = CameraSource(str(camera_file), patience=2.5)
        messages, count = [], 0
        watcher = threading.Timer(1.8, lambda: messages.append(source.message))
        with pytest.raises(SourceError, match="does not answer any more"):
            for picture in source.pictures(stop):
                count = picture.sequence
                if count == 3:
                    camera_file.unlink()
                    watcher.start()
        assert 3 <= count < 20
        assert "has not answered" in messages[0]

    def test_one_that_comes_back(self, camera_file, tmp_path, stop):
        away, seen = tmp_path / "away.mp4", []
        source = CameraSource(str(camera_file), patience=8)
        for picture in source.pictures(stop):
            seen.append(picture)
            if picture.sequence == 3:
                camera_file.rename(away)
                threading.Timer(1.0, lambda: away.rename(camera_file)).start()
            if picture.sequence == 14:
                stop.set()
        assert [picture.sequence for picture in seen] == list(range(15))
        gaps = np.diff([picture.timestamp for picture in seen])
        assert (gaps > 0).all() and gaps.max() > 0.5
        assert source.message == ""

    def test_one_that_comes_back_with_other_pictures(self, camera_file, stop):
        source = CameraSource(str(camera_file), patience=8)
        with pytest.raises(SourceError, match="another size"):
            for picture in source.pictures(stop):
                if picture.sequence == 3:
                    camera_file.unlink()
                    write_video(camera_file, np.arange(5) / 30, SIZE)

    def test_stopping_while_it_is_away(self, camera_file, stop):
        source = CameraSource(str(camera_file), patience=30)
        for picture in source.pictures(stop):
            if picture.sequence == 3:
                camera_file.unlink()
                threading.Timer(0.8, stop.set).start()
        assert stop.is_set()


class TestListing:
    def test_linux_names_them(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sources.sys, "platform", "linux")
        for number, name, index in [(10, "Desk camera", "0"), (0, "Lid camera", "0"), (1, "Lid camera", "1")]:
            place = tmp_path / f"video{number}"
            place.mkdir()
            (place / "name").write_text(f"{name}\n")
            (place / "index").write_text(f"{index}\n")
        (tmp_path / "video3").mkdir()
        (tmp_path / "videoless").mkdir()
        assert list_cameras(tmp_path) == [
            {"number": 0, "name": "Lid camera"},
            {"number": 3, "name": "Camera 3"},
            {"number": 10, "name": "Desk camera"},
        ]

    def test_without_any_there_are_none(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sources.sys, "platform", "linux")
        assert list_cameras(tmp_path / "missing") == []
