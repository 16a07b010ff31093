"""Tests of what a trial records of its machine: under MLflow's names, and never at the cost of the trial."""

import pytest
import torch

from study.trial import hardware
from study.trial.hardware import hardware_tags, system_metrics

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


def test_the_libraries_of_a_gpu_are_those_of_the_process_that_computes(monkeypatch, tmp_path):
    (tmp_path / "version").write_text("580.65.06\n")
    monkeypatch.setattr(hardware, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91200)
    tags = hardware_tags("cuda", 1)
    assert tags["hardware.gpu"] == "NVIDIA H200"
    assert {name: value for name, value in tags.items() if name.startswith("version.")} == {
        "version.cuda": "13.0", "version.cudnn": "91200", "version.nvidia-driver": "580.65.06",
    }  # fmt: skip
    monkeypatch.setattr(hardware, "DRIVER", tmp_path / "none")
    assert "version.nvidia-driver" not in hardware_tags("cuda", 1)
    assert not [name for name in hardware_tags("cpu", 1) if name.startswith("version.")]
