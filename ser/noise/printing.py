"""Terminal output of ``python -m ser.noise``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from ser.corpora.corpus import Corpus
from ser.noise.manifest import NoisyLabels
from ser.noise.subsets import Subsets
from ser.utils.printing import print_table, say

if TYPE_CHECKING:  # these imports take seconds, and only one of the commands needs them
    from ser.metrics.agreement import HumanCeiling
    from ser.noise.estimate import AddedNoise, Estimate

MAX_PAIRS = 5
"""Number of class pairs in a list of noise flips."""
MAX_SUSPICIOUS = 10
"""Number of suspicious utterances in a list."""
MAX_ANNOTATORS = 12
"""Up to this many annotators are listed; of more, the range is printed."""


def print_export(console: Console, corpus: Corpus, noisy: NoisyLabels, subsets: Subsets) -> None:
    """Print a summary of noisy labels.

    Args:
        console: Console that interprets neither markup nor emoji, because names may contain either.
        corpus: N utterances.
        noisy: Their noisy labels.
        subsets: Row positions of ``train`` and ``test``.
    """
    manifest = noisy.manifest
    done = manifest["parts"]["train"]
    say(
        console,
        f"{manifest['recipe']} on {corpus.name}: {done['flipped']} of {done['utterances']} training labels are wrong, "
        f"{done['rate']:.2%}; {manifest['rate_asked']:.2%} requested, at most {done['most_possible']:.2%} possible. "
        f"{len(subsets['test'])} test rows keep their label.",
    )
    for note in corpus.notes:
        say(console, note)
    say(console, manifest["definition"])
    if manifest["note"]:
        say(console, manifest["note"])
    counts, rates = np.array(manifest["transition_counts"]), np.array(manifest["transition_rates"])
    _print_flips(console, "Most frequent noise flips", corpus.classes, counts, rates)
    if idle := [name for name, line in zip(corpus.classes, counts, strict=True) if not line.any()]:
        say(console, f"No training utterance is {' or '.join(idle)}; the transition matrix keeps such labels.")
    for subset, rows in subsets.items():
        named = {*noisy.labels[rows], *noisy.truth[rows]}
        if corpus.table["votes"].notna().any() and (idle := [name for name in corpus.classes if name not in named]):
            say(
                console,
                f"Note: no {subset} utterance is {' or '.join(idle)}; that file read as a table does not have the "
                "class.",
            )
    if "true_label" in corpus.table:
        say(console, "Note: ground-truth is the corpus's label, to which the noise was added, not its true_label.")


def print_estimate(
    console: Console, corpus: Corpus, given: Estimate, added: Sequence[AddedNoise], ceiling: HumanCeiling | None
) -> None:
    """Print the estimates, the suspicious labels, the human ceiling and the conclusion.

    Args:
        console: As for ``print_export``.
        corpus: N utterances.
        given: Estimate of the given labels.
        added: Estimates with added noise; may be empty.
        ceiling: Human ceiling, or None.
    """
    from ser.noise.estimate import ACCURACY, conclusion

    for note in corpus.notes:
        say(console, note)
    say(
        console,
        f"{corpus.name}: {len(corpus)} utterances, {len(corpus.classes)} classes. Share of labels that look wrong to a "
        f"recogniser trained on other speakers (UAR by chance {1 / len(corpus.classes):.2f}):",
    )
    numbers, cells = ("UAR", "confident learning", f"surest tenth ({given.surest})"), []
    rows = [("as given", given), *((f"+ {one.rate:.2%} {one.recipe} noise", one.estimate) for one in added)]
    for name, found in rows:
        surest = f"{found.surest_rate:.1%} ± {found.surest_error:.1%}"
        cells.append([name, f"{found.uar:.2f}", f"{found.rate:.1%}", surest])
    print_table(console, ["labels", *numbers], cells, numbers=numbers)
    if added:
        say(console, "An estimate that known added noise increases only a little is unreliable.")
    _print_flips(
        console,
        "Likely noise flips, by confident learning",
        corpus.classes,
        given.joint * len(corpus),
        given.transition,
    )
    _print_suspicious(console, corpus, given)
    if ceiling is not None:
        _print_ceiling(console, ceiling, corpus)
    say(console, f"{conclusion(given, len(corpus.classes))} {ACCURACY}")


def _print_flips(
    console: Console,
    title: str,
    classes: Sequence[str],
    counts: NDArray[np.float64],
    rates: NDArray[np.float64],
) -> None:
    """Print the pairs of classes with the largest off-diagonal counts, (C, C) true × noisy."""
    flips = np.round(counts * (1 - np.eye(len(classes))))
    if not flips.any():
        return
    numbers, rows = ("utterances", "of the true label"), []
    for flat in np.argsort(-flips, axis=None, kind="stable")[:MAX_PAIRS]:
        row, column = divmod(int(flat), len(classes))
        if flips[row, column] > 0:
            rows.append([classes[row], classes[column], f"{flips[row, column]:.0f}", f"{rates[row, column]:.1%}"])
    print_table(console, ["true", "noisy", *numbers], rows, title, numbers=numbers, keys=2)


def _print_suspicious(console: Console, corpus: Corpus, given: Estimate) -> None:
    from ser.noise.estimate import known_truth

    count = len(given.suspicious)
    first = f", the first {MAX_SUSPICIOUS}:" if count > MAX_SUSPICIOUS else ":" if count else "."
    say(console, f"{count} label{' looks' if count == 1 else 's look'} wrong{first}")
    if count:
        numbers, rows = ["probability of the label"], []
        for row, likely, score in list(zip(given.suspicious, given.likely, given.score, strict=True))[:MAX_SUSPICIOUS]:
            label = corpus.table["label"][row]
            rows.append([corpus.table["utterance_id"][row], label, corpus.classes[likely], f"{score:.3f}"])
        print_table(console, ["utterance", "label", "looks like", *numbers], rows, numbers=numbers)
    if (truth := known_truth(corpus, given)) is not None:
        share = truth["suspicious_wrong"]
        say(
            console,
            f"Known truth: {truth['rate']:.2%} of the {truth['known']} labels with a true label are wrong"
            + ("." if share is None else f", and {share:.1%} of those that look wrong."),
        )


def _print_ceiling(console: Console, ceiling: HumanCeiling, corpus: Corpus) -> None:
    over = (
        "all annotated utterances"
        if corpus.annotations is not None
        else "utterances with a label, which overestimates it"
    )
    say(
        console,
        f"Human ceiling: one annotator scores UAR {ceiling.uar:.2f} ± {ceiling.standard_error:.2f} against the others, "
        f"over {over}.",
    )
    scores = sorted((score.uar, name, score.pairs) for name, score in ceiling.by_annotator.items() if score.pairs)
    if len(scores) > MAX_ANNOTATORS:
        say(
            console,
            f"{len(scores)} annotators: from {scores[0][0]:.2f} ({scores[0][1]}, {scores[0][2]} pairs) to "
            f"{scores[-1][0]:.2f} ({scores[-1][1]}, {scores[-1][2]} pairs).",
        )
    elif scores:
        say(console, ", ".join(f"{name} {uar:.2f} ({pairs})" for uar, name, pairs in reversed(scores)) + " (pairs).")
