"""The training of DetNet: it learns, it can be stopped and resumed, its files stay small."""

import dataclasses

import numpy as np
import pytest
import torch
from synthetic_samples import dotted_samples

from fullbody_core.networks.detnet_predictor import load_detnet
from fullbody_core.tensor_shards import find_sets
from fullbody_core.train.checkpoint import load_checkpoint, save_checkpoint
from fullbody_core.train.detnet import DetNetTrainer, DetNetTraining, write_weights
from fullbody_core.train.detnet_metrics import constant_predictions, predict_samples, report_samples
from fullbody_core.train.sample_pool import Ahead, SamplePool
from fullbody_core.train.training_run import TrainingError
from fullbody_core.weights import WeightsError

SETTINGS = DetNetTraining(size="tiny", steps=6, batch=3, warm_up=2, evaluate_every=4)


class Dots:
    """A source of synthetic samples that counts what it made."""

    def __init__(self):
        self.drawn = []

    def draw(self, count, seed):
        self.drawn.append(seed)
        return dotted_samples(count, seed)


class Fixed:
    """The same batch at every step."""

    def __init__(self, samples):
        self.samples = samples

    def draw(self, step):
        return self.samples


def trainer(folder, settings=SETTINGS):
    return DetNetTrainer(settings, SamplePool(Dots(), settings.batch, reuse=2), dotted_samples(4, 77), folder)


def weights_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_resumed_training_ends_with_the_same_weights(tmp_path):
    straight = weights_of(trainer(tmp_path / "straight").run(log=lambda line: None))
    halted = trainer(tmp_path / "halted")
    for _ in range(3):
        halted.train_step()
    halted.save_checkpoint()
    resumed = trainer(tmp_path / "halted")
    assert resumed.step == 3
    assert same(weights_of(resumed.run(log=lambda line: None)), straight)


def test_interrupt_saves_and_passes_on(tmp_path):
    class Interrupted(SamplePool):
        def draw(self, step):
            if step == 2:
                raise KeyboardInterrupt
            return super().draw(step)

    stopped = DetNetTrainer(SETTINGS, Interrupted(Dots(), 3, reuse=2), dotted_samples(4, 77), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(log=lambda line: None)
    assert trainer(tmp_path).step == 2


def test_weights_that_are_no_numbers_are_not_saved_over_good_ones(tmp_path):
    broken = trainer(tmp_path)
    broken.train_step()
    broken.save_checkpoint()
    broken.train_step()
    with torch.no_grad():
        broken.network.locate.bias[0] = float("nan")
    with pytest.raises(TrainingError, match="no longer finite"):
        broken.save_checkpoint()
    assert trainer(tmp_path).step == 1


def test_another_training_in_the_same_folder_is_refused(tmp_path):
    trainer(tmp_path).save_checkpoint()
    with pytest.raises(TrainingError, match="other settings"):
        trainer(tmp_path, dataclasses.replace(SETTINGS, seed=1))


def test_a_finished_training_can_be_given_more_steps(tmp_path):
    trainer(tmp_path).run(log=lambda line: None)
    longer = trainer(tmp_path, dataclasses.replace(SETTINGS, steps=9))
    assert longer.step == 6
    longer.run(log=lambda line: None)
    assert load_checkpoint(tmp_path)[0] == 9


def test_a_few_samples_are_learnt(tmp_path):
    samples = dotted_samples(2)
    settings = DetNetTraining(size="tiny", steps=80, batch=2, learning_rate=5e-3, warm_up=5, evaluate_every=1000)
    training = DetNetTrainer(settings, Fixed(samples), samples, tmp_path)
    before = training.validation_loss()
    network = training.run(log=lambda line: None)
    assert training.validation_loss() < 0.5 * before
    report = report_samples(samples, predict_samples(network, samples))
    constant = report_samples(samples, constant_predictions(samples, dotted_samples(64, 5)))
    assert report.pck2d > constant.pck2d + 0.2
    assert report.hand_pixels < 0.1 < constant.hand_pixels


def test_rate_falls_at_the_plateau_and_in_the_last_part(tmp_path):
    settings = DetNetTraining(size="tiny", steps=100, batch=2, warm_up=1, patience=2)
    training = DetNetTrainer(settings, Fixed(dotted_samples(2)), dotted_samples(2, 9), tmp_path)
    assert training.learning_rate(74) == 1e-3 and training.learning_rate(75) == 1e-4
    lines = []
    training.progress = {"best": 0.0, "waited": 0}  # nothing gets better than that
    training.look(lines.append)
    assert training.learning_rate(10) == 1e-3
    training.look(lines.append)
    assert training.learning_rate(10) == 1e-4 and "stopped decreasing" in lines[-1]
    training.save_checkpoint()
    again = DetNetTrainer(settings, Fixed(dotted_samples(2)), dotted_samples(2, 9), tmp_path)
    assert again.learning_rate(10) == 1e-4


@pytest.mark.parametrize("wrong", [{"size": "huge"}, {"definitions": ("none",)}, {"steps": 0}, {"final_rate": 1.0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(TrainingError):
        DetNetTraining(**wrong)


def test_trained_weights_load(tmp_path):
    network = trainer(tmp_path).run(log=lambda line: None)
    paths = write_weights(network, tmp_path)
    predictor, _ = load_detnet(find_sets(tmp_path)["detnet_tiny"])
    assert paths == find_sets(tmp_path)["detnet_tiny"] and predictor.definition.name == "smpl"


def test_newest_complete_checkpoint_counts(tmp_path):
    tensors = {"a": torch.arange(10.0), "b": torch.arange(5)}
    save_checkpoint(tmp_path, 7, tensors, {"note": "x"})
    save_checkpoint(tmp_path, 12, tensors | {"a": torch.zeros(10)}, {"note": "y"})
    assert len(list(tmp_path.iterdir())) == 1
    torn = tmp_path / "checkpoint-00000020-1of2.safetensors"
    torn.write_bytes((tmp_path / "checkpoint-00000012-1of1.safetensors").read_bytes())
    step, found, metadata = load_checkpoint(tmp_path)
    assert step == 12 and same(found, tensors | {"a": torch.zeros(10)}) and metadata == {"note": "y"}
    assert load_checkpoint(tmp_path / "nothing") is None
    (tmp_path / "checkpoint-00000012-1of1.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError):
        load_checkpoint(tmp_path)


def test_pool_reuses_and_forgets_and_depends_on_the_step_alone():
    source = Dots()
    pool = SamplePool(source, 4, reuse=3, blocks=2)
    drawn = [pool.draw(step) for step in range(18)]
    assert len(source.drawn) == len(set(source.drawn)) == 6
    for step in (17, 4, 0, 9):
        np.testing.assert_array_equal(SamplePool(Dots(), 4, reuse=3, blocks=2).draw(step).image, drawn[step].image)
    assert not np.array_equal(drawn[0].image, drawn[17].image)


def test_batches_made_ahead_are_the_same():
    plain, ahead = SamplePool(Dots(), 2, reuse=2), Ahead(SamplePool(Dots(), 2, reuse=2))
    for step in (0, 1, 2, 7, 8):
        np.testing.assert_array_equal(ahead.draw(step).image, plain.draw(step).image)
    ahead.close()


def test_a_failing_source_is_heard_of():
    class Broken:
        def draw(self, step):
            raise OSError("no picture")

    ahead = Ahead(Broken())
    with pytest.raises(OSError, match="no picture"):
        ahead.draw(0)
    ahead.close()
