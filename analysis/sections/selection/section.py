"""Selection by noisy and soft validation labels, and transfer of a choice to another noise level.

The same trials are chosen by noisy, true and soft validation labels: the regret in UAR against true labels, and the
agreement of the rankings. Then the choice at one noise level is scored at the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.common.records import Records
from analysis.common.searches import ONE_SEED, Score, Search, left_out, score_of_search, searches
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import (
    MISSING,
    configuration_in_words,
    counted,
    in_percent,
    listing,
    number,
    points,
    without_empty_columns,
)
from analysis.options import SelectionOptions as Options
from analysis.sections.selection.figures import Scatter, draw_scatters
from analysis.sections.selection.label_choice import (
    ALL,
    NEAR,
    NONE,
    RULES,
    SAME,
    TRUTH,
    agreements,
    best_by,
    regrets,
    shared_scores,
    transfers,
)
from study.schema import CHOSEN_BY, FINISHED, Selection, in_words

TITLE = "Selection by noisy labels, and transfer between noise levels"
REGRET = (
    "regret: how far the chosen trial is below the best trial, in points of UAR against the true validation labels. "
    "The best trial is found by these labels too, so regret is never negative and partly this oracle's luck; the test "
    "UAR of a confirmed choice has no such bias. ρ: Spearman's rank correlation of the score that chooses with UAR "
    "against true labels, over the trials, with its 95 % interval; Kendall's is in the CSV file."
)
TRANSFER = (
    "A configuration chosen at one noise level was tried at another one if a trial there has the same searched "
    "parameters, as the published ones do, which are tried at every level, or similar ones: within "
    f"{NEAR:g} of the ranges (root mean square over the parameters, each on its searched scale). With one seed, "
    "differences of a few points are chance."
)
LEAST_LEVELS = 2
MOST_LISTED = 4
LABELS = {"noisy": "noisy labels", "soft": "the annotators' votes"}
"""Rule of ``RULES`` → what it chooses by."""

Group = tuple[str, str, pd.DataFrame]
"""Noise level, space, and the trials."""


@dataclass(frozen=True)
class _Part:
    """A part of the section."""

    sentences: Sequence[str] = ()
    tables: Sequence[NamedTable] = ()
    figures: Sequence[NamedFigure] = ()
    missing: Sequence[str] = ()


def section(records: Records, options: Options) -> Section:
    """Return the cost of selection by noisy labels, and the transfer of choices between noise levels.

    Args:
        records: Records of the experiment.
        options: No option is used.
    """
    if records.search is None:
        reason = f"There is no trial of a search. To run one: {records.command('study/run.py')}"
        return Section("selection", TITLE, missing=(reason,))
    everything = list(searches(records.search))
    judged = [search for search in everything if len(search.trials) and search.trials[TRUTH].notna().all()]
    choice = _choice(records, _with_pooled_spaces(judged), _test_scores(records))
    transfer = _transfer(records, judged, records.search.selection)
    return Section(
        "selection",
        TITLE,
        (*choice.sentences, *transfer.sentences),
        (*choice.tables, *transfer.tables),
        (*choice.figures, *transfer.figures),
        (
            ONE_SEED,
            *([REGRET] if choice.tables else []),
            *([TRANSFER] if transfer.tables else []),
            *left_out(everything),
        ),
        (*_not_judged(everything, judged), *choice.missing, *transfer.missing),
    )


def _not_judged(everything: Sequence[Search], judged: Sequence[Search]) -> list[str]:
    missing = []
    if unfinished := [search.title for search in everything if not len(search.trials)]:
        missing.append(f"No trial has finished: {'; '.join(unfinished)}.")
    if unknown := [search.title for search in everything if len(search.trials) and search not in judged]:
        missing.append(
            f"Some validation utterances have no true label, so no choice can be judged: {'; '.join(unknown)}."
        )
    for rule in RULES:
        if judged and all(search.trials[rule.column].isna().all() for search in judged):
            reason = f"the corpus has no {rule.needs}" if rule.needs else f"no trial has recorded {rule.metric}"
            missing.append(f"Nothing can be chosen by {LABELS[rule.name]}, because {reason}.")
    return missing


def _with_pooled_spaces(found: Sequence[Search]) -> list[Group]:
    """Return every search, after the trials of all spaces of its level together if there are several."""
    groups: list[Group] = []
    for noise in dict.fromkeys(search.noise for search in found):
        own = [search for search in found if search.noise == noise]
        if len(own) > 1:
            groups.append((noise, ALL, pd.concat([search.trials for search in own], ignore_index=True)))
        groups += [(noise, search.space, search.trials) for search in own]
    return groups


def _test_scores(records: Records) -> dict[str, float]:
    """Return search run → mean test UAR of its confirmation, on folds that the search has not chosen by if possible."""
    done = records.confirmed[(records.confirmed["status"] == FINISHED) & (records.confirmed["source"] != "")]
    means = {}
    for source, group in done.groupby("source"):
        clean = group[group["exposure"] != CHOSEN_BY]
        means[str(source)] = float((clean if len(clean) else group)["uar"].mean())
    return means


def _choice(records: Records, groups: Sequence[Group], tested: Mapping[str, float]) -> _Part:
    """Return choices by other labels."""
    rows: list[pd.DataFrame] = []
    for noise, space, trials in groups:
        table = regrets(trials, tested).merge(agreements(trials), on=["by", "trials"], how="left")
        table.insert(0, "space", space)
        table.insert(0, "noise", noise)
        rows.append(table)
    if not rows:
        return _Part()
    data = pd.concat(rows, ignore_index=True)
    if (data["trials"] == 1).all():
        return _Part(missing=["Each method has one finished trial, so there is nothing to choose from."])
    text = _choice_text(data)
    sentences = [sentence for rule in RULES for sentence in choice_sentences(data, rule.name)]
    figures = []
    if len(text):
        panels = _choice_panels(records, groups)
        figures.append(
            NamedFigure(
                "selection",
                "Finished trials by the score that chooses and by UAR against true labels, last epoch",
                " ".join(sentences),
                draw_scatters(
                    panels,
                    len({panel.title for panel in panels}),
                    "one mark per trial; filled: chosen for its method by the score below",
                ),
            )
        )
    caption = (
        "Choice among a method's trials without true labels: UAR in % against true labels, regret in points, next to "
        "the regret of a random choice, and how well the ranking agrees with that by true labels"
    )
    return _Part(sentences, [NamedTable("selection", caption, data, text, keys=3)], figures)


def choice_sentences(data: pd.DataFrame, by: str) -> list[str]:
    """Return what choosing by some labels costs at each level, among the trials of all methods together.

    Args:
        data: From ``regrets`` and ``agreements``, with ``noise`` and ``space``; all methods of a level come first.
        by: Name of a rule of ``RULES``.
    """
    mine = data[data["by"] == by]
    first = mine.groupby("noise", sort=False).head(1)  # all methods together, where there are several
    lines = []
    if equal := list(first[first["same"].eq(True)]["noise"]):
        lines.append(f"At {listing(equal)}, {LABELS[by]} and true labels give every trial the same score.")
    judged = first[~first["same"].eq(True) & (first["trials"] > 1)].to_dict("records")
    if judged and all(row["regret"] == 0 for row in judged):
        levels = listing([row["noise"] for row in judged])
        lines.append(f"The trial chosen by {LABELS[by]} is also the best one by true labels, at {levels}.")
    elif judged:
        costs = [
            f"{in_percent(row['regret'])} points of UAR at {row['noise']} (a random choice {in_percent(row['random'])})"
            for row in judged
        ]
        lines.append(f"Choosing by {LABELS[by]} instead of true labels loses {listing(costs)}.")
    return lines


def _choice_text(data: pd.DataFrame) -> pd.DataFrame:
    """Return the choices as displayed: those that could differ from the best trial by true labels."""
    shown = data[data["by"].isin(LABELS) & ~data["same"].eq(True) & (data["trials"] > 1)]
    rows = shown.to_dict("records")
    text = pd.DataFrame(
        {
            "noise": [row["noise"] for row in rows],
            "method": ["all methods" if row["space"] == ALL else in_words(row["space"]) for row in rows],
            "chosen by": [LABELS[row["by"]].removeprefix("the annotators' ") for row in rows],
            "trials": [str(row["trials"]) for row in rows],
            "chosen": [
                f"{in_words(row['chosen_space'])}, " * (row["space"] == ALL) + configuration_in_words(str(row["trial"]))
                for row in rows
            ],
            "UAR": [in_percent(row["uar"]) for row in rows],
            "regret": [in_percent(row["regret"]) for row in rows],
            "random regret": [in_percent(row["random"]) for row in rows],
            "ρ (95 %)": [
                f"{row['spearman']:.2f} ({row['low']:.2f} to {row['high']:.2f})".replace("-", "−")
                if pd.notna(row["spearman"])
                else MISSING
                for row in rows
            ],
            "test UAR": [in_percent(row["test_uar"]) for row in rows],
        }
    )
    return without_empty_columns(text)


def _choice_panels(records: Records, groups: Sequence[Group]) -> list[Scatter]:
    """Return one row of panels per rule that has scores, with one column per noise level."""
    panels = []
    truth = score_of_search(records, "val/uar")
    for rule in RULES:
        score = score_of_search(records, rule.metric)
        for noise in dict.fromkeys(group[0] for group in groups):
            scored = [
                trials.assign(chosen=trials.index == best_by(trials, rule))
                for level, space, trials in groups
                if level == noise and space != ALL and trials[rule.column].notna().all()
            ]
            if scored:
                trials = pd.concat(scored)
                drawn = pd.DataFrame(
                    {
                        "space": trials["space"],
                        "x": score.scale * trials[rule.column],
                        "y": truth.scale * trials[TRUTH],
                        "chosen": trials["chosen"],
                    }
                )
                best = truth.scale * float(trials[TRUTH].max())
                panels.append(Scatter(noise, drawn, _axis(score, rule), _axis(truth), best))
    return panels


def _axis(score: Score, rule: Selection | None = None) -> str:
    """Return an axis title that fits a narrow panel and says where low scores are good."""
    title = score.axis.removeprefix("validation ")
    return title if rule is None or rule.mode == "max" else title.replace(" against", " (low is good)\nagainst")


def _transfer(records: Records, found: Sequence[Search], selection: Selection) -> _Part:
    """Return choices at one level, scored at another."""
    noises = list(dict.fromkeys(search.noise for search in found))
    if len(noises) < LEAST_LEVELS:
        reason = (
            "Only one noise level has trials that can be judged, so no choice can be tried at another one. To search "
            f"more levels: {records.command('study/run.py', '--noise', 'clean', 'noisy-A', 'noisy-B')}"
        )
        return _Part(missing=[reason] if found else [])
    by_space: dict[str, dict[str, pd.DataFrame]] = {}
    for search in found:
        by_space.setdefault(search.space, {})[search.noise] = search.trials
    tables = [transfers(space, levels, selection, TRUTH) for space, levels in by_space.items() if len(levels) > 1]
    if not tables:
        return _Part(
            missing=["No method has finished trials at two noise levels, so no choice can be tried at another one."]
        )
    data = pd.concat(tables, ignore_index=True)
    sentences = transfer_sentences(data)
    figures = []
    if panels := _transfer_panels(records, noises, by_space):
        figures.append(
            NamedFigure(
                "transfer",
                "Configurations that were tried at two noise levels: UAR against true labels, last epoch, at both",
                " ".join(sentences) or "No choice was tried at another level.",
                draw_scatters(panels, min(len(panels), 3), "one mark per configuration that was tried at both levels"),
            )
        )
    plain = data.assign(parameters=[json.dumps(row, sort_keys=True) for row in data["parameters"]])
    caption = (
        "Choice at one noise level, tried at another: validation UAR in % against true labels, and its difference from "
        "the own choice of that level, in points"
    )
    table = NamedTable("transfer", caption, plain, _transfer_text(data), keys=2)
    return _Part(sentences, [table], figures, _no_match(records, data))


def _no_match(records: Records, data: pd.DataFrame) -> list[str]:
    far = data[data["match"] == NONE]
    if far.empty:
        return []
    named = [f"{in_words(row['space'])} {row['from']} → {row['to']}" for row in far.to_dict("records")]
    more = len(named) - MOST_LISTED
    listed = "; ".join(named[:MOST_LISTED]) + (f"; and {more} more in transfer.csv" if more > 0 else "")
    return [
        f"No configuration similar to the choice was tried at the other level for {len(far)} of {len(data)} pairs: "
        f"{listed}. To try it: copy search_spaces/SPACE.py to another folder, make the parameters in transfer.csv its "
        "only POINTS, and run, with the study's other options: "
        f"{records.command('study/run.py', '--space', 'FOLDER/SPACE.py', '--noise', 'LEVEL', '--trials', '1')}"
    ]


def _transfer_panels(
    records: Records, noises: Sequence[str], by_space: Mapping[str, Mapping[str, pd.DataFrame]]
) -> list[Scatter]:
    """Return one panel per pair of levels with at least two shared configurations."""
    panels = []
    truth = score_of_search(records, "val/uar")
    for place, first in enumerate(noises):
        for second in noises[place + 1 :]:
            tables = [
                shared_scores(levels[first], levels[second], TRUTH).assign(space=space)
                for space, levels in by_space.items()
                if first in levels and second in levels
            ]
            shared = pd.concat(tables) if tables else pd.DataFrame()
            if len(shared) > 1:
                drawn = pd.DataFrame(
                    {
                        "space": shared["space"],
                        "x": truth.scale * shared["first"],
                        "y": truth.scale * shared["second"],
                        "chosen": False,
                    }
                )
                across, up = (_axis(truth).replace(", %", f" at {noise}, %") for noise in (first, second))
                panels.append(Scatter(f"{first} → {second}", drawn, across, up))
    return panels


def transfer_sentences(data: pd.DataFrame) -> list[str]:
    """Return a sentence on how choices do at other levels, next to the own choices there.

    Args:
        data: From ``transfers``.
    """
    tried = data[data["match"] != NONE]
    if tried.empty:
        return []
    better, worse = tried[tried["difference"] > 0], tried[tried["difference"] < 0]
    equal = len(tried) - len(better) - len(worse)
    if equal == len(tried):
        return ["Every choice that was tried at another noise level did exactly as well there as the own choice."]
    found = [f"{equal} did as well there as the own choice"] if equal else []
    for rows, word, extreme in (
        (better, "better", better["difference"].max()),
        (worse, "worse", worse["difference"].min()),
    ):
        if len(rows):
            found.append(f"{len(rows)} did {word} (by {in_percent(abs(extreme))} points at most)")
    return [f"Of {counted(len(tried), 'choice')} that could be tried at another noise level, {listing(found)}."]


def _transfer_text(data: pd.DataFrame) -> pd.DataFrame:
    """Return the transfers as displayed: those that were tried."""
    rows = data[data["match"] != NONE].to_dict("records")
    text = pd.DataFrame(
        {
            "method": [in_words(row["space"]) for row in rows],
            "chosen at → tried at": [f"{row['from']} → {row['to']}" for row in rows],
            "configuration": [configuration_in_words(str(row["trial"])) for row in rows],
            "tried": ["same" if row["match"] == SAME else f"similar ({number(row['distance'], 2)})" for row in rows],
            "UAR": [in_percent(row["moved"]) for row in rows],
            "own choice": [in_percent(row["own"]) for row in rows],
            "random choice": [in_percent(row["random"]) for row in rows],
            "difference": [points(row["difference"]) for row in rows],
        }
    )
    return without_empty_columns(text) if rows else text
