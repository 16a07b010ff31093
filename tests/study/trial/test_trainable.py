"""Tests of a trial that is killed at chosen points and resumes from the files on disk."""

import errno
import gc
import os
import random
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ser.training import EpochRecord, load_state
from study.schema import UTTERANCES
from study.tracking.opening import experiment_id, open_client
from study.tracking.upload import deliver_all
from study.trial import trainable
from study.trial.checkpoints import checkpoints
from study.trial.event_log import Outbox
from study.trial.specification import DONE, EPOCH, FAILURE, FAILURE_FINAL, SUSPENDED, TrialSpecification, trial_folder
from study.trial.trainable import ATTEMPTS, MAX_ATTEMPTS, Attempt, StudyTrial
from tests.helpers.trial_context import CONFIGURATION, EPOCHS, make_context


@pytest.fixture(autouse=True)
def every_epoch_is_saved(monkeypatch):
    """Save the state of every epoch, also on a slow disk; tests of fewer saved states set the constant themselves."""
    monkeypatch.setattr(trainable, "BETWEEN_KILLS", 0.0)


class Killed(BaseException):
    """End of a process as by SIGKILL, which no code of the trial handles."""


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    uri = f"sqlite:///{tmp_path_factory.mktemp('records')}/m.db"
    client = open_client(uri)
    return client, experiment_id(client, uri, "e")


@pytest.fixture
def context(records, task_at, request, tmp_path):
    return make_context(task_at("noisy-A"), records[1], tmp_path / "search", request.node.name)


@pytest.fixture
def folder(context):
    return trial_folder(context.folder, 1)


def run(context, configuration=CONFIGURATION, steps=None):
    """Step a trial to its end, or a number of steps as before a kill; return its results for Tune."""
    attempt = Attempt(dict(configuration), context)
    results = []
    while not (results and results[-1]["done"]) and len(results) != steps:
        results.append(attempt.step())
    return results


def die(context):
    """Resume the trial in a process that is killed while it trains the next epoch."""

    def killed(*_, **__):
        raise Killed
        yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainable, "train", killed)
        with pytest.raises(Killed):
            run(context)


def actor(context, **configuration):
    """Return a trainable with its first trial, without Ray's constructor, which expects to run in an actor."""
    trial = StudyTrial.__new__(StudyTrial)
    trial.setup({**CONFIGURATION, **configuration}, context)
    return trial


def losses(search, number):
    lines = Outbox(trial_folder(search, number)).lines()
    return [line["metrics"]["train/loss"] for line in lines if line["kind"] == "epoch"]


@pytest.fixture
def recorded(records, context):
    """Return a function that reads the trial's one run and the history of a metric from MLflow."""
    client, experiment = records

    def read(metric="train/loss", study=None):
        assert not deliver_all(context.folder.glob("trial_*"), client, 30)
        (found,) = client.search_runs([experiment], f"tags.study = '{study or context.key['study']}'")
        return found, [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, metric)]

    return read


@pytest.fixture
def undisturbed(context, tmp_path, records):
    """Return the losses of the same trial, never killed."""
    other = replace(context, folder=tmp_path / "undisturbed", key={"study": "undisturbed" + context.key["study"]})
    other.folder.mkdir()
    run(other)
    return [
        line["metrics"]["train/loss"] for line in Outbox(trial_folder(other.folder, 1)).lines() if "metrics" in line
    ]


def test_a_trial_reports_records_and_finishes(context, folder, recorded):
    results = run(context)
    assert [(result[EPOCH], result[DONE], result["done"]) for result in results] == [
        (1, False, False), (2, False, False), (3, True, True),
    ]  # fmt: skip
    found, history = recorded("val_noisy/uar")
    assert (found.info.status, found.data.tags["status"]) == ("FINISHED", "finished")
    assert found.data.tags["folder"] == str(folder)
    assert [value for _, value in history] == [result["val_noisy/uar"] for result in results]
    (last,) = checkpoints(folder)
    state = load_state(last)
    assert state["epoch"] == EPOCHS
    assert "optimizer" not in state


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_killed_trial_resumes_and_ends_with_the_numbers_of_an_undisturbed_one(context, recorded, undisturbed, steps):
    run(context, steps=steps)
    results = run(context)
    assert [result[EPOCH] for result in results] == list(range(steps + 1, EPOCHS + 1))
    found, history = recorded()
    assert found.data.tags["status"] == "finished"
    assert history == list(enumerate(undisturbed, start=1))


@pytest.mark.parametrize(
    ("at", "epoch"),
    [("epoch", 1), ("epoch", EPOCHS), ("save_checkpoint", 1), ("save_checkpoint", EPOCHS), ("end", EPOCHS)],
)
def test_a_kill_between_any_two_writes_doubles_and_loses_nothing(
    context, recorded, undisturbed, monkeypatch, at, epoch
):
    """Kill the trial just before the metrics, the checkpoint, or the end of the trial is written."""

    def kill_at(real, when):
        def killing(*arguments, **options):
            if when(arguments):
                raise Killed
            return real(*arguments, **options)

        return killing

    with monkeypatch.context() as patch:
        if at == "epoch":
            patch.setattr(Outbox, "epoch", kill_at(Outbox.epoch, lambda args: args[1] == epoch))
        elif at == "end":
            patch.setattr(Outbox, "end", kill_at(Outbox.end, lambda args: True))
        else:
            saving = kill_at(trainable.save_checkpoint, lambda args: args[0]["epoch"] == epoch)
            patch.setattr(trainable, "save_checkpoint", saving)
        with pytest.raises(Killed):
            run(context)
    results = run(context)
    assert results[-1][DONE]
    found, history = recorded()
    assert history == list(enumerate(undisturbed, start=1))
    assert found.data.tags["status"] == "finished"


def test_a_finished_trial_that_the_journal_missed_reports_its_score_again(context, recorded):
    first = run(context)
    again = run(context)
    assert again == [first[-1]]
    found, history = recorded()
    assert (found.info.status, len(history)) == ("FINISHED", EPOCHS)


def test_a_torn_checkpoint_is_put_aside_and_the_one_before_it_used(context, folder, recorded, undisturbed):
    run(context, steps=2)
    newest = checkpoints(folder)[0]
    newest.write_bytes(newest.read_bytes()[:-1000])
    results = run(context)
    assert [result[EPOCH] for result in results] == [2, 3]
    assert (folder / f"torn-{newest.name}").exists()
    _, history = recorded()
    assert history == list(enumerate(undisturbed, start=1))


def test_a_diverged_trial_fails_for_good_with_its_reason(context, recorded):
    results = run(context, {**CONFIGURATION, "optimizer.lr": 1e30})
    assert results[-1][FAILURE].startswith("training diverged in epoch")
    assert results[-1][FAILURE_FINAL] is True
    assert "val_noisy/uar" not in results[-1]
    found, _ = recorded()
    assert (found.info.status, found.data.tags["status"]) == ("FAILED", "failed")
    assert "diverged" in found.data.tags["failure"]


def test_a_trial_that_kills_its_processes_fails_after_some_attempts_and_is_tried_again_in_another_session(context):
    run(context, steps=1)
    for _ in range(MAX_ATTEMPTS):
        die(context)
    (results,) = run(context)
    assert f"{MAX_ATTEMPTS} processes died in epoch 2" in results[FAILURE]
    assert results[FAILURE_FINAL] is False
    assert run(replace(context, session="two"))[-1][DONE]


def test_progress_gives_a_trial_new_attempts(context):
    for _ in range(EPOCHS):
        for _ in range(MAX_ATTEMPTS - 1):
            die(context)
        results = run(context, steps=1)
    assert results[-1][DONE]


def saved_epochs(context, monkeypatch, seconds, between, epochs=6):
    """Return the epochs whose states are saved if training takes a second per epoch and saving takes ``seconds``."""
    now, saved = [0.0], []

    def save(state, *_, **__):
        saved.append(state["epoch"])
        now[0] += seconds

    def trained(config, *_, **__):
        for epoch in range(1, config.training.epochs + 1):
            now[0] += 1.0
            yield EpochRecord(epoch, epoch, {"val_noisy/uar": 0.5}, epoch == epochs, {"epoch": epoch})

    monkeypatch.setattr(trainable, "BETWEEN_KILLS", between)
    monkeypatch.setattr(trainable, "save_checkpoint", save)
    monkeypatch.setattr(trainable, "train", trained)
    monkeypatch.setattr(trainable.time, "monotonic", lambda: now[0])
    run(replace(context, defaults={**context.defaults, "training.epochs": epochs}))
    return saved


@pytest.mark.parametrize(
    ("seconds", "between", "expected"),
    [
        (0.01, 20.0, [1, 2, 3, 4, 5, 6]),  # sqrt(2 · .01 · 20) is less than an epoch of one second
        (0.125, 16.0, [1, 3, 5, 6]),  # two seconds lie between two states
        (0.125, 64.0, [1, 5, 6]),  # four seconds: twice the distance with four times the time between kills
        (0.5, 16.0, [1, 5, 6]),  # or with four times the time to save
        (5.0, 20.0, [1, 6]),  # the last state is always saved
    ],
)
def test_states_are_saved_at_youngs_interval(context, monkeypatch, seconds, between, expected):
    assert saved_epochs(context, monkeypatch, seconds, between) == expected


def test_a_trial_that_saved_only_its_first_epoch_ends_with_the_numbers_of_an_undisturbed_one(
    context, folder, recorded, undisturbed, monkeypatch
):
    monkeypatch.setattr(trainable, "BETWEEN_KILLS", 1e12)
    run(context, steps=2)
    assert [path.name.partition("-")[0] for path in checkpoints(folder)] == ["epoch_0001"]
    results = run(context)
    assert [result[EPOCH] for result in results] == [2, 3]
    found, history = recorded()
    assert history == list(enumerate(undisturbed, start=1))
    assert found.data.tags["status"] == "finished"


def test_deaths_are_counted_from_the_records_where_states_are_rarer(context, monkeypatch):
    """Kill processes that each train one epoch more than the one before; all of them begin with the first epoch."""
    monkeypatch.setattr(trainable, "save_checkpoint", lambda *_, **__: None)
    longer = replace(context, defaults={**context.defaults, "training.epochs": 7})
    for steps in range(1, 6):
        assert not run(longer, steps=steps)[-1]["done"]
    for _ in range(MAX_ATTEMPTS):
        die(longer)
    (results,) = run(longer)
    assert f"{MAX_ATTEMPTS} processes died in epoch 6" in results[FAILURE]


def test_an_unexpected_error_is_raised_for_tune_and_becomes_the_failure_if_it_stays(context, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("CUDA error: an illegal memory access")
        yield

    monkeypatch.setattr(trainable, "train", broken)
    for _ in range(MAX_ATTEMPTS):
        trial = actor(context)
        with pytest.raises(RuntimeError, match="illegal memory"):
            trial.step()
    (results,) = run(context)
    assert "illegal memory access" in results[FAILURE]


def test_a_full_disk_leaves_the_trial_unfinished(context, folder, monkeypatch, recorded, undisturbed):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        run(context, steps=1)
        patch.setattr(trainable, "save_checkpoint", full)
        (results,) = run(context)
    assert "No space left on device" in results[SUSPENDED]
    assert run(context)[-1][DONE]
    _, history = recorded()
    assert history == list(enumerate(undisturbed, start=1))


def test_a_node_that_does_not_see_the_folder_says_so(context):
    context.folder.rmdir()
    (results,) = run(context)
    assert "does not see" in results[SUSPENDED]
    assert "--storage-path" in results[SUSPENDED]


def test_a_process_that_was_considered_dead_writes_nothing_more(context, folder):
    zombie = Attempt(dict(CONFIGURATION), context)
    zombie.step()
    run(context, steps=1)
    before = (folder / "records.jsonl").read_bytes()
    with pytest.raises(RuntimeError, match="continues in another process"):
        zombie.step()
    assert (folder / "records.jsonl").read_bytes() == before
    zombie.note_error("whatever it says")
    assert run(context)[-1][DONE]


def test_training_continues_without_mlflow_and_the_records_arrive_later(context, folder, recorded, undisturbed):
    assert run(context)[-1][DONE]
    assert Outbox(folder).pending > EPOCHS
    found, history = recorded()
    assert history == list(enumerate(undisturbed, start=1))
    assert found.info.status == "FINISHED"
    assert Outbox(folder).pending == 0


def test_a_stopped_trial_is_recorded_as_stopped_and_the_actor_takes_the_next(context, records):
    client, experiment = records
    trial = actor(context)
    trial.step()
    assert trial.reset_config({**CONFIGURATION, "trial": 2, "optimizer.lr": 2e-3})
    while not trial.step()["done"]:
        pass
    trial.cleanup()
    assert not deliver_all(context.folder.glob("trial_*"), client, 30)
    found = client.search_runs([experiment], f"tags.study = '{context.key['study']}'")
    ends = {one.data.tags["trial"]: (one.info.status, one.data.tags["status"]) for one in found}
    assert ends == {"001": ("KILLED", "stopped"), "002": ("FINISHED", "finished")}
    # The second trial contains nothing of the first.
    fresh = replace(context, folder=context.folder.parent / "fresh", key={"study": "fresh"})
    fresh.folder.mkdir()
    run(fresh, {**CONFIGURATION, "trial": 2, "optimizer.lr": 2e-3})
    assert losses(context.folder, 2) == losses(fresh.folder, 2)


def test_the_state_of_a_stopped_trial_is_that_of_its_last_epoch(context, folder, undisturbed, monkeypatch):
    """Save few states: what is scored or resumed is still what is on record."""
    monkeypatch.setattr(trainable, "BETWEEN_KILLS", 1e12)
    trial = actor(context)
    for _ in range(2):
        trial.step()
    assert load_state(checkpoints(folder)[0])["epoch"] == 1
    trial.cleanup()
    assert load_state(checkpoints(folder)[0])["epoch"] == Outbox(folder).last_epoch == 2
    run(context)
    assert losses(context.folder, 1) == undisturbed


def test_a_stopped_trial_ends_on_record_also_where_the_disk_is_full(context, folder, monkeypatch):
    monkeypatch.setattr(trainable, "BETWEEN_KILLS", 1e12)
    trial = actor(context)
    for _ in range(2):
        trial.step()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trainable, "save_checkpoint", full)
    trial.cleanup()
    assert Outbox(folder).status == "stopped"


def process_state():
    """Return what a trial could leave in its process for the next one."""
    gc.collect()
    return {
        "threads of torch": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
        "files": sorted(
            str(path.resolve()) for path in Path("/proc/self/fd").iterdir() if "trial_" in str(path.resolve())
        ),
        "tensors": sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()),
    }


def test_an_actor_is_left_by_a_trial_as_it_was_found(context):
    """End a trial in several ways: each time the next trial finds the process unchanged."""
    trial = actor(context)
    while not trial.step()["done"]:
        pass
    states = [process_state()]
    for number, (settings, steps) in enumerate(
        [({}, None), ({}, 1), ({"optimizer.lr": 1e30}, None), ({"model.width": 0.06, "loss.name": "elr"}, 2)], start=2
    ):
        trial.reset_config({**CONFIGURATION, "trial": number, **settings})
        taken = 0
        while not trial.step()["done"] and (taken := taken + 1) != steps:
            pass
        trial.cleanup()
        states.append(process_state())
    assert all(state == states[0] for state in states[1:])


def test_what_another_trial_left_in_the_process_changes_no_number(context, undisturbed, monkeypatch, tmp_path):
    trial = actor(context, **{"trial": 2, "model.width": 0.06})
    trial.step()
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    torch.set_num_threads(2)
    torch.rand(7)
    monkeypatch.chdir(tmp_path)
    trial.reset_config(dict(CONFIGURATION))
    while not trial.step()["done"]:
        pass
    assert losses(context.folder, 1) == undisturbed
    assert torch.get_num_threads() == context.threads


def test_attempts_are_recorded_next_to_the_records(context, folder):
    run(context, steps=1)
    assert (folder / ATTEMPTS).exists()
    assert Outbox(folder).lines()


def test_the_table_of_utterances_is_the_same_after_a_kill(context, recorded, records, tmp_path):
    client, _ = records
    whole = replace(context, folder=tmp_path / "whole", key={"study": "whole"})
    whole.folder.mkdir()
    run(whole)
    run(context, steps=2)
    assert not client.list_artifacts(recorded()[0].info.run_id)
    run(context)
    tables = [
        pd.read_parquet(client.download_artifacts(recorded()[0].info.run_id, UTTERANCES, str(tmp_path))),
        pd.read_parquet(trial_folder(whole.folder, 1) / UTTERANCES),
    ]
    assert list(tables[0]["utterance_id"]) == [
        *context.task.train.utterance_ids, *context.task.validation.utterance_ids,
    ]  # fmt: skip
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_a_planned_trial_trains_like_a_suggested_one_and_is_tested(context, tmp_path):
    run(context)
    suggested = {key: value for key, value in CONFIGURATION.items() if key != "trial"}
    task = replace(context.task, test=context.task.validation)
    planned = TrialSpecification({**context.defaults, **suggested}, context.seed, task, {"fold": "7"})
    other = replace(context, folder=tmp_path / "planned", key={"study": "planned"}, planned=(planned,), seed=99)
    other.folder.mkdir()
    run(other, {"trial": 1})
    assert losses(other.folder, 1) == losses(context.folder, 1)
    *_, last = [line for line in Outbox(trial_folder(other.folder, 1)).lines() if line["kind"] == "epoch"]
    # The test rows are the validation rows here.
    assert last["metrics"]["test/last/uar"] == last["metrics"]["val/uar"]
    assert last["metrics"]["test/best/uar"] == last["metrics"]["best/val_uar"]
    table = pd.read_parquet(trial_folder(other.folder, 1) / UTTERANCES).set_index("subset")
    scores = [name for name in table.columns if name.startswith("p_")]
    assert table.loc["test", scores].to_numpy().tolist() == table.loc["validation", scores].to_numpy().tolist()
    assert table.loc["test", "noisy_label"].isna().all()


def test_a_search_sees_no_test_row(context):
    run(context)
    lines = Outbox(trial_folder(context.folder, 1)).lines()
    assert not [name for line in lines if line["kind"] == "epoch" for name in line["metrics"] if "test" in name]


def test_the_best_epochs_test_score_survives_a_kill(context, tmp_path):
    task = replace(context.task, test=context.task.validation)
    configuration = {**context.defaults, **{key: value for key, value in CONFIGURATION.items() if key != "trial"}}
    planned = (TrialSpecification(configuration, context.seed, task, {}),)
    found = []
    for name, steps in (("whole", None), ("killed", 2)):
        other = replace(context, folder=tmp_path / name, key={"study": name}, planned=planned)
        other.folder.mkdir()
        run(other, {"trial": 1}, steps=steps)
        run(other, {"trial": 1})
        found.append(Outbox(trial_folder(other.folder, 1)).last_metrics)
    names = [name for name in found[0] if name.startswith("test/")]
    assert names
    assert {name: found[1][name] for name in names} == {name: found[0][name] for name in names}
