"""Real runs that several test files look at: the shipped demo, captured once."""

import importlib.resources

import pytest

from fullbody_core.body.load_body import load_body
from fullbody_core.face.load_face import load_face
from fullbody_core.pipeline import CaptureSettings, capture
from fullbody_core.synth.detector_noise import DetectorNoise


@pytest.fixture(scope="session", autouse=True)
def users_data(tmp_path_factory):
    """A folder in place of this user's own data: what they have added there changes no test, and no test adds to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FULLBODY_DATA", str(tmp_path_factory.mktemp("users_data")))
        yield


@pytest.fixture(scope="session")
def body():
    """The open body."""
    return load_body("open")


@pytest.fixture(scope="session")
def face():
    """The open face."""
    return load_face("open")


@pytest.fixture(scope="session")
def noise():
    """MediaPipe's errors, as they come with the project."""
    return DetectorNoise.load(importlib.resources.files("fullbody_core") / "assets" / "mediapipe_noise.npz")


@pytest.fixture(scope="session")
def demo_video():
    return importlib.resources.files("fullbody_core") / "assets" / "demo.mp4"


@pytest.fixture(scope="session")
def demo_by_frames(demo_video):
    """(CaptureClip, warnings) of the demo without refinement, a frame at a time."""
    return capture(demo_video, CaptureSettings(refine=False))


@pytest.fixture(scope="session")
def demo_capture(demo_video):
    """(CaptureClip, warnings) of the demo by the default settings."""
    return capture(demo_video)
