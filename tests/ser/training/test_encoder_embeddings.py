"""Tests of the stored layers of frozen speech encoders."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ser.config import Config
from ser.corpora import Corpus
from ser.features.store import FeatureStore, open_store
from ser.models.encoders.network import Encoder
from ser.splits import split
from ser.training import embeddings, make_task, train
from ser.training.embeddings import equal_parts, extractor
from ser.training.setup import check_weights
from ser.utils.errors import UserError
from tests.helpers.tiny_encoders import tiny_encoder

pytest.importorskip("transformers")

RATE = 16000
KINDS = ("Wav2Vec2", "WavLM", "Data2VecAudio", "Wav2Vec2Bert", "Whisper", "AST")


def config_of(folder: Path, **values: Any) -> Config:
    return Config.from_dotted({"model.name": f"hf:{folder}", "model.freeze": "base", **values})


def published(config: Config) -> Encoder:
    model = config.model.build_network(num_classes=2)
    assert isinstance(model, Encoder)
    model.load_published()
    return model.eval()


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def computed(config: Config, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (2, L + 1, E) what would be stored of a waveform."""
    found = extractor(config)
    row = found.load()(samples)
    assert row.dtype == np.float32
    assert row.shape == (1, found.front_end.size)
    return row.reshape(2, 4, 24)


@torch.no_grad()
def direct(model: Encoder, parts: list[NDArray[np.float32]], valid: int | None = None) -> NDArray[np.float32]:
    """Return (2, L + 1, E) mean and standard deviation over all valid frames of all parts."""
    frames = []
    for part in parts:
        lengths = None if valid is None else torch.tensor([valid])
        states, is_valid = model.hidden_states(torch.from_numpy(part)[None, :, None], lengths)
        frames.append(states[:, is_valid])
    together = torch.cat(frames, dim=1).double().numpy()
    return np.stack([together.mean(axis=1), together.std(axis=1)]).astype(np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {kind: tiny_encoder(root / kind, kind) for kind in KINDS}


def test_the_store_holds_the_pooled_layers_that_transformers_computes(
    tones: Corpus, folders: dict[str, Path], tmp_path: Path
) -> None:
    import transformers

    folder = folders["Wav2Vec2"]
    store = open_store(tones, extractor(config_of(folder)), tmp_path)
    waveforms = open_store(tones, "waveform_16k", tmp_path)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    reader = transformers.AutoFeatureExtractor.from_pretrained(folder)
    assert store.frames.shape == (len(tones), 2 * 4 * 24)
    for row in range(0, len(tones), 10):
        inputs = reader(waveforms.utterance(row)[:, 0], sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            states = torch.cat(model(**inputs, output_hidden_states=True).hidden_states)
        expected = torch.stack([states.mean(dim=1), states.std(dim=1, correction=0)]).flatten()
        np.testing.assert_allclose(store.utterance(row)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_is_pooled_over_all_of_its_frames(
    kind: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "PART_SECONDS", 0.9)
    config = config_of(folders[kind])
    model = published(config)
    whole = noise(int(0.7 * RATE))
    np.testing.assert_allclose(computed(config, whole), direct(model, [whole]), rtol=1e-5, atol=1e-5)
    long = np.concatenate([noise(RATE), 3 * noise(RATE, seed=1), noise(RATE // 2, seed=2)])
    parts = equal_parts(long, 0.9 * RATE, 1)
    assert [len(part) for part in parts] == [13334, 13334, 13334]
    np.testing.assert_allclose(computed(config, long), direct(model, parts), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "parts"), [("Wav2Vec2", 1), ("Whisper", 3), ("AST", 3)])
def test_encoders_of_one_length_get_parts_of_at_most_that_length(
    kind: str, parts: int, folders: dict[str, Path]
) -> None:
    config = config_of(folders[kind])
    model = published(config)
    samples = noise(int(2.5 * RATE))
    cut = equal_parts(samples, model.max_frames or 30 * RATE, 1)
    assert len(cut) == parts
    np.testing.assert_allclose(computed(config, samples), direct(model, cut), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_that_is_shorter_than_the_network_takes_is_followed_by_silence(
    kind: str, folders: dict[str, Path]
) -> None:
    config = config_of(folders[kind])
    model = published(config)
    samples = noise(100)
    padded = np.pad(samples, (0, max(0, model.min_frames - 100)))
    np.testing.assert_allclose(computed(config, samples), direct(model, [padded], 100), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 479_999, 480_000, 480_001, 1_000_003])
def test_parts_have_one_length_and_cover_every_sample(samples: int) -> None:
    waveform = np.arange(samples, dtype=np.float32)
    parts = equal_parts(waveform, 480_000, 400)
    assert len(parts) == -(-samples // 480_000)
    assert {len(part) for part in parts} == {len(parts[0])}
    assert 400 <= len(parts[0]) <= 480_000
    if samples >= 400:
        assert set(np.concatenate(parts)) == set(waveform)
        assert sum(map(len, parts)) < samples + len(parts)


def test_the_number_of_threads_does_not_matter(tones: Corpus, folders: dict[str, Path], tmp_path: Path) -> None:
    front_end = extractor(config_of(folders["WavLM"]))
    one, three = (open_store(tones, front_end, tmp_path / str(n), workers=n) for n in (1, 3))
    assert one.frames.tobytes() == three.frames.tobytes()


def test_bfloat16_is_close_and_stored_apart(tones: Corpus, folders: dict[str, Path], tmp_path: Path) -> None:
    stores: list[FeatureStore] = [
        open_store(tones, extractor(config_of(folders["Wav2Vec2"], **values)), tmp_path)
        for values in ({}, {"model.encoder_precision": "bfloat16"})
    ]
    exact, rounded = (np.asarray(store.frames) for store in stores)
    assert stores[0].path != stores[1].path
    assert rounded.dtype == np.float32
    difference = np.abs(rounded - exact).max()
    assert 0 < difference < 0.05 * np.abs(exact).max()


def test_a_store_is_found_by_the_content_of_the_encoder(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = folders["Wav2Vec2"]
    name = extractor(config_of(folder)).front_end.name
    assert name.startswith("hf-wav2vec2-")
    copied = shutil.copytree(folder, tmp_path / "another name")
    assert extractor(config_of(copied)).front_end.name == name
    for same in ({"model.pooling": "mean_std"}, {"model.layers": "last"}, {"model.dropout": 0.5}):
        assert extractor(config_of(folder, **same)).front_end.name == name
    assert extractor(config_of(folder, **{"model.encoder_precision": "bfloat16"})).front_end.name != name
    tiny_encoder(copied, seed=1)  # other weights under the same path
    assert extractor(config_of(copied)).front_end.name != name


def test_the_head_standardises_by_the_training_utterances(
    tones: Corpus, folders: dict[str, Path], tmp_path: Path
) -> None:
    values = {"model.layers": "last", "training.epochs": 40, "training.batch_size": 64}
    config = config_of(folders["Wav2Vec2"], **values)
    store = open_store(tones, extractor(config), tmp_path)
    task = make_task(tones, split(tones), store.path, "clean", noise_seed=0)
    *_, last = train(config, task, seed=0)
    rows = store.frames[task.train.rows].reshape(-1, 2, 4, 24)[:, 0, 3]
    assert np.abs(rows.mean(axis=0)).max() > 0.5  # far from the 0 that the statistics begin with
    np.testing.assert_allclose(last.state["model"]["norm.running_mean"], rows.mean(axis=0), rtol=0.1, atol=0.05)


def test_input_that_the_network_cannot_prepare_is_refused_before_features_are_computed(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["Wav2Vec2"], tmp_path / "encoder")
    check_weights(config_of(folder).model)
    shutil.copy(folders["Wav2Vec2Bert"] / "preprocessor_config.json", folder)
    with pytest.raises(UserError, match="reads neither a waveform nor a known spectrogram"):
        check_weights(config_of(folder).model)
