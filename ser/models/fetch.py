"""Download of the published weights of PANNs: python -m ser.models fetch cnn14_16k --output PATH."""

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

from ser.utils.command_names import command_line
from ser.utils.download import RemoteFile, obtain
from ser.utils.errors import UserError, unknown_name
from ser.utils.output_files import check_room

PAGE = "https://zenodo.org/records/3987831"
TERMS = "CC BY 4.0: free use with attribution"


@dataclass(frozen=True)
class FetchOptions:
    """Download published weights and check them."""

    name: tyro.conf.Positional[str]
    """Weights: cnn14_16k, cnn14, cnn10 or cnn6. All except the first are for 32 kHz."""
    output: Path
    """File to write, or existing folder."""


@dataclass(frozen=True)
class Weights:
    """Published file of weights.

    Args:
        model: The network that they fit, by name.
        front_end: The front end that they were trained with, by name.
        file: The file on the server.
    """

    model: str
    front_end: str
    file: RemoteFile


def _zenodo(name: str, size: int | None, md5: str) -> RemoteFile:
    return RemoteFile(name, f"{PAGE}/files/{name.replace('=', '%3D')}", size, f"md5:{md5}")


# MD5 and size are those of the record at Zenodo, as quoted by several public projects that agree. None of them gives
# the size of the file of CNN6.
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
"""The weights that can be downloaded: name → file."""


def fetch(name: str, output: str | Path, console: Console | None = None) -> Path:
    """Download published weights, check them, and print the command that uses them.

    An interrupted download resumes where it stopped. A complete file is not downloaded again.

    Args:
        name: A key of ``WEIGHTS``.
        output: File to write, or existing folder, in which the file has its published name.
        console: Console for progress.

    Returns:
        Absolute path of the file.

    Raises:
        UserError: If the name is unknown, or as for ``download``.
    """
    if name not in WEIGHTS:
        raise unknown_name("weights", name, WEIGHTS)
    weights, console = WEIGHTS[name], console or Console()
    try:
        target = Path(output).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"--output {str(output)!r}: {error}") from error
    if target.is_dir():
        target /= weights.file.name
    download(name, target, console)
    console.out(f"{target} is complete and has the published checksum.", highlight=False)
    settings = f"model.name={weights.model} model.front_end={weights.front_end}"
    chosen = f"--pretrained {shlex.quote(str(target))} --set {settings}"
    console.out(f"Next: {command_line('ser.train')} {chosen}", highlight=False)
    return target


def download(name: str, target: Path, console: Console) -> None:
    """Download published weights unless they are there, check them, and move the complete file into place.

    Args:
        name: A key of ``WEIGHTS``.
        target: Absolute path of the file.
        console: Console for progress.

    Raises:
        UserError: If another file has the same path, the disk is full, the server does not deliver, the checksum is
            wrong, or another process downloads the same weights into the same folder.
    """
    file = WEIGHTS[name].file
    pooch.get_logger().setLevel("WARNING")
    try:
        if not target.exists():
            console.out(f"{file.name}: {PAGE}, {size_in_words(name)}. {TERMS}.", highlight=False)
            _download(name, file, target, console)
        elif f"md5:{pooch.file_hash(str(target), alg='md5')}" != file.checksum:
            raise UserError(
                f"{str(target)!r} exists and is not {file.name}: its checksum is another one. Move it away, or choose "
                "another path."
            )
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{str(target)!r}: the disk is full. Free space and run the command again.") from error
        raise UserError(
            f"{str(target)!r} cannot be written: {error.strerror or error}. Choose another path."
        ) from error


def size_in_words(name: str) -> str:
    """Return the size of a published file.

    Example:
        >>> size_in_words("cnn14_16k"), size_in_words("cnn6")
        ('358.7 MB', 'size not published')
    """
    size = WEIGHTS[name].file.size
    return "size not published" if size is None else decimal(size)


def _download(name: str, file: RemoteFile, target: Path, console: Console) -> None:
    work = target.parent / f".fetching-{name}"
    work.mkdir(parents=True, exist_ok=True)
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    by_hand = f"Without a network: download {file.name} from {PAGE} elsewhere and save it as {str(target)!r}."
    try:
        with FileLock(work / "lock", blocking=False), bars:
            held = sum(path.stat().st_size for path in work.rglob("*"))
            check_room(work, (file.size or 0) - held)
            obtain([file], work, bars, by_hand)
            (work / file.name).replace(target)
    except Timeout as error:
        raise UserError(
            f"{str(target.parent)!r}: another process is downloading {name!r} there. Wait for it to end."
        ) from error
    shutil.rmtree(work)
