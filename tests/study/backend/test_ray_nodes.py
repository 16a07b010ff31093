"""Ray Tune on nodes that die, are added and are cut off."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune

from study.environment import CODE_ROOT
from tests.helpers.ray_nodes import Cluster, can_sever, lives, wait_until

pytestmark = pytest.mark.slow

EPOCHS = 30
EPOCH_SECONDS = 0.5


def train(config: dict[str, Any]) -> None:
    """Train a trial that logs the node of each epoch, and resume it from its checkpoint."""
    address = ray.util.get_node_ip_address()
    checkpoint = tune.get_checkpoint()
    first = 1 + (int((Path(checkpoint.path) / "epoch").read_text()) if checkpoint else 0)
    folder = Path(config["folder"])
    for epoch in range(first, EPOCHS + 1):
        time.sleep(EPOCH_SECONDS)
        with (folder / f"trial{config['number']}.txt").open("a") as file:
            file.write(f"{address} {epoch}\n")
        state = folder / f"state-{config['number']}-{address}-{epoch}"
        state.mkdir()
        (state / "epoch").write_text(str(epoch))
        tune.report({"epoch": epoch}, checkpoint=tune.Checkpoint(str(state)))


def drive(address: str, folder: str, trials: str) -> None:
    """Run the trials on the cluster, and print how each ended."""
    ray.init(address=address, log_to_driver=False)
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={"folder": folder, "number": tune.grid_search(list(range(int(trials))))},
        run_config=tune.RunConfig(
            name="search",
            storage_path=f"{folder}/tune",
            failure_config=tune.FailureConfig(max_failures=2),
            verbose=0,
        ),
    )
    results = tuner.fit()
    print(json.dumps([result.metrics["epoch"] if result.error is None else str(result.error) for result in results]))


@pytest.fixture(scope="module")
def namespaces() -> None:
    if not can_sever():
        pytest.skip("network namespaces need root and iproute2")


@contextmanager
def driver(cluster: Cluster, folder: Path, trials: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", __name__, cluster.address, str(folder), str(trials)]
    with (folder / "driver.txt").open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=CODE_ROOT,
            env=cluster.environment,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(output: str) -> list[Any]:
    """Return what the driver prints after the output of Tune."""
    return json.loads(output.splitlines()[-1])


def epochs(folder: Path, trial: int) -> list[tuple[str, int]]:
    """Return address and epoch of each line that a trial has written."""
    path = folder / f"trial{trial}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(address, int(epoch)) for address, epoch in (line.split() for line in lines)]


def test_a_trial_whose_node_dies_resumes_from_its_checkpoint_on_a_node_that_is_added(tmp_path):
    with Cluster(cpus=0) as cluster:
        nodes = {node.address: node for node in (cluster.add_node(), cluster.add_node())}
        assert cluster.alive() == {cluster.head.address, *nodes}
        with driver(cluster, tmp_path, 2) as process:
            wait_until(lambda: all(len(epochs(tmp_path, trial)) >= 3 for trial in (0, 1)), 60, "both trials train")
            first, second = (epochs(tmp_path, trial)[0][0] for trial in (0, 1))
            assert {first, second} == set(nodes)

            cluster.kill(nodes[first])
            added = cluster.add_node()
            output, _ = process.communicate(timeout=120)
        assert ended(output) == [EPOCHS, EPOCHS]
        there, elsewhere = ([n for a, n in epochs(tmp_path, 0) if a == place] for place in (first, added.address))
        # The last epoch may have been logged but not yet saved in a checkpoint.
        assert elsewhere[0] in {there[-1], there[-1] + 1}
        assert elsewhere[-1] == EPOCHS
        assert epochs(tmp_path, 1) == [(second, epoch) for epoch in range(1, EPOCHS + 1)]
        assert cluster.alive() == {cluster.head.address, second, added.address}


@pytest.mark.usefixtures("namespaces")
def test_a_node_that_is_cut_off_keeps_training_unseen_and_ends_when_it_is_back(tmp_path):
    with Cluster(cpus=0, severable=True) as cluster:
        lost = cluster.add_node()
        with driver(cluster, tmp_path, 1) as process:
            wait_until(lambda: len(epochs(tmp_path, 0)) >= 3, 60, "the trial trains")
            cluster.cut_off(lost)
            before = len(epochs(tmp_path, 0))
            spare = cluster.add_node()
            wait_until(lambda: cluster.alive() == {cluster.head.address, spare.address}, 60, "the head gives it up")
            wait_until(lambda: epochs(tmp_path, 0)[-1][0] == spare.address, 60, "the trial is tried elsewhere")
            output, _ = process.communicate(timeout=120)
        assert ended(output) == [EPOCHS]
        unseen = [epoch for address, epoch in epochs(tmp_path, 0)[before:] if address == lost.address]
        assert unseen, "a cut-off node knows nothing of its being given up"
        assert lost.processes
        cluster.reconnect(lost)
        wait_until(lambda: not lost.processes, 60, "the node that was given up has ended itself")
        assert cluster.alive() == {cluster.head.address, spare.address}


@pytest.mark.usefixtures("namespaces")
def test_a_node_that_is_back_in_time_is_kept():
    with Cluster(cpus=0, severable=True) as cluster:
        node = cluster.add_node()
        before = node.processes
        cluster.cut_off(node)
        time.sleep(2)
        cluster.reconnect(node)
        time.sleep(12)
        assert cluster.alive() == {cluster.head.address, node.address}
        assert set(before) <= set(node.processes)


def test_nothing_is_left_where_the_tests_are_killed():
    script = (
        "import time; from tests.helpers.ray_nodes import Cluster\n"
        "with Cluster() as cluster:\n"
        "    cluster.add_node()\n"
        "    processes = [pid for node in cluster.nodes for pid in node.processes]\n"
        "    print(cluster.head.folder.parent, *processes, flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=CODE_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder, *processes = process.stdout.readline().split()
        assert len(processes) > 6
        process.send_signal(signal.SIGKILL)
        wait_until(lambda: not any(lives(int(pid)) for pid in processes), 20, "the nodes have ended")
        wait_until(lambda: not Path(folder).exists(), 20, "their folder is removed")


def test_everything_is_gone_at_the_end_and_another_cluster_is_untouched():
    with Cluster() as other:
        others = other.head.processes
        with Cluster(cpus=1) as cluster:
            node = cluster.add_node(resources={"fast": 2})
            processes = [*cluster.head.processes, *node.processes]
            assert cluster.alive() == {cluster.head.address, node.address}
            assert other.alive() == {other.head.address}
        assert not any(map(lives, processes))
        assert not node.folder.parent.exists()
        assert set(others) <= set(other.head.processes)
    with pytest.raises(ValueError, match="cannot be disconnected"):
        other.cut_off(other.head)


def test_a_node_that_cannot_start_says_why():
    with Cluster() as cluster, pytest.raises(RuntimeError, match=r"(?s)ended with .*CPU"):
        cluster.add_node(resources={"CPU": 3})


if __name__ == "__main__":
    drive(*sys.argv[1:])
