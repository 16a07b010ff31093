"""Trainings on a fake GPU: no step waits, whatever the loss and the network, and the numbers are those of a CPU."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch

from ser.checkpoint import open_checkpoint
from ser.features.store import FeatureStore
from ser.losses import LOSSES
from ser.training import load_state, save_state
from ser.utils.errors import UserError
from tests.helpers.fake_cuda import FakeGpu, fake_cuda, run_on_fake_cuda
from tests.helpers.gpu_trainings import BASE, make_config, make_task, train, train_epochs

AT_THE_END_OF_AN_EPOCH = 3
"""Waits: for label metrics, for the predictions of the validation, and for the learning rate of the record."""

EPOCHS = BASE["training.epochs"]
SCHEDULE = {"loss__temperature.kind": "linear", "loss__temperature.start": 1.0, "loss__temperature.end": 0.5}

# Loss, network, values that differ, number of epochs.
EVERY_LOSS = [(loss, "linear_probe", {}, 1) for loss in LOSSES]
EVERY_NETWORK = [(loss, network, {}, 1) for network in ("cnn14", "cnn6", "bilstm") for loss in ("proselflc", "mixup")]
VARIANTS = [
    ("cross_entropy", "linear_probe", {"training__class_balance": "sampling"}, 1),
    ("cross_entropy", "linear_probe", {"training__class_balance": "none"}, 1),
    ("cross_entropy", "linear_probe", {"optimizer__gradient_clip": 0.0}, 1),
    ("cross_entropy", "cnn6", {"model__freeze": "base"}, 1),
    ("cross_entropy", "cnn6", {"training__precision": "bfloat16", "model__dropout": 1.0}, 1),
    ("proselflc", "linear_probe", {"loss__trust": "global", **SCHEDULE}, 1),
    ("proselflc", "linear_probe", {"loss__target_gradient": False}, 1),
    ("label_correction", "linear_probe", {"loss__target_gradient": False}, 1),
    ("forward_correction", "linear_probe", {}, EPOCHS - 1),  # the first one after its warm-up
    ("elr", "linear_probe", {}, 2),
]
EVERY_PAIR = [(loss, network, {}, 1) for network in ("cnn14", "cnn10", "cnn6", "bilstm", "layers") for loss in LOSSES]
FINE_TUNED = [(loss, "encoder", {}, 1) for loss in LOSSES]


@contextmanager
def gpu_and_folder() -> Iterator[tuple[FakeGpu, Path]]:
    with tempfile.TemporaryDirectory() as folder, fake_cuda() as gpu:
        yield gpu, Path(folder)


# In the process with the GPU


def measured(cases: list[Any]) -> list[dict[str, Any]]:
    """Train each case on the fake GPU and on the CPU."""
    found = []
    with gpu_and_folder() as (gpu, folder):
        for loss, network, changes, epochs in cases:
            config = make_config(network, loss, folder, **changes)
            task = make_task(config, folder)
            epoch = train_epochs(gpu, config, task, epochs)
            before, after = epoch.steps[-2:]
            of = {
                "case": f"{loss}, {network}, {changes}",
                "loss": loss,
                "waits": epoch.waits_of_steps,
                "operations": sum(call.launches for call in after),
                "differ": sorted({(one or two).name for one, two in zip_longest(before, after) if one != two}),
                "on_gpu": epoch.record.metrics,
            }
            if not changes.get("model__dropout"):  # whose random numbers are others
                of["on_cpu"] = list(islice(train(config, task, seed=0), epochs))[-1].metrics
            found.append(of)
    return found


def epochs() -> dict[str, Any]:
    """Train two epochs with features that the GPU has room for or not, and one or three batches of evaluation."""
    found = {}
    with gpu_and_folder() as (gpu, folder):
        for network, free, validation in (
            ("cnn6", 64 << 30, 6),
            ("cnn6", 64 << 30, 150),
            ("cnn6", 0, 150),
            ("bilstm", 0, 150),
            ("linear_probe", 0, 150),
        ):
            gpu.free_bytes = free
            config = make_config(network, "proselflc", folder)
            epoch = train_epochs(gpu, config, make_task(config, folder, validation), 2)
            waits = [wait.where for wait in epoch.waits]
            found[f"{network}, {free} bytes, {validation} utterances"] = [waits, epoch.waits_of_steps]
    return found


def resumed() -> dict[str, Any]:
    """Train the last epochs on another device than the first one."""
    found: dict[str, Any] = {}
    with gpu_and_folder() as (_, folder):
        for loss, first, then in (
            ("proselflc", "cuda", "cpu"),
            ("proselflc", "cpu", "cuda"),
            ("elr", "cpu", "cuda"),
            ("forward_correction", "cpu", "cuda"),
        ):
            config = make_config("linear_probe", loss, folder)
            task = make_task(config, folder)
            records = train(config, task, seed=0, device=first)
            save_state(next(records).state, folder / "state.pt")
            whole = [record.metrics for record in records]
            state = load_state(folder / "state.pt")
            rest = [record.metrics for record in train(config, task, seed=0, device=then, state=state)]
            found[f"{loss}, {first} then {then}"] = {"whole": whole, "rest": rest}
    return found


def predicted() -> dict[str, Any]:
    """Predict and embed with a checkpoint of a CPU, on the CPU and on the fake GPU."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = make_config("bilstm", "cross_entropy", folder)
        task = make_task(config, folder)
        save_state(next(train(config, task, seed=0)).state, folder / "state.pt")
        store = FeatureStore.open(task.store)

        def results() -> dict[str, Any]:
            checkpoint = open_checkpoint(folder / "state.pt")
            of = (checkpoint.predict(store, task.validation.rows), checkpoint.embed(store, task.validation.rows))
            return {"device": checkpoint.device.type, "numbers": [values.flatten().tolist() for values in of]}

        found["cpu"] = results()
        with fake_cuda():
            found["cuda"] = results()
    return found


def arithmetic() -> dict[str, Any]:
    """Return the types of the inputs of convolutions and matrix products, and the arithmetic of float32."""
    found = {}
    with gpu_and_folder() as (gpu, folder):
        for precision in ("bfloat16", "tf32", "float32", "auto"):
            config = make_config("cnn6", "cross_entropy", folder, training__precision=precision)
            step = train_epochs(gpu, config, make_task(config, folder)).steps[0]
            products = {"aten.convolution.default", "aten.convolution_backward.default", "aten.addmm.default"}
            types = sorted({dtype for call in step if call.name in products for dtype in call.dtypes})
            switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
            found[precision] = [types, [switch.fp32_precision for switch in switches]]
    return found


def out_of_memory() -> str:
    with gpu_and_folder() as (gpu, folder):
        config = make_config("cnn6", "cross_entropy", folder)
        records = train(config, make_task(config, folder), seed=0, device="cuda")
        next(records)
        gpu.out_of_memory_after = 100
        try:
            next(records)
        except UserError as error:
            return str(error)
    return "no UserError"


def everything(cases: list[Any]) -> dict[str, Any]:
    return {
        "cases": measured(cases),
        "epochs": epochs(),
        "resumed": resumed(),
        "predicted": predicted(),
        "arithmetic": arithmetic(),
        "out of memory": out_of_memory(),
    }


# In the process of the tests


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return run_on_fake_cuda(everything, [*EVERY_LOSS, *EVERY_NETWORK, *VARIANTS])


def check(cases: list[dict[str, Any]]) -> None:
    assert {of["case"]: of["waits"] for of in cases if of["waits"]} == {}
    for of in cases:
        assert of["operations"] > 30, of["case"]  # on the GPU
        if "on_cpu" in of:
            assert of["on_gpu"] == pytest.approx(of["on_cpu"], rel=1e-3, abs=1e-5), of["case"]
        # What a captured step would freeze: its place in the plan of the epoch and the learning rate are handed over
        # before it.
        scheduled = of["loss"] in {"proselflc", "reweighting_control"}
        assert of["differ"] == ["aten.fill_.Scalar", *["aten.select.int"] * scheduled, "aten.slice.Tensor"], of["case"]


def test_no_step_waits_and_its_numbers_are_those_of_a_cpu(found):
    check(found["cases"])
    assert len(found["cases"]) == len(LOSSES) + 16


@pytest.mark.slow
def test_no_step_of_any_loss_and_network_waits():
    check(run_on_fake_cuda(measured, EVERY_PAIR))


@pytest.mark.slow
def test_a_step_of_a_fine_tuned_encoder_waits_in_the_code_of_transformers_alone():
    for of in run_on_fake_cuda(measured, FINE_TUNED):
        own = [wait for wait in of["waits"] if "(in transformers" not in wait and ".backward()" not in wait]
        assert own == [], of["case"]


def test_an_epoch_waits_at_its_end_alone_however_large_features_and_evaluation_are(found):
    for case, (of_the_epoch, of_its_steps) in found["epochs"].items():
        assert of_its_steps == [], case
        assert len(of_the_epoch) == AT_THE_END_OF_AN_EPOCH, (case, of_the_epoch)


def test_a_training_resumes_on_another_device(found):
    assert len(found["resumed"]) == 4
    for case, of in found["resumed"].items():
        assert len(of["rest"]) == EPOCHS - 1
        for whole, rest in zip(of["whole"], of["rest"], strict=True):
            assert rest == pytest.approx(whole, rel=1e-3, abs=1e-5), case


def test_a_checkpoint_predicts_on_the_gpu_what_it_predicts_on_a_cpu(found):
    on_cpu, on_gpu = found["predicted"]["cpu"], found["predicted"]["cuda"]
    assert (on_cpu["device"], on_gpu["device"]) == ("cpu", "cuda")
    for expected, values in zip(on_cpu["numbers"], on_gpu["numbers"], strict=True):
        assert values == pytest.approx(expected, rel=1e-4)


def test_a_precision_is_that_of_convolutions_and_matrix_products(found):
    assert found["arithmetic"] == {
        "bfloat16": [["bfloat16"], ["ieee"] * 3],
        "tf32": [["float32"], ["tf32"] * 3],
        "float32": [["float32"], ["ieee"] * 3],
        "auto": [["bfloat16"], ["ieee"] * 3],
    }


def test_too_little_memory_is_an_error_that_says_what_to_change(found):
    assert found["out of memory"].startswith("the GPU is out of memory with model.width 0.03125")
