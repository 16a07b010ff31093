"""A trained network as a registered model, which predicts what the network predicts."""

import mlflow
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException

from ser.audio import read_audio
from ser.checkpoint import open_checkpoint
from ser.config import Config
from ser.predict import predict_waveforms
from ser.training.loop import train
from study.commands import register
from study.commands.register import RegisterOptions
from study.tracking.store import experiment_id, open_client, search_all
from study.tracking.trained_runs import Trained

CONFIGURATION = {"model.width": 0.03, "training.epochs": 1, "training.batch_size": 8, "training.crop_seconds": 0.5}


@pytest.fixture
def trained(task_at, tmp_path, monkeypatch):
    """A store with a run, and its network in a checkpoint."""
    config = Config.from_dotted(CONFIGURATION)
    *_, record = train(config, task_at(), seed=0, device="cpu")
    path = tmp_path / "state.pt"
    torch.save(record.state, path)
    uri = f"sqlite:///{tmp_path}/m.db"
    client = open_client(uri)
    experiment = experiment_id(client, uri, "made")
    run = client.create_run(experiment, tags={"kind": "trial", "stage": "search", "space": "cross_entropy"})
    monkeypatch.setattr(register, "find_trained", lambda *_: Trained(path, None, tmp_path))
    before = mlflow.get_tracking_uri()
    yield RegisterOptions(run.info.run_id, "first", uri), client, experiment, path
    mlflow.set_tracking_uri(before)


def test_the_model_predicts_what_the_network_does_and_its_record_stays(trained):
    options, client, experiment, path = trained
    before = client.get_run(options.run).to_dictionary()
    name, number = register.register(options)
    assert (name, number) == ("first", "1")
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
    assert search_all(client, [experiment], "tags.stage = 'search'")[0].info.run_id == options.run
    assert register.register(options) == ("first", "2")


def test_a_head_on_embeddings_is_refused(trained, monkeypatch):
    options, client, experiment, _ = trained

    class Head:
        class config:  # noqa: N801
            class model:  # noqa: N801
                reads_embeddings = True
                pretrained = "w.pth"

    monkeypatch.setattr(register, "open_checkpoint", lambda _: Head)
    with pytest.raises(register.UserError, match=r"embeddings of 'w\.pth'"):
        register.register(options)
    assert not search_all(client, [experiment], "tags.kind = 'model'")


def test_waveforms_are_predicted_like_files(trained, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    from ser.predict import predict_files

    checkpoint = open_checkpoint(trained[3])
    path = tmp_path / "voice.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 9000), 16000)
    ((_, of_file),) = predict_files(checkpoint, [path])
    assert predict_waveforms(checkpoint, [read_audio(path, rate=16000)])[0] == pytest.approx(of_file)
