"""GPUs that Ray counts are compared with those that torch can use, before anything starts."""

import json
import subprocess
import sys

import pytest
import torch

from ser.utils.errors import UserError
from study.backend.gpus import TorchGpus, compare_gpus, probe_gpus
from study.environment import CODE_ROOT

GOOD = TorchGpus(2, True, "torch 2.9, built for CUDA 12.8", "")
OLD = TorchGpus(2, False, "torch 2.9, built for CUDA 12.8", "")
NO_DRIVER = TorchGpus(
    0, False, "torch 2.9, built for CUDA 13.0", "The driver is too old (found version 11040).\nUpdate it."
)


def test_nodes_whose_gpus_all_work_pass():
    compare_gpus({"this machine": 2.0, "node b": 2.0}, {"this machine": GOOD, "node b": GOOD}, same_precision=True)
    compare_gpus({"this machine": 1.0}, {"this machine": GOOD}, same_precision=True)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (NO_DRIVER, ["counts 2 GPU(s) on node b, but torch can use 0", "too old (found version 11040)", "CUDA 13.0"]),
        (TorchGpus(1, True, "torch", "GPU 1: out of memory"), ["torch can use 1 (GPU 1: out of memory"]),
        (TorchGpus(1, True, "torch", ""), ["torch can use 1 (it sees no other"]),
    ],
)
def test_a_node_with_a_gpu_that_torch_cannot_use_is_named_with_torchs_words(found, said):
    with pytest.raises(UserError) as raised:
        compare_gpus({"this machine": 2.0, "node b": 2.0}, {"this machine": GOOD, "node b": found}, same_precision=True)
    for words in (*said, "--gpus-per-trial 0", "pytorch.org"):
        assert words in str(raised.value)
    assert "Update." not in str(raised.value)


def test_gpus_that_would_choose_another_precision_are_an_error_unless_it_is_given():
    counted, found = {"this machine": 2.0, "node b": 2.0}, {"this machine": GOOD, "node b": OLD}
    with pytest.raises(UserError, match=r"GPUs of node b do not compute in bfloat16.*--precision float32"):
        compare_gpus(counted, found, same_precision=True)
    compare_gpus(counted, found, same_precision=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_gpus_gives_torchs_reason():
    found = probe_gpus()
    assert found.usable == 0
    assert found.error
    assert found.build.startswith(f"torch {torch.__version__}, built ")


STUDY = """
import json, sys, time
import ray
from ser.utils.errors import UserError
from study.backend.cluster import start_ray
from study.backend.trial_resources import GpuDemand
from study.options import StudyOptions

ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
said = {}
for name, options in {"default": {}, "none": {"gpus_per_trial": 0.0}}.items():
    began = time.monotonic()
    try:
        resources = start_ray(StudyOptions(**options), [], GpuDemand())
        said[name] = [resources.gpus, time.monotonic() - began]
    except UserError as error:
        said[name] = [str(error), time.monotonic() - began]
print(json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_study_where_ray_counts_a_gpu_that_torch_lacks_ends_before_it_starts():
    done = subprocess.run([sys.executable, "-c", STUDY], cwd=CODE_ROOT, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert "Ray counts 1 GPU(s) on this machine, but torch can use 0" in said["default"][0]
    assert "--gpus-per-trial 0" in said["default"][0]
    assert said["none"][0] == 0.0  # nothing is asked where no GPU is used
