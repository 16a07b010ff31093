"""The benchmark of the GPU path runs on a CPU with tiny settings, and its GPU branches on a GPU that is not there."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest
import torch

from benchmarks import gpu
from benchmarks.fused import FusedCnn14, fused_format
from benchmarks.gpu_parts import device_step, sharing, waits
from benchmarks.gpu_parts.common import PARAMETERS, made_task, make_settings
from benchmarks.gpu_parts.device_step import DeviceStep
from benchmarks.gpu_parts.report import aims, as_markdown
from benchmarks.gpu_parts.sharing import CONTROL, mps_daemon
from benchmarks.gpu_parts.steps import FIELD, OURS
from benchmarks.roofline import GPUS, step_cost
from ser.losses import LOSSES, build_loss
from ser.models.panns import ConvBlock
from tests.helpers.fake_cuda import fake_cuda, run_on_fake_cuda

ROOT = Path(__file__).resolve().parents[1]

# Runs a script as if only torch, torchaudio and NumPy were installed.
WITHOUT = """
import runpy, sys
others = "filelock mlflow optuna pandas pyarrow ray requests rich scipy sklearn soundfile soxr tyro yaml"
sys.modules.update(dict.fromkeys(others.split()))
sys.argv = sys.argv[1:]
sys.path[0] = ""
runpy.run_path(sys.argv[0], run_name="__main__")
"""


# Those of several processes, of a compiler, and of the field's loop, whose spectrogram the fake GPU cannot compute.
ON_CPU = ("sharing", "sharing, MPS", "first speed", "field speed", "compiled")
ON_FAKE_GPU = ("machine", "numbers", "waits", "capture", "equality", "memory", "train", "store", "own speed")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    command = ["benchmarks/gpu.py", "--device", "cpu", "--output", str(folder), "--parts", *ON_CPU]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def parts(output):
    found = json.loads((output / "gpu.json").read_text(encoding="utf-8"))["parts"]
    assert {name: part["error"] for name, part in found.items() if part["error"]} == {}
    return {name: part["rows"] for name, part in found.items()}


def test_parts_have_rows_without_errors(parts):
    assert set(parts) == {"machine", *ON_CPU}
    assert {*ON_CPU, *ON_FAKE_GPU} == set(gpu.PARTS)
    assert all(parts.values())
    assert [row for rows in parts.values() for row in rows if "error" in row] == []
    assert all(row["seconds_of_step"] > 0 for name in ("first speed", "field speed") for row in parts[name])
    assert [row["processes"] for row in parts["sharing"]] == [1, 2]


def test_the_table_of_the_page_and_the_aims_are_written(output):
    text = (output / "gpu.md").read_text(encoding="utf-8")
    assert f"| width | batch | {FIELD} |" in text
    assert "| no wait for the GPU in a step, every loss | – | not measured |" in text


def gpu_settings():
    return replace(make_settings("cpu", False), device="cuda", losses=("proselflc",))


def parts_on_fake_gpu(folder):
    """Return the rows of parts, as a GPU would be asked for them."""
    settings, rows = gpu_settings(), {}
    with fake_cuda(), mock.patch.object(device_step, "graph_of", lambda call, stream: call):
        for name in ON_FAKE_GPU:
            store = Path(folder, name)
            store.mkdir()
            rows[name] = list(gpu.PARTS[name][0](settings, made_task(store, settings.frames * 6 // 5)))
    return rows


@pytest.mark.slow
def test_the_parts_run_on_a_gpu_that_is_not_there(tmp_path):
    rows = run_on_fake_cuda(parts_on_fake_gpu, str(tmp_path))
    assert [row for found in rows.values() for row in found if "error" in row] == []
    assert [row for name in ("numbers", "capture") for row in rows[name] if not row["right"]] == []
    assert all(rows.values())
    assert [row["precision"] for row in rows["train"]] == ["float32", "float32", "tf32", "bfloat16"]
    assert all(row["waits_per_step"] == 0 for row in rows["waits"])


def calls_of_two_steps(loss):
    """Return the waits of a step, and whether two steps give the same operations the same numbers."""
    with fake_cuda() as device:
        step = DeviceStep(gpu_settings(), 1 / 32, 4, loss, precision="bfloat16", total_steps=9, dropout=1.0)
        step()
        found = []
        for _ in range(2):
            device.clear()
            step()
            found.append([(call.name, call.numbers) for call in device.calls])
        return [str(wait) for wait in device.waits], found[0] == found[1]


def all_calls_of_two_steps(losses):
    return {loss: calls_of_two_steps(loss) for loss in losses}


def test_a_captured_step_would_freeze_no_number_and_wait_for_nothing():
    losses = ["proselflc", "elr", "forward_correction"]
    found = run_on_fake_cuda(all_calls_of_two_steps, losses)
    assert found == {loss: [[], True] for loss in losses}


def test_a_graph_replays_what_was_captured():
    calls, replayed = [], []
    graph = mock.Mock(replay=lambda: replayed.append(1))
    streams = {"CUDAGraph": lambda: graph, "graph": lambda graph, stream: contextlib.nullcontext()}
    with mock.patch.multiple(torch.cuda, **streams):
        replay = device_step.graph_of(lambda: calls.append(1), mock.Mock())
    replay()
    assert (calls, replayed) == ([1], [1])


def test_blocks_are_compiled_where_there_are_triton_and_a_compiler(monkeypatch):
    step = DeviceStep(make_settings("cpu", False), 1 / 32, 4, "elr", precision="float32", total_steps=2, dropout=0.0)
    with mock.patch.object(ConvBlock, "compile") as compiles:
        step.compile()
    assert compiles.call_args_list == [mock.call(dynamic=False)] * 6
    settings = gpu_settings()
    monkeypatch.setattr(device_step, "find_spec", lambda name: None)
    assert device_step.no_compiler(settings) == "Triton is not installed."
    monkeypatch.setattr(device_step, "find_spec", lambda name: name)
    monkeypatch.setattr(device_step.shutil, "which", lambda name: None)
    assert "no C compiler" in device_step.no_compiler(settings)
    monkeypatch.setattr(device_step.shutil, "which", lambda name: name)
    assert device_step.no_compiler(settings) is None


def wait_in_a_step():
    raise RuntimeError("called a synchronizing CUDA operation")


def test_the_first_wait_of_a_step_is_reported_with_its_line(tmp_path, monkeypatch):
    settings = make_settings("cpu", False)
    modes = []

    def set_mode(settings, name):
        modes.append(name)
        if name == "error" and modes.count("error") == 3:
            wait_in_a_step()

    monkeypatch.setattr(waits, "set_mode", set_mode)
    line = waits.first_wait(settings, made_task(tmp_path, 80), "cross_entropy")
    assert line.startswith("tests/test_gpu_benchmark.py:")
    assert line.endswith('raise RuntimeError("called a synchronizing CUDA operation")')
    assert modes == ["error"] * 3 + ["default"]


# An MPS daemon that writes a log, makes its socket and waits for the command to quit.
DAEMON = """#!/bin/sh
if [ "$1" = -f ]; then
  echo "started without $CUDA_VISIBLE_DEVICES" > "$CUDA_MPS_LOG_DIRECTORY/control.log"
  {socket}
  echo $$ > {pid}
  while [ ! -e "$CUDA_MPS_PIPE_DIRECTORY/quit" ]; do sleep 0.05; done
else
  cat > /dev/null
  {quit}
fi
"""


def write_daemon(folder, *, socket=True, obeys=True):
    script, pid = folder / CONTROL, folder / "pid"
    makes, quits = ("touch" if yes else "test -e" for yes in (socket, obeys))
    pipes = '"$CUDA_MPS_PIPE_DIRECTORY/%s"'
    text = DAEMON.format(pid=pid, socket=f"{makes} {pipes % 'control'} || exit 1", quit=f"{quits} {pipes % 'quit'}")
    script.write_text(text)
    script.chmod(0o755)
    return pid


def is_alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize("obeys", [True, False])
def test_the_mps_daemon_is_ended_in_any_case(tmp_path, monkeypatch, obeys):
    pid = write_daemon(tmp_path, obeys=obeys)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with contextlib.suppress(KeyboardInterrupt), mps_daemon() as (pipes, reason):
        monkeypatch.setattr(sharing, "GRACE", 0.5)
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.01)
        seen = reason, Path(pipes, "control").exists(), is_alive(int(pid.read_text()))
        raise KeyboardInterrupt
    assert seen == ("", True, True)
    assert not is_alive(int(pid.read_text()))
    assert not Path(pipes).exists()


def test_without_mps_there_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with mps_daemon() as (pipes, reason):
        assert (pipes, reason) == (None, f"{CONTROL} is not installed.")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    write_daemon(tmp_path, socket=False)
    with mps_daemon() as (pipes, reason):
        assert pipes is None
        assert reason.startswith(f"{CONTROL} does not start here: started")


def slow_part(settings, task):
    yield {"first": 1}
    time.sleep(60)


@pytest.mark.slow
def test_a_part_runs_in_a_spawned_process():
    kept = []
    settings = replace(make_settings("cpu", False), start="spawn")
    result = gpu.collect("machine", settings, 60.0, kept.append)
    assert (result["error"], len(result["rows"])) == (None, 4)


def test_a_part_that_hangs_is_stopped_and_keeps_its_rows(monkeypatch, capsys):
    monkeypatch.setitem(gpu.PARTS, "slow", (slow_part, 60))
    kept = []
    result = gpu.collect("slow", make_settings("cpu", False), 3.0, lambda result: kept.append(len(result["rows"])))
    assert (result["rows"], result["error"]) == ([{"first": 1}], "stopped after 3 s")
    assert kept == [1, 1]


def test_aims_are_judged_by_the_numbers():
    def timed(variant, seconds, width=1.0):
        return {"width": width, "batch": 32, "variant": variant, "seconds_of_step": seconds, "allocated_gb": 2.5}

    limits = [{"width": width, "batch": 32, "limit": limit, "flop": 1e9} for width, limit in ((1.0, 500), (0.125, 9e3))]
    speed = [timed(FIELD, 0.8), timed(OURS, 0.1), timed(FIELD, 0.2, 0.125), timed(OURS, 0.1, 0.125)]
    shared = {"processes": 4, "width": 0.125, "batch": 32, "clips_per_second": 1500.0, "mps": False}
    rows = {
        "machine": [{"gpu": "fake"}, {"peak": 1e12, "bandwidth": 1e12}, *limits],
        "first speed": speed,
        "sharing": [shared],
        "waits": [{"loss": "elr", "waits_per_step": 0.0}, {"loss": "focal", "waits_per_step": 2.0}],
        "numbers": [{"right": True}, {"right": True}],
    }
    results = {name: {"rows": found, "seconds": 1.0, "error": None} for name, found in rows.items()}
    assert [(measured, verdict) for _, measured, verdict in aims(results)] == [
        ("8.0 ×", "met"),
        ("64%", "met"),
        ("9.4 ×", "missed"),
        ("at most 2", "missed"),
        ("2 of 2 right", "met"),
        ("–", "not measured"),
    ]
    line = "| 1 | 32 | 40 | – | 320 (8.0 ×) | – | – | – | 500 | 64.0% | 32.0% | 2.5 |"
    assert line in as_markdown(results, ["compiled"])
    assert "No time was left for: compiled." in as_markdown(results, ["compiled"])


def test_arguments_are_known_for_every_loss():
    assert [build_loss(name, PARAMETERS.get(name, {}), 10, 8, 6).schedule(3) for name in LOSSES]


def test_the_limit_follows_from_flop_and_bytes():
    cost = step_cost(1.0)
    # Thop-like counts of CNN14 give 59.7 GFLOP a clip of 5 s; a third of them are the forward pass.
    assert cost.flop == pytest.approx(59.7e9, rel=0.01)
    channels = (1, 64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024, 2048, 2048)
    convolutions = 9 * sum(before * after for before, after in pairwise(channels))
    norms = 2 * (64 + sum(channels[1:]))
    assert cost.weights == convolutions + norms + (2048 + 1) * 2048 + (2048 + 1) * 6
    assert cost.step_bytes == 54 * cost.weights
    assert cost.clips_per_second(32, *GPUS["H100 SXM"]) == pytest.approx(5115, rel=0.01)
    # With endless memory bandwidth, operations alone count.
    assert cost.clips_per_second(32, 1e15, 1e30) == pytest.approx(1e15 / cost.flop)


def test_a_fused_network_is_the_same_in_both_memory_formats():
    features, logits = torch.randn(2, 2, 64, 64), []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        network = FusedCnn14(2, 1 / 32, fused_format(device)).to(memory_format=fused_format(device))
        logits.append(network(features))
    assert fused_format("cuda") == torch.contiguous_format
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-3, atol=1e-3)


def test_without_a_gpu_the_benchmark_says_what_it_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: False)
    with pytest.raises(SystemExit) as ended:
        gpu.main("cuda", small=True, parts=["machine"], seconds=None, output=tmp_path / "gpu")
    assert ended.value.code == 2
    assert "built for CPUs alone. Run it on a machine with a GPU, or with --device cpu." in capsys.readouterr().err
    assert not (tmp_path / "gpu").exists()
