from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from ser.audio.levels import level_warnings, measure
from ser.corpora.corpus import Corpus
from ser.corpora.registry import load
from ser.description.summary import describe
from ser.features.store import FeatureStore, open_store

RATE = 16000
COUNT = 12


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Twelve utterances near −20 dBFS: one of 16-bit integers written as floating point, and one 50 dB too quiet."""
    names = [f"u{number:02}" for number in range(COUNT)]
    for number, name in enumerate(names):
        samples = np.random.default_rng(number).normal(0, 0.1, RATE)
        scale = {"u03": 2**15, "u07": 10 ** (-50 / 20)}.get(name, 1)
        soundfile.write(tmp_path / f"{name}.wav", samples * scale, RATE, subtype="FLOAT")
    table = pd.DataFrame({
        "utterance_id": names,
        "path": [str(tmp_path / f"{name}.wav") for name in names],
        "speaker": [f"s{number % 4}" for number in range(COUNT)],
        "label": ["sad", "angry"] * (COUNT // 2),
    })  # fmt: skip
    return Corpus("levels", table, ("angry", "sad"), tmp_path)


def test_a_store_and_a_description_warn_alike(corpus: Corpus, tmp_path: Path) -> None:
    store = open_store(corpus, "waveform_16k", tmp_path / "stores")
    expected = [measure(store.utterance(row)[:, 0]) for row in range(COUNT)]
    np.testing.assert_allclose(store.levels, expected, rtol=1e-4)
    assert np.array_equal(FeatureStore.open(store.path).levels, store.levels)
    apart, beyond = level_warnings(corpus.table["utterance_id"].tolist(), store.levels)
    assert apart == (
        "2 of 12 utterances lie more than 40 dB from the median level (−20 dBFS): u03 (+70 dBFS), u07 (−70 dBFS)."
    )
    peak = np.abs(store.utterance(3)).max()
    assert beyond.startswith(f"1 of 12 utterances has samples far beyond full scale (±1): u03 ({peak:,.0f}). If ")
    assert "divide them by 32768" in beyond
    assert "--exclude" in beyond
    found = describe(corpus)
    assert found.numbers["audio"]["warnings"] == [apart, beyond]
    assert found.numbers["audio"]["median_level_dbfs"] == pytest.approx(-20, abs=0.1)
    assert found.utterances["peak"].idxmax() == 3


def test_the_spread_of_speech_is_no_warning() -> None:
    levels = np.column_stack([-40 + np.linspace(-24, 24, 1440), np.full(1440, 1.2)])  # that of RAVDESS
    assert level_warnings([str(row) for row in range(1440)], levels) == []
    assert level_warnings([], np.empty((0, 2))) == []
    synthetic = load("synthetic")
    names = synthetic.table["utterance_id"].tolist()[::20]
    assert level_warnings(names, np.array([measure(synthetic.synthesize(name)) for name in names])) == []


def test_a_corpus_of_integers_throughout_is_a_warning_of_bounded_length() -> None:
    names = [f"utterance-{row}" for row in range(1000)]
    (line,) = level_warnings(names, np.column_stack([np.full(1000, 60.0), np.arange(1000.0) + 30000]))
    assert line.startswith("1000 of 1000 utterances have samples far beyond full scale (±1): utterance-999 (30,999), ")
    assert "utterance-995 (30,995) and 995 more." in line
    assert len(line) < 400
