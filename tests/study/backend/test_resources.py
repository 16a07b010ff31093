"""What a trial gets of CPUs and GPUs, and how many share a GPU."""

from typing import Any

import pytest

from ser.utils.errors import UserError
from study.backend.trial_resources import GpuDemand, TrialResources, trial_resources
from study.options import StudyOptions

GB = 10**9
NARROW = GpuDemand(memory=2 * GB, trials=100)  # 2.6 GB with CUDA's own
WIDE = GpuDemand(trials=100)


def node(cpus: float, gpus: float = 0.0) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus}


def resources(nodes: list[dict[str, float]], demand: GpuDemand = NARROW, memory: float = 80, **options: Any) -> Any:
    return trial_resources(nodes, StudyOptions(**options), demand, int(memory * GB))


@pytest.mark.parametrize(
    ("nodes", "memory", "gpus", "count"),
    [
        ([node(8, 1)], 80, 0.25, 4),
        ([node(8, 2)], 80, 0.25, 8),
        ([node(4, 2)], 80, 0.5, 4),  # a CPU for each trial; with quarters one GPU would stay idle
        ([node(7, 2)], 80, 0.3333, 6),
        ([node(2, 8)], 80, 1.0, 2),
        ([node(16, 1)], 10.3, 0.3333, 3),  # 2.6 GB fit three times
        ([node(16, 1)], 6, 0.5, 2),
        ([node(16, 1)], 5, 1.0, 1),
        ([node(16, 1)], 0, 1.0, 1),  # not known
        ([node(0), node(16, 2), node(8, 2)], 80, 0.25, 16),
        ([node(32), node(8, 1)], 80, 0.25, 4),
        ([node(8)], 0, 0.0, 8),
    ],
)
def test_narrow_networks_share_a_gpu_as_memory_and_cpus_allow(
    nodes: list[dict[str, float]], memory: float, gpus: float, count: int
) -> None:
    found = resources(nodes, memory=memory, width=0.125)
    assert found == TrialResources(1.0, gpus, count)
    # Ray gives all of them room: on each GPU, and in CPUs.
    assert count <= sum(node["GPU"] * int(1 / gpus + 1e-9) for node in nodes if gpus) or not gpus


def test_wide_networks_have_a_gpu_each_and_models_without_need_none() -> None:
    assert resources([node(8, 2)], WIDE) == TrialResources(1.0, 1.0, 2)
    assert resources([node(8, 2)], GpuDemand(any=False), width=0.125) == TrialResources(1.0, 0.0, 8)


@pytest.mark.parametrize(
    ("options", "demand", "gpus", "count"),
    [
        ({"max_concurrent": 1}, NARROW, 1.0, 1),
        ({"max_concurrent": 2}, NARROW, 1.0, 2),  # one on each of two GPUs
        ({"max_concurrent": 3}, NARROW, 0.5, 3),
        ({"cpus_per_trial": 4.0}, NARROW, 1.0, 2),
        ({"gpus_per_trial": 0.5}, WIDE, 0.5, 4),
        ({"gpus_per_trial": 1.0}, NARROW, 1.0, 2),
        ({"gpus_per_trial": 0.0}, NARROW, 0.0, 8),
        ({}, GpuDemand(memory=2 * GB, trials=2), 1.0, 2),
        ({}, GpuDemand(memory=2 * GB, trials=5), 0.3333, 6),
    ],
)
def test_no_gpu_is_idle_for_the_sake_of_sharing_and_options_win(
    options: dict[str, Any], demand: GpuDemand, gpus: float, count: int
) -> None:
    found = resources([node(8, 2)], demand, width=0.125, **options)
    assert (found.gpus, found.count) == (gpus, count)


def test_the_line_says_who_shares_and_what_each_needs() -> None:
    assert resources([node(8, 2)]).in_words == (
        "1 CPU, 0.25 GPU (4 share a GPU: narrow network, at most about 2.6 GB of 20 GB each); 8 at a time"
    )
    assert resources([node(8, 2)], WIDE).in_words == "1 CPU, 1 GPU; 2 at a time"
    assert resources([node(8, 1)], WIDE, gpus_per_trial=0.125).in_words == (
        "1 CPU, 0.125 GPU (8 share a GPU, 10 GB each); 8 at a time"
    )
    assert resources([node(8)], width=0.125).in_words == "1 CPU, 0 GPU; 8 at a time"


def test_a_share_without_room_for_cuda_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"--gpus-per-trial 0\.05 of a GPU with 12 GB is 0\.6 GB, and CUDA takes 0\.6 GB"
    ):
        resources([node(32, 1)], WIDE, memory=12, gpus_per_trial=0.05)
    assert resources([node(32, 1)], WIDE, memory=12, gpus_per_trial=0.0625).gpus == 0.0625
