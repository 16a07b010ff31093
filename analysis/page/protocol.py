"""Section on the protocol: the rules by which configurations were trained, chosen and tested."""

from __future__ import annotations

from analysis.common.designs import design_in_words, read_design
from analysis.common.records import Records
from analysis.common.section import Section
from analysis.common.text import counted, listing
from analysis.options import RecordsOptions
from analysis.page.provenance import Provenance, read_provenance
from study.schema import CHOSEN_BY, Tag, in_words
from study.tracking.searches import absent_remarks

TITLE = "Protocol"
Options = RecordsOptions


def section(records: Records, options: RecordsOptions) -> Section:
    """Return the section on the protocol.

    Args:
        records: Records of the experiment.
        options: No option is used.
    """
    found = read_provenance(records)
    budgets = found.values(Tag.PLANNED_TRIALS, found.search)
    sentences = _search_sentences(records, found)
    missing = []
    if records.confirmed.empty:
        missing.append(f"Nothing was confirmed on test rows. To confirm: {records.confirm_command()}")
    else:
        sentences += _confirmation_sentences(records)
    if len(budgets) == 1:
        sentences.append(f"Every method had the same budget: {budgets[0]} trials at each noise level.")
    elif budgets:
        missing.insert(
            0,
            f"Methods had different budgets ({listing(budgets)} trials), so their best trials are not comparable. To "
            f"even them out: {'; '.join(_extend(records, found, budgets[-1]))}",
        )
    return Section("protocol", TITLE, tuple(sentences), missing=tuple(missing))


def _extend(records: Records, found: Provenance, trials: str) -> list[str]:
    """Return the commands that give every study of the search a number of trials."""
    studies = {run.data.tags[Tag.STUDY] for run in found.search if run.data.tags[Tag.PLANNED_TRIALS] != trials}
    return [records.resume_command(study, "--trials", trials) for study in sorted(studies)]


def _search_sentences(records: Records, found: Provenance) -> list[str]:
    sentences = []
    if splits := found.values(Tag.SPLIT):
        sentences.append(
            f"Split {splits[0]}: no speaker is in two subsets. A leak would have stopped the study."
            if "random" not in splits[0]
            else f"Split {splits[0]}: validation rows share their speakers with the training rows, test rows do not."
        )
    if held_out := found.values(Tag.FOLD, found.search):
        seeds = found.values(Tag.SEED, found.search)
        sentences.append(
            f"The search held out fold {listing(held_out)} and never used its test rows. It trained with seed "
            f"{listing(seeds)} and one noise draw."
        )
    sentences += absent_remarks((*records.matched.search, *records.matched.confirmed))
    return [*sentences, f"Configurations were chosen by {records.selection.meaning}, never by test scores."]


def _confirmation_sentences(records: Records) -> list[str]:
    table = records.confirmed
    sentences = []
    for study in table.sort_values("start", kind="stable")["study"].unique():
        design, problem = read_design(records, study)
        mine = table[table["study"] == study]
        if design is None:
            sentences.append(
                f"Nothing was declared before confirmation {study}, because {problem}; it has "
                f"{counted(len(mine), 'trial')} on {counted(mine['fold'].nunique(), 'fold')} and "
                f"{counted(mine['seed'].nunique(), 'seed')}."
            )
            continue
        primary = ""
        if design.primary:
            method, level = design.primary["method"], design.primary["level"]
            against = f" against {in_words(design.reference)}" if design.reference else ""
            primary = f"; primary comparison: {in_words(method)}{against} at {level}"
        sentences.append(
            f"Confirmation {study} declared before it began: {listing(list(map(in_words, design.methods)))} at "
            f"{listing(design.levels)}; "
            f"{design_in_words(design)}{primary} (design {mine['design'].iloc[0]})."
        )
    if chosen_by := int((table["exposure"] == CHOSEN_BY).sum()):
        sentences.append(
            f"In {counted(chosen_by, 'trial')} the search chose the configuration by the test speakers; they are in no "
            "comparison."
        )
    return [
        *sentences,
        "Where a method has several configurations, each fold and seed takes the one with the best validation score "
        "there, of its own validation speakers. Methods are compared over folds that were trained independently, on "
        "the same noise draws.",
    ]
