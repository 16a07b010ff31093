"""Chosen classes of a corpus: some left out, some merged, some renamed (``--classes``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from ser.corpora.corpus import Corpus, count_votes
from ser.utils.errors import UserError, unknown_name

ALL = "all"
"""Value of ``--classes`` that keeps all of a corpus's own classes."""

FORMER = "all-0.1"
"""Classes of what version 0.1 began: all, with ``human`` noise as it was then; never a value that a user gives."""

NO_VOTE = "without a vote for the classes"
OTHER_TRUTH = "with a true label outside the classes"


def choose_classes(corpus: Corpus, text: str) -> Corpus:
    """Choose, merge and rename the classes of a corpus.

    Utterances of other classes are left out; so are those whose true label is outside the chosen classes, and those
    of which no vote is left, because disagreement needs votes of every utterance. All of them are counted in
    ``outside``.

    Classes are merged before votes are counted, where individual votes are known: an annotator who names two classes
    that are merged has one vote. Without ``annotations``, the counts are added. Votes for classes that are not chosen
    become ``other_votes``.

    Args:
        corpus: Any corpus.
        text: Classes in the order of the new ones, ``A,NEW=OLD+OLD,…``, or ``all``.

    Returns:
        The corpus of the chosen classes; its ``notes`` say what was left out.

    Raises:
        UserError: If a class is unknown, empty or used twice, fewer than two are chosen, a new name belongs to
            another category of the corpus, or no utterance is left.

    Example:
        >>> from ser.corpora import load
        >>> corpus = choose_classes(load("synthetic"), "ang,hap=hap+exc,sad")
        >>> corpus.classes, len(corpus), dict(corpus.outside)
        (('ang', 'hap', 'sad'), 320, {'fru': 80, 'neu': 80})
    """
    if text in (ALL, FORMER):
        return replace(corpus, former_noise=text == FORMER)
    chosen = _parse(corpus, text)
    new_name = {old: new for new, olds in chosen.items() for old in olds}
    table = corpus.table[corpus.table["label"].isin(new_name)]
    outside = Counter(corpus.table["label"][~corpus.table["label"].isin(new_name)])
    if "true_label" in table:
        within = table["true_label"].isna() | table["true_label"].isin(new_name)
        outside[OTHER_TRUTH] = int((~within).sum())
        table = table[within].assign(true_label=table["true_label"].map(new_name).astype(object))
    table = table.assign(label=table["label"].map(new_name))
    annotations = corpus.annotations
    if annotations is not None:
        annotations = annotations.assign(label=annotations["label"].map(lambda word: new_name.get(word, word)))
        annotations = annotations[annotations["annotator"].isna() | ~annotations.duplicated()]
    votes, other_votes = _recount(corpus, table, annotations, chosen)
    unheard = np.array([old is not None and new is None for old, new in zip(table["votes"], votes, strict=True)], bool)
    outside[NO_VOTE] = int(unheard.sum())
    table = table.assign(votes=pd.Series(votes, index=table.index, dtype=object))
    if "other_votes" in table or any(other_votes):
        table = table.assign(other_votes=other_votes)
    table = table[~unheard]
    if table.empty:
        raise UserError(f"--classes {text!r} leaves none of the {len(corpus)} utterances of corpus {corpus.name!r}.")
    left_out = {name: count for name, count in sorted(outside.items()) if count}
    return replace(
        corpus,
        table=table,
        classes=tuple(chosen),
        annotations=annotations,
        outside=dict(Counter(corpus.outside) + Counter(left_out)),
        notes=(*corpus.notes, _note(corpus, chosen, len(table), left_out)),
    )


def _parse(corpus: Corpus, text: str) -> dict[str, tuple[str, ...]]:
    """Return the new classes in their order, each with the old ones that it consists of."""
    where = f"--classes {text!r}"
    chosen: dict[str, tuple[str, ...]] = {}
    used: set[str] = set()
    for part in text.split(","):
        new, equals, merged = part.partition("=")
        new = new.strip()
        olds = tuple(old.strip() for old in merged.split("+")) if equals else (new,)
        if not new or not all(olds):
            raise UserError(f"{where} has an empty name. Write A,B,NEW=OLD+OLD, such as angry,neutral=neutral+calm.")
        for old in olds:
            if old not in corpus.classes:
                raise unknown_name(f"class of corpus {corpus.name!r}:", old, corpus.classes)
            if old in used:
                raise UserError(f"{where} uses class {old!r} twice. Use each class of the corpus once.")
            used.add(old)
        if new in chosen:
            raise UserError(f"{where} names class {new!r} twice. Merge its classes: {new}=OLD+OLD.")
        chosen[new] = olds
    if len(chosen) < 2:
        raise UserError(f"{where} has one class; at least two are needed. Corpus: {', '.join(corpus.classes)}.")
    words = set(corpus.classes)
    if corpus.annotations is not None:
        words |= set(corpus.annotations["label"])
    for new, olds in chosen.items():
        if new in words and new not in olds:
            raise UserError(
                f"{where}: {new!r} is another category of corpus {corpus.name!r}. Choose another name for "
                f"{'+'.join(olds)}."
            )
    return chosen


def _recount(
    corpus: Corpus, table: pd.DataFrame, annotations: pd.DataFrame | None, chosen: Mapping[str, tuple[str, ...]]
) -> tuple[list[tuple[int, ...] | None], list[int]]:
    """Return the votes of each row for the chosen classes, None where there are none, and for everything else."""
    if annotations is not None:
        return count_votes(annotations, list(table["utterance_id"]), list(chosen))
    columns = [[corpus.classes.index(old) for old in olds] for olds in chosen.values()]
    others = corpus.other_votes[table.index]
    votes: list[tuple[int, ...] | None] = []
    other_votes: list[int] = []
    for old, more in zip(table["votes"], others.tolist(), strict=True):
        counts = () if old is None else tuple(int(sum(old[column] for column in merged)) for merged in columns)
        votes.append(counts if any(counts) else None)
        other_votes.append(more + (0 if old is None else int(sum(old)) - sum(counts)))
    return votes, other_votes


def _note(corpus: Corpus, chosen: Mapping[str, tuple[str, ...]], kept: int, left_out: Mapping[str, int]) -> str:
    """Say in a line which classes were chosen, and what was left out."""
    names = ", ".join(new if olds == (new,) else f"{new} ({' + '.join(olds)})" for new, olds in chosen.items())
    rest = ", ".join(f"{count} {name}" for name, count in left_out.items())
    return f"classes {names}: {kept} of {len(corpus)} utterances" + (f", without {rest}" if rest else "")
