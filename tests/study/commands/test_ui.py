"""Tests of the errors of ``ambivalent ui``; tests/browser/test_mlflow.py runs it with MLflow's server."""

import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from ser.utils.errors import UserError
from study.commands import ui
from study.tracking.ui.views import VIEW_TAG, save_view, view
from tests.helpers.made_records import make_store


def run_ui(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["ambivalent ui", *words])
    return ui.main()


@pytest.fixture
def store(tmp_path):
    made = make_store(tmp_path)
    made.search({("cross_entropy", "clean"): (0.5,)})
    return made


def test_what_cannot_be_opened_is_named_before_a_server_starts(monkeypatch, tmp_path, store):
    monkeypatch.setattr(ui, "_server", None)
    with pytest.raises(UserError, match=r"no database .*none\.db.*m\.db"):
        run_ui(monkeypatch, "--tracking-uri", f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(UserError, match=r"experiment .*'mad'.*made"):
        run_ui(monkeypatch, "--tracking-uri", store.uri, "--experiment", "mad")
    with pytest.raises(UserError, match="neither a database nor a server"):
        run_ui(monkeypatch, "--tracking-uri", "databricks")
    with pytest.raises(UserError, match="ports are 1 to 65535"):
        ui.UiOptions(port=0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(UserError, match=f"--port {port} cannot be used"):
            run_ui(monkeypatch, "--tracking-uri", store.uri, "--port", port)


def test_a_server_that_dies_is_reported_with_its_last_line(tmp_path):
    printed = tmp_path / "log"
    printed.write_text("starting\nno space left on device\n\n")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=r"server has ended: no space left on device$"):
        ui._wait(process, port, printed)


def test_a_server_that_ignores_sigterm_is_killed(monkeypatch):
    monkeypatch.setattr(ui, "SECONDS_TO_END", 0.5)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()
    ui._end(process)
    assert process.wait() == -signal.SIGKILL


def test_the_server_keeps_artifacts_next_to_the_database_and_does_not_outlive_its_command(monkeypatch, tmp_path):
    sleep, seen, guarded = [sys.executable, "-c", "import time; time.sleep(60)"], {}, []

    def start(command, env, **options):
        seen.update(env)
        return subprocess.Popen(sleep, **options)

    names = {name: getattr(subprocess, name) for name in ("STDOUT", "TimeoutExpired")}
    monkeypatch.setattr(ui, "subprocess", SimpleNamespace(Popen=start, **names))
    monkeypatch.setattr(ui, "_wait", lambda *_: None)
    monkeypatch.setattr(ui, "start_guard", guarded.extend)
    monkeypatch.delenv("MLFLOW_ARTIFACTS_DESTINATION", raising=False)
    with ui._server(f"sqlite:///{tmp_path}/m.db", 1) as server:
        assert server.pid in {process.pid for process in guarded}  # which a guard kills if this process is killed
    assert server.poll() is not None
    assert seen["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path}/m.db"
    assert seen["MLFLOW_ARTIFACTS_DESTINATION"] == (tmp_path / "mlartifacts").as_uri()


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nobody answers
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert ui._answers(server.server_port)
        server.shutdown()


def test_the_view_is_saved_once_and_that_of_another_version_is_replaced(store):
    client, experiment = store.client, store.experiment
    client.set_experiment_tag(experiment, VIEW_TAG, "{}")
    save_view(client, experiment)
    assert client.get_experiment(experiment).tags[VIEW_TAG] == view()
    save_view(type("Reader", (), {"get_experiment": client.get_experiment})(), experiment)  # which cannot write
