"""The commands of DetNet, as a user gives them: train, stop, go on, evaluate, time."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fullbody_core.cli import main
from fullbody_core.tensor_shards import find_sets
from fullbody_core.train.checkpoint import load_checkpoint

TINY = ["train", "detnet", "--preset", "tiny", "--batch", "2", "--held-out", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which `fullbody train detnet` has run to its end."""
    folder = tmp_path_factory.mktemp("detnet")
    assert main([*TINY, "--steps", "3", "-o", str(folder)]) == 0
    return folder


def test_training_leaves_small_files_a_log_and_weights(trained):
    log = (trained / "train.log").read_text()
    assert "step 3/3" in log and "held out" in log and "constant pose" in log
    assert find_sets(trained, "detnet_*").keys() == {"detnet_tiny"}
    assert load_checkpoint(trained)[0] == 3
    assert all(path.stat().st_size < 16e6 for path in trained.iterdir())


def test_finished_training_can_be_asked_again(trained, capsys):
    assert main([*TINY, "--steps", "3", "-o", str(trained)]) == 0
    assert "detnet_tiny-1of1.safetensors" in capsys.readouterr().out


def test_other_settings_need_another_folder(trained, capsys):
    assert main([*TINY, "--steps", "3", "--seed", "1", "-o", str(trained)]) == 2
    assert "other settings" in capsys.readouterr().err


def start_training(folder):
    command = [sys.executable, "-m", "fullbody_core.cli", *TINY, "--steps", "100000", "-o", str(folder)]
    # Jobs in the background start with Ctrl-C ignored, and so would this child.
    restore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)} if os.name == "posix" else {}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **restore)


def looks(folder):
    """How often a training has measured its held-out samples so far."""
    log = folder / "train.log"
    return log.read_text().count("held out") if log.exists() else 0


def stop_when_under_way(process, folder):
    """Sends Ctrl-C once the training has got further, and returns the step that was saved."""
    before, deadline = looks(folder), time.monotonic() + 150
    while looks(folder) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    return load_checkpoint(folder)[0]


@pytest.mark.slow
def test_stopped_training_goes_on_where_it_was(tmp_path):
    first = stop_when_under_way(start_training(tmp_path), tmp_path)
    second = stop_when_under_way(start_training(tmp_path), tmp_path)
    assert 0 < first < second
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*"))


def test_evaluation_of_trained_weights(trained, capsys):
    weights = [str(path) for path in find_sets(trained)["detnet_tiny"]]
    assert main(["evaluate", "detnet", "--weights", *weights, "--samples", "4"]) == 0
    printed = capsys.readouterr().out
    assert "synthetic people" in printed and "constant pose" in printed and "mm" in printed


def test_timing_prints_the_papers_table(capsys):
    assert main(["bench", "detnet", "--size", "tiny", "--batch", "2", "--seconds", "0.2", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    for part in ("DetNet-B", "DetNet-H", "Eq. 6", "27.2", "million parameters", "GFLOP", "frames a second"):
        assert part in printed


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--dataset", "coco", "nowhere"], "cocodataset.org"),
        (["--dataset", "unheard", "nowhere"], "choose one of"),
        (["--data", "nowhere"], "AMASS"),
        (["--steps", "0"], "at least 1"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(arguments, message, tmp_path, capsys):
    assert main(["train", "detnet", "--preset", "tiny", "-o", str(tmp_path / "run"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_evaluation_of_something_else(tmp_path, capsys):
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    assert main(["evaluate", "detnet", "--weights", str(tmp_path / "a.safetensors")]) == 2
    assert "safetensors" in capsys.readouterr().err
