"""Short audio snippets of utterances, included only if the corpus's licence permits redistribution."""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from analysis.common.records import Records
from analysis.options import Audio
from ser.audio import AudioFault, read_audio
from ser.corpora import Corpus
from ser.corpora.corpus import SYNTHESIS_RATE
from ser.corpora.licences import licence_of
from ser.utils.errors import DataErrors, UserError
from study.tracking.trained_runs import find_trial

RATE = SYNTHESIS_RATE
LONGEST = 5.0
"""Largest length in seconds; the rest of an utterance is cut off."""


@dataclass(frozen=True)
class Snippets:
    """Audio of some utterances.

    Args:
        flac: Utterance → content of a FLAC file, one channel of 16 bits at ``RATE``, at most ``LONGEST`` seconds.
        licence: Corpus and licence of the audio; empty without audio.
        missing: What audio is missing, why, and how to get it.
    """

    flac: dict[str, bytes] = field(default_factory=dict)
    licence: str = ""
    missing: tuple[str, ...] = ()


def snippets(records: Records, run_id: str, utterances: Sequence[str], audio: Audio = "if-allowed") -> Snippets:
    """Read audio of a trial's corpus from the files that the study has used.

    Args:
        records: Records of the experiment.
        run_id: MLflow run of the trial.
        utterances: Ids of the utterances.
        audio: ``if-allowed``: only if the corpus's licence permits redistribution; ``always``: for private use;
            ``never``: none.

    Returns:
        The audio that is available; audio that is not available raises no error.
    """
    if audio == "never" or not utterances:
        return Snippets()
    try:
        trial = find_trial(run_id, records.client, records.uri)
        licence = licence_of(trial.study.corpus)
        if audio == "if-allowed" and not licence.passes_on:
            return Snippets(
                missing=(
                    f"No audio: the licence of {trial.study.corpus} ({licence.name}) does not permit redistribution. "
                    f"For private use: {records.own_command('analysis/corrections.py')} --audio always",
                )
            )
        corpus = records.once(("corpus", trial.path.parent.parent), trial.load_corpus)
    except DataErrors as errors:
        return Snippets(missing=(f"No audio: {str(errors).splitlines()[0]}",))
    except UserError as error:
        return Snippets(missing=(f"No audio: {error}",))
    rows = {row["utterance_id"]: row for row in corpus.table.to_dict("records")}
    found, missing = {}, []
    for name in utterances:
        if name not in rows:
            missing.append(f"No audio of {name}: it is no longer in the corpus.")
            continue
        try:
            found[name] = encode(_samples(corpus, name, rows[name]))
        except AudioFault as error:
            missing.append(f"No audio of {name}: {error}.")
    return Snippets(found, f"{trial.study.corpus}: {licence.name}" if found else "", tuple(missing))


def encode(samples: NDArray[np.float32]) -> bytes:
    """Encode samples as a FLAC file, which every browser plays; the same samples give the same bytes.

    Args:
        samples: (n,) at ``RATE``, full scale ±1; only the first ``LONGEST`` seconds are encoded.
    """
    content = io.BytesIO()
    soundfile.write(content, samples[: round(LONGEST * RATE)], RATE, format="FLAC", subtype="PCM_16")
    return content.getvalue()


def _samples(corpus: Corpus, utterance_id: str, row: Mapping[Hashable, Any]) -> NDArray[np.float32]:
    """Return the (n,) samples of an utterance at ``RATE``."""
    if corpus.synthesize is not None:
        return corpus.synthesize(utterance_id)
    start, end = (None if np.isnan(time) else float(time) for time in (row["start"], row["end"]))
    return read_audio(row["path"], start, end, RATE)
