"""The loader of each corpus by name; corpora outside this package are named by the import path of their loader."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

from ser.corpora.classes import ALL, FORMER, choose_classes
from ser.corpora.corpus import Corpus
from ser.corpora.loader_result import LoaderResult, without
from ser.corpora.loaders.audformat import load_audformat
from ser.corpora.loaders.crema_d import load_crema_d
from ser.corpora.loaders.emodb import load_emodb
from ser.corpora.loaders.esd import load_esd
from ser.corpora.loaders.folders import load_folders
from ser.corpora.loaders.huggingface import download_advice, load_huggingface
from ser.corpora.loaders.iemocap import load_iemocap, load_iemocap_4
from ser.corpora.loaders.kaldi import load_kaldi
from ser.corpora.loaders.msp_podcast import load_msp_podcast
from ser.corpora.loaders.ravdess import load_ravdess
from ser.corpora.loaders.synthetic import load_synthetic
from ser.corpora.loaders.table import load_table
from ser.corpora.names import NearEqualNames
from ser.corpora.source_files import check_names, read_text
from ser.utils.errors import UserError, shown, unknown_name
from ser.utils.registry import resolve

Loader = Callable[..., LoaderResult | Corpus]
"""Called as ``loader(root, **options)``, or ``loader(**options)`` for a generated corpus, which has no root.

Its keyword-only parameters are the corpus's options; one annotated with ``Literal`` takes only these values.
"""

LOADERS: dict[str, Loader] = {
    "synthetic": load_synthetic,
    "iemocap": load_iemocap,
    "iemocap-4": load_iemocap_4,
    "crema-d": load_crema_d,
    "ravdess": load_ravdess,
    "emodb": load_emodb,
    "msp-podcast": load_msp_podcast,
    "esd": load_esd,
    "table": load_table,
    "folders": load_folders,
    "kaldi": load_kaldi,
    "audformat": load_audformat,
    "huggingface": load_huggingface,
}
NAMES = tuple(LOADERS)
RENAMES = "names"
"""Option of the loaders that rename speakers, sessions, classes and genders by a file."""
PATH_OPTIONS = (RENAMES, "audio")
"""Options of loaders whose values are paths."""

FORMATS = ("table", "folders", "kaldi", "audformat", "huggingface")
"""Names under which data of any name are read; people know them by the name of their file or folder."""


def check_name(name: str) -> None:
    """Raise unless a corpus of this name can be loaded; nothing is read.

    Args:
        name: One of ``NAMES``, or the import path of a loader.

    Raises:
        UserError: If the name is unknown, or nothing callable can be imported from the path.
    """
    resolve("corpus", name, LOADERS)


def needs_root(name: str) -> bool:
    """Return whether a corpus is read from a folder or file, in contrast to one that is generated.

    Args:
        name: One of ``NAMES``, or the import path of a loader.

    Raises:
        UserError: As for ``check_name``.
    """
    return _takes_root(resolve("corpus", name, LOADERS))


def load(
    name: str,
    root: str | Path | None = None,
    exclude: Path | None = None,
    options: Mapping[str, str] | None = None,
    classes: str | None = None,
) -> Corpus:
    """Load the table of a corpus; no audio is decoded.

    Args:
        name: One of ``NAMES``, or the import path of a loader, such as ``my_package.my_module.load_mine``.
        root: The corpus's folder; for ``table`` the file. Generated corpora take none.
        exclude: A file of what to leave out, one name per line: utterance ids, paths, or lines of a list of data
            errors. Blank lines and lines that begin with # are skipped.
        options: The corpus's own options, which are keywords of its loader, such as ``{"votes": "face"}`` for
            ``crema-d``.
        classes: Classes to choose, merge and rename, ``A,NEW=OLD+OLD,…``, a JSON object or the path of a ``.json``
            file with one; ``all`` for all of the corpus's own that its utterances have. None is the default of the
            corpus: all, except for ``ravdess`` (the six that it shares with CREMA-D).

    Returns:
        The validated corpus, without what is excluded. Its ``notes`` say how it was read.

    Raises:
        UserError: If the name, an option or a class is unknown, names look alike, or the root is missing or holds
            nothing of this corpus.
        DataErrors: If the data have errors; all of them are listed.

    Example:
        >>> corpus = load("synthetic")
        >>> len(corpus), corpus.classes
        (480, ('ang', 'exc', 'fru', 'hap', 'neu', 'sad'))
        >>> corpus.table.loc[0, ["utterance_id", "speaker", "session", "label", "votes"]].tolist()
        ['Ses01F_ang_00', 'Ses01F', '1', 'ang', (3, 0, 0, 0, 0, 0)]
        >>> load("synthetic", classes="ang,hap=hap+exc,neu,sad").classes
        ('ang', 'hap', 'neu', 'sad')
    """
    loader = resolve("corpus", name, LOADERS)
    options = options or {}
    _check_options(name, loader, options)
    names = [] if exclude is None else _read_names(exclude)
    try:
        found = loader(*_positional(name, loader, root), **options)
        if not isinstance(found, Corpus | LoaderResult):
            raise UserError(
                f"the loader of corpus {name!r} must return a ser.corpora.LoaderResult, got {type(found)!r}."
            )
        former = classes == FORMER
        corpus = without(found, names) if isinstance(found, Corpus) else found.to_corpus(names, former=former)
    except NearEqualNames as error:
        if RENAMES not in _option_names(loader):
            raise
        raise UserError(f"{error}\n{_renames_advice(options)}\n{error.file_content()}".rstrip()) from error
    default = "" if isinstance(found, Corpus) else found.default_classes
    if classes is not None or not default:
        return choose_classes(corpus, classes or ALL)
    chosen = choose_classes(corpus, default)
    *others, about_classes = chosen.notes
    brings = f"{about_classes}; --classes {ALL} brings all {corpus.table['label'].nunique()} classes"
    return replace(chosen, notes=(*others, brings))


def parse_options(words: Sequence[str]) -> dict[str, str]:
    """Parse KEY=VALUE words into the ``options`` of ``load``.

    Args:
        words: The values of ``--corpus-options``.

    Raises:
        UserError: If a word has no =, or a key is given twice.

    Example:
        >>> parse_options(["votes=face", "consensus=plurality"])
        {'votes': 'face', 'consensus': 'plurality'}
    """
    options: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--corpus-options {shown(word)} is not KEY=VALUE, such as votes=face.")
        if key in options:
            raise UserError(f"--corpus-options gives {shown(key)} twice. Give each key once.")
        options[key] = value
    return options


def _takes_root(loader: Loader) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(parameter.kind in kinds for parameter in inspect.signature(loader).parameters.values())


def _positional(name: str, loader: Loader, root: str | Path | None) -> tuple[Path, ...]:
    """Return the positional arguments of a loader: its checked root, or nothing."""
    if not _takes_root(loader):
        if root is not None:
            raise UserError(f"corpus {name!r} is generated and takes no root, got {shown(str(root))}. Leave it out.")
        return ()
    if root is None:
        raise UserError(f"corpus {name!r} needs its root: pass --corpus-root PATH.")
    try:
        path = Path(root).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"corpus root {str(root)!r}: {error}") from error
    check_names([path])
    if not path.exists():
        advice = f" {download_advice(path)}" if name == "huggingface" else ""
        raise UserError(f"corpus root {str(path)!r} does not exist.{advice}")
    return (path,)


def _option_names(loader: Loader) -> list[str]:
    parameters = inspect.signature(loader).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]


def _renames_advice(options: Mapping[str, str]) -> str:
    place = (
        f"add these lines to {options[RENAMES]}"
        if RENAMES in options
        else f"put these lines into a file and pass --corpus-options {RENAMES}=FILE.csv"
    )
    return f"Or {place}; for two speakers, write a name of its own as one of the new ones:"


def _check_options(name: str, loader: Loader, options: Mapping[str, str]) -> None:
    if not options:
        return
    known = _option_names(loader)
    hints = get_type_hints(loader)
    for key, value in options.items():
        if not known:
            raise UserError(
                f"corpus {name!r} has no options, got --corpus-options {shown(f'{key}={value}')}. Leave it out."
            )
        if key not in known:
            raise unknown_name(f"option of corpus {name!r}:", key, known)
        values = get_args(hints.get(key))
        if values and value not in values:
            raise unknown_name(f"value of --corpus-options {key}:", value, values)


def _read_names(path: Path) -> list[str]:
    try:
        lines = read_text(path).split("\n")
    except UserError as error:
        raise UserError(f"--exclude: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
