"""The 88 functionals of eGeMAPS, and classical models on them."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ser.config import Config, corpus_defaults
from ser.corpora import Corpus, load
from ser.features import egemaps as module
from ser.features import store as feature_store
from ser.features.egemaps import RATE, SHORTEST, SIZE, egemaps
from ser.features.store import open_store
from ser.utils.errors import UserError
from study.options import StudyOptions
from study.setup.spaces import load_space

needs_opensmile = pytest.mark.skipif(find_spec("opensmile") is None, reason="openSMILE is not installed")

PITCH, LOUDNESS = 0, 10
"""Positions of the mean pitch, in semitones above 27.5 Hz, and of the mean loudness."""


def buzz(hertz: float, seconds: float = 1.0) -> np.ndarray:
    """A tone with overtones, within full scale."""
    time = np.arange(int(seconds * RATE)) / RATE
    return (0.2 * sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 9))).astype(np.float32)


@needs_opensmile
@pytest.mark.parametrize("hertz", [110.0, 220.0])
def test_the_mean_pitch_is_that_of_the_voice(hertz: float) -> None:
    found = egemaps(buzz(hertz))
    assert found.shape == (SIZE,)
    assert np.isfinite(found).all()
    assert found[PITCH] == pytest.approx(12 * np.log2(hertz / 27.5), abs=0.2)


@needs_opensmile
def test_full_scale_is_clipped_and_does_not_wrap_around() -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)
    assert egemaps(tone)[LOUDNESS] == pytest.approx(egemaps(0.999 * tone)[LOUDNESS], rel=0.02)
    assert np.array_equal(egemaps(3 * tone), egemaps(np.clip(3 * tone, -1, 1)))


@needs_opensmile
def test_the_shortest_utterances_are_padded_at_the_end() -> None:
    short = buzz(220)[:100]
    assert np.array_equal(egemaps(short), egemaps(np.pad(short, (0, SHORTEST - 100))))
    assert np.isfinite(egemaps(short)).all()


@pytest.mark.parametrize("wrong", [np.zeros((2, 1000)), np.zeros(0)])
def test_what_is_no_waveform_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="waveform must be"):
        egemaps(wrong)


@needs_opensmile
def test_a_store_holds_them_whatever_the_number_of_threads(tones: Corpus, tmp_path: Path) -> None:
    one, three = (open_store(tones, "egemaps_16k", tmp_path / str(n), workers=n) for n in (1, 3))
    assert one.frames.shape == (len(tones), SIZE)
    assert np.array_equal(one.frames, three.frames)
    waveforms = open_store(tones, "waveform_16k", tmp_path)
    assert np.array_equal(one.utterance(3)[0], egemaps(waveforms.utterance(3)[:, 0]).astype(np.float32))


@needs_opensmile
@pytest.mark.skipif("SER_RAVDESS_ROOT" not in os.environ, reason="SER_RAVDESS_ROOT does not name RAVDESS's folder")
def test_women_speak_higher_than_men_in_ravdess() -> None:
    from ser.audio import read_audio

    table = load("ravdess", os.environ["SER_RAVDESS_ROOT"]).table.iloc[::35]
    found = np.stack([egemaps(read_audio(path)) for path in table["path"]])
    assert np.isfinite(found).all()
    pitch = {gender: found[(table["gender"] == gender).to_numpy(), PITCH].mean() for gender in ("female", "male")}
    assert pitch["female"] > pitch["male"] + 3


def test_without_opensmile_an_error_is_raised_before_any_audio_is_read(
    tones: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(feature_store, "_features", lambda *_: pytest.fail("audio was read"))
    with pytest.raises(UserError, match=r"egemaps_16k.*pip install opensmile"):
        open_store(tones, "egemaps_16k", tmp_path)
    base = {**corpus_defaults("synthetic"), "model.name": "cnn14"}
    with pytest.raises(UserError, match="openSMILE"):
        load_space("classical", {"model.front_end": "egemaps_16k"}).extractor(base)


# Configurations.


@pytest.mark.parametrize("name", ["mlp", "random_forest", "gradient_boosting"])
def test_classical_models_read_either(name: str) -> None:
    config = Config.from_dotted({"model.name": name, "model.front_end": "egemaps_16k"})
    assert config.model.features == "egemaps_16k"
    assert config.model.title == f"{name} on egemaps_16k"
    assert Config.from_dotted(config.to_dotted()) == config
    assert Config.from_dotted({"model.name": name}).model.features == "handcrafted_16k"


@pytest.mark.parametrize(
    ("model", "front_end", "said"),
    [
        ("mlp", "panns_16k", "mlp reads handcrafted_16k or egemaps_16k"),
        ("cnn14", "egemaps_16k", "cnn14 reads panns_16k or panns_32k"),
        ("cnn14", "handcrafted_16k", "cnn14 reads panns_16k or panns_32k"),
    ],
)
def test_a_front_end_of_other_models_is_refused(model: str, front_end: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Config.from_dotted({"model.name": model, "model.front_end": front_end})


def test_a_study_of_classical_models_takes_their_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: True)
    options = StudyOptions(space=("classical",), settings=("model.front_end=egemaps_16k",))
    assert options.shared.model.features == "panns_16k"  # that of no trial
    space = load_space("classical", options.fixed)
    space.check(options.defaults)
    assert space.extractor(options.defaults).front_end.name == "egemaps_16k"
    with pytest.raises(UserError, match="cnn14 reads"):
        load_space("cross_entropy", options.fixed).check(options.defaults)
