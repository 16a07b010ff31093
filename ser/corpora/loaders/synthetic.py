"""The default corpus: emotional speech synthesised from a seed, for a first study within minutes of cloning.

The synthesiser is a source-filter model (Fant 1960; Klatt 1980): glottal pulses (Rosenberg 1971) with jitter and
shimmer, spectral tilt, aspiration noise and a cascade of formant resonators. Pitch, loudness, tempo, tilt and the
other parameters change with the emotion in the directions that Scherer (2003, Speech Communication 40, 227-256) and
Juslin and Laukka (2003, Psychological Bulletin 129, 770-814) report for anger, joy and sadness; excitement is
modelled as aroused joy, frustration as subdued anger. Effect sizes are chosen so that classes can be learned but
overlap. Results on this corpus do not allow conclusions about real speech.

Three simulated annotators vote on each utterance, with confusions that follow IEMOCAP's.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ser.corpora.corpus import ANNOTATION_COLUMNS, Corpus
from ser.utils.errors import UserError
from ser.utils.hashing import derived_seed, digest, file_digest

VERSION = 1
"""Part of every seed and of both digests of the corpus; increase it with any change to the sound or the votes."""
SEED = 2026
SAMPLE_RATE = 16_000
CLASSES = ("ang", "exc", "fru", "hap", "neu", "sad")
SESSIONS = 5
UTTERANCES_PER_CLASS = 8
"""Per speaker: 10 speakers × 6 classes × 8 are 480 utterances."""
MIN_SECONDS, MAX_SECONDS = 1.0, 2.2
ANNOTATORS = 3

CONFUSION = {
    "ang": (0.63, 0.02, 0.31, 0.00, 0.03, 0.01),
    "exc": (0.01, 0.63, 0.01, 0.30, 0.05, 0.00),
    "fru": (0.23, 0.02, 0.56, 0.00, 0.14, 0.05),
    "hap": (0.00, 0.48, 0.03, 0.22, 0.24, 0.03),
    "neu": (0.00, 0.10, 0.22, 0.03, 0.60, 0.05),
    "sad": (0.02, 0.02, 0.14, 0.01, 0.13, 0.68),
}
"""Distribution of one vote of one annotator: intended class → probability of each of ``CLASSES``.

It is solved so that, given that the intended class wins the vote, flipping .6 of the utterances with a dissenting
vote gives IEMOCAP's transition matrix at noisy-B (ang→fru .32, fru→ang .22, exc→hap .31, hap→exc .34, hap→neu .17,
...): with probability q off the diagonal, a share 3q / (1 + 2q) of a class's utterances has such a vote.
"""


@dataclass(frozen=True)
class Delivery:
    """Parameters of how an utterance is spoken; also used for offsets, and for standard deviations of offsets.

    Args:
        pitch: Mean fundamental frequency, semitones above 100 Hz.
        pitch_range: Standard deviation of the syllables' accents, semitones.
        contour: Rise from the first to the last syllable, semitones.
        level: Root mean square of the voice, dB below full scale (negative).
        rate: Syllables per second, pauses excluded.
        tilt: Attenuation of the glottal source at 3 kHz, dB (the TL of Klatt and Klatt 1990).
        breath: Aspiration noise relative to the glottal source, dB.
        jitter: Standard deviation of the cycle lengths, percent.
        shimmer: Standard deviation of the cycle amplitudes, percent.
        pause: Probability of a pause after a syllable, percent.
        formants: Formant frequencies relative to those of an average man, percent above.
    """

    pitch: float = 0.0
    pitch_range: float = 0.0
    contour: float = 0.0
    level: float = 0.0
    rate: float = 0.0
    tilt: float = 0.0
    breath: float = 0.0
    jitter: float = 0.0
    shimmer: float = 0.0
    pause: float = 0.0
    formants: float = 0.0

    @property
    def pitch_hz(self) -> float:
        """Return the mean fundamental frequency, in Hz."""
        return float(100.0 * 2.0 ** (self.pitch / 12.0))


_NEUTRAL = Delivery(0.0, 1.6, -2.0, -32.0, 5.0, 10.0, -28.0, 1.0, 5.0, 8.0, 0.0)
_GENDER = {"female": Delivery(pitch=12.0, breath=2.0, formants=16.0), "male": Delivery(pitch=1.5)}
_EMOTION = {
    "ang": Delivery(4.0, 1.2, -2.0, 9.0, 0.4, -8.0, -5.0, 0.8, 4.0, -4.0, 1.0),
    "exc": Delivery(7.0, 2.2, 3.0, 6.0, 1.2, -3.0, 3.0, 0.2, 1.0, -5.0, 8.0),
    "fru": Delivery(0.5, 0.5, -2.0, 5.0, -0.6, -5.0, -4.0, 0.6, 2.0, 6.0, -3.0),
    "hap": Delivery(3.5, 1.8, 3.0, 1.0, 0.4, 0.0, 4.0, 0.0, 0.0, -2.0, 9.0),
    "neu": Delivery(),
    "sad": Delivery(-1.5, -0.9, -1.5, -6.0, -1.2, 6.0, 4.0, 1.0, 4.0, 12.0, -2.0),
}
_BETWEEN_SPEAKERS = Delivery(1.2, 0.3, 0.5, 1.0, 0.25, 1.0, 1.0, 0.2, 1.0, 2.0, 2.0)
_BETWEEN_UTTERANCES = Delivery(1.0, 0.4, 1.0, 1.5, 0.4, 1.5, 1.5, 0.2, 1.0, 4.0, 1.0)
_LEAST = Delivery(-8.0, 0.2, -9.0, -48.0, 2.8, 0.5, -40.0, 0.2, 1.0, 0.0, -12.0)
_MOST = Delivery(26.0, 6.0, 9.0, -20.0, 7.5, 24.0, -6.0, 4.0, 20.0, 40.0, 35.0)
_INTENSITY = (0.6, 1.4)

# F1 to F3 of male speakers (Peterson and Barney 1952), in Hz.
_VOWELS = np.array(
    [
        (270, 2290, 3010),
        (390, 1990, 2550),
        (530, 1840, 2480),
        (660, 1720, 2410),
        (730, 1090, 2440),
        (570, 840, 2410),
        (440, 1020, 2240),
        (300, 870, 2240),
        (640, 1190, 2390),
    ],
    dtype=np.float64,
)
# F4 to F6 are constant. Without F5 and F6 the cascade leaves nothing above 4 kHz; F7 of women is near 8 kHz.
_UPPER_FORMANTS = np.array([3500.0, 4500.0, 5500.0])
_BANDWIDTHS = np.array([70.0, 100.0, 150.0, 220.0, 300.0, 400.0])
_BLOCK = 320  # samples, 20 ms, during which the formants are constant


def load_synthetic() -> Corpus:
    """Generate the table: 480 utterances of five women and five men in five sessions, in six classes.

    Returns:
        The corpus. Its ``synthesize`` is that of this module; ``path`` identifies the sound in digests.
    """
    rows = [
        _row(session, gender, label, number)
        for session in range(1, SESSIONS + 1)
        for gender in _GENDER
        for label in CLASSES
        for number in range(UTTERANCES_PER_CLASS)
    ]
    named = [
        (row["utterance_id"], f"annotator {place}", CLASSES[label], False)
        for row in rows
        for place, label in enumerate(_hear(str(row["utterance_id"])), start=1)
    ]
    # The sound depends on these; rendering one to compare would cost half a second, for importing SciPy's filters.
    synthesis = digest([file_digest(Path(__file__)), *map(version, ("numpy", "scipy"))])
    return Corpus(
        name="synthetic",
        table=pd.DataFrame(rows),
        classes=CLASSES,
        synthesize=synthesize,
        annotations=pd.DataFrame(named, columns=list(ANNOTATION_COLUMNS)),
        synthesis=synthesis,
    )


def _row(session: int, gender: str, label: str, number: int) -> dict[str, object]:
    speaker = f"Ses{session:02d}{gender[0].upper()}"
    utterance_id = f"{speaker}_{label}_{number:02d}"
    return {
        "utterance_id": utterance_id,
        "path": f"synthetic:v{VERSION}:{SEED}:{utterance_id}",
        "start": np.nan,
        "end": np.nan,
        "speaker": speaker,
        "gender": gender,
        "session": str(session),
        "label": label,
        "votes": cast_votes(utterance_id),
    }


def cast_votes(utterance_id: str) -> tuple[int, ...]:
    """Count the annotators' votes, drawn from ``CONFUSION`` until the intended class has a strict plurality.

    Args:
        utterance_id: Such as ``"Ses01F_ang_03"``, with any session and number.

    Returns:
        The count of each of ``CLASSES``, three votes in total.

    Raises:
        UserError: If the id does not have this form.
    """
    return tuple(np.bincount(_hear(utterance_id), minlength=len(CLASSES)).tolist())


def _hear(utterance_id: str) -> list[int]:
    """Return the class that each annotator names."""
    _, _, label = _parse(utterance_id)
    intended = CLASSES.index(label)
    rng = np.random.default_rng(derived_seed(VERSION, SEED, "votes", utterance_id))
    while True:
        heard = rng.choice(len(CLASSES), size=ANNOTATORS, p=CONFUSION[label])
        votes = np.bincount(heard, minlength=len(CLASSES))
        if votes[intended] > np.delete(votes, intended).max():
            return list(map(int, heard))


def delivery(utterance_id: str) -> Delivery:
    """Draw how an utterance is spoken, from its gender, its speaker and its emotion at a random intensity.

    Args:
        utterance_id: Such as ``"Ses01F_ang_03"``, with any session and number.

    Returns:
        The parameters that ``synthesize`` renders.

    Raises:
        UserError: If the id does not have this form.
    """
    speaker, gender, label = _parse(utterance_id)
    of_speaker = np.random.default_rng(derived_seed(VERSION, SEED, "speaker", speaker))
    of_utterance = np.random.default_rng(derived_seed(VERSION, SEED, "delivery", utterance_id))
    intensity = of_utterance.uniform(*_INTENSITY)
    values = _vector(_NEUTRAL) + _vector(_GENDER[gender]) + intensity * _vector(_EMOTION[label])
    for rng, spread in ((of_speaker, _BETWEEN_SPEAKERS), (of_utterance, _BETWEEN_UTTERANCES)):
        values += _vector(spread) * rng.standard_normal(len(values))
    return Delivery(*np.clip(values, _vector(_LEAST), _vector(_MOST)).tolist())


def synthesize(utterance_id: str) -> NDArray[np.float32]:
    """Synthesise an utterance, as a pure function of (``VERSION``, ``SEED``, utterance_id).

    Args:
        utterance_id: Such as ``"Ses01F_ang_03"``, with any session and number.

    Returns:
        (samples,) float32 at 16 kHz in [-1, 1], between 1.0 and 2.2 s.

    Raises:
        UserError: If the id does not have this form.
    """
    return render(delivery(utterance_id), derived_seed(VERSION, SEED, "audio", utterance_id))


def render(how: Delivery, seed: int) -> NDArray[np.float32]:
    """Synthesise random syllables.

    Args:
        how: How they are spoken.
        seed: Seed of the lengths, vowels and stress of the syllables, and of all noise.

    Returns:
        (samples,) float32 at 16 kHz in [-1, 1], between 1.0 and 2.2 s.
    """
    rng = np.random.default_rng(seed)
    centres, widths, samples = _syllables(how, rng)
    time = np.arange(samples) / SAMPLE_RATE
    envelope = _envelope(time, centres, widths, rng)
    voice = _tract(envelope * _source(how, centres, time, rng), how, centres, rng)
    speaking = envelope > 0.1
    voice *= 10.0 ** (how.level / 20.0) / np.sqrt(np.mean(np.square(voice[speaking])))
    # Room noise: real recordings are never digitally silent.
    room = 10.0 ** (rng.uniform(-72.0, -64.0) / 20.0) * rng.standard_normal(samples)
    return np.asarray(np.clip(voice + room, -1.0, 1.0), dtype=np.float32)


def _parse(utterance_id: str) -> tuple[str, str, str]:
    """Return speaker, gender and class of an id."""
    match = re.fullmatch(rf"(Ses\d\d([FM]))_({'|'.join(CLASSES)})_\d+", utterance_id)
    if match is None:
        raise UserError(f"utterance {utterance_id!r} is not in corpus 'synthetic', whose ids are like 'Ses01F_ang_03'.")
    speaker, letter, label = match.groups()
    return speaker, "female" if letter == "F" else "male", label


def _vector(values: Delivery) -> NDArray[np.float64]:
    return np.array(astuple(values))


def _syllables(how: Delivery, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Draw S syllables; return their centres, (S,), and widths, (S,), in seconds, and the length in samples."""
    count = int(rng.integers(5, 9))
    widths = np.exp(0.2 * rng.standard_normal(count)) / how.rate
    gaps = np.where(rng.random(count) < how.pause / 100.0, rng.uniform(0.08, 0.25, count), 0.0)
    lead, tail = rng.uniform(0.04, 0.10, 2)
    gaps[-1] = tail
    total = lead + float((widths + gaps).sum())
    stretch = min(max(total, MIN_SECONDS), MAX_SECONDS) / total
    starts = lead + np.concatenate(([0.0], np.cumsum(widths + gaps)[:-1]))
    return stretch * (starts + widths / 2), stretch * widths, round(stretch * total * SAMPLE_RATE)


def _envelope(
    time: NDArray[np.float64],
    centres: NDArray[np.float64],
    widths: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Compute the loudness over time, (samples,): one hump per syllable, of random height."""
    stress = np.exp(0.25 * rng.standard_normal(len(centres)))
    grid = np.arange(0.0, time[-1], 0.005)
    # Humps are wider than their syllables, so that neighbours overlap as in speech.
    inside = np.clip((grid - centres[:, None]) / (1.3 * widths[:, None]), -0.5, 0.5)
    humps = stress[:, None] * (0.5 + 0.5 * np.cos(2.0 * np.pi * inside))
    return np.asarray(np.interp(time, grid, humps.max(axis=0)))


def _source(
    how: Delivery, centres: NDArray[np.float64], time: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Generate tilted glottal pulses with aspiration noise, (samples,)."""
    from scipy.signal import lfilter  # the import takes half a second, so it happens only where sounds are rendered

    accents = rng.standard_normal(len(centres))
    slope = np.linspace(-0.5, 0.5, len(centres))
    semitones = how.pitch_range * (accents - accents.mean()) + how.contour * slope
    pitch = how.pitch_hz * 2.0 ** (np.interp(time, centres, semitones) / 12.0)
    steady = np.cumsum(pitch) / SAMPLE_RATE
    cycles = int(2 * steady[-1]) + 2
    wobble = 1.0 + how.jitter / 100.0 * rng.standard_normal(cycles)
    strength = 1.0 + how.shimmer / 100.0 * rng.standard_normal(cycles)
    phase = np.cumsum(pitch * wobble[steady.astype(np.int64)]) / SAMPLE_RATE
    cycle = phase.astype(np.int64)
    pulses = strength[cycle] * _rosenberg(phase - cycle)
    # The lips radiate the derivative of the flow.
    flow = lfilter([1.0, -1.0], [1.0], pulses)
    noise = 10.0 ** (how.breath / 20.0) * float(np.std(flow)) * rng.standard_normal(len(time))
    pole = _tilt_pole(how.tilt)
    return np.asarray(lfilter([1.0 - pole], [1.0, -pole], flow) + noise)


def _rosenberg(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the glottal flow at a phase in [0, 1): rising over .4, falling over .16 (Rosenberg 1971, pulse C)."""
    opening, closing = 0.4, 0.16
    rising = 0.5 - 0.5 * np.cos(np.pi * np.minimum(phase / opening, 1.0))
    falling = np.cos(np.pi / 2 * np.clip((phase - opening) / closing, 0.0, 1.0))
    return np.asarray(rising * falling)


def _tilt_pole(tilt: float) -> float:
    """Return the pole of the one-pole low-pass filter with unit gain at 0 Hz that attenuates 3 kHz by ``tilt`` dB."""
    gain = 10.0 ** (-tilt / 10.0)
    cosine = np.cos(2.0 * np.pi * 3000.0 / SAMPLE_RATE)
    half = (1.0 - gain * cosine) / (1.0 - gain)
    return float(half - np.sqrt(half**2 - 1.0))


def _tract(
    source: NDArray[np.float64], how: Delivery, centres: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Filter the source by six cascaded resonators (Klatt 1980) that move from vowel to vowel, (samples,)."""
    from scipy.signal import lfilter

    vowels = _VOWELS[rng.integers(len(_VOWELS), size=len(centres))]
    blocks = -(-len(source) // _BLOCK)
    middles = (np.arange(blocks) + 0.5) * _BLOCK / SAMPLE_RATE
    tracks = np.stack([np.interp(middles, centres, formant) for formant in vowels.T], axis=1)
    tracks = np.hstack([tracks, np.broadcast_to(_UPPER_FORMANTS, (blocks, len(_UPPER_FORMANTS)))])
    scale = 1.0 + how.formants / 100.0
    radius = np.exp(-np.pi * _BANDWIDTHS * scale / SAMPLE_RATE)
    first = -2.0 * radius * np.cos(2.0 * np.pi * scale * tracks / SAMPLE_RATE)
    poles = np.zeros((blocks, 2 * len(_BANDWIDTHS) + 1))
    poles[:, 0] = 1.0
    for linear, square in zip(first.T, radius**2, strict=True):
        before = poles.copy()
        poles[:, 1:] += linear[:, None] * before[:, :-1]
        poles[:, 2:] += square * before[:, :-2]
    state = np.zeros(poles.shape[1] - 1)
    voice = np.empty_like(source)
    for block, denominator in enumerate(poles):
        samples = slice(block * _BLOCK, (block + 1) * _BLOCK)
        unit_gain_at_0_hz = denominator.sum(keepdims=True)
        voice[samples], state = lfilter(unit_gain_at_0_hz, denominator, source[samples], zi=state)
    return voice
