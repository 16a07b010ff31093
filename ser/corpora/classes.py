"""Chosen classes of a corpus: some left out, some merged, some renamed (``--classes``)."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from operator import or_
from pathlib import Path

import numpy as np
import pandas as pd

from ser.corpora.corpus import Corpus, count_votes
from ser.corpora.names import counted, emotion_of, escaped, folded, near_equal
from ser.corpora.source_files import read_text
from ser.utils.errors import UserError, listed, shown, unknown_name

ALL = "all"
"""Value of ``--classes`` that keeps all of a corpus's own classes."""

FORMER = "all-0.1"
"""Classes of what version 0.1 began: all, also those that no utterance has; never a value that a user gives."""

NO_VOTE = "without a vote for the classes"
OTHER_TRUTH = "with a true label outside the classes"
_JSON = ".json"
_SIGNS = ",=+"


def choose_classes(corpus: Corpus, text: str) -> Corpus:
    """Choose, merge and rename the classes of a corpus.

    Utterances of other classes are left out; so are those whose true label is outside the chosen classes, and those
    of which no vote is left, because disagreement needs votes of every utterance. All of them are counted in
    ``outside``. Classes without an utterance are left out as well.

    Classes are merged before votes are counted, where individual votes are known: an annotator who names two classes
    that are merged has one vote. Without ``annotations``, the counts are added. Votes for classes that are not chosen
    become ``other_votes``.

    Args:
        corpus: Any corpus.
        text: Classes in the order of the new ones, as ``parse_classes`` reads them; ``all``; or ``FORMER``, which
            leaves the corpus as it is.

    Returns:
        The corpus of the chosen classes; its ``notes`` say what was left out.

    Raises:
        UserError: If a class is unknown, empty or used twice, fewer than two are left, a new name belongs to another
            category of the corpus, or no utterance is left; for ``all``, if class names look like one class.

    Example:
        >>> from ser.corpora import load
        >>> corpus = choose_classes(load("synthetic"), "ang,hap=hap+exc,sad")
        >>> corpus.classes, len(corpus), dict(corpus.outside)
        (('ang', 'hap', 'sad'), 320, {'fru': 80, 'neu': 80})
    """
    if text == FORMER:
        return corpus if corpus.former else replace(corpus, former=True)
    if text == ALL:
        ask_about_classes(corpus)
        chosen: dict[str, tuple[str, ...]] = {name: (name,) for name in corpus.classes}
        table, annotations, left_out = corpus.table, corpus.annotations, dict[str, int]()
    else:
        chosen = parse_classes(text)
        _check(corpus, text, chosen)
        table, annotations, left_out = _choose(corpus, chosen)
    empty: list[str] = []
    while not table.empty and (more := _without_utterance(table, chosen)):
        empty += more
        chosen = {new: olds for new, olds in chosen.items() if new not in more}
        table, annotations, left_out = _choose(corpus, chosen)
    if table.empty:
        raise UserError(
            f"--classes {shown(text)} leaves none of the {len(corpus)} utterances of corpus {corpus.name!r}."
        )
    if len(chosen) < 2:
        raise UserError(
            f"all {len(table)} utterances of corpus {corpus.name!r} are of class {shown(next(iter(chosen)))}; at least "
            f"two classes are needed. No utterance has {listed(empty)}."
        )
    if text == ALL and not empty:
        return corpus
    return replace(
        corpus,
        table=table,
        classes=tuple(chosen),
        annotations=annotations,
        outside=dict(Counter(corpus.outside) + Counter(left_out)),
        notes=(*corpus.notes, _note(corpus, chosen, len(table), left_out, empty)),
        composition=_composition(corpus, chosen, table.index),
    )


def _without_utterance(table: pd.DataFrame, classes: Iterable[str]) -> list[str]:
    """Return the classes that are neither a label nor a true label of any utterance."""
    found = set(table["label"])
    if "true_label" in table:
        found |= set(table["true_label"].dropna())
    return [name for name in classes if name not in found]


def _choose(
    corpus: Corpus, chosen: Mapping[str, tuple[str, ...]]
) -> tuple[pd.DataFrame, pd.DataFrame | None, dict[str, int]]:
    """Return table and annotations of the chosen classes, and how many utterances are left out, by category."""
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
    return table[~unheard], annotations, {name: count for name, count in sorted(outside.items()) if count}


def _composition(corpus: Corpus, chosen: Mapping[str, tuple[str, ...]], rows: pd.Index) -> dict[str, Mapping[str, int]]:
    """Return the corpus's own classes that each chosen class consists of, with their numbers of utterances."""
    number = corpus.table["label"][rows].value_counts()
    composition: dict[str, Mapping[str, int]] = {}
    for new, olds in chosen.items():
        parts: Counter[str] = Counter()
        for old in olds:
            parts.update(corpus.composition.get(old, {old: int(number.get(old, 0))}))
        composition[new] = dict(parts)
    return composition


def parse_classes(text: str) -> dict[str, tuple[str, ...]]:
    """Return the new classes in their order, each with the old ones that it consists of.

    Args:
        text: ``A,NEW=OLD+OLD,…``; or for names with commas, plus or equals signs a JSON object
            ``{"NEW": ["OLD", "OLD"], …}``, or the path of a ``.json`` file with one.

    Raises:
        UserError: If the text is neither, the file cannot be read, or a class is empty or named twice.

    Example:
        >>> parse_classes("sad,happy=joy+excitement")
        {'sad': ('sad',), 'happy': ('joy', 'excitement')}
        >>> parse_classes('{"calm": ["calm, content"]}')
        {'calm': ('calm, content',)}
    """
    where = f"--classes {shown(text)}"
    if text.endswith(_JSON):
        return _parse_json(read_text(Path(text).expanduser()), where)
    if text.startswith("{"):
        return _parse_json(text, where)
    chosen: dict[str, tuple[str, ...]] = {}
    for part in text.split(","):
        new, equals, merged = part.partition("=")
        new = new.strip()
        olds = tuple(old.strip() for old in merged.split("+")) if equals else (new,)
        if not new or not all(olds):
            raise UserError(f"{where} has an empty name. Write A,B,NEW=OLD+OLD, such as angry,neutral=neutral+calm.")
        if new in chosen and olds == (new,):
            raise UserError(f"{where} uses class {shown(new)} twice. Use each class of the corpus once.")
        if new in chosen:
            raise UserError(f"{where} names class {shown(new)} twice. Merge its classes: {new}=OLD+OLD.")
        chosen[new] = olds
    return chosen


def _parse_json(text: str, where: str) -> dict[str, tuple[str, ...]]:
    expected = 'Expected is a JSON object such as {"neutral": ["neutral", "calm"], "sad": ["sad"]}'
    try:
        pairs = json.loads(text, object_pairs_hook=lambda pairs: pairs)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: {error}. {expected}.") from error
    chosen = {}
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise UserError(f"{where} is not an object. {expected}.")
    for new, olds in pairs:
        if not isinstance(olds, list) or not olds or not all(isinstance(old, str) and old for old in (new, *olds)):
            raise UserError(f"{where}: {shown(new)} has {shown(olds)}, not a list of class names. {expected}.")
        if new in chosen:
            raise UserError(f"{where} names class {shown(new)} twice. Merge its classes in one list.")
        chosen[new] = tuple(olds)
    return chosen


def resolved_classes(text: str | None) -> str | None:
    """Return a value of ``--classes`` that means the same without a file, to be kept with a study.

    Args:
        text: As for ``parse_classes``, ``all``, or None.

    Raises:
        UserError: The file or the JSON object is wrong, as for ``parse_classes``.

    Example:
        >>> resolved_classes('{"quiet": ["calm", "neutral"], "sad": ["sad"]}'), resolved_classes("all")
        ('quiet=calm+neutral,sad', 'all')
    """
    if text is None or (not text.startswith("{") and not text.endswith(_JSON)):
        return text
    return classes_text(parse_classes(text))


def classes_text(chosen: Mapping[str, Sequence[str]]) -> str:
    """Return the value of ``--classes`` for these classes: ``A,NEW=OLD+OLD``, or JSON where names do not allow it.

    Args:
        chosen: New class → the old ones that it consists of.

    Example:
        >>> classes_text({"sad": ["sad"], "calm": ["calm, content", "calm"]})
        '{"sad": ["sad"], "calm": ["calm, content", "calm"]}'
    """
    names = {name for new, olds in chosen.items() for name in (new, *olds)}
    seen = all(escaped(name) == name for name in names)
    text = ",".join(new if list(olds) == [new] else f"{new}={'+'.join(olds)}" for new, olds in chosen.items())
    if (
        seen
        and not text.endswith(_JSON)
        and all(name == name.strip() and not set(name) & set(_SIGNS) for name in names)
    ):
        return text
    return json.dumps({new: list(olds) for new, olds in chosen.items()}, ensure_ascii=not seen)


def ask_about_classes(corpus: Corpus) -> None:
    """Raise if class names look like one class, or hold several labels; the message has the answers ready to use.

    Args:
        corpus: A corpus with all of its own classes.

    Raises:
        UserError: If there is something to ask.
    """
    number = corpus.table["label"].value_counts().reindex(list(corpus.classes), fill_value=0)
    several = [name for name in corpus.classes if _has_several(name, corpus.classes)]
    groups = [
        sorted(group, key=lambda name: (-number[name], name))
        for group in near_equal((name for name in corpus.classes if name not in several), emotions=True)
    ]
    if not groups and not several:
        return
    named = {name: f"'{escaped(name)}' ({counted(int(number[name]))})" for name in (*several, *chain(*groups))}
    lines = [f"corpus {corpus.name!r} has class names that may be one class, or several in one:"]
    lines += [f"  {' and '.join(named[name] for name in group)} look like one class" for group in groups]
    lines += [f"  {named[name]} looks like several labels" for name in several]
    merged = {group[0]: group for group in groups}
    inner = {*several, *(name for group in groups for name in group[1:])}
    answers = {name: merged.get(name, [name]) for name in corpus.classes if name not in inner}
    if len(answers) > 1:
        left_out = " and leave out utterances with several labels" if several else ""
        lines += [f"To merge them{left_out}:" if groups else "To leave out utterances with several labels:"]
        lines += [f"  --classes {shlex.quote(classes_text(answers))}"]
    own = classes_text({name: [name] for name in corpus.classes})
    lines += ["To keep each as a class of its own:", f"  --classes {shlex.quote(own)}"]
    raise UserError("\n".join(lines))


def _has_several(name: str, classes: Sequence[str]) -> bool:
    """Return whether a class name joins emotions or classes, of which at least one is another class."""
    parts = [part for part in re.split(r"[;,|/+&]", name) if part.strip()]
    others = {emotion_of(other) or folded(other) for other in classes if other != name}
    are_others = [(emotion_of(part) or folded(part)) in others for part in parts]
    are_emotions = [emotion_of(part) is not None for part in parts]
    return len(parts) > 1 and any(are_others) and all(map(or_, are_others, are_emotions))


def _check(corpus: Corpus, text: str, chosen: Mapping[str, tuple[str, ...]]) -> None:
    """Raise if these classes cannot be made of the corpus's own."""
    where = f"--classes {shown(text)}"
    used: set[str] = set()
    for old in chain(*chosen.values()):
        if old not in corpus.classes:
            raise unknown_name(f"class of corpus {corpus.name!r}:", old, corpus.classes)
        if old in used:
            raise UserError(f"{where} uses class {shown(old)} twice. Use each class of the corpus once.")
        used.add(old)
    if len(chosen) < 2:
        raise UserError(
            f"{where} has fewer than two classes; at least two are needed. Corpus: {listed(corpus.classes, most=100)}."
        )
    words = set(corpus.classes)
    if corpus.annotations is not None:
        words |= set(corpus.annotations["label"])
    for new, olds in chosen.items():
        if new in words and new not in olds:
            raise UserError(
                f"{where}: {shown(new)} is another category of corpus {corpus.name!r}. Choose another name for "
                f"{'+'.join(olds)}."
            )


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


def _note(
    corpus: Corpus,
    chosen: Mapping[str, tuple[str, ...]],
    kept: int,
    left_out: Mapping[str, int],
    empty: Sequence[str],
) -> str:
    """Say in a line which classes were chosen, and what was left out."""
    names = ", ".join(new if olds == (new,) else f"{new} ({' + '.join(olds)})" for new, olds in chosen.items())
    rest = ", ".join(f"{count} {name}" for name, count in left_out.items())
    return (
        f"classes {names}: {kept} of {len(corpus)} utterances"
        + (f", without {rest}" if rest else "")
        + (f"; no utterance has {listed(empty)}" if empty else "")
    )
