"""Every user error gives one readable message and exit code 2, before Ray starts."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import soundfile
import torch
from filelock import FileLock
from rich.console import Console

from ser.utils.command_line import run_command
from study.options import StudyOptions
from study.run import main
from study.setup.prepare import prepare
from study.tracking.opening import experiment_id, open_client

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(tmp_path, monkeypatch, capsys):
    """Return a function that runs the study's command line in this process and returns exit code and error output."""

    def call(*arguments):
        defaults = {"--storage-path": str(tmp_path / "out"), "--tracking-uri": f"sqlite:///{tmp_path}/m.db"}
        given = [word for option, value in defaults.items() if option not in arguments for word in (option, value)]
        monkeypatch.setattr(sys, "argv", ["run.py", *given, *arguments])
        try:
            code = run_command(main)
        except SystemExit as stop:  # raised by the parser of the command line
            code = stop.code
        assert not ray.is_initialized()
        message = " ".join(capsys.readouterr().err.split())
        assert "Traceback" not in message
        return code, message

    return call


def ravdess_tree(root, emotions=range(1, 9), actors=range(1, 5)):
    """Make a small RAVDESS tree of half-second tones."""
    rng = np.random.default_rng(0)
    for actor in actors:
        folder = root / f"Actor_{actor:02d}"
        folder.mkdir(parents=True)
        for emotion in emotions:
            samples = 0.1 * rng.standard_normal(8000).astype(np.float32)
            soundfile.write(folder / f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav", samples, 16000)
    return root


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--space", "proselfcl"], ["space 'proselfcl'", "'proselflc'"]),
        (["--space", "missing.py"], ["missing.py", "does not exist"]),
        (["--space", "proselflc", "proselflc"], ["--space", "twice"]),
        (["--corpus", "synthetics"], ["corpus 'synthetics'", "'synthetic'"]),
        (["--corpus", "ravdess"], ["needs its root", "--corpus-root"]),
        (["--corpus", "ravdess", "--corpus-root", "/no/such/folder"], ["/no/such/folder", "does not exist"]),
        (["--noise", "noisy-C"], ["noisy-C", "noisy-A"]),
        (["--noise", "symetric:0.3"], ["symetric", "symmetric"]),
        (["--noise", "symmetric:1.5"], ["1.5"]),
        (["--noise", "symmetric:much"], ["much"]),
        (["--noise", "disagreement:0.95"], ["most"]),
        (["--set", "optimizer.lrr=0.1"], ["optimizer.lrr", "optimizer.lr"]),
        (["--set", "optimizer.lr"], ["KEY=VALUE"]),
        (["--set", "optimizer.lr=fast"], ["optimizer.lr", "fast"]),
        (["--set", "loss.exp_bas=3"], ["exp_bas", "exp_base"]),
        (["--set", "training.epochs=3", "--epochs", "4"], ["training.epochs", "both"]),
        (["--epochs", "0"], ["--epochs", "1"]),
        (["--trials", "0"], ["--trials", "1"]),
        (["--trials", "many"], ["many"]),
        (["--width", "-1"], ["width", "-1"]),
        (["--batch-size", "1"], ["batch_size", "2"]),
        (["--precision", "float16"], ["float16", "float32"]),
        (["--precision", "float32", "--set", "training.precision=auto"], ["training.precision", "both"]),
        (["--precision", "tf32", "--gpus-per-trial", "0"], ["precision is tf32", "trials run on CPUs", "float32"]),
        (["--set", "training.deterministic=1"], ["training.deterministic", "true or false"]),
        (["--model", "cnn15"], ["cnn15", "cnn14"]),
        (["--fold", "9"], ["fold 9", "1 to 5"]),
        (["--gpus-per-trial", "2"], ["--gpus-per-trial", "at most one"]),
        (["--cpus-per-trial", "0"], ["--cpus-per-trial"]),
        (["--select-on", "clean", "--noise", "given"], ["--select-on clean", "given"]),
        (["--tracking-uri", "http://127.0.0.1:9"], ["127.0.0.1:9", "mlflow server"]),
        (["--tracking-uri", "http://me:secret@127.0.0.1:9"], ["me:***@127.0.0.1:9"]),
        (["--tracking-uri", "sqlite:////no/such/folder/m.db"], ["/no/such/folder"]),
        (["--storage-path", "/dev/null/here"], ["--storage-path", "/dev/null/here"]),
        (["--name", "../up"], ["--name", "plain name"]),
        (["--name=-x"], ["--name", "begins with a dash"]),
        (["--name", "é" * 101], ["--name", "202 bytes", "at most 200"]),
        (["--resume"], ["--resume", "--name"]),
        (["--resume", "--name", "nothing"], ["no study 'nothing'"]),
        (["--exclude", "/no/list.txt"], ["/no/list.txt"]),
        (["--spaces", "proselflc"], ["--space"]),
        (["--noise", "clean", "--noise", "noisy-A"], ["--noise is given twice"]),
        (["--corpus", ""], ["--corpus needs a value"]),
        (["--experiment", "\udcff"], ["--experiment", "plain name"]),
        (["--tracking-uri", "sqlite://"], ["names no database", "sqlite:///PATH"]),
        (["--tracking-uri", ""], ["--tracking-uri needs a value"]),
        (["--tracking-uri", "sqlite:////tmp"], ["/tmp", "not a file"]),
        (["--tracking-uri", "HTTP://127.0.0.1:9"], ["127.0.0.1:9", "mlflow server"]),
        (["--tracking-uri", "http://me:sec@ret@127.0.0.1:9"], ["me:***@127.0.0.1:9"]),
        (["--storage-path", "~no_such_user/x"], ["~no_such_user"]),
        (["--space", "~no_such_user/mine.py"], ["~no_such_user"]),
        (["--set", "training.crop_seconds=3000"], ["training.crop_seconds", "60"]),
        (["--set", "training.epochs=" + "9" * 400], ["training.epochs", "whole number"]),
        (["--set", "optimizer.lr=1e38"], ["optimizer.lr", "1e37"]),
        (["--set", "augment.time_masks=1000000"], ["augment.time_masks", "1000"]),
    ],
)
def test_a_mistake_is_reported_in_one_message(study, arguments, said):
    code, message = study(*arguments)
    assert code == 2
    for words in said:
        assert words in message
    assert "secret" not in message
    assert "ret@" not in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpus_that_are_not_there(study):
    code, message = study("--gpus-per-trial", "1")
    assert code == 2
    assert "no GPU on this machine" in message


def test_an_empty_root(study, tmp_path):
    (tmp_path / "empty").mkdir()
    code, message = study("--corpus", "ravdess", "--corpus-root", str(tmp_path / "empty"))
    assert code == 2
    assert "Actor_" in message


def test_a_rate_that_no_votes_give(study, tmp_path):
    root = ravdess_tree(tmp_path / "ravdess")
    code, message = study("--corpus", "ravdess", "--corpus-root", str(root), "--noise", "disagreement:0.2")
    assert code == 2
    assert "votes" in message
    assert "human" in message


def test_faulty_audio_is_listed_whole_and_excluding_it_is_offered(study, tmp_path):
    root = ravdess_tree(tmp_path / "ravdess")
    (root / "Actor_01" / "03-01-01-01-01-01-01.wav").write_bytes(b"")
    (root / "Actor_02" / "03-01-02-01-01-01-02.wav").write_bytes(b"not audio at all" * 10)
    whole = (root / "Actor_03" / "03-01-03-01-01-01-03.wav").read_bytes()
    (root / "Actor_03" / "03-01-03-01-01-01-03.wav").write_bytes(whole[: len(whole) // 2])
    bad = np.full(8000, np.nan, dtype=np.float32)
    soundfile.write(root / "Actor_04" / "03-01-04-01-01-01-04.wav", bad, 16000, subtype="FLOAT")
    arguments = ("--corpus", "ravdess", "--corpus-root", str(root), "--classes", "all")
    code, message = study(*arguments, "--noise", "clean")
    assert code == 2
    assert "4 errors" in message
    for name in ("03-01-01-01-01-01-01", "03-01-02-01-01-01-02", "03-01-03-01-01-01-03", "03-01-04-01-01-01-04"):
        assert name in message
    assert "--exclude" in message


def test_two_studies_cannot_have_one_name(study, tmp_path):
    (tmp_path / "out" / "studies" / "mine").mkdir(parents=True)
    (tmp_path / "out" / "studies" / "mine" / "study.json").write_text("{}")
    code, message = study("--name", "mine")
    assert code == 2
    assert "--resume --name mine" in message


def test_a_study_that_is_running_is_not_joined_by_a_second_process(study, tmp_path):
    folder = tmp_path / "out" / "studies" / "mine"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        code, message = study("--name", "mine")
    assert code == 2
    assert "'mine' is running already" in message


def test_a_name_that_has_runs_in_the_experiment_is_not_taken_again(study, tmp_path):
    uri = f"sqlite:///{tmp_path}/m.db"
    client = open_client(uri)
    client.create_run(experiment_id(client, uri, "synthetic"), tags={"study": "mine"})
    code, message = study("--name", "mine")
    assert code == 2
    assert "holds runs of a study named 'mine'" in message


def test_the_command_itself_says_it_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "study" / "run.py", "--space", "proselfcl"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown space 'proselfcl'")
    assert "Traceback" not in done.stderr + done.stdout


def test_a_study_whose_store_cannot_be_opened_leaves_no_folder(study, tmp_path):
    (tmp_path / "m.db").write_text("no database, but a text that is long enough to be taken for one\n" * 20)
    code, said = study("--name", "s", "--noise", "clean")
    assert code == 2
    assert "cannot be opened" in said
    assert not (tmp_path / "out" / "studies" / "s").exists()


def test_a_study_whose_audio_was_replaced_is_not_resumed(study, tmp_path):
    """Let the record of a begun study hold the digest of other audio, as if its files had been replaced."""
    options = StudyOptions(
        name="s", noise=("clean",), storage_path=tmp_path / "out", tracking_uri=f"sqlite:///{tmp_path}/m.db",
        experiment="e",
    )  # fmt: skip
    prepared = prepare(options, Console(quiet=True))
    prepared.options.write(prepared.data.digest, spaces=prepared.spaces, audio_digest=prepared.data.audio_digest)
    prepared.lock.release()
    prepare(replace(options, resume=True), Console(quiet=True)).lock.release()
    prepared.options.write(prepared.data.digest, spaces=prepared.spaces, audio_digest="0123")
    code, said = study("--resume", "--name", "s")
    assert code == 2
    assert "the same names have other samples" in said
