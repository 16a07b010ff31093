"""Tests of speech encoders of all families: equal to transformers' own, whatever the batch; freezing and training."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ser.models.encoders.inputs import AstMel
from ser.models.encoders.network import Encoder
from ser.models.encoders.parameters import EncoderParameters
from ser.models.encoders.source import EncoderFiles, find_encoder
from ser.utils.errors import UserError
from tests.helpers.tiny_encoders import tiny_encoder

LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}  # as in the large sizes
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2", {}),
    "wav2vec2 large": ("Wav2Vec2", LARGE),
    "hubert": ("Hubert", {}),
    "hubert with batch norm": ("Hubert", {"conv_pos_batch_norm": True}),
    "wavlm": ("WavLM", {}),
    "wavlm large": ("WavLM", LARGE),
    "unispeech-sat": ("UniSpeechSat", {}),
    "unispeech": ("UniSpeech", {}),
    "data2vec": ("Data2VecAudio", {}),
    "wav2vec2-bert": ("Wav2Vec2Bert", {}),
    "conformer": ("Wav2Vec2Conformer", {}),
    "sew": ("SEW", {}),
    "whisper": ("Whisper", {}),
    "ast": ("AST", {}),
}
LENGTHS = (14000, 9137, 5001)
CONVOLVED = (43, 28, 15)
VALID = {"wav2vec2-bert": (43, 27, 14), "sew": (21, 14, 7), "whisper": (44, 29, 16), "ast": (16, 8, 4)}
"""Valid frames of these lengths, by hand; AST: columns of 16 frames every 10, in two bands."""
SHORTEST = {"wav2vec2-bert": 560, "sew": 720, "whisper": 1, "ast": 2800}
TOP_NORM = {"wav2vec2 large", "wavlm large", "conformer", "whisper", "ast"}


# One of each kind with its own code; the others run with the slow tests, where nothing depends on the family.
FEW = ("wav2vec2", "data2vec", "wav2vec2-bert", "whisper", "ast")


@dataclass
class Family:
    """A tiny encoder of a family."""

    name: str
    files: EncoderFiles

    def build(self, dropout: float = 1.0, **parameters: Any) -> Encoder:
        """Return it as a network whose weights are drawn from a seed."""
        torch.manual_seed(0)
        return Encoder(self.files, 4, dropout, EncoderParameters(**parameters))

    def load(self) -> Encoder:
        """Return it with its weights and without dropout, in evaluation mode."""
        if self.name not in LOADED:
            model = self.build(dropout=0.0, pooling="mean_std").eval()
            model.load_published()
            LOADED[self.name] = model
        return copy.deepcopy(LOADED[self.name])


LOADED: dict[str, Encoder] = {}
FILES: dict[str, EncoderFiles] = {}


def named(name: str, folders: pytest.TempPathFactory) -> Family:
    """Return the family of a name."""
    if name not in FILES:
        kind, changes = FAMILIES[name]
        FILES[name] = find_encoder(f"hf:{tiny_encoder(folders.mktemp('encoder'), kind, **changes)}")
    return Family(name, FILES[name])


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Return each family."""
    return named(request.param, tmp_path_factory)


@pytest.fixture(
    params=[pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in FAMILIES],
)
def some(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Return each family; without the slow tests a few."""
    return named(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Family]:
    def make(kind: str = "Wav2Vec2", **changes: Any) -> Family:
        folder = tiny_encoder(tmp_path_factory.mktemp("encoder"), kind, **changes)
        return Family(kind, find_encoder(f"hf:{folder}"))

    return make


def batch() -> tuple[Tensor, Tensor]:
    """Return waveforms with loud noise after the end of each, and their lengths."""
    x = torch.randn(len(LENGTHS), max(LENGTHS), 1, generator=torch.Generator().manual_seed(1)) * 0.1
    for row, length in zip(x, LENGTHS, strict=True):
        row[length:] = 100.0
    return x, torch.tensor(LENGTHS)


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


# Equal to transformers' own


def transformers_states(folder: Path, samples: Tensor) -> list[Tensor]:
    """Return the hidden states (F, E) of one utterance, from transformers' feature extractor and model."""
    from transformers import AutoFeatureExtractor, AutoModel

    extractor, model = AutoFeatureExtractor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    given = extractor(samples.numpy(), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        output = encoder(**given, output_hidden_states=True)
    states = [state[0] for state in output.hidden_states]
    if output.last_hidden_state[0].shape == states[-1].shape:
        states[-1] = output.last_hidden_state[0]
    return states


def pooled_frames(name: str, states: Tensor, count: int) -> Tensor:
    """Return those of the frames (F, E) that an utterance fills, of which there are ``count``."""
    if name != "ast":
        return states[:count]
    bands = states[2:].view(2, -1, states.shape[1])  # after two class tokens, a band of the spectrogram after another
    return bands[:, : count // 2].flatten(0, 1)


def test_an_utterance_in_any_batch_has_the_states_that_transformers_computes_for_it_alone(family: Family) -> None:
    model, (x, lengths) = family.load(), batch()
    with torch.no_grad():
        states, valid = model.hidden_states(x, lengths)
        statistics, embedding = model.statistics(x, lengths), model.embed(x, lengths)
    counts = VALID.get(family.name, CONVOLVED)
    assert tuple(valid.sum(dim=1).tolist()) == counts
    assert states.shape == (4, 3, valid.shape[1], 24)
    assert statistics.shape == (3, 2, 4, 24)
    for row, (length, count) in enumerate(zip(LENGTHS, counts, strict=True)):
        for layer, state in enumerate(transformers_states(family.files.folder, x[row, :length, 0])):
            expected = pooled_frames(family.name, state, count)
            torch.testing.assert_close(states[layer, row][valid[row]], expected, rtol=0, atol=1e-5)
            torch.testing.assert_close(statistics[row, 0, layer], expected.mean(dim=0), rtol=0, atol=1e-5)
            torch.testing.assert_close(statistics[row, 1, layer], expected.std(dim=0, correction=0), rtol=0, atol=1e-5)
    assert torch.equal(embedding, statistics[:, :, -1].flatten(1))


def test_the_shortest_waveform_has_a_frame_and_a_shorter_one_none(family: Family) -> None:
    model = family.load()
    shortest = SHORTEST.get(family.name, 400)
    assert model.min_frames == shortest
    with torch.no_grad():
        found = model.embed(torch.randn(1, shortest, 1))
        assert torch.isfinite(found).all()
        padded = model(torch.randn(2, 3000, 1), torch.tensor([0, shortest - 1]))
    assert torch.isfinite(padded).all()
    least = 2 if family.name == "sew" else 1  # frames that are joined into one
    assert model.inputs.frames(torch.tensor([shortest - 1, shortest])).tolist() == [least - 1, least]
    if shortest > 1:
        with pytest.raises(ValueError, match=f"{shortest - 1} frames are too few: at least {shortest}"):
            model.embed(torch.randn(1, shortest - 1, 1))


@pytest.mark.parametrize(("kind", "longest"), [("Whisper", 16000), ("AST", 15759)])
def test_a_waveform_that_is_longer_than_the_input_is_refused(
    make: Callable[..., Family], kind: str, longest: int
) -> None:
    model = make(kind).build().eval()
    assert model.max_frames == longest
    x = torch.randn(1, longest + 1, 1)
    with torch.no_grad():
        assert model(x, torch.tensor([longest])).isfinite().all()
        with pytest.raises(
            UserError, match=r"takes at most .* s, got .* Set training\.crop_seconds to at most (1|0\.9)\."
        ):
            model(x)


def test_ast_of_the_published_size_takes_the_frames_of_10_24_seconds() -> None:
    from transformers import ASTConfig, ASTFeatureExtractor

    inputs = AstMel(ASTFeatureExtractor(), ASTConfig())
    assert inputs.longest == 164239  # 1,024 windows of 25 ms, every 10 ms, and what is short of one more
    assert inputs.frames(torch.tensor([inputs.longest])).item() == 101
    assert inputs.bands == 12


def test_a_model_that_was_trained_without_normalisation_reads_the_waveform_as_it_is(
    make: Callable[..., Family],
) -> None:
    family = make("WavLM", seed=3)
    path = family.files.folder / "preprocessor_config.json"
    path.write_text(path.read_text().replace('"do_normalize": true', '"do_normalize": false'))
    (x, lengths), model = batch(), Family("unnormalised", find_encoder(f"hf:{family.files.folder}")).load()
    with torch.no_grad():
        found = model.embed(x, lengths)[1, :24]
        expected = transformers_states(family.files.folder, x[1, : LENGTHS[1], 0])[-1].mean(dim=0)
        assert (found - model.embed(2 * x, lengths)[1, :24]).abs().max() > 1e-4
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_adapters_above_the_transformer_are_left_out(make: Callable[..., Family]) -> None:
    with_adapter = make("Wav2Vec2Bert", seed=4, add_adapter=True, output_hidden_size=24)
    model, (x, lengths) = Family("adapter", with_adapter.files).load(), batch()
    assert not any("adapter" in name for name in model.state_dict())
    with torch.no_grad():
        states, valid = model.hidden_states(x, lengths)
        expected = transformers_states(with_adapter.files.folder, x[0, :, 0])[2]
    torch.testing.assert_close(states[2, 0][valid[0]], expected[: CONVOLVED[0]], rtol=0, atol=1e-5)


def test_the_frozen_pass_has_the_same_statistics_and_bfloat16_is_close(some: Family) -> None:
    x, lengths = batch()
    model, half = some.build(pooling="mean_std"), some.build(encoder_precision="bfloat16", pooling="mean_std")
    for each in (model, half):
        each.load_state_dict(some.load().state_dict())
    model.eval()
    with torch.inference_mode():
        expected = model.statistics(x, lengths)
        model.prepare_inference()
        half.prepare_inference()
        torch.testing.assert_close(model.statistics(x, lengths), expected, rtol=0, atol=1e-5)
        found = half.statistics(x, lengths)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.03 * expected.norm()
    assert not any(parameter.requires_grad for parameter in model.parameters())


# Training


def test_a_step_reaches_every_parameter_but_those_named_here(family: Family) -> None:
    model, (x, lengths) = family.load().train(), batch()
    model(x, lengths).square().sum().backward()
    without = {name for name, gradient in gradients(model).items() if gradient is None or not gradient.any()}
    # The softmax over the frames does not depend on what is added to all of them.
    without = {name for name in without if not name.endswith(("k_proj.bias", "linear_k.bias", "key.bias"))}
    unused = {"whisper": "encoder.embed_positions.", "sew": ".upsample.", "conformer": ".pos_conv_embed."}
    names = {name for name in gradients(model) if unused.get(family.name, "none") in name}
    assert without == names
    assert bool(names) == (family.name in unused)


def test_a_saved_state_alone_gives_the_same_logits(some: Family) -> None:
    model, (x, lengths), file = some.load(), batch(), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = some.build(pooling="mean_std")
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        assert torch.equal(model(x, lengths), other.eval()(x, lengths))


def test_names_of_the_state_are_those_of_transformers(some: Family) -> None:
    from transformers import AutoModel

    theirs = AutoModel.from_pretrained(some.files.folder)
    theirs = theirs.get_encoder() if theirs.config.is_encoder_decoder else theirs
    assert some.load().encoder.state_dict().keys() == theirs.state_dict().keys()


def test_autocast_is_close_to_float32_and_trains(some: Family) -> None:
    model, (x, lengths) = some.load(), batch()
    expected = model(x, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(x, lengths)
        model.train()(x, lengths).float().square().sum().backward()
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.05 * expected.detach().abs().max().item())
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model).values() if gradient is not None)


def test_gradient_checkpointing_changes_no_gradient(some: Family) -> None:
    plain, (x, lengths) = some.load().train(), batch()
    model = some.build(dropout=0.0, pooling="mean_std", gradient_checkpointing=True).train()
    model.load_state_dict(plain.state_dict())
    assert model.encoder.is_activation_checkpointing
    assert not plain.encoder.is_activation_checkpointing
    for each in (plain, model):
        np.random.seed(0)  # the masked spans
        each(x, lengths).square().sum().backward()
    for name, gradient in gradients(plain).items():
        torch.testing.assert_close(gradients(model)[name], gradient, msg=name)


def test_dropout_scales_all_published_rates(some: Family) -> None:
    def rates(model: Encoder) -> list[float]:
        return [module.p for module in model.encoder.modules() if isinstance(module, nn.Dropout)]

    assert rates(some.build(dropout=0.5)) == [pytest.approx(rate / 2) for rate in rates(some.build())]
    assert not any(rates(some.load()))


def test_published_layer_drop_and_masks_give_way_to_the_keys(make: Callable[..., Family]) -> None:
    family = make("Hubert", seed=5, layerdrop=0.3, apply_spec_augment=False, mask_feature_prob=0.5)
    config = family.build().config
    assert (config.layerdrop, config.mask_time_prob, config.mask_feature_prob) == (0.0, 0.05, 0.0)
    assert config.apply_spec_augment
    (x, lengths), x0 = batch(), torch.zeros(1)
    for changes in ({"layer_drop": 0.5}, {"mask_time_prob": 0.3}, {"mask_feature_prob": 0.3}):
        model = family.build(dropout=0.0, **{"mask_time_prob": 0.0, **changes}).train()
        torch.manual_seed(1)
        with torch.no_grad():
            found = torch.stack([model(x, lengths) for _ in range(4)])
        assert (found.std(dim=0) > x0).all()


def test_masks_of_both_kinds_are_drawn_in_every_family_that_has_them(family: Family) -> None:
    if family.name in ("whisper", "ast"):
        return
    model, (x, lengths) = family.build(dropout=0.0, mask_time_prob=0.3, mask_feature_prob=0.3).train(), batch()
    with torch.no_grad():
        assert not torch.equal(model(x, lengths), model(x, lengths))


@pytest.mark.parametrize("kind", ["Wav2Vec2", "Wav2Vec2Bert"])
def test_crops_that_are_shorter_than_a_masked_span_are_not_masked(make: Callable[..., Family], kind: str) -> None:
    model, x = make(kind).build(dropout=0.0).train(), torch.randn(2, 6000, 1)
    with torch.no_grad():
        assert torch.equal(model(x[:, :2000]), model(x[:, :2000]))
        assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize("kind", ["Whisper", "AST"])
@pytest.mark.parametrize("key", ["mask_time_prob", "mask_feature_prob"])
def test_masks_are_refused_where_the_architecture_has_none(make: Callable[..., Family], kind: str, key: str) -> None:
    with pytest.raises(UserError, match=rf"model\.{key} is 0\.2, but .* has no such setting\. Leave model\.{key} out"):
        make(kind).build(**{key: 0.2})


def test_layer_drop_is_refused_where_the_architecture_has_none(make: Callable[..., Family]) -> None:
    with pytest.raises(UserError, match=r"model\.layer_drop is 0\.1, but .*audio-spectrogram-transformer, has no"):
        make("AST").build(layer_drop=0.1)
    assert make("Whisper").build(layer_drop=0.1).encoder.layerdrop == 0.1


# Freezing, and rates by depth


def test_the_base_is_frozen_whole(some: Family) -> None:
    model, (x, lengths) = some.build().eval(), batch()
    expected = model.embed(x, lengths)
    model.freeze("base")
    torch.testing.assert_close(model.train().embed(x, lengths), expected)
    assert trained(model) == {"head.weight", "head.bias"}


def test_convolutions_below_the_transformer_are_frozen(family: Family) -> None:
    model = family.load()
    everything = trained(model)
    if family.name == "wav2vec2-bert":
        with pytest.raises(UserError, match=r"freeze=convolutions: Encoder has no convolutions"):
            model.freeze("convolutions")
        return
    model.freeze("convolutions")
    begins = {"whisper": ("encoder.conv1.", "encoder.conv2."), "ast": ("encoder.embeddings.patch_embeddings.",)}
    frozen = begins.get(family.name, ("encoder.feature_extractor.",))
    assert everything - trained(model) == {name for name in everything if name.startswith(frozen)} != set()
    model.train()(*batch()).square().sum().backward()
    assert all(value is None for name, value in gradients(model).items() if name.startswith(frozen))


def test_the_lowest_layers_are_frozen_with_all_below(family: Family) -> None:
    model = family.build(frozen_layers=2)
    parameters = trained(model)
    model.freeze("none")
    norms = ("encoder.layer_norm.", "encoder.encoder.layer_norm.", "encoder.layernorm.")
    top = {name for name in parameters if name.startswith((*norms, "head.")) or "encoder.layers.2." in name}
    if family.name not in TOP_NORM:
        top = {name for name in top if not name.startswith(norms)}
    assert trained(model) == top
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()(*batch()).square().sum().backward()
    assert {name for name, value in gradients(model).items() if value is not None} == top
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert before.keys() - same == {name for name in before if "encoder.layers.2.conv_module.batch_norm." in name} - top


def test_more_frozen_layers_than_there_are_are_refused(make: Callable[..., Family]) -> None:
    with pytest.raises(UserError, match=r"model\.frozen_layers is 4, but .* has 3 transformer layers\. Choose 0 to 3"):
        make().build(frozen_layers=4)
    model = make(**LARGE).build(frozen_layers=3)
    model.freeze("none")
    assert {name for name in trained(model) if not name.startswith("head.")} == {
        "encoder.encoder.layer_norm.weight",
        "encoder.encoder.layer_norm.bias",
    }


def test_the_rate_falls_from_layer_to_layer(some: Family) -> None:
    model = some.build(layer_lr_decay=0.5)
    depths: dict[int, set[str]] = {}
    for name, _ in model.named_parameters():
        depths.setdefault(model.depth(name), set()).add(name)
    assert set(depths) == {0, 1, 2, 3}
    for depth in (1, 2):
        assert all(f".layers.{depth - 1}." in name for name in depths[depth])
    assert {name for name in depths[3] if ".layers.2." not in name} >= {"head.weight", "head.bias"}
    assert not any(name.startswith("head.") or "encoder.layers." in name for name in depths[0])
    assert {model.rate_factor(name) for name in depths[1]} == {0.25}
    assert {model.rate_factor(name) for name in depths[0]} == {0.125}
