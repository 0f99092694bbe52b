"""`fullbody evaluate ik` and `fullbody train iknet` as commands, on motions that the test makes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fullbody_core.cli import main
from fullbody_core.contract.npz_file import write_npz
from fullbody_core.contract.skeleton import BLAZEPOSE_33, SMPL_33, full_keypoint_names
from fullbody_core.evaluate.clip import still_jitter
from fullbody_core.evaluate.ik import IKEvaluation, evaluate_ik, format_ik_reports
from fullbody_core.ik.iknet import HAND_WEIGHTS, load_iknet
from fullbody_core.synth.demo_clip import demo_motion
from fullbody_core.train.iknet_samples import HandPoses
from fullbody_core.train.motions import is_held_out

MOCAP = Path(__file__).parents[3] / "shared" / "data" / "mocap"
"""More motions than a test can make, where they are at hand."""


@pytest.fixture(scope="module")
def motions(body, tmp_path_factory):
    """A folder with the demo's motion, once for training and once held out."""
    folder = tmp_path_factory.mktemp("motions")
    clip = demo_motion(body)
    names = [f"demo_{index}" for index in range(40)]
    for name in (next(filter(is_held_out, names)), next(name for name in names if not is_held_out(name))):
        write_npz(folder / f"{name}.npz", {"poses": clip.poses, "mocap_framerate": np.array(24.0)})
    return folder


@pytest.fixture
def brief(monkeypatch):
    """An optimisation that hardly begins, and few timings: what they would come to does not matter."""
    monkeypatch.setattr("fullbody_core.evaluate.ik.OPTIMISATION_STEPS", 10)
    monkeypatch.setattr("fullbody_core.evaluate.ik.TIMED_CALLS", 5)


def test_the_table_has_every_method_on_every_kind_of_input(motions, noise, brief):
    reports, timing = evaluate_ik(motions, noise, count=24)
    table = format_ik_reports(reports, timing)
    print(table)
    kinds = {(r.keypoints_of, r.noisy, r.method, r.true_shape) for r in reports}
    for definition, methods in (
        ("blazepose_33_knuckles", {("IKNet", False), ("IKNet", True), ("optimisation", False), ("closed form", True)}),
        ("hand_21", {("IKNet", False), ("IKNet", True), ("optimisation", False), ("closed form", True)}),
        ("smpl_33", {("IKNet", False), ("IKNet", True), ("optimisation", False)}),
    ):
        for noisy in (False, True):
            assert {(m, t) for d, n, m, t in kinds if d == definition and n == noisy} == methods
    assert len(table.splitlines()) == len(reports) + 2 and "closed form" in table
    assert all(report.noisy == (report.input > 0.01) for report in reports)


def test_the_truth_measures_as_no_error(body, noise):
    network, _, _ = load_iknet(HAND_WEIGHTS)
    poses = HandPoses(body, pool_size=50).draw(20, torch.Generator().manual_seed(0), augment=False)
    evaluation = IKEvaluation(network, body, poses, noise, noisy=False)
    sample = evaluation.sample
    from fullbody_core.networks.iknet import IKNetPose

    report = evaluation.measure("truth", False, IKNetPose(sample.rotations, sample.betas, sample.scale))
    assert max(report.joints, report.keypoints, report.input, report.limbs) < 1e-3 and report.rotation < 0.1


def test_hands_are_as_good_as_asked(body, noise, brief):
    """3 mm on exact keypoints; on noisy ones nearer to the truth than these, and than the closed form."""
    network, _, _ = load_iknet(HAND_WEIGHTS)
    poses = HandPoses(body, seed=11, pool_size=150).draw(150, torch.Generator().manual_seed(11), augment=False)
    exact = {r.method: r for r in IKEvaluation(network, body, poses, noise, False).reports() if r.method != "closed form"}
    noisy = {r.method: r for r in IKEvaluation(network, body, poses, noise, True).reports()}
    assert exact["IKNet"].joints < 3 and exact["IKNet"].keypoints < 3
    assert noisy["IKNet"].keypoints < noisy["IKNet"].input
    assert noisy["IKNet"].keypoints < noisy["closed form"].keypoints


@pytest.mark.slow
@pytest.mark.skipif(not MOCAP.is_dir(), reason="no motion data beside the project")
def test_bodies_are_as_good_as_asked_on_held_out_motions(noise):
    reports, timing = evaluate_ik(MOCAP, noise, count=200)
    print(format_ik_reports(reports, timing))
    named = {(r.keypoints_of, r.noisy, r.method, r.true_shape): r for r in reports}
    for definition in ("blazepose_33_knuckles", "smpl_33"):
        exact, noisy = (named[definition, is_noisy, "IKNet", False] for is_noisy in (False, True))
        assert exact.joints <= 12 and exact.rotation <= 7 and exact.limbs <= 0.03
        assert noisy.keypoints < noisy.input
    closed_form = named["blazepose_33_knuckles", True, "closed form", True]
    assert named["blazepose_33_knuckles", True, "IKNet", False].joints < closed_form.joints


def test_a_hand_is_trained_from_the_command_line_and_goes_on(tmp_path, capsys):
    command = ["train", "iknet", "--part", "hand", "-o", str(tmp_path / "run"), "--steps", "3", "--batch", "8"]
    assert main(command) == 0
    assert "step 3/3" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith("checkpoint-00000003-")}
    assert names == {"train.log", "iknet_hand_21.safetensors"}
    assert main(command) == 0  # there is nothing left to do


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "iknet", "--part", "body"], "--data"),
        (["train", "iknet", "--part", "body", "--data", "{tmp}/empty"], "no training motions"),
        (["train", "iknet", "--part", "hand", "--noise", "{tmp}/none.npz"], "none.npz"),
        (["train", "iknet", "--part", "hand", "--steps", "0"], "at least 1"),
    ],
)
def test_training_that_cannot_start_says_why_in_one_sentence(tmp_path, capsys, arguments, says):
    (tmp_path / "empty").mkdir()
    arguments = [argument.format(tmp=tmp_path) for argument in arguments] + ["-o", str(tmp_path / "run")]
    assert main(arguments) == 2
    message = capsys.readouterr().err.strip()
    assert says in message and len(message.splitlines()) == 1


def test_evaluation_without_motions_says_so(tmp_path, capsys):
    assert main(["evaluate", "ik", "--data", str(tmp_path)]) == 2
    assert "no held-out motions" in capsys.readouterr().err


@pytest.mark.parametrize("definition", [BLAZEPOSE_33, SMPL_33], ids=lambda definition: definition.name)
def test_jitter_is_that_of_still_passages(body, definition):
    clip = demo_motion(body)
    frames = clip.frame_count
    clip.person_box[:] = [0, 0, 100, 200]
    clip.keypoint_names = full_keypoint_names(definition)
    clip.keypoints2d = np.ones((frames, len(clip.keypoint_names), 3)) * 50
    clip.keypoints2d[..., 2] = 1
    clip.joints_camera = np.zeros((frames, 52, 3))
    clip.timestamps = np.arange(frames) / 10
    assert still_jitter(clip) == (0.0, frames - 2)
    clip.joints_camera[:, 5, 0] = 0.005 * clip.timestamps**2 * 100  # 1 m/s^2 in one joint of 22
    jitter, count = still_jitter(clip)
    assert jitter == pytest.approx(1 / 22, rel=1e-6) and count == frames - 2
    clip.keypoints2d[:, :, 0] += np.arange(frames)[:, None] * 20  # a body height a second
    assert np.isnan(still_jitter(clip)[0]) and still_jitter(clip)[1] == 0
