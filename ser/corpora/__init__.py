"""Emotional speech corpora, all giving the same table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ser.corpora.corpus import Corpus
from ser.corpora.ravdess import load_ravdess
from ser.corpora.synthetic import load_synthetic
from ser.corpora.table import load_table
from ser.errors import UserError, unknown_name

__all__ = ["NAMES", "Corpus", "load"]

_LOADERS: dict[str, Callable[[Path], Corpus]] = {"ravdess": load_ravdess, "table": load_table}
NAMES = ("synthetic", *_LOADERS)


def load(name: str, root: str | Path | None = None, exclude: Path | None = None) -> Corpus:
    """Reads a corpus's table; no audio is decoded.

    Args:
        name: One of ``NAMES``.
        root: The corpus's folder, or for ``table`` the CSV or Parquet file. ``synthetic`` takes none.
        exclude: File of utterances to leave out: ids or paths, one a line; blank lines and lines that begin with
            # are skipped.

    Returns:
        The corpus, validated, less what is excluded.

    Raises:
        UserError: Unknown name, missing or empty root, or faults in the data, all of them listed.
    """
    corpus = _load(name, root)
    return corpus if exclude is None else corpus.without(_read_names(exclude))


def _load(name: str, root: str | Path | None) -> Corpus:
    if name == "synthetic":
        if root is not None:
            raise UserError("corpus 'synthetic' is generated and takes no root.")
        return load_synthetic()
    if name not in _LOADERS:
        raise unknown_name("corpus", name, NAMES)
    if root is None:
        raise UserError(f"corpus {name!r} needs its root: pass --corpus-root PATH.")
    try:
        path = Path(root).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"corpus root {str(root)!r}: {error}") from error
    if not path.exists():
        raise UserError(f"corpus root {str(path)!r} does not exist.")
    return _LOADERS[name](path)


def _read_names(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--exclude {str(path)!r} cannot be read: {error}.") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
