"""The study's parts without Ray: searcher, records, ranking, options."""

import math
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset
from ray import tune

from ser.config import Config
from ser.errors import UserError
from study.options import StudyOptions
from study.records import FAILED, FINISHED, SELECTIONS, STOPPED
from study.results import Trials, best_runs, caveats, display, short_parameters
from study.search import _check_address, slots_of
from study.searcher import TRIAL_KEY, StudySearch
from study.spaces import load_space
from study.tracking import (
    TrialRun,
    absolute_uri,
    experiment_id,
    mark_failed,
    open_client,
    search_all,
    sweep,
    without_password,
)

# Searcher.


def searched(seed, count, scores=None):
    search = StudySearch(load_space("proselflc", {}), SELECTIONS["noisy"], seed)
    drawn = []
    for number in range(count):
        drawn.append(search.suggest(f"t{number}"))
        value = 0.3 + 0.01 * number if scores is None else scores[number]
        search.on_trial_complete(f"t{number}", {"val_noisy/uar": value, tune.result.TRAINING_ITERATION: 1})
    return search, drawn


def test_the_search_begins_with_the_points_and_numbers_its_trials():
    _, drawn = searched(seed=1, count=5)
    points = load_space("proselflc", {}).points
    for point, values in zip(points, drawn, strict=False):
        assert {key: values[key] for key in point} == dict(point)
    assert [values[TRIAL_KEY] for values in drawn] == [1, 2, 3, 4, 5]
    assert all(values["loss.name"] == "proselflc" for values in drawn)


def test_the_seed_decides_the_search():
    assert searched(1, 6)[1] == searched(1, 6)[1]
    assert searched(1, 6)[1][3:] != searched(2, 6)[1][3:]


def test_a_temperature_of_exactly_one_can_be_drawn():
    _, drawn = searched(seed=3, count=40)
    temperatures = {values["loss.temperature.start"] for values in drawn}
    assert 1.0 in temperatures
    assert len(temperatures) > 3
    for values in drawn:
        values.pop(TRIAL_KEY)
        Config.from_dotted(values)


def test_a_score_that_is_not_a_number_is_a_failure_and_none_stays_running():
    search, _ = searched(1, 3, scores=[0.2, math.nan, 0.4])
    search.suggest("gone")
    search.on_trial_complete("gone", error=True)
    states = [trial.state.name for trial in search._ot_study.trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "FAIL"]


def test_a_restored_search_goes_on_as_it_would_have(tmp_path):
    straight = searched(1, 15)[1]
    search, begun = searched(1, 12)
    search.save(str(tmp_path / "state"))
    other = StudySearch(load_space("proselflc", {}), SELECTIONS["noisy"], seed=99)
    other.restore(str(tmp_path / "state"))
    for number in range(12, 15):
        begun.append(other.suggest(f"t{number}"))
        other.on_trial_complete(f"t{number}", {"val_noisy/uar": 0.3 + 0.01 * number, tune.result.TRAINING_ITERATION: 1})
    assert begun == straight


# Records.


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Making and migrating a database takes seconds; each test gets a copy."""
    path = tmp_path_factory.mktemp("database") / "m.db"
    open_client(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(tmp_path, database):
    shutil.copy(database, tmp_path / "m.db")
    uri = f"sqlite:///{tmp_path}/m.db"
    client = open_client(uri)
    return uri, client, experiment_id(client, uri, "e")


def open_run(store, number="001", lr=1e-3):
    uri, _, experiment = store
    dataset = Dataset("d", "digest", "local", "{}")
    key = {"study": "it's", "trial": number}
    params = {"optimizer.lr": lr, "loss.target_gradient": False}
    return TrialRun.open(uri, experiment, "parent", "name", key, {"seed": "0"}, params, dataset)


def test_a_trial_that_starts_again_finds_its_run_and_doubles_no_point(store):
    _, client, experiment = store
    first = open_run(store)
    first.log_epoch(1, {"train/loss": 2.0})
    first.log_epoch(2, {"train/loss": 1.5})
    again = open_run(store)
    assert (again.run_id, again.logged) == (first.run_id, 2)
    again.log_epoch(2, {"train/loss": 1.5})
    again.log_epoch(3, {"train/loss": 1.0})
    assert [p.step for p in client.get_metric_history(first.run_id, "train/loss")] == [1, 2, 3]
    assert open_run(store, "002").run_id != first.run_id
    assert len(search_all(client, [experiment], "")) == 2


def test_a_final_failure_is_kept_for_the_next_attempt(store):
    run = open_run(store)
    run.close(FAILED, "the loss became nan", final=True)
    assert open_run(store).failure == "the loss became nan"


def test_a_failure_of_the_machine_is_tried_again(store):
    _, client, experiment = store
    run = open_run(store)
    mark_failed(client, experiment, {"study": "it's", "trial": "001"}, "worker died at http://me:s3cret@host")
    tags = client.get_run(run.run_id).data.tags
    assert (tags["fidelity"], tags["failure"]) == (FAILED, "worker died at http://me:***@host")
    again = open_run(store)
    assert (again.run_id, again.failure) == (run.run_id, None)
    assert not {"fidelity", "failure"} & set(client.get_run(run.run_id).data.tags)
    mark_failed(client, experiment, {"study": "it's", "trial": "no such"}, "nothing to mark")


def test_a_run_of_a_forgotten_trial_is_put_aside_and_not_mixed(store):
    _, client, _ = store
    old = open_run(store, lr=1e-3)
    old.log_epoch(1, {"train/loss": 2.0})
    new = open_run(store, lr=5e-3)
    assert (new.run_id == old.run_id, new.logged) == (False, 0)
    aside = client.get_run(old.run_id)
    assert (aside.data.tags["kind"], aside.info.status) == ("superseded", "KILLED")
    assert open_run(store, lr=5e-3).run_id == new.run_id


def test_a_run_that_died_before_its_parameters_gets_them(store):
    _, client, experiment = store
    bare = client.create_run(experiment, tags={"study": "it's", "trial": "001", "kind": "trial"})
    assert open_run(store).run_id == bare.info.run_id
    assert client.get_run(bare.info.run_id).data.params == {"optimizer.lr": "0.001", "loss.target_gradient": "false"}


def test_the_sweep_ends_what_was_left_running_and_nothing_else(store):
    _, client, experiment = store
    left, done, other = open_run(store, "001"), open_run(store, "002"), client.create_run(experiment)
    done.close(FINISHED)
    sweep(client, experiment, "it's")
    after = client.get_run(left.run_id)
    assert (after.info.status, after.data.tags["fidelity"]) == ("KILLED", STOPPED)
    assert client.get_run(done.run_id).info.status == "FINISHED"
    assert client.get_run(other.info.run_id).info.status == "RUNNING"


def test_reading_goes_past_a_page(store, monkeypatch):
    _, client, experiment = store
    monkeypatch.setattr("study.tracking.PAGE", 2)
    for _ in range(5):
        client.create_run(experiment)
    assert len(search_all(client, [experiment], "")) == 5


def test_artifacts_lie_beside_the_database(store, tmp_path):
    _, client, experiment = store
    assert client.get_experiment(experiment).artifact_location.startswith((tmp_path / "mlartifacts").as_uri())


def test_a_deleted_experiment_is_told(store):
    uri, client, experiment = store
    client.delete_experiment(experiment)
    with pytest.raises(UserError, match="'e' was deleted"):
        experiment_id(MlflowClient(uri), uri, "e")


def test_passwords_are_hidden():
    assert without_password("postgresql://me:s3cret@host:5432/db") == "postgresql://me:***@host:5432/db"
    assert without_password("sqlite:////x/m.db") == "sqlite:////x/m.db"
    assert without_password("at http://me:a/b@h?password=x&y=1 now") == "at http://me:***@h?password=***&y=1 now"


def test_a_relative_database_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///m.db") == f"sqlite:///{tmp_path}/m.db"
    assert absolute_uri("sqlite:////x/m.db") == "sqlite:////x/m.db"
    assert absolute_uri("http://host") == "http://host"


def open_database(uri, number):
    client = open_client(uri)
    return experiment_id(client, uri, "shared"), number


def test_two_studies_can_create_one_database_at_once(tmp_path):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        ids = list(pool.map(open_database, [f"sqlite:///{tmp_path}/m.db"] * 2, range(2)))
    assert ids[0][0] == ids[1][0]


# Ranking.


def trial(noise, space, number, selected, fidelity=FINISHED, rate=0.0):
    return {
        "noise": noise, "rate": rate, "space": space, "study": "s", "trial": f"{number:03d}", "fidelity": fidelity,
        "failure": "", "selected": selected, "uar": selected, "uar_best_epoch": selected, "best_epoch": 3.0,
        "wa": 0.5, "f1_weighted": 0.5, "f1_macro": 0.5, "ece": 0.1, "parameters": {"optimizer.lr": "0.001"},
        "start": number, "run_id": f"{noise}{space}{number}",
    }  # fmt: skip


def ranked(rows, selection="noisy", top=1):
    trials = Trials(pd.DataFrame(rows), SELECTIONS[selection], chance=0.25, others=0)
    return trials, best_runs(trials, top)


def test_the_best_is_chosen_among_finished_trials_only():
    rows = [
        trial("noisy-B", "a", 1, 0.30, rate=0.4),
        trial("noisy-B", "a", 2, 0.90, FAILED, rate=0.4),
        trial("noisy-B", "a", 3, 0.80, STOPPED, rate=0.4),
        trial("noisy-B", "a", 4, 0.40, rate=0.4),
        trial("clean", "a", 5, 0.60),
    ]
    _, best = ranked(rows)
    assert list(best["noise"]) == ["clean", "noisy-B"]
    assert list(best["trial"]) == ["005", "004"]
    assert best.loc[1, [FINISHED, FAILED, STOPPED]].tolist() == [2, 1, 1]


def test_a_cross_entropy_is_best_when_smallest_and_ties_go_to_the_earlier():
    rows = [trial("clean", "a", 1, 1.5), trial("clean", "a", 2, 1.2), trial("clean", "a", 3, 1.2)]
    _, best = ranked(rows, "soft", top=2)
    assert list(best["trial"]) == ["002", "003"]
    assert list(best["rank"]) == [1, 2]


def test_a_level_without_a_finished_trial_is_shown_empty():
    trials, best = ranked([trial("clean", "a", 1, None, FAILED), trial("clean", "b", 2, 0.4)])
    text = display(best, trials.selection)
    assert list(text["trial"]) == ["none", "002"]
    assert text.loc[0, "val UAR"] == "–"
    assert any("Unequal budgets at clean: a 0, b 1" in line for line in caveats(trials, best))


def test_equal_budgets_need_no_word():
    trials, best = ranked([trial("clean", "a", 1, 0.3), trial("clean", "b", 2, 0.4)])
    assert len(caveats(trials, best)) == 1


def test_parameters_are_short():
    assert short_parameters({"optimizer.lr": "0.00123456", "loss.temperature.kind": "linear"}) == (
        "temperature.kind=linear, lr=0.00123"
    )


# Slots.


@pytest.mark.parametrize(
    ("nodes", "options", "expected"),
    [
        ([{"CPU": 2.0}], StudyOptions(), (1, 0, 2)),
        ([{"CPU": 2.0}], StudyOptions(max_concurrent=1), (1, 0, 1)),
        ([{"CPU": 8.0}, {"CPU": 8.0}], StudyOptions(width=1.0), (8, 0, 2)),
        ([{"CPU": 8.0}, {"CPU": 6.0}], StudyOptions(cpus_per_trial=4), (4, 0, 3)),
        ([{}, {"CPU": 0.0}, {"CPU": 8.0}], StudyOptions(width=1.0), (8, 0, 1)),
        ([{}], StudyOptions(width=1.0), (1, 0, 0)),
        ([{"CPU": 32.0, "GPU": 8.0}], StudyOptions(width=1.0), (1, 1, 8)),
        ([{"CPU": 32.0, "GPU": 2.0}], StudyOptions(gpus_per_trial=0.6), (1, 0.6, 2)),
        ([{"CPU": 32.0, "GPU": 2.0}], StudyOptions(gpus_per_trial=1 / 3), (1, 1 / 3, 6)),
        ([{"CPU": 4.0}], StudyOptions(gpus_per_trial=1.0, address="auto"), (1, 1, 0)),
        ([{"CPU": 1.0}], StudyOptions(cpus_per_trial=2), (2, 0, 0)),
    ],
)
def test_trials_at_a_time_are_what_fits_on_each_node(nodes, options, expected):
    slots = slots_of(nodes, options)
    assert (slots.cpus, slots.gpus, slots.count) == expected


# Options.


def test_options_come_back_as_they_were_written(tmp_path):
    options = StudyOptions(name="n", trials=7, settings=("a.b=1",), corpus_root=tmp_path, storage_path=tmp_path)
    options.write(tmp_path, "c0ffee")
    options.check_unchanged(tmp_path, "c0ffee")
    with pytest.raises(UserError, match="has changed since study 'n' began"):
        options.check_unchanged(tmp_path, "decaf")
    back = StudyOptions(name="n", storage_path=tmp_path, resume=True, address="auto").resumed(tmp_path)
    assert (back.trials, back.settings, back.corpus_root) == (7, ("a.b=1",), tmp_path)
    assert (back.resume, back.address) == (True, "auto")


def test_resuming_with_another_value_is_refused(tmp_path):
    StudyOptions(name="n", trials=7).write(tmp_path, "")
    StudyOptions(name="n", trials=7, resume=True).resumed(tmp_path)
    with pytest.raises(UserError, match="--trials, --set differ"):
        StudyOptions(name="n", trials=8, settings=("a.b=1",), resume=True).resumed(tmp_path)


def test_a_password_is_not_written_down(tmp_path):
    StudyOptions(name="n", tracking_uri="http://me:s3cret@host").write(tmp_path, "")
    assert "s3cret" not in (tmp_path / "study.json").read_text()


# Clusters.


def test_an_address_where_nothing_listens_is_told_at_once():
    with pytest.raises(UserError, match=r"no Ray cluster answers at --address '127\.0\.0\.1:9'"):
        _check_address("127.0.0.1:9")
