"""Downloads corpora whose licence allows it: python -m ser.corpora fetch ravdess --root PATH."""

from __future__ import annotations

import errno
import hashlib
import json
import shlex
import shutil
import stat
import threading
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pooch
import requests
import tyro
from filelock import FileLock, Timeout
from requests.exceptions import ChunkedEncodingError
from rich.console import Console
from rich.filesize import decimal
from rich.progress import DownloadColumn, Progress, TaskID, TransferSpeedColumn

from ser.audio import LFS_POINTER
from ser.errors import UserError, unknown_name

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as cut."""
BACKOFF = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each new attempt; begun anew whenever an attempt got further than all before."""
LONGEST_WAIT = 60.0
"""A server that asks for a longer pause than this (seconds) ends the command."""
BLOCK = 2**14
"""Bytes written at a time; a cut loses less than this."""
CONNECTIONS = 8

_ARCHIVE = "archive.zip"
_AGAIN = "Run the same command again: it goes on where it stopped."
_WAITS = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class FetchOptions:
    """Downloads a corpus, checks it, and unpacks it."""

    name: tyro.conf.Positional[str]
    """Corpus: ravdess, emodb or crema-d."""
    root: Path
    """Folder to download into; made if need be."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server.

    Args:
        name: Its path below the folder it is downloaded into.
        url: Where it is.
        size: Bytes, or None where the server makes the file anew each time.
        checksum: ``md5:…`` or ``sha256:…``, or None where what is in the file is checked instead.
    """

    name: str
    url: str
    size: int | None
    checksum: str | None


@dataclass(frozen=True)
class Download:
    """What a corpus is made from.

    Args:
        title: The corpus and the part of it.
        page: Its home, for people.
        terms: Licence and main term.
        size: Bytes to be downloaded in all.
        archive: A ZIP file.
        folder: The archive's leading folder, left out when unpacking; ends in ``/`` unless empty.
        members: Beginnings of the paths (without ``folder``) that belong to the corpus.
        content: Where the archive holds Git LFS pointers: the URL to which a pointer's path is appended.
        listing: With ``content``: SHA-256 of the members' lines ``PATH SHA256 SIZE``, sorted, a pointer counting as
            the file it points to.
        advice: What to do where the server refuses.
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
        """Changes with the corpus's content."""
        return self.listing or self.archive.checksum


def _zenodo(path: str, size: int, md5: str) -> RemoteFile:
    """Size and MD5 as the record gives them."""
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
    # The 535 clips of the publication; release 2.0 adds those that fewer than 80 % of the listeners agreed on.
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
        advice="GitHub limits this repository's downloads at times. The authors' mirror, to be cloned with Git LFS: "
        "https://gitlab.com/cs-cooper-lab/crema-d-mirror",
    ),
}
"""The corpora that can be fetched."""

_IEMOCAP = (
    "its licence asks each group to request it. Fill in the form at "
    "https://sail.usc.edu/iemocap/iemocap_release.htm (SAIL, University of Southern California)"
)
NOT_FETCHED = {
    "synthetic": "it is generated, with nothing to fetch",
    "table": "it is your own table, with nothing to fetch",
    "iemocap": _IEMOCAP,
    "iemocap-4": _IEMOCAP,
    "msp-podcast": "it needs a signed academic or commercial licence agreement. See "
    "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html (MSP lab, University of Texas at Dallas)",
    "esd": "its research licence is to be signed first. See https://github.com/HLTSingapore/Emotional-Speech-Data",
}
"""Why the other corpora cannot be fetched, and how to get them."""


def fetch(name: str, root: str | Path, console: Console | None = None) -> Path:
    """Downloads a corpus, checks it, and unpacks it.

    What is downloaded waits in a hidden folder of ``root`` until all of it is there and right; only then are the
    files moved into place. Whatever interrupts this, the next call goes on from there. A corpus that is complete is
    not downloaded again.

    Args:
        name: One of ``DOWNLOADS``.
        root: Folder for the corpus; made if need be.
        console: Where progress is shown.

    Returns:
        The folder, absolute, as ``ser.corpora.load`` takes it.

    Raises:
        UserError: A corpus that cannot be fetched, no room, a server that does not deliver, a wrong checksum, an
            unsafe archive, or another process that fetches the same corpus into the same folder.
    """
    if name in NOT_FETCHED:
        raise UserError(f"corpus {name!r} cannot be fetched: {NOT_FETCHED[name]}.")
    if name not in DOWNLOADS:
        raise unknown_name("corpus", name, [*DOWNLOADS, *NOT_FETCHED])
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
        if _complete(record, download):
            say(f"{download.title}: complete at {root}; nothing to fetch.")
        else:
            say(f"{download.title}: {download.page}, {decimal(download.size)}. {download.terms}.")
            work.mkdir(parents=True, exist_ok=True)
            columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
            bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
            with FileLock(work / "lock", blocking=False), bars:
                _check_room(work, download.size - sum(path.stat().st_size for path in work.rglob("*")))
                files = _Run(download, root, work, bars).complete()
                record.write_text(json.dumps({"version": download.version, "files": files}), encoding="utf-8")
            shutil.rmtree(work)
            say(f"{len(files)} files are at {root}, as published.")
    except Timeout as error:
        raise UserError(f"{name!r} is being fetched into {str(root)!r} by another process.") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"the disk of {str(root)!r} is full. Make room. {_AGAIN}") from error
        raise UserError(f"corpus root {str(root)!r} cannot be used: {error}.") from error
    say(f"Next: python -m ser.corpora describe {name} --root {shlex.quote(str(root))}")
    return root


@dataclass
class _Run:
    """From the archive to the files in place."""

    download: Download
    root: Path
    work: Path
    progress: Progress
    stop: threading.Event = field(default_factory=threading.Event)
    local: threading.local = field(default_factory=threading.local)

    def complete(self) -> dict[str, int]:
        """Returns the size of every file, by its path below the root."""
        self._obtain([self.download.archive], self.work)
        path, staged = self.work / _ARCHIVE, self.work / "files"
        try:
            with zipfile.ZipFile(path) as archive:
                members = _safe_members(archive, self.download)
                remote = [] if self.download.content is None else _pointers(archive, members, self.download)
                plain = members.keys() - {file.name for file in remote}
                for name in plain:
                    (staged / name).unlink(missing_ok=True)
                _check_room(self.work, sum(members[name].file_size for name in plain))
                for name in plain:
                    target = staged / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(members[name]) as source, target.open("wb") as sink:
                        shutil.copyfileobj(source, sink)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            path.unlink()
            raise UserError(f"{self.download.archive.url} cannot be unpacked and is deleted: {error}.") from error
        kept = {file.name for file in remote if _is_there(self.root / file.name, file)}
        self._obtain([file for file in remote if file.name not in kept], staged)
        for name in members.keys() - kept:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).replace(self.root / name)
        return {name: (self.root / name).stat().st_size for name in sorted(members)}

    def _obtain(self, files: list[RemoteFile], folder: Path) -> None:
        """Downloads what is not there yet, over a few connections."""
        for parent in {(folder / file.name).parent for file in files}:
            parent.mkdir(parents=True, exist_ok=True)
        sizes = [file.size for file in files if file.size is not None]
        bar = self.progress.add_task("downloading", total=sum(sizes) if len(sizes) == len(files) else None)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            try:
                pending = [pool.submit(self._obtain_one, file, folder, bar) for file in files]
                for future in as_completed(pending):
                    future.result()
            except BaseException:  # Ctrl-C too: what is under way ends at its next block, and its part is kept
                self.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _obtain_one(self, file: RemoteFile, folder: Path, bar: TaskID) -> None:
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
            # Compressed in transit, a range of bytes would not be one of the file's.
            self.local.session.headers.update({"User-Agent": "ambivalent", "Accept-Encoding": "identity"})
        transfer = _Transfer(
            file,
            folder / f"{file.name}.part",
            self.local.session,
            self.stop,
            advance=lambda count: self.progress.advance(bar, count),
            advice=self.download.advice,
        )
        try:
            pooch.retrieve(file.url, file.checksum, fname=file.name, path=folder, downloader=transfer)
        except ValueError as error:  # what pooch raises for a checksum that differs, with both
            raise UserError(f"{file.url} is not the file that was published. {error}") from error
        transfer.count_to(file.size or transfer.position)


class _TransientError(Exception):
    """A fault that may be gone after a pause, in seconds."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


class _StoppedError(Exception):
    """Another download has failed, or the user has interrupted."""


@dataclass
class _Transfer:
    """What pooch calls to download one file: goes on from a ``.part`` file by an HTTP range, and tries again.

    The checksum, which pooch compares afterwards, tells whether the file has changed between two attempts.
    """

    file: RemoteFile
    part: Path
    session: requests.Session
    stop: threading.Event
    advance: Callable[[int], None]
    advice: str
    position: int = 0

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        furthest, failures, pause = self._held(), 0, 0.0
        while True:
            try:
                self._attempt(url)
                break
            except (_TransientError, requests.ConnectionError, requests.Timeout, ChunkedEncodingError) as error:
                fault: Exception = error
                pause = error.pause if isinstance(error, _TransientError) else 0.0
            except requests.RequestException as error:
                raise UserError(f"{url} cannot be downloaded: {error}.") from error
            failures = 0 if self._held() > furthest else failures + 1
            furthest = max(furthest, self._held())
            if failures > len(BACKOFF) or pause > LONGEST_WAIT:
                raise UserError(f"{url} cannot be downloaded: {fault}. {_AGAIN} {self.advice}".rstrip()) from fault
            if self.stop.wait(max(pause, BACKOFF[max(failures, 1) - 1])):
                raise _StoppedError
        self.part.replace(output_file)

    def count_to(self, position: int) -> None:
        """Moves the progress bar to so many bytes of this file."""
        self.advance(position - self.position)
        self.position = position

    def _held(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self, url: str) -> None:
        held, size = self._held(), self.file.size
        if size is not None and held == size:
            return
        if size is not None and held > size:
            held = 0
        headers = {"Range": f"bytes={held}-"} if held else {}
        with self.session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            self._check(response, held)
            if response.status_code != requests.codes.partial_content:
                held = 0
            self.count_to(held)
            with self.part.open("ab" if held else "wb") as sink:
                for block in response.iter_content(BLOCK):
                    if self.stop.is_set():
                        raise _StoppedError
                    sink.write(block)
                    self.count_to(self.position + len(block))
        if size is not None and self.position < size:
            raise _TransientError(f"the connection ended after {self.position} of {size} bytes")

    def _check(self, response: requests.Response, held: int) -> None:
        """Raises unless the answer is the file, from its beginning or from where the part ends."""
        status = response.status_code
        answer = f"the server answers {status} {response.reason}"
        if status in _WAITS:
            wait = response.headers.get("Retry-After", "")
            pause = f" and asks for a pause of {wait} s" if wait.isdigit() else ""
            raise _TransientError(answer + pause, float(wait) if wait.isdigit() else 0.0)
        begins = response.headers.get("Content-Range", "").startswith(f"bytes {held}-")
        if status == requests.codes.requested_range_not_satisfiable or (status == 206 and not begins):
            self.part.unlink(missing_ok=True)
            raise _TransientError(f"{answer} to a request for the bytes from {held}")
        if status not in (requests.codes.ok, requests.codes.partial_content):
            raise UserError(f"{response.url}: {answer}. Has the corpus moved? {self.advice}".rstrip())


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{decimal(needed)} more are needed at {str(folder)!r}; {decimal(free)} are free. Make room.")


def _complete(record: Path, download: Download) -> bool:
    """Whether an earlier run brought this version, and every file is still there with its size."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        return known["version"] == download.version and all(
            (record.parent / name).stat().st_size == size for name, size in known["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_there(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and f"sha256:{pooch.file_hash(path, alg='sha256')}" == file.checksum


def _safe_members(archive: zipfile.ZipFile, download: Download) -> dict[str, zipfile.ZipInfo]:
    """The archive's files that belong to the corpus, by their path below its folder.

    Raises:
        BadZipFile: A member that would be written outside, or a link; or none belongs to the corpus.
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
        raise zipfile.BadZipFile("nothing of the corpus is in it")
    return members


def _pointers(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], download: Download) -> list[RemoteFile]:
    """The files to which those members that are Git LFS pointers point.

    Raises:
        BadZipFile: The listing is not the one recorded.
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
        raise zipfile.BadZipFile(f"its {len(lines)} files list as sha256:{found}, expected sha256:{download.listing}")
    return [RemoteFile(name, f"{download.content}{name}", int(size), f"sha256:{sha}") for name, sha, size in remote]
