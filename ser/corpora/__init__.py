"""Emotional speech corpora, all giving the same table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from ser.corpora.corpus import Corpus
from ser.corpora.loader_result import LoaderResult, without
from ser.corpora.loaders.crema_d import load_crema_d
from ser.corpora.loaders.emodb import load_emodb
from ser.corpora.loaders.esd import load_esd
from ser.corpora.loaders.iemocap import load_iemocap, load_iemocap_4
from ser.corpora.loaders.msp_podcast import load_msp_podcast
from ser.corpora.loaders.ravdess import load_ravdess
from ser.corpora.loaders.synthetic import load_synthetic
from ser.corpora.loaders.table import load_table
from ser.corpora.source_files import check_names, read_text
from ser.utils.errors import UserError, unknown_name

__all__ = ["NAMES", "Corpus", "load", "parse_options", "without"]

_LOADERS: dict[str, Callable[..., LoaderResult]] = {
    "iemocap": load_iemocap,
    "iemocap-4": load_iemocap_4,
    "crema-d": load_crema_d,
    "ravdess": load_ravdess,
    "emodb": load_emodb,
    "msp-podcast": load_msp_podcast,
    "esd": load_esd,
    "table": load_table,
}
NAMES = ("synthetic", *_LOADERS)


def load(
    name: str,
    root: str | Path | None = None,
    exclude: Path | None = None,
    options: Mapping[str, str] | None = None,
) -> Corpus:
    """Reads a corpus's table; no audio is decoded.

    Args:
        name: One of ``NAMES``.
        root: The corpus's folder, or for ``table`` the CSV or Parquet file. ``synthetic`` takes none.
        exclude: File of what to leave out: utterance ids, paths, or lines of a list of faults, one a line; blank
            lines and lines that begin with # are skipped.
        options: The corpus's own options, such as ``{"votes": "face"}`` for ``crema-d``: keywords of its loader.

    Returns:
        The corpus, validated, less what is excluded.

    Raises:
        UserError: Unknown name or option, missing or empty root, or faults in the data, all of them listed.
    """
    reading = _read(name, root, options or {})
    names = [] if exclude is None else _read_names(exclude)
    return without(reading, names) if isinstance(reading, Corpus) else reading.corpus(names)


def parse_options(words: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE words → a mapping, for ``load``.

    Args:
        words: What followed ``--corpus-options``.

    Raises:
        UserError: A word without =, or a key given twice.
    """
    options: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--corpus-options {word!r} is not KEY=VALUE, such as votes=face.")
        if key in options:
            raise UserError(f"--corpus-options gives {key!r} twice.")
        options[key] = value
    return options


def _read(name: str, root: str | Path | None, options: Mapping[str, str]) -> Corpus | LoaderResult:
    if name not in NAMES:
        raise unknown_name("corpus", name, NAMES)
    loader: Callable[..., Any] = _LOADERS.get(name, load_synthetic)
    _check_options(name, loader, options)
    if name == "synthetic":
        if root is not None:
            raise UserError("corpus 'synthetic' is generated and takes no root.")
        return load_synthetic()
    if root is None:
        raise UserError(f"corpus {name!r} needs its root: pass --corpus-root PATH.")
    try:
        path = Path(root).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"corpus root {str(root)!r}: {error}") from error
    check_names([path])
    if not path.exists():
        raise UserError(f"corpus root {str(path)!r} does not exist.")
    return _LOADERS[name](path, **options)


def _check_options(name: str, loader: Callable[..., Any], options: Mapping[str, str]) -> None:
    """A loader's options are its keyword-only parameters, each a ``Literal`` of the values that it takes."""
    known = {key: get_args(get_type_hints(loader)[key]) for key in loader.__kwdefaults__ or {}}
    for key, value in options.items():
        if key not in known:
            if not known:
                raise UserError(f"corpus {name!r} has no options; --corpus-options {key}={value} means nothing to it.")
            raise unknown_name(f"option of corpus {name!r}:", key, known)
        if value not in known[key]:
            raise unknown_name(f"value of --corpus-options {key}:", value, known[key])


def _read_names(path: Path) -> list[str]:
    try:
        lines = read_text(path).split("\n")
    except UserError as error:
        raise UserError(f"--exclude: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
