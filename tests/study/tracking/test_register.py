"""Tests of registered models: they predict what the network predicts, also without this project installed."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pytest
import soundfile
import torch
from mlflow.exceptions import MlflowException

import ser
from ser.audio import read_audio
from ser.checkpoint import open_checkpoint
from ser.config import Config
from ser.predict import predict_files, predict_waveforms
from ser.training import train
from ser.utils.output_files import bytes_in
from study.commands import register
from study.commands.register import RegisterOptions
from study.tracking.store import search_all
from study.tracking.trained_runs import Trained
from tests.helpers.made_records import make_store
from tests.helpers.trained_encoders import FINE_TUNED, FROZEN, trained_encoder

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
CONFIGURATION = {"model.width": 0.03, "training.epochs": 1, "training.batch_size": 8, "training.crop_seconds": 0.5}


@pytest.fixture
def trained(task_at, tmp_path, monkeypatch):
    """Make a store with a run, and the run's network in a checkpoint."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # MLflow adds the folders of models that it loads
    config = Config.from_dotted(CONFIGURATION)
    *_, record = train(config, task_at(), seed=0, device="cpu")
    path = tmp_path / "state.pt"
    torch.save(record.state, path)
    store = make_store(tmp_path)
    client, experiment, uri = store.client, store.experiment, store.uri
    run = client.create_run(experiment, tags={"kind": "trial", "stage": "search", "space": "cross_entropy"})
    monkeypatch.setattr(register, "find_trained", lambda *_: Trained(path, None, tmp_path, 1))
    before = mlflow.get_tracking_uri()
    yield RegisterOptions(run.info.run_id, "first", uri), client, experiment, path
    mlflow.set_tracking_uri(before)


def test_a_model_predicts_what_the_network_predicts_and_the_trained_run_is_unchanged(trained):
    options, client, experiment, path = trained
    before = client.get_run(options.run).to_dictionary()
    name, number, carried = register.register(options)
    assert (name, number, carried) == ("first", "1", 0)
    assert client.get_run(options.run).to_dictionary() == before
    model = mlflow.pyfunc.load_model(f"models:/{name}/{number}")
    waveforms = np.random.default_rng(0).normal(0, 0.1, (2, 12000)).astype(np.float32)
    expected = predict_waveforms(open_checkpoint(path), list(waveforms))
    assert model.predict(waveforms) == pytest.approx(expected)
    assert expected.sum(axis=1) == pytest.approx([1, 1])
    assert model.metadata.signature.inputs.inputs[0].type == np.float32
    assert model.metadata.metadata["classes"] == ["high", "low"]
    assert model.metadata.metadata["sample_rate"] == 16000
    assert model.input_example.shape == (1, 16000)
    with pytest.raises(MlflowException):
        model.predict(np.array([["a"]]))
    (own,) = search_all(client, [experiment], "tags.kind = 'model'")
    assert own.data.tags["source"] == options.run
    assert own.info.status == "FINISHED"
    assert "waveforms" in client.get_registered_model("first").description
    assert search_all(client, [experiment], "tags.stage = 'search'")[0].info.run_id == options.run
    client.update_registered_model("first", "mine")
    assert register.register(options) == ("first", "2", 0)
    names = {run.info.run_name for run in search_all(client, [experiment], "tags.kind = 'model'")}
    assert names == {"model first version 1", "model first version 2"}
    assert options.run in client.get_model_version("first", "1").description
    assert client.get_registered_model("first").description == "mine"


def test_a_run_that_is_deleted_meanwhile_is_a_message(trained, monkeypatch):
    options, client, experiment, _ = trained

    def delete_first(_):
        (run,) = search_all(client, [experiment], "tags.kind = 'model'")
        client.delete_run(run.info.run_id)
        raise MlflowException("the run is deleted")

    monkeypatch.setattr(register, "_in_one_place", delete_first)
    with pytest.raises(register.UserError, match=r"cannot be registered as 'first': "):
        register.register(options)


WITHOUT_PROJECT = """
import socket, sys
class NoNetwork(socket.socket):
    def connect(self, address): raise OSError("no network")
socket.socket = NoNetwork
import importlib.util, mlflow, numpy as np
assert importlib.util.find_spec("ser") is None
np.save(sys.argv[3], mlflow.pyfunc.load_model(sys.argv[1]).predict(np.load(sys.argv[2])))
"""


@pytest.mark.parametrize("kind", ["frozen", pytest.param("fine-tuned", marks=pytest.mark.slow)])
def test_an_encoder_is_registered_with_all_that_it_needs(kind, trained, tones, tmp_path, monkeypatch):
    options, *_ = trained
    path, _ = trained_encoder(tmp_path / "elsewhere", tones, FROZEN if kind == "frozen" else FINE_TUNED)
    expected_size = bytes_in(tmp_path / "elsewhere" / "encoder") if kind == "frozen" else 0
    (tmp_path / "elsewhere" / "encoder" / "optimizer.pt").write_bytes(b"not needed")
    monkeypatch.setattr(register, "find_trained", lambda *_: Trained(path, None, tmp_path, 1))
    waveforms = np.random.default_rng(0).normal(0, 0.1, (2, 12000)).astype(np.float32)
    expected = predict_waveforms(open_checkpoint(path), list(waveforms))
    assert register.register(options) == ("first", "1", expected_size)
    folder = tmp_path / "model"
    shutil.copytree(logged_model(options), folder)
    shutil.rmtree(tmp_path / "elsewhere")
    wanted = (folder / "requirements.txt").read_text().splitlines()
    assert f"transformers=={version('transformers')}" in wanted
    assert not list(folder.rglob("optimizer.pt"))
    np.save(tmp_path / "waveforms.npy", waveforms)
    found = tmp_path / "found.npy"
    script = [sys.executable, "-S", "-c", WITHOUT_PROJECT, folder, tmp_path / "waveforms.npy", found]
    packages = {
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "HOME": str(tmp_path),
    }
    subprocess.run(script, cwd=tmp_path, env=packages, check=True, capture_output=True)
    assert np.load(found) == pytest.approx(expected, abs=1e-6)


def test_waveforms_are_predicted_like_files(trained, tmp_path):
    checkpoint = open_checkpoint(trained[3])
    path = tmp_path / "voice.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 9000), 16000)
    ((_, of_file),) = predict_files(checkpoint, [path])
    assert predict_waveforms(checkpoint, [read_audio(path, rate=16000)])[0] == pytest.approx(of_file)


def logged_model(options):
    """Return the folder of the model that was registered first."""
    uri = f"models:/{options.name}/1"
    return Path(mlflow.artifacts.download_artifacts(uri, tracking_uri=options.tracking_uri))


def test_a_model_carries_the_code_that_it_runs_and_asks_for_no_package_of_this_project(trained):
    options, *_ = trained
    register.register(options)
    folder = logged_model(options)
    wanted = (folder / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in wanted)
    assert all("ambivalent" not in line and "+" not in line for line in wanted)
    assert "ambivalent" not in (folder / "conda.yaml").read_text()
    assert (folder / "code" / "ser" / "checkpoint.py").is_file()
    assert [path.name for path in (folder / "code").iterdir()] == ["ser"]
    assert not list(folder.rglob("*.pyc"))


def test_a_network_and_a_loss_of_ones_own_are_stored_with_the_model(tmp_path, monkeypatch):
    (tmp_path / "own_networks").mkdir()
    (tmp_path / "own_networks" / "narrow.py").write_text("from ser.models import Cnn6\nclass Narrow(Cnn6): pass\n")
    (tmp_path / "own_loss.py").write_text("from ser.losses import CrossEntropy\nclass Mine(CrossEntropy): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = Config.from_dotted({"model.name": "own_networks.narrow.Narrow", "loss.name": "own_loss.Mine"})
    config.model.build(2)
    found = register.code_paths(config)
    assert found == [str(tmp_path / "own_loss.py"), str(tmp_path / "own_networks"), str(Path(ser.__file__).parent)]


IMPORTED_BY_SER = """
import builtins, sys
found, original = set(), builtins.__import__
def record(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and str((globals or {}).get("__name__")).partition(".")[0] == "ser":
        found.add(name.partition(".")[0])
    return original(name, globals, locals, fromlist, level)
builtins.__import__ = record
from pathlib import Path
import numpy as np
from ser.checkpoint import open_checkpoint
from ser.predict import predict_waveforms
predict_waveforms(open_checkpoint(Path(sys.argv[1])), [np.zeros(8000, dtype=np.float32)])
print(*found - {"ser", *sys.stdlib_module_names})
"""


def test_the_requirements_are_what_the_code_imports():
    checkpoint = FIXTURES / "registered_model_0_1" / "artifacts" / "state.pt"
    script = [sys.executable, "-c", IMPORTED_BY_SER, checkpoint]
    found = subprocess.run(script, check=True, capture_output=True, text=True)
    assert sorted(found.stdout.split()) == sorted(register.REQUIREMENTS)


def test_a_model_of_version_0_1_is_loaded(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    model = mlflow.pyfunc.load_model(str(FIXTURES / "registered_model_0_1"))
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    found = model.predict(np.stack([tone, 0 * tone]))[0]
    expected = [0.174421853, 0.170714477, 0.160935226, 0.150471204, 0.167065507, 0.176391733]
    assert found == pytest.approx(expected, abs=2e-4)  # bfloat16 sums differ between processors


@pytest.mark.slow
def test_a_model_predicts_in_an_environment_of_its_own_requirements(trained, tmp_path):
    options, *_, path = trained
    register.register(options)
    folder = tmp_path / "model"
    shutil.copytree(logged_model(options), folder)
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--requirement", folder / "requirements.txt"]
    subprocess.run(install, check=True)
    waveforms = np.random.default_rng(0).normal(0, 0.1, (2, 12000)).astype(np.float32)
    empty = tmp_path / "empty"
    empty.mkdir()
    np.save(tmp_path / "waveforms.npy", waveforms)
    script = (
        "import importlib.util, sys; assert importlib.util.find_spec('ser') is None; import mlflow, numpy as np;"
        "model = mlflow.pyfunc.load_model(sys.argv[1]); found = model.predict(np.load(sys.argv[2]));"
        "np.save(sys.argv[3], found); import ser; print(ser.__file__)"
    )
    files = [folder, tmp_path / "waveforms.npy", tmp_path / "found.npy"]
    done = subprocess.run(
        [python, "-c", script, *files],
        cwd=empty,
        env={"HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(folder)
    assert not list(empty.glob("*"))
    shutil.rmtree(environment)  # gigabytes
    expected = predict_waveforms(open_checkpoint(path), list(waveforms))
    assert np.load(tmp_path / "found.npy") == pytest.approx(expected)
