"""Studies on a speech encoder: which version, which spaces, which resources, and what contradicts it."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ser.config import Config
from ser.corpora import load
from ser.models.encoders import find_encoder
from ser.splits import split
from ser.utils.errors import UserError
from study.backend.trial_resources import GpuDemand, TrialResources, trial_resources
from study.options import StudyOptions
from study.search.repeating import repeating_command
from study.setup.prepare import load_spaces, protocol
from study.setup.resolve import resolve
from study.setup.spaces import load_space, space_names
from tests.helpers.tiny_encoders import tiny_encoder

FINE_TUNED = ("model.freeze=none",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


@pytest.fixture
def options(folder: Path, tmp_path: Path) -> StudyOptions:
    given = StudyOptions(model=f"hf:{folder}", storage_path=tmp_path, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    return resolve(given)


@pytest.mark.parametrize("name", space_names())
@pytest.mark.parametrize("settings", [(), FINE_TUNED], ids=["frozen", "fine-tuned"])
def test_every_space_suggests_configurations_of_the_encoder(
    options: StudyOptions, name: str, settings: tuple[str, ...]
) -> None:
    if name == "classical":
        settings = ()  # a setting applies to all spaces, and a classical model cannot be fine-tuned
    options = replace(options, settings=settings)
    models = [config.model for config in load_space(name, options.fixed).configurations(options.defaults)]
    if name == "classical":
        assert {model.features for model in models} == {"handcrafted_16k"}
        return
    assert {model.name for model in models} == {options.model}
    assert {model.encoder.revision for model in models} == {options.revision}
    assert {model.reads_embeddings for model in models} == {not settings}


@pytest.mark.parametrize("settings", [(), FINE_TUNED])
def test_the_encoder_learns_at_the_rates_of_papers(options: StudyOptions, settings: tuple[str, ...]) -> None:
    """The range of the head, 3e-4 to 1e-2, is 6e-6 to 2e-4 for the encoder."""
    options = replace(options, settings=settings)
    rates = load_space("cross_entropy", {}).distributions()["optimizer.lr"]
    factor = Config.from_dotted(options.defaults).optimizer.base_lr_factor
    assert (rates.low * factor, rates.high * factor) == pytest.approx((6e-6, 2e-4))  # type: ignore[attr-defined]


def test_a_study_records_the_version_and_the_absolute_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    own = {"storage_path": tmp_path, "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
    for given in (StudyOptions(model="hf:tiny", **own), StudyOptions(settings=("model.name=hf:tiny",), **own)):  # type: ignore[arg-type]
        options = resolve(given)
        assert options.model == options.network == f"hf:{folder}"
        assert options.revision == find_encoder(f"hf:{folder}").revision
        assert options.shared.model.encoder.revision == options.revision
        command = repeating_command("study/run.py", options.to_json(), [])
        assert f"model.revision={options.revision}" in command
        assert "--revision" not in command


def test_a_tag_or_branch_is_pinned_to_its_commit_in_each_trial(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8"
    monkeypatch.setattr("ser.models.encoders.hub.obtain", lambda *_, **__: (folder, commit))
    own = {"storage_path": tmp_path, "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
    options = resolve(StudyOptions(model="hf:org/name", settings=("model.revision=main",), **own))  # type: ignore[arg-type]
    configurations = load_space("cross_entropy", options.fixed).configurations(options.defaults)
    assert {config.model.encoder.revision for config in configurations} == {commit}
    assert options.shared.model.encoder.revision == commit
    command = repeating_command("study/run.py", options.to_json(), [])
    assert f"model.revision={commit}" in command
    assert "main" not in command


def test_a_resumed_study_keeps_its_version_and_refuses_another(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "encoder"
    shutil.copytree(folder, copy)
    given = StudyOptions(
        model=f"hf:{copy}", storage_path=tmp_path, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", name="mine"
    )
    begun = resolve(given)
    begun.folder.mkdir(parents=True)
    begun.write("digest")
    again = replace(given, resume=True)
    assert resolve(again).revision == begun.revision
    tiny_encoder(copy, seed=1)
    with pytest.raises(UserError, match=r"speech encoder hf:.* has changed since study 'mine' began.*another --name"):
        resolve(again)


def test_trials_of_two_encoders_are_not_comparable_wherever_they_lie(
    options: StudyOptions, folder: Path, tmp_path: Path
) -> None:
    corpus = load("synthetic", None)
    fold = split(corpus)

    def digest_of(place: Path) -> str:
        return protocol(resolve(replace(options, model=f"hf:{place}", revision="")), corpus, fold.unit, 1, 0)

    same, other = tmp_path / "moved" / "tiny", tiny_encoder(tmp_path / "other" / "tiny", seed=1)
    shutil.copytree(folder, same)
    assert digest_of(same) == digest_of(folder) != digest_of(other)


def test_a_frozen_encoder_takes_one_cpu_and_a_fine_tuned_one_the_machine(options: StudyOptions) -> None:
    fine_tuned = replace(options, settings=FINE_TUNED)
    cpus, gpu = [{"CPU": 4.0, "GPU": 0.0}], [{"CPU": 4.0, "GPU": 1.0}]
    frozen, tuned = GpuDemand(any=False), GpuDemand(trials=8)
    assert trial_resources(cpus, options, frozen) == trial_resources(gpu, options, frozen) == TrialResources(1, 0, 4)
    assert trial_resources(cpus, fine_tuned, tuned) == TrialResources(4, 0, 1)
    assert trial_resources(gpu, fine_tuned, tuned) == TrialResources(1, 1, 1)
    assert trial_resources(gpu, replace(options, gpus_per_trial=0.5), tuned) == TrialResources(1, 0.5, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("model.width=0.5",), r"model\.width is 0\.5, but .* a speech encoder with .* width of its own"),
        (("model.layers=4",), r"model\.layers is 4, but the encoder has layers 0 to 3"),
        (("model.layer_drop=0.1",), r"model\.layer_drop is 0\.1, which is for encoders that are fine-tuned"),
        ((*FINE_TUNED, "model.layers=last"), r"model\.layers is last, which is for encoders that are frozen"),
        (
            (*FINE_TUNED, "model.encoder_precision=bfloat16"),
            r"model\.encoder_precision is bfloat16, which is for encoders that are frozen",
        ),
        (("model.revision=abc",), r"does not hold the version that model\.revision records, abc"),
    ],
)
def test_contradictions_are_found_before_anything_starts(
    options: StudyOptions, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_spaces(resolve(replace(options, revision="", space=("cross_entropy",), settings=settings)))


@pytest.mark.slow
def test_a_trial_of_a_frozen_encoder_does_not_wait_for_the_import_of_transformers(options: StudyOptions) -> None:
    script = (
        "import sys\n"
        "import study.trial.trainable\n"
        "from ser.config import Config\n"
        "from ser.training.embeddings import extractor\n"
        f"config = Config.from_dotted({options.defaults!r})\n"
        "config.model.build(4), extractor(config)\n"
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_space_does_not_name_an_encoder_of_its_own(folder: Path, tmp_path: Path) -> None:
    space = tmp_path / "own.py"
    space.write_text(
        f'"""Own."""\nSPACE = {{"model.name": "hf:{folder}", "loss.name": "cross_entropy"}}\nPOINTS = []\n'
    )
    with pytest.raises(UserError, match=r"space 'own': its model\.name is hf:.*--model hf:"):
        load_spaces(StudyOptions(space=(str(space),), storage_path=tmp_path))
