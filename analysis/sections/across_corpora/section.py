"""Trainings of one corpus tested on others: a table of corpora of the training by corpora of the test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.common.designs import data_options, missing_sentence
from analysis.common.records import Records, open_records
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import MISSING, interval_text, listing, percent, points
from analysis.options import AcrossCorporaOptions as Options
from analysis.options import RecordsOptions
from analysis.sections.across_corpora.figures import corpus_heading, draw_across
from analysis.sections.across_corpora.tested import Tested, read_tested
from ser.utils.errors import UserError
from study.schema import PARENT, Tag, in_words
from study.tracking.store import search_all

TITLE = "Across corpora"

Row = Mapping[Hashable, Any]

NOTES = (
    "On another corpus each training is tested on every speaker: its interval is about other trainings on the same "
    "corpus and other speakers of the tested one, and both are resampled. On its own corpus the unit is the fold; on "
    "an official split it is the training, and the interval is about these test speakers.",
    "On another corpus a prediction is the most probable of the classes that both corpora have. UARs (unweighted "
    "average recalls) over different numbers of classes have different chances, so compare each with its chance.",
    "Each interval of a difference is of one comparison alone and is no verdict; which differences within a corpus are "
    "significant is another analysis.",
)


def section(records: Records, options: Options) -> Section:
    """Return the table of corpora by corpora.

    Args:
        records: Records of both stages.
        options: The further experiments.

    Raises:
        UserError: A further experiment has no confirmation with test corpora, or a table of a trial cannot be read.
    """
    found = [tested for tested in (read_tested(records), *_further(records, options)) if tested is not None]
    found = _told_apart(found)
    if not any(len(one.scores) for one in found):
        return Section("across_corpora", TITLE, missing=(_missing(records, found),))
    scores = pd.concat([one.scores for one in found], ignore_index=True)
    caption = "Test UAR in %, with 95% intervals, by corpus of the training and corpus of the test"
    tables = [NamedTable("across_corpora", caption, scores, _matrix(scores, _score), keys=3)]
    if scores["difference"].notna().any():
        references = listing(sorted({in_words(one.design.reference) for one in found if one.design.reference}))
        caption = f"Difference of test UAR from {references} in points, with 95% intervals"
        others = scores[scores["difference"].notna()]
        tables.append(NamedTable("across_corpora-differences", caption, others, _matrix(others, _difference), keys=3))
    classes = pd.DataFrame([row for one in found for row in _classes(one)])
    tables.append(NamedTable("across_corpora-classes", "Classes that the corpora share", classes, classes.astype(str)))
    sentences = [sentence for one in found for sentence in _sentences(one)]
    drawn = NamedFigure(
        "across_corpora",
        "Test UAR by tested corpus, with 95% intervals; dotted: guessing.",
        " ".join(sentences),
        draw_across(scores),
    )
    return Section(
        "across_corpora",
        TITLE,
        tuple(sentences),
        tuple(tables),
        (drawn,),
        (*NOTES, *_more(records, options), *(line for one in found for line in _unfinished(one, records))),
    )


def _further(records: Records, options: Options) -> list[Tested]:
    """Return the confirmations of further experiments."""
    found = []
    for name in options.also:
        other = open_records(RecordsOptions(tracking_uri=options.tracking_uri, experiment=name))
        tested = None if name == records.experiment else read_tested(other)
        if tested is None:
            raise UserError(
                f"--also {name}: no other experiment of that name has a confirmation with test corpora. Confirm with "
                f"--test-corpus first: {other.command('study/confirm.py', '--test-corpus')} NAME=PATH …"
            )
        found.append(tested)
    return found


def _told_apart(found: Sequence[Tested]) -> list[Tested]:
    """Return the results under names of their own: of several on one corpus, the experiments are named too."""
    number = Counter(one.name for one in found)
    names = [one.name if number[one.name] == 1 else f"{one.name} ({one.design.experiment})" for one in found]
    return [
        replace(one, name=name, scores=one.scores.assign(trained=name)) for one, name in zip(found, names, strict=True)
    ]


def _missing(records: Records, found: Sequence[Tested]) -> str:
    """Return why there is nothing to show, and how to get it."""
    if found:
        return f"No training of confirmation {found[0].study} has finished: {records.resume_command(found[0].study)}"
    if records.matched.search:
        command = records.confirm_command("--test-corpus")  # with --space it would be of another corpus's defaults
    else:
        spaces = sorted(records.spaces)
        new = ("--space", *spaces, *data_options(records)) if spaces else ()
        command = records.command("study/confirm.py", *new, "--test-corpus")
    return f"No confirmation here was tested on other corpora. To test one: {command} NAME=PATH …"


def _matrix(scores: pd.DataFrame, cell: Callable[[Row], str]) -> pd.DataFrame:
    """Return a row for each level, method and corpus of the training, and a column for each corpus of the test."""
    columns = ("level", "method", "trained")
    order = {name: list(dict.fromkeys(scores[name])) for name in columns}
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for row in scores.to_dict("records"):
        rows.setdefault(tuple(row[name] for name in columns), {})[row["tested"]] = cell(row)
    keys = sorted(rows, key=lambda key: [order[name].index(one) for name, one in zip(columns, key, strict=True)])
    tested = dict.fromkeys(scores["tested"])
    return pd.DataFrame(
        [
            {"noise": key[0], "method": in_words(key[1]), "trained on": key[2]}
            | {corpus_heading(scores, name): rows[key].get(name, MISSING) for name in tested}
            for key in keys
        ]
    )


def _score(row: Row) -> str:
    return f"{100 * row['uar']:.1f}{_ends(row)}"


def _ends(row: Row) -> str:
    """Return the interval of a UAR in %, within 0 and 100; empty without one."""
    if math.isnan(row["low"]):
        return ""
    return f" [{100 * max(0, row['low']):.1f}, {100 * min(1, row['high']):.1f}]"


def _difference(row: Row) -> str:
    return f"{points(row['difference'])} [{interval_text(row['difference_low'], row['difference_high'])}]"


def _classes(one: Tested) -> list[dict[str, str]]:
    """Return which classes a confirmation shares with each of its test corpora."""
    own = {"trained on": one.name, "tested on": one.trained, "classes": ", ".join(one.design.classes)}
    rows = [own | {"chance": percent(1 / len(one.design.classes), 1)}]
    for other in one.design.test_corpora:
        pairs = (new if new == old else f"{new} = {old}" for new, old in other.classes.items())
        row = {"trained on": one.name, "tested on": other.name, "classes": ", ".join(pairs)}
        rows.append(row | {"chance": percent(1 / len(other.classes), 1)})
    return rows


def _sentences(one: Tested) -> list[str]:
    """Return what the reference scores on each corpus at the first level, and which differences are clear of 0."""
    if one.scores.empty:
        return []
    level = one.scores["level"].iloc[0]
    method = one.design.reference or one.scores["method"].iloc[0]
    shown = one.scores[(one.scores["level"] == level) & (one.scores["method"] == method)]
    parts = [
        f"on {row['tested']} {_score(row)} over {_classes_text(row)} (chance {100 / row['classes']:.1f})"
        for row in shown.to_dict("records")
    ]
    start = f"{in_words(method)} at {level}, trained on {one.name}, test UAR in %:"
    lines = [f"{start} {'; '.join(parts)}."] if parts else []
    for row in one.scores[one.scores["tested"] != one.trained].to_dict("records"):
        if row["difference_low"] > 0 or row["difference_high"] < 0:
            lines.append(
                f"On {row['tested']}, {in_words(row['method'])} at {row['level']} differs from "
                f"{in_words(one.design.reference or '')} by {_difference(row)} points, by the interval of this "
                "comparison alone."
            )
    return lines


def _classes_text(row: Row) -> str:
    """Return the number of classes of a score, and of the training if it has more."""
    all_of = row["classes"] == row["own_classes"]
    return f"{row['classes']} classes" if all_of else f"{row['classes']} of {row['own_classes']} classes"


def _unfinished(one: Tested, records: Records) -> list[str]:
    if one.missing.empty:
        return []
    return [missing_sentence(one.missing, one.planned, records.resume_command(one.study))]


def _more(records: Records, options: Options) -> list[str]:
    """Return a sentence on other experiments of the store that would give further rows."""
    every = {one.experiment_id: one.name for one in records.client.search_experiments()}
    query = f"tags.`{Tag.KIND}` = '{PARENT}' and tags.`{Tag.TEST_CORPORA}` != ''"
    there = {every[run.info.experiment_id] for run in search_all(records.client, list(every), query)}
    if not (names := sorted(there - {records.experiment, *options.also})):
        return []
    command = records.command("analysis/across_corpora.py", "--also", *options.also, *names)
    return [f"Trainings on other corpora were tested across corpora as well ({listing(names)}). To add them: {command}"]
