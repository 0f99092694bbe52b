"""The real detector on real renders: a few scenes from end to end."""

import numpy as np
import pytest

from fullbody_core.body.load_body import load_body
from fullbody_core.cli import main
from fullbody_core.contract.npz_file import write_npz
from fullbody_core.synth.demo_clip import demo_motion
from fullbody_core.synth.detector_noise import DetectorNoise
from fullbody_core.train.motions import is_held_out


@pytest.fixture(scope="module")
def motions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motions")
    clip = demo_motion(load_body("open"))
    name = next(name for name in map("demo_{}".format, range(9)) if not is_held_out(name))
    write_npz(folder / f"{name}.npz", {"poses": clip.poses, "mocap_framerate": np.array(24.0)})
    return folder


@pytest.mark.slow
def test_the_detector_is_measured_on_renders(motions, tmp_path, capsys):
    """People are found, near their true places, and the noise model can be read back."""
    output = tmp_path / "noise.npz"
    assert main(["evaluate", "detector", "--data", str(motions), "--scenes", "5", "-o", str(output)]) == 0
    report = capsys.readouterr().out
    assert "5 scenes" in report and "left_wrist" in report
    noise = DetectorNoise.load(output)
    assert noise.body.miss_rate < 0.2 and noise.body.gross_rate < 0.3
    assert abs(noise.body.log_scale) < 0.3, "a detector's metre is about a metre"
    assert np.degrees(np.linalg.norm(noise.body.tilt_mean)) < 25


def test_too_few_scenes_are_refused_in_one_sentence(motions, capsys):
    assert main(["evaluate", "detector", "--data", str(motions), "--scenes", "1"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
