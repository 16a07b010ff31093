"""Other corpora that a confirmation tests its trainings on: named, loaded, matched with the classes of the training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from ser.audio.levels import level_warnings
from ser.class_mapping import mapping_lines, share_classes, shared_corpus, true_classes
from ser.corpora import Corpus, check_name, load
from ser.corpora.classes import ALL, resolved_classes
from ser.corpora.registry import PATH_OPTIONS
from ser.features.front_ends import Extractor
from ser.features.store import FeatureStore
from ser.training.other_corpora import OtherTest
from ser.utils.errors import UserError, unknown_name
from study.options import StudyOptions
from study.setup.design import OtherCorpus
from study.setup.prepare import open_stores
from study.setup.resolve import absolute, data_name

NAMES_SHOWN = 5
METRIC_GROUPS = ("last", "best", "stopped")
"""Names that metrics of the corpus's own test speakers have after ``test/``."""


@dataclass(frozen=True)
class LoadedCorpus:
    """Another corpus that is tested on.

    Args:
        declared: How the design declares it.
        corpus: Its utterances of the shared classes, whose true labels are known.
        lines: How its classes were matched, what was left out, and its notes, in lines for people.
    """

    declared: OtherCorpus
    corpus: Corpus
    lines: tuple[str, ...]

    def test(self, store: FeatureStore, trained: Sequence[str]) -> OtherTest:
        """Return what a training is tested on.

        Args:
            store: Feature store of the corpus.
            trained: Class names of the training, in the order of its outputs.
        """
        truth = true_classes(self.corpus)
        rows = np.flatnonzero(truth >= 0)
        return OtherTest(
            name=self.declared.name,
            store=store.path,
            classes=self.corpus.classes,
            columns=tuple(trained.index(name) for name in self.corpus.classes),
            rows=rows,
            truth=truth[rows],
            speakers=tuple(self.corpus.table["speaker"].iloc[rows]),
        )


def load_others(
    words: Sequence[str],
    options: Sequence[str],
    own: str,
    trained: Sequence[str],
    declared: Sequence[OtherCorpus] | None = None,
) -> tuple[LoadedCorpus, ...]:
    """Load the corpora that a confirmation is tested on besides its own.

    Args:
        words: Values of ``--test-corpus``: NAME=PATH, or NAME for a generated corpus.
        options: Values of ``--test-options``: NAME.KEY=VALUE.
        own: Name of the data that are trained on.
        trained: Class names of the training.
        declared: What a resumed confirmation has declared; ``words`` and ``options`` then say where it lies now.

    Raises:
        UserError: A word, name or option is wrong, two corpora have one name, fewer than two classes are shared, or a
            corpus is not the one that was declared.
        DataErrors: A corpus has errors; the message names the option that leaves them out.
    """
    given = _parse(words, options, own)
    if declared is not None:
        if unknown := next((name for name in given if name not in {one.name for one in declared}), None):
            raise unknown_name("test corpus of this confirmation:", unknown, [one.name for one in declared])
        given = {one.name: one for one in declared} | {
            one.name: OtherCorpus(
                one.name, one.corpus, given[one.name].root or one.root, {**one.options, **given[one.name].options},
            )
            for one in declared
            if one.name in given
        }  # fmt: skip
    loaded = tuple(_load(one, trained) for one in given.values())
    for was, now in zip(declared or (), loaded, strict=False):
        if (was.digest, was.classes) != (now.declared.digest, now.declared.classes):
            raise UserError(
                f"test corpus {was.name!r} is not the one that the confirmation began with: its rows, labels or "
                "classes have changed. Restore it, or confirm again under another --name."
            )
    return loaded


@dataclass(frozen=True)
class OtherTests:
    """Tests on other corpora of all trainings of a confirmation.

    Args:
        own: The corpus of the training.
        others: The other corpora.
        stores: For each of them its feature stores by the name of their front end, as for ``own``.
    """

    own: Corpus
    others: Sequence[LoadedCorpus]
    stores: Sequence[Mapping[str, FeatureStore]]

    @property
    def heard(self) -> list[list[str]]:
        """Return the digests of the decoded audio of each corpus."""
        return [list(map(str, next(iter(stores.values())).content)) for stores in self.stores]

    @property
    def all_stores(self) -> tuple[FeatureStore, ...]:
        """Return the feature stores of all corpora."""
        return tuple(store for stores in self.stores for store in stores.values())

    @property
    def lines(self) -> dict[str, tuple[str, ...]]:
        """Return lines for people on each corpus by its name: classes, notes, and utterances of unusual level."""
        found = {}
        for other, stores in zip(self.others, self.stores, strict=True):
            names, store = other.corpus.table["utterance_id"].tolist(), next(iter(stores.values()))
            warnings = (f"warning: {line}" for line in level_warnings(names, store.levels))
            found[other.declared.name] = (*other.lines, *warnings)
        return found

    def of(self, front_end: str) -> tuple[OtherTest, ...]:
        """Return the tests of trainings that read a front end."""
        pairs = zip(self.others, self.stores, strict=True)
        return tuple(one.test(stores[front_end], self.own.classes) for one, stores in pairs)

    def check(self, store: FeatureStore) -> None:
        """Check that no other corpus holds a recording of the one that is trained on.

        Args:
            store: The first feature store of ``own``.

        Raises:
            UserError: Some recordings are in both.
        """
        copies = dict(zip(store.content.tolist(), self.own.table["utterance_id"], strict=True))
        for other, heard in zip(self.others, self.heard, strict=True):
            ids = other.corpus.table["utterance_id"]
            both = [(name, copies[one]) for name, one in zip(ids, heard, strict=True) if one in copies]
            if both:
                name = other.declared.name
                more = f" and {len(both) - NAMES_SHOWN} more" if len(both) > NAMES_SHOWN else ""
                listed = ", ".join(f"{one} (there {copy})" for one, copy in both[:NAMES_SHOWN])
                raise UserError(
                    f"{len(both)} recordings of test corpus {name!r} are also in corpus {self.own.name!r}, which is "
                    f"trained on: {listed}{more}. Leave them out: write their names in {name!r} into a file, one a "
                    f"line, and pass --test-options {name}.exclude=FILE"
                )


def open_tests(
    own: Corpus,
    others: Sequence[LoadedCorpus],
    extractors: Sequence[Extractor],
    options: StudyOptions,
    console: Console,
) -> OtherTests:
    """Open the feature stores of other corpora, and build those that are not there.

    Args:
        own: The corpus of the training.
        others: The other corpora.
        extractors: What computes the features of the training.
        options: The confirmation's options.
        console: Where progress is shown.

    Raises:
        UserError: Audio cannot be read; the message names the option that leaves it out.
    """
    stores = []
    for one in others:
        try:
            stores.append(open_stores(one.corpus, extractors, options, console))
        except UserError as error:
            raise UserError(_with_test_options(f"--test-corpus {one.declared.name}: {error}", one.declared)) from error
    return OtherTests(own, others, stores)


def _parse(words: Sequence[str], options: Sequence[str], own: str) -> dict[str, OtherCorpus]:
    """Return the corpora by their names in records, not yet matched."""
    found: dict[str, OtherCorpus] = {}
    for word in words:
        corpus, _, place = word.partition("=")
        check_name(corpus)
        root = str(absolute(Path(place))) if place else None
        name = re.sub(r"[^\w.\-]", "_", data_name(corpus, root))  # of metrics, and of options that a shell reads
        if name in (*found, *METRIC_GROUPS, own):
            of = (
                "that of the corpus that is trained on, whose test speakers are tested anyway"
                if name == own
                else "taken"
            )
            raise UserError(
                f"--test-corpus {word!r}: the name {name!r} is {of}. Name another corpus, or give the file or folder "
                "another name."
            )
        found[name] = OtherCorpus(name, corpus, root)
    for word in options:
        key, equals, value = word.partition("=")
        name, _, option = key.rpartition(".")
        if not equals or not name or not option:
            raise UserError(f"--test-options {word!r} is not NAME.KEY=VALUE, such as ravdess.classes=angry,sad.")
        if name not in found:
            raise unknown_name("--test-options: no --test-corpus has the name", name, found)
        found[name].options[option] = _resolved(option, value)
    return found


def _resolved(option: str, value: str) -> str:
    """Return the value of an option that means the same in another folder, and after a file of classes has changed."""
    if option == "classes":
        return resolved_classes(value) or value
    return str(absolute(Path(value))) if option == "exclude" or option in PATH_OPTIONS else value


def _load(one: OtherCorpus, trained: Sequence[str]) -> LoadedCorpus:
    own = {key: value for key, value in one.options.items() if key not in ("classes", "exclude")}
    exclude = one.options.get("exclude")
    try:
        whole = load(one.corpus, one.root, Path(exclude) if exclude else None, own, one.options.get("classes", ALL))
    except UserError as error:
        raise UserError(_with_test_options(f"--test-corpus {one.name}: {error}", one)) from error
    mapped = share_classes(trained, whole, f"--test-options {one.name}.classes=")
    corpus = shared_corpus(whole, mapped)
    if (true_classes(corpus) < 0).all():
        raise UserError(
            f"--test-corpus {one.name}: no utterance of the shared classes has a true label to score against."
        )
    notes = (_with_test_options(note, one) for note in whole.notes)
    lines = (*mapping_lines(trained, whole, mapped, corpus, one.name), *notes)
    return LoadedCorpus(OtherCorpus(one.name, one.corpus, one.root, one.options, whole.digest, mapped), corpus, lines)


def _with_test_options(message: str, one: OtherCorpus) -> str:
    """Return a message about a corpus with the options that a test corpus has."""
    for option, here in (
        ("--corpus-options ", f"--test-options {one.name}."),
        ("--exclude ", f"--test-options {one.name}.exclude="),
        ("--classes ", f"--test-options {one.name}.classes="),
        ("--corpus-root ", f"--test-corpus {one.corpus}="),
    ):
        message = message.replace(option, here)
    return message
