"""The audio of utterances, to listen to: short, small, and only where the corpus's licence lets it be passed on."""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from analysis.common.records import Records
from ser.audio import AudioFault, read_audio
from ser.corpora import Corpus
from ser.corpora.corpus import SYNTHESIS_RATE
from ser.corpora.licences import LICENCES
from ser.utils.errors import DataErrors, UserError
from study.tracking.trained_runs import find_trial

RATE = SYNTHESIS_RATE
LONGEST = 5.0
"""Seconds; what comes after is cut off."""

Audio = Literal["if-allowed", "always", "never"]


@dataclass(frozen=True)
class Snippets:
    """The audio of some utterances.

    Args:
        flac: Utterance → a FLAC file, one channel of 16 bits at ``RATE``, at most ``LONGEST`` seconds.
        licence: Under which the corpus's audio is, for a line beside it; empty without audio.
        missing: What cannot be heard, why, and how to get it.
    """

    flac: dict[str, bytes] = field(default_factory=dict)
    licence: str = ""
    missing: tuple[str, ...] = ()


def snippets(records: Records, run_id: str, utterances: Sequence[str], audio: Audio = "if-allowed") -> Snippets:
    """The audio of utterances of a trial's corpus, read where the trial's study has read it.

    Args:
        records: Of the experiment.
        run_id: The trial's run.
        utterances: Their ids.
        audio: ``if-allowed``: only if the corpus's licence lets audio be passed on; ``always``: for one's own ears;
            ``never``: none.

    Returns:
        Those that can be had; it raises nothing that a report should fail on.
    """
    if audio == "never" or not utterances:
        return Snippets()
    try:
        trial = find_trial(run_id, records.client, records.uri)
        licence = LICENCES[trial.study.corpus]
        if audio == "if-allowed" and not licence.passes_on:
            return Snippets(
                missing=(
                    f"No audio: the licence of {trial.study.corpus} ({licence.name}) does not let it be passed on. To "
                    "listen yourself, and show nobody: python analysis/corrections.py --audio always",
                )
            )
        corpus = trial.load_corpus()
    except DataErrors as faults:
        return Snippets(missing=(f"No audio: {str(faults).splitlines()[0]}",))
    except UserError as error:
        return Snippets(missing=(f"No audio: {error}",))
    rows = {row["utterance_id"]: row for row in corpus.table.to_dict("records")}
    found, faults_told = {}, []
    for name in utterances:
        if name not in rows:
            faults_told.append(f"No audio of {name}: it is not in the corpus any more.")
            continue
        try:
            found[name] = encode(_samples(corpus, name, rows[name]))
        except AudioFault as fault:
            faults_told.append(f"No audio of {name}: {fault}.")
    return Snippets(found, f"{trial.study.corpus}: {licence.name}" if found else "", tuple(faults_told))


def encode(samples: NDArray[np.float32]) -> bytes:
    """Samples as a FLAC file, which every browser plays; the same bytes each time.

    Args:
        samples: (n,) at ``RATE``, full scale ±1; what comes after ``LONGEST`` is cut off.
    """
    content = io.BytesIO()
    soundfile.write(content, samples[: round(LONGEST * RATE)], RATE, format="FLAC", subtype="PCM_16")
    return content.getvalue()


def _samples(corpus: Corpus, utterance_id: str, row: Mapping[Hashable, Any]) -> NDArray[np.float32]:
    """(n,) an utterance at ``RATE``."""
    if corpus.synthesize is not None:
        return corpus.synthesize(utterance_id)
    start, end = (None if np.isnan(time) else float(time) for time in (row["start"], row["end"]))
    return read_audio(row["path"], start, end, RATE)
