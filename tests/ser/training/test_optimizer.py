"""The optimizer: torch's own AdamW to the bit, without torch's compiler; the learning rate by the step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ser.config import OptimizerConfig
from ser.models import build_model
from ser.training.optimizer import AdamW, learning_rate_factor, make_optimizer, set_learning_rate

ROOT = Path(__file__).resolve().parents[3]


def test_the_optimizer_is_torchs_adamw_to_the_bit_also_after_a_resumption() -> None:
    config = OptimizerConfig(lr=0.01, weight_decay=0.1, base_lr_factor=0.5)
    models = [build_model("cnn6", 2, 1 / 32) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    ours = make_optimizer(models[0], config)
    names = [{name for name, value in models[0].named_parameters() for own in group["params"] if value is own}
             for group in ours.param_groups]  # fmt: skip
    groups = [
        {**{key: group[key] for key in ("weight_decay", "factor")},
         "params": [value for name, value in models[1].named_parameters() if name in known]}
        for group, known in zip(ours.param_groups, names, strict=True)
    ]  # fmt: skip
    theirs = torch.optim.AdamW(groups, lr=config.lr, fused=True)
    x = torch.randn(4, 64, 64)
    for step in range(6):
        if step == 3:
            state = ours.state_dict()
            ours = make_optimizer(models[0], config)
            ours.load_state_dict(state)
        for model, optimizer in zip(models, (ours, theirs), strict=True):
            set_learning_rate(optimizer, config, step, 6)
            torch.manual_seed(step)
            optimizer.zero_grad(set_to_none=True)
            model(x).square().sum().backward()
            optimizer.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)
    assert isinstance(ours, AdamW)
    assert torch.is_grad_enabled()


def test_training_does_not_import_torchs_compiler(tmp_path: Path) -> None:
    """It would cost every process of a study half a second, before its first step."""
    code = f"""
import sys, numpy as np, study.backend.worker
from pathlib import Path
from dataclasses import replace
from ser.config import Config
from ser.corpora import load
from ser.features.store import open_store
from ser.splits import split
from ser.training.task import make_task
from ser.training.loop import train
corpus = load("synthetic")
task = make_task(corpus, split(corpus), open_store(corpus, "panns_16k", Path({str(tmp_path)!r})).path, "clean", 0)
few = np.arange(8)
task = replace(task, train=task.train.take(few), validation=task.validation.take(few))
settings = {{"model.width": 1 / 32, "training.epochs": 2, "training.batch_size": 4, "loss.name": "label_smoothing"}}
state = next(train(Config.from_dotted(settings), task, seed=0)).state
assert [record.epoch for record in train(Config.from_dotted(settings), task, seed=0, state=state)] == [2]
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1 / 11), (4, 5 / 11), (9, 10 / 11), (10, 1.0), (40, 0.75), (55, 0.5), (100, 0.0)],
)
def test_the_learning_rate_rises_then_follows_a_cosine_to_zero(step: int, expected: float) -> None:
    assert learning_rate_factor(OptimizerConfig(warmup_ratio=0.1), step, 100) == pytest.approx(expected)


@pytest.mark.parametrize(("step", "expected"), [(0, 1 / 11), (9, 10 / 11), (10, 1.0), (99, 1.0)])
def test_a_constant_learning_rate_stays_at_its_peak(step: int, expected: float) -> None:
    config = OptimizerConfig(schedule="constant", warmup_ratio=0.1)
    assert learning_rate_factor(config, step, 100) == pytest.approx(expected)


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert learning_rate_factor(OptimizerConfig(warmup_ratio=0), 0, 100) == 1.0
