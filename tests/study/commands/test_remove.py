"""What is deleted of a study and what stays, also when deleting is interrupted at any step."""

import io
import itertools
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from rich.console import Console

from ser.utils.command_line import run_command
from study.commands import remove
from study.options import StudyOptions
from study.schema import KIND, MODEL, PARENT, SEARCH, TRIAL, Tag
from study.tracking.opening import experiment_id, open_client
from study.tracking.store import search_all

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENT = "made"


class Studies:
    """A storage path with studies that never ran, next to their store."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder}/m.db"
        self.client = open_client(self.uri)
        self.experiment = experiment_id(self.client, self.uri, EXPERIMENT)
        self._monkeypatch = monkeypatch

    def add(self, name: str, *features: str, trials: int = 1) -> Path:
        """Make a study: record, runs with an artifact each, checkpoints of 1000 bytes, feature stores of 5000."""
        self.record(name, *features)
        for feature in features:
            (self.folder / "features" / feature).mkdir(parents=True, exist_ok=True)
            (self.folder / "features" / feature / "frames.f32").write_bytes(b"0" * 5000)
        folder = self.folder / "studies" / name
        parent = self._run({KIND: PARENT, Tag.STUDY: name})
        for number in range(1, trials + 1):
            trial = folder / "cross_entropy--clean" / f"trial_{number:03d}"
            trial.mkdir(parents=True)
            (trial / "epoch_0001.pt").write_bytes(b"0" * 1000)
            own = {KIND: TRIAL, Tag.STUDY: name, Tag.TRIAL: trial.name, Tag.STAGE: SEARCH, Tag.FOLDER: str(trial)}
            self._run({**own, MLFLOW_PARENT_RUN_ID: parent})
        return folder

    def _run(self, tags: dict[str, str]) -> str:
        run = self.client.create_run(self.experiment, tags=tags)
        self.client.log_text(run.info.run_id, "text", "artifact.txt")
        return run.info.run_id

    def record(self, name: str, *features: str) -> None:
        options = StudyOptions(name=name, storage_path=self.folder, tracking_uri=self.uri, experiment=EXPERIMENT)
        options.folder.mkdir(parents=True, exist_ok=True)
        options.write("digest", features)

    def remove(self, *words: str) -> int:
        """Call the command; return its exit code."""
        self._monkeypatch.setattr(sys, "argv", ["remove.py", *words, "--storage-path", str(self.folder)])
        return run_command(remove.main)

    def runs(self, name: str, view: int = ViewType.ACTIVE_ONLY) -> list:
        return search_all(self.client, [self.experiment], f"tags.study = '{name}'", view)

    def artifacts(self, name: str) -> list[Path]:
        return [path for run in self.runs(name, ViewType.ALL) for path in self.below(run).rglob("*") if path.is_file()]

    def below(self, run) -> Path:
        return Path(run.info.artifact_uri.removeprefix("file://"))

    def features(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "features").iterdir() if path.is_dir())

    def is_gone(self, name: str) -> bool:
        return not (self.folder / "studies" / name).exists() and not self.runs(name) and not self.artifacts(name)

    def is_whole(self, name: str) -> bool:
        """Return whether a study of one trial has its folder, both its runs and their artifacts."""
        checkpoint = self.folder / "studies" / name / "cross_entropy--clean" / "trial_001" / "epoch_0001.pt"
        return checkpoint.exists() and len(self.runs(name)) == 2 and len(self.artifacts(name)) == 2


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    path = tmp_path_factory.mktemp("empty") / "m.db"
    open_client(f"sqlite:///{path}")
    return path


@pytest.fixture
def studies(empty_database, tmp_path, monkeypatch):
    shutil.copy(empty_database, tmp_path)
    return Studies(tmp_path, monkeypatch)


def asked(monkeypatch, answer):
    """Let the command find a terminal, where somebody answers."""
    monkeypatch.setattr(remove, "make_console", lambda: Console(force_terminal=True, width=200))
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)


def test_without_a_terminal_it_lists_and_deletes_nothing(studies, capsys):
    studies.add("first", "own")
    studies.add("second", "own")
    assert studies.remove("--name", "first") == 0
    printed = capsys.readouterr().out
    assert f"at {studies.folder}/studies/first" in printed
    assert f"runs       2 in {studies.uri}, of these 1 of trials" in printed
    assert "own stays: study second uses it" in printed
    assert "--name first" in printed.splitlines()[-1]
    assert printed.splitlines()[-1].endswith(" --yes")
    assert studies.is_whole("first")
    assert studies.features() == ["own"]


def test_sizes_are_those_of_what_is_there(studies, capsys):
    folder = studies.add("first", "own")
    (folder / "large").write_bytes(b"0" * 2_000_000)
    (studies.below(studies.runs("first")[0]) / "large").write_bytes(b"0" * 3_000_000)
    (studies.folder / "features" / "own" / "frames.f32").write_bytes(b"0" * 4_000_000)
    studies.remove("--name", "first")
    printed = capsys.readouterr().out
    assert "folder     2 MB" in printed
    assert "artifacts  3 MB" in printed
    assert "features     4 MB" in printed
    assert "in all       9 MB" in printed


def test_what_is_the_studys_own_is_deleted_and_the_rest_stays(studies, capsys):
    studies.add("first", "own", "shared")
    studies.add("second", "shared")
    before = [run.to_dictionary() for run in studies.runs("second")]
    assert studies.remove("--name", "first", "--yes") == 0
    assert "MLflow's trash" in capsys.readouterr().out
    assert studies.is_gone("first")
    assert studies.features() == ["shared"]
    assert studies.is_whole("second")
    assert [run.to_dictionary() for run in studies.runs("second")] == before
    assert len(studies.runs("first", ViewType.DELETED_ONLY)) == 2
    assert studies.remove("--name", "first", "--yes") == 2
    assert "there is no study 'first'" in capsys.readouterr().err


def test_several_studies_are_deleted_with_the_features_that_they_share(studies):
    for name in ("first", "second", "third"):
        studies.add(name, "shared", name)
    assert studies.remove("--yes", "--name", "first", "second") == 0
    assert studies.is_gone("first")
    assert studies.is_gone("second")
    assert studies.is_whole("third")
    assert studies.features() == ["shared", "third"]
    assert studies.remove("--name", "third", "--yes") == 0
    assert studies.features() == []


@pytest.mark.parametrize(
    ("answer", "deleted"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_on_a_terminal_it_asks(studies, monkeypatch, answer, deleted):
    studies.add("first")
    asked(monkeypatch, answer)
    assert studies.remove("--name", "first") == 0
    assert studies.is_gone("first") == deleted
    assert studies.is_whole("first") != deleted


def test_a_study_that_runs_is_refused(studies, capsys):
    folder = studies.add("first")
    studies.add("second")
    with FileLock(folder / ".lock"):
        assert studies.remove("--name", "second", "first", "--yes") == 2
    assert "study 'first' is running" in capsys.readouterr().err
    assert studies.is_whole("first")
    assert studies.is_whole("second")


def test_features_stay_while_it_is_not_known_who_uses_them(studies, capsys):
    studies.add("first", "own")
    beginning = studies.folder / "studies" / "beginning"
    beginning.mkdir()
    (beginning / ".lock").touch()
    assert studies.remove("--name", "first") == 0
    assert "own stays: it is not known which features study beginning uses" in capsys.readouterr().out
    assert studies.remove("--name", "beginning", "--yes") == 0
    assert not beginning.exists()
    older = studies.add("older")
    (older / "study.json").write_text('{"data_digest": "d", "corpus": "synthetic"}')
    assert studies.remove("--name", "first", "--yes") == 0
    assert studies.is_gone("first")
    assert studies.features() == ["own"]
    assert studies.remove("--name", "older", "--tracking-uri", studies.uri, "--yes") == 0
    assert "earlier version, which did not record its features: they stay" in capsys.readouterr().out
    assert studies.is_gone("older")
    assert studies.features() == ["own"]


def test_a_study_that_begins_while_features_are_deleted_keeps_them(studies, monkeypatch, capsys):
    studies.add("first", "own")
    real = MlflowClient.delete_run

    def delete_run(client, run_id):
        studies.record("new", "own")
        return real(client, run_id)

    monkeypatch.setattr(MlflowClient, "delete_run", delete_run)
    assert studies.remove("--name", "first", "--yes") == 0
    assert "own stays: a study that has just begun uses it" in capsys.readouterr().out
    assert (studies.folder / "features" / "own" / "frames.f32").stat().st_size == 5000


def test_what_is_interrupted_at_any_step_is_finished_by_the_same_command(studies, monkeypatch, capsys):
    """Interrupt before each single step of deleting; what is left is found and deleted by the next call."""
    steps = 0

    def interrupted(function):
        def step(*arguments, **options):
            nonlocal steps
            steps -= 1
            if steps < 0:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return step

    for count in itertools.count():
        studies.add("first", "own", "shared")
        studies.record("second", "shared")
        with monkeypatch.context() as patched:
            for owner, name in ((shutil, "rmtree"), (Path, "unlink"), (Path, "rename"), (Path, "rmdir")):
                patched.setattr(owner, name, interrupted(getattr(owner, name)))
            patched.setattr(MlflowClient, "delete_run", interrupted(MlflowClient.delete_run))
            steps = count
            code = studies.remove("--name", "first", "--yes")
        if code == 0:
            break
        assert code == 130
        assert "The same command deletes the rest." in capsys.readouterr().out
        assert studies.remove("--name", "first", "--yes") == 0, count
        assert studies.is_gone("first"), count
        assert studies.features() == ["shared"], count
    assert count >= 9  # two runs with artifacts, a store, a folder with trials, record and lock
    assert studies.is_gone("first")


def test_a_trial_that_still_writes_does_not_leave_a_folder_that_nobody_can_delete(studies, monkeypatch, capsys):
    folder = studies.add("first")
    real = shutil.rmtree

    def rmtree(path):
        real(path)
        if path.parent == folder:
            path.mkdir()

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", rmtree)
        assert studies.remove("--name", "first", "--yes") == 2
    assert "was written just now" in capsys.readouterr().err
    assert studies.remove("--name", "first", "--yes") == 0
    assert studies.is_gone("first")


def test_a_run_with_a_registered_model_stays_and_confirmations_are_named(studies, capsys):
    studies.add("first", trials=2)
    trial, other = sorted(
        (run for run in studies.runs("first") if run.data.tags[KIND] == TRIAL), key=lambda run: run.data.tags[Tag.TRIAL]
    )
    client, experiment = studies.client, studies.experiment
    model = client.create_run(
        experiment, tags={KIND: MODEL, Tag.SOURCE: trial.info.run_id, "mlflow.runName": "model best"}
    )
    tags = {KIND: TRIAL, Tag.STAGE: "confirm", Tag.STUDY: "confirmed", Tag.SOURCE: other.info.run_id}
    client.create_run(experiment, tags=tags)
    assert studies.remove("--name", "first", "--yes") == 0
    printed = capsys.readouterr().out
    assert f"run {trial.info.run_id} and its parent stay: model best was registered from it" in printed
    assert "confirmation confirmed has configurations from these runs" in printed
    left = studies.runs("first")
    assert {run.info.run_id for run in left} == {trial.info.run_id, trial.data.tags["mlflow.parentRunId"]}
    assert all(list(studies.below(run).iterdir()) for run in left)
    assert studies.runs("confirmed")
    again = ("--name", "first", "--tracking-uri", studies.uri, "--yes")
    assert studies.remove(*again) == 0
    assert "Nothing is left to delete." in capsys.readouterr().out
    client.delete_run(model.info.run_id)
    assert studies.remove(*again) == 0
    assert studies.is_gone("first")


def test_a_study_without_folder_or_without_store_is_deleted_as_far_as_it_is_there(studies, capsys):
    shutil.rmtree(studies.add("first"))
    assert studies.remove("--name", "first", "--tracking-uri", studies.uri, "--yes") == 0
    assert "folder     none" in capsys.readouterr().out
    assert studies.is_gone("first")
    folder = studies.add("second", "own")
    database = studies.folder / "m.db"
    database.rename(studies.folder / "away.db")
    assert studies.remove("--name", "second", "--yes") == 0
    assert "this store is not there" in capsys.readouterr().out
    assert not folder.exists()
    assert studies.features() == []
    assert not database.exists()


def test_a_folder_elsewhere_is_named(studies, tmp_path, capsys):
    studies.add("first")
    (tmp_path / "elsewhere").mkdir()
    words = ("--name", "first", "--tracking-uri", studies.uri, "--yes")
    studies.folder = tmp_path / "elsewhere"
    assert studies.remove(*words) == 2
    assert f"--storage-path {tmp_path}" in capsys.readouterr().err
    shutil.copytree(tmp_path / "studies", tmp_path / "elsewhere" / "studies")
    assert studies.remove(*words[:-1]) == 0
    assert f"its runs also belong to {tmp_path}/studies/first, which stays" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("..",), ("a/b",), ("",), ()])
def test_a_name_that_is_no_plain_name_is_refused(studies, words):
    with suppress(SystemExit):
        assert studies.remove("--yes", "--name", *words) == 2
    assert studies.folder.exists()


def test_a_folder_that_is_not_a_studys_is_refused(studies, capsys):
    thesis = studies.folder / "studies" / "thesis"
    thesis.mkdir(parents=True)
    (thesis / "chapter").touch()
    assert studies.remove("--name", "thesis", "--yes") == 2
    assert "is not the folder of a study" in capsys.readouterr().err
    (studies.folder / "studies" / "link").symlink_to(thesis)
    assert studies.remove("--name", "link", "--yes") == 2
    assert (thesis / "chapter").exists()


def test_links_are_not_followed(studies, tmp_path):
    folder = studies.add("first", "own")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    parent, trial = studies.runs("first")
    (studies.below(parent) / "link").symlink_to(precious)
    (folder / "link").symlink_to(precious)
    shutil.rmtree(studies.below(trial).parent)
    studies.below(trial).parent.symlink_to(precious)
    assert studies.remove("--name", "first", "--yes") == 0
    assert (precious / "file").exists()
    assert not folder.exists()


def test_artifacts_that_are_not_here_get_the_command_that_deletes_them(studies, capsys):
    studies.record("far")
    experiment = studies.client.create_experiment("far", artifact_location="s3://bucket/far")
    run = studies.client.create_run(experiment, tags={KIND: TRIAL, Tag.STUDY: "far"})
    assert studies.remove("--name", "far", "--experiment", "far", "--yes") == 0
    printed = capsys.readouterr().out
    assert "their artifacts stay at s3://bucket/far until this:" in printed
    assert f"mlflow gc --backend-store-uri {studies.uri} --run-ids {run.info.run_id}" in printed
    assert studies.client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"


def test_a_missing_experiment_or_password_is_reported(studies, capsys):
    studies.add("first")
    assert studies.remove("--name", "first", "--experiment", "maed", "--yes") == 2
    assert "Did you mean 'made'?" in capsys.readouterr().err
    options = StudyOptions(name="first", storage_path=studies.folder, tracking_uri="http://me:secret@host")
    options.write("digest")
    assert studies.remove("--name", "first", "--yes") == 2
    assert "--tracking-uri" in capsys.readouterr().err
    options = StudyOptions(name="first", storage_path=studies.folder, tracking_uri=studies.uri, experiment="other")
    options.write("digest")
    assert studies.remove("--name", "first") == 0
    assert "experiment other is not there, so no runs are deleted" in capsys.readouterr().out
    assert studies.is_whole("first")


@pytest.mark.slow
def test_the_command_line_removes_what_a_study_has_made(tmp_path):
    def call(script, *words):
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    small = ("--trials", "1", "--epochs", "1", "--width", "0.03", "--batch-size", "48", "--max-concurrent", "1")
    settings = ("--set", "training.crop_seconds=0.5", "training.precision=float32")
    spaces = ("--space", "cross_entropy", "--noise", "clean")
    ended = call("study/run.py", *spaces, *small, *settings, "--name", "first")
    assert f"{tmp_path}/results/studies/first" in ended
    assert "of features" in ended
    listed = call("study/remove.py", "--name", "first")
    assert "of these 1 of trials" in listed
    assert (tmp_path / "results" / "studies" / "first").exists()
    call("study/remove.py", "--name", "first", "--yes")
    assert not list((tmp_path / "results" / "studies").iterdir())
    assert not [path for path in (tmp_path / "results" / "features").iterdir() if path.is_dir()]
    assert not [path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()]
    call("study/run.py", *spaces, *small, *settings, "--name", "first")  # the name is free again
