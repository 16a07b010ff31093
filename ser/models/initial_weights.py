"""Initial weights by name or file: the option ``--pretrained``, and the defaults of fine-tuning that come with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.models import model_class
from ser.models.encoders import PREFIX, is_encoder
from ser.models.linear_probe import LINEAR_PROBE
from ser.utils.errors import UserError, shown, unknown_name
from ser.utils.hashing import file_digest

if TYPE_CHECKING:
    from rich.console import Console

    from ser.models.fetch import Weights

FOLDER = "weights"
"""Name of the folder of downloaded weights."""

PRETRAINED = "model.pretrained"

BASE_LR_FACTOR = 0.1
"""Factor on the learning rate of all layers but the new class head: 1e-3, with which PANNs are trained from scratch,
becomes 1e-4, with which their authors fine-tune all layers of CNN14 for a task of other classes.

Source: Kong et al. 2020, "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", IEEE/ACM
TASLP 28 (arXiv 1912.10211), which fine-tunes all layers on six tasks, RAVDESS among them; the rate of 1e-4 is that of
their code, github.com/qiuqiangkong/panns_transfer_to_gtzan.
"""


@dataclass(frozen=True)
class InitialWeights:
    """The weights that ``--pretrained`` names.

    Args:
        given: A key of ``ser.models.fetch.WEIGHTS``, or the path of a file.
        folder: Folder of downloaded weights.
    """

    given: str
    folder: Path

    @property
    def published(self) -> Weights | None:
        """Return the published weights, None for a file of the user's own."""
        from ser.models.fetch import WEIGHTS  # takes a third of a second

        return WEIGHTS.get(self.given)

    @property
    def path(self) -> Path:
        """Return the path of the file, which need not be there yet if it is published."""
        return Path(self.given) if self.published is None else self.folder / self.published.file.name

    @property
    def model(self) -> str | None:
        """Return the name of the network that published weights belong to; None for a file of the user's own."""
        return None if self.published is None else self.published.model

    def defaults(self, model: str) -> dict[str, Any]:
        """Return the defaults that come with the weights, which override those of the corpus, under dotted names.

        Args:
            model: ``model.name`` of the trials.

        Example:
            >>> InitialWeights("cnn14", Path("weights")).defaults("cnn14")  # doctest: +NORMALIZE_WHITESPACE
            {'model.width': 1.0, 'model.dropout': 1.0, 'model.front_end': 'panns_32k',
             'optimizer.base_lr_factor': 0.1}
        """
        found: dict[str, Any] = {"model.width": 1.0, "model.dropout": 1.0}
        if self.published is not None:
            found["model.front_end"] = self.published.front_end
            if model == LINEAR_PROBE:
                found["model.base"] = self.published.model
        return found if model == LINEAR_PROBE else {**found, "optimizer.base_lr_factor": BASE_LR_FACTOR}

    def in_words(self, model: str, given: Collection[str]) -> str:
        """Return the weights and the defaults that come with them in one line.

        Args:
            model: ``model.name`` of the trials.
            given: Dotted names that are given and override the defaults.

        Example:
            >>> InitialWeights("cnn14", Path("weights")).in_words("cnn14", {"model.dropout", "model.front_end"})
            'weights   cnn14; defaults with it, which --set overrides: model.width=1.0 optimizer.base_lr_factor=0.1'
        """
        values = [f"{key}={value}" for key, value in self.defaults(model).items() if key not in given]
        return f"weights   {self.given}; defaults with it, which --set overrides: {' '.join(values) or 'none'}"

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise if a configuration contradicts the weights, before they are downloaded.

        Args:
            values: Dotted names and values of all trials; what they leave out is the default of the weights.

        Raises:
            UserError: The network is a speech encoder, which has weights of its own, or published weights belong to
                another network, width or front end.
        """
        name = str(values["model.name"])
        if is_encoder(name):
            raise UserError(
                f"--pretrained {self.given}: model.name is {name}, a speech encoder, whose weights come from its own "
                "folder or the hub. Leave --pretrained out."
            )
        if self.published is None:
            return
        wanted = {"model.width": 1.0, "model.front_end": self.published.front_end}
        wanted["model.base" if name == LINEAR_PROBE else "model.name"] = self.published.model
        found = {key: values.get(key, value) for key, value in wanted.items()}
        if found["model.front_end"] == "auto":
            found["model.front_end"] = model_class(self.published.model).front_end
        if other := [f"{key} is {value}" for key, value in found.items() if value != wanted[key]]:
            raise UserError(
                f"--pretrained {self.given}: these are weights of {self.published.model} at width 1 on front end "
                f"{self.published.front_end}, but {' and '.join(other)}. Leave that out, or choose other weights."
            )

    def obtain(self, console: Console) -> None:
        """Download published weights if they are not there, and check that they are those that were published.

        Args:
            console: Where progress is shown.

        Raises:
            UserError: As for ``ser.models.fetch.download``.
        """
        if self.published is not None:
            from ser.models.fetch import download

            download(self.given, self.path, console)

    @property
    def download_in_words(self) -> str:
        """Return what the download of published weights would be, for people; empty if there is nothing to download."""
        if self.published is None or self.path.exists():
            return ""
        from ser.models.fetch import PAGE, TERMS, size_in_words

        return f"{self.published.file.name}, {size_in_words(self.given)}, from {PAGE} to {self.path}. {TERMS}"


def name_or_path(given: str) -> str:
    """Return the value of ``--pretrained`` as it is recorded: the name of published weights, or an absolute path.

    Args:
        given: The value as given.

    Raises:
        UserError: It is neither the name of published weights nor a file.

    Example:
        >>> name_or_path("cnn14_16k")
        'cnn14_16k'
    """
    from ser.models.fetch import WEIGHTS

    if given in WEIGHTS:
        return given
    if is_encoder(given):
        raise UserError(
            f"--pretrained {given} is a speech encoder, which is a network with its weights: --model {given}"
        )
    try:
        path = Path(given).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"--pretrained {shown(given)}: {error}") from error
    if path.is_dir():
        raise UserError(
            f"--pretrained {shown(given)} is a folder, expected a file of weights. A speech encoder in a folder is "
            f"named by --model {PREFIX}{given}"
        )
    if not path.exists():
        reason = unknown_name("weights", given, WEIGHTS)
        raise UserError(f"--pretrained {shown(given)}: there is no such file. As a name: {reason}")
    return str(path)


def weights_digest(path: Path) -> str:
    """Compute the digest of a file of weights.

    Args:
        path: File.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return file_digest(path)
    except OSError as error:
        raise UserError(
            f"weights {str(path)!r} cannot be read: {error.strerror or error}. Check {PRETRAINED}."
        ) from error
