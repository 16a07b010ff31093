"""Paired comparisons of each method with the reference, and ranks of the methods, at each noise level."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.common.methods import REFERENCE, left_out_confirmations
from analysis.common.records import Records, RecordsOptions
from analysis.common.section import NamedFigure, NamedTable, Section
from analysis.common.text import MISSING, counted, number, p_equation, p_value, points
from analysis.sections.significance.comparisons import (
    BETTER,
    HELD_OUT,
    IMPOSSIBLE,
    SEEN,
    WORSE,
    LevelRanking,
    Tested,
    compare_all,
    rank_all,
    read_tested,
)
from analysis.sections.significance.figures import draw_differences, draw_rankings
from analysis.sections.significance.statistics import ALPHA, EXACT_SPEAKERS, RESAMPLES
from ser.utils.command_names import command_line
from ser.utils.errors import unknown_name

TITLE = "Differences"
FEW_SPEAKERS = 10


@dataclass(frozen=True)
class Options(RecordsOptions):
    """Compare the confirmed methods of an experiment with a reference, per noise level."""

    output: Path = Path("results") / "significance"
    """Folder of the tables and figures."""
    reference: str = REFERENCE
    """Search space that the others are compared with."""


def section(records: Records, options: Options) -> Section:
    """Return the differences between the methods and the reference.

    Args:
        records: Records of both stages; without a confirmation the section says only what is missing.
        options: The reference.

    Raises:
        UserError: If no trial is of the reference, or if a per-utterance table cannot be read or does not match the
            others.
    """
    reference = options.reference
    if reference != REFERENCE and reference not in records.spaces:
        raise unknown_name("--reference", reference, records.spaces)
    title = f"{TITLE} from {reference}"
    if records.confirmed.empty:
        missing = (
            "Nothing was confirmed, and scores of a search are the luckiest of several with one seed: nothing is "
            f"claimed from them. To confirm: {records.confirm_command()}",
        )
        return Section("significance", title, missing=missing)
    tested = read_tested(records)
    compared = compare_all(tested, reference, len(records.classes))
    rankings = rank_all(tested)
    parts = {part: compared[compared["folds"] == part] for part in (HELD_OUT, SEEN)}
    head = parts[HELD_OUT] if len(parts[HELD_OUT]) else parts[SEEN]
    apart = comparison_sentences(parts[SEEN])[:1] if len(parts[HELD_OUT]) else []
    drawn = [level for level in rankings if level.ranking is not None]
    tables = [
        NamedTable(
            "significance" if part == HELD_OUT else "significance_seen",
            f"Test UAR against true labels, last epoch: difference (method − {reference}); folds {part}",
            rows.reset_index(drop=True),
            comparison_text(rows),
        )
        for part, rows in parts.items()
        if len(rows)
    ]
    figures = [
        NamedFigure(
            "significance" if part == HELD_OUT else "significance_seen",
            f"Difference of test UAR from {reference}, 95 % intervals over speakers; folds {part}",
            " ".join(comparison_sentences(rows)),
            draw_differences(rows),
        )
        for part, rows in parts.items()
        if len(rows)
    ]
    if drawn:
        ranks = ranking_table(drawn)
        tables.append(NamedTable("ranks", "Mean ranks by test UAR, 1 is best", ranks, ranking_text(ranks)))
        figures.append(
            NamedFigure(
                "critical_difference",
                "Mean ranks of the methods, best on the left; bars join those that cannot be told apart (Nemenyi, .05)",
                " ".join(map(ranking_sentence, drawn)),
                draw_rankings(drawn),
            )
        )
    return Section(
        "significance",
        title,
        sentences=(*comparison_sentences(head), *map(ranking_sentence, drawn), *apart),
        tables=tuple(tables),
        figures=tuple(figures),
        notes=tuple(notes(compared, head, drawn)),
        missing=tuple(missing_parts(records, tested, compared, rankings, reference)),
    )


def comparison_sentences(compared: pd.DataFrame) -> list[str]:
    """A summary, then a sentence for each comparison.

    Args:
        compared: From ``analysis.sections.significance.comparisons.compare_all``, of the same folds.
    """
    if compared.empty:
        return []
    verdicts = compared["verdict"].value_counts()
    reference = compared["reference"].iloc[0]
    summary = (
        f"{counted(len(compared), 'comparison')} with {reference}"
        + (" on folds that the search has seen" if compared["folds"].iloc[0] == SEEN else "")
        + f": evidence of a better method in {verdicts.get(BETTER, 0)}, of a worse one in {verdicts.get(WORSE, 0)}, "
        f"none in {len(compared) - verdicts.get(BETTER, 0) - verdicts.get(WORSE, 0)}"
    )
    impossible = verdicts.get(IMPOSSIBLE, 0)
    summary += f", of which the design could not have given any in {impossible}." if impossible else "."
    return [summary, *(comparison_sentence(row, len(compared)) for row in compared.to_dict("records"))]


def comparison_sentence(row: Mapping[Hashable, Any], comparisons: int) -> str:
    """What one comparison says, in plain words.

    Args:
        row: Of ``compare_all``.
        comparisons: How many p was corrected for.
    """
    method, reference = row["method"], row["reference"]
    speakers = counted(row["speakers"], "speaker")
    interval = f"95 % interval {points(row['low'])} to {points(row['high'])}, " if pd.notna(row["low"]) else ""
    what = (
        f"{row['noise']}, {method} against {reference}: test UAR {row['uar']:.3f} against {row['uar_reference']:.3f}, "
        f"{points(row['difference'])} points ({interval}{speakers}, {_seeds(row['seeds'])})."
    )
    corrected = (
        f"{p_equation(row['p_holm'])}, corrected for {comparisons} comparisons"
        if comparisons > 1
        else (p_equation(row["p_holm"]))
    )
    if row["verdict"] in (BETTER, WORSE):
        return f"{what} Evidence that {method} is {row['verdict']} ({corrected})."
    if row["verdict"] == IMPOSSIBLE:
        floor = f"with {speakers} p cannot fall below {_least(row['p_smallest'])}"
        if row["p_smallest"] <= ALPHA:
            floor += f", and below {_least(row['p_holm_smallest'])} once corrected for {comparisons} comparisons"
            floor += f" (it is {row['p']:.3f} before)"
        return f"{what} No evidence of a difference, nor could this design have given any, however large: {floor}."
    if pd.isna(row["smallest_detectable"]):
        return f"{what} No evidence of a difference: the two score alike for every speaker."
    least = f"A difference of {100 * row['smallest_detectable']:.1f} points would have shown four times in five"
    alone = ", had this been the only comparison" if comparisons > 1 else ""
    return f"{what} No evidence of a difference ({corrected}). {least}{alone}; a smaller one less often."


def ranking_sentence(level: LevelRanking) -> str:
    """What the ranks of one noise level say, in plain words.

    Args:
        level: With a ``ranking``.
    """
    if level.ranking is None:
        raise ValueError(f"{level.noise} has no ranking")
    ranks = level.ranking.ranks
    order = sorted(range(len(ranks)), key=lambda index: (ranks[index], index))
    listed = ", ".join(f"{level.methods[index]} {ranks[index]:.2f}" for index in order)
    where = f"{level.noise}, mean ranks over {level.blocks} blocks (fold × seed): {listed}."
    if level.ranking.p > ALPHA:
        return f"{where} No evidence that any method ranks differently (Friedman, {p_equation(level.ranking.p)})."
    apart = [
        f"{level.methods[one]} before {level.methods[other]}"
        for place, one in enumerate(order)
        for other in order[place + 1 :]
        if ranks[other] - ranks[one] > level.ranking.critical_difference
    ]
    told = (
        f"farther apart than {level.ranking.critical_difference:.2f} are {'; '.join(apart)}"
        if apart
        else (f"no two are farther apart than {level.ranking.critical_difference:.2f}, so which differ cannot be told")
    )
    return f"{where} They differ (Friedman, {p_equation(level.ranking.p)}); {told}."


def comparison_text(compared: pd.DataFrame) -> pd.DataFrame:
    """The comparisons as text."""
    rows = compared.to_dict("records")
    return pd.DataFrame(
        {
            "noise": [row["noise"] for row in rows],
            "method": [row["method"] for row in rows],
            "candidate": [row["candidate"] for row in rows],
            "UAR": [number(row["uar"]) for row in rows],
            "ref.": [number(row["uar_reference"]) for row in rows],
            "diff.": [points(row["difference"]) for row in rows],
            "95 % interval": [
                f"{points(row['low'])}…{points(row['high'])}" if pd.notna(row["low"]) else MISSING for row in rows
            ],
            "SD": [number(100 * row["sd_seeds"], 1) for row in rows],
            "P(>)": [number(row["p_better"]) for row in rows],
            "p": [p_value(row["p"]) for row in rows],
            "Holm": [p_value(row["p_holm"]) for row in rows],
            "MDD": [_detectable(row["smallest_detectable"]) for row in rows],
            "N": [str(row["speakers"]) for row in rows],
            "verdict": [row["verdict"] for row in rows],
        }
    )


def ranking_table(levels: Sequence[LevelRanking]) -> pd.DataFrame:
    """One row for each level and method, best first."""
    rows = [
        {
            "noise": level.noise, "folds": level.folds, "method": method, "mean_rank": rank, "mean_uar": mean,
            "blocks": level.blocks, "friedman": level.ranking.statistic, "p": level.ranking.p,
            "critical_difference": level.ranking.critical_difference,
        }
        for level in levels
        if level.ranking is not None
        for rank, method, mean in sorted(zip(level.ranking.ranks, level.methods, level.mean_uar, strict=True))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def ranking_text(ranks: pd.DataFrame) -> pd.DataFrame:
    """The ranks as text."""
    text = ranks[["noise", "folds", "method"]].copy()
    text["mean rank"] = [f"{rank:.2f}" for rank in ranks["mean_rank"]]
    text["mean UAR"] = [f"{mean:.3f}" for mean in ranks["mean_uar"]]
    text["blocks"] = ranks["blocks"].astype(str)
    text["Friedman p"] = [p_value(p) for p in ranks["p"]]
    text["CD"] = [f"{difference:.2f}" for difference in ranks["critical_difference"]]
    return text


def notes(compared: pd.DataFrame, head: pd.DataFrame, drawn: Sequence[LevelRanking]) -> list[str]:
    """What a reader of the tables and figures must know."""
    lines = []
    if len(compared):
        lines = [
            "Each method stands with the candidate of the best mean validation score. Both methods of a pair have the "
            "same seeds, folds and noise draws; a seed's predictions are pooled over folds, and its UAR is averaged "
            "with those of the other seeds. Speakers are the unit: results hold for other speakers as far as these "
            "stand for them, and for these seeds. N: speakers. SD: the difference's deviation over seeds, in points.",
            f"Interval: BCa bootstrap over speakers, {RESAMPLES:,} resamplings (Efron 1987). p: permutation that swaps "
            f"the methods within speakers, all of them up to {EXACT_SPEAKERS} speakers, else {RESAMPLES:,}. Holm: p "
            "corrected over all methods and levels (Holm 1979); it alone decides the verdict, at .05, and intervals "
            "are not corrected. 'not possible': so few speakers and so many comparisons allow no p below .05. P(>): "
            "the share of resamplings of the speakers in which the method's UAR is above the reference's.",
            "MDD, minimum detectable difference: what, in points, a paired test of so many speakers shows with 80 % "
            "power, at .05 before any correction; from the noncentral t distribution and the jackknife's standard "
            "error, so it is itself an estimate, and too small below eight speakers. After correction more is needed.",
        ]
        few = sorted(set(compared.loc[compared["speakers"] <= FEW_SPEAKERS, "speakers"]))
        if few:
            lines.append(
                f"With {' or '.join(map(str, few))} speaker{'s' if few != [1] else ''} bootstrap intervals are too "
                "short: they know no other voices than these. Read them as the least uncertainty there is."
            )
        if len(head) and head["folds"].iloc[0] == SEEN:
            lines.append(
                "The search has trained on, or chosen by, the test rows of every fold here: scores are too good."
            )
        elif (compared["folds"] == SEEN).any():
            lines.append(
                "Folds that the search has seen stand in a table of their own, corrected apart, and are no part of the "
                "findings: the search has trained on, or chosen by, their test rows."
            )
        if unlabelled := int(compared["unlabelled"].max()):
            lines.append(f"Up to {unlabelled} test utterances of a comparison have no true label and were left out.")
    if drawn:
        lines.append(
            "Ranks: Friedman's test and Nemenyi's critical difference (Demšar 2006) over the test UAR of each fold "
            "and seed. Blocks of one fold share their speakers, and are not independent as the tests assume, so the "
            "differences look surer than they are."
        )
        if any(level.folds == SEEN for level in drawn):
            names = ", ".join(level.noise for level in drawn if level.folds == SEEN)
            lines.append(f"Ranks of {names} are of folds that the search has seen.")
    return lines


def missing_parts(
    records: Records, tested: Tested, compared: pd.DataFrame, rankings: Sequence[LevelRanking], reference: str
) -> list[str]:
    """What cannot be told, and how to get it."""
    command = records.confirm_command()
    held_out = records.confirm_command("--folds", "held-out")
    more_seeds = records.confirm_command("--seeds", "5")
    more_methods = f"search their spaces too ({command_line('study/run.py')} --space NAME …), then "
    lines = left_out_confirmations(records)
    confirmed = records.confirmed[["noise", "space"]].drop_duplicates().itertuples(index=False, name=None)
    pairs = {(noise, space) for noise, space in confirmed if space != reference}
    if not pairs:
        lines.append(
            f"No other method than {reference} was confirmed, so nothing is compared. To add some, {more_methods}"
            f"{command}"
        )
    headline = compared[compared["folds"] == HELD_OUT]
    headline = headline if len(headline) else compared
    shown = set(headline[["noise", "method"]].itertuples(index=False, name=None))
    if lost := sorted(f"{space} at {noise}" for noise, space in pairs - shown):
        lines.append(
            f"No seed and fold with test predictions of both {reference} and the other: {', '.join(lost)}. Both need "
            f"finished trials of the same seeds and folds: {command}"
        )
    for runs, lack in (
        (tested.untabled, "have no table of utterances"),
        (tested.untrue, "have no true label in the test part"),
    ):
        if runs:
            lines.append(f"{len(runs)} confirmed trials {lack}, and are in no comparison: {', '.join(runs[:3])}"
                         + (", …" if len(runs) > 3 else "") + ".")  # fmt: skip
    if len(compared) and compared["folds"].eq(SEEN).all():
        lines.append(f"No fold that the search held out was confirmed. To get it: {held_out}")
    if unpaired := int(compared["unpaired"].sum()):
        lines.append(f"{unpaired} trials have no counterpart of the same seed and fold, and were left out of a pair.")
    if len(compared) and compared["sd_seeds"].isna().any():
        lines.append(f"Some comparisons are of one seed: nothing is known of its chance. To add seeds: {more_seeds}")
    for level in rankings:
        if level.ranking is None and len(level.methods) >= 3:
            lines.append(
                f"No critical-difference diagram of {level.noise}: it needs two blocks (fold × seed) that every method "
                f"has, and there {'is' if level.blocks == 1 else 'are'} {level.blocks}. To add seeds: {more_seeds}"
            )
    if small := [level.noise for level in rankings if len(level.methods) < 3]:
        lines.append(
            f"No critical-difference diagram of {', '.join(small)}: it compares three methods or more. To add "
            f"some, {more_methods}{command}"
        )
    return lines


def _least(p: float) -> str:
    return f"{p:.3g}"


def _seeds(listed: str) -> str:
    count = listed.count(",") + 1
    return "one seed" if count == 1 else f"mean of {count} seeds"


def _detectable(difference: float) -> str:
    return MISSING if pd.isna(difference) else "none" if difference == float("inf") else f"{100 * difference:.1f}"
