"""Registers what a run has trained as a model in MLflow: python study/register.py --run RUN_ID --name NAME.

The model takes waveforms and gives class probabilities. It is logged to a run of its own, which the tag ``source``
links to the trained one, whose record stays as it is.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from ser.checkpoint import open_checkpoint
from ser.training.embeddings import extractor
from ser.utils.command_line import parse
from ser.utils.errors import UserError
from study.messages import first_line
from study.schema import KIND, MODEL, Tag
from study.tracking.store import DEFAULT_URI, absolute_uri, environment_tags, identity, open_client
from study.tracking.trained_runs import find_trained

# Not the stage, the study and the trial's number, by which readers know trials.
COPIED = (Tag.CORPUS, Tag.SPACE, Tag.NOISE, Tag.NOISE_RATE, Tag.SEED, Tag.FOLD)


@dataclass(frozen=True)
class RegisterOptions:
    """Registers the network of an MLflow run as a model, with signature and input example."""

    run: str
    """MLflow run of a trial."""
    name: str
    """The registered model's name; a name that is there gets a new version."""
    tracking_uri: str = DEFAULT_URI
    """MLflow tracking URI."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse(RegisterOptions)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ[MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.name] = "false"
    name, number = register(options)
    print(f"registered {name}, version {number}. Load it with mlflow.pyfunc.load_model('models:/{name}/{number}')")
    return 0


def register(options: RegisterOptions) -> tuple[str, str]:
    """Registers a model.

    Args:
        options: As on the command line.

    Returns:
        The model's name and the new version.

    Raises:
        UserError: No such run, one without a checkpoint on this machine, a network that cannot stand alone, or a name
            that MLflow refuses.
    """
    uri = absolute_uri(options.tracking_uri)
    trained = find_trained(options.run, options.tracking_uri)
    checkpoint = open_checkpoint(trained.checkpoint)
    if checkpoint.config.model.reads_embeddings:
        raise UserError(
            f"run {options.run!r} has trained a head on embeddings of {checkpoint.config.model.pretrained!r}; without "
            "that file it predicts nothing, so it is not registered."
        )
    rate = extractor(checkpoint.config).front_end.sample_rate
    client = open_client(uri)
    source = client.get_run(options.run)
    run_id = _begin(client, source.info.experiment_id, options, dict(source.data.tags))
    mlflow.set_tracking_uri(uri)
    example = (0.1 * np.sin(2 * np.pi * 220 * np.arange(rate) / rate)).astype(np.float32)[None]
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), (-1, -1))]),
        Schema([TensorSpec(np.dtype(np.float64), (-1, len(checkpoint.classes)))]),
    )
    status = "FAILED"
    try:
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("waveform_model.py")),
                artifacts={"checkpoint": str(trained.checkpoint)},
                signature=signature,
                input_example=example,
                pip_requirements=[f"ambivalent=={version('ambivalent')}"],
                metadata={"sample_rate": rate, "classes": list(checkpoint.classes), "source": options.run},
                registered_model_name=options.name,
            )
        status = "FINISHED"
    except (MlflowException, OSError) as error:
        raise UserError(
            f"run {options.run!r} could not be registered as {options.name!r}: {first_line(error)}"
        ) from None
    finally:
        client.set_terminated(run_id, status)
    return options.name, str(logged.registered_model_version)


def _begin(client: MlflowClient, experiment: str, options: RegisterOptions, tags: dict[str, str]) -> str:
    """The model's own run, which names the trained one."""
    known = {name: tags[name] for name in COPIED if name in tags}
    about = {KIND: MODEL, Tag.SOURCE: options.run, **identity(f"model {options.name}"), **environment_tags()}
    return str(client.create_run(experiment, tags={**known, **about}).info.run_id)
