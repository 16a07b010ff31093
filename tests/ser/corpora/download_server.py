"""An HTTP server on loopback that cuts, stalls, lies and refuses, and the archive that it serves as a corpus."""

import io
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ARCHIVE = "/archive.zip"


@dataclass
class Failure:
    """What the server does once instead of a good answer."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    stop_after: int | None = None
    then: Callable[[], object] = lambda: None


@dataclass
class Server:
    """Serves bytes with ranges, counts what it has sent, and misbehaves on demand."""

    files: dict[str, bytes] = field(default_factory=dict)
    failures: dict[str, list[Failure]] = field(default_factory=lambda: defaultdict(list))
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    encodings: set[str | None] = field(default_factory=set)
    served: int = 0
    knows_ranges: bool = True
    tells_length: bool = True
    content_range: str | None = None
    before: Callable[[str], object] = lambda _: None
    url: str = ""

    def ranges(self, path: str = ARCHIVE) -> list[str | None]:
        return [asked for name, asked in self.seen if name == path]


CLIPS = {
    f"Actor_{actor:02}/03-01-{emotion:02}-01-01-01-{actor:02}.wav": np.random.default_rng(actor * 10 + emotion).bytes(
        10_000
    )
    for actor in (1, 2)
    for emotion in (1, 3, 5)
}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tree(root: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder, except hidden ones."""
    found = [path for path in root.rglob("*") if path.is_file()]
    names = {path.relative_to(root).as_posix(): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".")}


def partial_file(root: Path) -> Path:
    """Return where an interrupted download of the archive is kept."""
    return root / ".fetching-ravdess" / "archive.zip.part"


Fetched = Callable[[], str]
Serve = Callable[..., bytes]
