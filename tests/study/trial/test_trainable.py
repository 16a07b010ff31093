"""Tests of a trial that is killed at chosen points, in its own process or in the study's, and continues."""

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
from ser.training.other_corpora import OtherTest
from study.schema import ACROSS_CORPORA, UTTERANCES, Tag
from study.search.journal import Journal
from study.tracking.event_log import EventLog
from study.tracking.opening import experiment_id, open_client
from study.trial import ended, trainable
from study.trial.checkpoints import checkpoints
from study.trial.specification import (
    DEVICE,
    DONE,
    EPOCH,
    EVENTS,
    FAILURE,
    FAILURE_FINAL,
    SUSPENDED,
    TrialSpecification,
    trial_folder,
)
from study.trial.trainable import Attempt, StudyTrial
from tests.helpers.trial_context import (
    CONFIGURATION,
    EPOCHS,
    PARAMETERS,
    Driver,
    Killed,
    deliver_all,
    log_of,
    losses,
    make_context,
    runs_of,
)


@pytest.fixture(autouse=True)
def every_epoch_is_saved(monkeypatch):
    """Save the state of every epoch, also on a slow disk; tests of fewer saved states set the constant themselves."""
    monkeypatch.setattr(trainable, "BETWEEN_KILLS", 0.0)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    uri = f"sqlite:///{tmp_path_factory.mktemp('records')}/m.db"
    client = open_client(uri)
    return client, experiment_id(client, uri, "e")


@pytest.fixture
def context(task_at, tmp_path):
    return make_context(task_at("noisy-A"), tmp_path / "search")


@pytest.fixture
def folder(context):
    return trial_folder(context.folder, 1)


def elsewhere(context, folder, **changes):
    """Return the context of the same search in another folder."""
    folder.mkdir()
    return replace(context, folder=folder, **changes)


def attempt(context, configuration=CONFIGURATION, epochs=None):
    """Step an attempt to its end, or some epochs far as before a kill; return its results but the first, the device."""
    tried = Attempt(dict(configuration), context)
    assert DEVICE in tried.step()
    results = []
    while not (results and results[-1]["done"]) and len(results) != epochs:
        results.append(tried.step())
    return results


def actor(context, **configuration):
    """Return a trainable with its first trial, without Ray's constructor, which expects to run in an actor."""
    trial = StudyTrial.__new__(StudyTrial)
    trial.setup({**CONFIGURATION, **configuration}, context)
    return trial


def end(trial):
    """Step an actor's trial to its end; return the training losses that it has reported."""
    found = []
    while True:
        result = trial.step()
        found += [event["metrics"]["train/loss"] for event in result.get(EVENTS, []) if event["kind"] == "epoch"]
        if result["done"]:
            return found


@pytest.fixture
def recorded(records, context, request):
    """Return a function that reads the trial's one run and the history of a metric from MLflow."""
    client, experiment = records
    runs = runs_of(experiment, request.node.name)

    def read(metric="train/loss"):
        deliver_all(context.folder, runs, client)
        (found,) = client.search_runs([experiment], f"tags.study = '{request.node.name}'")
        return found, [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, metric)]

    return read


@pytest.fixture
def undisturbed(context, tmp_path):
    """Return the losses of the same trial, never killed."""
    other = elsewhere(context, tmp_path / "undisturbed")
    Driver(other).run()
    return losses(other)


def test_a_trial_says_where_it_runs_reports_and_finishes(context, folder, recorded):
    results = Driver(context).run()
    assert [(result[EPOCH], result[DONE], result["done"]) for result in results] == [
        (1, False, False), (2, False, False), (3, True, False), (3, True, True),
    ]  # fmt: skip
    found, history = recorded("val_noisy/uar")
    assert (found.info.status, found.data.tags["status"]) == ("FINISHED", "finished")
    assert found.data.tags["folder"] == str(folder)
    assert "cores" in found.data.tags["hardware.cpu"]
    assert [value for _, value in history] == [result["val_noisy/uar"] for result in results[:EPOCHS]]
    (last,) = checkpoints(folder)
    state = load_state(last)
    assert state["epoch"] == EPOCHS
    assert "optimizer" not in state


def test_a_trial_records_what_it_is_computed_in_and_all_of_it_if_it_resumes_elsewhere(context, monkeypatch, recorded):
    auto = replace(context, defaults={**context.defaults, "training.precision": "auto"})
    for there, epochs in ((True, 1), (False, None)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=there: {"avx512_bf16": found})
        Driver(auto).run(epochs)
    run, _ = recorded()
    assert run.data.tags["arithmetic"] == "cpu bfloat16, then cpu float32"
    assert run.info.status == "FINISHED"


def test_a_trials_process_writes_nothing_but_checkpoints_and_the_table(context, folder):
    """Write no log and no lock, and rename nothing: another place than a shared folder must do."""
    attempt(context)
    assert sorted(path.name for path in folder.iterdir()) == ["epoch_0003-1.blake2b", "epoch_0003-1.pt", UTTERANCES]


@pytest.mark.parametrize("epochs", [1, EPOCHS])
def test_tests_on_other_corpora_are_recorded_once_also_by_a_killed_trial(context, recorded, tones, store, epochs):
    truth, rows = 1 - tones.labels, np.arange(len(tones))
    other = OtherTest("calls", store.path, ("low", "high"), (1, 0), rows, truth, tuple(tones.table["speaker"]))
    context = replace(context, task=replace(context.task, others=(other,)))
    Driver(context).run(epochs)
    Driver(context).run()
    found, history = recorded("test/calls/uar")
    assert [step for step, _ in history] == [EPOCHS]
    counts = pd.read_parquet(trial_folder(context.folder, 1) / ACROSS_CORPORA)
    recalls = counts.groupby("label")[["correct", "total"]].sum()
    assert history[0][1] == pytest.approx((recalls["correct"] / recalls["total"]).mean())
    artifacts = [line["name"] for line in log_of(context).lines() if line["kind"] == "artifact"]
    assert sorted(artifacts) == sorted([ACROSS_CORPORA, UTTERANCES])
    assert "val_noisy/uar" in found.data.metrics


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_killed_trial_resumes_and_ends_with_the_numbers_of_an_undisturbed_one(context, recorded, undisturbed, epochs):
    Driver(context).run(epochs)
    results = Driver(context).run()
    assert [result[EPOCH] for result in results] == [*range(epochs + 1, EPOCHS + 1), EPOCHS]
    found, history = recorded()
    assert found.data.tags["status"] == "finished"
    assert history == list(enumerate(undisturbed, start=1))


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (trainable, "save_checkpoint", 1),
        (trainable, "save_checkpoint", EPOCHS),
        (trainable, "write_durably", 1),
        (ended, "write_durably", 1),
        *((EventLog, "begin", call) for call in (1,)),
        *((EventLog, "take", call) for call in range(1, EPOCHS + 1)),
        (EventLog, "end", 1),
        *((Journal, "report", call) for call in range(1, EPOCHS + 1)),
        (Journal, "finish", 1),
    ],
)
def test_a_kill_before_or_after_any_write_doubles_and_loses_nothing(
    context, recorded, undisturbed, monkeypatch, owner, name, call, carried_out
):
    """Kill the trial's process or the study's at one of its writes."""
    real, calls = getattr(owner, name), []

    def killing(*arguments, **options):
        calls.append(1)
        if len(calls) != call:
            return real(*arguments, **options)
        if carried_out:
            real(*arguments, **options)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killing)
        with pytest.raises(Killed):
            Driver(context).run()
    driver = Driver(context)
    driver.run()
    assert [(entry.status, entry.epochs) for entry in driver.journal.entries()] == [("finished", EPOCHS)]
    found, history = recorded()
    assert history == list(enumerate(undisturbed, start=1))
    assert (found.info.status, found.data.tags["status"]) == ("FINISHED", "finished")


@pytest.mark.parametrize("epochs", [1, 2, EPOCHS])
def test_what_was_reported_and_lost_with_the_studys_process_is_reported_again(context, recorded, undisturbed, epochs):
    """Train without anybody who writes the reports down: the checkpoint holds them."""
    attempt(context, epochs=epochs)
    Driver(context).run()
    found, history = recorded()
    assert history == list(enumerate(undisturbed, start=1))
    assert found.data.tags["status"] == "finished"


def test_a_torn_checkpoint_is_passed_over_and_the_one_before_it_used(context, folder, recorded, undisturbed):
    Driver(context).run(2)
    newest = checkpoints(folder)[0]
    newest.write_bytes(newest.read_bytes()[:-1000])
    results = Driver(context).run()
    assert [result[EPOCH] for result in results] == [2, 3, 3]
    _, history = recorded()
    assert history == list(enumerate(undisturbed, start=1))


def test_a_diverged_trial_fails_for_good_with_its_reason(context, recorded):
    driver = Driver(context, parameters={**PARAMETERS, "optimizer.lr": 1e30})
    (*_, result) = driver.run()
    assert result[FAILURE].startswith("training diverged in epoch")
    assert result[FAILURE_FINAL] is True
    assert "val_noisy/uar" not in result
    found, _ = recorded()
    assert (found.info.status, found.data.tags["status"]) == ("FAILED", "failed")
    assert "diverged" in found.data.tags["failure"]
    (entry,) = driver.journal.entries()
    assert (entry.status, entry.final) == ("failed", True)


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
    attempt(replace(context, defaults={**context.defaults, "training.epochs": epochs}))
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
    Driver(context).run(2)
    assert [path.name.partition("-")[0] for path in checkpoints(folder)] == ["epoch_0001"]
    results = Driver(context).run()
    assert [result[EPOCH] for result in results] == [2, 3, 3]
    found, history = recorded()
    assert history == list(enumerate(undisturbed, start=1))
    assert found.data.tags["status"] == "finished"


@pytest.mark.parametrize("where", ["save_checkpoint", "write_durably"])
def test_a_full_disk_of_the_trial_leaves_it_unfinished(context, monkeypatch, recorded, undisturbed, where):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(trainable, where, full)
        driver = Driver(context, trials=2)
        (*_, result) = driver.run()
        assert "No space left on device" in result[SUSPENDED]
        assert driver.search.suspended == result[SUSPENDED]
        assert len(driver.journal.entries()) == 1
    Driver(context).run()
    _, history = recorded()
    assert history == list(enumerate(undisturbed, start=1))


@pytest.mark.parametrize("method", ["begin", "take", "end"])
def test_a_full_disk_of_the_study_leaves_the_trial_unfinished(context, monkeypatch, recorded, undisturbed, method):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "records.jsonl")

    with monkeypatch.context() as patch:
        patch.setattr(EventLog, method, full)
        driver = Driver(context, trials=2)
        driver.run()
        assert driver.search.suspended == "No space left on device (records.jsonl)"
        assert [entry.status for entry in driver.journal.entries()] == ["running"]
    Driver(context).run()
    _, history = recorded()
    assert history == list(enumerate(undisturbed, start=1))


def test_weights_of_a_later_epoch_are_never_saved_as_those_of_an_earlier_one(context, folder, monkeypatch):
    """Save few states, and fill the disk after the last epoch has been trained, before its state is saved."""
    monkeypatch.setattr(trainable, "BETWEEN_KILLS", 1e12)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trainable, "write_durably", full)
    trial = actor(context)
    while not (result := trial.step())["done"]:
        pass
    assert SUSPENDED in result
    trial.cleanup()
    assert [path.name.partition("-")[0] for path in checkpoints(folder)] == ["epoch_0001"]


def test_a_node_that_does_not_see_the_folder_says_so(context):
    context.folder.rmdir()
    (result,) = attempt(context)
    assert "does not see" in result[SUSPENDED]
    assert "--storage-path" in result[SUSPENDED]


def test_a_process_that_was_taken_for_dead_does_not_harm_the_one_that_goes_on(context, folder, recorded, undisturbed):
    zombie = Attempt(dict(CONFIGURATION), context)
    for _ in range(2):
        zombie.step()
    log_of_first = Driver(context)
    log_of_first.run(1)
    second = Attempt({**CONFIGURATION, "attempt": 2}, context)
    for _ in range(2):
        second.step()
    while not zombie.step()["done"]:  # to its end, which leaves one checkpoint, of its own
        pass
    assert [path.name for path in checkpoints(folder)] == ["epoch_0003-2.pt", "epoch_0003-1.pt"]
    Driver(context).run()
    _, history = recorded()
    assert history == list(enumerate(undisturbed, start=1))


def test_a_stopped_trial_is_recorded_as_stopped_and_the_actor_takes_the_next(context, tmp_path):
    trial = actor(context)
    for _ in range(2):
        trial.step()
    assert trial.reset_config({**CONFIGURATION, "trial": 2, "optimizer.lr": 2e-3})
    found = end(trial)
    trial.cleanup()
    # The second trial contains nothing of the first.
    other = elsewhere(context, tmp_path / "fresh")
    assert found == end(actor(other, **{"trial": 2, "optimizer.lr": 2e-3}))
    assert len(found) == EPOCHS


def test_the_state_of_a_stopped_trial_is_that_of_its_last_epoch(context, folder, undisturbed, monkeypatch):
    """Save few states: what is scored or resumed is still what is on record."""
    monkeypatch.setattr(trainable, "BETWEEN_KILLS", 1e12)
    trial = actor(context)
    for _ in range(3):
        trial.step()
    assert load_state(checkpoints(folder)[0])["epoch"] == 1
    trial.cleanup()
    assert load_state(checkpoints(folder)[0])["epoch"] == 2
    Driver(context).run()
    assert losses(context) == undisturbed


@pytest.mark.parametrize("begins", [True, False])
def test_a_stopped_trial_keeps_its_state_until_the_study_lets_the_next_one_begin(context, folder, begins):
    """Hand an actor over as Tune does after a deadline too: to a trial that waited for a process, and is stopped."""
    trial = actor(replace(context, keep="best"))
    for _ in range(2):
        trial.step()
    trial.reset_config({**CONFIGURATION, "trial": 2})
    assert DEVICE in trial.step()
    if begins:
        trial.step()
    trial.cleanup()
    assert bool(checkpoints(folder)) is not begins


def test_how_a_trial_was_computed_comes_again_with_its_records(context):
    """Lose the only result of an attempt: with the study's process, after the last epoch."""
    attempt(context)
    Driver(context).run()
    assert log_of(context).tags[Tag.ARITHMETIC] == "cpu float32"
    assert log_of(context).last_epoch == EPOCHS


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
    end(trial)
    states = [process_state()]
    for number, (settings, steps) in enumerate(
        [({}, None), ({}, 2), ({"optimizer.lr": 1e30}, None), ({"model.width": 0.06, "loss.name": "elr"}, 3)], start=2
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
    for _ in range(2):
        trial.step()
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    torch.set_num_threads(2)
    torch.rand(7)
    monkeypatch.chdir(tmp_path)
    trial.reset_config(dict(CONFIGURATION))
    assert end(trial) == undisturbed
    assert torch.get_num_threads() == context.threads


def test_the_table_of_utterances_is_the_same_after_a_kill(context, recorded, records, tmp_path):
    client, _ = records
    whole = elsewhere(context, tmp_path / "whole")
    Driver(whole).run()
    Driver(context).run(2)
    assert not client.list_artifacts(recorded()[0].info.run_id)
    Driver(context).run()
    tables = [
        pd.read_parquet(client.download_artifacts(recorded()[0].info.run_id, UTTERANCES, str(tmp_path))),
        pd.read_parquet(trial_folder(whole.folder, 1) / UTTERANCES),
    ]
    assert list(tables[0]["utterance_id"]) == [
        *context.task.train.utterance_ids, *context.task.validation.utterance_ids,
    ]  # fmt: skip
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_a_planned_trial_trains_like_a_suggested_one_and_is_tested(context, tmp_path):
    Driver(context).run()
    task = replace(context.task, test=context.task.validation)
    planned = TrialSpecification({**context.defaults, **PARAMETERS}, context.seed, task, {"fold": "7"})
    other = elsewhere(context, tmp_path / "planned", planned=(planned,), seed=99)
    Driver(other).run()
    assert losses(other) == losses(context)
    first, *_, last = [line for line in log_of(other).lines() if line["kind"] in ("run", "epoch")]
    assert first["tags"]["fold"] == "7"
    # The test rows are the validation rows here.
    assert last["metrics"]["test/last/uar"] == last["metrics"]["val/uar"]
    assert last["metrics"]["test/best/uar"] == last["metrics"]["best/val_uar"]
    table = pd.read_parquet(trial_folder(other.folder, 1) / UTTERANCES).set_index("subset")
    scores = [name for name in table.columns if name.startswith("p_")]
    assert table.loc["test", scores].to_numpy().tolist() == table.loc["validation", scores].to_numpy().tolist()
    assert table.loc["test", "noisy_label"].isna().all()


def test_a_search_sees_no_test_row(context):
    Driver(context).run()
    lines = log_of(context).lines()
    assert not [name for line in lines if line["kind"] == "epoch" for name in line["metrics"] if "test" in name]


def test_the_best_epochs_test_score_survives_a_kill(context, tmp_path):
    task = replace(context.task, test=context.task.validation)
    planned = (TrialSpecification({**context.defaults, **PARAMETERS}, context.seed, task, {}),)
    found = []
    for name, epochs in (("whole", None), ("killed", 2)):
        other = elsewhere(context, tmp_path / name, planned=planned)
        Driver(other).run(epochs)
        Driver(other).run()
        found.append(log_of(other).last_metrics)
    names = [name for name in found[0] if name.startswith("test/")]
    assert names
    assert {name: found[1][name] for name in names} == {name: found[0][name] for name in names}
