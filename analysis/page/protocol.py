"""Section on the protocol: the rules by which configurations were trained, chosen and tested."""

from __future__ import annotations

from analysis.common.records import Records, RecordsOptions
from analysis.common.section import Section
from analysis.common.text import listing
from analysis.page.provenance import Provenance, read_provenance
from ser.utils.command_names import command_line
from study.schema import DEFAULT, Tag

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
            f"even them out: {command_line('study/run.py')} --resume --name NAME --trials N",
        )
    return Section("protocol", TITLE, tuple(sentences), missing=tuple(missing))


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
    return [*sentences, f"Configurations were chosen by {records.selection.meaning}, never by test scores."]


def _confirmation_sentences(records: Records) -> list[str]:
    table = records.confirmed
    has_seen = table["seen"].astype(bool)
    seen, unseen = ([str(fold) for fold in sorted(set(table.loc[rows, "fold"]))] for rows in (has_seen, ~has_seen))
    candidates = sorted(set(table["candidate"]), key=lambda name: (name == DEFAULT, name))
    seeds = [str(seed) for seed in sorted(set(table["seed"]))]
    folds = f"held-out fold {listing(unseen)}" if unseen else "no fold that the search held out"
    return [
        f"The confirmation retrained {listing(candidates)} of each method on seeds {listing(seeds)}, all epochs, "
        f"without early stopping; {folds}"
        + (f"; folds that the search has seen: {listing(seen)}" if seen else "")
        + ".",
        "Each method is then represented by its candidate with the best mean validation score. Methods are compared in "
        "pairs on the same seeds, folds and noise draws, over speakers.",
    ]
