"""A trial's life with Tune at its side replaced, so that it can be killed at a chosen point."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.entities import Dataset
from mlflow.exceptions import MlflowException

from ser.training import DivergedError, load_state
from study import trainable
from study.tracking import experiment_id, open_client
from study.trainable import CHECKPOINT_FILE, DONE, EPOCH, TrialContext, train_trial

EPOCHS = 3
CONFIGURATION = {"trial": 1, "loss.name": "cross_entropy", "optimizer.lr": 1e-3}


class Killed(BaseException):
    """Ends a trial as SIGKILL would: nothing after it runs."""


class Tune:
    """What a trial sees of Ray Tune: keeps reports and checkpoints, and kills after a given number of them."""

    def __init__(self, folder, kill_after=None, checkpoint=None):
        self.folder, self.kill_after, self.checkpoint = folder, kill_after, checkpoint
        self.reports = []
        self.Checkpoint = SimpleNamespace(from_directory=self._copied)

    def _copied(self, folder):
        kept = self.folder / f"checkpoint_{len(list(self.folder.iterdir()))}"
        kept.mkdir()
        (kept / CHECKPOINT_FILE).write_bytes((Path(folder) / CHECKPOINT_FILE).read_bytes())
        return SimpleNamespace(path=str(kept))

    def get_checkpoint(self):
        return self.checkpoint

    def report(self, metrics, checkpoint):
        self.reports.append(metrics)
        self.checkpoint = checkpoint
        if len(self.reports) == self.kill_after:
            raise Killed


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    uri = f"sqlite:///{tmp_path_factory.mktemp('records')}/m.db"
    client = open_client(uri)
    return uri, client, experiment_id(client, uri, "e")


@pytest.fixture
def context(records, task_at, request):
    uri, _, experiment = records
    return TrialContext(
        task=task_at("noisy-A"),
        base={
            "model.width": 0.03,
            "training.epochs": EPOCHS,
            "training.crop_seconds": 0.5,
            "training.batch_size": 8,
            "training.precision": "float32",
        },
        seed=0,
        threads=1,
        device="cpu",
        objective="val_noisy/uar",
        tracking_uri=uri,
        experiment=experiment,
        parent="parent",
        name="cross_entropy noisy-A",
        key={"study": request.node.name},
        tags={},
        dataset=Dataset("d", "digest", "local", "{}"),
    )


@pytest.fixture
def run_trial(monkeypatch, tmp_path, context):
    """Runs the trial once, with a Tune that may kill it; returns that Tune."""

    def call(configuration=CONFIGURATION, **options):
        tune = Tune(tmp_path, **options)
        monkeypatch.setattr(trainable, "tune", tune)
        with contextlib.suppress(Killed):
            train_trial(dict(configuration), context=context)
        return tune

    return call


@pytest.fixture
def recorded(records, context):
    """The trial's one run, and its history of a metric."""
    _, client, experiment = records

    def read(metric="train/loss"):
        (run,) = client.search_runs([experiment], f"tags.study = '{context.key['study']}'")
        return run, [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]

    return read


def test_a_trial_reports_records_and_finishes(run_trial, recorded):
    tune = run_trial()
    assert [(report[EPOCH], report[DONE]) for report in tune.reports] == [(1, False), (2, False), (3, True)]
    run, history = recorded("val_noisy/uar")
    assert (run.info.status, run.data.tags["fidelity"]) == ("FINISHED", "finished")
    assert [value for _, value in history] == [report["val_noisy/uar"] for report in tune.reports]
    state = load_state(Path(tune.checkpoint.path) / CHECKPOINT_FILE)
    assert state["epoch"] == EPOCHS
    assert "optimizer" not in state


@pytest.mark.parametrize("kill_after", [1, 2])
def test_a_killed_trial_goes_on_and_ends_with_the_numbers_of_an_undisturbed_one(
    run_trial, recorded, records, context, kill_after
):
    first = run_trial(kill_after=kill_after)
    run_trial(checkpoint=first.checkpoint)
    run, killed = recorded()
    assert run.data.tags["fidelity"] == "finished"
    context.key["study"] += " undisturbed"
    run_trial()
    _, whole = recorded()
    assert killed == whole


def test_a_trial_killed_before_its_first_checkpoint_begins_again_and_doubles_nothing(run_trial, recorded):
    run_trial(kill_after=1)
    run_trial()
    _, history = recorded()
    assert [step for step, _ in history] == [1, 2, 3]


def test_a_trial_killed_after_its_last_report_is_finished_all_the_same(run_trial, recorded):
    first = run_trial(kill_after=EPOCHS)
    again = run_trial(checkpoint=first.checkpoint)
    assert again.reports == [first.reports[-1]]
    run, history = recorded()
    assert (run.info.status, run.data.tags["fidelity"]) == ("FINISHED", "finished")
    assert len(history) == EPOCHS


def test_a_diverged_trial_is_not_trained_again(run_trial, recorded, monkeypatch):
    reckless = {**CONFIGURATION, "optimizer.lr": 1e30}
    with pytest.raises(DivergedError):
        run_trial(reckless)
    monkeypatch.setattr(trainable, "train", lambda *a, **k: pytest.fail("it was trained again"))
    with pytest.raises(DivergedError, match="diverged"):
        run_trial(reckless)
    run, _ = recorded()
    assert (run.info.status, run.data.tags["fidelity"]) == ("FAILED", "failed")


def test_a_lost_store_is_told_without_its_password(run_trial, monkeypatch):
    def refuse(*arguments):
        raise MlflowException("API request to http://me:s3cret@host/api failed\nmore")

    monkeypatch.setattr(trainable.TrialRun, "open", refuse)
    with pytest.raises(RuntimeError, match=r"^MLflow: API request to http://me:\*\*\*@host/api failed$") as caught:
        run_trial()
    assert caught.value.__suppress_context__
