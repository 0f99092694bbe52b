"""What every training has in common: steps of Adam, a log line a minute, checkpoints from which it goes on where it was.

A step depends on the settings and its number alone, so that a run that was stopped and resumed ends with the same weights.
"""

import json
import time
from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path

import torch

from ..contract.npz_file import FileError
from .checkpoint import load_checkpoint, save_checkpoint


class TrainingError(FileError):
    """A training that cannot start or go on. The message is one sentence for the user."""


def check_schedule(settings):
    """Raises `TrainingError` for `steps`, `batch`, `learning_rate` and `final_rate` that cannot be."""
    if settings.steps < 1 or settings.batch < 1:
        raise TrainingError(f"Steps and batch should be at least 1, got {settings.steps} and {settings.batch}.")
    if not 0 < settings.final_rate <= settings.learning_rate:
        raise TrainingError(
            f"Learning rates should be above zero and not rise, got {settings.learning_rate} and {settings.final_rate}."
        )


class TrainingRun(ABC):
    """One run in a folder. A kind of training says what its losses are and how its learning rate goes."""

    largest_gradient = 10.0
    """Norm to which gradients are cut."""

    may_differ = ()
    """Names of settings that a resumed run may have changed."""

    look_every = None
    """Steps between looks at held-out samples, which `look(log)` takes; None where there is no such thing."""

    def __init__(self, settings, network, folder):
        """settings: a dataclass with `steps` and `learning_rate`; network: on its device. Raises `TrainingError` if the folder
        holds another run, `WeightsError` if its checkpoint is damaged."""
        self.settings, self.network, self.folder = settings, network, Path(folder)
        self.optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        self.step = 0
        self.progress = {}  # what else a checkpoint must remember: values for JSON, by name
        self._resume()

    @abstractmethod
    def losses(self):
        """The terms of this step's loss by name, with their weighted sum as "total"."""

    @abstractmethod
    def learning_rate(self, step):
        """Of Adam, at a step."""

    def run(self, log=print, log_seconds=60, save_seconds=300):
        """Trains to the end and returns the network. One log line a minute; Ctrl-C saves a checkpoint and passes on."""
        started, begin = self.step, time.monotonic()
        logged = saved = begin
        totals, counted = {}, 0
        try:
            while self.step < self.settings.steps:
                losses = self.train_step()
                totals = {name: totals.get(name, 0.0) + value for name, value in losses.items()}
                counted += 1
                now = time.monotonic()
                if now - logged > log_seconds or self.step == self.settings.steps:
                    pace = (self.step - started) / (now - begin)
                    log(self._describe({name: float(value) / counted for name, value in totals.items()}, pace))
                    logged, totals, counted = now, {}, 0
                if self.look_every and (self.step % self.look_every == 0 or self.step == self.settings.steps):
                    self.look(log)
                if now - saved > save_seconds:
                    self.save_checkpoint()
                    saved = now
        finally:
            self.save_checkpoint()
        return self.network.eval()

    def train_step(self):
        """One step of Adam; returns the terms of the loss."""
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(self.step)
        losses = self.losses()
        self.optimiser.zero_grad(set_to_none=True)
        losses["total"].backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.largest_gradient)
        self.optimiser.step()
        self.step += 1
        return {name: loss.detach() for name, loss in losses.items()}

    def _describe(self, losses, pace):
        terms = " ".join(f"{name} {value:.5g}" for name, value in losses.items())
        return f"step {self.step}/{self.settings.steps} {terms} lr {self.learning_rate(self.step):.2e} {pace:.2f} steps/s"

    def save_checkpoint(self):
        """Everything a resumed run needs. Raises `TrainingError` if the weights are no numbers, and keeps the checkpoint before."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        if not all(torch.isfinite(value).all() for value in tensors.values()):
            raise TrainingError("The weights are no longer finite numbers: train again in another folder at a lower rate.")
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
        metadata = {"settings": json.dumps(asdict(self.settings)), "progress": json.dumps(self.progress)}
        save_checkpoint(self.folder, self.step, tensors, metadata)

    def _resume(self):
        found = load_checkpoint(self.folder)
        if found is None:
            return
        step, tensors, metadata = found
        if self._fixed(json.loads(metadata["settings"])) != self._fixed(json.loads(json.dumps(asdict(self.settings)))):
            raise TrainingError(f"{self.folder} holds a training with other settings: choose another folder with -o.")
        self.progress = json.loads(metadata["progress"])
        weights = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
        self.network.load_state_dict(weights)
        states = self.optimiser.state_dict()
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, index, key = name.split(".")
                states["state"].setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict(states)
        self.step = step

    def _fixed(self, settings):
        return {name: value for name, value in settings.items() if name not in self.may_differ}
