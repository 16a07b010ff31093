"""Tests of the arithmetic of a training: torch computes in what is asked for, and devices without it are refused."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from ser.config import Config
from ser.training import loop, train
from ser.training.device import arithmetic
from ser.training.device.arithmetic import Arithmetic, inference_arithmetic, resolve_arithmetic
from ser.training.state import fingerprint
from ser.training.task import Task
from ser.utils.errors import UserError
from ser.utils.hashing import digest

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL = {"model.width": 0.03, "training.epochs": 2, "training.batch_size": 8, "training.crop_seconds": 0.5}


def config_of(precision: str, deterministic: bool = False) -> Config:
    return Config.from_dotted({**SMALL, "training.precision": precision, "training.deterministic": deterministic})


def has_gpu(monkeypatch: pytest.MonkeyPatch, *, ampere: bool) -> None:
    """Let torch describe a GPU of compute capability 8.0 or above, or an older one."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: ampere or including_emulation)
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: ampere)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200" if ampere else "Tesla T4")


def has_bfloat16(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", "avx512_bf16": there})


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield
    Arithmetic("cpu", "float32").apply()


def switches() -> tuple[set[str], set[str]]:
    """Return what torch computes float32 in on a GPU, and on a CPU."""
    backends: Any = torch.backends
    gpu = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    cpu = (backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn)
    found = [{operation.fp32_precision for operation in operations} for operations in (gpu, cpu)]
    return found[0], found[1]


@pytest.mark.parametrize("first", ["bfloat16", "tf32", "float32"])
@pytest.mark.parametrize(("precision", "expected"), [("bfloat16", "ieee"), ("tf32", "tf32"), ("float32", "ieee")])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_float32_is_that_of_ieee_754_unless_tf32_is_asked_for(device: Any, first: Any, precision: Any, expected: str):
    Arithmetic("cuda", first).apply()
    Arithmetic(device, precision).apply()
    assert switches() == ({expected}, {"ieee"})


@pytest.mark.parametrize("precision", ["tf32", "float32"])
def test_the_older_switches_agree_so_that_reading_them_is_no_error(precision: Any):
    Arithmetic("cuda", precision).apply()
    on = precision == "tf32"
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (on, on)
    assert torch.get_float32_matmul_precision() == ("high" if on else "highest")


def test_what_others_have_switched_before_does_not_matter():
    backends: Any = torch.backends
    torch.set_float32_matmul_precision("medium")
    backends.mkldnn.conv.fp32_precision = backends.mkldnn.rnn.fp32_precision = "bf16"
    Arithmetic("cpu", "float32").apply()
    assert switches() == ({"ieee"}, {"ieee"})


def test_algorithms_are_deterministic_on_a_gpu_where_asked_and_no_longer_in_the_next_training():
    Arithmetic("cuda", "float32", deterministic=True).apply()
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    Arithmetic("cuda", "float32").apply()
    assert not torch.are_deterministic_algorithms_enabled()
    Arithmetic("cpu", "float32", deterministic=True).apply()
    assert not torch.are_deterministic_algorithms_enabled()


def test_autocast_is_on_for_bfloat16_alone():
    product = torch.ones(2, 2)
    for precision, expected in (("bfloat16", torch.bfloat16), ("tf32", torch.float32), ("float32", torch.float32)):
        with Arithmetic("cpu", precision).autocast():
            assert (product @ product).dtype is expected


@pytest.mark.parametrize(
    ("precision", "ampere", "expected"),
    [
        ("auto", True, "cuda bfloat16"), ("auto", False, "cuda float32"), ("float32", True, "cuda float32"),
        ("tf32", True, "cuda tf32"), ("bfloat16", False, "cuda bfloat16"),
    ],
)  # fmt: skip
def test_a_gpu_computes_as_it_is_asked(monkeypatch: pytest.MonkeyPatch, precision: str, ampere: bool, expected: str):
    has_gpu(monkeypatch, ampere=ampere)
    assert resolve_arithmetic(config_of(precision), GPU).name == expected
    assert inference_arithmetic(config_of(precision), GPU).name == expected


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_cpu_computes_as_it_is_asked(precision: str):
    assert resolve_arithmetic(config_of(precision, deterministic=True), CPU) == Arithmetic("cpu", precision, True)


def test_auto_follows_the_cpu(monkeypatch: pytest.MonkeyPatch):
    for capabilities, expected in (
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_tile": False}, "cpu bfloat16"),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_tile": True}, "cpu bfloat16"),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_tile": False}, "cpu float32"),
        ({"architecture": "aarch64", "bf16": True}, "cpu float32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert resolve_arithmetic(config_of("auto"), CPU).name == expected


def test_tf32_on_a_device_without_it_is_an_error_in_training_and_float32_in_predictions(
    monkeypatch: pytest.MonkeyPatch, task_at: Callable[..., Task]
):
    with pytest.raises(UserError, match=r"training\.precision is tf32.*CPU"):
        next(train(config_of("tf32"), task_at("clean"), seed=0))
    assert inference_arithmetic(config_of("tf32"), CPU).name == "cpu float32"
    has_gpu(monkeypatch, ampere=False)
    with pytest.raises(UserError, match=r"this GPU \(Tesla T4\) lacks it.*float32"):
        resolve_arithmetic(config_of("tf32"), GPU)
    assert inference_arithmetic(config_of("tf32"), GPU).name == "cuda float32"


def test_emulated_bfloat16_is_a_warning(monkeypatch: pytest.MonkeyPatch):
    has_gpu(monkeypatch, ampere=False)
    has_bfloat16(monkeypatch, there=True)
    assert "this GPU emulates bfloat16" in arithmetic.emulation_warning(Arithmetic("cuda", "bfloat16"))
    for right in (Arithmetic("cuda", "float32"), Arithmetic("cpu", "bfloat16")):
        assert arithmetic.emulation_warning(right) == ""
    has_bfloat16(monkeypatch, there=False)
    assert "this CPU emulates bfloat16" in arithmetic.emulation_warning(Arithmetic("cpu", "bfloat16"))


def test_a_training_sets_its_own_arithmetic_in_a_process_that_had_another(task_at: Callable[..., Task]):
    Arithmetic("cuda", "tf32", deterministic=True).apply()
    next(train(config_of("float32"), task_at("clean"), seed=0))
    assert switches() == ({"ieee"}, {"ieee"})
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_changes_no_number_on_a_cpu(task_at: Callable[..., Task]):
    runs = [[one.metrics for one in train(config_of("float32", on), task_at("clean"), seed=0)] for on in (False, True)]
    assert runs[0] == runs[1]


def test_a_run_without_the_setting_has_the_fingerprint_of_before_it_and_one_with_it_another(
    task_at: Callable[..., Task],
):
    task, config = task_at("clean"), config_of("auto")
    former = {key: value for key, value in config.to_dotted().items() if key != "training.deterministic"}
    manifest = {key: value for key, value in task.manifest.items() if key != "labels"}
    assert fingerprint(config, 0, task) == digest([former, 0, manifest, list(task.train.utterance_ids)])
    assert fingerprint(config_of("auto", deterministic=True), 0, task) != fingerprint(config, 0, task)


def test_a_training_that_was_resumed_elsewhere_names_all_that_computed_it():
    found = None
    for now in ("cuda bfloat16", "cuda bfloat16", "cpu float32", "cpu float32", "cuda bfloat16"):
        found = arithmetic.together(found, now)
    assert found == "cuda bfloat16, then cpu float32, then cuda bfloat16"


def test_an_operation_without_a_deterministic_algorithm_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, task_at: Callable[..., Task]
):
    Arithmetic("cuda", "float32", deterministic=True).apply()
    with pytest.raises(RuntimeError) as raised:
        torch.ones(2).put_(torch.tensor([0]), torch.ones(1))
    Arithmetic("cuda", "float32").apply()

    def fails(*_: Any) -> None:
        raise raised.value

    monkeypatch.setattr(loop, "set_learning_rate", fails)
    with pytest.raises(UserError, match=r"training\.deterministic is true.* no deterministic put_ for GPUs"):
        next(train(config_of("float32"), task_at("clean"), seed=0))
    assert arithmetic.not_deterministic(RuntimeError("CUDA error: uncorrectable ECC error encountered")) is None
