"""Archived studies: files of a study, its MLflow database and artifacts, unpacked below another folder."""

import sqlite3
import tarfile

PATH_COLUMNS = (
    ("runs", "artifact_uri"),
    ("tags", "value"),
    ("logged_models", "artifact_location"),
    ("experiments", "artifact_location"),
    ("model_versions", "storage_location"),
)


def unpack(archive, folder, written_below):
    """Unpack an archive whose paths begin with ``written_below``, and let them begin with ``folder``."""
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    for path in folder.rglob("*"):
        if path.suffix in {".json", ".jsonl", ".yaml"} or path.name == "MLmodel":
            path.write_text(path.read_text(encoding="utf-8").replace(written_below, str(folder)), encoding="utf-8")
    with sqlite3.connect(folder / "mlflow.db") as database:
        for table, column in PATH_COLUMNS:
            database.execute(f"update {table} set {column} = replace({column}, ?, ?)", (written_below, str(folder)))
    return folder
