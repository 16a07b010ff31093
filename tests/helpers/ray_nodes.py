"""Ray clusters of several nodes on one machine, each node a set of processes that can be killed or cut off.

::

    with Cluster(cpus=0) as cluster:
        first = cluster.add_node(cpus=1)
        subprocess.run([sys.executable, "driver.py", cluster.address], env=cluster.environment, check=True)
        cluster.kill(first)

Every node runs in its own POSIX session, which its raylet and workers never leave (workers do leave the process group),
so all processes of a node can be killed without affecting any other Ray on the machine. Linux only.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest
from ray._raylet import GcsClient
from ray.core.generated.gcs_pb2 import GcsNodeInfo

START_SECONDS = 60
OBJECT_STORE_BYTES = 100_000_000
ENVIRONMENT = {
    # A token file in the home folder would enable authentication for the head only.
    "RAY_AUTH_MODE": "disabled",
    # Lost nodes are detected after about ten seconds; with Ray's defaults after a minute.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
    # Memory used by other programs on the machine must not make Ray kill a worker.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Node:
    """Node of a Ray cluster.

    Args:
        address: IP address of the node.
        folder: Ray's temporary folder of this node.
        process: Process of ``ray start --block``; its id is also the id of the node's session.
        guard: Process that kills the node if the tests are killed.
        link: Network interface on the host that connects the node; None without a network namespace.
    """

    address: str
    folder: Path
    process: subprocess.Popen[bytes]
    guard: subprocess.Popen[bytes]
    link: str | None = None

    @property
    def processes(self) -> list[int]:
        """Return the ids of the node's living processes."""
        return [pid for pid in _all_processes() if _session(pid) == self.process.pid]


class Cluster:
    """Context manager of a Ray cluster: a head, and the nodes that are added; everything is removed at its end.

    Args:
        cpus: CPUs of the head; with 0 no trial runs there.
        severable: Give every other node a network namespace, so that it can be cut off. Needs root; see ``can_sever``.
        environment: Environment variables of all nodes and drivers, in addition to ``ENVIRONMENT``.
    """

    def __init__(self, cpus: int = 0, *, severable: bool = False, environment: Mapping[str, str] | None = None) -> None:
        self._cpus = cpus
        self._severable = severable
        self._variables = {**ENVIRONMENT, **(environment or {})}
        self._count = 0
        self._network: Network | None = None
        self.nodes: list[Node] = []

    def __enter__(self) -> Cluster:
        self._folder = Path(tempfile.mkdtemp(prefix="rn"))
        self._guard = at_the_end(f"while ! rm -rf {shlex.quote(str(self._folder))}; do sleep 1; done")
        try:
            self._network = Network() if self._severable else None
            self._subnet = self._network.subnet if self._network else _loopback_subnet()
            self.head = self._start(["--head", "--port", "0", "--include-dashboard", "false"], self._cpus, {})
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill every node and remove their folders and networks; a second call does nothing."""
        for node in self.nodes:
            self.kill(node)
        if self._network:
            self._network.close()
        end(self._guard)

    @property
    def host(self) -> str:
        """Return an address of this machine that every node reaches, for example for a tracking server."""
        return f"{self._subnet}.1"

    @property
    def address(self) -> str:
        """Return the address for drivers (``ray.init(address=...)``, ``--address``); empty while the head starts."""
        # The head listens on a port that the system chooses, and writes it to this file.
        path = self.head.folder / "ray_current_cluster"
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment for drivers, which must run in their own process: Ray reads it once per process."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return {**inherited, **self._variables}

    def add_node(self, cpus: int = 1, resources: Mapping[str, float] | None = None) -> Node:
        """Start a node and wait until the head knows it.

        Args:
            cpus: CPUs that the node offers.
            resources: Custom resources that the node offers.

        Raises:
            RuntimeError: The node did not start; the message contains its output.
        """
        return self._start(["--address", self.address], cpus, resources or {})

    def kill(self, node: Node) -> None:
        """End a node as a power cut does: send SIGKILL to all of its processes, and return when none is left."""

        def gone() -> bool:
            for pid in node.processes:
                _signal(pid, signal.SIGKILL)
            return not node.processes

        wait_until(gone, 20, f"node {node.address} has no process")
        # In this order, because the session's id can be reused once the process has been waited for.
        node.guard.kill()
        node.guard.communicate()
        node.process.wait()

    def cut_off(self, node: Node) -> None:
        """Disconnect a node: its processes keep running, but neither send nor receive anything."""
        _ip("link", "set", _link(node), "down")

    def reconnect(self, node: Node) -> None:
        """Reconnect a node that was cut off."""
        _ip("link", "set", _link(node), "up")

    def alive(self) -> set[str]:
        """Return the addresses of the nodes that the head considers alive."""
        known = GcsClient(address=self.address).get_all_node_info(timeout=5).values()
        return {node.node_manager_address for node in known if node.state == GcsNodeInfo.GcsNodeState.ALIVE}

    def _start(self, role: Sequence[str], cpus: int, resources: Mapping[str, float]) -> Node:
        self._count += 1
        address, folder = f"{self._subnet}.{self._count}", self._folder / str(self._count)
        folder.mkdir()
        link: str | None = None
        prefix: list[str] = []
        if self._network and self._count > 1:
            link, prefix = self._network.plug_in(self._count)
        command = [
            *(*prefix, sys.executable, "-m", "ray.scripts.scripts", "start", *role),
            *("--block", "--node-ip-address", address, "--temp-dir", str(folder), "--num-cpus", str(cpus)),
            *("--resources", json.dumps(dict(resources)), "--object-store-memory", str(OBJECT_STORE_BYTES)),
            # The operating system chooses free ports; the default range is shared by all nodes and other clusters.
            *("--min-worker-port", "0", "--max-worker-port", "0"),
        ]
        with (folder / "output.txt").open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
        guard = at_the_end(f"while pkill -KILL --session {process.pid}; do sleep 1; done")
        node = Node(address, folder, process, guard, link)
        self.nodes.append(node)
        if self._count == 1:
            self.head = node

        def started() -> bool:
            if process.poll() is not None:
                text = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"node {address} ended with {process.returncode}:\n{text[-3000:]}")
            return bool(self.address) and address in self.alive()

        wait_until(started, START_SECONDS, f"node {address} is up")
        return node


class Network:
    """Network bridge on this machine, and network namespaces that are connected to it.

    Args:
        tag: Prefix of the names of all interfaces, of which Linux allows 15 characters; random by default.
    """

    def __init__(self, tag: str | None = None) -> None:
        self._tag = tag or f"rn{random.SystemRandom().randrange(16**6):06x}"
        self._bridge = f"{self._tag}b"
        # 198.18.0.0/15 is reserved for tests between networks (RFC 2544), so no real hosts are there.
        taken = _ip("-o", "-4", "addr")
        free = [f"198.{a}.{b}" for a in (18, 19) for b in range(256) if f" 198.{a}.{b}." not in taken]
        self.subnet = random.SystemRandom().choice(free)
        self._guard = at_the_end(
            f"for name in $(ip netns list | grep -o '^{self._tag}n[0-9]*'); do ip netns del $name; done; "
            f"ip link del {self._bridge}"
        )
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self.subnet}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def plug_in(self, number: int) -> tuple[str, list[str]]:
        """Create a namespace with the address ``subnet.number``.

        Args:
            number: 2 to 254.

        Returns:
            Interface on the host that connects the namespace; prefix of a command to run in the namespace.
        """
        name, link, inner = f"{self._tag}n{number}", f"{self._tag}v{number}", f"{self._tag}i{number}"
        _ip("netns", "add", name)
        _ip("link", "add", link, "type", "veth", "peer", "name", inner, "netns", name)
        _ip("link", "set", link, "master", self._bridge, "up")
        _ip("-n", name, "addr", "add", f"{self.subnet}.{number}/24", "dev", inner)
        for interface in ("lo", inner):
            _ip("-n", name, "link", "set", interface, "up")
        return link, ["ip", "netns", "exec", name]

    def close(self) -> None:
        """Remove the bridge and all namespaces."""
        end(self._guard)


def at_the_end(command: str) -> subprocess.Popen[bytes]:
    """Prepare a shell command that runs when ``end`` is called, or when this process ends in any other way.

    Args:
        command: Command for ``sh``.
    """
    # The pipe breaks when this process ends, even by SIGKILL.
    return subprocess.Popen(
        ["sh", "-c", f"read _; {command}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def end(guard: subprocess.Popen[bytes]) -> None:
    """Run a command given to ``at_the_end`` now; a second call does nothing."""
    guard.communicate()


def can_sever() -> bool:
    """Return whether this user may create network namespaces on this machine."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    try:
        network = Network()
    except RuntimeError:
        return False
    try:
        network.plug_in(2)
    except RuntimeError:
        return False
    finally:
        network.close()
    return True


def lives(pid: int) -> bool:
    """Return whether a process still runs; a zombie does not."""
    return _session(pid) is not None


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for a condition, and fail the test if it does not become true.

    Args:
        condition: Function that is called ten times a second.
        seconds: Longest time to wait.
        what: Description of the condition.

    Returns:
        Seconds that it took.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            pytest.fail(f"after {seconds:g} s it is not true that {what}", pytrace=True)
        time.sleep(0.1)
    return time.monotonic() - began


def _link(node: Node) -> str:
    if node.link is None:
        raise ValueError(f"node {node.address} cannot be disconnected; only added nodes of Cluster(severable=True) can")
    return node.link


def _loopback_subnet() -> str:
    # Not 127.0.0.1, which Ray replaces by the machine's outer address.
    return f"127.{random.SystemRandom().randint(1, 254)}.{random.SystemRandom().randint(0, 254)}"


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _session(pid: int) -> int | None:
    """Return the session of a process, or None if the process has ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in brackets may contain any character; state, parent, group and session follow it.
    state, _, _, session = status.rpartition(")")[2].split()[:4]
    return None if state in "ZX" else int(session)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
