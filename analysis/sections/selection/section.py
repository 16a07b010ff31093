"""Do noisy validation labels choose well, and does a choice serve at another noise level: python analysis/selection.py.

The same trials, chosen by noisy, true and soft validation labels: the regret in UAR against true labels, and how far
the rankings agree. Then what was chosen at one noise level, judged at the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd

from analysis.common.records import Records, RecordsOptions, open_records
from analysis.common.searches import ONE_SEED, Search, left_out, searches
from analysis.common.section import NamedFigure, NamedTable, Section, show, write
from analysis.sections.selection.figures import Scatter, draw_scatters
from analysis.sections.selection.label_choice import (
    ALL,
    CLEAN,
    COLUMNS,
    LEAST_RANKED,
    NEAR,
    NOISY,
    NONE,
    SAME,
    SOFT,
    agreements,
    best_by,
    regrets,
    shared_scores,
    transfers,
)
from ser.utils.command_line import parse
from study.schema import FINISHED, SELECTIONS, Selection
from study.tracking.searches import make_console

OPTIMISM = (
    "Regret is in UAR against the true labels of the same validation rows by which the oracle chooses. So it is never "
    "negative, and a part of it is the oracle's own luck; the test score of a confirmed choice has none of that."
)
TRANSFER = (
    "A configuration is the same where all searched parameters are. The search draws anew at each level, so that only "
    f"published points are tried at every level; another trial stands in if it lies within {NEAR:g} of the ranges "
    "(root mean square over the parameters, each on the scale that was searched). A positive difference says that the "
    "moved configuration did better than the level's own choice. One seed: differences of a few points are luck."
)


@dataclass(frozen=True)
class SelectionOptions(RecordsOptions):
    """Shows what choosing by noisy labels costs, and whether a choice serves at another noise level."""

    output: Path = Path("results") / "selection"
    """Folder for the tables and figures."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = parse(SelectionOptions)
    matplotlib.use("agg")
    found = section(open_records(options))
    console = make_console()
    show(found, console)
    for path in write([found], options.output):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)
    return 0


def section(records: Records) -> Section:
    """What choosing by noisy labels costs, and whether a choice serves at another level.

    Args:
        records: Of one experiment.
    """
    title = "Choosing by noisy labels, and at another noise level"
    if records.search is None:
        reason = "There is no trial of a search. To get one: python study/run.py"
        return Section("selection", title, missing=(reason,))
    everything = list(searches(records.search))
    found = [search for search in everything if len(search.trials)]
    missing = []
    if unfinished := [search.title for search in everything if not len(search.trials)]:
        missing.append(f"No trial has finished: {', '.join(unfinished)}.")
    judged = [search for search in found if search.trials["uar"].notna().all()]
    if unknown := [search.title for search in found if search not in judged]:
        missing.append(
            f"Some validation utterances have no true label, so that no choice can be judged: {', '.join(unknown)}. "
            "Such a level needs a corpus with true labels."
        )
    if judged and all(search.trials["soft_ce"].isna().all() for search in judged):
        missing.append("The corpus has no votes, so that nothing is chosen by soft labels.")
    pooled = _pooled(judged)
    tables, figures, sentences = _choice_parts(pooled, _tested(records))
    moved_tables, moved_figures, moved_sentences, unanswered = _transfer_parts(judged, records.search.selection)
    notes = [ONE_SEED, *([OPTIMISM] if tables else []), *([TRANSFER] if moved_tables else [])]
    return Section(
        "selection",
        title,
        (*sentences, *moved_sentences),
        (*tables, *moved_tables),
        (*figures, *moved_figures),
        (*notes, *left_out(everything, records.search.others)),
        (*missing, *unanswered),
    )


def _pooled(found: list[Search]) -> list[tuple[str, str, pd.DataFrame]]:
    """(noise, space, trials) of every search, and of all spaces of a level together where there are several."""
    groups: list[tuple[str, str, pd.DataFrame]] = []
    for noise in dict.fromkeys(search.noise for search in found):
        parts = [search for search in found if search.noise == noise]
        if len(parts) > 1:
            groups.append((noise, ALL, pd.concat([part.trials for part in parts], ignore_index=True)))
        groups += [(noise, part.space, part.trials) for part in parts]
    return groups


def _tested(records: Records) -> dict[str, float]:
    """Search run → mean test UAR of its confirmation, on folds that the search has not seen where there are any."""
    done = records.confirmed[(records.confirmed["status"] == FINISHED) & (records.confirmed["source"] != "")]
    means = {}
    for source, group in done.groupby("source"):
        clean = group[~group["seen"].astype(bool)]
        means[str(source)] = float((clean if len(clean) else group)["uar"].mean())
    return means


def _choice_parts(
    groups: list[tuple[str, str, pd.DataFrame]], tested: dict[str, float]
) -> tuple[list[NamedTable], list[NamedFigure], list[str]]:
    """Table, figure and sentences on choices by other labels."""
    rows, sentences = [], []
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
        return [], [], []
    data = pd.concat(rows, ignore_index=True)
    caption = (
        "The trial that noisy and soft validation labels choose: its UAR against true labels, the regret against the "
        "best, that of a random trial, and how far the ranking agrees with the true labels' (Spearman's ρ, Kendall's τ)"
    )
    figures = []
    panels = _choice_panels(groups)
    if panels:
        levels = len(dict.fromkeys(panel.title for panel in panels))
        figures.append(
            NamedFigure(
                "selection",
                "Finished trials by the score that chooses and by UAR against true labels, last epoch.",
                " ".join(sentences) or "Scatter plots of the trials by both scores.",
                draw_scatters(panels, levels, "each mark a trial; filled: chosen in its space by the labels below"),
            )
        )
    return [NamedTable("selection", caption, data, _choice_text(data))], figures, sentences


def _choice_sentences(noise: str, space: str, trials: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    among = f"{len(trials)} trials of {'all spaces' if space == ALL else space}"
    if len(trials) == 1:
        return [f"{noise}: one finished trial, so that there is nothing to choose from."]
    sentences = []
    for row in table.to_dict("records"):
        if row["by"] not in {NOISY, SOFT}:
            continue
        if row["same"] is True and row["by"] == NOISY:
            sentences.append(f"{noise}: the noisy validation labels score every trial as the true ones do.")
            continue
        outcome = (
            f"lies {row['regret']:.3f} UAR below the best by true labels"
            if row["regret"] > 0
            else "is the best by true labels too"
        )
        ranked = (
            f"Spearman's ρ {row['spearman']:.2f}, {row['low']:.2f} to {row['high']:.2f}"
            if pd.notna(row["spearman"])
            else f"fewer than {LEAST_RANKED} trials, or all of the same score: no ranking"
        )
        sentences.append(
            f"{noise}: of {among}, the one that {row['by']} validation labels choose {outcome}; a random one lies "
            f"{row['random']:.3f} below ({ranked})."
        )
    return sentences


def _choice_text(data: pd.DataFrame) -> pd.DataFrame:
    data = data[data["by"] != CLEAN]
    text = data[["noise", "space", "by"]].copy()
    text["trials"] = data["trials"].astype(str)
    text["chosen"] = [
        f"{row['chosen_space']} {row['trial']}" if row["space"] == ALL else row["trial"]
        for row in data.to_dict("records")
    ]
    for column, heading in {"uar": "val UAR", "regret": "regret", "random": "random's"}.items():
        text[heading] = [f"{value:.3f}" for value in data[column]]
    text["ρ (95 %)"] = [
        f"{row['spearman']:.2f} ({row['low']:.2f} to {row['high']:.2f})" if pd.notna(row["spearman"]) else "–"
        for row in data.to_dict("records")
    ]
    text["τ"] = [_number(value, 2) for value in data["kendall"]]
    if data["test_uar"].notna().any():
        text["test UAR"] = [_number(value, 3) for value in data["test_uar"]]
    return text


def _choice_panels(groups: list[tuple[str, str, pd.DataFrame]]) -> list[Scatter]:
    """A row for noisy labels, and one for soft ones where there are any; a column for each level."""
    panels = []
    for labels in (NOISY, SOFT):
        for noise in dict.fromkeys(group[0] for group in groups):
            parts = [
                trials.assign(chosen=trials.index == best_by(trials, labels))
                for level, space, trials in groups
                if level == noise and space != ALL and trials[COLUMNS[labels]].notna().all()
            ]
            if parts:
                trials = pd.concat(parts)
                points = pd.DataFrame(
                    {
                        "space": trials["space"], "x": trials[COLUMNS[labels]], "y": trials["uar"],
                        "chosen": trials["chosen"],
                    }
                )  # fmt: skip
                metric = SELECTIONS[labels].metric
                better = "" if SELECTIONS[labels].mode == "max" else " (small is good)"
                panels.append(Scatter(noise, points, f"{metric}{better}", "val/uar", float(trials["uar"].max())))
    return panels


def _transfer_parts(
    found: list[Search], selection: Selection
) -> tuple[list[NamedTable], list[NamedFigure], list[str], list[str]]:
    """Tables, figures and sentences on choices at other levels, and what cannot be answered."""
    noises = list(dict.fromkeys(search.noise for search in found))
    if len(noises) < len(("from", "to")):
        reason = (
            "One noise level alone has been searched and can be judged, so that no choice can be moved to another. "
            "To get more: python study/run.py --noise clean noisy-A noisy-B"
        )
        return [], [], [], [reason] if found else []
    by_space: dict[str, dict[str, pd.DataFrame]] = {}
    for search in found:
        by_space.setdefault(search.space, {})[search.noise] = search.trials
    parts = [transfers(space, levels, selection, "uar") for space, levels in by_space.items() if len(levels) > 1]
    if not parts:
        return [], [], [], ["No space has finished trials at two noise levels, so that no choice can be moved."]
    data = pd.concat(parts, ignore_index=True)
    sentences = _transfer_sentences(data)
    unanswered = []
    far = data[data["match"] == NONE]
    if len(far):
        named = ", ".join(f"{row['space']} {row['from']} → {row['to']}" for row in far.to_dict("records"))
        unanswered.append(
            "Whether the choice serves at the other level cannot be answered, for nothing like it was tried there: "
            f"{named}. To answer it: copy search_spaces/SPACE.py to another folder, make the parameters in "
            "transfer.csv its only POINTS, and run, with the study's other options: python study/run.py --space "
            "FOLDER/SPACE.py --noise LEVEL --trials 1 --name transfer"
        )
    panels = []
    for place, first in enumerate(noises):
        for second in noises[place + 1 :]:
            tables = [
                shared_scores(levels[first], levels[second], "uar").assign(space=space)
                for space, levels in by_space.items()
                if first in levels and second in levels
            ]
            points = pd.concat(tables) if tables else pd.DataFrame()
            if len(points) > 1:
                points = points.rename(columns={"first": "x", "second": "y"}).assign(chosen=False)
                panels.append(Scatter(f"{first} → {second}", points, f"val/uar at {first}", f"val/uar at {second}"))
    figures = []
    if panels:
        figures.append(
            NamedFigure(
                "transfer",
                "Configurations that were tried at two noise levels: UAR against true labels, last epoch, at both.",
                " ".join(sentences) or "Scatter plots of the same configurations at two noise levels.",
                draw_scatters(panels, min(len(panels), 3), "each mark a configuration that was tried at both levels"),
            )
        )
    plain = data.assign(parameters=[json.dumps(row, sort_keys=True) for row in data["parameters"]])
    caption = (
        "The configuration chosen at one level, judged at another: validation UAR against true labels, and the "
        "difference from the level's own choice; ρ: Spearman's, of the configurations shared"
    )
    return [NamedTable("transfer", caption, plain, _transfer_text(data))], figures, sentences, unanswered


def _transfer_sentences(data: pd.DataFrame) -> list[str]:
    """One for each pair of levels: each space's choice against the other level's own."""
    sentences = []
    for _, pair in data[data["match"] != NONE].groupby(["from", "to"], sort=False):
        parts = []
        for row in pair.to_dict("records"):
            how = "the same" if row["match"] == SAME else f"the nearest, {row['distance']:.2f} off"
            parts.append(f"{row['space']} {row['difference']:+.3f} ({how})")
        start, end = pair[["from", "to"]].iloc[0]
        sentences.append(
            f"What was chosen at {start}, judged at {end} against that level's own choice, in UAR: {', '.join(parts)}."
        )
    return sentences


def _transfer_text(data: pd.DataFrame) -> pd.DataFrame:
    text = data[["space", "from", "to", "trial", "match"]].copy()
    text["distance"] = [_number(value, 2) for value in data["distance"]]
    for column, heading in {"moved": "moved", "own": "own choice", "random": "mean"}.items():
        text[heading] = [_number(value, 3) for value in data[column]]
    text["difference"] = ["–" if pd.isna(value) else f"{value:+.3f}" for value in data["difference"]]
    text["shared"] = data["shared"].astype(str)
    text["ρ"] = [_number(value, 2) for value in data["spearman"]]
    return text


def _number(value: float, digits: int) -> str:
    return "–" if pd.isna(value) else f"{value:.{digits}f}"
