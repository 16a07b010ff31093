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

from ser.utils.parallel import FORMER_GPU_ALLOCATOR, GPU_ALLOCATOR
from study.options import StudyOptions

ROOT = Path(__file__).resolve().parents[3]
CLUSTER = ROOT / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
LAUNCHER = ("aws.yaml", "on_premises.yaml")
OWN_VARIABLES = {"PYTHONPATH", *GPU_ALLOCATOR, FORMER_GPU_ALLOCATOR}


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
        assert "ray stop" in command or "RAY_AUTH_MODE=token" in command or command.endswith("cluster/mps.sh start")


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
    wrapper = ["cluster/mps.sh", "run"]
    assert start == [*wrapper, "ray", "symmetric-run", "--address", "node1:23456", "--min-nodes", "2"]
    assert study[:2] == ["python", "study/run.py"]
    asked = tyro.cli(StudyOptions, args=study[2:])
    assert (asked.name, asked.space, asked.noise, asked.resume) == ("first", ("proselflc",), ("clean",), False)
    assert (asked.address, asked.tracking_uri) == ("node1:23456", "http://mlflow:5000")
    assert asked.storage_path == tmp_path / "results"

    (tmp_path / "results" / "studies" / "first").mkdir(parents=True)
    (tmp_path / "results" / "studies" / "first" / "study.json").write_text("{}", encoding="utf-8")
    again = tyro.cli(StudyOptions, args=recorded("first", "--space", "proselflc")[words.index("--") + 3 :])
    assert (again.name, again.space, again.resume) == ("first", StudyOptions().space, True)


DAEMON = """#!/bin/sh
log="{log}"
pipe="$CUDA_MPS_PIPE_DIRECTORY/control"
if [ "$1" = -d ]; then
    echo "daemon $CUDA_MPS_PIPE_DIRECTORY ${{CUDA_VISIBLE_DEVICES-all}}" >> "$log"
    [ "$FAIL" ] && exit 1
    touch "$pipe"
    exit 0
fi
[ -e "$pipe" ] || exit 1
read -r command
echo "$command" >> "$log"
[ "$command" = quit ] && rm "$pipe"
exit 0
"""


@pytest.fixture
def mps(tmp_path):
    """Return a function that runs mps.sh with a control program that logs what it is asked, and that log."""
    log, bin_ = tmp_path / "log", tmp_path / "bin"
    log.touch()
    bin_.mkdir()
    (bin_ / "nvidia-cuda-mps-control").write_text(DAEMON.format(log=log), encoding="utf-8")
    (bin_ / "nvidia-cuda-mps-control").chmod(0o755)

    def run(*arguments, installed=True, **variables):
        path = f"{bin_}:{os.environ['PATH']}" if installed else os.environ["PATH"]
        environment = {"PATH": path, "CUDA_VISIBLE_DEVICES": "2,3", **variables}
        done = subprocess.run(
            ["bash", str(CLUSTER / "mps.sh"), *arguments], env=environment, capture_output=True, text=True, check=False
        )
        logged = log.read_text(encoding="utf-8").splitlines()
        log.write_text("", encoding="utf-8")
        return done, logged

    return run


def test_mps_serves_all_gpus_of_a_command_and_ends_with_it(mps):
    show = 'echo "$CUDA_MPS_PIPE_DIRECTORY $CUDA_VISIBLE_DEVICES"; exit 3'
    done, logged = mps("run", "bash", "-c", show)
    folder, seen = done.stdout.split()
    assert (done.returncode, seen) == (3, "2,3")  # the daemon alone sees all GPUs
    assert folder.startswith("/tmp/mps.")
    assert logged == [f"daemon {folder} all", "quit"]
    assert not Path(folder).exists()


def test_mps_ends_after_a_command_that_a_signal_ends_in_order(mps):
    code = "kill -TERM $PPID; sleep 0.2; echo saved; exit 130"
    done, logged = mps("run", "bash", "-c", code)
    assert (done.returncode, done.stdout) == (130, "saved\n")
    assert logged[-1] == "quit"


def test_mps_is_started_once_on_a_machine_and_stopped(mps, tmp_path):
    own = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path / "pipe")}
    assert mps("start", **own)[1] == [f"daemon {tmp_path}/pipe all"]
    assert mps("start", **own)[1] == ["get_server_list"]
    # A daemon that is there already, as a cluster's own, is used and not ended.
    done, logged = mps("run", "echo", "done", **own)
    assert (done.stdout, logged) == ("done\n", ["get_server_list"])
    assert mps("stop", **own)[1] == ["quit"]
    done, logged = mps("stop", **own)
    assert (done.returncode, logged) == (0, [])


def test_without_mps_trials_take_turns(mps):
    done, logged = mps("run", "echo", "done", installed=False)
    assert (done.returncode, done.stdout, logged) == (0, "done\n", [])
    for action in ("start", "stop"):
        done, _ = mps(action, installed=False)
        assert done.returncode == 0
        assert "nvidia-cuda-mps-control is not installed" in done.stderr
    done, _ = mps("run", "echo", "done", FAIL="1")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert "GPUs are shared in turn" in done.stderr


@pytest.mark.parametrize("words", [(), ("begin",), ("run",), ("start", "now")])
@pytest.mark.parametrize("installed", [True, False])
def test_mps_refuses_other_words(mps, words, installed):
    done, logged = mps(*words, installed=installed)
    assert (done.returncode, done.stdout, logged) == (2, "", [])
    assert done.stderr == "error: expected is: mps.sh start, mps.sh stop, or mps.sh run COMMAND ...\n"


def test_every_way_to_start_workers_with_gpus_starts_mps():
    for name in LAUNCHER:
        commands = loaded(name)["worker_start_ray_commands"]
        (place,) = [number for number, command in enumerate(commands) if command.endswith("cluster/mps.sh start")]
        assert "ray start" in commands[place + 1]
    workers = loaded("kuberay.yaml")["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    assert workers["containers"][0]["args"] == ["/opt/ambivalent/cluster/mps.sh start"]
    image = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    assert "WORKDIR /opt/ambivalent\n" in image
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in image
