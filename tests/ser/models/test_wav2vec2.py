"""wav2vec 2.0 and WavLM are torchaudio's, to the bit."""

import pytest
import torch

from ser.models import Wav2Vec2Base, WavLmBase
from ser.torchaudio_import import torchaudio

TINY = 1 / 16
KINDS = [Wav2Vec2Base, WavLmBase]
PUBLISHED = {Wav2Vec2Base: torchaudio.models.wav2vec2_base, WavLmBase: torchaudio.models.wavlm_base}
BUNDLES = {Wav2Vec2Base: torchaudio.pipelines.WAV2VEC2_BASE, WavLmBase: torchaudio.pipelines.WAVLM_BASE}


@pytest.fixture(autouse=True)
def one_thread():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.mark.parametrize("kind", KINDS)
def test_at_width_1_they_have_the_parameters_of_torchaudios_base_models(kind):
    with torch.device("meta"):
        ours, theirs = kind(4), PUBLISHED[kind]()
    shapes = {name: value.shape for name, value in ours.state_dict().items() if not name.startswith("head.")}
    assert shapes == {name: value.shape for name, value in theirs.state_dict().items()}
    assert ours.embedding_size == 768


@pytest.mark.parametrize("kind", KINDS)
def test_at_width_1_they_are_built_as_the_published_weights_were(kind, monkeypatch):
    asked = {}
    model = PUBLISHED[kind].__name__.replace("_base", "_model")
    build = getattr(torchaudio.models, model)
    monkeypatch.setattr(torchaudio.models, model, lambda **sizes: asked.update(sizes) or build(**sizes))
    with torch.device("meta"):
        kind(4)
    assert asked == BUNDLES[kind]._params


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedding_is_the_mean_over_time_of_torchaudios_output(kind):
    model = kind(4, TINY).eval()
    whole = torchaudio.models.Wav2Vec2Model(model.feature_extractor, model.encoder)
    x = torch.randn(2, 2000) * 0.1
    with torch.no_grad():
        expected = whole(x)[0]
        assert expected.shape == (2, 6, 48)
        assert torch.equal(model.embed(x[:, :, None]), expected.mean(dim=1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [0.0, 0.5, 1.0])
def test_dropout_scales_the_published_rates_and_layer_drop(kind, dropout):
    with torch.device("meta"):
        model = kind(4, TINY, dropout)
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.0, 0.1 * dropout}
    assert model.encoder.transformer.layer_drop == 0.05 * dropout


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_left_out_in_training_also_where_lengths_are_given(kind):
    model = kind(4, TINY, 0.0)
    x, lengths = torch.randn(2, 1000, 1) * 0.1, torch.tensor([1000, 600])
    with torch.no_grad():
        whole = model(x, lengths)
        model.encoder.transformer.layer_drop = 1.0
        assert (model(x, lengths) - whole).abs().max() > 1e-3
        model.encoder.transformer.layer_drop = 0.0
        assert torch.equal(model(x, lengths), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_the_padding_is_masked_also_where_the_first_layer_is_left_out(kind, monkeypatch):
    model = kind(4, TINY, 0.0)
    model.encoder.transformer.layer_drop = 0.5
    x, lengths = torch.randn(2, 3000, 1) * 0.1, torch.tensor([3000, 1500])

    def logits(*arguments):
        chances = iter([0.0] + [1.0] * 11)
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(torch, "rand", lambda *_: torch.tensor(next(chances)))
            return model(*arguments)

    torch.testing.assert_close(logits(x, lengths)[1:], logits(x[1:, :1500], lengths[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_of_no_use_without_weights_and_reads_the_waveform(kind):
    assert kind.needs_weights
    assert kind.front_ends == ("waveform_16k",)
