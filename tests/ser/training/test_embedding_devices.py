"""Embeddings on a CPU and on a GPU: who computes them, the names of their stores, and heads that move between machines.

The GPU is pretended; what a real one computes is not tested here.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from ser import evaluate, predict
from ser import train as train_command
from ser.checkpoint import Checkpoint, open_checkpoint
from ser.config import Config
from ser.corpora import Corpus
from ser.features.store import FeatureStore, open_store
from ser.models import build_model
from ser.splits import split
from ser.training import embeddings
from ser.training.device.arithmetic import Arithmetic
from ser.training.embeddings import extractor
from ser.training.loop import train
from ser.training.state import save_state
from ser.training.task import make_task
from ser.utils.command_line import run_command
from ser.utils.errors import UserError
from tests.helpers.pretended_gpu import pretend_gpu
from tests.helpers.tiny_encoders import tiny_encoder

OTHER_DEVICE = "trained on embeddings that a GPU computed, and reads those that a CPU computes"


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Config]:
    """Return the configurations of a linear probe and of a head on a frozen speech encoder."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    torch.save(build_model("cnn6", 2, 1 / 32).state_dict(), folder / "base.pt")
    probe = {"model.name": "embedding_head", "model.base": "cnn6", "model.pretrained": str(folder / "base.pt")}
    encoder = {"model.name": f"hf:{tiny_encoder(folder / 'encoder')}", "model.freeze": "base"}
    shared = {"training.epochs": 2, "training.batch_size": 8, "training.precision": "float32", "optimizer.lr": 0.03}
    return {
        "probe": Config.from_dotted({**probe, "model.width": 1 / 32, "training.crop_seconds": 1.0, **shared}),
        "encoder": Config.from_dotted({**encoder, **shared}),
    }


@pytest.fixture
def gpu_store(tones: Corpus, configs: dict[str, Config], tmp_path: Path) -> FeatureStore:
    """Return the embeddings of a corpus that a GPU has computed, on a machine that has none."""
    with pytest.MonkeyPatch.context() as patch:
        pretend_gpu(patch)
        return open_store(tones, extractor(configs["probe"], "cuda"), tmp_path / "features")


@pytest.fixture
def trained(tones: Corpus, configs: dict[str, Config], gpu_store: FeatureStore, tmp_path: Path) -> Path:
    """Return the state of a head that was trained on them."""
    *_, last = train(configs["probe"], make_task(tones, split(tones), gpu_store.path, "clean", 0), seed=0)
    save_state(last.state, tmp_path / "state.pt")
    return tmp_path / "state.pt"


@pytest.mark.parametrize("name", ["probe", "encoder"])
def test_the_name_of_a_store_says_whether_a_gpu_computed_it(name: str, configs: dict[str, Config]) -> None:
    on_cpu = extractor(configs[name]).front_end
    assert extractor(configs[name], "cpu").front_end == on_cpu
    on_gpu = extractor(configs[name], "cuda").front_end
    assert on_gpu.name == f"{on_cpu.name}-cuda"
    assert on_gpu.size == on_cpu.size
    assert (embeddings.device_of(on_cpu.name), embeddings.device_of(on_gpu.name)) == ("cpu", "cuda")
    assert extractor(Config(), "cuda").front_end == extractor(Config()).front_end


@pytest.mark.parametrize("name", ["probe", "encoder"])
def test_embeddings_are_computed_where_the_caller_asks(
    name: str, configs: dict[str, Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    moved = pretend_gpu(monkeypatch)
    applied: list[Arithmetic] = []
    monkeypatch.setattr(Arithmetic, "apply", lambda self: applied.append(self))
    on_cpu = extractor(configs[name], "cpu").load()(samples)
    assert (moved, applied) == ([], [])
    compute = extractor(configs[name], "cuda").load()
    (network,) = moved
    assert issubclass(network, torch.nn.Module)
    for number in (1, 2):  # each time, because something else may have trained in between
        np.testing.assert_array_equal(compute(samples), on_cpu)
        assert applied == number * [Arithmetic("cuda", "float32")]
        assert torch.Tensor in moved
        moved.clear()


@pytest.mark.parametrize("name", ["probe", "encoder"])
def test_what_a_gpu_has_to_compute_is_refused_where_there_is_none(name: str, configs: dict[str, Config]) -> None:
    with pytest.raises(UserError, match=r"computed on a GPU, and torch sees no GPU here\. Copy their feature store"):
        extractor(configs[name], "cuda").load()


def test_a_head_is_trained_on_the_embeddings_of_its_task_and_resumed_on_the_same(
    tones: Corpus, configs: dict[str, Config], gpu_store: FeatureStore, tmp_path: Path
) -> None:
    config = configs["probe"]
    again = open_store(tones, extractor(config, "cuda"), tmp_path / "features")  # without a GPU
    assert (again.path, again.built) == (gpu_store.path, False)
    own, other = (
        make_task(tones, split(tones), store.path, "clean", 0)
        for store in (gpu_store, open_store(tones, extractor(config), tmp_path / "features"))
    )
    first = next(train(config, own, seed=0))  # type: ignore[call-overload]
    assert first.state["front_end"] == extractor(config, "cuda").front_end.name
    assert [record.epoch for record in train(config, own, seed=0, state=first.state)] == [2]
    with pytest.raises(UserError, match="kind of device that computed its embeddings"):
        next(train(config, other, seed=0, state=first.state))  # type: ignore[call-overload]


def test_a_checkpoint_reads_stored_embeddings_of_its_training_and_else_computes_where_it_is(
    trained: Path, tones: Corpus, gpu_store: FeatureStore, tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(trained)
    stored = checkpoint.reader_of(tones, tmp_path / "features").front_end
    assert stored == gpu_store.front_end
    assert checkpoint.warnings(stored) == []
    computed = checkpoint.reader_of(tones, tmp_path / "elsewhere").front_end
    assert computed == checkpoint.reader.front_end == extractor(checkpoint.config).front_end
    assert [OTHER_DEVICE in line for line in checkpoint.warnings(computed)] == [True]
    rows = np.arange(len(tones))
    here = open_store(tones, checkpoint.reader, tmp_path / "elsewhere")
    np.testing.assert_allclose(checkpoint.predict(here, rows), checkpoint.predict(gpu_store, rows), atol=1e-6)


def test_a_head_of_a_cpu_warns_on_a_gpu(
    trained: Path, configs: dict[str, Config], tones: Corpus, tmp_path: Path
) -> None:
    """On a GPU, a checkpoint of a CPU is served by the GPU, and the line names them the other way round."""
    of_cpu = open_checkpoint(trained)
    of_gpu = Checkpoint(
        of_cpu.path, of_cpu.config, of_cpu.manifest, 0, 2, of_cpu.model, torch.device("cuda"), "",
        extractor(of_cpu.config).front_end.name,
    )  # fmt: skip
    assert of_gpu.reader.front_end.name.endswith("-cuda")
    (line,) = of_gpu.warnings(of_gpu.reader.front_end)
    assert "that a CPU computed, and reads those that a GPU computes" in line


def test_other_models_have_no_device_in_the_name_of_their_features(
    tones: Corpus, task_at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.from_dotted({"model.width": 0.03, "training.epochs": 1, "training.crop_seconds": 0.5})
    (record,) = train(config, task_at("clean"), seed=0)
    save_state(record.state, tmp_path / "state.pt")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert extractor(config, embeddings.own_device()).front_end.name == record.state["front_end"] == "panns_16k"


def test_the_commands_name_the_device_that_differs(
    configs: dict[str, Config],
    gpu_store: FeatureStore,
    tones: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run that began on a GPU is resumed without one, evaluated on its store and on others, and predicts files."""

    def call(module: Any, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", [module.__name__, *words])
        assert run_command(module.main) == 0
        found = capsys.readouterr()
        return " ".join((found.out + found.err).split())

    for module in (train_command, evaluate):
        monkeypatch.setattr(module, "load", lambda *_: tones)
        monkeypatch.setattr(module, "make_console", lambda **_: Console(width=300, stderr=True), raising=False)
    monkeypatch.setattr(train_command, "own_device", lambda: "cuda")
    run, features = tmp_path / "run", tmp_path / "features"
    chosen = {key: value for key, value in configs["probe"].to_dotted().items() if value not in ("", "auto")}
    values = [f"{key}={json.dumps(value) if isinstance(value, bool) else value}" for key, value in chosen.items()]
    begun = ("--features", str(features), "--output", str(run), "--set", *values)
    call(train_command, *begun)
    monkeypatch.setattr(train_command, "own_device", lambda: "cpu")
    call(train_command, "--resume", *begun)
    assert [path.name for path in features.iterdir() if path.is_dir()] == [gpu_store.path.name]
    state = run / "state.pt"
    assert open_checkpoint(state).front_end == gpu_store.front_end.name
    at = ("--checkpoint", str(state), "--features")
    assert OTHER_DEVICE not in call(evaluate, *at, str(features))
    assert OTHER_DEVICE in call(evaluate, *at, str(tmp_path / "others"), "--output", str(tmp_path / "again"))
    import soundfile

    soundfile.write(tmp_path / "tone.wav", tones.synthesize("s0-00-high"), 16000)  # type: ignore[misc]
    assert OTHER_DEVICE in call(predict, "--checkpoint", str(state), str(tmp_path / "tone.wav"))
