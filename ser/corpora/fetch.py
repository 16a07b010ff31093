"""Download of the corpora whose licence allows it: python -m ser.corpora fetch ravdess --root PATH."""

from __future__ import annotations

import errno
import hashlib
import json
import shlex
import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pooch
import tyro
from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from ser.audio import LFS_POINTER
from ser.corpora.registry import FORMATS, check_name
from ser.utils.command_names import command_line
from ser.utils.download import AGAIN, RemoteFile, obtain
from ser.utils.errors import UserError
from ser.utils.output_files import check_room

_ARCHIVE = "archive.zip"


@dataclass(frozen=True)
class FetchOptions:
    """Download a corpus, verify it, and unpack it."""

    name: tyro.conf.Positional[str]
    """Corpus: ravdess, emodb or crema-d."""
    root: Path
    """Folder to download into; created if missing."""


@dataclass(frozen=True)
class Download:
    """Files of a corpus on a server.

    Args:
        title: The corpus, and which of its files.
        page: The web page of the corpus.
        terms: The licence and its main terms.
        size: Total download size in bytes.
        archive: A ZIP file.
        folder: The leading folder within the archive, removed on unpacking; ends in ``/`` unless empty.
        members: Prefixes of the paths (without ``folder``) that belong to the corpus.
        content: If the archive has Git LFS pointers: the URL to which the path of a pointer is appended.
        listing: With ``content``: the SHA-256 of the sorted lines ``PATH SHA256 SIZE`` of the members, where a
            pointer counts as the file that it points to.
        advice: What to do if the server refuses.
    """

    title: str
    page: str
    terms: str
    size: int
    archive: RemoteFile
    folder: str = ""
    members: tuple[str, ...] = ("",)
    content: str | None = None
    listing: str | None = None
    advice: str = ""

    @property
    def version(self) -> str | None:
        """Return a checksum that identifies the content of the corpus."""
        return self.listing or self.archive.checksum


def _zenodo(path: str, size: int, md5: str) -> RemoteFile:
    """Return an archive on Zenodo, with size and MD5 as listed in its record."""
    return RemoteFile(_ARCHIVE, f"https://zenodo.org/records/{path}", size, f"md5:{md5}")


_CREMA_D = "CheyneyComputerScience/CREMA-D"
_CREMA_D_COMMIT = "1658cd342dff90010aa843eaeebd53610a08b1dc"

DOWNLOADS = {
    "ravdess": Download(
        title="RAVDESS, the actors' speech",
        page="https://zenodo.org/records/1188976",
        terms="CC BY-NC-SA 4.0: non-commercial use only, with attribution",
        size=208_468_073,
        archive=_zenodo("1188976/files/Audio_Speech_Actors_01-24.zip", 208_468_073, "bc696df654c87fed845eb13823edef8a"),
    ),
    # The 535 clips of the publication; release 2.0 adds clips that fewer than 80 % of the listeners recognised.
    "emodb": Download(
        title="EmoDB 1.3.0",
        page="https://zenodo.org/records/7447302",
        terms="CC BY 4.0: free use with attribution",
        size=39_981_818,
        archive=_zenodo("7447302/files/emodb.zip", 39_981_818, "9d21362dbc5676ef3ab4745d83ced0db"),
        folder="emodb/",
    ),
    # GitHub's ZIP file of the commit holds the tables and, for each recording, a pointer with its SHA-256 and size.
    "crema-d": Download(
        title="CREMA-D, the voices with their votes",
        page=f"https://github.com/{_CREMA_D}",
        terms="Open Database License 1.0: attribution, adapted databases under the same licence; "
        "the authors ask users to fill in the form linked on that page",
        size=605_899_936 + 24_000_000,
        archive=RemoteFile(_ARCHIVE, f"https://github.com/{_CREMA_D}/archive/{_CREMA_D_COMMIT}.zip", None, None),
        folder=f"CREMA-D-{_CREMA_D_COMMIT}/",
        members=("AudioWAV/", "LICENSE.txt", "VideoDemographics.csv", "processedResults/tabulatedVotes.csv"),
        content=f"https://media.githubusercontent.com/media/{_CREMA_D}/{_CREMA_D_COMMIT}/",
        listing="3c650927156f0ee6465bf6472a28e6cf156b143e38df1e0457cef44ef073e47b",
        advice="GitHub limits the downloads of this repository at times. Clone the authors' mirror with Git LFS: "
        "https://gitlab.com/cs-cooper-lab/crema-d-mirror",
    ),
}
"""The corpora that can be downloaded."""

_IEMOCAP = (
    "its licence requires each group to request it. Fill in the form at "
    "https://sail.usc.edu/iemocap/iemocap_release.htm (SAIL, University of Southern California)"
)
NOT_FETCHED = {
    "synthetic": "it is generated, so there is nothing to fetch",
    **dict.fromkeys(FORMATS, "it stands for data of your own, so there is nothing to fetch"),
    "iemocap": _IEMOCAP,
    "iemocap-4": _IEMOCAP,
    "msp-podcast": "it needs a signed academic or commercial licence agreement. See "
    "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html (MSP lab, University of Texas at Dallas)",
    "esd": "its research licence must be signed first. See https://github.com/HLTSingapore/Emotional-Speech-Data",
}
"""Why other corpora cannot be downloaded, and how to get them."""


def fetch(name: str, root: str | Path, console: Console | None = None) -> Path:
    """Download a corpus, verify it, and unpack it.

    Files are downloaded into a hidden folder of ``root`` and moved into place when all of them are complete and
    verified. An interrupted download resumes with the next call. A complete corpus is not downloaded again.

    Args:
        name: One of ``DOWNLOADS``.
        root: The folder for the corpus; created if missing.
        console: Where progress is shown.

    Returns:
        The folder, absolute, as accepted by ``ser.corpora.load``.

    Raises:
        UserError: If the corpus cannot be downloaded, the disk is full, the server does not deliver, a checksum is
            wrong, the archive is unsafe, or another process downloads the same corpus into the same folder.
    """
    if name not in DOWNLOADS:
        check_name(name)
        reason = NOT_FETCHED.get(name, f"only {', '.join(DOWNLOADS)} can be downloaded")
        raise UserError(f"corpus {name!r} cannot be fetched: {reason}.")
    download = DOWNLOADS[name]
    console = console or Console()
    pooch.get_logger().setLevel("WARNING")

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    try:
        root = Path(root).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"corpus root {str(root)!r}: {error}") from error
    record, work = root / f".fetched-{name}.json", root / f".fetching-{name}"
    try:
        if _is_recorded(record, download):
            say(f"{download.title}: complete at {root}; nothing to fetch.")
        else:
            say(f"{download.title}: {download.page}, {decimal(download.size)}. {download.terms}.")
            work.mkdir(parents=True, exist_ok=True)
            columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
            bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
            with FileLock(work / "lock", blocking=False), bars:
                check_room(work, download.size - sum(path.stat().st_size for path in work.rglob("*")))
                files = _Run(download, root, work, bars).execute()
                record.write_text(json.dumps({"version": download.version, "files": files}), encoding="utf-8")
            shutil.rmtree(work)
            say(f"{len(files)} files are at {root}, verified against the published checksums.")
    except Timeout as error:
        raise UserError(
            f"{name!r} is being fetched into {str(root)!r} by another process. Wait for it, or end it."
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"the disk of {str(root)!r} is full. Free some space. {AGAIN}") from error
        raise UserError(f"corpus root {str(root)!r} cannot be used: {error}.") from error
    say(f"Next: {command_line('ser.corpora')} describe {name} --root {shlex.quote(str(root))}")
    return root


@dataclass
class _Run:
    """One download, from the archive to the files in place."""

    download: Download
    root: Path
    work: Path
    progress: Progress

    def execute(self) -> dict[str, int]:
        """Return the size of every file by its path below the root."""
        staged = self.work / "files"
        obtain([self.download.archive], self.work, self.progress, self.download.advice)
        names, remote = self._unpack(self.work / _ARCHIVE, staged)
        kept = {file.name for file in remote if _is_complete(self.root / file.name, file)}
        missing = [file for file in remote if file.name not in kept]
        obtain(missing, staged, self.progress, self.download.advice)
        for name in names - kept:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).replace(self.root / name)
        return {name: (self.root / name).stat().st_size for name in sorted(names)}

    def _unpack(self, path: Path, staged: Path) -> tuple[set[str], list[RemoteFile]]:
        """Unpack all files except Git LFS pointers; return the names of all files, and the targets of the pointers."""
        try:
            with zipfile.ZipFile(path) as archive:
                members = _safe_members(archive, self.download)
                remote = [] if self.download.content is None else _pointer_targets(archive, members, self.download)
                plain = members.keys() - {file.name for file in remote}
                for name in plain:
                    (staged / name).unlink(missing_ok=True)
                check_room(self.work, sum(members[name].file_size for name in plain))
                for name in plain:
                    target = staged / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(members[name]) as source, target.open("wb") as sink:
                        shutil.copyfileobj(source, sink)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            path.unlink()
            raise UserError(
                f"{self.download.archive.url} cannot be unpacked and was deleted: {error}. Run the same command again."
            ) from error
        return set(members), remote


def _is_recorded(record: Path, download: Download) -> bool:
    """Return whether this version was downloaded before and every file still exists with its size."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        return known["version"] == download.version and all(
            (record.parent / name).stat().st_size == size for name, size in known["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_complete(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and f"sha256:{pooch.file_hash(path, alg='sha256')}" == file.checksum


def _safe_members(archive: zipfile.ZipFile, download: Download) -> dict[str, zipfile.ZipInfo]:
    """Return the members of the archive that belong to the corpus, by their path below its folder.

    Raises:
        BadZipFile: If a member is a link or would be written outside the folder, or none belongs to the corpus.
    """
    members = {}
    for member in archive.infolist():
        path = PurePosixPath(member.filename)
        outside = path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in member.filename
        if outside or stat.S_ISLNK(member.external_attr >> 16):
            raise zipfile.BadZipFile(f"{member.filename!r} could be written outside the corpus's folder")
        name = member.filename.removeprefix(download.folder)
        if member.filename.startswith(download.folder) and name.startswith(download.members) and not member.is_dir():
            members[name] = member
    if not members:
        raise zipfile.BadZipFile("it has no file of the corpus")
    return members


def _pointer_targets(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], download: Download
) -> list[RemoteFile]:
    """Return the files that the Git LFS pointers among the members point to.

    Raises:
        BadZipFile: If the members differ from the recorded listing.
    """
    remote, lines = [], []
    for name, member in sorted(members.items()):
        content = archive.read(member)
        checksum, size = hashlib.sha256(content).hexdigest(), str(len(content))
        if content.startswith(LFS_POINTER):
            fields = dict(line.partition(" ")[::2] for line in content.decode("ascii", "replace").splitlines())
            checksum, size = fields.get("oid", "").removeprefix("sha256:"), fields.get("size", "")
            remote.append((name, checksum, size))
        lines.append(f"{name} {checksum} {size}\n")
    if (found := hashlib.sha256("".join(lines).encode()).hexdigest()) != download.listing:
        raise zipfile.BadZipFile(
            f"the listing of its {len(lines)} files is sha256:{found}, expected sha256:{download.listing}"
        )
    return [RemoteFile(name, f"{download.content}{name}", int(size), f"sha256:{sha}") for name, sha, size in remote]
