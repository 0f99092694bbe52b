"""Real runs that several test files look at: the shipped demo, captured once."""

import importlib.resources

import pytest

from fullbody_core.pipeline import capture


@pytest.fixture(scope="session")
def demo_video():
    return importlib.resources.files("fullbody_core") / "assets" / "demo.mp4"


@pytest.fixture(scope="session")
def demo_capture(demo_video):
    """(CaptureClip, warnings) of the demo by the default settings."""
    return capture(demo_video)
