"""Register the network of an MLflow run as a model: python study/register.py --run RUN_ID --name NAME.

The model maps waveforms to class probabilities. It carries the code that it runs (``ser``) and names the exact
versions of the packages that this code imports, so it loads where this project is not installed. A head on a frozen
network carries the network's files too. The model is logged to a run of its own, whose tag ``source`` names the trained
run; the record of the trained run is not changed.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from numpy.typing import NDArray
from rich.filesize import decimal

from ser.checkpoint import open_checkpoint
from ser.config import Config
from ser.models.encoders import find_encoder
from ser.models.encoders.folder import SETTINGS, weight_names
from ser.utils.command_line import parse
from ser.utils.errors import UserError, first_line
from study.schema import KIND, MODEL, Tag, in_words
from study.tracking.provenance import environment_tags
from study.tracking.store import identity
from study.tracking.trained_runs import find_trained
from study.uri import chosen_uri

# Without stage, study and trial number: readers of the records find trials by these.
COPIED_TAGS = (Tag.CORPUS, Tag.SPACE, Tag.NOISE, Tag.NOISE_RATE, Tag.LABELS, Tag.SEED, Tag.FOLD)

WAVEFORM_MODEL = Path(__file__).with_name("waveform_model.py")
"""The model's code; not imported here, because it hands a model to MLflow on import."""

BELOW = "below"
"""Artifact of a model: the folder with the files of the frozen network below its head."""

ABOUT_MODEL = (
    "Speech emotion recogniser: maps mono waveforms, (N, samples) float32, to probabilities, (N, classes). Its "
    'metadata name sample rate and classes. Load it with `mlflow.pyfunc.load_model("models:/NAME/VERSION")`.'
)
"""Description of a registered model that has none."""

REQUIREMENTS = (
    "krippendorff",
    "numpy",
    "pandas",
    "rich",
    "soundfile",
    "soxr",
    "torch",
    "torchaudio",
    "tyro",
)
"""Distributions that the code of a registered model imports, for loading and predicting; MLflow adds itself."""

FOR_ENCODERS = ("huggingface_hub", "transformers")
"""Further distributions that the code imports where the model is a speech encoder."""


@dataclass(frozen=True)
class RegisterOptions:
    """Register the network of an MLflow run as a model, with signature and input example."""

    run: str
    """MLflow run of a trial."""
    name: str
    """Name of the registered model; an existing name gets a new version."""
    tracking_uri: str | None = None
    """MLflow tracking URI; default MLFLOW_TRACKING_URI, else mlflow.db in the current folder."""


def main() -> int:
    """Run the command line and return the exit code."""
    options = parse(RegisterOptions)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ[MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.name] = "false"
    with warnings.catch_warnings(record=True):  # MLflow asks for type hints, by which it would reject arrays
        name, number, size = register(options)
    if size:
        print(f"the model carries the frozen network that its head needs, {decimal(size)}")
    print(f"registered {name}, version {number}. Load it with mlflow.pyfunc.load_model('models:/{name}/{number}')")
    return 0


def register(options: RegisterOptions) -> tuple[str, str, int]:
    """Register a model.

    Args:
        options: As on the command line.

    Returns:
        The model's name, its new version, and the bytes of the frozen network that it carries, 0 without one.

    Raises:
        UserError: The run does not exist or has no checkpoint on this machine; the network below its head is missing;
            or MLflow rejects the name.
    """
    uri = chosen_uri(options.tracking_uri)
    trained = find_trained(options.run, uri)
    checkpoint = open_checkpoint(trained.checkpoint)
    rate = checkpoint.reader.front_end.sample_rate
    carried = files_below(checkpoint.config)
    client = MlflowClient(tracking_uri=uri)
    source = client.get_run(options.run)
    run_id = _create_run(client, source.info.experiment_id, options, dict(source.data.tags))
    mlflow.set_tracking_uri(uri)
    status = "FAILED"
    try:
        with mlflow.start_run(run_id=run_id), _in_one_place(carried) as below:
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(WAVEFORM_MODEL),
                artifacts={"checkpoint": str(trained.checkpoint), **below},
                code_paths=code_paths(checkpoint.config),
                pip_requirements=requirements(checkpoint.config),
                signature=_signature(len(checkpoint.classes)),
                input_example=_tone(rate),
                metadata={"sample_rate": rate, "classes": list(checkpoint.classes), "source": options.run},
                registered_model_name=options.name,
            )
        _describe(client, options, dict(source.data.tags), logged.registered_model_version)
        # Two versions of a model are two runs.
        client.set_tag(run_id, MLFLOW_RUN_NAME, f"model {options.name} version {logged.registered_model_version}")
        status = "FINISHED"
    except (MlflowException, OSError) as error:
        raise UserError(f"run {options.run!r} cannot be registered as {options.name!r}: {first_line(error)}") from None
    finally:
        with suppress(MlflowException):  # the run may have been deleted meanwhile, and its status is no result
            client.set_terminated(run_id, status)
    return options.name, str(logged.registered_model_version), sum(path.stat().st_size for path in carried)


def files_below(config: Config) -> list[Path]:
    """Return the files of the frozen network that a head needs, with its weights; none for other networks.

    Args:
        config: Configuration of the model.

    Raises:
        UserError: They are not available.
    """
    model = config.model
    if not model.reads_embeddings:
        return []
    if not model.is_encoder:
        return [Path(model.pretrained)]
    folder = find_encoder(model.name, model.encoder.revision).folder
    names = {path.name for path in folder.iterdir()}
    return [folder / name for name in (*SETTINGS, *weight_names(names)) if name in names]


@contextmanager
def _in_one_place(files: list[Path]) -> Iterator[dict[str, str]]:
    """Return the artifact of a model that consists of files; a folder of an encoder may hold others too."""
    if not files:
        yield {}
        return
    with tempfile.TemporaryDirectory() as name:
        for file in files:
            (Path(name) / file.name).symlink_to(file.resolve())
        yield {BELOW: name}


def requirements(config: Config) -> list[str]:
    """Return the requirements of a registered model, with the versions that are installed here.

    Local version suffixes such as ``+cpu`` are left out: the package index has only versions without them.

    Args:
        config: Configuration of the model.
    """
    names = sorted({*REQUIREMENTS, *(FOR_ENCODERS if config.model.is_encoder else ())})
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


def code_paths(config: Config) -> list[str]:
    """Return the folders and files of code that a network needs.

    Args:
        config: Its configuration.

    Returns:
        The package ``ser``, and the packages or modules of a loss, model or front end that is given by import path.
    """
    names = (config.loss.name, config.model.name, config.model.front_end)
    modules = {"ser", *(name.partition(".")[0] for name in names if "." in name)}
    return [_source(sys.modules[name]) for name in sorted(modules)]


def _source(module: ModuleType) -> str:
    """Return the folder of a package, or the file of a module."""
    return str(next(iter(module.__path__)) if hasattr(module, "__path__") else module.__file__)


def _signature(classes: int) -> ModelSignature:
    return ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), (-1, -1))]),
        Schema([TensorSpec(np.dtype(np.float64), (-1, classes))]),
    )


def _tone(rate: int) -> NDArray[np.float32]:
    """Return a second of a 220 Hz tone, (1, rate)."""
    return (0.1 * np.sin(2 * np.pi * 220 * np.arange(rate) / rate)).astype(np.float32)[None]


def _describe(client: MlflowClient, options: RegisterOptions, tags: Mapping[str, str], number: Any) -> None:
    """Describe a version by the trained run, and the model if it has no description."""
    about = ", ".join(f"{name} {tags[name]}" for name in (Tag.CORPUS, Tag.NOISE, Tag.STUDY) if name in tags)
    method = in_words(tags[Tag.SPACE]) if Tag.SPACE in tags else "unknown method"
    client.update_model_version(
        options.name, str(number), f"Trained by {method}; {about}. Its scores are those of run {options.run}."
    )
    if not client.get_registered_model(options.name).description:
        client.update_registered_model(options.name, ABOUT_MODEL)


def _create_run(client: MlflowClient, experiment: str, options: RegisterOptions, tags: dict[str, str]) -> str:
    """Create the model's own run, which names the trained one."""
    known = {name: tags[name] for name in COPIED_TAGS if name in tags}
    about = {KIND: MODEL, Tag.SOURCE: options.run, **identity(f"model {options.name}"), **environment_tags()}
    run_id = str(client.create_run(experiment, tags={**known, **about}).info.run_id)
    client.set_tag(run_id, MLFLOW_RUN_NAME, f"model {options.name}, not registered: {run_id[:8]}")
    return run_id
