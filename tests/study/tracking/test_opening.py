"""Tests of opening MLflow stores: what is created, which databases are refused, and how servers are asked."""

import http.server
import multiprocessing
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from analysis import best_runs, report
from ser.utils.command_line import run_command
from ser.utils.errors import UserError
from study import confirm
from study.commands import evaluate, predict, register
from study.environment import CODE_ROOT as ROOT
from study.tracking.opening import experiment_id, open_client, open_existing, open_for_plan


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Create a database, which takes seconds, in a folder with an unusual name; each test gets a copy."""
    folder = tmp_path_factory.mktemp("database") / "100% ü#1"
    folder.mkdir()
    open_client(f"sqlite:///{folder}/m.db")
    return folder / "m.db"


@pytest.fixture
def uri(tmp_path, database):
    shutil.copy(database, tmp_path / "m.db")
    return f"sqlite:///{tmp_path}/m.db"


def execute(uri, *statements):
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection, connection:
        for statement in statements:
            connection.execute(statement)


# Reading creates nothing


def test_a_store_that_is_not_there_is_not_created_by_reading(tmp_path):
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"no database '\S+/mflow.db'\. There: mlflow.db\. .* run a study first"):
        open_existing(f"sqlite:///{tmp_path}/mflow.db")
    with pytest.raises(UserError, match=r"There is no folder '\S+/away'"):
        open_existing(f"sqlite:///{tmp_path}/away/mlflow.db")
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "notes.txt"}


def test_an_empty_database_is_left_empty_by_reading(tmp_path):
    (tmp_path / "m.db").touch()
    with pytest.raises(UserError, match="the database is empty"):
        open_existing(f"sqlite:///{tmp_path}/m.db")
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("m.db", 0)]


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (report.main, []), (best_runs.main, []), (confirm.main, []), (confirm.main, ["--plan"]),
        (evaluate.main, ["--run", "a"]), (predict.main, ["a.wav", "--run", "a"]),
        (register.main, ["--run", "a", "--name", "n"]),
    ],
)  # fmt: skip
def test_commands_that_read_make_no_store(main, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", *words])
    assert run_command(main) == 2
    assert f"there is no database '{tmp_path}/mlflow.db'" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///ours.db")
    assert run_command(main) == 2
    assert f"there is no database '{tmp_path}/ours.db'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_plan_creates_neither_store_nor_experiment(tmp_path, uri):
    new = f"sqlite:///{tmp_path}/new.db"
    client = open_for_plan(new, "e")
    assert client.search_runs([experiment_id(client, new, "e")]) == []
    assert not (tmp_path / "new.db").exists()
    before = (tmp_path / "m.db").read_bytes()
    client = open_for_plan(uri, "e")
    assert client.search_runs([experiment_id(client, uri, "e")]) == []
    assert (tmp_path / "m.db").read_bytes() == before
    existing = open_client(uri)
    run = existing.create_run(experiment_id(existing, uri, "e"))
    client = open_for_plan(uri, "e")
    assert [found.info.run_id for found in client.search_runs([experiment_id(client, uri, "e")])] == [run.info.run_id]


def test_a_path_with_unusual_characters_holds_database_and_artifacts(database, tmp_path):
    folder = shutil.copytree(database.parent, tmp_path / database.parent.name)
    assert {path.name for path in folder.iterdir()} - {"m.db.lock"} == {"m.db"}
    uri = f"sqlite:///{folder}/m.db"
    client = open_client(uri)
    run = client.create_run(experiment_id(client, uri, "e")).info.run_id
    client.log_dict(run, {"a": 1}, "a.json")
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert {path.name for path in folder.iterdir()} - {"m.db.lock"} == {"m.db", "mlartifacts"}
    assert [file.path for file in open_existing(uri).list_artifacts(run)] == ["a.json"]


# Databases that the installed MLflow cannot use as they are


@pytest.mark.parametrize("opened", [open_existing, open_client])
@pytest.mark.parametrize(
    ("statements", "said"),
    [
        # the first revision of MLflow's schema
        (["UPDATE alembic_version SET version_num = '451aebb31d03'", "DROP TABLE logged_models"],
         "of an older MLflow; .* mlflow db upgrade sqlite:"),
        (["UPDATE alembic_version SET version_num = 'ffffffffffff'"], "ffffffffffff, which MLflow .* does not know"),
        (["DROP TABLE alembic_version"], "of another program"),
    ],
)  # fmt: skip
def test_a_database_of_another_version_is_left_as_it_is(opened, statements, said, uri, tmp_path):
    execute(uri, *statements)
    before = (tmp_path / "m.db").read_bytes()
    with pytest.raises(UserError, match=said):
        opened(uri)
    assert (tmp_path / "m.db").read_bytes() == before


def test_a_file_that_is_no_database_is_reported(tmp_path):
    (tmp_path / "m.db").write_text("no database at all, but a text that is long enough to be one\n" * 20)
    with pytest.raises(UserError, match=r"cannot be opened: .*not a database"):
        open_client(f"sqlite:///{tmp_path}/m.db")


def test_a_missing_driver_is_reported_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"postgresql://me:\*\*\*@host/db cannot be opened: .*psycopg"):
        open_existing("postgresql://me:s3cret@host/db")


# Creation


def open_database(uri, number):
    client = open_client(uri)
    return experiment_id(client, uri, "shared"), number


@pytest.mark.slow
def test_two_studies_can_create_one_database_at_once(tmp_path):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        ids = list(pool.map(open_database, [f"sqlite:///{tmp_path}/m.db"] * 2, range(2)))
    assert ids[0][0] == ids[1][0]


def test_a_database_whose_creation_was_killed_is_created_again(tmp_path):
    path = tmp_path / "mlflow.db"
    command = f"from study.tracking.opening import open_client; open_client({f'sqlite:///{path}'!r})"
    process = subprocess.Popen([sys.executable, "-c", command], cwd=ROOT)
    while process.poll() is None and not sum(part.stat().st_size for part in tmp_path.glob("mlflow.db.making*")):
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL  # it was not done
    assert not path.exists()
    client = open_client(f"sqlite:///{path}")
    assert client.get_experiment(client.create_experiment("after")).name == "after"
    assert [left.name for left in tmp_path.glob("*making*")] == []


# Servers


def make_certificate(path):
    """Write a self-signed certificate for 127.0.0.1 and its key into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, path.stem)])
    now = datetime.now()
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(pem))
    return str(path)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    return make_certificate(folder / "server.pem"), make_certificate(folder / "client.pem")


class Tracking(http.server.BaseHTTPRequestHandler):
    """Answers like a tracking server without experiments, to those who log in as the server asks."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        allowed = self.server.login in ("", self.headers.get("Authorization"))
        body = b'{"experiments": []}' if allowed else b"You are not authenticated."
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def serving(context=None, login=""):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tracking)
    server.login = login
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def private_server(certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates[0])
    with serving(context) as uri:
        yield uri


def test_a_private_certificate_is_refused_unless_it_is_named(private_server, certificates, monkeypatch):
    with pytest.raises(UserError, match=r"no MLflow server answers \(SSLCertVerificationError: .*certificate"):
        open_existing(private_server)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", certificates[0])
    assert open_existing(private_server).search_experiments() == []


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_private_certificate_is_accepted_where_the_user_says_so(private_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    assert open_existing(private_server).search_experiments() == []


def test_a_client_certificate_is_shown(certificates, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates[0])
    context.load_verify_locations(certificates[1])
    context.verify_mode = ssl.CERT_REQUIRED
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", certificates[0])
    with serving(context) as uri:
        with pytest.raises(UserError, match="no MLflow server answers"):
            open_existing(uri)
        monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", certificates[1])
        assert open_existing(uri).search_experiments() == []


@pytest.mark.parametrize(
    ("login", "variables"),
    [
        ("Bearer t0ken", {"MLFLOW_TRACKING_TOKEN": "t0ken"}),
        ("Basic bWU6czNjcmV0", {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "s3cret"}),
    ],
)
def test_a_server_is_asked_with_the_login_of_the_user(login, variables, monkeypatch):
    with serving(login=login) as uri:
        with pytest.raises(UserError, match=r"cannot be opened: .*401"):
            open_existing(uri)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert open_existing(uri).search_experiments() == []


def test_a_server_that_is_not_there_is_reported_within_seconds():
    began = time.monotonic()
    for uri in ("http://127.0.0.1:9", "HTTP://127.0.0.1:9", "http:/127.0.0.1:9"):
        with pytest.raises(UserError, match=r"no MLflow server answers .*mlflow server --port 5000"):
            open_client(uri)
    assert time.monotonic() - began < 15


def test_an_unknown_scheme_is_reported():
    with pytest.raises(UserError, match=r"localhost:5000 cannot be opened: .*unsupported URI"):
        open_client("localhost:5000")
