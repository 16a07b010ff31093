"""The study's parts without Ray: searcher, records, ranking, options."""

import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import ray
from mlflow import MlflowClient
from ray._private.node import Node
from ray.tune.execution import class_cache

from ser.training.task import Task
from ser.utils.errors import UserError
from study.backend import local as local_ray
from study.backend.cluster import _check_address, slots_of
from study.environment import CODE_ROOT as ROOT
from study.environment import environment
from study.messages import without_password
from study.options import StudyOptions
from study.schema import FAILED, FINISHED, SELECTIONS, STOPPED
from study.search.run_search import needs_gpu
from study.setup.prepare import Job
from study.setup.spaces import Space, load_space
from study.tracking.searches import Trials, best_runs, caveats, display, short_parameters
from study.tracking.store import absolute_uri, experiment_id, open_client, search_all
from study.trial.specification import TrialSpecification
from study.trial.trainable import StudyTrial

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


def test_reading_goes_past_a_page(store, monkeypatch):
    _, client, experiment = store
    monkeypatch.setattr("study.tracking.store.PAGE", 2)
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


def trial(noise, space, number, selected, status=FINISHED, rate=0.0):
    return {
        "noise": noise, "rate": rate, "space": space, "study": "s", "trial": f"{number:03d}", "status": status,
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
    with pytest.raises(UserError, match="--epochs, --set differ"):
        StudyOptions(name="n", epochs=8, settings=("a.b=1",), resume=True).resumed(tmp_path)


def test_resuming_may_add_trials_and_say_where_and_how_long_they_run(tmp_path):
    StudyOptions(name="n", trials=7, max_concurrent=3).write(tmp_path, "")
    now = StudyOptions(name="n", trials=9, cpus_per_trial=2, time_budget="90m", resume=True).resumed(tmp_path)
    assert (now.trials, now.cpus_per_trial, now.max_concurrent, now.seconds) == (9, 2, 3, 5400)
    assert StudyOptions(name="n", resume=True).resumed(tmp_path).seconds == math.inf
    with pytest.raises(UserError, match=r"has 7 trials .* --trials 5 would take some away"):
        StudyOptions(name="n", trials=5, resume=True).resumed(tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"), [("45", 45), ("45s", 45), ("1.5h", 5400), ("2d", 172800), (" 90 m ", 5400)]
)
def test_time_budgets_have_units(text, seconds):
    assert StudyOptions(time_budget=text).seconds == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "0", "5 weeks", "1h30m"])
def test_what_is_no_time_is_told(text):
    with pytest.raises(UserError, match="--time-budget"):
        StudyOptions(time_budget=text)


def test_a_password_is_not_written_down(tmp_path):
    StudyOptions(name="n", tracking_uri="http://me:s3cret@host").write(tmp_path, "")
    assert "s3cret" not in (tmp_path / "study.json").read_text()


# Clusters.


def test_an_address_where_nothing_listens_is_told_at_once():
    with pytest.raises(UserError, match=r"no Ray cluster answers at --address '127\.0\.0\.1:9'"):
        _check_address("127.0.0.1:9")


def test_what_rays_processes_are_told_does_not_stay_in_the_drivers(monkeypatch):
    monkeypatch.setenv("THERE", "before")
    monkeypatch.delenv("NEW", raising=False)
    with environment({"THERE": "now", "NEW": "now"}):
        assert (os.environ["THERE"], os.environ["NEW"]) == ("now", "now")
    assert os.environ["THERE"] == "before"
    assert "NEW" not in os.environ


def test_a_worker_has_all_that_a_trial_imports_and_its_collector_runs():
    """Ray logs a failed preload and goes on, so that nobody would see it but for the time."""
    modules = local_ray.PRELOAD["RAY_preload_python_modules"]
    code = f"import gc, sys, {modules}; print(gc.isenabled(), gc.get_freeze_count() > 0, 'study.trial.trainable' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 3


def test_a_trials_process_imports_no_mlflow():
    """It would cost every worker a second or two, and nodes would have to reach the server."""
    command = "import sys, ray, study.backend.worker; sys.exit('mlflow' in sys.modules or 'optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=False).returncode == 0


def test_rays_parts_that_no_study_needs_are_there_to_be_left_out():
    """Else they would start as well, and the rest of Ray would wait for them."""
    assert set(local_ray.UNUSED) <= vars(Node).keys()


def test_what_ray_is_told_by_its_environment_are_settings_of_rays():
    """It takes no notice of a name that it does not know."""
    known = (Path(ray.__file__).parent / "core" / "src" / "ray" / "raylet" / "raylet").read_bytes()
    told = {**local_ray.PRELOAD, **local_ray.RECONNECT, **local_ray.ASK_AGAIN, **local_ray.WAITING}
    assert [name for name in told if name.removeprefix("RAY_").encode() not in known] == []


def test_trials_ask_for_no_environment_of_their_own():
    """Else the workers that Ray has started with itself could take none of them."""
    actor = class_cache._ActorClassCache().get(StudyTrial)
    assert not actor._default_options["runtime_env"].get("env_vars")


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        (["--space", "proselflc"], True),
        (["--resume", "--name", "first"], True),
        (["--help"], False),
        (["--space", "focal", "--plan"], False),
        (["--address=127.0.0.1:6379"], False),
        (["--address", "auto"], False),
    ],
)
def test_ray_starts_early_only_where_it_will_be_used(monkeypatch, arguments, started):
    calls = []
    monkeypatch.setattr(local_ray, "start", lambda: calls.append(1))
    local_ray.start_while_importing(["study.no_such_module"], arguments)  # whose import fails again where it is due
    assert bool(calls) is started


@pytest.mark.parametrize(
    ("interrupt", "code", "told"), [(False, 2, "error: unknown space 'no_such_space'"), (True, 130, "interrupted")]
)
def test_a_mistake_or_an_early_interrupt_leaves_no_ray_behind(interrupt, code, told):
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:  # a socket's path must be short
        process = subprocess.Popen(
            [sys.executable, "study/run.py", "--space", "no_such_space"],
            cwd=ROOT, env={**os.environ, "RAY_TMPDIR": folder}, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        _wait(lambda: list(Path(folder).glob("ray/session_2*")))
        if interrupt:
            os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said[: len(told)]) == (code, told)
        _wait(lambda: not _has_processes(process.pid))


def _wait(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "not within a minute"
        time.sleep(0.05)


def _has_processes(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_classical_trials_take_no_gpu():
    base = StudyOptions().base
    for name, needed in (("classical", False), ("proselflc", True)):
        job = Job(load_space(name, {}), (), "clean", Task((), Path(), None, None, {}))
        assert needs_gpu(job, base) is needed
    planned = TrialSpecification({**base, "loss.name": "cross_entropy"}, 0, Task((), Path(), None, None, {}), {})
    assert needs_gpu(Job(Space("s", "", {}, {}, ()), (), "clean", planned.task, (planned,)), base)


def test_a_database_whose_making_was_killed_is_made_anew(tmp_path):
    path = tmp_path / "mlflow.db"
    command = f"from study.tracking.store import open_client; open_client({f'sqlite:///{path}'!r})"
    process = subprocess.Popen([sys.executable, "-c", command], cwd=ROOT)
    while process.poll() is None and not sum(part.stat().st_size for part in tmp_path.glob("mlflow.db.making*")):
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL  # it was not done
    assert not path.exists()
    client = open_client(f"sqlite:///{path}")
    assert client.get_experiment(client.create_experiment("after")).name == "after"
    assert [left.name for left in tmp_path.glob("*making*")] == []
