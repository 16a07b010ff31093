"""Tests of what the report says was trained."""

from types import SimpleNamespace

import pytest

from analysis.page import trained
from analysis.page.trained import _network_in_words, _noise_rates

ENCODER = {"model.name": "hf:facebook/wav2vec2-base", "model.revision": "0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8"}


def test_noise_levels_are_in_the_order_of_their_rates_and_unknown_rates_are_left_out():
    rates = {"noisy-B": "0.4019", "clean": "0.0", "human": "", "noisy-A": "0.26393442622950819", "old": "None"}
    runs = [
        SimpleNamespace(data=SimpleNamespace(tags={"noise": level, "noise.rate": rate}))
        for level, rate in rates.items()
    ]
    assert _noise_rates(runs) == "clean 0.0%, noisy-A 26.4%, noisy-B 40.2%"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            {"model.freeze": "base"},
            "frozen: a head on a sum of all layers with trained weights, mean over the utterance",
        ),
        (
            {"model.freeze": "base", "model.layers": "9", "model.pooling": "mean_std"},
            "frozen: a head on layer 9, mean and standard deviation over the utterance",
        ),
        ({"model.freeze": "none"}, "fine-tuned, mean over the crop"),
        (
            {"model.freeze": "convolutions", "model.frozen_layers": "4"},
            "fine-tuned except the convolutions and the lowest 4 layers, mean over the crop",
        ),
    ],
)
def test_a_speech_encoder_is_named_with_its_version_and_what_of_it_is_trained(model, words, monkeypatch):
    monkeypatch.setattr(trained, "_parameters", lambda *_: 94_371_712)
    named = "speech encoder facebook/wav2vec2-base (94.4 million parameters and revision 0b5b8e868dd8), "
    assert _network_in_words({**ENCODER, **model}, 4) == named + words
    monkeypatch.setattr(trained, "_parameters", lambda *_: None)  # its files are on another machine
    in_folder = {**ENCODER, **model, "model.name": "hf:/data/encoders/wavlm-base-plus"}
    assert _network_in_words(in_folder, 4) == f"speech encoder wavlm-base-plus (revision 0b5b8e868dd8), {words}"
