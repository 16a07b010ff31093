"""The real command on a small study, with Ray and an MLflow store, read back through MLflow's own client."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from mlflow import MlflowClient

from ser.corpora import load
from ser.features.store import open_store
from ser.splits import split
from ser.training.task import make_task
from ser.utils.command_line import run_command

ROOT = Path(__file__).resolve().parents[2]
TRIALS, EPOCHS = 2, 2
SPACES, LEVELS = ("proselflc", "cross_entropy"), ("clean", "noisy-A")
SIZE = ("--trials", str(TRIALS), "--epochs", str(EPOCHS), "--width", "0.03", "--batch-size", "48")
SETTINGS = ("--set", "training.crop_seconds=0.5", "training.precision=float32")


def command(script, folder, *arguments):
    return [sys.executable, str(ROOT / script), "--tracking-uri", f"sqlite:///{folder}/mlflow.db", *arguments]


def call(script, folder, *arguments):
    # The working directory is not the repository: nothing may depend on it.
    return subprocess.run(
        command(script, folder, *arguments), capture_output=True, text=True, cwd=folder, check=False, timeout=500
    )


@pytest.fixture
def call_here(monkeypatch, capsys):
    """Return a function like ``call`` that runs a command in this process, which saves seconds of imports."""

    def run(script, folder, *arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", command(script, folder, *arguments)[1:])
        code = run_command(importlib.import_module(script.removesuffix(".py").replace("/", ".")).main)
        return subprocess.CompletedProcess(sys.argv, code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def done(folder):
    """Run a study of two spaces at two levels, one trial at a time, to its end."""
    return call(
        "study/run.py", folder, "--space", *SPACES, "--noise", *LEVELS, *SIZE, *SETTINGS,
        "--max-concurrent", "1", "--storage-path", "out", "--name", "small", "--experiment", "e2e",
    )  # fmt: skip


@pytest.fixture(scope="module")
def best(folder, done):
    """Write the tables of the study's best runs; return the one of the runs."""
    shown = call("analysis/best_runs.py", folder, "--experiment", "e2e", "--output", "tables")
    assert shown.returncode == 0, shown.stderr
    return pd.read_csv(folder / "tables" / "best_runs.csv", dtype={"trial": str})


@pytest.fixture(scope="module")
def client(folder, done):
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


@pytest.fixture(scope="module")
def runs(client):
    experiment = client.get_experiment_by_name("e2e")
    return client.search_runs([experiment.experiment_id])


def kind(runs, name):
    return [run for run in runs if run.data.tags["kind"] == name]


def history(client, run, metric):
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]


def test_it_ends_well_and_says_what_it_did_and_what_comes_next(done):
    assert done.returncode == 0, done.stderr
    assert "best run per noise level" in done.stdout
    assert "features  built" in done.stdout
    assert "nothing can be concluded" in done.stdout
    assert "ambivalent ui --experiment e2e" in done.stdout
    assert "--resume --name small" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_every_trial_has_one_finished_run_below_its_parent(runs):
    parents = {run.info.run_id: run for run in kind(runs, "parent")}
    children = kind(runs, "trial")
    assert len(parents) == len(SPACES) * len(LEVELS)
    assert len(children) == len(parents) * TRIALS
    keys = set()
    for run in children:
        tags = run.data.tags
        parent = parents[tags["mlflow.parentRunId"]]
        assert (parent.data.tags["space"], parent.data.tags["noise"]) == (tags["space"], tags["noise"])
        assert (run.info.status, tags["status"], tags["stage"]) == ("FINISHED", "finished", "search")
        assert (tags["corpus"], tags["seed"], tags["fold"]) == ("synthetic", "0", "5")
        assert len(tags["version.torch"]) > 0
        keys.add((tags["space"], tags["noise"], tags["trial"]))
    assert keys == {(space, level, f"{n:03d}") for space in SPACES for level in LEVELS for n in range(1, TRIALS + 1)}
    assert {run.info.status for run in parents.values()} == {"FINISHED"}


def test_every_epoch_is_one_point_of_every_metric_and_none_is_of_the_test_fold(client, runs):
    for run in kind(runs, "trial"):
        names = set(run.data.metrics)
        assert {
            "val/uar", "val/wa", "val/f1_weighted", "val/f1_macro", "val/ece", "val/brier", "val/soft_ce", "val/loss",
            "val_noisy/uar", "train/loss", "train/labels_changed", "train/labels_corrected", "best/val_uar",
            "last/val_uar",
        } <= names  # fmt: skip
        assert ("train/memorised" in names) == (run.data.tags["noise"] != "clean")
        assert not [name for name in names if name.startswith("test")]
        for name in ("train/loss", "val/uar", "val_noisy/uar"):
            assert [step for step, _ in history(client, run, name)] == list(range(1, EPOCHS + 1))
        uars = [value for _, value in history(client, run, "val/uar")]
        assert run.data.metrics["best/val_uar"] == max(uars)
        assert run.data.metrics["last/val_uar"] == uars[-1]


def best_of(runs, space, level):
    """Return the best run of a search: the first that began, of equal ones."""
    own = [run for run in kind(runs, "trial") if (run.data.tags["space"], run.data.tags["noise"]) == (space, level)]
    return min(own, key=lambda run: (-run.data.metrics["val_noisy/uar"], run.info.start_time))


def test_a_search_keeps_the_last_checkpoint_of_its_best_trial_alone(folder, runs, done):
    trials = {trial: list(trial.glob("*.pt")) for trial in (folder / "out" / "studies" / "small").glob("*/trial_*")}
    assert len(trials) == len(SPACES) * len(LEVELS) * TRIALS
    assert {len(kept) for kept in trials.values()} == {0, 1}
    best = {Path(best_of(runs, space, level).data.tags["folder"]) for space in SPACES for level in LEVELS}
    assert {trial for trial, kept in trials.items() if kept} == best
    assert all(trials[trial][0].name.startswith(f"epoch_{EPOCHS:04d}-") for trial in best)
    assert not list((folder / "out" / "studies" / "small").glob("*/*/ended.json"))


def test_the_published_defaults_are_tried_first(runs):
    first = {run.data.tags["space"]: run.data.params for run in kind(runs, "trial") if run.data.tags["trial"] == "001"}
    assert float(first["cross_entropy"]["optimizer.lr"]) == 1e-3
    assert float(first["proselflc"]["loss.transit_time_ratio"]) == 0.5
    assert float(first["proselflc"]["loss.temperature.start"]) == 1.0


def test_dataset_and_noise_manifest_are_recorded(client, runs):
    for run in kind(runs, "parent"):
        level = run.data.tags["noise"]
        assert run.inputs.dataset_inputs[0].dataset.name == f"synthetic {level}"
        path = client.download_artifacts(run.info.run_id, "noise_manifest.json")
        manifest = json.loads(Path(path).read_text())
        assert manifest["digest"] == run.data.tags["noise.digest"]
        train_part = manifest["parts"]["train"]
        asked = {"clean": 0.0, "noisy-A": 0.2648}[level]
        assert train_part["flipped"] == round(asked * train_part["utterances"])
        assert run.data.tags["noise.rate"] == str(round(train_part["rate"], 4))


def test_parents_have_the_scores_of_their_chosen_trials_and_trials_those_of_their_machine(client, runs):
    trials = {run.info.run_id: run for run in kind(runs, "trial")}
    for parent in kind(runs, "parent"):
        tags, metrics = parent.data.tags, parent.data.metrics
        best = trials[tags["chosen.run"]]
        mine = [run for run in trials.values() if run.data.tags["mlflow.parentRunId"] == parent.info.run_id]
        assert best.data.metrics["val_noisy/uar"] == max(run.data.metrics["val_noisy/uar"] for run in mine)
        assert metrics["val/uar"] == best.data.metrics["val/uar"]
        assert (metrics["trials/finished"], str(metrics["noise_rate"])) == (TRIALS, tags["noise.rate"])
        assert not [name for name in metrics if name.startswith("system/")]
        assert "--name small-again" in tags["mlflow.note.content"]
        assert tags["mlflow.source.name"].endswith("study/run.py")
        assert {"best_runs.csv", "trials.png"} <= {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert "noisy labels" in client.get_experiment_by_name("e2e").tags["mlflow.note.content"]
    for run in trials.values():
        for name in ("cpu_utilization", "system_memory_usage"):
            assert 0 <= run.data.metrics[f"system/{name}_percentage"] <= 100
    assert len({run.info.run_name for run in runs}) == len(runs)


def test_a_trial_has_the_numbers_of_the_plain_training_loop(client, runs, folder, tmp_path):
    corpus = load("synthetic")
    store = open_store(corpus, "panns_16k", folder / "out" / "features")
    assert not store.built
    run = next(
        run for run in kind(runs, "trial")
        if (run.data.tags["space"], run.data.tags["noise"], run.data.tags["trial"]) == ("proselflc", "noisy-A", "002")
    )  # fmt: skip
    task = make_task(corpus, split(corpus), store.path, "noisy-A", noise_seed=0)
    script = (
        "import json, pickle, sys, torch; from ser.config import Config; from ser.training.loop import train\n"
        "torch.set_num_threads(1); config, task = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(json.dumps([r.metrics['train/loss'] for r in train(Config.from_dotted(config), task, seed=0)]))"
    )
    # A process of its own, with one thread like the trial's: torch's sums depend on their number.
    pd.to_pickle((dict(run.data.params), task), tmp_path / "trial.pkl")
    plain = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "trial.pkl"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    recorded = [value for _, value in history(client, run, "train/loss")]
    assert recorded == json.loads(plain.stdout)


def test_best_runs_agrees_with_the_store(client, runs, folder, best):
    assert list(best["noise"]) == ["clean", "clean", "noisy-A", "noisy-A"]
    for row in best.to_dict("records"):
        rivals = [
            run for run in kind(runs, "trial")
            if (run.data.tags["space"], run.data.tags["noise"]) == (row["space"], row["noise"])
        ]  # fmt: skip
        highest = max(run.data.metrics["val_noisy/uar"] for run in rivals)
        assert row["selected"] == highest
        run = client.get_run(row["run_id"])
        assert run.data.metrics["val_noisy/uar"] == highest
        assert (row["uar"], row["ece"]) == (run.data.metrics["val/uar"], run.data.metrics["val/ece"])
        assert row["optimizer.lr"] == float(run.data.params["optimizer.lr"])
    assert "| noisy-A |" in (folder / "tables" / "best_runs.md").read_text()
    assert (folder / "tables" / "best_runs.png").stat().st_size > 10_000
    latex = (folder / "tables" / "best_runs.tex").read_text()
    assert r"\toprule" in latex
    assert "transit_time_ratio=" in (folder / "tables" / "best_runs_parameters.md").read_text()


def test_corrections_are_those_of_the_best_trials_tables(client, best, folder, tmp_path, call_here):
    printed = call_here("analysis/corrections.py", folder, "--experiment", "e2e", "--output", "corrections")
    assert (printed.returncode, printed.stderr) == (0, "")
    summary, pairs, ranked = (
        pd.read_csv(folder / "corrections" / f"{name}.csv") for name in ("summary", "pairs", "suspicious")
    )
    assert set(summary["run_id"]) == set(ranked["run_id"]) == set(best["run_id"])
    for run_id in best["run_id"]:
        table = pd.read_parquet(client.download_artifacts(run_id, "utterances.parquet", str(tmp_path)))
        run = client.get_run(run_id)
        train = table[table["subset"] == "train"]
        flipped = train[train["corrected_label"] != train["noisy_label"]]
        assert len(flipped) / len(train) == run.data.metrics["train/labels_changed"]
        expected = flipped.groupby(["noisy_label", "corrected_label"]).size().to_dict()
        shown = pairs[(pairs["run_id"] == run_id) & (pairs["by"] == "all")]
        assert shown.set_index(["noisy_label", "corrected_label"])["flips"].to_dict() == expected
        right = int((flipped["corrected_label"] == flipped["label"]).sum())
        (line,) = summary[(summary["run_id"] == run_id) & (summary["by"] == "all")].to_dict("records")
        assert (line["flipped"], line["right"]) == (len(flipped), right)
        assert right / len(train) == run.data.metrics["train/labels_corrected"]
        assert len(ranked[ranked["run_id"] == run_id]) == len(table)
        assert f"{len(flipped):,}" in printed.stdout
        if run.data.tags["space"] == "cross_entropy":
            assert flipped.empty
            assert (train["kept"] == 1).all()


@pytest.fixture(scope="module")
def again(folder, done):
    """Run one search of the study a second time, into another experiment."""
    return call(
        "study/run.py", folder, "--space", "proselflc", "--noise", "noisy-A", *SIZE, *SETTINGS,
        "--max-concurrent", "1", "--storage-path", "out", "--name", "again", "--experiment", "again",
    )  # fmt: skip


def runs_of(client, name):
    return client.search_runs([client.get_experiment_by_name(name).experiment_id])


def test_the_same_command_gives_the_same_numbers_and_touches_no_audio(client, runs, again):
    assert again.returncode == 0, again.stderr
    assert "features  reused" in again.stdout
    second = {
        run.data.tags["trial"]: (run.data.params, history(client, run, "val/loss"))
        for run in kind(runs_of(client, "again"), "trial")
    }
    first = {
        run.data.tags["trial"]: (run.data.params, history(client, run, "val/loss"))
        for run in kind(runs, "trial")
        if (run.data.tags["space"], run.data.tags["noise"]) == ("proselflc", "noisy-A")
    }
    assert second == first


def test_a_search_is_confirmed_on_all_speakers_that_it_has_not_chosen_by(client, again, folder, call_here):
    before = {run.info.run_id for run in runs_of(client, "again")}
    confirmed = call(
        "study/confirm.py", folder, "--experiment", "again", "--top", "1", "--storage-path", "out", "--name", "sure",
        "--output", "chosen",
    )  # fmt: skip
    assert confirmed.returncode == 0, confirmed.stdout + confirmed.stderr
    after = runs_of(client, "again")
    assert before < {run.info.run_id for run in after}
    trials = [run for run in kind(after, "trial") if run.data.tags["stage"] == "confirm"]
    design = json.loads((folder / "out" / "studies" / "sure" / "design.json").read_text())
    # The search tested session 5 and validated on session 4, which nobody tests any more.
    assert [fold["test"] for fold in design["folds"]] == [[f"Ses0{n}F", f"Ses0{n}M"] for n in (1, 2, 3, 5)]
    candidates = {one["name"] for one in design["candidates"]}
    assert "default" in candidates
    assert len(trials) == 4 * len(candidates)
    for run in trials:
        tags = run.data.tags
        assert (run.info.status, tags["status"], tags["seed"]) == ("FINISHED", "finished", "1")
        assert tags["design"] == design["digest"]
        searched = tags["candidate"] != "default"
        assert tags["exposure"] == ("trained_by" if searched and tags["fold"] in "123" else "unseen")
        assert {"test/last/uar", "test/best/uar", "test/stopped/uar", "test/last/ece"} <= set(run.data.metrics)
        if tags["source"]:
            assert client.get_run(tags["source"]).data.params == run.data.params
    (parent,) = [run for run in kind(after, "parent") if run.data.tags["study"] == "sure"]
    assert json.loads(Path(client.download_artifacts(parent.info.run_id, "design.json")).read_text()) == design
    assert 0 < parent.data.metrics["test/last/uar"] < 1
    assert "--study again --top 1 --seeds 1" in parent.data.tags["mlflow.note.content"]
    assert len({run.info.run_name for run in after}) == len(after)
    assert yaml.safe_load((folder / "chosen" / "sure" / "noisy-A-proselflc.yaml").read_text())[
        "training.epochs"
    ] == EPOCHS  # fmt: skip
    # A confirmed network is scored again on the speakers of its own fold.
    run = next(run for run in trials if run.data.tags["fold"] == "2")
    which = ("--run", run.info.run_id, "--subset", "test")
    scored = call_here("study/evaluate.py", folder, *which, "--output", "again-scored")
    assert scored.returncode == 0, scored.stderr
    report = json.loads((folder / "again-scored" / "report.json").read_text())
    assert report["true"]["scores"]["uar"] == pytest.approx(run.data.metrics["test/last/uar"], abs=1e-6)


@pytest.mark.slow
def test_published_defaults_are_confirmed_without_a_search_and_seeds_added_later_are_new_ones(
    client, folder, call_here
):
    arguments = (
        "study/confirm.py", folder, "--space", "cross_entropy", "proselflc", "--noise", "noisy-B", *SIZE[2:], *SETTINGS,
        "--storage-path", "out", "--experiment", "defaults",
    )  # fmt: skip
    for name, seed in (("first", "1"), ("second", "2")):
        confirmed = call(*arguments, "--name", name)
        assert confirmed.returncode == 0, confirmed.stdout + confirmed.stderr
        assert "primary   proselflc − cross_entropy at noisy-B" in confirmed.stdout
        trials = [run for run in kind(runs_of(client, "defaults"), "trial") if run.data.tags["study"] == name]
        assert len(trials) == 2 * 5
        assert {run.data.tags["seed"] for run in trials} == {seed}
        assert {run.data.tags["exposure"] for run in trials} == {"unseen"}
    # The noise draw of a fold is the same for both methods, and another one in each fold and with each seed.
    drawn = {}
    for run in kind(runs_of(client, "defaults"), "trial"):
        table = pd.read_parquet(client.download_artifacts(run.info.run_id, "utterances.parquet"))
        noisy = table.set_index("utterance_id")["noisy_label"].dropna()
        drawn.setdefault((run.data.tags["seed"], run.data.tags["fold"]), []).append(noisy.sort_index())
    assert all(first.equals(second) for first, second in drawn.values())
    for one, other in ((("1", "1"), ("2", "1")), (("1", "1"), ("1", "2"))):
        common = drawn[one][0].index.intersection(drawn[other][0].index)
        assert (drawn[one][0][common] != drawn[other][0][common]).mean() > 0.2
    taken = call_here(*arguments[:-4], "--storage-path", "elsewhere", "--experiment", "defaults", "--name", "first")
    assert taken.returncode == 2
    assert "already holds runs of a study named 'first'" in taken.stderr
    shown = call_here("analysis/significance.py", folder, "--experiment", "defaults", "--output", "differences")
    assert shown.returncode == 0, shown.stderr
    assert "not possible" in shown.stdout  # five sessions


def test_what_a_trial_has_trained_is_scored_and_used_and_its_run_stays_as_it_is(
    client, runs, folder, tmp_path, call_here
):
    run = best_of(runs, SPACES[0], "noisy-A")
    scored = call("study/evaluate.py", folder, "--run", run.info.run_id, "--output", "scored")
    assert scored.returncode == 0, scored.stderr
    report = json.loads((folder / "scored" / "report.json").read_text())
    assert report["true"]["scores"]["uar"] == pytest.approx(run.data.metrics["val/uar"], abs=1e-6)
    soundfile.write(tmp_path / "voice.wav", np.sin(np.arange(16000) / 20), 16000)
    used = call("study/predict.py", folder, "--run", run.info.run_id, str(tmp_path / "voice.wav"), "--output", "p.csv")
    assert used.returncode == 0, used.stderr
    assert len(pd.read_csv(folder / "p.csv")) == 1
    assert client.get_run(run.info.run_id).data.to_dictionary() == run.data.to_dictionary()
    other = next(one for one in kind(runs, "trial") if not list(Path(one.data.tags["folder"]).glob("*.pt")))
    unkept = call_here("study/evaluate.py", folder, "--run", other.info.run_id)
    assert unkept.returncode == 2
    assert "--keep best. Choose another run, such as the best of its search, or train this one again:" in unkept.stderr
    unknown = call_here("study/evaluate.py", folder, "--run", "nothing")
    assert unknown.returncode == 2
    assert "there is no run 'nothing'" in unknown.stderr
    parent = kind(runs, "parent")[0].info.run_id
    assert "is not a trial" in call_here("study/predict.py", folder, "--run", parent, "x.wav").stderr


def epochs_recorded(client, name):
    """Return the number of epochs in the records of an experiment, over all its trials."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return 0
    trials = kind(client.search_runs([experiment.experiment_id]), "trial")
    return sum(len(history(client, run, "train/loss")) for run in trials)


def epochs_on_disk(folder, name):
    """Return the number of epochs in the folder of a study; MLflow gets them a little later."""
    found = (folder / "out" / "studies" / name).glob("*/trial_*/records.jsonl")
    return sum(path.read_text(encoding="utf-8").count('"kind": "epoch"') for path in found)


def signal_after(folder, name, epochs, process, number):
    """Send a signal to a study's whole process group once ``epochs`` epochs are on disk; return whether it was sent."""
    deadline = time.monotonic() + 300
    while epochs_on_disk(folder, name) < epochs and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    if process.poll() is not None:
        return False
    os.killpg(process.pid, number)
    return True


def test_sigterm_means_what_an_interrupt_means(folder):
    """Slurm and Kubernetes send it; Ray, which starts later than the command, has a handler of its own."""
    arguments = (
        "--space", "cross_entropy", "--noise", "clean", "--trials", "1", "--epochs", "20", *SIZE[4:], *SETTINGS,
        "--max-concurrent", "1", "--name", "terminated", "--experiment", "terminated",
    )  # fmt: skip
    process = subprocess.Popen(
        command("study/run.py", folder, *arguments, "--storage-path", str(folder / "out")),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while epochs_on_disk(folder, "terminated") < 1 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 130, printed
    assert "Interrupted. Resume with:" in printed


def test_an_interrupted_study_says_how_to_resume_and_is_resumed(client, folder):
    arguments = (
        "--space", "cross_entropy", "--noise", "clean", "--trials", "3", "--epochs", "4", *SIZE[4:], *SETTINGS,
        "--max-concurrent", "1", "--name", "broken", "--experiment", "broken",
    )  # fmt: skip
    process = subprocess.Popen(
        command("study/run.py", folder, *arguments, "--storage-path", str(folder / "out")),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, start_new_session=True,
    )  # fmt: skip
    # Ctrl-C sends the signal to the whole foreground group.
    assert signal_after(folder, "broken", 5, process, signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 130, printed
    assert "Interrupted. Resume with:" in printed
    assert 5 <= epochs_recorded(client, "broken") < 12
    experiment = client.get_experiment_by_name("broken").experiment_id
    assert not client.search_runs([experiment], "attributes.status = 'RUNNING'")

    resumed = call("study/run.py", folder, "--resume", "--name", "broken", "--storage-path", str(folder / "out"))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    children = kind(client.search_runs([experiment]), "trial")
    assert sorted(run.data.tags["trial"] for run in children) == ["001", "002", "003"]
    for run in children:
        assert run.data.tags["status"] == "finished"
        assert [step for step, _ in history(client, run, "train/loss")] == [1, 2, 3, 4]


def test_trials_that_diverge_end_with_code_1_and_a_reason_and_the_other_trials_finish(client, folder):
    space = folder / "reckless.py"
    space.write_text(
        "'One rate that no training survives, and one that it does; 2026.'\n"
        "from ray import tune\n"
        "SPACE = {'loss.name': 'proselflc', 'loss.exp_base': 10.0, 'loss.transit_time_ratio': 0.5,\n"
        "         'optimizer.lr': tune.choice([1e-3, 1e30])}\n"
        "POINTS = [{'optimizer.lr': 1e30}, {'optimizer.lr': 1e-3}]\n"
    )
    ended = call(
        "study/run.py", folder, "--space", str(space), "--noise", "clean", *SIZE, *SETTINGS,
        "loss.trust=confidence", "--max-concurrent", "1", "--storage-path", "out", "--name", "reckless",
        "--experiment", "reckless",
    )  # fmt: skip
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "failed: reckless clean trial 001: training diverged in epoch" in ended.stdout
    experiment = client.get_experiment_by_name("reckless").experiment_id
    trials = kind(client.search_runs([experiment]), "trial")
    assert {run.data.params["loss.trust"] for run in trials} == {"confidence"}
    states = {run.data.tags["trial"]: (run.info.status, run.data.tags["status"]) for run in trials}
    assert states == {"001": ("FAILED", "failed"), "002": ("FINISHED", "finished")}


@pytest.mark.slow
def test_a_study_that_is_killed_again_and_again_ends_as_one_that_is_not(client, runs, folder):
    arguments = (
        "--space", "proselflc", "--noise", "noisy-A", *SIZE, *SETTINGS, "--max-concurrent", "1",
        "--experiment", "killed", "--name", "killed", "--storage-path", str(folder / "out"),
    )  # fmt: skip
    for epochs in (1, 2, 3, None):
        resume = ("--resume",) if (folder / "out" / "studies" / "killed" / "study.json").exists() else ()
        process = subprocess.Popen(
            command("study/run.py", folder, *arguments, *resume), cwd=folder, start_new_session=True
        )
        if epochs is not None:
            assert signal_after(folder, "killed", epochs, process, signal.SIGKILL)
        code = process.wait(300)
    assert code == 0
    experiment = client.get_experiment_by_name("killed").experiment_id
    ended = {
        run.data.tags["trial"]: (run.data.params, history(client, run, "val/loss"))
        for run in kind(client.search_runs([experiment]), "trial")
    }
    undisturbed = {
        run.data.tags["trial"]: (run.data.params, history(client, run, "val/loss"))
        for run in kind(runs, "trial")
        if (run.data.tags["space"], run.data.tags["noise"]) == ("proselflc", "noisy-A")
    }
    assert ended == undisturbed
