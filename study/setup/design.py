"""The design of a confirmation: all that is declared before its first training."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ser.corpora import Corpus
from ser.splits import OFFICIAL, Fold, official_fold, speaker_fold
from ser.utils.durable_files import replace_text
from ser.utils.errors import UserError, unknown_name
from ser.utils.hashing import derived_seed, digest
from study.schema import CHOSEN_BY, CONFIRM, DEFAULT, DESIGN, PILOT, TRAINED_BY, UNSEEN
from study.setup.candidates import Candidate

VERSION = 1
PILOT_SEEDS = 4
OFFICIAL_SEEDS = 8
TRAINING = "training"
PROGRESSIVE = "proselflc"


@dataclass(frozen=True)
class FoldSpeakers:
    """Speakers of a fold.

    Args:
        number: From 1.
        test: Names of the tested speakers.
        validation: Names of the validation speakers; all others train.
    """

    number: int
    test: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class OtherCorpus:
    """Another corpus that all trainings are tested on after their last epoch.

    Args:
        name: Its name in records and tables.
        corpus: Name of its loader.
        root: Where it lay when it was declared; None for a generated corpus.
        options: Options of the loader; ``classes`` and ``exclude`` among them.
        digest: Digest of its table.
        classes: Class of the training → class of this corpus; others are not scored.
    """

    name: str
    corpus: str
    root: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    classes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Design:
    """Design of a confirmation.

    Args:
        study: Name of the confirmation.
        experiment: MLflow experiment.
        corpus: Name of the corpus.
        corpus_digest: Digest of its table.
        classes: Class names.
        unit: What is one independent observation: ``speaker``, ``speaker group`` or ``session`` (one per fold), or
            ``training`` on an official split.
        folds: Folds.
        seeds: Each trains every configuration once in every fold.
        levels: Noise levels by their names for records, in declared order.
        methods: Spaces in declared order.
        candidates: Configurations.
        reference: Method that the others are compared with; None if it is not among the methods.
        primary: Level and method of the one primary comparison; None without one.
        stopped: Methods that also count with an honest early stop.
        select_on: Selection rule by which a fold chooses among the candidates of a method.
        protocol: Digest of all that must agree for two confirmations to be comparable.
        searched: Speakers that the search has trained on, and those that it has validated on; empty without a search.
        pilot: Whether only the reference is trained, a few times on the first fold, to tell how much scores vary.
        test_corpora: Other corpora that all trainings are tested on.
    """

    study: str
    experiment: str
    corpus: str
    corpus_digest: str
    classes: tuple[str, ...]
    unit: str
    folds: tuple[FoldSpeakers, ...]
    seeds: tuple[int, ...]
    levels: tuple[str, ...]
    methods: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    reference: str | None
    primary: Mapping[str, str] | None
    stopped: tuple[str, ...]
    select_on: str
    protocol: str
    searched: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pilot: bool = False
    test_corpora: tuple[OtherCorpus, ...] = ()

    @property
    def stage(self) -> str:
        """Return the stage of its trials."""
        return PILOT if self.pilot else CONFIRM

    @property
    def cells(self) -> list[tuple[str, str]]:
        """Return (level, method) in the order of training: the two of the primary comparison first."""
        cells = dict.fromkeys((one.noise, one.space) for one in self.candidates)
        first = []
        if self.primary is not None:
            level = self.primary["level"]
            first = [(level, str(self.reference)), (level, self.primary["method"])]
        return [*(cell for cell in first if cell in cells), *(cell for cell in cells if cell not in first)]

    @property
    def trained_folds(self) -> tuple[FoldSpeakers, ...]:
        """Return the folds that are trained."""
        return self.folds[:1] if self.pilot else self.folds

    @property
    def trained_seeds(self) -> tuple[int, ...]:
        """Return the seeds that are trained; those of a pilot are never those of a result."""
        return tuple(range(-PILOT_SEEDS, 0)) if self.pilot else self.seeds

    @property
    def digest(self) -> str:
        """Return a digest of the whole design."""
        return digest(json.loads(json.dumps(self._values())))

    def to_json(self) -> dict[str, Any]:
        """Return the design as JSON-able values, with its digest."""
        return {"version": VERSION, **self._values(), "digest": self.digest}

    def _values(self) -> dict[str, Any]:
        """Return the fields; without test corpora a design is that of a version that knew none."""
        values = asdict(self)
        return values if self.test_corpora else {key: values[key] for key in values if key != "test_corpora"}

    def write(self, folder: Path) -> None:
        """Write the design to the confirmation's folder, so that a resumed one follows it."""
        replace_text(folder / DESIGN, json.dumps(self.to_json(), indent=2) + "\n")

    @staticmethod
    def read(folder: Path) -> Design:
        """Read the design of a confirmation that is resumed.

        Args:
            folder: The confirmation's folder.

        Raises:
            UserError: No confirmation is there, or one of version 0.1, or its design was changed.
        """
        if (folder / "candidates.json").exists():
            raise UserError(
                f"confirmation {folder.name!r} was begun by version 0.1, whose folds this version does not use. "
                "Confirm again under another --name."
            )
        try:
            saved = json.loads((folder / DESIGN).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"there is no confirmation {folder.name!r} in {str(folder.parent)!r} to resume. Name the "
                "--storage-path of the confirmation if it is elsewhere."
            ) from error
        design = Design.of(saved)
        if design.digest != saved["digest"]:
            raise UserError(
                f"{str(folder / DESIGN)!r} was changed after the confirmation had begun. Restore it, or confirm again "
                "under another --name."
            )
        return design

    @staticmethod
    def of(document: Mapping[str, Any]) -> Design:
        """Return the design that a document from ``to_json`` holds; its digest may be another one."""
        saved: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in document.items()
            if key not in ("version", "digest")
        }
        saved["folds"] = tuple(
            FoldSpeakers(one["number"], tuple(one["test"]), tuple(one["validation"])) for one in saved["folds"]
        )
        saved["candidates"] = tuple(Candidate(**one) for one in saved["candidates"])
        saved["test_corpora"] = tuple(OtherCorpus(**one) for one in saved.get("test_corpora", ()))
        return Design(**saved)

    def fold(self, corpus: Corpus, number: int) -> Fold:
        """Return a fold's rows.

        Args:
            corpus: The corpus.
            number: Number of the fold.

        Raises:
            DataErrors: A speaker or a recording is in two subsets.
        """
        if self.unit == TRAINING and (official := official_fold(corpus)) is not None:
            return official
        one = next(fold for fold in self.folds if fold.number == number)
        return speaker_fold(corpus, number, len(self.folds), self.unit, one.test, one.validation)

    def exposure(self, candidate: Candidate, number: int) -> str:
        """Return what the search did with the test speakers of a fold.

        Args:
            candidate: The configuration that is tested; a published default was chosen by no search.
            number: Number of the fold.
        """
        if candidate.name == DEFAULT or not self.searched:
            return UNSEEN
        tested = set(next(fold.test for fold in self.folds if fold.number == number))
        if tested & set(self.searched["validation"]):
            return CHOSEN_BY
        return TRAINED_BY if tested & set(self.searched["train"]) else UNSEEN


def training_seed(seed: int, fold: int) -> int:
    """Return the seed of the weights, the order and the noise draw of a fold's trainings.

    Args:
        seed: Declared seed.
        fold: Number of the fold.

    Example:
        >>> training_seed(1, 1) != training_seed(1, 2)
        True
    """
    return derived_seed("confirm", seed, fold) >> 32


def fold_speakers(corpus: Corpus, folds: Sequence[Fold]) -> tuple[FoldSpeakers, ...]:
    """Return the speakers of some folds.

    Args:
        corpus: The corpus.
        folds: Folds of it.
    """
    speakers = corpus.table["speaker"]

    def names(rows: Any) -> tuple[str, ...]:
        return tuple(sorted(set(speakers.iloc[rows])))

    return tuple(FoldSpeakers(fold.number, names(fold.test), names(fold.validation)) for fold in folds)


def unit_of(folds: Sequence[Fold]) -> str:
    """Return what is one independent observation of a test on some folds."""
    return TRAINING if folds[0].unit == OFFICIAL else folds[0].unit


def primary_comparison(
    asked: tuple[str, str] | None,
    methods: Sequence[str],
    levels: Mapping[str, float | None],
    reference: str,
    trained: Collection[tuple[str, str]],
) -> dict[str, str] | None:
    """Return the primary comparison: as asked, or of ProSelfLC or else the first method at the highest noise level.

    Args:
        asked: Method and level, or None.
        methods: Methods in declared order.
        levels: Noise levels in declared order, with their rates.
        reference: Method that the others are compared with.
        trained: Methods with the levels that they are trained at; labels from votes go with one level alone, and
            studies that are confirmed together may have had different ones.

    Returns:
        ``level`` and ``method``; None where there is nothing to compare.

    Raises:
        UserError: The method or the level is not part of the confirmation.

    Example:
        >>> levels, methods = {"clean": 0.0, "noisy-B": 0.4}, ["cross_entropy", "elr"]
        >>> trained = {(method, level) for method in methods for level in levels}
        >>> primary_comparison(None, methods, levels, "cross_entropy", trained)
        {'level': 'noisy-B', 'method': 'elr'}
    """
    others = [method for method in methods if method != reference]
    pairs = [(one, level) for level in levels for one in others if {(one, level), (reference, level)} <= {*trained}]
    if asked is not None:
        method, level = asked
        if reference not in methods or method not in others:
            raise unknown_name("--primary method", method, others)
        if level not in levels:
            raise unknown_name("--primary level", level, levels)
        if asked not in pairs:
            there = ", ".join(f"{one} {level}" for one, level in pairs)
            raise UserError(
                f"--primary {method} {level}: {method} and {reference} are not both trained there. Name one of: "
                f"{there or 'none'}."
            )
        return {"level": level, "method": method}
    if not pairs:
        return None
    highest = max((level for _, level in pairs), key=lambda level: levels[level] or 0.0)
    compared = [one for one, level in pairs if level == highest]
    return {"level": highest, "method": PROGRESSIVE if PROGRESSIVE in compared else compared[0]}
