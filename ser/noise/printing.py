"""What ``python -m ser.noise`` tells, for a terminal or a pipe of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from ser.corpora.corpus import Corpus
from ser.noise.manifest import NoisyLabels
from ser.noise.rows import Parts

if TYPE_CHECKING:  # their imports cost seconds that one of the commands need not spend
    from ser.metrics.agreement import HumanCeiling
    from ser.noise.estimate import Added, Estimate

FLIPS = 5
"""Pairs of classes that are listed."""
SUSPICIOUS = 10
"""Utterances that are listed."""
ANNOTATORS = 12
"""Up to this many are listed; of more, the range."""


def print_export(console: Console, corpus: Corpus, noisy: NoisyLabels, parts: Parts) -> None:
    """Tells what was done to the labels.

    Args:
        console: Should neither interpret markup nor emoji, for names may look like either.
        corpus: Whose labels.
        noisy: What they became.
        parts: Row positions of ``train`` and ``test``.
    """
    manifest = noisy.manifest
    done = manifest["parts"]["train"]
    console.print(
        f"{manifest['recipe']} on {corpus.name}: {done['flipped']} of {done['utterances']} training labels are wrong, "
        f"{done['rate']:.2%}; {manifest['rate_asked']:.2%} was asked, {done['most_possible']:.2%} is possible. "
        f"{len(parts['test'])} test rows keep their label."
    )
    console.print(manifest["definition"])
    if manifest["note"]:
        console.print(manifest["note"])
    counts, rates = np.array(manifest["transition_counts"]), np.array(manifest["transition_rates"])
    _print_flips(console, "Most frequent flips", corpus.classes, counts, rates)
    if idle := [name for name, line in zip(corpus.classes, counts, strict=True) if not line.any()]:
        console.print(f"No training utterance is {' or '.join(idle)}; the transition file keeps such labels.")
    for part, rows in parts.items():
        named = {*noisy.labels[rows], *noisy.truth[rows]}
        if corpus.table["votes"].notna().any() and (idle := [name for name in corpus.classes if name not in named]):
            columns = ", ".join(f"votes_{name}" for name in idle)
            console.print(
                f"Note: no utterance of the {part} part is {' or '.join(idle)}; corpus table will ask to rename "
                f"{columns} there."
            )
    if "true_label" in corpus.table:
        console.print("Note: ground-truth is the corpus's label, which the noise was drawn on, not its true_label.")


def print_estimate(
    console: Console, corpus: Corpus, given: Estimate, added: Sequence[Added], ceiling: HumanCeiling | None
) -> None:
    """Tells the readings, what looks wrong, what annotators score, and what to conclude.

    Args:
        console: As for ``print_export``.
        corpus: N utterances.
        given: Of the labels as they are.
        added: With noise on top; may be empty.
        ceiling: What one annotator scores, or None.
    """
    from ser.noise.estimate import MEASURED, conclusion

    console.print(
        f"{corpus.name}: {len(corpus)} utterances, {len(corpus.classes)} classes. How many labels look wrong to a "
        f"recogniser that has heard other speakers alone (UAR by chance {1 / len(corpus.classes):.2f}):"
    )
    table = Table("labels", box=box.SIMPLE)
    for name in ("UAR", "confident learning", f"surest tenth ({given.surest})"):
        table.add_column(name, justify="right")
    rows = [("as given", given), *((f"+ {one.rate:.2%} {one.recipe} noise", one.estimate) for one in added)]
    for name, found in rows:
        surest = f"{found.surest_rate:.1%} ± {found.surest_error:.1%}"
        table.add_row(name, f"{found.uar:.2f}", f"{found.rate:.1%}", surest)
    console.print(table)
    if added:
        console.print("Where known noise on top adds little to a reading, the reading says little.")
    _print_flips(
        console, "Likely flips, by confident learning", corpus.classes, given.joint * len(corpus), given.transition
    )
    _print_suspicious(console, corpus, given)
    if ceiling is not None:
        _print_ceiling(console, ceiling, corpus)
    console.print(f"{conclusion(given, len(corpus.classes))} {MEASURED}")


def _print_flips(
    console: Console,
    title: str,
    classes: Sequence[str],
    counts: NDArray[np.float64],
    rates: NDArray[np.float64],
) -> None:
    """The pairs of classes with the largest counts, (C, C) true × noisy, off the diagonal."""
    flips = np.round(counts * (1 - np.eye(len(classes))))
    if not flips.any():
        return
    table = Table("true", "noisy", title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("utterances", justify="right")
    table.add_column("of the true label", justify="right")
    for flat in np.argsort(-flips, axis=None, kind="stable")[:FLIPS]:
        row, column = divmod(int(flat), len(classes))
        if flips[row, column] > 0:
            table.add_row(classes[row], classes[column], f"{flips[row, column]:.0f}", f"{rates[row, column]:.1%}")
    console.print(table)


def _print_suspicious(console: Console, corpus: Corpus, given: Estimate) -> None:
    from ser.noise.estimate import known_truth

    count = len(given.suspicious)
    first = f", the first {SUSPICIOUS}:" if count > SUSPICIOUS else ":" if count else "."
    console.print(f"{count} label{' looks' if count == 1 else 's look'} wrong{first}")
    if count:
        table = Table("utterance", "label", "looks like", box=box.SIMPLE)
        table.add_column("probability of the label", justify="right")
        for row, likely, score in list(zip(given.suspicious, given.likely, given.score, strict=True))[:SUSPICIOUS]:
            label = corpus.table["label"][row]
            table.add_row(corpus.table["utterance_id"][row], label, corpus.classes[likely], f"{score:.3f}")
        console.print(table)
    if (truth := known_truth(corpus, given)) is not None:
        share = truth["suspicious_wrong"]
        console.print(
            f"Known truth: {truth['rate']:.2%} of the {truth['known']} labels with a true label are wrong"
            + ("." if share is None else f", and {share:.1%} of those that look wrong.")
        )


def _print_ceiling(console: Console, ceiling: HumanCeiling, corpus: Corpus) -> None:
    over = "all annotated utterances" if corpus.annotations is not None else "utterances with a label, which flatters"
    console.print(
        f"One annotator scores UAR {ceiling.uar:.2f} ± {ceiling.standard_error:.2f} against the others, over {over}: "
        "what any recogniser can be compared with."
    )
    scores = sorted((score.uar, name, score.pairs) for name, score in ceiling.by_annotator.items() if score.pairs)
    if len(scores) > ANNOTATORS:
        console.print(
            f"{len(scores)} annotators: from {scores[0][0]:.2f} ({scores[0][1]}, {scores[0][2]} pairs) to "
            f"{scores[-1][0]:.2f} ({scores[-1][1]}, {scores[-1][2]} pairs)."
        )
    elif scores:
        console.print(", ".join(f"{name} {uar:.2f} ({pairs})" for uar, name, pairs in reversed(scores)) + " (pairs).")
