import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import soundfile
import torch
import yaml

from ser import train
from ser.corpora import Corpus
from ser.models import build_model
from ser.training.loop import EpochRecord
from ser.utils.command_line import run_command
from tests.helpers.published_weights import panns_checkpoint, panns_state
from tests.helpers.weights_server import serving

SMALL = ("model.width=0.03", "training.epochs=1", "training.crop_seconds=0.5")
SETTINGS = (
    "model.width=0.03",
    "training.epochs=3",
    "training.batch_size=6",
    "training.crop_seconds=0.5",
    "loss.name=proselflc",
    "loss.transit_time_ratio=0.3",
    "loss.exp_base=1e1",
)


@pytest.fixture(scope="module")
def table(tones: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tones as WAV files and a table."""
    folder = tmp_path_factory.mktemp("tones")
    rows = tones.table[["utterance_id", "speaker", "label"]]
    for name in rows["utterance_id"]:
        soundfile.write(folder / f"{name}.wav", tones.synthesize(name), 16000)
    rows.assign(path=rows["utterance_id"] + ".wav").to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


Arguments = Callable[..., list[str]]


@pytest.fixture(scope="module")
def arguments(table: Path, features: Path) -> Arguments:
    def make(output: Path, *more: str, settings: tuple[str, ...] = SETTINGS) -> list[str]:
        defaults = {"--corpus": "table", "--corpus-root": table, "--features": features, "--noise": "symmetric:0.25"}
        where = [str(word) for pair in defaults.items() if pair[0] not in more for word in pair]
        return [*where, "--output", str(output), *more, *(("--set", *settings) if settings else ())]

    return make


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the command line in this process → exit code and stderr."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def run(arguments: list[str]) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        return run_command(train.main), capsys.readouterr().err

    return run


def process(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(Path(train.__file__).parents[1])
    command = [sys.executable, "-m", "ser.train", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def history(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(arguments: Arguments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an uninterrupted run, in a process of its own."""
    folder = tmp_path_factory.mktemp("run")
    done = process(arguments(folder / "output"), folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "proselflc on table symmetric:0.25, fold 6 of 6: 16 train, 4 validation utterances" in done.stdout
    return folder / "output"


def test_a_run_writes_its_history_configuration_noise_and_state(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "config.yaml",
        "history.jsonl",
        "noise_manifest.json",
        "state.pt",
        "utterances.parquet",
    ]
    lines = history(finished)
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 3), (2, 6), (3, 9)]
    assert {"train/loss", "train/memorised", "val/uar", "val_noisy/uar", "last/val_uar"} <= lines[0].keys()
    assert json.loads((finished / "noise_manifest.json").read_text())["rate_realised"] == 0.25


def test_the_written_configuration_gives_the_same_run(
    finished: Path, arguments: Arguments, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    again = arguments(tmp_path / "again", "--config", str(finished / "config.yaml"), settings=())
    assert call(again) == (0, "")
    assert (tmp_path / "again" / "config.yaml").read_text() == (finished / "config.yaml").read_text()
    assert history(tmp_path / "again") == history(finished)


def test_settings_override_the_file(
    finished: Path, arguments: Arguments, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    file = str(finished / "config.yaml")
    assert call(arguments(tmp_path / "out", "--config", file, settings=("training.epochs=1",))) == (0, "")
    assert len(history(tmp_path / "out")) == 1


def test_a_second_run_into_the_same_folder_is_refused_and_leaves_it_alone(
    finished: Path, arguments: Arguments, call: Callable[..., tuple[int, str]]
) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    code, error = call(arguments(finished))
    assert code == 2
    assert "already contains a run" in error
    assert "--resume" in error
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def interrupted_after_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train.train

    def first_epoch(*args: Any, **kwargs: Any) -> Iterator[EpochRecord]:
        yield next(iter(whole(*args, **kwargs)))
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", first_epoch)


def interrupted_between_history_and_state(monkeypatch: pytest.MonkeyPatch) -> None:
    save, saved = train.save_state, []

    def once(state: dict[str, Any], path: Path) -> None:
        if saved:
            raise KeyboardInterrupt
        saved.append(path)
        save(state, path)

    monkeypatch.setattr(train, "save_state", once)


@pytest.mark.parametrize(
    ("interrupt", "lines"), [(interrupted_after_an_epoch, 1), (interrupted_between_history_and_state, 2)]
)
def test_a_resumed_run_goes_on_to_the_numbers_of_an_uninterrupted_one(
    finished: Path,
    arguments: Arguments,
    call: Callable[..., tuple[int, str]],
    tmp_path: Path,
    interrupt: Callable[[pytest.MonkeyPatch], None],
    lines: int,
) -> None:
    output = tmp_path / "output"
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch)
        assert call(arguments(output)) == (130, "interrupted\n")
    assert history(output) == history(finished)[:lines]
    assert call(arguments(output, "--resume")) == (0, "")
    assert history(output) == history(finished)
    assert (output / "utterances.parquet").read_bytes() == (finished / "utterances.parquet").read_bytes()


def test_a_run_ends_with_a_table_of_its_utterances(finished: Path) -> None:
    table = pd.read_parquet(finished / "utterances.parquet")
    assert table["subset"].value_counts().to_dict() == {"train": 16, "validation": 4}
    assert (table["noisy_label"] != table["label"]).sum() == 5
    last = history(finished)[-1]
    train = table[table["subset"] == "train"]
    assert (train["corrected_label"] != train["noisy_label"]).mean() == last["train/labels_changed"]
    assert train["trust"].mean() == pytest.approx(last["train/trust"])


def test_resuming_a_finished_run_changes_nothing(
    finished: Path, arguments: Arguments, call: Callable[..., tuple[int, str]]
) -> None:
    before = (finished / "history.jsonl").read_bytes()
    assert call(arguments(finished, "--resume")) == (0, "")
    assert (finished / "history.jsonl").read_bytes() == before


def test_resuming_with_another_configuration_is_refused_and_leaves_the_folder_alone(
    finished: Path, arguments: Arguments, call: Callable[..., tuple[int, str]]
) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    code, error = call(arguments(finished, "--resume", "--noise", "clean", settings=(*SETTINGS, "optimizer.lr=0.1")))
    assert code == 2
    assert "belongs to another configuration" in error
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_a_misspelt_key_is_reported_without_a_traceback(arguments: Arguments, tmp_path: Path) -> None:
    done = process(arguments(tmp_path / "output", settings=("optimizer.lrr=1",)), tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown configuration key 'optimizer.lrr'. Did you mean 'optimizer.lr'")
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--resume"], "state.pt' cannot be read"),
        (["--noise", "symetric:0.3"], "Did you mean 'symmetric'"),
        (["--noise", "noisy-A"], "recipe 'human' knows"),
        (["--fold", "9"], "folds 1 to 6"),
        (["--config", "nowhere.yaml"], "No such file"),
        (["--corpus-root", "nowhere.csv"], "does not exist"),
        (["--corpus", "tabel"], "Did you mean 'table'"),
        (["--set", "training.epochs"], "not KEY=VALUE"),
    ],
)
def test_mistakes_are_reported_before_anything_is_written(
    arguments: Arguments,
    call: Callable[..., tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, error = call(arguments(tmp_path / "output", *more, settings=()))
    assert code == 2
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_a_folder_is_reported(
    arguments: Arguments, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    code, error = call(arguments(tmp_path / "file"))
    assert code == 2
    assert "is not writable" in error


def test_a_run_that_diverges_ends_with_code_1(
    arguments: Arguments, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, error = call(arguments(tmp_path / "output", settings=(*SETTINGS, "optimizer.lr=1e30")))
    assert code == 1
    assert error.startswith("failed: training diverged in epoch 1")


def test_excluded_utterances_take_no_part(
    arguments: Arguments, call: Callable[..., tuple[int, str]], table: Path, tmp_path: Path
) -> None:
    excluded = pd.read_csv(table)["utterance_id"][:2]
    (tmp_path / "bad.txt").write_text("\n".join(excluded))
    more = ["--exclude", str(tmp_path / "bad.txt"), "--fold", "6", "--noise", "clean"]
    assert call(arguments(tmp_path / "output", *more)) == (0, "")
    manifest = json.loads((tmp_path / "output" / "noise_manifest.json").read_text())
    assert manifest["parts"]["train"]["utterances"] == 14


def test_weights_that_do_not_fit_are_reported_before_features_are_computed(
    arguments: Arguments, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    torch.save({"bn0.weight": torch.ones(64)}, tmp_path / "weights.pt")
    settings = (*SETTINGS, f"model.pretrained={tmp_path / 'weights.pt'}")
    code, error = call(arguments(tmp_path / "output", "--features", str(tmp_path / "features"), settings=settings))
    assert code == 2
    assert "fc1.weight: missing" in error
    assert not (tmp_path / "output").exists()
    assert not (tmp_path / "features").exists()


def test_published_weights_by_name_are_downloaded_next_to_the_features(
    arguments: Arguments,
    call: Callable[..., tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tmp_path / "Cnn6.pth"
    torch.save(panns_checkpoint(panns_state(build_model("cnn6", 2))), source)
    more = ("--features", str(tmp_path / "own" / "features"), "--pretrained", "cnn6")
    settings = ("training.epochs=1", "training.crop_seconds=0.5")
    with serving("cnn6", source, monkeypatch):
        code, error = call(arguments(tmp_path / "wrong", *more, settings=("model.name=cnn10", *settings)))
        assert code == 2
        assert "weights of cnn6 at width 1 on front end panns_32k, but model.name is cnn10" in error
        assert not (tmp_path / "own").exists()
        monkeypatch.setattr(train, "train", lambda *_, **__: iter(()))  # what is trained is tested elsewhere
        assert call(arguments(tmp_path / "output", *more, settings=settings)) == (0, "")
    written = yaml.safe_load((tmp_path / "output" / "config.yaml").read_text())
    place = tmp_path / "own" / "weights" / "Cnn6.pth"
    assert place.read_bytes() == source.read_bytes()
    expected = {"model.name": "cnn6", "model.front_end": "panns_32k", "model.pretrained": str(place),
                "model.width": 1.0, "optimizer.base_lr_factor": 0.1}  # fmt: skip
    assert {key: written[key] for key in expected} == expected


def test_a_run_reads_the_front_end_of_its_configuration(
    arguments: Arguments, call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    settings = (*SETTINGS, "model.name=cnn10", "model.front_end=panns_32k")
    more = ["--features", str(tmp_path / "features"), "--noise", "clean"]
    assert call(arguments(tmp_path / "output", *more, settings=settings)) == (0, "")
    (store,) = [path.name for path in (tmp_path / "features").iterdir() if path.is_dir()]
    assert "-panns_32k-" in store


def test_a_level_far_from_the_others_is_said_before_training(table: Path, arguments: Arguments, tmp_path: Path) -> None:
    names = sorted(path.stem for path in table.parent.glob("*.wav"))
    for name in names:
        samples, rate = soundfile.read(table.parent / f"{name}.wav")
        soundfile.write(tmp_path / f"{name}.wav", samples * (32768 if name == names[1] else 1), rate, subtype="FLOAT")
    (tmp_path / "table.csv").write_bytes(table.read_bytes())
    more = ("--corpus-root", str(tmp_path / "table.csv"))
    done = process(arguments(tmp_path / "output", *more, settings=SMALL), tmp_path)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stdout.splitlines() if line.startswith("warning: 1 of")]
    assert [f": {names[1]} (" in line for line in warnings] == [True, True]
    assert done.stdout.index(warnings[0]) < done.stdout.index("  1  ")


def test_tf32_without_a_gpu_is_refused_before_features_are_computed(
    call: Callable[..., tuple[int, str]], arguments: Arguments, tmp_path: Path
):
    given = arguments(
        tmp_path / "run", "--features", str(tmp_path / "new"), settings=(*SMALL, "training.precision=tf32")
    )
    code, message = call(given)
    assert code == 2
    assert "training.precision is tf32" in message
    assert "float32" in message
    assert not list(tmp_path.iterdir())


def test_what_a_run_is_computed_in_is_printed_and_a_warning_where_it_resumes_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: Arguments, tmp_path: Path
):
    def printed(bfloat16: bool, *more: str) -> str:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bfloat16})
        monkeypatch.setattr(sys, "argv", ["train", *arguments(tmp_path / "run", *more)])
        assert run_command(train.main) == 0
        return " ".join(capsys.readouterr().out.split())

    assert "; cpu bfloat16; " in printed(True)
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["arithmetic"] == "cpu bfloat16"
    assert "warning: the run was computed in cpu bfloat16 so far, and resumes in cpu float32" in printed(
        False, "--resume"
    )
    assert "so far" not in printed(True, "--resume")
    torch.save({**state, "arithmetic": "cpu float32, then cpu bfloat16"}, tmp_path / "run" / "state.pt")
    assert "so far" not in printed(True, "--resume")
    assert "in cpu float32, then cpu bfloat16 so far, and resumes in cpu float32" in printed(False, "--resume")
