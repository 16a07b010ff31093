"""Speech encoders from folders: which are found, what is loaded, and what each fault is called."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ser.model_config import with_absolute_folder
from ser.models.encoders import source
from ser.models.encoders.folder import EXTRACTORS
from ser.models.encoders.source import build, find_encoder, load, quiet, read_config, size
from ser.utils.errors import UserError
from tests.helpers.tiny_encoders import CONFIGURATIONS, tiny_encoder

WEIGHTS, OLD_WEIGHTS = "model.safetensors", "pytorch_model.bin"
TENSOR = "encoder.layers.1.attention.k_proj.weight"
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("published") / "wav2vec2-tiny")


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "encoder"))


def name_of(folder: Path) -> str:
    return f"hf:{folder}"


def fault(name: str, revision: str = "") -> str:
    """Return the message of a user's error in finding, building or loading."""
    with pytest.raises(UserError) as raised:
        load(find_encoder(name, revision))
    text = str(raised.value)
    assert text.startswith("model.name is hf:")
    assert "\n" not in text
    for advice in ("weights_only", "trust_remote_code", "ignore_mismatched_sizes", "Traceback"):
        assert advice not in text
    return text


# Changes of a folder


def config(**values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def tensors(edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    def change(folder: Path) -> None:
        save_file(edit(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})

    return change


def as_bin(edit: Callable[[dict[str, Any]], dict[str, Any]] = dict, **options: Any) -> Change:
    def change(folder: Path) -> None:
        torch.save(edit(load_file(folder / WEIGHTS)), folder / OLD_WEIGHTS, **options)
        (folder / WEIGHTS).unlink()

    return change


def cut(name: str, count: int = 2000) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:count])


def text(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content)


def removed(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names]


def sharded(folder: Path) -> None:
    names = sorted(held := load_file(folder / WEIGHTS))
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for place in set(places.values()):
        chosen = {name: held[name] for name in names if places[name] == place}
        save_file(chosen, folder / place, metadata={"format": "pt"})
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / WEIGHTS).unlink()


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


class Payload:
    """An object that writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def renamed(held: dict[str, Any]) -> dict[str, Any]:
    """Return tensors under the names that weight norm had in torch 1."""
    new = ".parametrizations.weight.original"
    return {name.replace(f"{new}0", ".weight_g").replace(f"{new}1", ".weight_v"): held[name] for name in held}


# What is loaded


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_each_family_is_loaded_as_transformers_does_without_a_decoder(kind: str, tmp_path: Path) -> None:
    import transformers

    files = find_encoder(name_of(tiny_encoder(tmp_path / kind, kind)))
    whole: Any = transformers.AutoModel.from_pretrained(files.folder)
    expected = (whole.encoder if kind == "Whisper" else whole).state_dict()
    loaded, built = load(files).state_dict(), build(files).state_dict()
    assert list(loaded) == list(built) == list(expected)
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    assert all(built[name].shape == expected[name].shape for name in expected)


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_layers_and_channels_are_those_of_transformers_read_without_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = find_encoder(name_of(tiny_encoder(tmp_path / kind, kind)))
    expected = read_config(files)
    monkeypatch.setattr(source, "read_config", None)
    assert size(files) == (expected.num_hidden_layers, expected.hidden_size) == (3, 24)
    assert expected.model_type in EXTRACTORS


def test_numbers_that_the_file_leaves_out_are_those_of_the_architecture(folder: Path) -> None:
    text("config.json", '{"model_type": "hubert", "num_hidden_layers": 3}')(folder)
    assert size(find_encoder(name_of(folder))) == (3, 768)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_weights_become_float32(kind: torch.dtype, folder: Path) -> None:
    both(
        tensors(lambda held: {name: tensor.to(kind) for name, tensor in held.items()}),
        config(dtype=str(kind).removeprefix("torch.")),
    )(folder)
    files = find_encoder(name_of(folder))
    loaded = load(files).state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert torch.equal(loaded[TENSOR], load_file(folder / WEIGHTS)[TENSOR].float())
    assert next(build(files).parameters()).dtype == torch.float32


def test_an_encoder_is_built_on_the_chosen_device_with_changes(published: Path) -> None:
    with torch.device("meta"):
        built: Any = build(find_encoder(name_of(published)), layerdrop=0.25, hidden_dropout=0.5)
    # The embedding of masked frames is made by a function of torch that knows no default device.
    assert {name for name, each in built.named_parameters() if not each.is_meta} <= {"masked_spec_embed"}
    assert (built.config.layerdrop, built.config.hidden_dropout) == (0.25, 0.5)


def test_changes_reach_a_loaded_encoder(published: Path) -> None:
    loaded: Any = load(find_encoder(name_of(published)), layerdrop=0.25)
    assert loaded.config.layerdrop == 0.25


SAME = {
    "file of torch.save": as_bin(),
    "old file of torch.save": as_bin(_use_new_zipfile_serialization=False),
    "old names of weight norm": as_bin(renamed),
    "parts": sharded,
    "a mask that was not trained": tensors(lambda held: {n: held[n] for n in held if n != "masked_spec_embed"}),
    "a head": tensors(lambda held: {**held, "lm_head.weight": torch.zeros(3, 24)}),
    "prefix of a fine-tuned model": tensors(lambda held: {f"wav2vec2.{name}": each for name, each in held.items()}),
    "code of its own that is not needed": config(auto_map={"AutoModel": "own.Own"}),
    "processor": both(
        text("processor_config.json", '{"feature_extractor": {"sampling_rate": 16000}}'),
        removed("preprocessor_config.json"),
    ),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_other_forms_of_the_same_weights_are_loaded(change: Change, published: Path, folder: Path) -> None:
    change(folder)
    loaded, held = load(find_encoder(name_of(folder))).state_dict(), load_file(published / WEIGHTS)
    assert all(torch.equal(loaded[name], held[name]) for name in held if name != "masked_spec_embed")


@pytest.mark.parametrize("task", ["CTC", "SequenceClassification", "XVector", "PreTraining"])
def test_the_encoder_of_a_model_with_a_head_is_loaded(task: str, published: Path, folder: Path) -> None:
    import transformers

    whole = getattr(transformers, f"Wav2Vec2For{task}")(transformers.AutoConfig.from_pretrained(published))
    whole.save_pretrained(folder)
    loaded = load(find_encoder(name_of(folder))).state_dict()
    expected = whole.wav2vec2.state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in loaded)


# Faults

FAULTS: dict[str, tuple[Change, str]] = {
    "tensor missing": (tensors(lambda held: {n: held[n] for n in held if n != TENSOR}), f"{TENSOR} is missing"),
    "tensor of another shape": (
        tensors(lambda held: {**held, TENSOR: torch.zeros(3, 5)}),
        f"{TENSOR} has shape (3, 5), config.json says (24, 24)",
    ),
    "more layers in the weights": (config(num_hidden_layers=2), "encoder.layers.2.attention.k_proj.bias belongs to no"),
    "more layers in the configuration": (config(num_hidden_layers=4), "encoder.layers.3.attention.k_proj.bias is miss"),
    "NaN": (tensors(lambda held: {**held, TENSOR: held[TENSOR] * torch.nan}), f"NaN or infinite values: {TENSOR}"),
    "infinite": (tensors(lambda held: {**held, TENSOR: held[TENSOR] / 0}), f"NaN or infinite values: {TENSOR}"),
    "part missing": (
        both(sharded, removed("model-00002-of-00002.safetensors")),
        "model-00002-of-00002.safetensors of the weights, named in model.safetensors.index.json, is missing",
    ),
    "index damaged": (both(sharded, text("model.safetensors.index.json", "{}")), "is damaged: it names no weights"),
    "weights damaged": (cut(WEIGHTS), "model.safetensors cannot be read and may be damaged"),
    "weights empty": (cut(WEIGHTS, 0), "model.safetensors cannot be read and may be damaged"),
    "pointer in place of weights": (text(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"), "may be damaged"),
    "old weights damaged": (both(as_bin(), cut(OLD_WEIGHTS)), "pytorch_model.bin cannot be read and may be damaged"),
    "old weights empty": (both(as_bin(), cut(OLD_WEIGHTS, 0)), "pytorch_model.bin cannot be read and may be damaged"),
    "page in place of old weights": (both(as_bin(), text(OLD_WEIGHTS, "<html>")), "pytorch_model.bin is damaged or"),
    "no weights": (removed(WEIGHTS), "no weights: model.safetensors or pytorch_model.bin is needed. Save"),
    "weights of TensorFlow": (lambda folder: (folder / WEIGHTS).rename(folder / "tf_model.h5"), "There is tf_model.h5"),
    "configuration damaged": (text("config.json", "{"), "config.json' is damaged"),
    "configuration no object": (text("config.json", "[]"), "config.json' is damaged: it holds no JSON object"),
    "no architecture": (text("config.json", "{}"), "config.json has no model_type"),
    "wrong type of a value": (config(hidden_size="many"), "config.json is not valid"),
    "wrong value": (
        config(num_attention_heads=5),
        "config.json is not valid: embed_dim must be divisible by num_heads",
    ),
    "unknown architecture": (config(model_type="wav2vec9"), "has no architecture 'wav2vec9'. Choose one of audio-spec"),
    "code of its own": (
        config(model_type="own", auto_map={"AutoModel": "own.Own"}),
        "code in its own files (auto_map in config.json), which is not run",
    ),
    "text": (config(model_type="bert"), "its architecture, bert, is not a speech encoder's"),
    "images": (config(model_type="vit"), "its architecture, vit, is not a speech encoder's"),
    "quantized": (config(quantization_config={"load_in_8bit": True}), "its weights are quantized"),
    "tokenizer alone": (
        both(removed("config.json", "preprocessor_config.json", WEIGHTS), text("tokenizer_config.json", "{}")),
        "the folder holds only a tokenizer",
    ),
    "adapter": (lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"), "adapter of the peft"),
    "no configuration": (removed("config.json"), "the folder has no config.json. Name the folder"),
    "sampling rate": (text("preprocessor_config.json", '{"sampling_rate": 44100}'), "trained on audio of 44100 Hz"),
    "preprocessor damaged": (text("preprocessor_config.json", "16000"), "preprocessor_config.json' is damaged"),
    "empty": (lambda folder: [path.unlink() for path in folder.iterdir()], "the folder is empty"),
}


@pytest.mark.parametrize(("change", "words"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_folder_is_one_message(change: Change, words: str, folder: Path) -> None:
    change(folder)
    assert words in fault(name_of(folder))


def test_code_in_a_file_of_weights_is_not_run(folder: Path, tmp_path: Path) -> None:
    as_bin(lambda held: {**held, "more": Payload(tmp_path / "ran")})(folder)
    assert "pytorch_model.bin contains more than tensors, which could run code, and is not" in fault(name_of(folder))
    assert not (tmp_path / "ran").exists()


def test_the_advice_writes_a_preprocessor_that_is_read(folder: Path) -> None:
    removed("preprocessor_config.json")(folder)
    message = fault(name_of(folder))
    assert "preprocessor_config.json is missing, which says how the samples are normalised" in message
    exec(message.partition('python -c "')[2].rstrip('"'), {})
    assert json.loads((folder / "preprocessor_config.json").read_text())["do_normalize"] is True
    find_encoder(name_of(folder))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf:", "nothing follows hf:. Name a folder that exists, hf:FOLDER, or a model of the hub"),
        ("hf:  ", "nothing follows hf:"),
        ("hf:/no/such/folder", "there is no such folder"),
        ("hf:./encoder", "there is no such folder"),
        ("hf:C:\\models\\wav2vec2", "there is no such folder"),
        ("hf:a/b/c", "there is no such folder. Name a folder that exists, hf:FOLDER, or"),
        ("hf:a\0b", "there is no such folder"),
        ("hf:~no_such_user/encoder", "Could not determine home directory. Check"),
        ("hf:/" + "x" * 5000, "File name too long. Check"),
    ],
)
def test_a_name_that_cannot_be_an_encoder_is_one_message(name: str, words: str) -> None:
    assert with_absolute_folder(name) == name  # a study asks this first
    assert words in (message := fault(name))
    assert len(message) < 500


def test_a_file_and_a_folder_above_name_the_right_folder(folder: Path) -> None:
    assert f"that is a file. Name the folder that it is in: hf:{folder}" in fault(f"hf:{folder}/config.json")
    assert f"a folder below has one: name hf:{folder}" in fault(name_of(folder.parent))


def test_the_home_folder_may_be_abbreviated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_encoder("hf:~/encoder").folder == folder


def test_without_transformers_the_extra_is_named(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "speech encoders need the transformers library: pip install '.[encoders]'" in fault(name_of(published))


# The version of a folder


def test_the_version_is_that_of_the_content(published: Path, folder: Path) -> None:
    found = find_encoder(name_of(published)).revision
    (folder / "README.md").write_text("a model card")
    assert find_encoder(name_of(folder)).revision == find_encoder(name_of(folder), weights=False).revision == found
    assert find_encoder(name_of(folder), found).folder == folder


@pytest.mark.parametrize(
    "change",
    [
        config(hidden_dropout=0.5),
        text("preprocessor_config.json", '{"sampling_rate": 16000, "do_normalize": false}'),
        tensors(lambda held: {**held, TENSOR: held[TENSOR] + 1}),
    ],
    ids=["configuration", "preprocessor", "weights"],
)
@pytest.mark.parametrize("weights", [True, False])
def test_a_changed_folder_is_not_the_recorded_version(change: Change, weights: bool, folder: Path) -> None:
    recorded = find_encoder(name_of(folder), weights=weights)
    change(folder)
    now = find_encoder(name_of(folder), weights=weights).revision
    assert now != recorded.revision
    expected = f"the folder does not hold the version that model.revision records, {recorded.revision}, but {now}"
    with pytest.raises(UserError, match=expected):
        find_encoder(name_of(folder), recorded.revision, weights=weights)
    with pytest.raises(UserError, match=expected):
        load(recorded)


def test_files_are_read_again_only_when_they_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    computed = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, name: read.append(Path(file.name).name) or computed(file, name)
    )
    for _ in range(2):
        find_encoder(name_of(folder))
    assert sorted(read) == ["config.json", WEIGHTS, "preprocessor_config.json"]
    config(hidden_dropout=0.5)(folder)
    find_encoder(name_of(folder))
    assert read[3:] == ["config.json"]


# Output


@pytest.fixture
def loud() -> Iterator[None]:
    """Set transformers to what a new process has."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_warning()
    logging.enable_progress_bar()
    yield
    logging.set_verbosity(verbosity)


@pytest.mark.usefixtures("loud")
def test_nothing_is_printed_and_the_settings_of_the_process_stay(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    tensors(lambda held: {**held, "lm_head.weight": torch.zeros(3, 24)})(folder)
    files = find_encoder(name_of(folder))
    load(files)
    build(files)
    with pytest.raises(RuntimeError), quiet():
        raise RuntimeError
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == logging.WARNING
    assert logging.is_progress_bar_enabled()
