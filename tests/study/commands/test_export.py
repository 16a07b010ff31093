"""Tests of the Hugging Face folder: transformers predicts with it as the study does; its card; what is refused."""

import errno
import re
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import yaml

from ser.checkpoint import open_checkpoint
from ser.predict import predict_waveforms
from ser.utils.errors import UserError
from study.commands import export
from study.commands.export import ExportOptions
from study.options import StudyOptions
from study.schema import FAILED, FINISHED, Tag
from study.tracking.trained_runs import Trained, TrialFolder
from tests.helpers.made_records import make_store
from tests.helpers.trained_encoders import FINE_TUNED, FROZEN, trained_encoder

SEARCH_TAGS = {"kind": "trial", "stage": "search", Tag.SPACE: "elr", Tag.NOISE: "noisy-B", Tag.STATUS: FINISHED}
CONFIRM_TAGS = {**SEARCH_TAGS, "stage": "confirm", Tag.STUDY: "made", Tag.CANDIDATE: "default", Tag.SOURCE: ""}


@pytest.fixture
def made(tones, tmp_path, monkeypatch):
    """Return a function that makes a finished run of a trained encoder, and gives the options that export it."""
    monkeypatch.chdir(tmp_path)
    store = make_store(tmp_path)
    client, experiment, uri = store.client, store.experiment, store.uri
    study = StudyOptions(name="made", storage_path=tmp_path / "s", experiment="made", tracking_uri=uri)

    def make(settings=FROZEN, tags=SEARCH_TAGS, metrics=None, **changes):
        path, record = trained_encoder(tmp_path, tones, settings, noise="symmetric:0.25", **changes)
        run = client.create_run(experiment, tags=tags)
        for key, value in {"model.name": f"hf:{tmp_path / 'encoder'}"}.items():
            client.log_param(run.info.run_id, key, value)
        for key, value in (metrics or {"val/uar": record.metrics["val/uar"]}).items():
            client.log_metric(run.info.run_id, key, value)
        record.utterances.to_parquet(tmp_path / "utterances.parquet")
        client.log_artifact(run.info.run_id, str(tmp_path / "utterances.parquet"))
        trial = TrialFolder(tmp_path / "trial", study, tmp_path / "features", 5)
        monkeypatch.setattr(export, "find_trial", lambda *_: trial)
        monkeypatch.setattr(export, "newest_of", lambda *_: Trained(path, study, tmp_path / "features", 5))
        return ExportOptions(run.info.run_id, Path("out"), uri)

    make.client, make.experiment = client, experiment
    return make


def test_the_snippet_of_the_card_runs_without_this_project_and_predicts_what_the_study_does(made, tmp_path):
    options = made()
    export.export(options)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    assert not list(tmp_path.glob(".partial-*"))
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1
    card = (tmp_path / "out" / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["pipeline_tag"] == "audio-classification"
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == pytest.approx(
        made.client.get_run(options.run).data.metrics["val/uar"], abs=1e-4
    )
    assert "base_model" not in metadata  # a folder has no name that others know
    assert str(tmp_path) not in card
    for text in ("4 of 16 training labels (25.0 %)", "ELR", "high, low", "Chance level: 0.500", "one at a time"):
        assert text in card.replace("**Predict one file", "one"), text
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    samples = np.random.default_rng(0).normal(0, 0.1, 11000).astype(np.float32)
    soundfile.write(tmp_path / "speech.wav", samples, 16000, subtype="FLOAT")
    found = run_without_project(code, tmp_path)
    (expected,) = predict_waveforms(open_checkpoint(tmp_path / "state.pt"), [samples])
    assert [found["high"], found["low"]] == pytest.approx(expected.tolist(), abs=1e-5)


def run_without_project(code, folder):
    """Run code in a process that can import installed packages, but not this project; return what it prints."""
    environment = {"PYTHONPATH": sysconfig.get_path("purelib"), "HOME": str(folder)}
    # torchaudio's own library is built for another torch here; a plain installation needs no such line.
    first = (
        "import importlib.util, sys; assert importlib.util.find_spec('ser') is None; sys.modules['torchaudio'] = None\n"
    )
    command = [sys.executable, "-S", "-c", first + code]
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return {one["label"]: one["score"] for one in yaml.safe_load(done.stdout)}


@pytest.mark.slow
def test_a_fine_tuned_encoder_is_exported_without_its_published_files(made, tmp_path):
    import shutil

    options = made(FINE_TUNED, kind="Wav2Vec2", feat_extract_norm="layer", do_stable_layer_norm=True)
    shutil.rmtree(tmp_path / "encoder")
    export.export(options)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "fine-tuned" in card
    assert "one file at a time" not in card
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    samples = np.random.default_rng(0).normal(0, 0.1, 11000).astype(np.float32)
    soundfile.write(tmp_path / "speech.wav", samples, 16000, subtype="FLOAT")
    (expected,) = predict_waveforms(open_checkpoint(tmp_path / "state.pt"), [samples])
    found = run_without_project(code, tmp_path)
    assert [found["high"], found["low"]] == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_card_of_a_confirmed_training_lists_all_folds_and_names_the_command_of_the_interval(made, tmp_path):
    tags = {**CONFIRM_TAGS, Tag.FOLD: "5", Tag.SEED: "0"}
    for fold, uar in (("1", 0.5), ("2", 0.7)):
        other = made.client.create_run(made.experiment, tags={**tags, Tag.FOLD: fold})
        made.client.log_metric(other.info.run_id, "test/last/uar", uar)
    made.client.create_run(made.experiment, tags={**tags, Tag.STATUS: FAILED})
    export.export(made(tags=tags, metrics={"test/last/uar": 0.9, "val/uar": 0.1}))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| 1 | 0 | 0.500 |\n| 2 | 0 | 0.700 |\n| 5 | 0 | 0.900 |" in card
    assert "Mean: 0.700" in card
    assert "significance --experiment made --study made" in card
    assert "on the test speakers against true labels" in card


@pytest.mark.parametrize(
    ("params", "status", "message"),
    [
        ("cnn14", FINISHED, r"has trained cnn14; only speech encoders.*register(\.py)? --run"),
        ("logistic_regression", FINISHED, r"has trained logistic_regression"),
        ("hf:x", FAILED, "failed. Choose another run"),
        ("hf:x", "", "still training"),
    ],
)
def test_other_runs_are_refused(params, status, message):
    info = SimpleNamespace(run_id="abc", status="FINISHED" if status else "RUNNING")
    data = SimpleNamespace(params={"model.name": params}, tags={Tag.STATUS: status} if status else {})
    with pytest.raises(UserError, match=message):
        export._check_run(SimpleNamespace(info=info, data=data))


def test_an_unknown_run_is_named(tmp_path):
    uri = make_store(tmp_path).uri
    with pytest.raises(UserError, match="there is no run 'abc'"):
        export.export(ExportOptions("abc", tmp_path / "out", uri))


def test_a_full_folder_and_a_full_disk_leave_everything_as_it_was(made, tmp_path, monkeypatch):
    options = made()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for name, message in (("full", "is not empty"), ("full/file", "is a file")):
        with pytest.raises(UserError, match=message):
            export.export(replace(options, output=tmp_path / name))

    def no_room(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", no_room)
    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", no_room)
    with pytest.raises(UserError, match=r"cannot be written: No space left on device\. Nothing is left there"):
        export.export(options)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".partial-*"))


def test_another_pooling_is_refused_before_anything_is_written(made, tmp_path):
    options = made({**FROZEN, "model.pooling": "mean_std"})
    with pytest.raises(UserError, match=r"--set model\.pooling=mean"):
        export.export(options)
    assert not (tmp_path / "out").exists()
    assert torch.load(tmp_path / "state.pt", weights_only=True)["epoch"] == 1
