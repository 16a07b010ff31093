"""Tests that Ray, KubeRay, MLflow and the study accept the files in cluster/."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest
import ray
import tyro
import yaml
from click import Command
from mlflow.cli import server as mlflow_server
from ray.dashboard.modules.job.cli import submit
from ray.scripts import scripts
from ray.scripts.symmetric_run import symmetric_run

from study.options import StudyOptions

ROOT = Path(__file__).resolve().parents[3]
CLUSTER = ROOT / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
LAUNCHER = ("aws.yaml", "on_premises.yaml")
OWN_VARIABLES = {"PYTHONPATH"}


def loaded(name):
    return yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))


def text_of(name):
    """Return a script with one command per line, without comments."""
    lines = (CLUSTER / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def flags(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


def flags_of(command: Command):
    return {name for option in command.params for name in option.opts if name.startswith("--")}


def start_commands(name):
    config = loaded(name)
    return [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]


def entrypoint(name):
    """Return the options of study/run.py in a file, without those of the caller."""
    if name == "kuberay.yaml":
        return loaded(name)["spec"]["entrypoint"].partition("study/run.py ")[2]
    return text_of(name).partition("study/run.py ")[2].strip()


def test_every_file_is_named_on_the_page():
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    files = [path.name for path in CLUSTER.iterdir()]
    assert len(files) >= 8
    assert not [name for name in files if f"cluster/{name}" not in page]


@pytest.mark.parametrize("name", LAUNCHER)
def test_the_launcher_files_agree_with_rays_schema(name):
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    config = loaded(name)
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**config, "no_such_key": 1}, schema)
    assert "~/.ray/auth_token" in config["file_mounts"]


@pytest.mark.parametrize("name", LAUNCHER)
def test_the_start_commands_of_the_launcher_files_are_rays(name):
    for command in start_commands(name):
        assert flags(command) <= flags_of(scripts.start)
        assert "ray stop" in command or "RAY_AUTH_MODE=token" in command


def test_the_number_of_machines_is_constant_during_a_study():
    config = loaded("aws.yaml")
    workers = [kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]]
    assert all(kind["min_workers"] == kind["max_workers"] for kind in workers)
    assert sum(kind["max_workers"] for kind in workers) == config["max_workers"]
    groups = loaded("kuberay.yaml")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert all(group["replicas"] == group["minReplicas"] == group["maxReplicas"] for group in groups)


def test_the_ray_job_is_whole():
    job = loaded("kuberay.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": "token"}
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"ray=={spec['rayVersion']}\n" in pinned
    assert flags_of(scripts.start) >= {f"--{key}" for key in spec["headGroupSpec"]["rayStartParams"]}
    pods = [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    for pod in pods:
        (container,) = pod["containers"]
        assert container["image"] == pods[0]["containers"][0]["image"]
        # Kubernetes requires whole GPUs, with the same number in requests and limits.
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"]: "/mnt/shared" for volume in pod["volumes"]}
    assert "nvidia.com/gpu" in pods[1]["containers"][0]["resources"]["limits"]


@pytest.mark.parametrize("name", ["kuberay.yaml", "submit.sh", "slurm.sh"])
def test_the_study_understands_its_options(name):
    own = entrypoint(name)
    names = {"--" + field.name.replace("_", "-") for field in fields(StudyOptions)}
    assert {"--address", "--storage-path"} <= flags(own) <= names
    # Every variable is set, and the caller gives no arguments.
    words = shlex.split(re.sub(r"\$\w+", "word", own.replace('"$@"', "")))
    asked = tyro.cli(StudyOptions, args=words)
    assert asked.address
    assert asked.storage_path != StudyOptions().storage_path


@pytest.mark.parametrize(
    ("name", "start", "command"),
    [
        ("submit.sh", "ray job submit", submit),
        ("slurm.sh", "ray symmetric-run", symmetric_run),
        ("mlflow.sh", "mlflow server", mlflow_server),
    ],
)
def test_the_commands_have_the_flags_they_are_given(name, start, command):
    line = text_of(name).partition(start)[2].partition("\n")[0].partition(" -- ")[0]
    assert flags(line)
    assert flags(line) <= flags_of(command)


def test_the_job_sets_nothing_that_the_study_sets():
    variables = set(loaded("runtime_env.yaml")["env_vars"])
    assert not variables & OWN_VARIABLES
    assert not [name for name in variables if name.startswith("MALLOC_")]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_bash_and_stop_at_the_first_error(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")


def test_a_script_without_its_variables_says_which():
    environment = {"PATH": os.environ["PATH"]}
    for name, variable in (("slurm.sh", "MLFLOW_TRACKING_URI"), ("mlflow.sh", "MLFLOW_BACKEND_STORE_URI")):
        done = subprocess.run(
            ["bash", str(CLUSTER / name), "x"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert f"{variable}: is not set" in done.stderr


@pytest.fixture
def recorded(tmp_path):
    """Return a function that runs slurm.sh with Slurm's and Ray's commands replaced by one that logs its arguments."""
    bin_ = tmp_path / ".venv" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "activate").write_text(f"PATH={bin_}:$PATH\n", encoding="utf-8")
    for name, body in {
        "scontrol": "printf 'node1\\nnode2\\n'",
        "ray": "exit 0",
        "srun": f'{sys.executable} -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@"',
    }.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (bin_ / name).chmod(0o755)
    variables = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": "123456", "SLURM_JOB_NUM_NODES": "2"}

    def run(*arguments):
        done = subprocess.run(
            ["bash", str(CLUSTER / "slurm.sh"), *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "MLFLOW_TRACKING_URI": "http://mlflow:5000", **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    return run


def test_slurm_starts_a_study_and_then_resumes_it(recorded, tmp_path):
    words = recorded("first", "--space", "proselflc", "--noise", "clean")
    start, study = words[: words.index("--")], words[words.index("--") + 1 :]
    assert start == ["ray", "symmetric-run", "--address", "node1:23456", "--min-nodes", "2"]
    assert study[:2] == ["python", "study/run.py"]
    asked = tyro.cli(StudyOptions, args=study[2:])
    assert (asked.name, asked.space, asked.noise, asked.resume) == ("first", ("proselflc",), ("clean",), False)
    assert (asked.address, asked.tracking_uri) == ("node1:23456", "http://mlflow:5000")
    assert asked.storage_path == tmp_path / "results"

    (tmp_path / "results" / "studies" / "first").mkdir(parents=True)
    (tmp_path / "results" / "studies" / "first" / "study.json").write_text("{}", encoding="utf-8")
    again = tyro.cli(StudyOptions, args=recorded("first", "--space", "proselflc")[words.index("--") + 3 :])
    assert (again.name, again.space, again.resume) == ("first", StudyOptions().space, True)
