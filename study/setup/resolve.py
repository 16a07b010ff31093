"""Options as a study keeps them: absolute paths, a name, an experiment, and those of the study that is resumed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ser.config import REVISION, parse_settings
from ser.corpora import FORMATS, check_name
from ser.corpora.classes import resolved_classes
from ser.corpora.registry import PATH_OPTIONS
from ser.labels import check_labels
from ser.model_config import present_revision, with_absolute_folder
from ser.models import LINEAR_PROBE
from ser.models.encoders import PREFIX
from ser.models.initial_weights import PRETRAINED, name_or_path
from ser.noise import MATRIX, check_level
from ser.utils.errors import UserError, without_password
from study.options import StudyOptions
from study.uri import absolute_uri, chosen_experiment, chosen_uri


def resolve(asked: StudyOptions) -> StudyOptions:
    """Complete the options of a call.

    Args:
        asked: The options as given.

    Returns:
        The options with absolute paths; with name and experiment, or those of the study that is resumed.

    Raises:
        UserError: Unknown corpus or noise level, labels that do not go with it, or no such study to resume.
    """
    check_name(asked.corpus)
    options = with_absolute_paths(asked)
    options = resumed(options) if options.resume else with_encoder(_with_names(options))
    check_noise(options)
    return options


def check_noise(options: StudyOptions) -> None:
    """Raise if a noise level is unknown, or does not go with the kinds of labels."""
    for level in options.noise:
        check_level(level)
        for kind in options.labels:
            check_labels(kind, level)


def resumed(given: StudyOptions) -> StudyOptions:
    """Return the options of a study that is resumed, with what a call changes of them.

    Args:
        given: The options of the call, with absolute paths.

    Raises:
        UserError: As for ``StudyOptions.resumed``, the password of the study's tracking URI is not known, or the files
            of its speech encoder have changed.
    """
    options = given.resumed()
    saved = options.tracking_uri
    if saved is None or "***" in saved:  # a password is not written to disk
        options = replace(options, tracking_uri=chosen_uri(None))
        if saved not in (None, without_password(str(options.tracking_uri))):
            raise UserError(
                f"the records of study {given.name!r} are in {saved}, whose password is not written down. Give it with "
                "--tracking-uri."
            )
    in_folder = Path(options.network.removeprefix(PREFIX)).is_dir()  # a commit of the hub does not change
    if options.revision and in_folder and present_revision(options.network) != options.revision:
        raise UserError(
            f"the speech encoder {options.network} has changed since study {given.name!r} began: the files in its "
            "folder are others. Restore them, or start a new study under another --name."
        )
    return options


def check_pretrained(options: StudyOptions) -> None:
    """Raise if ``--pretrained`` contradicts other options, before anything is looked for or downloaded."""
    if (weights := options.initial_weights) is None:
        return
    values = {**options.defaults, **options.fixed}
    weights.check(values)
    if options.plan and values["model.name"] == LINEAR_PROBE and (download := weights.download_in_words):
        raise UserError(
            f"--plan: a linear probe trains on embeddings, which take the weights, and a plan downloads nothing. "
            f"Without --plan, the study begins with the download: {download}."
        )


def with_encoder(options: StudyOptions) -> StudyOptions:
    """Return the options with the present version of a speech encoder, which all trials will have.

    Args:
        options: The options of a new study, with absolute paths.

    Raises:
        UserError: There is no such encoder, the transformers library is not installed, or ``--pretrained`` is given
            with an encoder.
    """
    check_pretrained(options)
    asked = str(parse_settings(options.settings).get(REVISION, ""))
    return replace(options, revision=present_revision(options.network, asked))


def with_absolute_paths(options: StudyOptions) -> StudyOptions:
    """Make all paths of the options absolute, because trials run in another folder than the study.

    A file of classes is replaced by its content.

    Raises:
        UserError: The home folder of a path that begins with ``~`` is not known, a file of classes cannot be read, or
            there are no weights of the name or path of ``--pretrained``.
    """
    return replace(
        options,
        noise=tuple(map(_absolute_level, options.noise)),
        space=tuple(str(absolute(Path(name))) if name.endswith(".py") else name for name in options.space),
        tracking_uri=None if options.tracking_uri is None else absolute_uri(options.tracking_uri),
        corpus_root=None if options.corpus_root is None else absolute(options.corpus_root),
        corpus_options=tuple(map(_absolute_option, options.corpus_options)),
        classes=resolved_classes(options.classes),
        exclude=None if options.exclude is None else absolute(options.exclude),
        storage_path=absolute(options.storage_path),
        model=None if options.model is None else with_absolute_folder(options.model),
        pretrained=None if options.pretrained is None else name_or_path(options.pretrained),
        settings=tuple(map(_absolute_setting, options.settings)),
    )


def absolute(path: Path) -> Path:
    """Return an absolute path; ``~`` is the home folder.

    Raises:
        UserError: The home folder is not known.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"{str(path)!r}: {error}") from error


def _absolute_level(level: str) -> str:
    recipe, _, rate = level.rpartition(":")
    if not recipe.startswith(MATRIX):
        return level
    return f"{MATRIX}{absolute(Path(recipe.removeprefix(MATRIX)))}:{rate}"


def _absolute_option(option: str) -> str:
    key, _, value = option.partition("=")
    return f"{key}={absolute(Path(value))}" if key in PATH_OPTIONS and value else option


def _absolute_setting(setting: str) -> str:
    key, _, value = setting.partition("=")
    if key == "model.name":
        return f"{key}={with_absolute_folder(value)}"
    return f"{key}={absolute(Path(value))}" if key == PRETRAINED and value else setting


def data_name(corpus: str, root: Path | str | None) -> str:
    """Return the name of the data for people: that of the corpus; for one of ``FORMATS``, that of its file or folder.

    It names the experiment of a study that names none.

    Args:
        corpus: Name of the corpus.
        root: Its ``--corpus-root``, if one was given.

    Example:
        >>> data_name("table", "data/calls.csv"), data_name("folders", "data/urdu"), data_name("ravdess", "data/speech")
        ('calls', 'urdu', 'ravdess')
    """
    if corpus not in FORMATS or root is None:
        return corpus
    path = Path(root)
    return path.stem if corpus == "table" or path.suffix == ".parquet" else path.name


def _with_names(options: StudyOptions) -> StudyOptions:
    return replace(
        options,
        tracking_uri=chosen_uri(options.tracking_uri),
        experiment=chosen_experiment(options.experiment) or data_name(options.corpus, options.corpus_root),
        model=options.network,
        keep=options.keep or "best",
        name=options.name or f"{options.corpus}-{datetime.now().strftime('%Y%m%d-%H%M%S')}",
    )
