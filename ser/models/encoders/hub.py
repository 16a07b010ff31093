"""Speech encoders on the Hugging Face hub: from the local cache, else by download."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path

from ser.models.encoders.folder import CONFIG, PREPROCESSOR, PROCESSOR, SETTINGS, missing_shards, weight_names
from ser.utils.errors import UserError, first_line
from ser.utils.output_files import check_room

WORTH_SAYING = 10_000_000
"""Bytes from which a download is announced."""


def obtain(repository: str, revision: str, *, weights: bool) -> tuple[Path, str]:
    """Return the folder of a model in the hub's cache and its commit; what is missing there is downloaded.

    Cache, token, address and offline mode are those of the huggingface_hub library: ``HF_HOME``, ``HF_TOKEN``,
    ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``.

    Args:
        repository: Name on the hub, such as ``facebook/wav2vec2-base``.
        revision: Commit, tag or branch; empty for ``main``. A ``main`` in the cache is taken as it is there.
        weights: Whether the weights are needed too.

    Raises:
        UserError: The model is not in the cache and cannot be downloaded.
    """
    folder = _cached(repository, revision, weights=weights)
    if folder is None:
        try:
            folder = _download(repository, revision, weights=weights)
        except UserError:
            raise
        except Exception as error:  # the classes of the HTTP library below are not part of huggingface_hub's interface
            raise UserError(f"model.name is hf:{repository}: {_reason(repository, revision, error)}") from error
    return folder, folder.name


def _cached(repository: str, revision: str, *, weights: bool) -> Path | None:
    """Return the folder in the cache if all that is needed is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError):
        folder = Path(
            snapshot_download(repository, revision=revision or None, local_files_only=True, allow_patterns=[CONFIG])
        )
        names = {path.name for path in folder.iterdir()}
        found = weight_names(names)
        complete = CONFIG in names and bool(names & {PREPROCESSOR, PROCESSOR})
        if complete and (not weights or (found and not missing_shards(folder, found, f"hf:{repository}"))):
            return folder
    return None


def _download(repository: str, revision: str, *, weights: bool) -> Path:
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    info = HfApi().model_info(repository, revision=revision or None, files_metadata=True)
    sizes = {each.rfilename: each.size or 0 for each in info.siblings or ()}
    if CONFIG not in sizes:
        raise UserError(
            f"model.name is hf:{repository}: the hub has no {CONFIG} of it, so it was not saved by transformers. "
            "Choose a model with the tag transformers."
        )
    wanted = [name for name in SETTINGS if name in sizes] + (weight_names(sizes) if weights else [])
    missing = [
        name for name in wanted if not isinstance(try_to_load_from_cache(repository, name, revision=info.sha), str)
    ]
    needed = sum(sizes[name] for name in missing)
    cache = Path(HF_HUB_CACHE).expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    check_room(cache, needed)
    if needed >= WORTH_SAYING:
        from rich.console import Console
        from rich.filesize import decimal

        Console(stderr=True).out(f"{repository}: {decimal(needed)} from the hub to {cache}.", highlight=False)
    with _bars(shown=needed >= WORTH_SAYING):
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=wanted))


@contextmanager
def _bars(*, shown: bool) -> Iterator[None]:
    """Show the library's progress bars or not; where the user has disabled them, they stay so."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _reason(repository: str, revision: str, error: Exception) -> str:
    """Return why a download failed, and what to do, for people."""
    from huggingface_hub import constants, errors

    at = f"{constants.ENDPOINT}/{repository}"
    cause: BaseException = error
    while isinstance(cause, errors.LocalEntryNotFoundError) and cause.__cause__ is not None:
        cause = cause.__cause__  # the library's text about it names its own options
    if isinstance(cause, errors.GatedRepoError):
        return (
            f"its authors grant access on request. Ask for it at {at}, then set HF_TOKEN to a token of your account or "
            "log in with `hf auth login`."
        )
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"the hub has no revision {revision or 'main'} of it. The revisions are at {at}/commits/main"
    if isinstance(cause, errors.HfHubHTTPError):
        status = cause.response.status_code
        if isinstance(cause, errors.RepositoryNotFoundError) or status == HTTPStatus.NOT_FOUND:
            return (
                f"there is no such folder, and the hub has no model of this name that you may read.{_near(repository)} "
                f"Search at {constants.ENDPOINT}/models; a private model needs HF_TOKEN."
            )
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return (
                f"the hub refuses access ({status}). Check the token in HF_TOKEN, or log in again with `hf auth login`."
            )
        return f"the hub answers {status}. Try again later."
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {constants.HF_HUB_CACHE} is full. Free space and run the command again."
    if isinstance(cause, OSError) and cause.filename is not None:
        return f"{cause.filename!r} cannot be written: {cause.strerror}. Set HF_HOME to a folder that can be."
    if isinstance(cause, errors.OfflineModeIsEnabled):
        reason, advice = "HF_HUB_OFFLINE forbids a download", "Unset HF_HUB_OFFLINE to download it"
    else:
        reason = f"the download from {constants.ENDPOINT} failed ({first_line(cause)})"
        advice = "Run the command again with a network; complete files are kept"
    version = f" in revision {revision}" if revision else ""
    return (
        f"there is no such folder, the cache {constants.HF_HUB_CACHE} does not hold all of it{version}, and {reason}."
        f"{_near(repository)} {advice}. Or run `hf download {repository} --local-dir FOLDER` on another machine, copy "
        "the folder here, and name hf:FOLDER."
    )


def _near(repository: str) -> str:
    """Return a hint at names in the cache that are similar; empty if there are none."""
    from huggingface_hub.constants import HF_HUB_CACHE

    prefix = "models--"
    held = [path.parent.name.removeprefix(prefix) for path in Path(HF_HUB_CACHE).glob(f"{prefix}*/snapshots")]
    names = sorted({name.replace("--", "/") for name in held} - {repository})
    near = difflib.get_close_matches(repository, names, n=1, cutoff=0.8)
    return f" Did you mean hf:{near[0]}, which is in the cache?" if near else ""
