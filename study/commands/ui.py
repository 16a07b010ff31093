"""Open a study's records in MLflow's UI: python study/ui.py --experiment EXPERIMENT.

The UI by itself opens an experiment in a view for language models; the links of this command open the runs, as each
method at each noise level. A tracking URI of a server needs no other server, so that only the links are printed.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from rich.console import Console

from ser.utils.command_line import parse
from ser.utils.errors import UserError, without_password
from study.backend.guard import descendants, start_guard
from study.console import make_console, say
from study.schema import CONFIRM, SEARCH
from study.tracking.matching import find_experiment
from study.tracking.opening import ARTIFACTS, open_existing
from study.tracking.ui.links import runs_link, view_link
from study.tracking.ui.views import save_view
from study.uri import SQLITE, chosen_experiment, chosen_uri, database_file, is_database

HOST = "127.0.0.1"

FIRST_PORT, PORTS = 5000, 20
"""Port that is tried first, and how many are."""

SECONDS_TO_START = 180.0
POLL_SECONDS = 0.3
SECONDS_TO_END = 3.0
"""Time in which the server ends by itself; a page that is open keeps it longer."""


@dataclass(frozen=True)
class UiOptions:
    """Open the records of a study in MLflow's UI, at the comparison by noise level.

    Starts MLflow's server for this machine alone, and ends it at Ctrl-C. Where the tracking URI is a server's, prints
    the links into it.
    """

    tracking_uri: str | None = None
    """MLflow tracking URI; default MLFLOW_TRACKING_URI, else mlflow.db in the current folder."""
    experiment: str | None = None
    """MLflow experiment; default MLFLOW_EXPERIMENT_NAME, else the one with the newest trial."""
    port: int | None = None
    """Port of the server on this machine; default the first free one from 5000."""

    def __post_init__(self) -> None:
        if self.port is not None and not 1 <= self.port <= 65535:
            raise UserError(f"--port {self.port}: ports are 1 to 65535.")


def main() -> int:
    """Open the UI.

    Returns:
        0 printed the links of a server, or ended by Ctrl-C; 2 a user error; 130 interrupted before the server ran.
    """
    options = parse(UiOptions)
    # A store that may only be read is no error here, for which MLflow would log a traceback.
    for name, level in (("mlflow", logging.WARNING), ("alembic", logging.WARNING), ("mlflow.store", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)
    console, uri = make_console(), chosen_uri(options.tracking_uri)
    if not (is_database(uri) or uri.startswith(("http://", "https://"))):
        raise UserError(f"--tracking-uri {without_password(uri)} is neither a database nor a server's address.")
    client = open_existing(uri)
    name, identifier = find_experiment(client, uri, chosen_experiment(options.experiment), None, (SEARCH, CONFIRM))
    has_view = _saved(client, identifier)
    if not is_database(uri):
        if options.port is not None:
            raise UserError(f"--port {options.port}: {without_password(uri)} is a server already. Leave --port out.")
        _show(console, _address(uri), name, identifier, has_view)
        return 0
    port = _free_port(options.port)
    say(console, f"MLflow's server starts on port {port}, which takes some seconds …")
    with _server(uri, port) as server:
        _show(console, f"http://{HOST}:{port}", name, identifier, has_view)
        say(console, "Ctrl-C ends the server.")
        with suppress(KeyboardInterrupt):
            server.wait()
            raise UserError("MLflow's server was ended from outside. Start it again with the same command.")
    say(console, "ended")
    return 0


def _saved(client: MlflowClient, experiment: str) -> bool:
    """Return whether an experiment has the view, which earlier versions have not saved."""
    try:
        save_view(client, experiment)
    except MlflowException:  # a store that this user may only read
        return False
    return True


def _address(uri: str) -> str:
    """Return the address of a server for a browser, which asks for the password itself.

    Example:
        >>> _address("https://me:secret@host/mlflow/")
        'https://host/mlflow/'
    """
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _show(console: Console, base: str, name: str, experiment: str, has_view: bool) -> None:
    """Print the links, and open the first one if there is a screen."""
    link = view_link if has_view else runs_link
    chart, table = link(base, experiment, chart=True), link(base, experiment)
    say(console, f"Experiment {name}:")
    for what, where in (("comparison by noise level", chart), ("table of methods and levels", table)):
        console.print(f"  {what}\n    {where}", soft_wrap=True)
    # Without a screen, Python would find browsers for the terminal, which is taken.
    if sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & {*os.environ}:
        with suppress(webbrowser.Error):
            webbrowser.open(chart)


def _free_port(asked: int | None) -> int:
    """Return the port that is asked for, or the first free one.

    Raises:
        UserError: It is in use.
    """
    for port in [asked] if asked is not None else range(FIRST_PORT, FIRST_PORT + PORTS):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a server that has just ended
            with suppress(OSError):
                trial.bind((HOST, port))
                return port
    what = f"--port {asked}" if asked is not None else f"--port: every port from {FIRST_PORT} to {port}"
    raise UserError(f"{what} cannot be used, because another program has it. Give another --port.")


@contextmanager
def _server(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server on a database, and end it with the context.

    Yields:
        Its process, once it has answered.

    Raises:
        UserError: It ends, or does not answer in time; with the end of what it has printed.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    # A study may use this server too: its artifacts are kept where MLflow by itself keeps them.
    kept = (database_file(uri).parent if uri.startswith(SQLITE) else Path.cwd()) / ARTIFACTS
    # The URI may hold a password, and everybody can read the words of a command.
    own = {"MLFLOW_ARTIFACTS_DESTINATION": kept.as_uri(), **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "server.log"
        with printed.open("wb") as log:
            # A session of its own: Ctrl-C reaches this process alone, which ends the server and its workers.
            server = subprocess.Popen(
                command, env=own, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            _wait(server, port, printed)
            start_guard(descendants(os.getpid()))  # for an end of this process that it cannot see
            yield server
        finally:
            _end(server)


def _wait(server: subprocess.Popen[bytes], port: int, printed: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not _answers(port):
        ended = server.poll() is not None
        if ended or time.monotonic() > deadline:
            lines = [line for line in printed.read_text(errors="replace").splitlines() if line.strip()]
            what = "has ended" if ended else f"does not answer after {SECONDS_TO_START:.0f} s"
            raise UserError(f"MLflow's server {what}: {lines[-1].strip() if lines else 'it has printed nothing'}")
        time.sleep(POLL_SECONDS)


def _answers(port: int) -> bool:
    try:
        # Without the proxy of the environment, which may not know this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{HOST}:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server with all of its workers."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(SECONDS_TO_END)
            return
