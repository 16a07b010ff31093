"""A loss and a network of one's own, named by their import paths."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ser.config import Config
from ser.losses import Loss, build_loss, loss_class
from ser.models import Classifier, build_model, model_class
from ser.training.loop import train
from ser.training.task import Task
from ser.utils.errors import UserError

LOSS = '''
    from dataclasses import dataclass

    import torch
    from ser.losses import Loss, make_output


    @dataclass(frozen=True)
    class AbsoluteError(Loss):
        """Mean absolute error, Σ |q − p|."""

        scale: float = 1.0

        def _compute(self, z, q, step, index):
            return make_output(self.scale * (torch.softmax(z, dim=1) - q).abs().sum(dim=1), q)


    @dataclass(frozen=True)
    class Rising(AbsoluteError):
        total_steps: int = 1

        def _compute(self, z, q, step, index):
            output = super()._compute(z, q, step, index)
            return make_output(output.per_sample * (step / self.total_steps), q)


    @dataclass(frozen=True)
    class Scheduled(AbsoluteError):
        total_steps: int = 1

        def schedule(self, step):
            return (step / self.total_steps,)

        def _compute(self, z, q, step, index):
            (share,) = step
            return make_output(super()._compute(z, q, step, index).per_sample * share, q)
'''
NETWORK = '''
    import torch
    from torch import nn
    from ser.models import Classifier


    class MeanNet(Classifier):
        """A linear layer on the mean over time."""

        def __init__(self, num_classes, width=1.0, dropout=1.0):
            super().__init__(dropout)
            self.embedding_size = round(32 * width)
            self.layer = nn.Linear(64, self.embedding_size)
            self.head_dropout = nn.Dropout(0.5 * dropout)
            self.head = nn.Linear(self.embedding_size, num_classes)

        def embed(self, features, lengths=None):
            return torch.tanh(self.layer(features.mean(dim=1) / 100))


    class NoWidth(MeanNet):
        def __init__(self, num_classes):
            super().__init__(num_classes)
'''
SIZES: dict[str, Any] = {"total_steps": 10, "num_samples": 6, "num_classes": 2}


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "own_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "losses.py").write_text(textwrap.dedent(LOSS))
    (folder / "networks.py").write_text(textwrap.dedent(NETWORK))
    (folder / "broken.py").write_text("import a_module_that_does_not_exist")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_package"]:
        del sys.modules[name]


def test_an_own_loss_is_built_with_its_parameters() -> None:
    loss = build_loss("own_package.losses.AbsoluteError", {"scale": 2.0}, **SIZES)
    assert isinstance(loss, Loss)
    assert type(loss) is loss_class("own_package.losses.AbsoluteError")
    output = loss(torch.zeros(1, 2), torch.tensor([0]))
    assert output.loss.item() == pytest.approx(2.0)


def test_an_own_loss_gets_the_step_or_the_numbers_of_its_schedule() -> None:
    logits, labels = torch.zeros(1, 2), torch.tensor([0])  # Σ |q − p| = 1
    for name in ("Rising", "Scheduled"):
        loss = build_loss(f"own_package.losses.{name}", {}, **SIZES)
        assert [loss(logits, labels, step).loss.item() for step in (0, 5, 10)] == [0.0, 0.5, 1.0]
    scheduled = build_loss("own_package.losses.Scheduled", {}, **SIZES)
    assert scheduled(logits, labels, torch.tensor([0.5], dtype=torch.float64)).loss.item() == 0.5
    with pytest.raises(ValueError, match="Rising has no schedule: pass the step as an integer"):
        build_loss("own_package.losses.Rising", {}, **SIZES)(logits, labels, torch.tensor(5))


def test_an_own_network_is_built_with_width_and_dropout() -> None:
    network = build_model("own_package.networks.MeanNet", 3, width=0.25, dropout=0.5)
    assert isinstance(network, Classifier)
    assert type(network) is model_class("own_package.networks.MeanNet")
    assert (network.embedding_size, network.head_dropout.p) == (8, 0.25)
    assert network(torch.zeros(2, 10, 64)).shape == (2, 3)


def test_both_train_and_resume_from_a_configuration(task_at: Callable[..., Task]) -> None:
    values = {
        "model.name": "own_package.networks.MeanNet",
        "loss.name": "own_package.losses.AbsoluteError",
        "loss.scale": 0.5,
        "training.epochs": 2,
        "training.crop_seconds": 0.5,
        "training.precision": "float32",
    }
    config = Config.from_dotted(values)
    assert config == Config.from_dotted(config.to_dotted())
    assert config.model.features == "panns_16k"
    records = list(train(config, task_at(), seed=0))
    assert records[0].metrics["train/loss"] > records[1].metrics["train/loss"]
    (resumed,) = train(config, task_at(), seed=0, state=next(iter(train(config, task_at(), seed=0))).state)
    assert resumed.metrics == records[1].metrics


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss.name": "own_package.losses.AbsoluteEror"}, "has no 'AbsoluteEror'. Did you mean 'AbsoluteError'"),
        ({"loss.name": "own_package.loses.AbsoluteError"}, "module 'own_package.loses' cannot be imported"),
        ({"loss.name": "own_package.broken.AbsoluteError"}, "a_module_that_does_not_exist"),
        ({"loss.name": "own_package.networks.MeanNet"}, "must be a subclass of ser.losses.base.Loss"),
        ({"loss.name": "own_package.losses.AbsoluteError", "loss.scal": 1.0}, "'scal'. Did you mean 'scale'"),
        ({"model.name": "own_package.networks.MeanNett"}, "has no 'MeanNett'. Did you mean 'MeanNet'"),
        ({"model.name": "own_pakage.networks.MeanNet"}, "module 'own_pakage.networks' cannot be imported"),
        ({"model.name": "own_package.losses.AbsoluteError"}, "must be a subclass of ser.models.classifier.Classifier"),
        ({"model.name": "own_package.networks.NoWidth"}, r"must take the arguments \(num_classes, width, dropout\)"),
        ({"model.name": "own_package.networks.MeanNet", "model.front_end": "waveform_16k"}, "MeanNet reads panns_16k"),
    ],
)
def test_mistakes_in_an_import_path_are_reported(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config.from_dotted(values)
