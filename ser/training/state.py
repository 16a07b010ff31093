"""States of a training run: what is saved after an epoch, and which run it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ser.config import Config
from ser.labels import CONSENSUS, kind_of
from ser.losses import loss_class
from ser.training.task import Task
from ser.utils.errors import UserError
from ser.utils.hashing import digest

State = dict[str, Any]
"""Everything that ``ser.training.train`` resumes from: tensors, numbers and strings."""

ENCODER = "encoder"
"""Key of the settings that the state of a fine-tuned speech encoder carries: name of the file → its text."""

ARITHMETIC = "arithmetic"
"""Key of what a training was computed in (``ser.training.device.arithmetic.together``)."""

PROSE = ("definition", "note")
"""Keys of the noise manifest whose wording may differ between versions for the same labels."""


def fingerprint(config: Config, seed: int, task: Task, saved: Mapping[str, Any] | None = None) -> str:
    """Return a digest that identifies a training run.

    It covers the configuration, the seed, the labels (by their manifest) and the training utterances.

    Args:
        config: Configuration.
        seed: Seed of the training.
        task: Data.
        saved: Noise manifest of a saved run, to compare with its fingerprint: its wording is used, because an older
            version may have described the same labels in other words.
    """
    wording = {key: text for key, text in (saved or {}).items() if key in PROSE}
    # What an earlier version did not have is left out, as it was there: its runs keep their fingerprints.
    former: list[tuple[str, Any]] = [("training.deterministic", False)]
    former += [(f"loss.{key}", value) for key, value in loss_class(config.loss.name).former_defaults.items()]
    named = {key: value for key, value in config.to_dotted().items() if (key, value) not in former}
    former_kind = kind_of(task.manifest) == CONSENSUS
    manifest = {key: value for key, value in task.manifest.items() if not (key == "labels" and former_kind)}
    return digest([named, seed, manifest | wording, list(task.train.utterance_ids)])


def check_state(state: State, config: Config, seed: int, task: Task, front_end: str) -> None:
    """Check that a state belongs to a run.

    Args:
        state: State.
        config: Configuration of the run.
        seed: Seed of the run.
        task: Data of the run.
        front_end: Name of the front end that its model reads.

    Raises:
        UserError: The state belongs to another run or comes from an older version.
    """
    identity = fingerprint(config, seed, task, state["manifest"])
    if (state["fingerprint"], state["front_end"]) != (identity, front_end):
        raise UserError(
            "the checkpoint belongs to another configuration, seed, corpus, base network of a linear probe, or kind of "
            "device that computed its embeddings. Resume with the options of its run, or start a new run."
        )
    if "utterances" not in state:
        raise UserError(
            "the checkpoint was written by an older version and has no per-utterance table. Start a new run."
        )


def save_state(state: State, path: Path) -> None:
    """Write a state; a reader sees the whole file or none."""
    temporary = path.with_name(path.name + ".writing")
    torch.save(state, temporary)
    temporary.replace(path)


def load_state(path: Path) -> State:
    """Read a state without executing code from it (``weights_only``).

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"checkpoint {str(path)!r} cannot be read: {error}") from error
    return state
