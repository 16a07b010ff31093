"""Ray clusters of several nodes on one machine, each node a set of processes that can be killed or cut off.

::

    with Cluster(cpus=0) as cluster:
        first = cluster.add_node(cpus=1)
        subprocess.run([sys.executable, "driver.py", cluster.address], env=cluster.environment, check=True)
        cluster.kill(first)

Every node runs in a POSIX session of its own, which its raylet and workers never leave (workers do leave the process
group), so a node dies whole, and no other Ray on the machine is touched. Linux only.
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
    # A token file in the home folder would turn authentication on for the head alone.
    "RAY_AUTH_MODE": "disabled",
    # A node that is gone is found to be so after about ten seconds; Ray's own values make it a minute.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
    # What else runs on the machine shall not make Ray kill a worker.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Node:
    """One node.

    Args:
        address: Its own IP address.
        folder: Ray's temporary folder of this node.
        process: ``ray start --block``; its id is that of the node's session.
        guard: Kills the node where the tests are killed.
        link: The host's end of its cable, where it has one.
    """

    address: str
    folder: Path
    process: subprocess.Popen[bytes]
    guard: subprocess.Popen[bytes]
    link: str | None = None

    @property
    def processes(self) -> list[int]:
        """Ids of the node's living processes."""
        return [pid for pid in _all_processes() if _session(pid) == self.process.pid]


class Cluster:
    """A head and as many other nodes as are added; a context manager, at whose end all of it is gone.

    Args:
        cpus: CPUs of the head; with 0 no trial runs there.
        severable: Give every other node a network namespace, so that it can be cut off. Needs root; see ``can_sever``.
        environment: Variables of all nodes and drivers, over ``ENVIRONMENT``.
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
        """Kills every node and removes their folders and networks; a second call does nothing."""
        for node in self.nodes:
            self.kill(node)
        if self._network:
            self._network.close()
        end(self._guard)

    @property
    def host(self) -> str:
        """An address of this machine that every node reaches; a tracking server may listen there."""
        return f"{self._subnet}.1"

    @property
    def address(self) -> str:
        """What drivers join: ``ray.init(address=...)``, ``--address``; empty while the head starts."""
        # The head takes a port of the system's choice, and writes it down here.
        path = self.head.folder / "ray_current_cluster"
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""

    @property
    def environment(self) -> dict[str, str]:
        """The environment for drivers, which must be processes of their own, for Ray reads it once in a process."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return {**inherited, **self._variables}

    def add_node(self, cpus: int = 1, resources: Mapping[str, float] | None = None) -> Node:
        """Starts a node and waits until the head knows it.

        Args:
            cpus: CPUs that it offers.
            resources: Custom resources that it offers.

        Raises:
            RuntimeError: It did not start; the message has its output.
        """
        return self._start(["--address", self.address], cpus, resources or {})

    def kill(self, node: Node) -> None:
        """Ends a node as a power cut does: SIGKILL to all of its processes; returns when none is left."""

        def gone() -> bool:
            for pid in node.processes:
                _signal(pid, signal.SIGKILL)
            return not node.processes

        wait_until(gone, 20, f"node {node.address} has no process")
        # In this order, for the session's number may be another's once the process has been waited for.
        node.guard.kill()
        node.guard.communicate()
        node.process.wait()

    def cut_off(self, node: Node) -> None:
        """Pulls a node's cable: its processes run on, and nothing that it sends or is sent arrives."""
        _ip("link", "set", _link(node), "down")

    def reconnect(self, node: Node) -> None:
        """Puts the cable back in."""
        _ip("link", "set", _link(node), "up")

    def alive(self) -> set[str]:
        """Addresses of the nodes that the head takes for alive."""
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
            # The operating system chooses; the range that is the default is every node's and every other Ray's.
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
    """A bridge on this machine, and network namespaces plugged into it by a cable each.

    Args:
        tag: Begins the names of all interfaces; Linux has room for 15 characters.
    """

    def __init__(self, tag: str | None = None) -> None:
        self._tag = tag or f"rn{random.SystemRandom().randrange(16**6):06x}"
        self._bridge = f"{self._tag}b"
        # 198.18.0.0/15 is set aside for tests between networks (RFC 2544), so nobody's real hosts are there.
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
        """Makes a namespace with the address ``subnet.number``.

        Args:
            number: 2 to 254.

        Returns:
            The host's end of its cable; what a command begins with to run inside.
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
        """Removes everything."""
        end(self._guard)


def at_the_end(command: str) -> subprocess.Popen[bytes]:
    """Has a shell command done by ``end``, or where this process ends in whatever way before.

    Args:
        command: For ``sh``.
    """
    # The pipe breaks when this process is no more, be it by SIGKILL.
    return subprocess.Popen(
        ["sh", "-c", f"read _; {command}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def end(guard: subprocess.Popen[bytes]) -> None:
    """Has what ``at_the_end`` was given done now; a second call does nothing."""
    guard.communicate()


def can_sever() -> bool:
    """Whether this user may make network namespaces here."""
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
    """Whether a process still runs; a dead one may wait for its parent to notice."""
    return _session(pid) is not None


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Waits for a condition, and fails the test where it does not come true.

    Args:
        condition: Asked ten times a second.
        seconds: How long it may take.
        what: The condition in words.

    Returns:
        The seconds that it took.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            pytest.fail(f"after {seconds:g} s it is not so that {what}", pytrace=True)
        time.sleep(0.1)
    return time.monotonic() - began


def _link(node: Node) -> str:
    if node.link is None:
        raise ValueError(f"node {node.address} has no cable; only added nodes of Cluster(severable=True) have")
    return node.link


def _loopback_subnet() -> str:
    # Ray takes 127.0.0.1 for the whole machine and replaces it by the machine's outer address.
    return f"127.{random.SystemRandom().randint(1, 254)}.{random.SystemRandom().randint(0, 254)}"


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _session(pid: int) -> int | None:
    """The session of a process, or None where it lives no more."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in brackets may hold anything; state, parent, group and session follow it.
    state, _, _, session = status.rpartition(")")[2].split()[:4]
    return None if state in "ZX" else int(session)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
