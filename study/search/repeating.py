"""The commands that repeat a search or a confirmation, from its options and its design on record."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ser.config import REVISION
from ser.corpora.classes import ALL, FORMER
from ser.splits import FORMER_AUTO
from ser.utils.command_names import command_line
from study.options import ConfirmOptions, StudyOptions
from study.setup.design import Design

_ELSEWHERE = {"storage_path", "tracking_uri", "experiment", "name"}


def repeating_command(script: str, options: Mapping[str, Any], more: Sequence[str]) -> str:
    """Return the call with these options, without default values and without places of their own.

    It trains under a new name, since the store has runs of the old one.

    Args:
        script: ``study/run.py`` or ``study/confirm.py``.
        options: Options as a study records them, also those of earlier versions.
        more: Further words of the call, such as the options that name the store.
    """
    kept = "best" if script == "study/run.py" else "all"
    default = {**StudyOptions().to_json(), "model": StudyOptions().network, "keep": kept}
    words = []
    # Studies begun before classes could be chosen had all of them; folds of version 0.1 cannot be chosen.
    given = {FORMER: ALL, FORMER_AUTO: "auto"}
    values = {"classes": ALL, **options}
    values |= {key: given.get(values[key], values[key]) for key in ("classes", "split_by") if key in values}
    if revision := values.pop("revision", ""):
        pinned = f"{REVISION}={revision}"
        values["settings"] = [each for each in values.get("settings", ()) if not each.startswith(REVISION)] + [pinned]
    for key, value in values.items():
        if key in _ELSEWHERE or value in (None, False) or value == default.get(key):
            continue
        words.append("--set" if key == "settings" else f"--{key.replace('_', '-')}")
        words += map(str, value) if isinstance(value, list) else [str(value)]
    again = ["--name", f"{options['name']}-again"] if options.get("name") else []
    return f"{command_line(script)} {shlex.join([*words, *again, *more])}"


def design_words(design: Design) -> list[str]:
    """Return the options that declare the seeds, the comparison and the other corpora of a confirmation.

    Args:
        design: Its design.
    """
    words = [*(("--pilot",) if design.pilot else ()), "--seeds", str(len(design.seeds))]
    if design.reference not in (None, ConfirmOptions.reference):
        words += ["--reference", str(design.reference)]
    if design.primary:
        words += ["--primary", design.primary["method"], design.primary["level"]]
    corpora = [one.corpus + (f"={one.root}" if one.root else "") for one in design.test_corpora]
    options = [f"{one.name}.{key}={value}" for one in design.test_corpora for key, value in one.options.items()]
    words += ["--test-corpus", *corpora] if corpora else []
    return [*words, "--test-options", *options] if options else words


def repeating_confirmation(
    design: Design, options: Mapping[str, Any], studies: Sequence[str], more: Sequence[str]
) -> str:
    """Return the call that repeats a confirmation: of a search's best configurations, or of published defaults.

    Args:
        design: Its design.
        options: Its options as recorded.
        studies: Searches that its configurations come from.
        more: Further words of the call, such as the options that name the store.
    """
    if not design.searched:
        known = {option.name for option in fields(ConfirmOptions)} - {"name", "seeds"}
        defaults = {name: value for name, value in options.items() if name in known}
        return repeating_command("study/confirm.py", defaults, [*more, *design_words(design)])
    found = Counter((one.noise, one.space) for one in design.candidates if one.source)
    words = [*more, *(("--study", studies[0]) if len(studies) == 1 else ())]
    words += ["--top", str(max(found.values(), default=0)), *design_words(design)]
    return f"{command_line('study/confirm.py')} {shlex.join(words)}"
