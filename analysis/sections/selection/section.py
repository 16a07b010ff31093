"""Selection by noisy and soft validation labels, and transfer of a choice to another noise level.

The same trials are chosen by noisy, true and soft validation labels: the regret in UAR against true labels, and the
agreement of the rankings. Then the choice at one noise level is scored at the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.common.records import Records, RecordsOptions
from analysis.common.searches import ONE_SEED, Search, left_out, searches
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import MISSING, number, signed
from analysis.sections.selection.figures import Scatter, draw_scatters
from analysis.sections.selection.label_choice import (
    ALL,
    LEAST_RANKED,
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
from study.schema import CHOSEN_BY, FINISHED, Selection

TITLE = "Selection by noisy labels, and transfer between noise levels"
OPTIMISM = (
    "Regret is in UAR against the true labels of the validation rows by which the oracle chooses. So it is never "
    "negative, and part of it is the oracle's own optimism; the test score of a confirmed choice has no such bias."
)
TRANSFER = (
    "Configurations are the same if all searched parameters are equal. The search draws new configurations at each "
    "level, so only published points are tried at every level; otherwise the nearest trial is taken if it is within "
    f"{NEAR:g} of the ranges (root mean square over the parameters, each on its searched scale). A positive difference "
    "means that the transferred configuration did better than the level's own choice. One seed: differences of a few "
    "points are chance."
)
LEAST_LEVELS = 2

Group = tuple[str, str, pd.DataFrame]
"""Noise level, space, and the trials."""


@dataclass(frozen=True)
class Options(RecordsOptions):
    """Show the cost of selection by noisy labels, and how a choice does at another noise level."""

    output: Path = Path("results") / "selection"
    """Folder of the tables and figures."""


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
    choice = _choice(_with_pooled_spaces(judged), _test_scores(records))
    transfer = _transfer(records, judged, records.search.selection)
    return Section(
        "selection",
        TITLE,
        (*choice.sentences, *transfer.sentences),
        (*choice.tables, *transfer.tables),
        (*choice.figures, *transfer.figures),
        (
            ONE_SEED,
            *([OPTIMISM] if choice.tables else []),
            *([TRANSFER] if transfer.tables else []),
            *left_out(everything),
        ),
        (*_not_judged(everything, judged), *transfer.missing),
    )


def _not_judged(everything: Sequence[Search], judged: Sequence[Search]) -> list[str]:
    missing = []
    if unfinished := [search.title for search in everything if not len(search.trials)]:
        missing.append(f"No trial has finished: {', '.join(unfinished)}.")
    if unknown := [search.title for search in everything if len(search.trials) and search not in judged]:
        missing.append(
            f"Some validation utterances have no true label, so no choice can be judged: {', '.join(unknown)}. Such a "
            "level needs a corpus with true labels."
        )
    for rule in RULES:
        if judged and all(search.trials[rule.column].isna().all() for search in judged):
            reason = f"the corpus has no {rule.needs}" if rule.needs else f"no trial has recorded {rule.metric}"
            missing.append(f"Nothing is chosen by {rule.name} labels because {reason}.")
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


def _choice(groups: Sequence[Group], tested: Mapping[str, float]) -> _Part:
    """Return choices by other labels."""
    rows: list[pd.DataFrame] = []
    sentences: list[str] = []
    summarised: set[str] = set()
    for noise, space, trials in groups:
        table = regrets(trials, tested).merge(agreements(trials), on=["by", "trials"], how="left")
        table.insert(0, "space", space)
        table.insert(0, "noise", noise)
        rows.append(table)
        if noise not in summarised:  # all spaces together come first
            summarised.add(noise)
            sentences += _choice_sentences(noise, space, trials, table)
    if not rows:
        return _Part()
    data = pd.concat(rows, ignore_index=True)
    caption = (
        "Choice of noisy and soft validation labels: its UAR against true labels, its regret, the regret of a random "
        "choice, and the agreement of the ranking with that by true labels (Spearman's ρ, Kendall's τ)"
    )
    figures = []
    if panels := _choice_panels(groups):
        figures.append(
            NamedFigure(
                "selection",
                "Finished trials by the score that chooses and by UAR against true labels, last epoch.",
                " ".join(sentences) or "Scatter plots of the trials by both scores.",
                draw_scatters(
                    panels,
                    len({panel.title for panel in panels}),
                    "one mark per trial; filled: chosen in its space by the score below",
                ),
            )
        )
    return _Part(sentences, [NamedTable("selection", caption, data, _choice_text(data))], figures)


def _choice_sentences(noise: str, space: str, trials: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    among = f"{len(trials)} trials of {'all spaces' if space == ALL else space}"
    if len(trials) == 1:
        return [f"{noise}: one finished trial, so there is nothing to choose from."]
    sentences = []
    for row in table.to_dict("records"):
        if row["by"] not in {rule.name for rule in RULES}:
            continue
        if row["same"] is True:
            sentences.append(f"{noise}: the {row['by']} validation labels give every trial the score of the true ones.")
            continue
        outcome = (
            f"is {number(row['regret'])} UAR below the best by true labels"
            if row["regret"] > 0
            else "is also the best by true labels"
        )
        agreement = (
            f"Spearman's ρ {row['spearman']:.2f}, {row['low']:.2f} to {row['high']:.2f}"
            if pd.notna(row["spearman"])
            else f"no ranking: fewer than {LEAST_RANKED} trials, or equal scores"
        )
        sentences.append(
            f"{noise}: of {among}, the choice of {row['by']} validation labels {outcome}; a random choice is "
            f"{number(row['random'])} below on average ({agreement})."
        )
    return sentences


def _choice_text(data: pd.DataFrame) -> pd.DataFrame:
    data = data[data["by"].isin([rule.name for rule in RULES])]
    text = data[["noise", "space", "by"]].copy()
    text["trials"] = data["trials"].astype(str)
    text["chosen"] = [
        f"{row['chosen_space']} {row['trial']}" if row["space"] == ALL else row["trial"]
        for row in data.to_dict("records")
    ]
    for column, heading in {"uar": "val UAR", "regret": "regret", "random": "random baseline"}.items():
        text[heading] = data[column].map(number)
    text["ρ (95 %)"] = [
        f"{row['spearman']:.2f} ({row['low']:.2f} to {row['high']:.2f})" if pd.notna(row["spearman"]) else MISSING
        for row in data.to_dict("records")
    ]
    text["τ"] = [number(value, 2) for value in data["kendall"]]
    if data["test_uar"].notna().any():
        text["test UAR"] = data["test_uar"].map(number)
    return text


def _choice_panels(groups: Sequence[Group]) -> list[Scatter]:
    """Return one row of panels per rule that has scores, with one column per noise level."""
    panels = []
    for rule in RULES:
        for noise in dict.fromkeys(group[0] for group in groups):
            scored = [
                trials.assign(chosen=trials.index == best_by(trials, rule))
                for level, space, trials in groups
                if level == noise and space != ALL and trials[rule.column].notna().all()
            ]
            if scored:
                trials = pd.concat(scored)
                points = pd.DataFrame(
                    {"space": trials["space"], "x": trials[rule.column], "y": trials[TRUTH], "chosen": trials["chosen"]}
                )
                better = "" if rule.mode == "max" else " (small is good)"
                panels.append(Scatter(noise, points, f"{rule.metric}{better}", "val/uar", float(trials[TRUTH].max())))
    return panels


def _transfer(records: Records, found: Sequence[Search], selection: Selection) -> _Part:
    """Return choices at one level, scored at another."""
    noises = list(dict.fromkeys(search.noise for search in found))
    if len(noises) < LEAST_LEVELS:
        reason = (
            "Only one noise level has trials that can be judged, so no choice can be transferred. To search more "
            f"levels: {records.command('study/run.py', '--noise', 'clean', 'noisy-A', 'noisy-B')}"
        )
        return _Part(missing=[reason] if found else [])
    by_space: dict[str, dict[str, pd.DataFrame]] = {}
    for search in found:
        by_space.setdefault(search.space, {})[search.noise] = search.trials
    tables = [transfers(space, levels, selection, TRUTH) for space, levels in by_space.items() if len(levels) > 1]
    if not tables:
        return _Part(missing=["No space has finished trials at two noise levels, so no choice can be transferred."])
    data = pd.concat(tables, ignore_index=True)
    sentences = _transfer_sentences(data)
    figures = []
    if panels := _transfer_panels(noises, by_space):
        figures.append(
            NamedFigure(
                "transfer",
                "Configurations that were tried at two noise levels: UAR against true labels, last epoch, at both.",
                " ".join(sentences) or "Scatter plots of the same configurations at two noise levels.",
                draw_scatters(panels, min(len(panels), 3), "one mark per configuration that was tried at both levels"),
            )
        )
    plain = data.assign(parameters=[json.dumps(row, sort_keys=True) for row in data["parameters"]])
    caption = (
        "Choice at one level, scored at another: validation UAR against true labels, and the difference (transferred − "
        "the level's own choice); ρ: Spearman's, over the shared configurations"
    )
    return _Part(
        sentences, [NamedTable("transfer", caption, plain, _transfer_text(data))], figures, _no_match(records, data)
    )


def _no_match(records: Records, data: pd.DataFrame) -> list[str]:
    far = data[data["match"] == NONE]
    if far.empty:
        return []
    named = ", ".join(f"{row['space']} {row['from']} → {row['to']}" for row in far.to_dict("records"))
    return [
        f"No configuration near the choice was tried at the other level, so its transfer is unknown: {named}. To try "
        "it: copy search_spaces/SPACE.py to another folder, make the parameters in transfer.csv its only POINTS, and "
        "run, with the study's other options: "
        f"{records.command('study/run.py', '--space', 'FOLDER/SPACE.py', '--noise', 'LEVEL', '--trials', '1')}"
    ]


def _transfer_panels(noises: Sequence[str], by_space: Mapping[str, Mapping[str, pd.DataFrame]]) -> list[Scatter]:
    """Return one panel per pair of levels with at least two shared configurations."""
    panels = []
    for place, first in enumerate(noises):
        for second in noises[place + 1 :]:
            tables = [
                shared_scores(levels[first], levels[second], TRUTH).assign(space=space)
                for space, levels in by_space.items()
                if first in levels and second in levels
            ]
            points = pd.concat(tables) if tables else pd.DataFrame()
            if len(points) > 1:
                points = points.rename(columns={"first": "x", "second": "y"}).assign(chosen=False)
                panels.append(Scatter(f"{first} → {second}", points, f"val/uar at {first}", f"val/uar at {second}"))
    return panels


def _transfer_sentences(data: pd.DataFrame) -> list[str]:
    """Return one sentence per pair of levels on each space's choice."""
    sentences = []
    for _, pair in data[data["match"] != NONE].groupby(["from", "to"], sort=False):
        differences = []
        for row in pair.to_dict("records"):
            how = "the same" if row["match"] == SAME else f"the nearest, at distance {row['distance']:.2f}"
            differences.append(f"{row['space']} {signed(row['difference'])} ({how})")
        start, end = pair[["from", "to"]].iloc[0]
        sentences.append(
            f"Choice at {start}, scored at {end}, minus that level's own choice, in UAR: {', '.join(differences)}."
        )
    return sentences


def _transfer_text(data: pd.DataFrame) -> pd.DataFrame:
    text = data[["space", "from", "to", "trial", "match"]].copy()
    text["distance"] = [number(value, 2) for value in data["distance"]]
    for column, heading in {"moved": "moved", "own": "own choice", "random": "random"}.items():
        text[heading] = data[column].map(number)
    text["difference"] = data["difference"].map(signed)
    text["shared"] = data["shared"].astype(str)
    text["ρ"] = [number(value, 2) for value in data["spearman"]]
    return text
