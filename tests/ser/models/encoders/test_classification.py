"""Trained encoders as transformers' own classes for audio classification: the same probabilities in its pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ser.config import Config
from ser.models.encoders.classification import as_classification, check_expressible
from ser.models.encoders.head import LayerHead
from ser.models.encoders.network import Encoder
from ser.models.encoders.source import quiet
from ser.training.embeddings import extractor
from ser.utils.errors import UserError
from tests.helpers.tiny_encoders import CONFIGURATIONS, tiny_encoder

CLASSES = ("calm", "sad", "angry")
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}  # as in the large sizes
EXPRESSIBLE = [kind for kind in CONFIGURATIONS if kind not in ("Whisper", "AST")]
FROZEN, FINE_TUNED = {"model.freeze": "base"}, {"model.freeze": "none"}
WAVEFORM = np.random.default_rng(0).normal(0.05, 0.1, 17113).astype(np.float32)


def build(files: Path, settings: dict[str, Any]) -> tuple[Config, Encoder, Any]:
    """Return an encoder, and the head on it or itself, with statistics and layer weights as training would leave."""
    config = Config.from_dotted({"model.name": f"hf:{files}", **settings})
    torch.manual_seed(1)
    encoder = config.model.build_network(len(CLASSES))
    assert isinstance(encoder, Encoder)
    encoder.load_published()
    trained = config.model.build(len(CLASSES)) if config.model.reads_embeddings else encoder
    if isinstance(trained, LayerHead):
        trained.norm.running_mean.normal_()
        trained.norm.running_var.uniform_(0.5, 2)
        if trained.layer is None:
            torch.nn.init.normal_(trained.layer_weights)
    return config, encoder.eval(), trained.eval()


def predicted(config: Config, trained: Any) -> np.ndarray:
    """Return the probabilities of the waveform as a study computes them."""
    frames = extractor(config).load()(WAVEFORM) if config.model.reads_embeddings else WAVEFORM[:, None]
    with torch.no_grad():
        return trained(torch.from_numpy(frames)[None]).softmax(dim=1)[0].numpy()


def by_pipeline(folder: Path) -> list[float]:
    import transformers

    with quiet():
        classify = transformers.pipeline("audio-classification", str(folder))
        found = classify({"raw": WAVEFORM, "sampling_rate": 16000}, top_k=None)
    scores = {one["label"]: one["score"] for one in found}
    return [scores[name] for name in CLASSES]


CASES = [
    ("WavLM", {}, FROZEN),
    ("Wav2Vec2", LARGE, FROZEN),
    ("Wav2Vec2", {"add_adapter": True}, FINE_TUNED),
    ("Wav2Vec2Bert", {}, {**FROZEN, "model.layers": "1"}),
    ("SEW", {}, FINE_TUNED),
]
"""What transformers treats in ways of its own: a final layer norm, an adapter, a spectrogram, fewer frames."""
EVERY = [
    (kind, changes, settings)
    for kind in EXPRESSIBLE
    for changes in ({}, LARGE)
    for settings in (FROZEN, {**FROZEN, "model.layers": "last"}, {**FROZEN, "model.layers": "0"}, FINE_TUNED)
    if not changes or kind in ("Wav2Vec2", "Hubert", "WavLM", "UniSpeech", "UniSpeechSat")
]


@pytest.mark.parametrize(
    ("kind", "changes", "settings"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in EVERY)]
)
def test_the_pipeline_of_transformers_gives_the_probabilities_of_the_study(
    kind: str, changes: dict[str, Any], settings: dict[str, str], tmp_path: Path
) -> None:
    from transformers import AutoFeatureExtractor

    files = tiny_encoder(tmp_path / "encoder", kind, **changes)
    config, encoder, trained = build(files, settings)
    check_expressible(encoder, frozen=config.model.reads_embeddings)
    with quiet():
        as_classification(trained, encoder, CLASSES).save_pretrained(tmp_path / "model")
        AutoFeatureExtractor.from_pretrained(files).save_pretrained(tmp_path / "model")
    expected = predicted(config, trained)
    assert expected.max() - expected.min() > 0.01  # else any model would do
    assert by_pipeline(tmp_path / "model") == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("Whisper", FROZEN, r"averages over all 30 s.*ambivalent register"),
        ("AST", {**FINE_TUNED, "training.crop_seconds": 0.5}, r"two tokens.*ambivalent register"),
        ("WavLM", {**FROZEN, "model.pooling": "mean_std"}, r"model\.pooling is mean_std.*pooling=mean.*seconds"),
        ("WavLM", {**FINE_TUNED, "model.pooling": "mean_std"}, r"pooling=mean \(as a new training\)"),
    ],
)
def test_what_no_class_of_transformers_computes_is_refused_with_what_works(
    kind: str, settings: dict[str, Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config.from_dotted({"model.name": f"hf:{tiny_encoder(tmp_path / 'encoder', kind)}", **settings})
    encoder = config.model.build_network(2)
    assert isinstance(encoder, Encoder)
    with pytest.raises(UserError, match=reason):
        check_expressible(encoder, frozen=config.model.reads_embeddings)
