"""Downloads PANNs' published weights: python -m ser.models fetch cnn14_16k --output PATH."""

from __future__ import annotations

import errno
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pooch
import tyro
from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from ser.utils.download import RemoteFile, check_room, obtain
from ser.utils.errors import UserError, unknown_name

PAGE = "https://zenodo.org/records/3987831"
TERMS = "CC BY 4.0: free use with attribution"


@dataclass(frozen=True)
class FetchOptions:
    """Downloads published weights and checks them."""

    name: tyro.conf.Positional[str]
    """Weights: cnn14_16k, cnn14, cnn10 or cnn6; all but the first are for 32 kHz."""
    output: Path
    """File to write, or a folder."""


@dataclass(frozen=True)
class Weights:
    """A published file of weights.

    Args:
        model: The model that they fit.
        front_end: The front end that they were trained on.
        file: Where they are.
    """

    model: str
    front_end: str
    file: RemoteFile


def _zenodo(name: str, size: int | None, md5: str) -> RemoteFile:
    return RemoteFile(name, f"{PAGE}/files/{name.replace('=', '%3D')}", size, f"md5:{md5}")


# MD5 and size are those of Zenodo's record, taken over from public projects that quote it and agree; the size of
# CNN6's file was not to be found.
WEIGHTS = {
    "cnn14_16k": Weights(
        "cnn14", "panns_16k", _zenodo("Cnn14_16k_mAP=0.438.pth", 358_668_570, "362fc5ff18f1d6ad2f6d464b45893f2c")
    ),
    "cnn14": Weights(
        "cnn14", "panns_32k", _zenodo("Cnn14_mAP=0.431.pth", 327_428_481, "541141fa2ee191a88f24a3219fff024e")
    ),
    "cnn10": Weights(
        "cnn10", "panns_32k", _zenodo("Cnn10_mAP=0.380.pth", 25_237_595, "bfb1f1f9968938fa8ef4012b8471f5f6")
    ),
    "cnn6": Weights("cnn6", "panns_32k", _zenodo("Cnn6_mAP=0.343.pth", None, "e25e26b84585b14c7754c91e48efc9be")),
}
"""The weights that can be fetched."""


def fetch(name: str, output: str | Path, console: Console | None = None) -> Path:
    """Downloads published weights, checks them, and moves them into place whole.

    An interrupted download goes on where it stopped; a file that is there and right is not downloaded again.

    Args:
        name: One of ``WEIGHTS``.
        output: The file to write, or a folder, in which it gets its published name.
        console: Where progress is shown.

    Returns:
        The file, absolute.

    Raises:
        UserError: An unknown name, another file in the way, no room, a server that does not deliver, a wrong
            checksum, or another process that fetches the same weights into the same folder.
    """
    if name not in WEIGHTS:
        raise unknown_name("weights", name, WEIGHTS)
    weights, console = WEIGHTS[name], console or Console()
    pooch.get_logger().setLevel("WARNING")

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    try:
        target = Path(output).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"--output {str(output)!r}: {error}") from error
    if target.is_dir():
        target /= weights.file.name
    try:
        if not target.exists():
            size = "" if weights.file.size is None else f", {decimal(weights.file.size)}"
            say(f"{weights.file.name}: {PAGE}{size}. {TERMS}.")
            _download(name, weights.file, target, console)
        elif f"md5:{pooch.file_hash(str(target), alg='md5')}" != weights.file.checksum:
            raise UserError(f"{str(target)!r} is there already and is not {weights.file.name}. Move it away.")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"the disk of {str(target)!r} is full. Make room, and run the same again.") from error
        raise UserError(f"--output {str(target)!r} cannot be written: {error.strerror or error}.") from error
    say(f"{target} is complete and as published.")
    settings = f"model.name={weights.model} model.front_end={weights.front_end}"
    say(f"Next: python -m ser.train --set {settings} {shlex.quote(f'model.pretrained={target}')}")
    return target


def _download(name: str, file: RemoteFile, target: Path, console: Console) -> None:
    work = target.parent / f".fetching-{name}"
    work.mkdir(parents=True, exist_ok=True)
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    try:
        with FileLock(work / "lock", blocking=False), bars:
            held = sum(path.stat().st_size for path in work.rglob("*"))
            check_room(work, (file.size or 0) - held)
            obtain([file], work, bars, f"See {PAGE}")
            (work / file.name).replace(target)
    except Timeout as error:
        raise UserError(f"{name!r} is being fetched into {str(target.parent)!r} by another process.") from error
    shutil.rmtree(work)
