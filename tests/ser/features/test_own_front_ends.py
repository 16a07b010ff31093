"""Front ends of the user's own, named by their import path."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ser.config import Config
from ser.corpora import Corpus
from ser.features import FRONT_ENDS, FrontEnd, front_end, log_mel, named_extractor, open_store
from ser.splits import split
from ser.training import train
from ser.training.embeddings import extractor
from ser.training.task import make_task
from ser.utils.errors import UserError

MODULE = """
import numpy as np
from ser.features import Extractor, FrontEnd

LOW = FrontEnd("low", "log_mel", 16000, 64, hop_length=160, n_fft=512, f_min=50.0, f_max=4000.0)
COARSE = FrontEnd("coarse", "log_mel", 16000, 32, hop_length=160, n_fft=512, f_min=50.0, f_max=8000.0)
LOUDNESS = Extractor(
    FrontEnd("loudness-1", "vector", 16000, 2),
    lambda: lambda samples: np.array([[samples.std(), np.abs(samples).max()]], dtype=np.float32),
)
TAKEN = FrontEnd("panns_16k", "log_mel", 16000, 64, hop_length=160, n_fft=512, f_min=0.0, f_max=8000.0)
UNNAMED = FrontEnd("a/b", "log_mel", 16000, 64, hop_length=160, n_fft=512, f_min=0.0, f_max=8000.0)
VECTOR = FrontEnd("vector", "vector", 16000, 2)
NUMBER = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of front ends in a package in the current folder; returns its import path."""
    package = f"front_ends_of_{tmp_path.name}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / package / "mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    return f"{package}.mine"


def test_a_spectrogram_of_ones_own_is_stored_and_trained_on(module: str, tones: Corpus, tmp_path: Path) -> None:
    settings = {"model.width": 0.03, "training.epochs": 1, "training.crop_seconds": 0.5, "training.batch_size": 16}
    config = Config.from_dotted({**settings, "model.front_end": f"{module}.LOW"})
    assert Config.from_dotted(config.to_dotted()) == config
    store = open_store(tones, extractor(config), tmp_path / "stores")
    assert store.front_end.f_max == 4000.0
    assert open_store(tones, f"{module}.LOW", tmp_path / "stores").path == store.path
    (record,) = train(config, make_task(tones, split(tones), store.path, "clean", 0), seed=0)
    assert np.isfinite(record.metrics["val/loss"])


def test_changed_values_lead_to_another_store(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = front_end(f"{module}.LOW")
    before = named_extractor(f"{module}.LOW").front_end
    monkeypatch.setattr(f"{module}.LOW", replace(spec, name="low", f_max=5000.0))
    assert named_extractor(f"{module}.LOW").front_end.name != before.name == spec.name


def test_a_vector_comes_with_its_own_function(module: str, tones: Corpus, tmp_path: Path) -> None:
    store = open_store(tones, f"{module}.LOUDNESS", tmp_path)
    assert store.frames.shape == (len(tones), 2)
    assert Config.from_dotted({"model.name": "mlp", "model.front_end": f"{module}.LOUDNESS"}).model.features


def test_log_mel_takes_an_import_path(module: str) -> None:
    assert log_mel(torch.zeros(1, 16000), f"{module}.COARSE").shape == (1, 101, 32)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("TAKEN", "calls itself 'panns_16k'"),
        ("UNNAMED", "calls itself 'a/b'"),
        ("VECTOR", "make it a ser.features.Extractor"),
        ("NUMBER", "must be an instance of ser.features.front_ends.FrontEnd or .*Extractor, got 3"),
        ("LWO", "Did you mean 'LOW'"),
    ],
)
def test_what_cannot_be_a_front_end_is_refused(module: str, name: str, message: str) -> None:
    with pytest.raises(UserError, match=f"(?i){message}"):
        named_extractor(f"{module}.{name}")


def test_a_front_end_that_the_model_cannot_read_is_refused(module: str) -> None:
    with pytest.raises(UserError, match=r"COARSE.*log_mel of 32 values.*cnn14 reads panns_16k or panns_32k"):
        Config.from_dotted({"model.front_end": f"{module}.COARSE"})
    with pytest.raises(UserError, match=r"LOUDNESS.*cnn14 reads"):
        Config.from_dotted({"model.front_end": f"{module}.LOUDNESS"})


def test_built_in_front_ends_keep_their_names() -> None:
    assert [named_extractor(name).front_end.name for name in FRONT_ENDS if name != "egemaps_16k"] == [
        name for name in FRONT_ENDS if name != "egemaps_16k"
    ]
    assert all(isinstance(front_end(name), FrontEnd) for name in FRONT_ENDS)
