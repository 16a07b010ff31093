"""Trained models from saved training states: configuration, classes, predictions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser.config import Config, stored
from ser.corpora import Corpus
from ser.features.front_ends import Compute, Extractor, FrontEnd
from ser.features.store import FeatureStore, is_stored
from ser.models import Classifier
from ser.models.encoders import PREFIX, EncoderFiles
from ser.models.encoders.folder import SETTINGS
from ser.models.encoders.source import carried
from ser.training.batches import crop_frames
from ser.training.device.arithmetic import Arithmetic, device_kind, inference_arithmetic
from ser.training.device.features import DeviceFeatures
from ser.training.embeddings import device_of, extractor
from ser.training.evaluation import SegmentedUtterances, predict
from ser.training.state import ENCODER, fingerprint, load_state
from ser.training.task import Task
from ser.utils.command_names import command_line
from ser.utils.errors import UserError

_KEYS = ("fingerprint", "epoch", "model", "config", "seed", "manifest")
_MANIFEST_KEYS = ("classes", "corpus", "corpus_digest", "level", "seed")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Trained model, as saved after an epoch.

    Args:
        path: File.
        config: Configuration of the training.
        manifest: Manifest of the training labels, as in ``ser.noise.NoisyLabels``.
        seed: Seed of the training.
        epoch: Epoch after which the model was saved.
        model: Network, on ``device``.
        device: Device that predicts.
        fingerprint: Digest of configuration, seed, labels and training rows.
        front_end: Name of the front end that the model was trained on.
    """

    path: Path
    config: Config
    manifest: Mapping[str, Any]
    seed: int
    epoch: int
    model: Classifier
    device: torch.device
    fingerprint: str
    front_end: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the C class names, in the order of the outputs."""
        return tuple(self.manifest["classes"])

    @cached_property
    def reader(self) -> Extractor:
        """Return the front end that the model reads; embeddings are computed on ``device``.

        Raises:
            UserError: The files of the network below a head are not available.
        """
        return extractor(self.config, device_kind(self.device))

    def reader_of(self, corpus: Corpus, folder: Path) -> Extractor:
        """Return the front end of the training if the corpus's features of it are stored, else ``reader``.

        The two differ for embeddings that were computed on another kind of device than ``device``.

        Args:
            corpus: The corpus.
            folder: Folder of the feature stores.

        Raises:
            UserError: The files of the network below a head are not available.
        """
        trained = extractor(self.config, device_of(self.front_end))
        if trained.front_end == self.reader.front_end or not is_stored(corpus, trained.front_end, folder):
            return self.reader
        return trained

    def warnings(self, front_end: FrontEnd) -> list[str]:
        """Return a line for people if a head reads embeddings of another kind of device than it was trained on.

        Args:
            front_end: Front end that it reads now.
        """
        trained, read = device_of(self.front_end), device_of(front_end.name)
        if trained == read:
            return []
        names = {"cpu": "a CPU", "cuda": "a GPU"}
        return [
            f"warning: the head was trained on embeddings that {names[trained]} computed, and reads those that "
            f"{names[read]} computes, whose arithmetic differs; the probabilities may differ slightly"
        ]

    @cached_property
    def compute(self) -> Compute:
        """Return the function from a waveform to the front end's frames; a network below the head is loaded once.

        Raises:
            UserError: The files of the network below a head are not available, or do not fit it.
        """
        return self.reader.load()

    def predict(self, store: FeatureStore, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Predict class probabilities as in validation: the mean over the segments of each utterance.

        Args:
            store: Feature store with the front end of ``reader``.
            rows: (n,) utterances.

        Returns:
            (n, C) float64, rows sum to 1.

        Raises:
            UserError: The predictions are not finite.
        """
        arithmetic = inference_arithmetic(self.config, self.device)
        arithmetic.apply()
        found = predict(self.model, self._segmented(store, rows), arithmetic.autocast())
        if not np.isfinite(found).all():
            raise UserError(
                f"checkpoint {str(self.path)!r} gives predictions that are not finite, because its "
                "training diverged. Train again with a smaller optimizer.lr."
            )
        return found

    def embed(self, store: FeatureStore, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compute embeddings, the input of the class head, in float32: the mean over the segments of each utterance.

        Args:
            store: Feature store with the front end of ``reader``.
            rows: (n,) utterances.

        Returns:
            (n, E) float64.
        """
        Arithmetic(device_kind(self.device), "float32").apply()

        @torch.no_grad()
        def compute(batch: Tensor, lengths: Tensor | None) -> Tensor:
            return self.model.embed(batch, lengths)

        return self._segmented(store, rows).mean(compute, with_lengths=self.model.masks_padding)

    def _segmented(self, store: FeatureStore, rows: NDArray[np.int64]) -> SegmentedUtterances:
        frames = crop_frames(self.config.training.crop_seconds, store.front_end)
        return SegmentedUtterances(DeviceFeatures(store, self.device), rows, frames)

    def check_corpus(self, corpus: Corpus) -> None:
        """Check that a corpus is that of the training: its name, classes and all columns of the table.

        Raises:
            UserError: The corpora differ; the message names the first difference.
        """
        known = self.manifest
        if known["corpus"] != corpus.name:
            raise self._foreign(f"was trained on corpus {known['corpus']!r}, not {corpus.name!r}")
        if self.classes != corpus.classes:
            raise self._foreign(
                f"has {len(self.classes)} classes ({', '.join(self.classes)}), and corpus {corpus.name!r} has "
                f"{len(corpus.classes)} ({', '.join(corpus.classes)})"
            )
        if known["corpus_digest"] != corpus.digest:
            raise self._foreign(
                f"was trained on corpus {corpus.name!r} with other rows, labels or votes (digest "
                f"{known['corpus_digest']}, not {corpus.digest})"
            )

    def check_task(self, task: Task) -> None:
        """Check that a fold is that of the training.

        Args:
            task: Task of the fold, at the noise level and seed of the checkpoint.

        Raises:
            UserError: Training rows or labels differ.
        """
        if self.fingerprint != fingerprint(self.config, self.seed, task, self.manifest):
            raise self._foreign("was trained on other rows or labels of this corpus")

    def _foreign(self, difference: str) -> UserError:
        return UserError(
            f"checkpoint {str(self.path)!r} {difference}. Pass the same --corpus, --corpus-root, --corpus-options, "
            "--classes, --exclude, --split-by, --fold and --validation as in its training."
        )


def open_checkpoint(path: Path, below: Path | None = None) -> Checkpoint:
    """Open the ``state.pt`` of ``python -m ser.train``, without executing code from it.

    The model is on the GPU if there is one. The state of a fine-tuned speech encoder is complete; one of a head on a
    frozen network needs that network's files as soon as it reads audio.

    Args:
        path: File.
        below: For a head on a frozen network, the folder that holds the network's files: those of a speech encoder, or
            the weights of a linear probe's base alone. None for where the configuration names them.

    Raises:
        UserError: The file is missing, damaged, or not a training state; or what it needs is missing.
    """
    state: Any = load_state(path)
    if not isinstance(state, dict) or (missing := [key for key in _KEYS if key not in state]):
        lacking = f"it lacks {', '.join(missing)}" if isinstance(state, dict) else f"it holds a {type(state).__name__}"
        raise UserError(
            f"checkpoint {str(path)!r} is not a training state ({lacking}). Pass the state.pt that "
            f"{command_line('ser.train')} wrote; a file of weights alone does not contain the configuration."
        )
    try:
        with _encoder_at_hand(state, below):
            config = Config.from_dotted(stored(state["config"]))
            if below is not None and not config.model.is_encoder:
                (weights,) = below.iterdir()
                config = replace(config, model=replace(config.model, pretrained=str(weights)))
            classes, *_ = (state["manifest"][key] for key in _MANIFEST_KEYS)
            model = config.model.build(len(classes))
            model.load_state_dict(state["model"])
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            known = {key: state[key] for key in ("manifest", "seed", "epoch", "fingerprint")}
            front_end = state.get("front_end", "")
            checkpoint = Checkpoint(
                path=path, config=config, model=model.eval(), device=device, front_end=front_end, **known
            )
            if config.model.reads_embeddings and extractor(config, device_of(front_end)).front_end.name != front_end:
                raise UserError(
                    f"its head was trained on embeddings of other weights than those now in "
                    f"{config.model.pretrained or config.model.name!r}. Restore that file."
                )
            if below is not None:
                _ = checkpoint.compute  # while the files are available
            return checkpoint
    except UserError as error:
        raise UserError(f"checkpoint {str(path)!r}: {error}") from error
    except (RuntimeError, TypeError, LookupError, AttributeError, ValueError) as error:
        first = str(error).strip().splitlines()[:2]
        raise UserError(f"checkpoint {str(path)!r} does not fit its own configuration: {' '.join(first)}") from error


@contextmanager
def _encoder_at_hand(state: Mapping[str, Any], below: Path | None) -> Iterator[None]:
    """Let a speech encoder's files be found in the block where they came with a state, or in a given folder."""
    name, revision = (str(state["config"].get(f"model.{key}", "")) for key in ("name", "revision"))
    texts = state.get(ENCODER, {})
    if not name.startswith(PREFIX) or not (texts or below):
        yield
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = below or Path(temporary)
        for file in SETTINGS if below is None else ():  # no other names, because anyone may have written the state
            if file in texts:
                (folder / file).write_text(texts[file], encoding="utf-8")
        files = EncoderFiles(name.removeprefix(PREFIX), folder, revision)
        _ = files.settings  # kept for an export, which reads them when the temporary folder is gone
        with carried(files):
            yield
