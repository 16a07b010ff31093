"""Speakers named by file names: a regular expression of the user, and a proposal where there is none."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from ser.corpora.names import gender_of
from ser.utils.command_names import command_line
from ser.utils.errors import UserError

_FEWEST, _MOST = 3, 500  # speakers that a proposal may give
_SEPARATORS = "_ .()-"
_SHOWN = 4  # file names and speakers in a message


def find_speakers(pattern: str, paths: Sequence[str]) -> tuple[list[str | None], list[str], list[tuple[str, str]]]:
    """Return the speaker that a regular expression finds in each path.

    Args:
        pattern: Searched in ``/PATH``; the group ``speaker`` or else the first group is the speaker, the group
            ``gender``, if there is one, the gender.
        paths: N relative paths with forward slashes.

    Returns:
        N speakers, None where the expression is not found; N genders; (path, what is wrong) of those without a speaker.

    Raises:
        UserError: If the expression is not one, has no group, or is found in no path.

    Example:
        >>> find_speakers("/([^/]{2})[^/]*$", ["anger/03a01Wa.wav", "fear/08a01Ab.wav"])[0]
        ['03', '08']
    """
    option = f"--corpus-options speaker={shlex.quote(pattern)}"
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"{option} is not a regular expression: {error}.") from error
    if not compiled.groups:
        raise UserError(f"{option} has no group. Put the speaker into brackets, such as '/([^/]{{2}})[^/]*$'.")
    group = "speaker" if "speaker" in compiled.groupindex else 1
    speakers: list[str | None] = []
    genders, errors = [], []
    for path in paths:
        found = compiled.search(f"/{path}")
        speaker = found[group] if found else None
        speakers.append(speaker or None)
        genders.append(gender_of(found["gender"]) if found and "gender" in compiled.groupindex else "unknown")
        if not speaker:
            errors.append((path, f"speaker={pattern} is not found in this name"))
    if paths and len(errors) == len(paths):
        raise UserError(f"{option} is found in none of the {len(paths)} file names, such as {_examples(paths)}.")
    return speakers, genders, errors


def missing_speakers(
    corpus: str,
    root: Path | None,
    paths: Sequence[str],
    labels: Sequence[str],
    alternative: str = "",
    options: Sequence[str] = (),
) -> UserError:
    """Create the error for a corpus in which nothing names the speakers, with a command to try.

    Args:
        corpus: Name of the corpus.
        root: Its root; None if it was not loaded by a command.
        paths: N paths with forward slashes, as ``find_speakers`` takes them.
        labels: Their classes.
        alternative: A sentence about another way to name the speakers.
        options: Other ``--corpus-options`` of the call.

    Returns:
        A ``UserError`` for the caller to raise.
    """
    place = "" if root is None else f" at {root}"
    option = "speaker=REGEX" if root is None else "--corpus-options speaker=REGEX"
    lines = [
        f"corpus {corpus!r}{place}: nothing names the speakers, so that a test on new speakers is not possible. "
        f"Names of files: {_examples(paths)}. Give the speaker as the first group of a regular expression: {option}."
    ]
    if proposal := propose_pattern(paths, labels):
        pattern, speakers = proposal
        shown = ", ".join(speakers[:_SHOWN]) + (", …" if len(speakers) > _SHOWN else "")
        words = [*options, f"speaker={pattern}"]
        command = f"{command_line('ser.corpora')} describe {corpus} --root {shlex.quote(str(root))} --corpus-options "
        lines += [
            f"If {shown} are speakers ({len(speakers)} in all), this is the expression; check it against the corpus's "
            "documentation:",
            f"    {words[-1] if root is None else command + shlex.join(words)}",
        ]
    if alternative:
        lines.append(alternative)
    return UserError("\n".join(lines))


def propose_pattern(paths: Sequence[str], labels: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return a regular expression that may find the speakers, and what it finds.

    Speakers are the first part of the file names, between separators, or else the first characters, that takes few
    values, each in most classes.

    Args:
        paths: N paths with forward slashes.
        labels: Their classes.

    Returns:
        The expression and the sorted speakers, or None if no part of the names is like that.

    Example:
        >>> names = [f"{speaker}a0{text}.wav" for speaker in ("03", "08", "10") for text in "12"]
        >>> paths = [f"{label}/{name}" for label in "AW" for name in names]
        >>> propose_pattern(paths, [path[0] for path in paths])
        ('/([^/]{2})[^/]*$', ['03', '08', '10'])
    """
    names = [f"/{path}" for path in paths]
    classes = len(set(labels))
    for pattern in _candidates(names):
        compiled = re.compile(pattern)
        heard: defaultdict[str, set[str]] = defaultdict(set)
        for name, label in zip(names, labels, strict=True):
            if not (found := compiled.search(name)):
                break
            heard[found[1]].add(label)
        else:
            shared = sum(map(len, heard.values())) / (len(heard) * classes) if heard else 0.0
            if _FEWEST <= len(heard) <= min(_MOST, len(names) // 2) and shared > max(0.35, 1 / classes):
                return pattern, sorted(heard)
    return None


def _candidates(names: Sequence[str]) -> Iterator[str]:
    """Return expressions for the parts of a file name between separators, then for its first characters."""
    stems = [Path(name).stem for name in names]
    parts = min((len(re.findall(f"[^{_SEPARATORS}]+", stem)) for stem in stems), default=0)
    if parts > 1:
        for number in range(parts):
            skipped = f"[^/{_SEPARATORS}]+[{_SEPARATORS}]+" * number
            yield f"/{skipped}([^/{_SEPARATORS}]+)[^/]*$"
    for length in (2, 3, 4, 1):
        yield f"/([^/]{{{length}}})[^/]*$"


def _examples(paths: Sequence[str]) -> str:
    step = max(1, len(paths) // _SHOWN)
    return ", ".join(map(repr, list(paths[::step])[:_SHOWN]))
