"""The command ``python study/remove.py``: list what studies take on disk and in MLflow, and delete it once confirmed.

The order can be repeated: runs with their artifacts, feature stores, the folder, and last of all its record. So the
same command finishes what was interrupted.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from rich.console import Console

from ser.features.store import delete_store, deleted_store, partial_store
from ser.utils.command_line import EXIT_INTERRUPTED, parse
from ser.utils.command_names import command_line
from ser.utils.errors import UserError, first_line, unknown_name, without_password
from ser.utils.output_files import bytes_in, size_text
from study.console import make_console, say
from study.options import DATA_DIGEST, FEATURES, RECORD, StudyOptions, read_record
from study.schema import KIND, TRIAL
from study.setup.resolve import absolute
from study.tracking.opening import open_existing
from study.tracking.study_runs import StudyRuns, find_study_runs
from study.uri import SQLITE, absolute_uri, chosen_uri, database_file

SCRIPT = "study/remove.py"
LOCK = ".lock"


@dataclass(frozen=True)
class RemoveOptions:
    """List what studies and confirmations take, and delete it once confirmed.

    Deleted are their folders, their MLflow runs and artifacts, and the feature stores that no other study uses.
    """

    name: tuple[str, ...]
    """Names of studies or confirmations."""
    yes: bool = False
    """Delete without asking."""
    storage_path: Path = StudyOptions.storage_path
    """Folder for feature stores and the states of studies, as the study was started with."""
    tracking_uri: str | None = None
    """MLflow tracking URI; default that of the study."""
    experiment: str | None = None
    """MLflow experiment; default that of the study."""

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("--name needs at least one name.")
        for name in self.name:
            StudyOptions(name=name, experiment=self.experiment)  # raises if one is not a plain name


@dataclass(frozen=True)
class StudyFiles:
    """Folder and records of a study.

    Args:
        folder: Its folder, which may be missing.
        uri: Tracking URI of its records.
        client: Store of its records; None if it is not there.
        records: Its runs.
        notes: What stays, and what to know, in lines for people.
    """

    folder: Path
    uri: str
    client: MlflowClient | None = None
    records: StudyRuns = field(default_factory=StudyRuns)
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to delete."""
        return not (self.folder.is_dir() or self.records.active or self.records.artifacts)

    @property
    def size(self) -> int:
        """Return the bytes that folder and artifacts take."""
        return bytes_in(self.folder) + sum(map(bytes_in, self.records.artifacts.values()))


@dataclass(frozen=True)
class Features:
    """Feature stores of studies.

    Args:
        paths: Stores that no other study uses.
        notes: Stores that stay and why, in lines for people.
    """

    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def main() -> int:
    """List what is there, ask, and delete it.

    Returns:
        0 deleted, declined, or listed where nobody can be asked; 2 a user error; 130 interrupted.
    """
    options = parse(RemoveOptions)
    console = make_console()
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    storage, names = absolute(options.storage_path), tuple(dict.fromkeys(options.name))
    with ExitStack() as locks:
        for name in names:
            claim(storage / "studies" / name, locks)
        studies = [find_study(name, storage, options) for name in names]
        features = find_features(storage, names)
        for line in describe(studies, features):
            say(console, line)
        if all(study.is_empty for study in studies):
            say(console, "Nothing is left to delete.")
        elif options.yes or _confirmed(console):
            return _delete(studies, features, storage, console)
    return 0


def claim(folder: Path, locks: ExitStack) -> None:
    """Lock a study's folder, if it is there.

    Args:
        folder: The folder.
        locks: Keeps the lock.

    Raises:
        UserError: The study runs, or this is not the folder of a study.
    """
    if folder.is_symlink():
        raise UserError(f"{str(folder)!r} is a link. Remove the study where its folder is, with --storage-path.")
    if not folder.is_dir():
        return
    if {path.name for path in folder.iterdir()} - {LOCK} and DATA_DIGEST not in read_record(folder):
        raise UserError(
            f"{str(folder)!r} has no valid {RECORD}, so it is not the folder of a study. Nothing is deleted."
        )
    try:
        locks.enter_context(FileLock(folder / LOCK, blocking=False))
    except Timeout:
        raise UserError(f"study {folder.name!r} is running, in another process. Stop it first.") from None


def find_study(name: str, storage: Path, options: RemoveOptions) -> StudyFiles:
    """Find what is there of a study.

    Args:
        name: Its name.
        storage: Its storage path.
        options: The options as given.

    Raises:
        UserError: There is no such study, its folder is elsewhere, or its records cannot be read.
    """
    folder = storage / "studies" / name
    record = read_record(folder)
    recorded = record.get("tracking_uri") if options.tracking_uri is None else None
    uri = absolute_uri(recorded) if recorded else chosen_uri(options.tracking_uri)
    if recorded and "***" in uri:
        raise UserError(f"the password of {uri} is not on record. Name the store, with password: --tracking-uri URI")
    if uri.startswith(SQLITE) and not database_file(uri).exists():
        found = StudyFiles(folder, uri, notes=("this store is not there, so no runs are deleted (--tracking-uri)",))
    else:
        client = open_existing(uri)
        experiments = {str(one.experiment_id): str(one.name) for one in client.search_experiments(ViewType.ALL)}
        if options.experiment not in (None, *experiments.values()):
            raise unknown_name("experiment", str(options.experiment), experiments.values())
        wanted = options.experiment or record.get("experiment")
        chosen = {key: value for key, value in experiments.items() if wanted in (None, value)}
        runs = find_study_runs(client, chosen, name, options.name)
        about = [] if chosen else [f"experiment {wanted} is not there, so no runs are deleted (--experiment)"]
        found = StudyFiles(folder, uri, client, runs, (*about, *runs.notes, *_about_places(folder, runs)))
    if found.is_empty and not found.records.notes:
        known = sorted(path.parent.name for path in folder.parent.glob(f"*/{RECORD}"))
        raise UserError(
            f"there is no study {name!r} below {str(folder.parent)!r}, and no run of it in {without_password(uri)}. "
            f"There: {', '.join(known) or 'none'}. --storage-path and --tracking-uri name other places."
        )
    return found


def _about_places(folder: Path, runs: StudyRuns) -> list[str]:
    """Return a line for each other folder of the study; raise if it has one there, but none here."""
    others = sorted(place for place in runs.places - {folder} if (place / RECORD).exists())
    if others and not folder.is_dir():
        where = shlex.quote(str(others[0].parents[1]))
        raise UserError(f"study {folder.name!r} has its folder below {where}. Remove it there: --storage-path {where}")
    lines = [f"its runs also belong to {place}, which stays" for place in others]
    running = [run for run in runs.active if run.info.status == "RUNNING"]
    if running and not folder.is_dir():
        lines.append(f"{len(running)} runs are marked as running: make sure that no other machine is at work on them")
    return lines


def find_features(storage: Path, names: Sequence[str]) -> Features:
    """Find the feature stores that only these studies use.

    Args:
        storage: Storage path of the studies.
        names: Names of the studies.
    """
    notes: list[str] = []
    own: set[str] = set()
    for name in names:
        record = read_record(storage / "studies" / name)
        own.update(record.get(FEATURES, ()))
        if record and FEATURES not in record:
            notes.append(f"study {name} was begun by an earlier version, which did not record its features: they stay")
    users, unknown = _used_by_others(storage, names)
    stores = [storage / "features" / name for name in sorted(own)]
    there = [path for path in stores if any(place.exists() for place in _places(path))]
    for path in there:
        if path.name in users:
            notes.append(f"{path.name} stays: study {users[path.name]} uses it")
        elif unknown:
            notes.append(f"{path.name} stays: it is not known which features study {unknown[0]} uses")
    deleted = [] if unknown else [path for path in there if path.name not in users]
    return Features(tuple(deleted), tuple(notes))


def _used_by_others(storage: Path, names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return a user of each feature store among the other studies, and those that have not recorded what they use."""
    users: dict[str, str] = {}
    unknown = []
    for folder in sorted(path for path in (storage / "studies").glob("*") if path.is_dir() and path.name not in names):
        record = read_record(folder)
        if FEATURES in record:
            users.update(dict.fromkeys(record[FEATURES], folder.name))
        else:
            unknown.append(folder.name)  # of an earlier version, or about to begin
    return users, unknown


def _places(store: Path) -> tuple[Path, ...]:
    """Return where a feature store and its remains lie: itself, half deleted, half built."""
    return store, deleted_store(store), partial_store(store)


def _store_bytes(store: Path) -> int:
    return sum(map(bytes_in, _places(store)))


def describe(studies: Sequence[StudyFiles], features: Features) -> list[str]:
    """Return what is there, with sizes, in lines for people.

    Args:
        studies: The studies.
        features: Their feature stores.
    """
    lines = []
    for study in studies:
        records = study.records
        folder = size_text(bytes_in(study.folder)) if study.folder.is_dir() else "none"
        lines += [f"study {study.folder.name}", f"  folder     {folder} at {study.folder}"]
        trials = sum(run.data.tags[KIND] == TRIAL for run in records.active)
        lines.append(
            f"  runs       {len(records.active)} in {without_password(study.uri)}, of these {trials} of trials"
        )
        for place in sorted({path.parent for path in records.artifacts.values()}):
            size = sum(bytes_in(path) for path in records.artifacts.values() if path.parent == place)
            lines.append(f"  artifacts  {size_text(size)} below {place}")
        lines += [f"             {note}" for note in study.notes]
    for path in features.paths:
        lines.append(f"features     {size_text(_store_bytes(path))} at {path}")
    lines += [f"             {note}" for note in features.notes]
    return [*lines, f"in all       {size_text(_size(studies, features))}"]


def _size(studies: Sequence[StudyFiles], features: Features) -> int:
    """Return the bytes of all that can be deleted."""
    return sum(map(_store_bytes, features.paths)) + sum(study.size for study in studies)


def _confirmed(console: Console) -> bool:
    """Ask on a terminal; elsewhere print the command that deletes."""
    if not (sys.stdin.isatty() and console.is_terminal):
        command = without_password(f"{command_line(SCRIPT)} {shlex.join(sys.argv[1:])} --yes")
        say(console, f"\nNothing is deleted. Delete it with:\n  {command}")
        return False
    try:
        confirmed = input("Delete? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        confirmed = False
    if not confirmed:
        say(console, "Nothing is deleted.")
    return confirmed


def _delete(studies: Sequence[StudyFiles], features: Features, storage: Path, console: Console) -> int:
    size = _size(studies, features)
    try:
        delete(studies, features, storage, console)
    except KeyboardInterrupt:
        say(console, "Interrupted. The same command deletes the rest.")
        return EXIT_INTERRUPTED
    except MlflowException as error:
        raise UserError(f"MLflow: {first_line(error)}. The same command deletes the rest.") from error
    say(console, f"Deleted, {size_text(size)}.")
    for study in studies:
        for line in _about_trash(study):
            say(console, line)
    return 0


def delete(studies: Sequence[StudyFiles], features: Features, storage: Path, console: Console) -> None:
    """Delete runs, artifacts, feature stores and folders, in an order that can be repeated after an interruption.

    Args:
        studies: The studies, whose folders are locked.
        features: Their feature stores.
        storage: Storage path.
        console: Where a store that stays after all is reported.

    Raises:
        MlflowException: MLflow does not answer, or refuses.
        UserError: Something still writes to a study's folder.
    """
    names = [study.folder.name for study in studies]

    def in_use(store: str) -> bool:
        users, unknown = _used_by_others(storage, names)
        return store in users or bool(unknown)

    for study in studies:
        if study.client is not None:
            study.records.delete(study.client)
    for path in features.paths:
        if not delete_store(path, partial(in_use, path.name)):
            say(console, f"{path.name} stays: a study that has just begun uses it")
    for study in studies:
        if study.folder.is_dir():
            _delete_folder(study.folder)


def _delete_folder(folder: Path) -> None:
    """Delete a study's folder, its record last, because that says where runs and features are."""
    for path in folder.iterdir():
        if path.name in (RECORD, LOCK):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if new := sorted({path.name for path in folder.iterdir()} - {RECORD, LOCK}):
        raise UserError(
            f"{str(folder / new[0])!r} was written just now, perhaps by a trial of a study that was killed. "
            "The same command deletes it, once it has ended."
        )
    (folder / RECORD).unlink(missing_ok=True)
    (folder / LOCK).unlink(missing_ok=True)
    with suppress(OSError):  # a study of the same name has just begun
        folder.rmdir()


def _about_trash(study: StudyFiles) -> list[str]:
    """Return where deleted runs are, and the command that deletes artifacts that are not on this machine."""
    name, runs = study.folder.name, study.records.runs
    if not runs:
        return []
    if not study.records.remote:
        return [f"The runs of {name} are in MLflow's trash, without artifacts; mlflow gc deletes them for good."]
    store = f"--backend-store-uri {shlex.quote(without_password(study.uri))}"
    if study.uri.startswith("http"):
        store = f"--tracking-uri {shlex.quote(without_password(study.uri))} --backend-store-uri THE-SERVERS-DATABASE"
    return [
        f"The runs of {name} are in MLflow's trash, and their artifacts stay at {study.records.remote[0]} until this:",
        f"  mlflow gc {store} --run-ids {','.join(str(run.info.run_id) for run in runs)}",
    ]
