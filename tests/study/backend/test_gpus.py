"""GPUs that Ray counts are compared with those that torch can use, before anything starts."""

import json
import subprocess
import sys

import pytest
import torch

from ser.training.device.arithmetic import Arithmetic
from ser.utils.errors import UserError
from study.backend.arithmetic import Abilities, common_arithmetic, cpu_abilities
from study.backend.gpus import TorchGpus, compare_gpus, probe_gpus
from study.environment import CODE_ROOT

NEW, OLD = Abilities([True] * 2, [True] * 2), Abilities([False] * 2, [False] * 2)
GOOD = TorchGpus(2, NEW, "torch 2.9, built for CUDA 12.8", "")
NO_DRIVER = TorchGpus(
    0, Abilities([], []), "torch 2.9, built for CUDA 13.0", "The driver is too old (found version 11040).\nUpdate it."
)


def test_nodes_whose_gpus_all_work_pass():
    compare_gpus({"this machine": 2.0, "node b": 2.0}, {"this machine": GOOD, "node b": GOOD})
    compare_gpus({"this machine": 1.0}, {"this machine": GOOD})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (NO_DRIVER, ["counts 2 GPU(s) on node b, but torch can use 0", "too old (found version 11040)", "CUDA 13.0"]),
        (TorchGpus(1, NEW, "torch", "GPU 1: out of memory"), ["torch can use 1 (GPU 1: out of memory"]),
        (TorchGpus(1, NEW, "torch", ""), ["torch can use 1 (it sees no other"]),
    ],
)
def test_a_node_with_a_gpu_that_torch_cannot_use_is_named_with_torchs_words(found, said):
    with pytest.raises(UserError) as raised:
        compare_gpus({"this machine": 2.0, "node b": 2.0}, {"this machine": GOOD, "node b": found})
    for words in (*said, "--gpus-per-trial 0", "pytorch.org"):
        assert words in str(raised.value)
    assert "Update." not in str(raised.value)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("nodes", [{"this machine": NEW, "node b": OLD}, {"node b": Abilities([True, False], [])}])
def test_devices_that_would_choose_another_precision_are_an_error_unless_it_is_given(kind, nodes):
    with pytest.raises(UserError, match=r"the .PUs of node b do not compute in bfloat16.*float32"):
        common_arithmetic(kind, "auto", nodes)
    assert common_arithmetic(kind, "float32", nodes) == (Arithmetic(kind, "float32"), "")
    arithmetic, warning = common_arithmetic(kind, "bfloat16", nodes)
    assert arithmetic.name == f"{kind} bfloat16"
    assert "of node b emulates bfloat16" in warning


@pytest.mark.parametrize(
    ("kind", "abilities", "precision", "expected"),
    [
        ("cuda", NEW, "auto", "cuda bfloat16"),
        ("cuda", OLD, "auto", "cuda float32"),
        ("cuda", NEW, "tf32", "cuda tf32"),
        ("cpu", Abilities([True], [False]), "auto", "cpu bfloat16"),
        ("cpu", Abilities([False], [False]), "auto", "cpu float32"),
    ],
)
def test_equal_devices_have_one_arithmetic(kind, abilities, precision, expected):
    arithmetic, warning = common_arithmetic(kind, precision, {"this machine": abilities, "node b": abilities})
    assert (arithmetic.name, warning) == (expected, "")


def test_tf32_needs_gpus_that_have_it_on_every_node():
    with pytest.raises(UserError, match=r"tf32.*the GPUs of node b do not have it"):
        common_arithmetic("cuda", "tf32", {"this machine": NEW, "node b": OLD})
    with pytest.raises(UserError, match=r"tf32.*trials run on CPUs"):
        common_arithmetic("cpu", "tf32", {"this machine": cpu_abilities()})


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


SHARING = """
import json, os, time
import ray
from study.backend import cluster
from study.backend.arithmetic import Abilities
from study.backend.gpus import TorchGpus
from study.backend.trial_resources import GpuDemand
from study.options import StudyOptions

class Slot:
    def gpu(self):
        return os.environ["CUDA_VISIBLE_DEVICES"]

ray.init(address="local", num_cpus=8, num_gpus=2, include_dashboard=False, log_to_driver=False)
able = Abilities((True, True), (True, True))
cluster.probe_gpus = lambda: TorchGpus(2, able, "torch", "", 24 * 10**9)
resources = cluster.start_ray(StudyOptions(width=0.125), [], GpuDemand(memory=2 * 10**9, trials=40))
slots = ray.remote(Slot).options(num_cpus=resources.cpus, num_gpus=resources.gpus)
placed = [slots.remote() for _ in range(resources.count)]
found = ray.get([slot.gpu.remote() for slot in placed], timeout=120)
print(json.dumps([resources.in_words, found]))
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_trials_of_narrow_networks_share_the_gpus_that_ray_counts():
    done = subprocess.run([sys.executable, "-c", SHARING], cwd=CODE_ROOT, capture_output=True, text=True, check=True)
    words, found = json.loads(done.stdout.splitlines()[-1])
    assert words.startswith(
        "1 CPU, 0.25 GPU (4 share a GPU: narrow network, at most about 2.6 GB of 6.0 GB each); 8 at a time"
    )
    assert sorted(found) == ["0"] * 4 + ["1"] * 4
