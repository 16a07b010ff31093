"""Tests of what a trial records of its machine: under MLflow's names, and never at the cost of the trial."""

import pytest
import torch

from study.trial.hardware import system_metrics

CPU = {"cpu_utilization_percentage", "system_memory_usage_percentage", "system_memory_usage_megabytes"}
MEMORY = {"gpu_0_memory_usage_percentage": 25.0, "gpu_0_memory_usage_megabytes": 1000.0}


def fails(*_):
    raise RuntimeError("the driver does not answer")


@pytest.mark.parametrize(
    ("memory", "use", "expected"),
    [
        (lambda: (3 * 10**9, 4 * 10**9), lambda: 37, {**MEMORY, "gpu_0_utilization_percentage": 37.0}),
        (lambda: (3 * 10**9, 4 * 10**9), fails, MEMORY),
        (fails, fails, {}),
    ],
)
def test_a_gpu_is_measured_as_far_as_it_answers(monkeypatch, memory, use, expected):
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    monkeypatch.setattr(torch.cuda, "utilization", use)
    found = {name.removeprefix("system/"): value for name, value in system_metrics("cuda").items()}
    assert {name: value for name, value in found.items() if name not in CPU} == expected
    assert set(found) >= CPU
    assert 0 < found["system_memory_usage_percentage"] <= 100
