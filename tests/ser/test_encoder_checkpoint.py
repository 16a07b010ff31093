"""States of trained speech encoders, used elsewhere: what they carry, what they need, and the same numbers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import ser.evaluate
from ser.checkpoint import open_checkpoint
from ser.corpora import Corpus
from ser.evaluate import EvaluateOptions, evaluate
from ser.models.encoders import source
from ser.predict import predict_files, predict_waveforms
from ser.splits import split
from ser.training.loop import EpochRecord
from ser.utils.errors import UserError
from tests.helpers.trained_encoders import FINE_TUNED, FROZEN, trained_encoder

Trained = tuple[Path, EpochRecord]


@pytest.fixture(scope="module")
def frozen(tones: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained_encoder(tmp_path_factory.mktemp("frozen"), tones, FROZEN)


@pytest.fixture(scope="module")
def tuned(tones: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A fine-tuned encoder whose published files are no longer there."""
    path, record = trained_encoder(tmp_path_factory.mktemp("tuned"), tones, FINE_TUNED)
    shutil.rmtree(path.parent / "encoder")
    return path, record


@pytest.mark.parametrize("name", ["frozen", "tuned"])
def test_audio_of_the_validation_subset_gets_the_predictions_of_the_training(
    name: str, tones: Corpus, request: pytest.FixtureRequest
) -> None:
    path, record = request.getfixturevalue(name)
    names = tones.table["utterance_id"].iloc[split(tones).validation].tolist()
    found = predict_waveforms(open_checkpoint(path), [tones.synthesize(name) for name in names])
    expected = record.utterances.set_index("utterance_id").loc[names, ["p_high", "p_low"]].to_numpy()
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.ptp(found[:, 0]) > 0.01


@pytest.mark.parametrize("name", ["frozen", "tuned"])
def test_files_of_any_length_are_predicted(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    rng, files = np.random.default_rng(0), []
    for seconds in (0.04, 0.7, 4.2):
        files.append(tmp_path / f"{seconds}.wav")
        soundfile.write(files[-1], rng.normal(0, 0.1, int(seconds * 22050)), 22050)
    for _, found in predict_files(open_checkpoint(request.getfixturevalue(name)[0]), files):
        assert not isinstance(found, str), found
        assert found.sum() == pytest.approx(1)


def test_an_evaluation_gives_the_scores_of_the_last_epoch_and_another_corpus_is_scored_too(
    tuned: Trained, tones: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, record = tuned
    other = replace(tones, name="others", table=tones.table.assign(speaker="z" + tones.table["speaker"]))
    for corpus in (tones, other):
        monkeypatch.setattr(ser.evaluate, "load", lambda *_args, corpus=corpus: corpus)
        options = EvaluateOptions(path, corpus=corpus.name, features=tmp_path / "f", output=tmp_path / corpus.name)
        assert evaluate(options) == 0
        report = json.loads((tmp_path / corpus.name / "report.json").read_text())
        if corpus is tones:
            assert report["true"]["scores"]["uar"] == pytest.approx(record.metrics["val/uar"])
        else:
            assert report["utterances"] == len(tones)
    capsys.readouterr()


def test_a_frozen_encoder_that_is_missing_or_another_is_named_in_one_message(frozen: Trained, tmp_path: Path) -> None:
    state = torch.load(frozen[0], weights_only=True)
    assert "encoder" not in state
    config = state["config"]
    torch.save(
        {**state, "config": {**config, "model.name": f"hf:{tmp_path / 'gone' / 'encoder'}"}}, tmp_path / "state.pt"
    )
    with pytest.raises(UserError, match=r"state\.pt'.*gone.*no such folder\. The encoder's files of version"):
        open_checkpoint(tmp_path / "state.pt")
    shutil.copytree(frozen[0].parent / "encoder", tmp_path / "gone" / "encoder")
    open_checkpoint(tmp_path / "state.pt", tmp_path / "gone" / "encoder")
    with (tmp_path / "gone" / "encoder" / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match="does not hold the version"):
        open_checkpoint(tmp_path / "state.pt")


def test_a_state_writes_no_files_but_an_encoders_settings(tuned: Trained, tmp_path: Path) -> None:
    state = torch.load(tuned[0], weights_only=True)
    assert set(state["encoder"]) == {"config.json", "preprocessor_config.json"}
    state["encoder"] |= {str(tmp_path / "evil"): "text", "../evil": "text"}
    torch.save(state, tmp_path / "state.pt")
    open_checkpoint(tmp_path / "state.pt")
    assert not (tmp_path / "evil").exists()


def test_the_network_below_is_loaded_once(frozen: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    monkeypatch.setattr(source, "load", lambda *args, load=source.load, **kw: loads.append(1) or load(*args, **kw))
    checkpoint = open_checkpoint(frozen[0])
    assert not loads
    for _ in range(2):
        predict_waveforms(checkpoint, [np.zeros(8000, np.float32)])
    assert loads == [1]
