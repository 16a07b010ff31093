"""Simulate studies and count the false claims, coverage and power of the comparison of methods: docs/inference.md.

python benchmarks/inference.py                      # 2,000 studies a cell, about 20 minutes on one core
python benchmarks/inference.py --studies 200 --tables coverage power
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

if __name__ == "__main__":
    # Run as a script: imports start at the repository root, not in this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import tyro
from numpy.typing import NDArray
from scipy import stats

from analysis.inference import ALPHA, SignFlips, flip_signs, standard_error
from study.setup.power import MEASURED, Components, Design, detectable

Floats = NDArray[np.float64]

DENSITY = float(stats.norm.pdf(0))
VOICE = 0.05
"""Standard deviation of the UAR over speakers, common to all methods."""

RAVDESS = (8, 8, 8, 8, 4, 8)
RUNS = (0.0, 0.01, 0.026, 0.04)
FAMILIES = {1: (2, 1), 11: (12, 1), 33: (12, 3)}
"""Number of comparisons → methods, noise levels."""


@dataclass(frozen=True)
class Study:
    """A simulated confirmation.

    A clip is right if the sum of the training's skill, the speaker's voice and the clip's difficulty, both the same for
    all methods, and noise is above 0. The components of ``spreads`` are in units of UAR near 50 %.

    Args:
        fold: (P,) fold of each test speaker; all test speakers of a fold are judged by the same trainings.
        spreads: Run, speaker × run, utterance and speaker × method components.
        seeds: Trainings of each method and fold.
        comparisons: A key of ``FAMILIES``.
        effect: True difference of the first comparison.
        counts: (P, C) utterances.
        session: (P,) session of each speaker; none: speakers are independent.
        shared: Share of the variance of ``run`` that two folds of a session have in common, and of that of
            ``speaker_run`` and ``speaker_method`` that their speakers have.
    """

    fold: NDArray[np.int64]
    spreads: Components = MEASURED
    seeds: int = 1
    comparisons: int = 1
    effect: float = 0.0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.array([RAVDESS]))
    session: NDArray[np.int64] | None = None
    shared: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def simulate(self, rng: np.random.Generator) -> Floats:
        """Return (levels, methods, seeds, P) shares of the UAR pooled over the speakers."""
        methods, levels = FAMILIES[self.comparisons]
        speakers, folds = len(self.fold), self.fold.max() + 1
        counts = np.broadcast_to(self.counts, (speakers, self.counts.shape[1]))
        of_run, of_speaker_run, of_preference = self.shared
        trainings = (levels, methods, self.seeds)
        sessions = np.arange(speakers) if self.session is None else self.session
        session_of_fold = np.zeros(folds, int)
        session_of_fold[self.fold] = sessions
        run = np.hypot(self.spreads.run, self.spreads.draw)
        preference = _normal(rng, (levels, methods, 1), sessions, of_preference) / np.sqrt(2)
        skill = (
            run * _normal(rng, trainings, session_of_fold, of_run)[..., self.fold]
            + self.spreads.speaker_run * _normal(rng, trainings, sessions, of_speaker_run)
            + self.spreads.speaker_method * preference
            + VOICE * rng.standard_normal(speakers)
        )
        skill[0, 1] += self.effect
        speaker = np.repeat(np.arange(speakers), counts.sum(axis=1))
        share = np.repeat(np.broadcast_to(1 / (counts.shape[1] * counts.sum(axis=0)), counts.shape), counts.ravel())
        # Two trainings differ on 2 u² of the utterances, by their skills or by noise; the rest is the clip's.
        differing = 1 - np.cos(2 * np.pi * self.spreads.utterance**2)
        of_skill = (run**2 + self.spreads.speaker_run**2) / DENSITY**2
        clip = np.sqrt(1 - differing) * rng.standard_normal(len(speaker), np.float32)
        noise = np.sqrt(differing - of_skill) * rng.standard_normal((*trainings, len(speaker)), np.float32)
        right = (skill / DENSITY)[..., speaker] + clip + noise > 0
        return np.add.reduceat(right * share, np.searchsorted(speaker, np.arange(speakers)), axis=-1)

    def by_fold(self, shares: Floats) -> Floats:
        """Return (folds, K) shares of the differences."""
        of_fold = np.stack([shares[..., self.fold == fold].sum(axis=-1) for fold in range(self.fold.max() + 1)])
        return _differences(of_fold.mean(axis=-1))

    def by_speaker(self, shares: Floats) -> Floats:
        """Return (P, K) shares of the differences, as if speakers were independent."""
        return _differences(np.moveaxis(shares.mean(axis=2), -1, 0))

    def by_training(self, shares: Floats) -> Floats:
        """Return (seeds, K) shares of the differences, for one fold."""
        return _differences(np.moveaxis(shares.sum(axis=-1), -1, 0)) / self.seeds

    def weights(self) -> Floats:
        """Return (folds,) shares of the utterances."""
        counts = np.broadcast_to(self.counts, (len(self.fold), self.counts.shape[1]))
        share = (counts / counts.sum(axis=0)).mean(axis=1)
        return np.bincount(self.fold, weights=share)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], group: NDArray[np.int64], correlation: float) -> Floats:
    """Return (*shape, units) standard normal numbers, those of a group correlated."""
    own = rng.standard_normal((*shape, len(group)))
    common = rng.standard_normal((*shape, group.max() + 1))[..., group]
    return np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own


def _differences(shares: Floats) -> Floats:
    """Return (U, K) differences from the first method of each level, of (U, levels, methods) shares."""
    return (shares[:, :, 1:] - shares[:, :, :1]).reshape(len(shares), -1)


def claims(shares: Floats, primary: bool = False, seed: int = 0) -> NDArray[np.bool_]:
    """Return (K,) which differences are claimed, as in ``compare_methods``."""
    found: SignFlips = flip_signs(shares, (np.arange(shares.shape[1]) == 0) & primary, seed)
    return (found.p_adjusted <= ALPHA) & (2.0 ** (1 - len(shares)) <= found.alpha)


def covers(study: Study, shares: Floats) -> bool:
    """Return whether the interval of the first comparison contains its true difference."""
    reach = standard_error(shares, study.weights())[0] * stats.t.ppf(0.975, len(shares) - 1)
    return bool(abs(shares[:, 0].sum() - study.effect) <= reach)


def rate(studies: int, rng: np.random.Generator, count: Callable[[np.random.Generator], tuple[bool, ...]]) -> Floats:
    """Return how often each of several events happens."""
    return np.mean([count(rng) for _ in range(studies)], axis=0)


def row(*cells: object) -> None:
    """Print a row of a Markdown table."""
    texts = [f"{cell:.3f}".replace("0.", ".", 1) if isinstance(cell, float) else str(cell) for cell in cells]
    print("| " + " | ".join(texts) + " |", flush=True)


def header(title: str, *names: str) -> None:
    """Print a title and the head of a Markdown table."""
    print(f"\n{title}\n")
    row(*names)
    row(*["---"] * len(names))


DESIGNS = {
    "6 speakers": np.arange(6),
    "10 speakers": np.arange(10),
    "24 speakers": np.arange(24),
    "91 speakers in 24 groups": np.arange(91) % 24,
    "91 speakers": np.arange(91),
}


def false_claims(studies: int, rng: np.random.Generator) -> None:
    """Print how often a study without any difference claims one, without and with a primary comparison."""
    names = [f"run {100 * run:.1f}" for run in RUNS]
    header("False claims: any of the comparisons; without / with a primary one", "units", "comparisons", *names)
    for name, fold in DESIGNS.items():
        for comparisons in FAMILIES:
            cells = []
            for run in RUNS:
                study = Study(fold, replace(MEASURED, run=run, draw=0.0), comparisons=comparisons)

                def count(rng: np.random.Generator, study: Study = study) -> tuple[bool, ...]:
                    shares = study.by_fold(study.simulate(rng))
                    return bool(claims(shares).any()), bool(claims(shares, primary=True).any())

                without, primary = rate(studies, rng, count)
                cells.append(f"{without:.3f} / {primary:.3f}".replace("0.", "."))
            row(name, comparisons, *cells)


def trainings(studies: int, rng: np.random.Generator) -> None:
    """Print false claims of an official split, and of tests that take its speakers for independent."""
    header("False claims of other units", "test speakers", "trainings", "unit", "1 comparison", "11 comparisons")
    for name, fold, seeds, unit in [
        ("60 of one fold", np.zeros(60, int), 8, "training"),
        ("11 of one fold", np.zeros(11, int), 5, "speaker (wrong)"),
        ("24 in 8 folds", np.arange(24) % 8, 3, "speaker (wrong)"),
        ("24 in 8 folds", np.arange(24) % 8, 3, "fold"),
    ]:
        cells = []
        for comparisons in (1, 11):
            study = Study(fold, seeds=seeds, comparisons=comparisons)
            shares_of = {"training": study.by_training, "fold": study.by_fold}.get(unit, study.by_speaker)

            def count(
                rng: np.random.Generator, study: Study = study, shares_of: Callable[[Floats], Floats] = shares_of
            ) -> tuple[bool, ...]:
                return (bool(claims(shares_of(study.simulate(rng))).any()),)

            cells.append(float(rate(studies, rng, count)[0]))
        row(name, f"{seeds} in each fold", unit, *cells)


def unequal(fold: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (P, C) counts of speakers of whom some have four times the utterances of others."""
    sizes = np.geomspace(1, 4, len(fold))[np.random.default_rng(0).permutation(len(fold))]
    return np.maximum(np.round(sizes[:, None] * np.array(RAVDESS) / 2), 1).astype(int)


def coverage(studies: int, rng: np.random.Generator) -> None:
    """Print how often the 95 % interval contains the true difference of 5 points."""
    header("Coverage of the 95 % intervals", "units", "utterances", *[f"run {100 * run:.1f}" for run in RUNS])
    for name, fold in DESIGNS.items():
        for kind, counts in (("44 a speaker", np.array([RAVDESS])), ("22 to 88 a speaker", unequal(fold))):
            cells = []
            for run in RUNS:
                study = Study(fold, replace(MEASURED, run=run, draw=0.0), effect=0.05, counts=counts)

                def count(rng: np.random.Generator, study: Study = study) -> tuple[bool, ...]:
                    return (covers(study, study.by_fold(study.simulate(rng))),)

                cells.append(float(rate(studies, rng, count)[0]))
            row(name, kind, *cells)


def power(studies: int, rng: np.random.Generator) -> None:
    """Print how often the difference that the plan promises to show with a power of .8 is claimed."""
    header(
        "Power for the difference that the plan promises to show in .80 of the studies",
        "units", "seeds", "comparisons", "promised, primary", "claimed", "promised, without a primary", "claimed",
    )  # fmt: skip
    for name, fold in list(DESIGNS.items())[1:]:
        for comparisons, (methods, levels) in FAMILIES.items():
            for seeds in (1, 2):
                speakers = len(fold) / (fold.max() + 1)
                utterances = tuple(speakers * np.array(RAVDESS))
                design = Design(int(fold.max() + 1), seeds, speakers, utterances, methods, levels)
                cells: list[object] = []
                for primary in (True, False):
                    promised = detectable(replace(design, primary=primary), primary=primary)
                    study = Study(fold, seeds=seeds, comparisons=comparisons, effect=promised)

                    def count(
                        rng: np.random.Generator, study: Study = study, primary: bool = primary
                    ) -> tuple[bool, ...]:
                        return (bool(claims(study.by_fold(study.simulate(rng)), primary=primary)[0]),)

                    cells += [f"{100 * promised:.1f} points", float(rate(studies, rng, count)[0])]
                row(name, seeds, comparisons, *cells)


def dialogues(studies: int, rng: np.random.Generator) -> None:
    """Print false claims where two speakers of a session are taken as two units, though they are correlated."""
    correlations = (0.0, 0.1, 0.2, 0.4, 0.6)
    header(
        "False claims of ten speakers in five dialogues, each a unit; correlation within a dialogue",
        "what is correlated", "share of the variance", *map(str, correlations),
    )  # fmt: skip
    fold = np.arange(10)
    session = fold // 2
    counts = np.full((10, 4), 100)
    for name, places, spreads in [
        ("the whole difference", (0, 1, 2), MEASURED),
        ("its speaker part", (1, 2), MEASURED),
        ("speaker × method alone, 1 point", (2,), MEASURED),
        ("speaker × method alone, 2 points", (2,), replace(MEASURED, speaker_method=0.02)),
        ("speaker × method alone, 3 points", (2,), replace(MEASURED, speaker_method=0.03)),
    ]:
        variances = [2 * (spreads.run**2 + spreads.draw**2), 2 * spreads.speaker_run**2, spreads.speaker_method**2]
        utterance = 2 * spreads.utterance**2 / counts[0].sum()
        cells = []
        for correlation in correlations:
            shared = tuple(correlation * (place in places) for place in range(3))
            study = Study(fold, spreads, counts=counts, session=session, shared=shared)  # type: ignore[arg-type]

            def count(rng: np.random.Generator, study: Study = study) -> tuple[bool, ...]:
                return (bool(claims(study.by_fold(study.simulate(rng))).any()),)

            cells.append(float(rate(studies, rng, count)[0]))
        share = sum(variances[place] for place in places) / (sum(variances) + utterance)
        row(name, float(share), *cells)


TABLES = {
    "dialogues": dialogues,
    "trainings": trainings,
    "coverage": coverage,
    "power": power,
    "false-claims": false_claims,
}


def chosen(tables: tuple[str, ...]) -> Iterator[Callable[[int, np.random.Generator], None]]:
    """Yield the functions that print the tables."""
    return (function for name, function in TABLES.items() if not tables or name in tables)


def main(studies: int = 2000, tables: tuple[str, ...] = (), seed: int = 0) -> None:
    """Print the tables.

    Args:
        studies: Simulated studies of each cell.
        tables: Some of dialogues, trainings, coverage, power, false-claims; all by default.
        seed: Seed of the simulations.
    """
    started = time.time()
    print(
        f"{studies} studies a cell; two standard errors of a rate of .05 are {2 * np.sqrt(0.05 * 0.95 / studies):.3f}"
    )
    for function in chosen(tables):
        function(studies, np.random.default_rng(seed))
    print(f"\n{time.time() - started:.0f} s")


if __name__ == "__main__":
    tyro.cli(main)
